"""What a sample file looks like inside: schema, columns, axes with their scales, chunks and checksums.

Groups as ArviZ names them, each with its own ``chain`` (fixed) and ``draw`` (unlimited) scales and one scale for each
further axis, plus ``sampler_state``; root attributes hold settings and provenance as JSON. Constants and small draws
carry HDF5's Fletcher-32 checksums, which every HDF5 reader checks, but which do not tell 0000 from FFFF. So there is a
CRC-32 besides, in the group ``checksums``: of each large draw, which has no Fletcher-32 as that halves the speed, and
of the small ones of a chain and draw together. Those of constants are in the description, and the state has its own.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import h5py
import numpy as np

SCHEMA = "gibbsformer-samples"
# 2: variables carry their role, settings the target. 3: checked description, CRC-32 of everything. Files of all
# versions are read, resumed and merged
SCHEMA_VERSION = 3
DRAW_GROUPS = ("posterior", "posterior_predictive", "sample_stats")
CHECKSUMS = "checksums"
TOGETHER = "_small"  # dataset of the checksums of all small draws
CONSTANT_GROUPS = ("constant_data", "observed_data")
VERSIONS = ("v108", "v110")  # object headers have checksums, and no flag says "open" after a crash
INDEXED = ("v110", "v110")  # of a file that was made by ``VERSIONS``: indices of chunks have checksums too
_CHUNK_EDGE = 250  # weight matrices in (1, 1, 250, 250) chunks: one weight's trace reads few bytes
_ROOM = 256
_SMALL_CHUNK_BYTES = 64 * 2**10
_LARGE_DRAW_BYTES = 4096
_STRING = h5py.string_dtype()


class Column(NamedTuple):
    """One recorded variable.

    Attributes:
        group: ``"posterior"``, ``"posterior_predictive"`` or ``"sample_stats"``.
        dims: names of its axes after chain and draw.
        shape: their lengths.
        dtype: of its draws, anything that ``np.dtype`` takes.
        role: what it is to those who read the file, such as "monitored"; empty if the file does not say.
    """

    group: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: Any
    role: str = ""


def create_draws(
    file: h5py.File, columns: Mapping[str, Column], labels: Mapping[str, np.ndarray], chains, crc=False, **filters
):
    """Empty datasets for the columns; ``chains`` holds their ids, ``filters`` goes to h5py in addition to the checksum.

    With ``crc``, large draws get a dataset of checksums that the writer fills instead of HDF5's own.
    """
    large = columns.keys() - small(columns) if crc else set()
    for group in {column.group for column in columns.values()} | ({CHECKSUMS} if crc else set()):
        scale(file.require_group(group), "chain", chains)
        scale(file[group], "draw", np.arange(0), unlimited=True)
    for name, column in columns.items():
        boolean = np.dtype(column.dtype) == bool
        dtype = np.dtype("i1") if boolean else np.dtype(column.dtype)
        dataset = file[column.group].create_dataset(
            name,
            (len(chains), 0, *column.shape),
            dtype,
            maxshape=(len(chains), None, *column.shape),
            chunks=_chunks(column.shape, dtype.itemsize),
            fillvalue=np.nan if np.issubdtype(dtype, np.floating) else None,
            fletcher32=name not in large,
            **filters,
        )
        if boolean:
            dataset.attrs["dtype"] = "bool"  # xarray's convention
        if column.role:
            dataset.attrs["role"] = column.role
        _attach(file[column.group], dataset, ("chain", "draw", *column.dims), labels)
    for name in [*sorted(large), TOGETHER] if crc else ():
        sums = file[CHECKSUMS].create_dataset(
            name, (len(chains), 0), np.uint32, maxshape=(len(chains), None), chunks=(len(chains), 1024)
        )
        _attach(file[CHECKSUMS], sums, ("chain", "draw"), labels)


def small(columns: Mapping[str, Column]) -> list[str]:
    """Names of the columns whose draws have one checksum together, in its order."""
    return sorted(n for n, c in columns.items() if size(c.shape, c.dtype) < _LARGE_DRAW_BYTES)


def crc32(draws: np.ndarray) -> np.ndarray:
    """CRC-32 [chain, draw] of each draw's bytes in C order."""
    return together([draws])


def together(columns: Sequence[np.ndarray]) -> np.ndarray:
    """CRC-32 [chain, draw] of the bytes of several columns [chain, draw, ..], one after the other."""
    shape = columns[0].shape[:2] if columns else (0, 0)
    flat = [np.ascontiguousarray(each).reshape(*shape, -1).view(np.uint8) for each in columns]
    whole = flat[0] if len(flat) == 1 else np.concatenate(flat, axis=2) if flat else np.empty((*shape, 0), np.uint8)
    return np.array([[zlib.crc32(draw) for draw in chain] for chain in whole], np.uint32).reshape(shape)


def crc32_of(values: np.ndarray) -> int:
    """CRC-32 of an array's bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def record(file: h5py.File, name: str, text: str) -> None:
    """Write a text, of ASCII, as an attribute whose bytes lie in an object header, which has a checksum.

    Spaces leave room for the next one, which then is written in place.
    """
    padded = np.bytes_(text.encode("ascii").ljust(-(-len(text) // _ROOM) * _ROOM))
    if name in file.attrs and file.attrs.get_id(name).dtype == padded.dtype:
        file.attrs.modify(name, padded)
    else:
        file.attrs[name] = padded


def columns(file: h5py.File) -> dict[str, Column]:
    """The columns of an open file."""
    found = {}
    for group in DRAW_GROUPS:
        for name, item in _members(file, group):
            if item.ndim >= 2 and item.dims[0].label == "chain":
                dims = tuple(dim.label for dim in item.dims)
                found[name] = Column(group, dims[2:], item.shape[2:], dtype(item), plain(item.attrs.get("role", "")))
    return found


def labels(file: h5py.File) -> dict[str, np.ndarray]:
    """The labels of every axis of an open file, chain and draw aside."""
    found = {}
    for group in (*DRAW_GROUPS, *CONSTANT_GROUPS):
        for name, item in _members(file, group):
            if item.is_scale and name not in ("chain", "draw"):
                found[name] = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
    return found


def constants(file: h5py.File) -> Iterator[tuple[str, str, h5py.Dataset]]:
    """(group, name, dataset) of every array written once."""
    for group in CONSTANT_GROUPS:
        for name, item in _members(file, group):
            if not item.is_scale:
                yield group, name, item


def write_array(group: h5py.Group, name: str, dims: tuple[str, ...], values, labels: Mapping[str, np.ndarray]) -> None:
    """Write an array that does not grow; axes without a label are numbered."""
    values = np.asarray(values)
    checked = {"chunks": True, "fletcher32": True} if values.ndim and values.size else {}
    dataset = group.create_dataset(name, data=values, **checked)
    numbered = {d: np.arange(n) for d, n in zip(dims, values.shape, strict=True) if d not in labels}
    _attach(group, dataset, dims, dict(labels) | numbered)


def scale(group: h5py.Group, name: str, values, unlimited: bool = False) -> None:
    """Write the labels of an axis."""
    values = np.asarray(values)
    text = values.dtype == object
    dataset = group.create_dataset(
        name,
        data=values.astype(_STRING) if text else values,
        dtype=_STRING if text else np.int64,
        maxshape=(None,) if unlimited else None,  # contiguous, where `heaps` can look at it
        chunks=(1024,) if unlimited else None,
    )
    dataset.make_scale(name)


def dtype(dataset: h5py.Dataset) -> np.dtype:
    """The dtype of what was stored, which for booleans differs from HDF5's."""
    return np.dtype(bool) if plain(dataset.attrs.get("dtype")) == "bool" else dataset.dtype


def plain(value):
    """An attribute as a Python value."""
    if isinstance(value, np.ndarray) and value.size == 1:  # as xarray writes it
        value = value.reshape(-1)[0]
    return (
        value.decode(errors="replace")
        if isinstance(value, bytes)
        else value.item()
        if isinstance(value, np.generic)
        else value
    )


def size(shape: tuple[int, ...], dtype) -> int:
    """Bytes of an array."""
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _members(file: h5py.File, group: str) -> list[tuple[str, h5py.Dataset]]:
    """The datasets of a group; groups in it are somebody else's."""
    return [(name, item) for name, item in file.get(group, {}).items() if isinstance(item, h5py.Dataset)]


def _chunks(shape, itemsize):
    inner = tuple(min(n, _CHUNK_EDGE) for n in shape)
    draws = max(1, min(256, _SMALL_CHUNK_BYTES // (int(np.prod(inner)) * itemsize)))
    return (1, draws, *inner)


def _attach(group, dataset, dims, labels):
    for axis, dim in enumerate(dims):
        if dim not in group:
            scale(group, dim, labels[dim])
        dataset.dims[axis].attach_scale(group[dim])
        dataset.dims[axis].label = dim
