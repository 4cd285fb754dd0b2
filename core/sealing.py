"""A checksum of a whole .safetensors file inside its own header, which must account for every byte of the file.

The metadata hold ``crc32``, eight hexadecimal digits: the CRC-32 of the file with zeros in their place. Files
without it, of other programs and of earlier versions, are not protected.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO

NAME, EMPTY = "crc32", "0" * 8  # what the metadata hold before the file is sealed
_MARK = b'"crc32":"'  # quotes inside a text are escaped, so that this stands nowhere else
_BLOCK = 1 << 20
_HEADER_BYTES = 100_000_000  # the most that the format allows


def sealed(content: bytes) -> bytes:
    """A file's bytes with its checksum in place of ``EMPTY``."""
    place = _place(content[: 8 + int.from_bytes(content[:8], "little")])
    return content[:place] + f"{zlib.crc32(content):08x}".encode() + content[place + 8 :]


def intact(path: Path) -> bool | None:
    """Whether a file's bytes are those that were sealed; None without a checksum."""
    with open(path, "rb") as file:
        return _intact(file)


def _intact(file: BinaryIO) -> bool | None:
    length = file.read(8)
    header = length + file.read(min(int.from_bytes(length, "little"), _HEADER_BYTES))
    place = _place(header)
    if place < len(_MARK):  # not found
        return None
    found = zlib.crc32(header[:place] + EMPTY.encode() + header[place + 8 :])
    while block := file.read(_BLOCK):
        found = zlib.crc32(block, found)
    return header[place : place + 8] == f"{found:08x}".encode()


def _place(header: bytes) -> int:
    return header.find(_MARK) + len(_MARK)
