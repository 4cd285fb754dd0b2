"""Labels: two classes, which the network sees as -1 and +1, or real values.

Booleans, two different names, and two different whole numbers are classes; the smaller one is -1. Everything else is
real. The ``classes`` of a posterior are (smaller, larger), or () for real values.
"""

from __future__ import annotations

import warnings

import numpy as np

from ..core import checks
from ..core.text import plain

SIGNS = (-1, 1)  # classes of labels that are -1 and +1 already


def array(name: str, value, axes: str = "P") -> np.ndarray:
    """Labels as an array of names, of booleans, or of float64.

    Args:
        name: what the user called them, for messages.
        value: labels [P] of any library.
        axes: their axis in words.

    Raises:
        ValueError: another rank, none, NaN, infinity, or neither numbers nor names.
    """
    found = None if np.ma.is_masked(value) else _words(value)
    if found is None:
        return checks.array(name, value, axes)
    if found.ndim != 1 or not len(found):
        raise checks.InputError(f"{name} has shape {found.shape}: give an array [{axes}] with at least one label")
    return found


def classes_of(name: str, labels: np.ndarray, classes=None) -> tuple:
    """The classes that labels are of.

    Args:
        name: what the user called them, for messages.
        labels: from ``array``.
        classes: the two classes, smaller first; () for real values; None to find out.

    Returns:
        (smaller, larger), or () for real values.

    Raises:
        ValueError: ``classes`` that are not two, one name alone, or three names and more.
    """
    if classes is not None:
        if isinstance(classes, str) or not np.iterable(classes):
            raise checks.InputError(f"classes={checks.brief(classes)}: give two, such as (0, 1), or () for real values")
        found = tuple(plain(list(classes)))
        if len(found) not in (0, 2) or len(set(found)) != len(found):
            raise checks.InputError(
                f"classes={checks.brief(found)} must be two different labels, or () for real values: the network has "
                "one output"
            )
        if not found and labels.dtype.kind == "U":
            raise checks.InputError(f"classes=() says real values, but {name} holds {labels[0]!r}: give two classes")
        return found
    if labels.dtype.kind == "b":
        return (False, True)
    values = np.unique(labels)
    if labels.dtype.kind == "U":
        if len(values) != 2:
            listed = checks.brief(values[:4].tolist())
            raise checks.InputError(
                f"{name} holds {len(values)} classes, {listed}: give labels of two, or name both in classes=(.., ..)"
            )
        return tuple(values.tolist())
    if np.isin(values, SIGNS).all():
        return SIGNS
    if len(values) == 2 and (values == np.round(values)).all():
        return tuple(int(v) for v in values)
    return ()


def encoded(name: str, labels: np.ndarray, classes: tuple) -> np.ndarray:
    """Labels as the network sees them.

    Args:
        name: what the user called them, for messages.
        labels: from ``array``.
        classes: from ``classes_of``.

    Returns:
        -1 and +1 for classes, the labels themselves for real values, in float64 [P].

    Raises:
        ValueError: a label that is not one of the classes (the first one is named).
    """
    if not classes:
        return np.asarray(labels, np.float64)
    positive = np.asarray([_same(v, classes[1]) for v in labels.tolist()])
    known = positive | np.asarray([_same(v, classes[0]) for v in labels.tolist()])
    if not known.all():
        index = int(np.argmin(known))
        raise checks.InputError(
            f"{name} is {labels[index].item()!r} at index {index}, and the training labels are of classes "
            f"{classes[0]!r} and {classes[1]!r}: give these, the same in training and test"
        )
    return np.where(positive, 1.0, -1.0)


def decoded(y: np.ndarray, classes: tuple) -> np.ndarray:
    """The user's labels [P] from those that the network sees; the inverse of ``encoded``."""
    return y if classes in ((), SIGNS) else np.where(y > 0, *reversed(classes))


def warn(labels: np.ndarray, classes: tuple) -> None:
    """Say what may surprise about training labels: whole numbers that are read as classes, or all of them equal."""
    if labels.dtype.kind == "f" and classes not in ((), SIGNS):
        warnings.warn(
            f"y holds {classes[0]} and {classes[1]} alone, read as two classes: give classes={classes} to confirm, "
            "or classes=() to fit the numbers",
            checks.InputWarning,
            stacklevel=4,
        )
    if len(labels) > 1 and (labels == labels[0]).all():
        warnings.warn(
            f"y is {labels[0].item()!r} for all {len(labels)} examples: use labels that differ, or there is nothing to "
            "learn",
            checks.InputWarning,
            stacklevel=4,
        )


def _words(value) -> np.ndarray | None:
    """Names or booleans as an array, None if the labels are something else."""
    try:
        # NumPy would make names of everything in a list that holds one
        found = np.array(value, dtype=object) if isinstance(value, list | tuple) else np.asarray(value)
    except Exception:  # a tensor in a graph, say: it holds numbers
        return None
    if found.dtype.kind == "O" and found.size:
        kinds = {type(v) for v in found.ravel().tolist()}
        found = found.astype(str) if kinds == {str} else found.astype(bool) if kinds == {bool} else found
    return found if found.dtype.kind in "Ub" else None


def _same(label, other) -> bool:
    """Equal, and both names or both numbers."""
    return label == other and isinstance(label, str) == isinstance(other, str)
