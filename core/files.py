"""Names of files as users give them, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from . import checks

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # of an OSError: no more bytes can be written
_LEFTOVER, _ABANDONED_SECONDS = re.compile(r"\.(.+)\.[0-9a-f]{32}"), 3600.0  # names that ``whole`` makes
_EXAMPLE = "such as run.h5"


def absolute(argument: str, value: str | os.PathLike, example: str = _EXAMPLE) -> Path:
    """A path as a user gave it, with ``~`` expanded, resolved once: a later ``os.chdir`` changes nothing.

    Args:
        argument: what the user called it, for messages.
        value: a string or path object.
        example: what to give instead, in words.

    Raises:
        ValueError: not a path, or the home directory is unknown.
    """
    try:
        return Path(value).expanduser().resolve()
    except TypeError:
        raise checks.InputError(
            f"{argument}={checks.brief(value)} is not a path: give a file name, {example}"
        ) from None
    except (RuntimeError, ValueError, OSError) as error:
        raise checks.InputError(
            f"{argument}={checks.brief(value)} is not a valid path ({error}): give a file name, {example}"
        ) from None


def output_file(argument: str, value: str | os.PathLike, overwrite: bool, example: str = _EXAMPLE) -> Path:
    """A file name that can be written, checked before anything is computed; nothing is left there.

    Args:
        argument, value, example: as for ``absolute``.
        overwrite: an existing file is not an error.

    Returns:
        The absolute path.

    Raises:
        ValueError: not a path, a directory, an existing file, or its directory is missing or cannot be written.
    """
    path = absolute(argument, value, example)
    shown = f"{argument}={str(value)!r}"
    if path.is_dir():
        raise checks.InputError(f"{shown} is a directory: give the name of a file, {example}")
    if path.exists() and not overwrite:
        raise checks.InputError(f"{shown} exists: choose another name, or overwrite it (overwrite=True, --overwrite)")
    if not path.parent.is_dir():
        raise checks.InputError(f"{shown} is in directory {str(path.parent)!r}, which does not exist: create it first")
    remove_leftovers(path.parent, path.name)
    probe = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise checks.InputError(
            f"{shown} cannot be written ({error.strerror}): choose a directory you can write to"
        ) from None
    return path


def output_folder(argument: str, value: str | os.PathLike, *parts: str) -> Path:
    """A directory to write into, created with its subdirectories ``parts`` where it does not exist.

    Args:
        argument, value: as for ``absolute``.

    Returns:
        The absolute path.

    Raises:
        ValueError: not a path, a file, or a directory that cannot be created.
    """
    path = absolute(argument, value, "such as results")
    try:
        for part in parts or (".",):
            (path / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.InputError(
            f"{argument}={str(value)!r} cannot be used as a directory ({error.strerror}): choose another name"
        ) from None
    return path


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name in the directory of ``path``; what was written there takes the name ``path``, durably, at the
    end of the block, and is removed if the block raises."""
    building = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield building
        replace(building, path)
    finally:
        building.unlink(missing_ok=True)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove temporary files of ``whole`` that killed processes left, an hour after the last byte was written.

    Args:
        folder: where.
        name: of the file that they were to become; None for any.
    """
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            found = _LEFTOVER.fullmatch(file.name)
            if found and name in (None, found[1]):
                with contextlib.suppress(OSError):
                    state = file.lstat()
                    if stat.S_ISREG(state.st_mode) and time.time() - state.st_mtime > _ABANDONED_SECONDS:
                        file.unlink()


def write(path: Path, content: bytes | str) -> None:
    """Put a file in place of what has the name, whole and durable; an OSError leaves the old one as it was.

    The temporary file is made by this call, never one that somebody put there, nor the target of a link.
    """
    with whole(path) as building, open(building, "xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def replace(building: Path, path: Path) -> None:
    """Give a complete file its name, durably."""
    fd = os.open(building, os.O_RDWR | os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(building, path)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make the names in the directory of ``path`` durable."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
