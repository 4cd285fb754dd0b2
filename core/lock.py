"""One writer at a time: ``run.h5.lock``, locked by its writer, holding who that is, released when the process dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


class Busy(Exception):  # noqa: N818  a state of affairs, not an error of anybody
    """Another process holds the file; the text says which, where that is known."""


def take(path: Path) -> int:
    """Take the writer lock of a file: a descriptor for ``release``.

    Raises:
        Busy: another process has it.
    """
    name = path.with_name(path.name + ".lock")
    while True:
        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the last holder may have removed the name in between: then this lock excludes no one
            with contextlib.suppress(FileNotFoundError):
                if os.stat(name).st_ino == os.fstat(fd).st_ino:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                    return fd
            os.close(fd)
        except BlockingIOError:
            holder = os.pread(fd, 1000, 0).decode(errors="replace")
            os.close(fd)
            raise Busy(holder or "another process") from None
        except OSError:
            os.close(fd)
            raise


def release(path: Path, fd: int) -> None:
    """Give the lock back and remove its file."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path.with_name(path.name + ".lock"))
    os.close(fd)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the writer lock inside the context."""
    fd = take(path)
    try:
        yield
    finally:
        release(path, fd)
