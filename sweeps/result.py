"""Result files: one small HDF5 file per finished point, complete or absent, under a checksum of all its bytes.

Behind the HDF5 content, where HDF5 does not look, stand the point's identity and the CRC-32 of everything before. It is
looked at before HDF5 sees the file. Version 1 had neither; such files are read as far as HDF5 understands them.
"""

from __future__ import annotations

import io
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..core import checks, files
from .plan import identity

SCHEMA, SCHEMA_VERSION = "gibbsformer-point", 2
_SEAL = re.compile(rb"\ngibbsformer-point ([0-9a-f]{20}) crc32 ([0-9a-f]{8})\n\Z")
_REMEDY = ": run the sweep again, which computes this point again"
_SEAL_BYTES, _CRC_BYTES = 64, 9  # of the seal, and of its end


class _DamagedError(Exception):
    """What is wrong with a file."""


def write(path: Path, settings: Mapping[str, Any], about: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write a point's values; the file takes its name once it is on disk.

    Args:
        path: file of the point.
        settings: the point's settings.
        about: where, when and with what it was computed.
        values: numbers and arrays by name; "paths" holds the names along the axes of U_1.

    Raises:
        OSError: the file cannot be written; an old one is as it was.
    """
    # made in memory: HDF5 brings the interpreter down where it cannot write
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        file.attrs["schema"], file.attrs["schema_version"] = SCHEMA, SCHEMA_VERSION
        file.attrs["settings"], file.attrs["about"] = json.dumps(settings), json.dumps(about)
        for name, value in values.items():
            texts = name == "paths"
            file.create_dataset(name, data=value, dtype=h5py.string_dtype() if texts else np.asarray(value).dtype)
        file.flush()
        content = file.id.get_file_image() + f"\ngibbsformer-point {identity(settings)} crc32 ".encode()
    files.write(path, content + f"{zlib.crc32(content):08x}\n".encode())


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values, about) of a finished point.

    Raises:
        ValueError: the file is missing, damaged, or that of another point.
    """
    try:
        content, sealed = _content(path)
        return _parsed(path, content, sealed)
    except Exception as error:  # whatever HDF5 makes of damaged bytes
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise checks.InputError(f"{str(path)!r} cannot be read ({reason}){_REMEDY}") from None


def fault(path: Path) -> str | None:
    """What is wrong with the result of a point, in one line; None where it can be used."""
    try:
        read(path)
    except checks.InputError as error:
        return str(error).removesuffix(_REMEDY)
    return None


def _content(path: Path) -> tuple[bytes, bool]:
    """The bytes of a file, and whether its checksum vouches for them."""
    content = path.read_bytes()
    seal = _SEAL.search(content, max(0, len(content) - _SEAL_BYTES))
    if seal is None:
        return content, False
    if int(seal[2], 16) != zlib.crc32(content[:-_CRC_BYTES]):
        raise _DamagedError("checksum mismatch")
    if seal[1].decode() != path.stem:
        raise _DamagedError(f"it is the result of point {seal[1].decode()}")
    return content, True


def _parsed(path: Path, content: bytes, sealed: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    with h5py.File(io.BytesIO(content), "r") as file:
        if not sealed and file.attrs["schema_version"] != 1:
            raise _DamagedError("its checksum is missing")
        if identity(json.loads(file.attrs["settings"])) != path.stem:
            raise _DamagedError("its settings are those of another point")
        values = {name: _value(file, name, len(content)) for name in file}
        about = json.loads(file.attrs["about"])
        if not isinstance(about["seconds"], float):
            raise _DamagedError("it does not say how long it took")
        return values, about


def _value(file: h5py.File, name: str, size: int):
    """A dataset; nothing outside of the file is read, and nothing larger than the file is made."""
    item = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external or item.nbytes > size:
        raise _DamagedError(f"{name} is not an array in it")
    return item.asstr()[()] if name == "paths" else item[()]
