"""Whether a sample file is sound: checksums of everything, and lengths that agree."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from ..core import checks
from . import description, layout, sampler_state
from .reading import explained, reading, reason

_MOMENT = 256 * 2**20  # bytes that a CRC-32 takes a fraction of a second for
_BLOCK = 1024  # draws whose checksums are looked at together


class Verified(NamedTuple):
    """What ``verify`` found.

    Attributes:
        draws: per chain.
        datasets: read, all of the file's.
        checked_bytes, unchecked_bytes: of those with a checksum, and of those without.
    """

    draws: int
    datasets: int
    checked_bytes: int
    unchecked_bytes: int


def verify(path: str | os.PathLike) -> Verified:
    """Read every chunk of a sample file, which checks the checksums, and compare the lengths of all variables.

    Args:
        path: sample file.

    Returns:
        Verified: what was read; a file that is not sound raises.

    Raises:
        ValueError: as ``read``, or a dataset is damaged; the message names it.
    """
    with reading(path) as file, explained(Path(path), everything=True):
        described = description.read(path, file)
        description.compare(path, file, described)
        columns = {f"{column.group}/{name}": name for name, column in described.columns.items()}
        draws, datasets, checked, unchecked = len(file["posterior/draw"]), 0, 0, 0
        for name, dataset in _datasets(file):
            is_column = name in columns or (name.startswith(f"{layout.CHECKSUMS}/") and dataset.ndim == 2)
            if is_column and dataset.shape[1] != draws:
                raise checks.InputError(
                    f"{path} is damaged: {name!r} has {dataset.shape[1]} draws and 'posterior/draw' {draws}, "
                    "use a copy of the file"
                )
            sums = checksums(file, columns[name]) if name in columns else None
            try:
                if sums is None:
                    for block in _blocks(dataset):
                        dataset[block]
                else:
                    for chain, part in itertools.product(range(dataset.shape[0]), _whole_draws(dataset)):
                        check_draws(path, dataset, sums, chain, part, dataset[chain, part])
            except (OSError, RuntimeError) as error:
                raise checks.InputError(
                    f"{path} is damaged: {name!r} cannot be read ({reason(error)}), use a copy of the file"
                ) from None
            datasets += 1
            known = dataset.fletcher32 or sums is not None or (described.checked and name.startswith("sampler_state/"))
            checked += known * dataset.nbytes
            unchecked += (not known) * dataset.nbytes
        check_cheaply(path, file, described)
        sampler_state.read(path, file["sampler_state"])
        return Verified(draws, datasets, checked, unchecked)


def check_cheaply(path, file: h5py.File, described: description.Description) -> None:
    """Raise ValueError unless everything but large draws and the sampler state has the checksums stored.

    Labels, axes and numbers of chains and draws as other programs read them, arrays written once, and small draws.
    """
    description.compare(path, file, described)
    for name in described.constants:
        description.constant(path, file, described, name)
    sums = checksums(file, layout.TOGETHER)
    for group in {column.group for column in described.columns.values()} if described.checked else ():
        if not np.array_equal(file[group]["draw"], np.arange(len(file["posterior/draw"]))):
            raise checks.InputError(
                f"{path} is damaged: '{group}/draw' does not count the draws, use a copy of the file"
            )
    if sums is not None:
        check_together(path, file, described, sums)


def check_before_resuming(path, file: h5py.File, described: description.Description) -> None:
    """Raise ValueError unless a file is sound as far as that can be seen in a moment: large draws only if few."""
    check_cheaply(path, file, described)
    large = {name: sums for name in described.columns if (sums := checksums(file, name)) is not None}
    datasets = {name: file[f"{described.columns[name].group}/{name}"] for name in large}
    if sum(dataset.nbytes for dataset in datasets.values()) > _MOMENT:
        return
    for name, dataset in datasets.items():
        for chain, part in itertools.product(range(dataset.shape[0]), _whole_draws(dataset)):
            check_draws(path, dataset, large[name], chain, part, dataset[chain, part])


def check_together(path, file: h5py.File, described: description.Description, sums: h5py.Dataset) -> None:
    """Raise ValueError unless small draws have the checksums stored, one for all of a chain and draw."""
    small = [file[described.columns[name].group][name] for name in layout.small(described.columns)]
    chains, draws = sums.shape
    if {each.shape[1] for each in small} - {draws}:
        raise checks.InputError(f"{path} is damaged: its variables differ in draws, use a copy of the file")
    for chain, start in itertools.product(range(chains), range(0, draws, _BLOCK) if small else ()):
        part = slice(start, start + _BLOCK)
        wrong = np.flatnonzero(layout.together([each[chain, part][None] for each in small])[0] != sums[chain, part])
        if wrong.size:
            raise checks.InputError(
                f"{path} is damaged: checksum mismatch of small variables in chain {chain}, draw {start + wrong[0]}, "
                "use a copy of the file"
            )


def check_draws(path, dataset: h5py.Dataset, sums: h5py.Dataset, chain: int, draws: slice, values: np.ndarray) -> None:
    """Raise ValueError unless these draws of one chain, as read from ``dataset``, have the checksums stored."""
    wrong = np.flatnonzero(layout.crc32(values[None])[0] != sums[chain, draws])
    if wrong.size:
        draw = draws.start + wrong[0] * (draws.step or 1)
        raise checks.InputError(
            f"{path} is damaged: checksum mismatch of {dataset.name[1:]!r} in chain {chain}, draw {draw}, "
            "use a copy of the file"
        )


def checksums(file: h5py.File, name: str) -> h5py.Dataset | None:
    """The checksums [chain, draw] of a column whose draws have their own."""
    return file.get(f"{layout.CHECKSUMS}/{name}")


def _datasets(file: h5py.File) -> list[tuple[str, h5py.Dataset]]:
    found: list[tuple[str, h5py.Dataset]] = []
    file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
    return found


def _blocks(dataset: h5py.Dataset) -> Iterator:
    return dataset.iter_chunks() if dataset.chunks and dataset.size else iter([()])


def _whole_draws(dataset: h5py.Dataset) -> Iterator[slice]:
    count = dataset.chunks[1]
    return (slice(i, min(i + count, dataset.shape[1])) for i in range(0, dataset.shape[1], count))
