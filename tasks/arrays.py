"""Tasks from the user's own arrays, in Python or from an .npz file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import checks, files
from ..models import Attention, labels, stored
from ..models.paths import flat_labels
from ..models.tokens import reading, sequences
from .task import Examples, Task

FILE_LAYOUT = "x, y, x_test, y_test, and per layer l = 1.. either W_l or Q_l and K_l"


def arrays(
    x, y, attention: Attention, x_test=None, y_test=None, readout="last", name: str = "arrays", *,
    classes: tuple | None = None, tokens: str | None = None, residual: bool | Sequence[float] = (), mask=None,
    lengths=None, mask_test=None, lengths_test=None, readout_test=None,
) -> Task:  # fmt: skip
    """A task made of sequences, labels and attention.

    Args:
        x: training sequences [P, N_0, S], token s is column s; or a list of P arrays [N_0, S_i] of different lengths.
        y: training labels [P]: classes (-1 and +1, booleans, names, whole numbers of an integer dtype) or real values;
            or real labels [P, m] of m outputs. More than two classes get an output each. With ``readout="all"`` one
            label per token, [P, S].
        attention: ``Attention``, a function of x.
        x_test, y_test: test sequences [P*, N_0, S] and labels [P*]; both or neither.
        readout: ``"last"``, ``"first"``, ``"mean"`` or ``"all"``, or the index of a token of each sequence [P].
        name: recorded with every run.
        classes: the labels in ascending order; () for real values; default found from ``y``.
        tokens: ``"rows"`` for sequences [P, S, N_0], ``"columns"`` for [P, N_0, S]; asked by a warning where S = N_0.
        residual: strength of the skip connection of each layer, or True for 1 in all; () for none.
        mask, lengths: of padded sequences, [P, S] or [P], as for ``gf.contract``.
        mask_test, lengths_test: of padded test sequences.
        readout_test: index of a token of each test sequence [P*], where ``readout`` is an index.

    Returns:
        Task, T = 0.01 unless ``task.posterior(width, temperature)`` says otherwise.

    Raises:
        ValueError: shapes that disagree, NaN or infinity, labels missing for one of the sets, or of other classes than
            those of the training set, or what ``gf.contract`` refuses of masks and readouts.
    """
    if (x_test is None) != (y_test is None):
        missing = "x_test" if x_test is None else "y_test"
        raise checks.InputError(f"{missing}=None, but x_test and y_test go together: give both or neither")
    train = _examples("", x, y, tokens, mask, lengths, readout)
    chosen = _readout_of_test(readout, readout_test, x_test is not None)
    test = None if x_test is None else _examples("_test", x_test, y_test, tokens, mask_test, lengths_test, chosen)
    if test is not None and test.x.shape[1] != train.x.shape[1]:
        raise checks.InputError(
            f"x_test has input width {test.x.shape[1]} and x has {train.x.shape[1]}: make them the same N_0"
        )
    found = labels.classes_of("y", train.y, classes)
    labels.encoded("y", train.y, found)
    if classes is None and len(found) > 2:
        labels.warn(train.y, found)
    if test is not None:
        labels.encoded("y_test", test.y, found)
    kind = readout if isinstance(readout, str) else "last"
    return Task(name, train, test, attention, kind, classes=classes, residual=residual)


def load(path: str | Path, readout: str | None = None) -> Task:
    """A task from one file of arrays.

    Args:
        path: .npz or .safetensors with x [P, N_0, S], y [P], per layer l = 1.. either W_l [H, N_0, N_0] or Q_l and K_l
            [H, G, N_0], and, both or neither, x_test [P*, N_0, S] and y_test [P*]. ``mask``, ``lengths``, ``readout``
            (an index per sequence, or a name), the same of the test set (``mask_test``, ..), ``tokens`` and
            ``residual`` in the file are those of ``arrays``, ``causal`` that of ``gf.Attention``. Others are ignored.
        readout: ``"last"``, ``"first"``, ``"mean"`` or ``"all"``; default that of the file, or ``"last"``.

    Returns:
        Task named after the file.

    Raises:
        ValueError: the file is missing, cannot be read, or lacks an array; the message lists the layout.
    """
    given, path = path, files.absolute("task", path, "such as own.npz")
    if not path.is_file():
        raise checks.InputError(
            f"task={str(given)!r} does not exist: give a built-in task, or an .npz or .safetensors with {FILE_LAYOUT}"
        )
    found = stored.read("task", path, FILE_LAYOUT)
    name = f"task={str(given)!r}"
    if "x" not in found or "y" not in found:
        raise checks.InputError(f"{name} holds {', '.join(found) or 'nothing'}: it must hold {FILE_LAYOUT}")
    attention = Attention(stored.layers(name, found, FILE_LAYOUT), causal=bool(found.get("causal", False)))
    options: dict[str, Any] = {
        option: found[option]
        for option in ("mask", "lengths", "mask_test", "lengths_test", "readout_test")
        if option in found
    }
    if "tokens" in found:
        options["tokens"] = str(found["tokens"])
    if "residual" in found:
        options["residual"] = found["residual"].tolist()
    if readout is None:
        readout = _value(found.get("readout", "last"))
    test = found.get("x_test"), found.get("y_test")
    task = arrays(found["x"], found["y"], attention, *test, readout, path.name, **options)
    task.settings.update(file=path.name, readout=readout if isinstance(readout, str) else "index")
    return task


def _value(readout):
    """A name in an array, or indices."""
    found = np.asarray(readout)
    return str(found) if found.dtype.kind == "U" and not found.ndim else readout


def _readout_of_test(readout, readout_test, tested: bool):
    if isinstance(readout, str) or not tested:
        if readout_test is not None:
            raise checks.InputError(
                f"readout_test={checks.brief(readout_test)} goes with an index per sequence: leave it out"
            )
        return readout
    if readout_test is None:
        raise checks.InputError("readout_test=None, but readout is an index per sequence: give one of the test set")
    return readout_test


def _examples(which: str, x, y, tokens, mask, lengths, readout) -> Examples:
    given = sequences(f"x{which}", x, tokens, mask, lengths, which)
    read = reading(f"readout{which}", readout, given)
    found = labels.array(f"y{which}", flat_labels(y, read.rows))
    outputs = len(given.x) if read.rows is None else int(read.rows.sum())
    if outputs != len(found):
        rows = "sequences" if read.rows is None else "tokens that are not padding"
        raise checks.InputError(
            f"y{which} has {len(found)} labels and x{which} has {outputs} {rows}: give one label each"
        )
    x = given.x.copy() if given.x.flags.writeable else given.x  # the user's may change
    return Examples(x, found, given.mask, None if isinstance(readout, str) else np.asarray(readout))
