"""Where draws go: the columns of a run, the space they need, and the sink in memory or in a sample file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core import checks, classes, console
from ..core.text import visible
from ..models import Posterior
from ..models.target import WEIGHT, Records
from ..store import Column, SampleFile, writer
from .settings import RunSettings

_LARGE, _NEARLY_ALL = 2**30, 0.9  # a file of this many bytes, this share of it weights, is worth a warning
_SMALLER = "keep='order_parameters' or fewer draws"


def columns(records: Records, draws: Mapping, statistics: Mapping) -> dict[str, Column]:
    """Columns of recorded draws and statistics, given as name -> anything with shape and dtype (per draw)."""
    undescribed = sorted(draws.keys() - records.variables.keys())
    if undescribed:
        raise checks.InputError(
            f"the target records {undescribed[0]!r}, which it does not describe: add it to the Records of `describe`"
        )
    found = {}
    for name, shape in draws.items():
        variable = records.variables[name]
        found[name] = Column(variable.group, variable.dims, shape.shape, shape.dtype, variable.role)
    return found | {name: Column("sample_stats", (), (), s.dtype) for name, s in statistics.items()}


def check_room(columns: Mapping[str, Column], chains: int, draws: int, path: Path | None, report: bool = False) -> None:
    """Refuse before the start what would not fit at the end.

    Args:
        columns, chains, draws: what a run is to record.
        path: sample file, or None for memory.
        report: print on stderr how much a file needs and how much is free, and warn if it is nearly all weights.

    Raises:
        ValueError: says how much is needed, how much is free, and which options need less.
    """
    sizes = {name: int(np.prod(c.shape)) * np.dtype(c.dtype).itemsize * chains * draws for name, c in columns.items()}
    needed = sum(sizes.values())
    argument = f"draws={draws} of {chains} chains"
    if path is None:
        checks.memory(argument, needed, "keep='order_parameters', fewer draws, or store='run.h5'")
        return
    available = writer.check_room(path, argument, needed, _SMALLER)
    if report:
        free = f"{available / 2**30:.3g} GiB free"
        console.say(visible(f"gibbsformer: {path.name} needs {needed / 2**20:.3g} MiB, {free}"))
        weights = sum(size for name, size in sizes.items() if columns[name].role == WEIGHT)
        if needed > _LARGE and weights > _NEARLY_ALL * needed:
            console.say(
                f"gibbsformer: {100 * weights // needed} % of it are weights: keep='order_parameters' (--keep) leaves "
                "them out, thin= spaces them"
            )


def open_sink(path: Path | None, columns, posterior, test, records: Records, settings: RunSettings, overwrite: bool):
    """A context manager with ``append(values, state, step)``: a sample file, or arrays in memory without a path."""
    if path is None:
        return Memory(columns, settings.chains, settings.draws, settings.until is None)
    described, constants = posterior.stored(test)
    if type(posterior) is not Posterior:
        described = {"posterior": classes.name_of(type(posterior))} | described
    return SampleFile.create(
        path, columns, records.labels, constants, settings.stored() | described, settings.share.own, overwrite
    )


class Memory:
    """Draws in arrays [chain, draw, ..] by name, preallocated where all draws are going to be made.

    Otherwise they grow: of a large array that stays empty every chain would touch its own pages, 2 MiB each.
    """

    def __init__(self, columns: Mapping[str, Column], chains: int, draws: int, whole: bool = True):
        self.arrays = {
            name: np.empty((chains, draws if whole else 0, *c.shape), c.dtype) for name, c in columns.items()
        }
        self.attributes: dict[str, Any] = {}
        self.step = 0
        self.state: list[np.ndarray] = []
        self._statistics = {name for name, c in columns.items() if c.group == "sample_stats"}
        self._length = 0

    def append(self, values: Mapping[str, np.ndarray], state, step: int, attributes: Mapping | None = None) -> None:
        """Append draws [chain, n, ..] of every column."""
        count = next(iter(values.values())).shape[1]
        for name, array in self.arrays.items():
            if self._length + count > array.shape[1]:
                grown = np.empty(
                    (len(array), max(self._length + count, 2 * self._length), *array.shape[2:]), array.dtype
                )
                grown[:, : self._length] = array[:, : self._length]
                self.arrays[name] = array = grown
            array[:, self._length : self._length + count] = values[name]
        self._length += count
        self.step, self.state, self.attributes = step, list(state), self.attributes | dict(attributes or {})

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
