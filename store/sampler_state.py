"""The state of the chains in a sample file: every leaf bit for bit, double-buffered in two places.

The place that the last commit does not name is free, so a new state is written there directly and needs no journal.
"""

from __future__ import annotations

import json
import os
import zlib

import h5py
import numpy as np

from ..core import checks
from .layout import plain

_PLACES = ("leaves_0", "leaves_1")
_AXIS = "byte"


def write(group: h5py.Group, state: list[np.ndarray]) -> None:
    """Write the leaves and name the place where they are."""
    leaves = [np.asarray(leaf) for leaf in state]
    flat = [np.ascontiguousarray(leaf).reshape(-1).view(np.uint8) for leaf in leaves]
    content = np.concatenate(flat) if flat else np.empty(0, np.uint8)
    kinds = json.dumps([[leaf.dtype.name, leaf.shape] for leaf in leaves])
    if plain(group.attrs.get("kinds")) != kinds:
        _make_places(group, len(content))
        group.attrs["kinds"] = np.bytes_(kinds)  # in the object header, which has a checksum
    place = 1 - int(group.attrs["place"])
    group[_PLACES[place]][...] = content
    group.attrs["place"], group.attrs["crc32"] = place, np.uint32(zlib.crc32(content.data))


def read(path: str | os.PathLike, group: h5py.Group) -> list[np.ndarray]:
    """The leaves, with the dtypes they had; none before the first commit.

    Raises:
        ValueError: checksum mismatch.
    """
    if "kinds" not in group.attrs:
        return []
    content = group[_PLACES[int(plain(group.attrs["place"]))]][()].tobytes()
    if zlib.crc32(content) != plain(group.attrs["crc32"]):
        raise checks.InputError(f"{path} is damaged: checksum mismatch of 'sampler_state', use a copy of the file")
    leaves, start = [], 0
    for name, shape in json.loads(plain(group.attrs["kinds"])):
        dtype = np.dtype(name)
        stop = start + int(np.prod(shape)) * dtype.itemsize
        leaves.append(np.frombuffer(content[start:stop], dtype).reshape(shape).copy())
        start = stop
    return leaves


def unused(group: h5py.Group) -> tuple[int, int]:
    """First and last byte of the file, the last excluded, of the place that the state does not occupy."""
    if "kinds" not in group.attrs:
        return 0, 0
    place = group[_PLACES[1 - int(group.attrs["place"])]]
    start = place.id.get_offset() or 0
    return start, start + place.id.get_storage_size() if start else 0


def _make_places(group: h5py.Group, size: int) -> None:
    for name in (*_PLACES, _AXIS):
        if name in group:
            del group[name]
    # netCDF's form of an axis without labels: never written, so it takes no space
    axis = group.create_dataset(_AXIS, (size,), np.int8, chunks=(max(1, size),), maxshape=(None,))
    axis.make_scale("This is a netCDF dimension but not a netCDF variable.         0")
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that the place of the next state is known before it is written
    for name in _PLACES:
        space = h5py.h5s.create_simple((size,))
        h5py.h5d.create(group.id, name.encode(), h5py.h5t.NATIVE_UINT8, space, early)
        group[name].dims[0].attach_scale(axis)
        group[name].dims[0].label = _AXIS
    group.attrs["place"] = 0
