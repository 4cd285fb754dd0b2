"""What all writing of HDF5 files shares: errors of the disk never reach HDF5, and are one line for the user.

HDF5 crashes the interpreter where closing a file fails, so every file we write lies behind a file object that swallows
errors (``journal``), and whoever writes asks it for the first one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py

from ..core import checks
from . import journal, layout


class WriteError(checks.InputError, OSError):
    """A file that cannot be written further, in one line; ``errno`` and ``strerror`` are those of the cause."""

    def __init__(self, message: str, cause: BaseException):
        super().__init__(message)
        self.errno, self.strerror = getattr(cause, "errno", None), getattr(cause, "strerror", None)

    def __str__(self) -> str:
        return str(self.args[0])


class NewFile:
    """A new HDF5 file that takes its name once it is whole and on disk; a context manager.

    Attributes:
        file: what h5py writes to.
    """

    def __init__(self, path: Path):
        """Start it, holding the writer lock of its name.

        Args:
            path: name of the file.

        Raises:
            ValueError: another process writes it, or its folder cannot be written.
        """
        self._path, self._stack = path, contextlib.ExitStack()
        with writing(path):
            self._backing = journal.JournaledFile.create(path)
            with closed_on_failure(self._backing):
                self.file = h5py.File(path, "w", driver="fileobj", fileobj=self._backing, libver=layout.VERSIONS)

    @property
    def building(self) -> Path:
        """Where it is on disk, as yet."""
        return self._backing.building

    def check(self) -> None:
        """Raise the first error there was, so that a long copy ends early on a full disk or on Ctrl-C."""
        if self._backing.error is not None:
            raise self._backing.error

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, kind, error, _) -> None:
        with writing(self._path):
            broken = self._backing.error
            if broken is None:
                self._backing.error = error  # nothing is written any more
            try:
                commit(self._backing, self.file)
            except BaseException as first:
                if broken is not None or error is None:
                    raise first from None
            finally:
                close(self._backing, self.file, os.getpid())


def commit(backing: journal.JournaledFile, file: h5py.File) -> None:
    """Commit what was written, or raise the first error."""
    if backing.error is None:
        try:
            file.flush()
        except Exception as error:
            backing.error = backing.error or error
    backing.commit()


def close(backing: journal.JournaledFile, file: h5py.File, owner: int) -> None:
    """Close a file; what was not committed is dropped."""
    if os.getpid() != owner:  # a fork that ends must not end the file of its parent
        backing.error = backing.error or RuntimeError("the file belongs to another process")
        return
    with contextlib.suppress(Exception):  # after an error, HDF5 may stumble over what it could not write
        file.close()
    backing.close()


@contextlib.contextmanager
def closed_on_failure(backing: journal.JournaledFile) -> Iterator[None]:
    """Close the file if the block fails, and raise the first error."""
    try:
        yield
    except BaseException as error:
        first = backing.error or error
        backing.close()
        raise first from None


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What keeps a file from being written, as the user is to read it."""
    try:
        yield
    except WriteError:
        raise
    except journal.Busy as holder:
        raise checks.InputError(
            f"{path} is being written by {holder}: wait for it, or end it, or choose another name"
        ) from None
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written ({error.strerror or error}): look at its folder's permissions and free space",
            error,
        ) from None


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: raised inside a callback of HDF5, it would leave half a commit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if previous is None else previous)
        if came:
            signal.raise_signal(signal.SIGINT)


def check_room(path: Path, argument: str, needed: int, remedy: str) -> int:
    """Refuse what would not fit on the disk; free bytes.

    Args:
        path: file to be written.
        argument: what needs the space, for the message.
        needed: bytes.
        remedy: what needs less, for the message.

    Raises:
        ValueError: it does not fit.
    """
    usage = os.statvfs(path.parent)
    free = usage.f_bavail * usage.f_frsize
    checks.room(argument, needed, free, f"disk in {str(path.parent)!r}", remedy)
    return free
