"""One writer at a time: ``run.h5.lock``, locked by its writer, holding who that is, released when the process dies.

The name alone is not enough: a hard link has another one, and somebody may remove the lock file. So the writer locks
the data file as well (``own``). Readers hold an ``flock`` on that, so this is a lock of the other kind, on a byte that
no file has; where a file system mixes the two kinds, readers matter more and only the name is locked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from . import checks

NO_LINKS = os.O_NOFOLLOW | os.O_NONBLOCK  # a name beside a file is a file, not a way to another one, nor a pipe
MISSING = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # what file systems without locks answer
_CONTENT, _LONGEST = b"process ", 1000
_SET = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None
_FLOCK, _BYTE = struct.Struct("hhqqi4x"), 2**62  # Linux's struct flock; the byte that writers lock


class Busy(Exception):  # noqa: N818  a state of affairs, not an error of anybody
    """Another process holds the file; the text says which, where that is known."""


def take(path: Path) -> int:
    """Take the writer lock of a file's name: a descriptor for ``release``.

    Raises:
        Busy: another process has it.
        ValueError: the file system has no locks, or something else has the name of the lock file.
    """
    name = path.with_name(path.name + ".lock")
    while True:
        fd = _opened(name)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(name, fd):  # else the last holder removed the name in between, and this lock excludes no one
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{_CONTENT.decode()}{os.getpid()} on {socket.gethostname()}".encode(), 0)
                return fd
            os.close(fd)
        except BlockingIOError:
            holder = os.pread(fd, _LONGEST, 0).decode(errors="replace")
            os.close(fd)
            raise Busy(holder or "another process") from None
        except OSError as error:
            if error.errno in MISSING:
                release(path, fd)
                raise checks.InputError(
                    f"{path} cannot be written: its file system has no file locks ({error.strerror}), choose a folder "
                    "on a local disk"
                ) from None
            os.close(fd)
            raise


def release(path: Path, fd: int) -> None:
    """Give the lock back and remove its file."""
    name = path.with_name(path.name + ".lock")
    if _is_at(name, fd):  # and not that of a writer who came after somebody had removed ours
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    os.close(fd)


def own(path: Path, fd: int) -> None:
    """Lock an open file itself for writing, whatever its names, until the descriptor is closed.

    Raises:
        Busy: another process has it.
    """
    if _SET is None:
        return
    with contextlib.suppress(OSError):  # no such locks here
        if not _shared(fd):
            raise Busy("another program")
        try:
            fcntl.fcntl(fd, _SET, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _BYTE, 1, 0))
        except (BlockingIOError, PermissionError):
            raise Busy("another process, under another name or without its .lock file") from None
        other = os.open(path, os.O_RDONLY | NO_LINKS)
        try:
            if not _shared(other):  # locks of both kinds exclude each other here, and would keep readers out
                fcntl.fcntl(fd, _SET, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, _BYTE, 1, 0))
        finally:
            os.close(other)


def idle(path: Path) -> None:
    """Make sure that nobody writes the file that has this name, if there is one.

    Raises:
        Busy: another process does.
    """
    try:
        fd = os.open(path, os.O_RDWR | NO_LINKS)
    except OSError:  # there is none, or none that this user could write
        return
    try:
        own(path, fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the writer lock inside the context."""
    fd = take(path)
    try:
        yield
    finally:
        release(path, fd)


def _opened(name: Path) -> int:
    """The lock file, made if it is missing; nothing else is opened in its place, because it is written."""
    remedy = "remove or rename it"
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise checks.InputError(f"{name} is a link, a directory or a device and not a lock file: {remedy}") from None
    found = os.fstat(fd)
    ours = stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and found.st_size <= _LONGEST
    if not (ours and os.pread(fd, len(_CONTENT), 0) in (b"", _CONTENT)):
        os.close(fd)
        raise checks.InputError(f"{name} is another file and not a lock of gibbsformer: {remedy}")
    return fd


def _is_at(name: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def _shared(fd: int) -> bool:
    """Whether a reader could lock the file now."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True
