"""Where draws go: the columns of a run, the room they need, and the sink in memory or in a sample file."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..core import checks
from ..store import Column, SampleFile
from . import schema

_LARGE, _NEARLY_ALL = 2**30, 0.9  # a file of this many bytes, this share of it weights, is worth a warning


def columns(network, draws: Mapping, stats: Mapping) -> dict[str, Column]:
    """Columns of recorded draws and statistics, given as name -> anything with shape and dtype (per draw)."""
    table = schema.variables(network)
    result = {name: Column(table[name].group, table[name].dims, d.shape, d.dtype) for name, d in draws.items()}
    return result | {name: Column("sample_stats", (), (), s.dtype) for name, s in stats.items()}


def check_room(columns: Mapping[str, Column], chains: int, draws: int, path: Path | None, told: bool = False) -> None:
    """Refuse before the start what would not fit at the end.

    Args:
        columns, chains, draws: what a run is to record.
        path: sample file, or None for memory.
        told: say on stderr how much a file needs and how much there is, and warn where it is nearly all weights.

    Raises:
        ValueError: says how much is needed, how much is free, and which options shrink it.
    """
    sizes = {name: int(np.prod(c.shape)) * np.dtype(c.dtype).itemsize * chains * draws for name, c in columns.items()}
    needed = sum(sizes.values())
    argument = f"draws={draws} of {chains} chains"
    if path is None:
        checks.memory(argument, needed, "keep='order_parameters', fewer draws, or store='run.h5'")
        return
    usage = os.statvfs(path.parent)
    available = usage.f_bavail * usage.f_frsize
    checks.room(argument, needed, available, f"disk in {str(path.parent)!r}", "keep='order_parameters' or fewer draws")
    if told:
        free = f"{available / 2**30:.3g} GiB free"
        print(f"gibbsformer: {path.name} needs {needed / 2**20:.3g} MiB, {free}", file=sys.stderr)
        weights = sum(n for name, n in sizes.items() if any(d.startswith("width_") for d in columns[name].dims))
        if needed > _LARGE and weights > _NEARLY_ALL * needed:
            print(
                f"gibbsformer: {100 * weights // needed} % of it are weights: keep='order_parameters' (--keep) leaves "
                "them out, thin= spaces them",
                file=sys.stderr,
            )


def open_sink(
    path: Path | None, columns, posterior, test, settings, chains: Sequence[int], draws: int, overwrite: bool
):
    """A context manager with ``append(values, state, step)``: a sample file, or arrays in memory without a path.

    ``chains`` are the chains' numbers.
    """
    if path is None:
        return Memory(columns, len(chains), draws)
    path_axes = ("example", "input", *(f"head_{l}" for l in range(1, posterior.network.depth + 1)))
    constants: dict[str, dict] = {
        "constant_data": {"xi": (path_axes, posterior.data.xi)},
        "observed_data": {"y": (("example",), posterior.y)},
    }
    if test is not None:
        constants["constant_data"]["xi_test"] = (("test_example", *path_axes[1:]), test[0].xi)
        constants["observed_data"]["y_test"] = (("test_example",), test[1])
    labels = schema.coordinates(posterior.network, posterior.data.path_names, 0 if test is None else len(test[1]))
    return SampleFile.create(path, columns, labels, constants, settings, chains, overwrite)


class Memory:
    """Draws in preallocated arrays [chain, draw, ..] by name."""

    def __init__(self, columns: Mapping[str, Column], chains: int, draws: int):
        self.arrays = {name: np.empty((chains, draws, *c.shape), c.dtype) for name, c in columns.items()}
        self._statistics = {name for name, c in columns.items() if c.group == "sample_stats"}
        self._length = 0

    def append(self, values: Mapping[str, np.ndarray], state, step: int, attributes: Mapping | None = None) -> None:
        """Append draws [chain, n, ..] of every column."""
        count = next(iter(values.values())).shape[1]
        for name, array in self.arrays.items():
            array[:, self._length : self._length + count] = values[name]
        self._length += count

    def split(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """(draws, statistics), as far as they were appended."""
        arrays = {name: a[:, : self._length] for name, a in self.arrays.items()}
        return (
            {name: a for name, a in arrays.items() if name not in self._statistics},
            {name: a for name, a in arrays.items() if name in self._statistics},
        )

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_) -> None:
        pass
