"""Tasks from the user's own arrays, in Python or from an .npz file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core import checks, files
from ..models import Attention, labels, stored
from ..models.paths import sequences
from .task import Examples, Task

FILE_LAYOUT = "x, y, x_test, y_test, and per layer l = 1.. either W_l or Q_l and K_l"


def arrays(
    x, y, attention: Attention, x_test=None, y_test=None, readout: str = "last", name: str = "arrays", *,
    classes: tuple | None = None, tokens: str | None = None, residual: bool | Sequence[float] = (),
) -> Task:  # fmt: skip
    """A task made of sequences, labels and attention.

    Args:
        x: training sequences [P, N_0, S], token s is column s.
        y: training labels [P]: two classes (-1 and +1, booleans, names, two whole numbers) or real values.
        attention: ``Attention``, a function of x.
        x_test, y_test: test sequences [P*, N_0, S] and labels [P*]; both or neither.
        readout: ``"last"``, ``"first"`` or ``"mean"``.
        name: recorded with every run.
        classes: the two labels, smaller first; () for real values; default found from ``y``.
        tokens: ``"rows"`` for sequences [P, S, N_0], ``"columns"`` for [P, N_0, S]; asked by a warning where S = N_0.
        residual: strength of the skip connection of each layer, or True for 1 in all; () for none.

    Returns:
        Task, T = 0.01 unless ``task.posterior(width, temperature)`` says otherwise.

    Raises:
        ValueError: shapes that disagree, NaN or infinity, labels missing for one of the sets, or of other classes than
            those of the training set.
    """
    train = _examples("x", x, "y", y, tokens)
    if (x_test is None) != (y_test is None):
        missing = "x_test" if x_test is None else "y_test"
        raise checks.InputError(f"{missing}=None, but x_test and y_test go together: give both or neither")
    test = None if x_test is None else _examples("x_test", x_test, "y_test", y_test, tokens)
    if test is not None and test.x.shape[1] != train.x.shape[1]:
        raise checks.InputError(
            f"x_test has input width {test.x.shape[1]} and x has {train.x.shape[1]}: make them the same N_0"
        )
    found = labels.classes_of("y", train.y, classes)
    labels.encoded("y", train.y, found)
    if test is not None:
        labels.encoded("y_test", test.y, found)
    return Task(name, train, test, attention, readout, classes=classes, residual=residual)


def load(path: str | Path, readout: str = "last") -> Task:
    """A task from one file of arrays.

    Args:
        path: .npz or .safetensors with x [P, N_0, S], y [P], per layer l = 1.. either W_l [H, N_0, N_0] or Q_l and K_l
            [H, G, N_0], and, both or neither, x_test [P*, N_0, S] and y_test [P*]; ``tokens`` and ``residual`` in the
            file are those of ``arrays``; others are ignored.
        readout: ``"last"``, ``"first"`` or ``"mean"``.

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
    attention = Attention(stored.layers(name, found, FILE_LAYOUT))
    tokens = str(found["tokens"]) if "tokens" in found else None
    test = found.get("x_test"), found.get("y_test")
    residual = found["residual"].tolist() if "residual" in found else ()
    task = arrays(found["x"], found["y"], attention, *test, readout, path.name, tokens=tokens, residual=residual)
    task.settings.update(file=path.name, readout=readout)
    return task


def _examples(x_name, x, y_name, y, tokens) -> Examples:
    examples = Examples(sequences(x_name, x, tokens), labels.array(y_name, y))
    if len(examples.x) != len(examples.y):
        raise checks.InputError(
            f"{y_name} has {len(examples.y)} labels and {x_name} has {len(examples.x)} sequences: give one label each"
        )
    return examples
