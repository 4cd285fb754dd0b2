"""Labels: classes, or real values.

Two classes are -1 and +1 to a network of one output, the smaller one -1. A network of m outputs sees m classes as
one-hot labels [P, m], and takes real labels [P, m]; those of which each row has one 1 and else 0, or else -1, are of
classes 0 to m - 1. Booleans, names and two different whole numbers are classes. The ``classes`` of a posterior are in
ascending order, or () for real values.
"""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float

from ..core import checks
from ..core.text import plain

SIGNS = (-1, 1)  # classes of labels that are -1 and +1 already
_COUNTS = 64  # of classes that whole numbers are read as, at most


def array(name: str, value, axes: str = "P") -> np.ndarray:
    """Labels as an array of names, of booleans, of int64 or of float64, [P] or [P, m].

    Args:
        name: what the user called them, for messages.
        value: labels of any library.
        axes: their first axis in words.

    Raises:
        ValueError: another rank, one column, none, NaN, infinity, or neither numbers nor names.
    """
    found = None if np.ma.is_masked(value) else _words(value)
    if found is None:
        found = checks.array(name, value, f"{axes}, ..")
        if found.ndim > 2 or (found.ndim == 2 and found.shape[1] == 1):
            raise checks.InputError(
                f"{name} has shape {found.shape}: give an array [{axes}], or [{axes}, m] with a column for each of m "
                "outputs"
            )
        return found.astype(np.int64) if found.ndim == 1 and _whole_dtype(value) else found
    if found.ndim != 1 or not len(found):
        raise checks.InputError(f"{name} has shape {found.shape}: give an array [{axes}] with at least one label")
    return found


def classes_of(name: str, labels: np.ndarray, classes=None, outputs: int | None = None) -> tuple:
    """The classes that labels are of.

    Args:
        name: what the user called them, for messages.
        labels: from ``array``.
        classes: the classes in ascending order; () for real values; None to find out.
        outputs: m, of the network; None while there is none: names of any number, and whole numbers of an integer
            dtype, are then classes.

    Returns:
        Classes, or () for real values.

    Raises:
        ValueError: ``classes`` of another number than the network tells apart, or labels [P] for a network of m > 1
            outputs that are not of m classes.
    """
    if classes is not None:
        return _given(name, labels, classes, outputs)
    if labels.ndim == 2:
        return tuple(range(labels.shape[1])) if _one_hot(labels) else ()
    if labels.dtype.kind == "b":
        return (False, True)
    values = np.unique(labels)
    names, whole = labels.dtype.kind == "U", labels.dtype.kind in "if" and (values == np.round(values)).all()
    if outputs is not None and outputs > 1:
        if len(values) != outputs or not (names or whole):
            held = f"{len(values)} classes, {checks.brief(values[:4].tolist())}" if names or whole else "real values"
            raise checks.InputError(
                f"{name} {labels.shape} holds {held}, and the network has outputs={outputs}: give labels of {outputs} "
                f"classes, name all of them in classes=(..), or give real labels [P, {outputs}]"
            )
        return tuple(values.tolist() if names else (int(v) for v in values))
    if names:
        if len(values) < 2 or (outputs == 1 and len(values) > 2):
            listed = checks.brief(values[:4].tolist())
            several = f", or gf.Network(.., outputs={len(values)})" if len(values) > 2 else ""
            raise checks.InputError(
                f"{name} holds {len(values)} classes, {listed}: give labels of two, or name both in classes=(.., ..)"
                f"{several}"
            )
        return tuple(values.tolist())
    if np.isin(values, SIGNS).all():
        return SIGNS
    if whole and (len(values) == 2 or (outputs is None and labels.dtype.kind == "i" and 2 < len(values) <= _COUNTS)):
        return tuple(int(v) for v in values)
    return ()


def _given(name, labels, classes, outputs) -> tuple:
    if isinstance(classes, str) or not np.iterable(classes):
        raise checks.InputError(f"classes={checks.brief(classes)}: give two, such as (0, 1), or () for real values")
    found = tuple(plain(list(classes)))
    most = outputs or len(found)
    if len(found) == 1 or len(set(found)) != len(found) or (found and outputs and len(found) != max(2, outputs)):
        raise checks.InputError(
            f"classes={checks.brief(found)} must be {'two' if most < 3 else most} different labels, or () for real "
            f"values: the network has {'one output' if most < 3 else f'{most} outputs'}"
        )
    if not found and labels.dtype.kind == "U":
        raise checks.InputError(f"classes=() says real values, but {name} holds {labels[0]!r}: give the classes")
    if found and labels.ndim == 2 and labels.shape[1] != len(found):
        raise checks.InputError(
            f"{name} has {labels.shape[1]} columns and classes={checks.brief(found)} are {len(found)}: give a column "
            "for each class"
        )
    return found


def encoded(name: str, labels: np.ndarray, classes: tuple, outputs: int | None = None) -> Float[np.ndarray, "P ..."]:
    """Labels as the network sees them.

    Args:
        name: what the user called them, for messages.
        labels: from ``array``.
        classes: from ``classes_of``.
        outputs: m, of the network; None for 1 with two classes, else as many as there are classes.

    Returns:
        float64: labels [P, m] and real values as they are; -1 and +1 for two classes and one output; else one-hot
        [P, m].

    Raises:
        ValueError: a label that is not one of the classes (the first one is named).
    """
    if not classes or labels.ndim == 2:
        return np.asarray(labels, np.float64)
    each = np.array([[_same(v, c) for c in classes] for v in labels.tolist()])
    if not each.any(1).all():
        index = int(np.argmin(each.any(1)))
        listed = f"{classes[0]!r} and {classes[1]!r}" if len(classes) == 2 else checks.brief(classes)
        raise checks.InputError(
            f"{name} is {labels[index].item()!r} at index {index}, and the training labels are of classes "
            f"{listed}: give these, the same in training and test"
        )
    one_number = len(classes) == 2 and outputs in (None, 1)
    return np.where(each[:, 1], 1.0, -1.0) if one_number else each.astype(np.float64)


def check_outputs(name: str, y: np.ndarray, outputs: int) -> None:
    """Refuse labels [P] or [P, m], as the network sees them, of another number of outputs than the network's."""
    found = y.shape[1] if y.ndim == 2 else 1
    if found != outputs:
        raise checks.InputError(
            f"{name} has labels of shape {y.shape}, of {found} output{'s' * (found > 1)}, and network has "
            f"outputs={outputs}: make them the same"
        )


def decoded(y: np.ndarray, classes: tuple) -> np.ndarray:
    """The user's labels from those that the network sees; [P, m] as they are, which ``encoded`` leaves alone too."""
    return y if y.ndim == 2 or classes in ((), SIGNS) else np.where(y > 0, *reversed(classes))


def named(y: np.ndarray, classes: tuple) -> np.ndarray:
    """Labels [P] as ``decoded``, and the classes of one-hot labels [P, m]; real labels as they are."""
    return np.array(classes)[np.argmax(y, axis=1)] if classes and y.ndim == 2 else decoded(y, classes)


def one_hot(labels, classes=None) -> Float[np.ndarray, "P m"]:
    """Labels of m classes as m numbers each, 1 for its class and 0 for the others.

    Args:
        labels: [P], names, booleans or whole numbers.
        classes: all classes in the order of the columns; default those found, in ascending order.

    Returns:
        float64 [P, m]. ``gf.Posterior`` takes ``labels`` too, and then knows the classes by name.

    Raises:
        ValueError: labels that are not of ``classes``, or fewer than two classes.
    """
    found = array("labels", labels)
    if found.ndim == 2:
        raise checks.InputError(f"labels has shape {found.shape}: give labels [P], one for each example")
    if classes is None:
        classes = [int(v) if found.dtype.kind in "if" and v == round(v) else v for v in np.unique(found).tolist()]
    kinds = _given("labels", found, classes, None)
    if not kinds:
        raise checks.InputError(f"classes={checks.brief(classes)}: give two or more classes")
    return encoded("labels", found, kinds, max(2, len(kinds)))


def warn(labels: np.ndarray, classes: tuple) -> None:
    """Say what may surprise about training labels: whole numbers that are read as classes, or all of them equal."""
    if labels.ndim == 1 and labels.dtype.kind in "if" and classes not in ((), SIGNS):
        held = f"{classes[0]} and {classes[1]} alone" if len(classes) == 2 else f"{len(classes)} whole numbers"
        many = "two" if len(classes) == 2 else len(classes)
        warnings.warn(
            f"y holds {held}, read as {many} classes: give classes={checks.brief(classes)} to confirm, "
            "or classes=() to fit the numbers",
            checks.InputWarning,
            stacklevel=4,
        )
    if len(labels) > 1 and (labels == labels[0]).all():
        warnings.warn(
            f"y is {labels[0].tolist()!r} for all {len(labels)} examples: use labels that differ, or there is nothing "
            "to learn",
            checks.InputWarning,
            stacklevel=4,
        )


def warn_of_missing(labels: np.ndarray, classes: tuple) -> None:
    """Say which of several classes have no example, from labels as the network sees them [P, m]."""
    missing = [classes[i] for i in np.flatnonzero(~np.isin(np.arange(len(classes)), np.argmax(labels, axis=1)))]
    if missing:
        warnings.warn(
            f"y has no example of classes {checks.brief(missing)}: give some, or the network never predicts them",
            checks.InputWarning,
            stacklevel=4,
        )


def _one_hot(labels) -> bool:
    """Whether each row of labels [P, m] has one 1, and else 0, or else -1."""
    ones = labels == 1
    return bool((ones.sum(1) == 1).all() and len(np.unique(labels[~ones])) == 1 and labels[~ones][0] in (0, -1))


def _whole_dtype(value) -> bool:
    """Whether labels came as whole numbers: an array of an integer dtype, or a list of int."""
    if hasattr(value, "dtype"):
        return any(name in str(value.dtype).lower() for name in ("int", "long"))
    return isinstance(value, list | tuple) and all(type(v) is int for v in value)


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
