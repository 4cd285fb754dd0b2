"""Batches of examples, wherever they are: pairs of arrays in memory or in files, one after another, or delayed.

A ``Batch`` is a name for messages and a source, which is read when its turn comes and may travel to another process. A
pair (x, y) stands for arrays by name, of which a batch of padded sequences has more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any, NamedTuple

from ..core import checks, files
from . import stored
from .tokens import is_ragged

_WHAT = "pairs (x, y), a pair of arrays, arrays by name, or a directory of .npz files"
OPTIONAL = ("mask", "lengths", "readout")  # arrays of a batch next to its inputs and labels


class Batch(NamedTuple):
    """A batch that may not have been read yet.

    Attributes:
        name: in messages, such as "batches[3]".
        source: (x, y), arrays by name, something with a method ``compute`` that gives either, or a path.
    """

    name: str
    source: Any

    def read(self, inputs: str) -> dict[str, Any]:
        """Inputs, labels "y", and those of ``OPTIONAL`` that there are, by name.

        Args:
            inputs: name of the inputs, "x" or "xi".

        Raises:
            ValueError: a file that cannot be read, something that is not a pair, or inputs or labels missing.
        """
        if isinstance(self.source, Path):
            found: dict[str, Any] = stored.read(self.name, self.source, layout=f"{inputs} and y")
        else:
            given = self.source.compute() if delayed(self.source) else self.source
            found = named(given, inputs) or {}
            if not isinstance(given, Mapping) and not found:
                of = f" of {len(given)}" if isinstance(given, tuple | list) else ""
                raise checks.InputError(f"{self.name} is a {type(given).__name__}{of}: give pairs (x, y)")
        if not {inputs, "y"} <= set(found):
            held = checks.brief(", ".join(map(str, found)))
            raise checks.InputError(f"{self.name} holds {held}: it must hold {inputs} and y")
        parts = {name: found[name] for name in (inputs, "y", *OPTIONAL) if name in found}
        return {name: part.compute() if delayed(part) else part for name, part in parts.items()}


def named(given, inputs: str = "x") -> dict[str, Any] | None:
    """A pair, or arrays by name, by name; None for anything else."""
    if isinstance(given, Mapping):
        return dict(given)
    pair = isinstance(given, tuple | list) and len(given) == 2
    return dict(zip((inputs, "y"), given, strict=True)) if pair else None


def batches_of(given, size: int) -> tuple[int | None, Iterator[Batch]]:
    """Batches one after another, and how many there are if that is known.

    Args:
        given: an iterable of pairs (x, y), of arrays by name, or of delayed ones; a pair of arrays or arrays by name; a
            directory of .npz files.
        size: examples of a batch that is cut from arrays.

    Raises:
        ValueError: none of these, a directory that does not exist or has no such files, or arrays of different lengths.
    """
    if isinstance(given, str | os.PathLike):
        return _in_directory(files.absolute("batches", given))
    if isinstance(given, Mapping) or (named(given) and all(_sliceable(part) for part in given)):
        return _cut(given, size)
    if not isinstance(given, Iterable) or hasattr(given, "shape"):
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


def _cut(given, size: int):
    pair = not isinstance(given, Mapping)
    arrays = {name: part for name, part in (named(given) or {}).items() if name in ("x", "xi", "y", *OPTIONAL)}
    shapes = {
        name: tuple(getattr(part, "shape", (len(part),) if is_ragged(part) else ())) for name, part in arrays.items()
    }
    if not all(shapes.values()) or len({shape[0] for shape in shapes.values()}) != 1:
        listed = " and ".join(f"{name} of shape {shape}" for name, shape in shapes.items()) or "nothing of this kind"
        raise checks.InputError(f"batches has {listed}: give arrays x and y with one label for each example")
    starts = range(0, next(iter(shapes.values()))[0], size)

    def cut(start: int):
        parts = {name: part[start : start + size] for name, part in arrays.items()}
        return tuple(parts.values()) if pair else parts

    return len(starts), (Batch(f"batches[{i}] (examples from {start})", cut(start)) for i, start in enumerate(starts))


def _sliceable(part) -> bool:
    return hasattr(part, "shape") or is_ragged(part)


def delayed(source) -> bool:
    """Whether something is still to be computed, by its own method: a delayed batch, or a Dask array."""
    return callable(getattr(source, "compute", None))
