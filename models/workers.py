"""Batches factorised by the workers of a Dask cluster, and their factors joined in a tree.

A batch is one task and a join another. The scheduler keeps all of them until the factor of all batches is known, so
that what a worker held that dies is done again by others. Dask itself is not imported: its client is an argument.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core import checks
from .batches import Batch, delayed, named

_AHEAD = 4  # batches per thread of the cluster that are submitted and not yet done


def on_client(client, work: Callable, plan, batches: Iterator[Batch], done: Callable[[], Any]):
    """All batches together, None if there are none.

    Args:
        client: ``distributed.Client``.
        work: (batch, plan) -> part, whose method ``join`` puts two of them together.
        plan: of all batches; ``plan.after(part)`` has what the first one says about the others.
        batches: in any number; few are read ahead.
        done: called after each.
    """
    first = next(batches, None)
    if first is None:
        return None
    found = _submit(client, work, first, plan).result()
    done()
    waiting: list = []
    tree: list = []  # (number of batches, future), the largest first
    most = _AHEAD * max(1, sum(client.nthreads().values()))
    for batch in batches:
        waiting.append(_submit(client, work, batch, plan.after(found)))
        if len(waiting) >= most:
            _grow(client, tree, waiting.pop(0), type(found).join, done)
    for future in waiting:
        _grow(client, tree, future, type(found).join, done)
    while len(tree) > 1:
        _join_last(client, tree, type(found).join)
    return found.join(tree[0][1].result()) if tree else found


def _grow(client, tree: list, future, join: Callable, done: Callable[[], Any]) -> None:
    """Wait for a batch, and join parts of equal numbers of batches."""
    error = future.exception()  # waits, and leaves the result where it is
    if error is not None:
        raise error
    done()
    tree.append((1, future))
    while len(tree) > 1 and tree[-1][0] == tree[-2][0]:
        _join_last(client, tree, join)


def _join_last(client, tree: list, join: Callable) -> None:
    (a, one), (b, other) = tree[-2:]
    tree[-2:] = [(a + b, client.submit(join, one, other, pure=False))]


def _submit(client, work: Callable, batch: Batch, plan):
    source = batch.source
    parts = named(source, plan.inputs)
    remote = {name: _remote(client, part) for name, part in parts.items()} if parts else _remote(client, source)
    return client.submit(_work, work, batch.name, plan, remote, pure=False)


def _work(work: Callable, name: str, plan, source):
    if isinstance(source, dict):
        source = {key: part.array(name) if isinstance(part, Mapped) else part for key, part in source.items()}
    return work(Batch(name, source), plan)


def _remote(client, part):
    """What a task takes: a future of what workers compute, where to find a mapped file, or the thing itself."""
    if delayed(part):
        return client.compute(part)
    return Mapped.of(part) if isinstance(part, np.memmap) and part.flags.c_contiguous else part


class Mapped(NamedTuple):
    """An array in a file that is mapped into memory."""

    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, array: np.memmap) -> Mapped:
        """Where an array, which may be a slice of another, is in its file."""
        base: Any = array
        while isinstance(base.base, np.ndarray):
            base = base.base
        begins = base.offset - base.offset % mmap.ALLOCATIONGRANULARITY
        inside = array.ctypes.data - np.frombuffer(base.base, np.uint8).ctypes.data
        return cls(Path(str(array.filename)), array.dtype, array.shape, begins + inside)

    def array(self, name: str) -> np.memmap:
        """The array, in any process.

        Raises:
            ValueError: the file is not there.
        """
        try:
            return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        except (OSError, ValueError) as error:
            raise checks.InputError(
                f"{name} is in {str(self.path)!r}, which a worker cannot read ({error}): put it on a file system that "
                "all of them see"
            ) from None
