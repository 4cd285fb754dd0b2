"""The journal of a file on disk: changed pages in segments, one for each commit, each of them whole or without effect.

A segment is a magic, the CRC-32 of all that follows, continued from the segment before, the identity of the file, its
end, and runs of pages. The first segment comes with the journal's name, by a rename; others are appended. Once the last
one is on disk, a mark after it says so, which the next one overwrites. So a last segment that is not whole is a commit
that was never acknowledged if there is no mark, and damage if there is one.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..core import checks, files
from ..core.lock import NO_LINKS

PAGE = 4096
_BLOCK, _LARGEST = 2**20, 2**62
_BLOATED = 16 * 2**20  # a longer journal is written anew when most of it is out of date
_MAGIC, _MAGIC_1 = b"redo-2\r\n", b"redo-1\r\n"  # 1: of version 0.2 and before, a single segment
_CHECK = struct.Struct("<8sI")  # magic, CRC-32
_HEADER = struct.Struct("<36sQQ")  # identity, end of file, number of runs
_ENTRY = struct.Struct("<QQ")  # offset, length
_FIXED = _CHECK.size + _HEADER.size
_DURABLE, _MARK = b"durable\n", struct.Struct("<8sQ")  # magic, where it stands: at the end of the journal


class _Segment(NamedTuple):
    identity: bytes
    end: int
    pages: dict[int, tuple[int, int]]
    stop: int
    crc: int


class Journal:
    """A journal that is open: the last end of the file, and where in the journal the last content of each page is."""

    def __init__(self, path: Path, fd: int, identity: bytes):
        self._path, self._fd, self._identity = path, fd, identity
        self._stop, self._crc = 0, 0  # of the segments that are whole
        self.end = 0
        self.pages: dict[int, tuple[int, int]] = {}  # number -> (place in the journal, length)

    @classmethod
    def load(cls, path: Path, identity: bytes | None, writable: bool) -> Journal | None:
        """The journal of the file of this identity, or None where there is none.

        Raises:
            ValueError: something that is not a whole journal has its name.
        """
        try:
            fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | NO_LINKS)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise
            raise checks.InputError(f"{path} is a link, a directory or a device: remove it") from None
        try:
            found = os.fstat(fd)
            segment = _scan(fd, 0, found.st_size, 0) if stat.S_ISREG(found.st_mode) else None
            if segment is None:
                raise _damaged(path)
            journal = cls(path, fd, segment.identity)
            while segment is not None and segment.identity == identity:
                journal._take(segment)
                segment = _scan(fd, journal._stop, found.st_size, journal._crc)
            if journal._stop:
                if _marked(fd, found.st_size) not in (None, journal._stop):
                    raise _damaged(path)
                return journal
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # of another file
        return None

    @classmethod
    def start(cls, path: Path, identity: bytes, end: int, pages: Mapping[int, bytes | bytearray]) -> Journal:
        """Write a journal of one segment and give it its name, durably."""
        temporary = path.with_name(path.name + ".tmp")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            journal = cls(path, fd, identity)
            journal.append(end, pages)
            os.rename(temporary, path)
            files.sync_folder(path)
        except BaseException:
            os.close(fd)
            raise
        return journal

    @property
    def bloated(self) -> bool:
        """Whether most of it is out of date."""
        return self._stop > max(_BLOATED, 4 * PAGE * len(self.pages))

    def append(self, end: int, pages: Mapping[int, bytes | bytearray]) -> None:
        """Append a segment, durably."""
        runs = list(_runs(pages))
        body = b"".join(
            [_HEADER.pack(self._identity, end, len(runs))]
            + [_ENTRY.pack(offset, len(run)) for offset, run in runs]
            + [run for _, run in runs]
        )
        crc = zlib.crc32(body, self._crc)
        if os.fstat(self._fd).st_size > self._stop + _MARK.size:
            os.ftruncate(self._fd, self._stop)  # a commit that did not come about
        write_all(self._fd, _CHECK.pack(_MAGIC, crc) + body, self._stop)
        os.fsync(self._fd)
        entries = [(offset, len(run)) for offset, run in runs]
        data = self._stop + _FIXED + len(runs) * _ENTRY.size
        stop = self._stop + _CHECK.size + len(body)
        with contextlib.suppress(OSError):  # the commit is on disk without it
            write_all(self._fd, _MARK.pack(_DURABLE, stop), stop)
        self._take(_Segment(self._identity, end, _index(entries, data), stop, crc))

    def page(self, number: int) -> bytes:
        """The content of a page, which the end of the file may have cut."""
        place, length = self.pages[number]
        return os.pread(self._fd, length, place)

    def runs(self) -> Iterator[tuple[int, bytes]]:
        """(offset in the file, content) of all pages in order, those that follow one another here as there as one."""
        numbers = sorted(self.pages)
        start = 0
        while start < len(numbers):
            place, length = self.pages[numbers[start]]
            stop = start + 1
            while (
                stop < len(numbers)
                and numbers[stop] == numbers[stop - 1] + 1
                and self.pages[numbers[stop]][0] == place + length
                and length % PAGE == 0
                and length < _BLOCK
            ):
                length += self.pages[numbers[stop]][1]
                stop += 1
            yield numbers[start] * PAGE, os.pread(self._fd, length, place)
            start = stop

    def cut(self, size: int) -> None:
        """Forget pages behind a new end of the file."""
        self.pages = {number: place for number, place in self.pages.items() if number * PAGE < size}

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def _take(self, segment: _Segment) -> None:
        self.end, self._stop, self._crc = segment.end, segment.stop, segment.crc
        self.pages |= segment.pages
        self.cut(self.end)


def write_all(fd: int, data, offset: int) -> None:
    """Write all of it, however many calls that takes."""
    view = memoryview(data)
    while len(view):
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _marked(fd: int, size: int) -> int | None:
    """Up to where a journal was on disk by its mark, or None where it ends with something else."""
    content = os.pread(fd, _MARK.size, max(0, size - _MARK.size))
    magic, stop = _MARK.unpack(content.ljust(_MARK.size, b"\0"))
    return stop if magic == _DURABLE and stop == size - _MARK.size else None


def _damaged(path: Path) -> checks.InputError:
    return checks.InputError(
        f"{path} is damaged, and holds the last commits of its sample file: use a copy of both files, or remove it to "
        "go back to the commit before, and verify that"
    )


def _scan(fd: int, start: int, size: int, crc: int) -> _Segment | None:
    """The whole segment at a place, or None; lengths are compared with the journal's before anything is read."""
    head = os.pread(fd, _FIXED, start)
    if len(head) < _FIXED:
        return None
    magic, wanted = _CHECK.unpack_from(head)
    identity, end, count = _HEADER.unpack_from(head, _CHECK.size)
    left = size - start - _FIXED
    if magic not in ((_MAGIC, _MAGIC_1) if start == 0 else (_MAGIC,)) or count > left // _ENTRY.size:
        return None
    table = os.pread(fd, count * _ENTRY.size, start + _FIXED)
    entries, data = list(_ENTRY.iter_unpack(table)), start + _FIXED + len(table)
    stop = data + sum(length for _, length in entries)
    last = 0
    for offset, length in entries:
        if offset < last or offset % PAGE or not length:
            return None
        last = offset + length
    if stop > size or len(table) != count * _ENTRY.size or last > end + PAGE or end > _LARGEST:
        return None
    crc = zlib.crc32(table, zlib.crc32(head[_CHECK.size :], crc))
    for at in range(data, stop, _BLOCK):
        crc = zlib.crc32(os.pread(fd, min(_BLOCK, stop - at), at), crc)
    return _Segment(identity, end, _index(entries, data), stop, crc) if crc == wanted else None


def _index(entries, place: int) -> dict[int, tuple[int, int]]:
    """Page number -> (place, length) of runs that lie one after the other."""
    pages = {}
    for offset, length in entries:
        for at in range(0, length, PAGE):
            pages[(offset + at) // PAGE] = (place + at, min(PAGE, length - at))
        place += length
    return pages


def _runs(pages: Mapping[int, bytes | bytearray]) -> Iterator[tuple[int, bytes]]:
    """Offset and content of each run of whole pages that follow one another, so that they take few system calls."""
    numbers = sorted(pages)
    last = [-1, *numbers]
    # a page that was cut by the floor, before it rose, ends its run
    starts = [i for i, n in enumerate(numbers) if n != last[i] + 1 or i == 0 or len(pages[last[i]]) < PAGE]
    for start, stop in itertools.pairwise([*starts, len(numbers)]):
        yield numbers[start] * PAGE, b"".join([pages[number] for number in numbers[start:stop]])
