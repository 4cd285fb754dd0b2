"""A file object for HDF5 whose commits are atomic, by a redo journal of changed pages; standard library only.

Bytes beyond the committed end go straight to disk: nothing refers to them yet. Changed pages below it stay in memory.
A commit makes the data durable, then writes the pages and the new end to ``run.h5.journal.tmp`` and renames that to
``run.h5.journal``: the rename is the commit point. Only then are the pages written in place, and the journal removed.
Whoever opens the file later replays a journal that is still there, which changes nothing if it was applied before.

In-place writing needs an exclusive ``flock``, which the shared lock of HDF5's readers blocks: no reader sees half a
commit. While a reader holds the file the journal stays, and each commit appends its own pages to it (``redo``). One
writer at a time holds ``run.h5.lock`` and a lock on the file itself (``core.lock``), which the kernel releases when the
process dies. The name is looked at before each commit: nobody could find the draws of a file that was removed.

A callback that raises into HDF5 can crash the interpreter, so the first error is kept, later writes are swallowed,
and ``commit`` raises it; the file stays at its last commit.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import time
from pathlib import Path

from ..core import checks, files, lock
from ..core.lock import NO_LINKS, Busy
from .redo import PAGE, Journal, write_all

_SEND_BYTES = 4 * 2**20
_NOTHING_UNSENT = (2**63, 0)
_PATIENCE = 10.0  # seconds a reader waits for a writer that is applying a commit, which takes milliseconds
_MARK = b"journal-identity:"
_MARK_WITHIN = 64 * 2**10


def mark(identity: str) -> bytes:
    """Bytes that a journaled file must hold, unchanged, in its first 64 KiB: they say which journals are its own."""
    return _MARK + identity.encode("ascii")


class GoneError(OSError):
    """The name of a file that is being written leads elsewhere by now."""


class JournaledFile:
    """What h5py needs of a file object, with ``commit``; made by ``create``, ``open`` or ``snapshot``."""

    def __init__(self, path: Path, fd: int, held: int | None = None, building: Path | None = None):
        self._path, self._fd, self._lock, self._building = path, fd, held, building
        self._journal = path.with_name(path.name + ".journal")
        self._pages: dict[int, bytearray] = {}  # changed since the last commit
        self._redo: Journal | None = None  # commits that are not yet in place
        self._position = 0
        self._unsent = _NOTHING_UNSENT  # where it starts, how many bytes
        self._free = (0, 0)
        self._size = self._floor = os.fstat(fd).st_size  # below the floor nothing is written in place
        self.locked = True  # False of a snapshot on a file system without locks
        self.error: BaseException | None = None
        self.closed = False

    @classmethod
    def create(cls, path: Path) -> JournaledFile:
        """Start a file that takes the name ``path`` at its first commit.

        Raises:
            Busy: another process writes it.
        """
        held, fd = lock.take(path), None
        building = path.with_name(path.name + ".new")
        try:
            lock.idle(path)
            lock.idle(building)
            _remove(building)  # left by a process that died: the locks are ours
            fd = os.open(building, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            lock.own(building, fd)
            return cls(path, fd, held, building)
        except BaseException:
            if fd is not None:
                os.close(fd)
            lock.release(path, held)
            raise

    @classmethod
    def open(cls, path: Path) -> JournaledFile:
        """Open for writing, at its last commit.

        Raises:
            Busy: another process writes it.
        """
        held, fd, file = lock.take(path), None, None
        try:
            fd = os.open(path, os.O_RDWR | NO_LINKS)
            lock.own(path, fd)
            file = cls(path, fd, held)
            if file._load_journal(writable=True):
                file._apply()
            elif not file.pending and _identity(fd) is not None:
                _remove(file._journal)  # of another file
            _remove(path.with_name(path.name + ".journal.tmp"))
            return file
        except BaseException:
            if file is not None:
                file._forget()
            if fd is not None:
                os.close(fd)
            lock.release(path, held)
            raise

    @classmethod
    def snapshot(cls, path: Path) -> JournaledFile:
        """Open for reading, at the last commit, which stays as it is until this is closed; nothing is written.

        Raises:
            Busy: another program holds the file exclusively.
        """
        fd = os.open(path, os.O_RDONLY)
        try:
            locked = _share(fd)
            file = cls(path, fd)
            file.locked = locked
            file._load_journal(writable=False)  # after locking: from now on no other process applies it
            return file
        except BaseException:
            os.close(fd)
            raise

    @property
    def pending(self) -> bool:
        """Whether the last commit, or anything newer, is not yet in place."""
        return bool(self._pages or self._redo)

    @property
    def building(self) -> Path:
        """Where it is on disk."""
        return self._building or self._path

    @property
    def identity(self) -> bytes | None:
        """What the file's mark says."""
        return _identity(self._fd)

    # what HDF5 calls: these never raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (self._size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        pass  # HDF5 flushes whenever it likes; only commit makes durable

    def readinto(self, buffer) -> int:
        view, start = memoryview(buffer).cast("B"), self._position
        try:
            got = 0 if self.closed else os.preadv(self._fd, [view], start)
            view[got:] = bytes(len(view) - got)
            for number in range(start // PAGE, -(-(start + len(view)) // PAGE)) if self.pending else ():
                if page := self._changed(number):
                    first, last = max(start, number * PAGE), min(start + len(view), number * PAGE + len(page))
                    if first < last:
                        view[first - start : last - start] = page[first - number * PAGE : last - number * PAGE]
        except BaseException as error:
            self.error = self.error or error
        self._position = start + len(view)
        return len(view)

    def write(self, data) -> int:
        view, start = memoryview(data).cast("B"), self._position
        stop = self._position = start + len(view)
        if self.error is None:
            try:
                cuts = [start, *sorted(c for c in (self._floor, *self._free) if start < c < stop), stop]
                for first, last in itertools.pairwise(cuts):
                    part = view[first - start : last - start]
                    if first >= self._floor or self._free[0] <= first < self._free[1]:
                        self._write_through(first, part)
                    else:
                        self._hold(first, part)
            except BaseException as error:
                self.error = error
        self._size = max(self._size, stop)
        return len(view)

    def truncate(self, size: int) -> int:
        if self.error is None:
            try:
                if size >= self._floor:
                    os.ftruncate(self._fd, size)
                self._pages = {number: page for number, page in self._pages.items() if number * PAGE < size}
                if self._redo is not None:
                    self._redo.cut(size)
            except BaseException as error:
                self.error = error
        self._size = size
        return size

    # what the owner calls

    def release(self, start: int, stop: int) -> None:
        """Let these bytes be written in place until the next commit, because the last one does not refer to them.

        Call it before anything else of a commit; whole pages are taken, and none while an older commit is in place.
        """
        if not self.pending:
            self._free = (-(-start // PAGE) * PAGE, stop // PAGE * PAGE)

    def commit(self) -> None:
        """Make everything written since the last commit durable, all of it or nothing.

        Raises:
            OSError: the first error since the last commit, such as a full disk. No later commit will succeed.
        """
        if self.error is not None:
            raise self.error
        self._free = (0, 0)
        try:
            if self._building is None:
                self._check_name()
            os.fsync(self._fd)
            if self._building is not None:
                self._publish(self._building)
            elif self._pages or self._size != self._floor:
                self._write_journal()
                self._floor = max(self._floor, self._size)  # the journal refers to all of it
                self._apply()
            elif self._redo is not None:
                self._apply()
        except BaseException as error:
            self.error = error
            raise

    def close(self) -> None:
        """Let go of the file; what was not committed is dropped."""
        if self.closed:
            return
        self.closed = True
        # HDF5 may still call: the descriptor could by then be that of another file
        self.error = self.error or ValueError("the file is closed")
        try:
            if self._building is not None:
                _remove(self._building)
            elif self._lock is not None:
                # only tidies up: the next open does it if this fails
                with contextlib.suppress(OSError, checks.InputError):
                    if self._load_journal(writable=True):
                        self._apply()
                    elif not self.pending and os.fstat(self._fd).st_size > self._floor:
                        os.ftruncate(self._fd, self._floor)  # what nothing refers to: it may be what filled the disk
        finally:
            self._forget()
            os.close(self._fd)
            if self._lock is not None:
                lock.release(self._path, self._lock)

    def _write_through(self, start: int, view) -> None:
        write_all(self._fd, view, start)
        self._unsent = (min(start, self._unsent[0]), self._unsent[1] + len(view))
        if self._unsent[1] > _SEND_BYTES:
            if hasattr(os, "posix_fadvise"):  # the disk works while HDF5 does: Linux starts to write on this advice
                os.posix_fadvise(self._fd, *self._unsent, os.POSIX_FADV_DONTNEED)
            self._unsent = _NOTHING_UNSENT

    def _hold(self, start: int, view) -> None:
        done = 0
        while done < len(view):
            number, offset = divmod(start + done, PAGE)
            count = min(PAGE - offset, len(view) - done)
            if count == PAGE:
                self._pages[number] = bytearray(view[done : done + PAGE])
            else:
                self._page(number)[offset : offset + count] = view[done : done + count]
            done += count

    def _changed(self, number: int) -> bytes | bytearray:
        """The page as it was changed since it was last in place, or nothing."""
        if (page := self._pages.get(number)) is not None:
            return page
        return self._redo.page(number) if self._redo is not None and number in self._redo.pages else b""

    def _page(self, number: int) -> bytearray:
        """The page as it will be, up to the floor."""
        page = self._pages[number] = bytearray(self._changed(number))
        missing = min(PAGE, self._floor - number * PAGE) - len(page)
        if missing > 0:
            page += os.pread(self._fd, missing, number * PAGE + len(page)).ljust(missing, b"\0")
        return page

    def _publish(self, building: Path) -> None:
        os.rename(building, self._path)
        self._building, self._floor = None, self._size
        files.sync_folder(self._path)
        _remove(self._journal)  # of a file that was here before: after the rename, it fits nothing

    def _check_name(self) -> None:
        """Refuse to write on where nobody would find it."""
        own, there = os.fstat(self._fd), None
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(self._path, follow_symlinks=False)
        if there is not None and os.path.samestat(there, own):
            return
        if not own.st_nlink:
            remedy = "its draws are lost, sample again"
        else:
            remedy = "its draws until then are under its new name, resume that"
        what = "moved or removed" if there is None else "replaced by another file"
        raise GoneError(f"was {what} while it was being written: {remedy}")

    def _write_journal(self) -> None:
        redo = self._redo
        if redo is not None and not redo.bloated:
            redo.append(self._size, self._pages)
        else:
            older: dict[int, bytes | bytearray] = {}
            if redo is not None:
                older = {number: redo.page(number) for number in redo.pages}
            identity = _identity(self._fd)
            if identity is None:
                raise OSError("its identity is damaged: use a copy of the file")
            self._redo = Journal.start(self._journal, identity, self._size, older | dict(self._pages))
            if redo is not None:
                redo.close()
        self._pages = {}

    def _load_journal(self, writable: bool) -> bool:
        """Take over the journal on disk; True if it can be applied."""
        self._forget()
        self._redo = Journal.load(self._journal, _identity(self._fd), writable)
        if self._redo is None:
            return False
        end, present = self._redo.end, os.fstat(self._fd).st_size
        self._size, self._floor = min(end, present), max(end, present)
        return present >= end  # if not, somebody cut the file, and HDF5 is to see that

    def _forget(self) -> None:
        """Drop what was not committed, and let go of the journal."""
        self._pages, redo, self._redo = {}, self._redo, None
        if redo is not None:
            redo.close()

    def _apply(self) -> None:
        assert self._redo is not None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            for offset, run in self._redo.runs():
                write_all(self._fd, run, offset)
            os.ftruncate(self._fd, self._size)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.fsync(self._fd)
        _remove(self._journal)
        self._forget()
        self._floor = self._size


def has_journal(path: Path) -> bool:
    """Whether the file has a journal."""
    return os.path.lexists(path.with_name(path.name + ".journal"))


def _share(fd: int) -> bool:
    """Lock a file as its readers do; False without locks, where there is no writer either."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy("another program") from None
            time.sleep(0.002)
        except OSError as error:
            if error.errno in lock.MISSING:
                return False
            raise


def _identity(fd: int) -> bytes | None:
    found = re.search(_MARK + rb"([0-9a-f-]{36})", os.pread(fd, _MARK_WITHIN, 0))
    return found[1] if found else None


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
