"""HDF5's global heaps, where texts and the links of axes lie without checksums, and what points into them.

Damage there can end HDF5, or keep it going for ever. So their places and checksums are noted when a file is made, and
each is walked through before HDF5 reads it.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import h5py

_MAGIC = b"GCOL\x01\0\0\0"
_HEAD, _OBJECT = struct.Struct("<8sQ"), struct.Struct("<HHIQ")  # magic, length; index, references, reserved, length
_LARGEST = 2**26


def note(file: h5py.File, path: str | os.PathLike) -> dict[str, Any]:
    """Where the heaps of a flushed file are, and the bytes of labels that refer to them.

    Args:
        file: open file, all of which is on disk.
        path: where it is.
    """
    texts = {}
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        heaps, at = [], whole.find(_MAGIC)
        while at >= 0:
            if objects := _objects(whole, at):
                heaps.append([at, sorted(objects), _crc(objects, sorted(objects))])
            at = whole.find(_MAGIC, at + 1)
        for name, place in _texts(file).items():
            texts[name] = [*place, zlib.crc32(whole[place[0] : sum(place)])]
    return {"heaps": heaps, "texts": texts}


def sound(file: h5py.File, path: str | os.PathLike, noted: Mapping[str, Any]) -> bool:
    """Whether heaps and labels are as they were, but for what others added; yes if the file was written again."""
    if not noted or _texts(file) != {name: tuple(place[:2]) for name, place in noted["texts"].items()}:
        return True
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        for at, indices, crc in noted["heaps"]:
            objects = _objects(whole, at)
            if objects is None or not objects.keys() >= set(indices) or _crc(objects, indices) != crc:
                return False
        return all(zlib.crc32(whole[at : at + size]) == crc for at, size, crc in noted["texts"].values())


def _texts(file: h5py.File) -> dict[str, tuple[int, int]]:
    """(place, length) of every dataset of texts of any length."""
    found = {}

    def look(name, item):
        text = isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype)
        if text and text.length is None and item.chunks is None and (place := item.id.get_offset()) is not None:
            found[name] = (place, item.id.get_storage_size())

    for group in file.values():
        if isinstance(group, h5py.Group):
            for name, item in group.items():
                look(f"{group.name}/{name}", item)
    return found


def _objects(whole, start: int) -> dict[int, bytes] | None:
    """Index -> content of a heap's objects, or None if their lengths do not add up to its own."""
    if start + _HEAD.size > len(whole):
        return None
    magic, length = _HEAD.unpack_from(whole, start)
    if magic != _MAGIC or not _HEAD.size < length <= min(_LARGEST, len(whole) - start):
        return None
    at = _HEAD.size
    found: dict[int, bytes] = {}
    while length - at >= _OBJECT.size:
        index, _, _, size = _OBJECT.unpack_from(whole, start + at)
        at += _OBJECT.size
        if index == 0:  # the free space at the end
            return found if size == length - at + _OBJECT.size else None
        if index in found or size > length - at:
            return None
        found[index] = whole[start + at : start + at + size]
        at += -(-size // 8) * 8
    return found if at <= length else None


def _crc(objects: Mapping[int, bytes], indices) -> int:
    crc = 0
    for index in indices:
        crc = zlib.crc32(objects[index], zlib.crc32(b"%d," % index, crc))
    return crc
