"""Batches of examples, wherever they are: pairs of arrays in memory or in files, one after another, or delayed.

A ``Batch`` is a name for messages and a source, which is read when its turn comes and may travel to another process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, NamedTuple

from ..core import checks, files
from . import stored

_WHAT = "pairs (x, y), a pair of arrays, or a directory of .npz files"


class Batch(NamedTuple):
    """A batch that may not have been read yet.

    Attributes:
        name: in messages, such as "batches[3]".
        source: (x, y), something with a method ``compute`` that gives it, or a path.
    """

    name: str
    source: Any

    def read(self, inputs: str) -> tuple[Any, Any]:
        """Inputs and labels.

        Args:
            inputs: name of the inputs in a file, "x" or "xi".

        Raises:
            ValueError: a file that cannot be read or lacks them, or something that is not a pair.
        """
        if isinstance(self.source, Path):
            arrays = stored.read(self.name, self.source, layout=f"{inputs} and y")
            missing = [name for name in (inputs, "y") if name not in arrays]
            if missing:
                held = checks.brief(", ".join(arrays))
                raise checks.InputError(f"{self.name} holds {held}: it must hold {inputs} and y")
            return arrays[inputs], arrays["y"]
        found = self.source.compute() if delayed(self.source) else self.source
        if not (isinstance(found, tuple | list) and len(found) == 2):
            of = f" of {len(found)}" if isinstance(found, tuple | list) else ""
            raise checks.InputError(f"{self.name} is a {type(found).__name__}{of}: give pairs (x, y)")
        x, y = (part.compute() if delayed(part) else part for part in found)
        return x, y


def batches_of(given, size: int) -> tuple[int | None, Iterator[Batch]]:
    """Batches one after another, and how many there are if that is known.

    Args:
        given: an iterable of pairs (x, y) or of delayed ones; a pair of arrays; a directory of .npz files.
        size: examples of a batch that is cut from a pair of arrays.

    Raises:
        ValueError: none of these, a directory that does not exist or has no such files, or arrays of different lengths.
    """
    if isinstance(given, str | os.PathLike):
        return _in_directory(files.absolute("batches", given))
    if isinstance(given, tuple | list) and len(given) == 2 and all(hasattr(part, "shape") for part in given):
        x, y = given
        return _cut(x, y, size)
    if not isinstance(given, Iterable) or hasattr(given, "shape") or isinstance(given, dict):
        raise checks.InputError(f"batches is a {type(given).__name__}: give {_WHAT}")
    number = len(given) if isinstance(given, Sized) else None
    return number, (Batch(f"batches[{i}]", source) for i, source in enumerate(given))


def _in_directory(folder: Path):
    if not folder.is_dir():
        raise checks.InputError(f"batches={str(folder)!r} is not a directory: give {_WHAT}")
    found = sorted(folder.glob("*.npz"))
    if not found:
        raise checks.InputError(f"batches={str(folder)!r} holds no .npz files: give {_WHAT}")
    return len(found), (Batch(f"batches[{i}] ({path.name})", path) for i, path in enumerate(found))


def _cut(x, y, size: int):
    if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
        raise checks.InputError(
            f"batches has x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}: give one label for each example"
        )
    starts = range(0, x.shape[0], size)
    return len(starts), (
        Batch(f"batches[{i}] (examples from {start})", (x[start : start + size], y[start : start + size]))
        for i, start in enumerate(starts)
    )


def delayed(source) -> bool:
    """Whether something is still to be computed, by its own method: a delayed batch, or a Dask array."""
    return callable(getattr(source, "compute", None))
