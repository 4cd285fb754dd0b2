"""What a sample file says about itself, as checked bytes: settings, names, axes, labels, and the data's checksums.

HDF5 keeps texts and the links between variables and their axes in heaps without checksums. The dataset
``sampler_state/description`` holds all of that once more, as JSON behind its CRC-32, and is what we read; other
programs read HDF5's own, which ``compare`` holds against it.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..core import checks
from . import heaps, journal, layout
from .layout import Column

NAME = "sampler_state/description"
IDENTITY = "sampler_state/identity"
SINCE = 3  # schema version


class Description(NamedTuple):
    """A sample file in words.

    Attributes:
        uuid: identity of the file.
        schema_version: of its layout.
        settings: as JSON.
        chains: ids.
        columns: recorded variables by name.
        labels: labels [n] of every axis by name, chain and draw aside.
        constants: "group/name" of every array written once -> (axes, CRC-32; None if the file has none).
        checked: whether the file has these checked bytes, which files of schema 1 and 2 lack.
        noted: where HDF5's heaps are (``heaps``).
    """

    uuid: str
    schema_version: int
    settings: str
    chains: list[int]
    columns: dict[str, Column]
    labels: dict[str, np.ndarray]
    constants: dict[str, tuple[tuple[str, ...], int | None]]
    checked: bool = True
    noted: Mapping[str, Any] = {}


def write(file: h5py.File, path: str | os.PathLike) -> None:
    """Describe a file that is otherwise complete; ``path`` is where it is being written."""
    file.flush()
    found = _found(file, checked=True)._replace(noted=heaps.note(file, path))
    text = json.dumps(_packed(found), sort_keys=True, separators=(",", ":"))
    # a scalar, which needs no axis; contiguous
    file.create_dataset(NAME, data=np.bytes_(f"{zlib.crc32(text.encode()):08x}{text}"))


def read(path: str | os.PathLike, file: h5py.File) -> Description:
    """The description of an open file; of an old one what HDF5 says, unchecked.

    Raises:
        ValueError: checksum mismatch, or the description is missing.
    """
    if NAME not in file:
        found = _found(file, checked=False)
        if found.schema_version >= SINCE:
            raise _damaged(path, "its description is missing")
        return found
    content = _bytes(file[NAME])
    if content[:8] != b"%08x" % zlib.crc32(content[8:]):
        raise _damaged(path, "checksum mismatch of settings, names and labels")
    found = _unpacked(json.loads(content[8:]))
    if not (journal.has_journal(Path(path)) or heaps.sound(file, path, found.noted)):
        raise _damaged(path, "a heap of names and labels")
    if IDENTITY in file and found.uuid.encode() not in _bytes(file[IDENTITY]):
        raise _damaged(path, "its identity is not that of its description")
    for name in ("schema", "uuid", "schema_version", "settings"):
        if layout.plain(file.attrs.get(name)) != getattr(found, name, layout.SCHEMA):
            raise _damaged(path, f"attribute {name!r} is not what its description says")
    chains = len(found.chains)
    for name, column in found.columns.items():
        item = file.get(f"{column.group}/{name}")
        if item is None:
            raise _damaged(path, f"'{column.group}/{name}' is missing")
        shape: tuple[int, ...] = item.shape if isinstance(item, h5py.Dataset) else ()
        if len(shape) < 2 or (shape[0], *shape[2:]) != (chains, *column.shape):
            raise _damaged(path, f"'{column.group}/{name}' has shape {shape}")
    return found


def compare(path: str | os.PathLike, file: h5py.File, described: Description) -> None:
    """Raise ValueError unless what other programs read in a file is what its description says."""
    if not described.checked:
        return
    found = _found(file, checked=False)
    for name in ("chains", "columns", "labels"):
        one, other = getattr(described, name), getattr(found, name)
        if isinstance(one, dict):
            other = {key: other.get(key) for key in one}  # what users added is theirs
        if json.dumps(_plain(one), sort_keys=True) != json.dumps(_plain(other), sort_keys=True):
            raise _damaged(path, f"its {name} are not those of its description")


def constant(path: str | os.PathLike, file: h5py.File, described: Description, name: str) -> np.ndarray:
    """An array written once, checked.

    Raises:
        ValueError: checksum mismatch, or it is missing.
    """
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        raise _damaged(path, f"{name!r} is missing")
    values, wanted = item[()], described.constants[name][1]
    if wanted is not None and layout.crc32_of(values) != wanted:
        raise _damaged(path, f"checksum mismatch of {name!r}")
    return values


def _found(file: h5py.File, checked: bool) -> Description:
    constants = {
        f"{group}/{name}": (
            tuple(dim.label for dim in item.dims),
            layout.crc32_of(item[()]) if checked else None,
        )
        for group, name, item in layout.constants(file)
    }
    return Description(
        str(layout.plain(file.attrs.get("uuid"))),
        int(layout.plain(file.attrs["schema_version"])),
        str(layout.plain(file.attrs["settings"])),
        [int(chain) for chain in file["posterior/chain"][()]],
        layout.columns(file),
        layout.labels(file),
        constants,
        checked,
    )


def _plain(value) -> Any:
    """As JSON holds it."""
    if isinstance(value, Column):
        return [value.group, list(value.dims), list(value.shape), np.dtype(value.dtype).str, value.role]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        counted = value.dtype != object and np.array_equal(value, np.arange(len(value)))
        return {"count": len(value)} if counted else value.tolist()
    return value


def _packed(described: Description) -> dict[str, Any]:
    return {name: _plain(value) for name, value in described._asdict().items() if name != "checked"}


def _unpacked(values: dict[str, Any]) -> Description:
    order = sorted(values["columns"].items(), key=lambda item: (layout.DRAW_GROUPS.index(item[1][0]), item[0]))
    columns = {
        name: Column(group, tuple(dims), tuple(shape), np.dtype(dtype), role)
        for name, (group, dims, shape, dtype, role) in order
    }
    labels = {name: _label(value) for name, value in values["labels"].items()}
    constants = {name: (tuple(dims), crc) for name, (dims, crc) in values["constants"].items()}
    return Description(**(values | {"columns": columns, "labels": labels, "constants": constants}))


def _label(value) -> np.ndarray:
    if isinstance(value, dict):
        return np.arange(value["count"])
    return np.array(value, dtype=object if value and isinstance(value[0], str) else np.int64)


def _bytes(item) -> bytes:
    """The bytes of a text, also as xarray writes it again: a character at a time."""
    if not isinstance(item, h5py.Dataset) or h5py.check_string_dtype(item.dtype) is None:
        return b""
    value = item[()]
    if isinstance(value, np.ndarray):
        value = b"".join(value.tolist()) if value.dtype == "S1" and value.ndim == 1 else b""
    return value.encode() if isinstance(value, str) else bytes(value)


def _damaged(path, what: str) -> checks.InputError:
    return checks.InputError(f"{path} is damaged ({what}): use a copy of the file")
