"""Sample files as they are read: lazily, also while they grow, and with one message for each way a file can be unfit.

A reader sees the last commit. If its journal has not been applied, because the writer died or because another reader is
holding the file, it is applied first if no process has the file open, and otherwise overlaid in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..core import checks, files
from . import description, journal, layout

_OF_FILES = (OSError, KeyError, RuntimeError)
_OF_VALUES = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, MemoryError)
_REQUIRED = ("posterior/chain", "posterior/draw", "sample_stats", "sampler_state")
_SMALL_BYTES, _RATIO = 64 * 2**20, 1000  # arrays above that size hold a thousandth of their bytes at least
_inside: dict[str, tuple[int, int, int]] = {}  # path -> state in which nothing was found outside
_OWN_ATTRIBUTES = ("schema", "schema_version", "uuid")


class UncheckedWarning(UserWarning):
    """A file that was written before everything in it had a checksum."""


class LazyArray:
    """An array [chain, draw, ..] in a sample file as of its opening; indexing reads just that part from disk.

    Draws that the file takes later are not seen. A file put in its place is refused.
    """

    def __init__(self, path: str, name: str, file: h5py.File):
        self._path, self._name, self._uuid = path, name, str(file.attrs.get("uuid"))
        self.shape, self.dtype = file[name].shape, layout.dtype(file[name])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index) -> np.ndarray:
        with reading(self._path) as file:
            check_same(self._path, file, self._uuid)
            dataset = file[self._name]
            if dataset.shape != self.shape:  # it grew
                index = _within(index, self.shape)
            values = np.asarray(dataset[index]).astype(self.dtype, copy=False)
            sums = file.get(f"{layout.CHECKSUMS}/{self._name.rpartition('/')[2]}")
            if sums is not None:
                self._check(index, values, sums)
            return values

    def _check(self, index, values: np.ndarray, sums: h5py.Dataset) -> None:
        """Look at the checksums of draws that were read whole."""
        chain, draw, *rest = _expanded(index, self.ndim)
        if all(isinstance(each, slice) and each == slice(None) for each in rest):
            wanted = np.asarray(sums[chain, draw])
            if wanted.size and not np.array_equal(
                layout.together([values.reshape(1, wanted.size, -1)])[0], wanted.ravel()
            ):
                raise checks.InputError(
                    f"{self._path} is damaged: checksum mismatch of {self._name!r}, use a copy of the file"
                )

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        return f"LazyArray({self._name!r}, shape={self.shape}, dtype={self.dtype}, file={self._path!r})"


def _within(index, shape: tuple[int, ...]) -> tuple:
    """An index of an array of a shape, for one that has grown along axis 1: ends and signs become plain numbers."""
    given = _expanded(index, len(shape))
    draws, length = given[1], shape[1]
    if isinstance(draws, slice):
        start, stop, step = draws.indices(length)
        given[1] = slice(start, stop, step) if step > 0 else np.arange(start, stop, step)[::-1]
    elif np.ndim(draws) == 0:
        given[1] = range(length)[draws]  # an IndexError beyond the end
    else:
        given[1] = np.arange(length)[draws]  # a mask of its length too
    return tuple(given)


def _expanded(index, ndim: int) -> list:
    """An index with an entry for each axis."""
    given = list(index) if isinstance(index, tuple) else [index]
    if any(each is Ellipsis for each in given):
        i = next(i for i, each in enumerate(given) if each is Ellipsis)
        given[i : i + 1] = [slice(None)] * (ndim - len(given) + 1)
    return given + [slice(None)] * (ndim - len(given))


class Contents(NamedTuple):
    """What a sample file holds, its draws as lazy arrays.

    Attributes:
        settings: how the run was made, as recorded at its start.
        attributes: schema, schema_version, uuid, and by name what commits recorded later.
        draws: name -> lazy array [chain, draw, ..].
        stats: name -> lazy array [chain, draw].
        constants: name -> array [..], written once: data and labels of training and test examples.
        columns: name -> Column of every draw and statistic.
        labels: labels [n] of every axis by name, chain and draw aside.
        step: transitions taken, warm-up included.
        path: of the file, absolute.
    """

    settings: dict[str, Any]
    attributes: dict[str, Any]
    draws: dict[str, LazyArray]
    stats: dict[str, LazyArray]
    constants: dict[str, np.ndarray]
    columns: dict[str, layout.Column]
    labels: dict[str, np.ndarray]
    step: int
    path: str


def read(path: str | os.PathLike) -> Contents:
    """Open a sample file for reading; ``gf.open`` makes a run of it.

    Args:
        path: sample file, also while it is written.

    Returns:
        Contents as of the last commit.

    Raises:
        ValueError: the file is missing, not HDF5, truncated, damaged, not a sample file, of a newer schema, or
            locked by another program.
    """
    path = str(present(path))
    with reading(path) as file, explained(Path(path), everything=True):
        described = description.read(path, file)
        if not described.checked:
            warnings.warn(
                f"{path} is of schema {described.schema_version}: its settings, labels and names have no checksums, "
                "check them by eye",
                UncheckedWarning,
                stacklevel=3,
            )
        draws: dict[str, LazyArray] = {}
        stats: dict[str, LazyArray] = {}
        for name, column in described.columns.items():
            (stats if column.group == "sample_stats" else draws)[name] = LazyArray(path, f"{column.group}/{name}", file)
        known = (*_OWN_ATTRIBUTES, "settings")
        recorded = {}
        for key, value in file.attrs.items():
            if key not in known and not key.startswith("_"):
                with contextlib.suppress(TypeError, ValueError):  # somebody else's
                    recorded[key] = json.loads(layout.plain(value))
        return Contents(
            settings_of(path, described),
            {key: layout.plain(file.attrs[key]) for key in _OWN_ATTRIBUTES} | recorded,
            draws,
            stats,
            {
                name.rpartition("/")[2]: description.constant(path, file, described, name)
                for name in described.constants
            },
            described.columns,
            described.labels,
            int(layout.plain(file["sampler_state"].attrs.get("step", 0))),
            path,
        )


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Open a sample file at its last commit, which stays as it is inside the context.

    Raises:
        ValueError: with one clear message for each way a file can be unfit.
    """
    path = present(path)
    with explained(path):
        if journal.has_journal(path):
            with contextlib.suppress(OSError, ValueError, journal.Busy):  # then it is laid over the file in memory
                journal.JournaledFile.open(path).close()
        try:
            snapshot = journal.JournaledFile.snapshot(path)
        except journal.Busy:
            raise checks.InputError(
                f"{path} is locked by another program, which has it open for writing: close it there"
            ) from None
        with contextlib.closing(snapshot):
            options: dict[str, Any] = {} if snapshot.locked else {"locking": False}
            if snapshot.pending:
                options = {"driver": "fileobj", "fileobj": snapshot}
            with h5py.File(path, "r", **options) as file:
                check_contents(path, file)
                yield file


def present(path: str | os.PathLike) -> Path:
    """The whole path of a file that is there and not empty, or ValueError."""
    path = files.absolute("path", path)
    remedy = "give a sample file written by gibbsformer"
    if not path.is_file():
        raise checks.InputError(f"{path} does not exist: {remedy}")
    if not path.stat().st_size:  # opened for writing, HDF5 would make it one
        raise checks.InputError(f"{path} is not an HDF5 file: it is empty, {remedy}")
    return path


def check_resumable(path: str | os.PathLike, settings: Mapping[str, Any]) -> None:
    """Refuse the settings of a file that no sampler wrote, by ``checks.InputError``."""
    if "merged_from" in settings:
        raise checks.InputError(f"{path} was merged and holds no sampler state: resume its parts instead")
    if settings.get("lifted_from_draws") is not None:
        raise checks.InputError(f"{path} was lifted from other draws and holds no sampler state: lift again instead")


def settings_of(path: str | os.PathLike, described: description.Description) -> dict[str, Any]:
    """The settings of a sample file, or ValueError."""
    try:
        found = json.loads(described.settings)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise checks.InputError(f"{path} is damaged (its settings are no JSON object): use a copy of the file")
    return found


def _check_once(path: Path, file: h5py.File, described: bool) -> None:
    """``_check_inside``, once for each state of a file: every reading of a draw opens it."""
    stat = os.stat(path)
    state = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if file.driver == "fileobj" or _inside.get(str(path)) != state:  # a journal may lie over it
        _check_inside(path, file, set())
        if described:
            with explained(path, everything=True):
                description.read(path, file)
        if file.driver != "fileobj":
            _inside[str(path)] = state


def _check_inside(path: str | os.PathLike, group: h5py.Group, seen: set[int]) -> None:
    """Refuse data that lie outside of the file, or that are made of others: our files have neither."""
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        return
    seen.add(address)
    for name in group:
        place = f"{group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            kind = "another file" if isinstance(link, h5py.ExternalLink) else "another place"
            raise checks.InputError(
                f"{path} is not to be trusted: {place} leads to {kind}, use a file that holds its data"
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            _check_inside(path, item, seen)
        elif isinstance(item, h5py.Dataset):
            if item.is_virtual or item.external:
                raise checks.InputError(
                    f"{path} is not to be trusted: {place} keeps data in other files, use a file that holds its data"
                )
            stored = item.id.get_storage_size()
            bare = item.is_scale and name != "draw" and not stored  # an axis without labels, as netCDF writes it
            if not bare and item.nbytes > max(_SMALL_BYTES, _RATIO * stored):
                raise checks.InputError(
                    f"{path} is damaged: {place} has shape {item.shape} and {stored} bytes, use a copy of the file"
                )


def check_same(path: str | os.PathLike, file: h5py.File, uuid: str) -> None:
    """Refuse a file that is not the one that was opened first, by ``checks.InputError``."""
    if str(file.attrs.get("uuid")) != uuid:
        raise checks.InputError(f"{path} was replaced by another run since it was opened: use gf.open to open that one")


def check_contents(path: Path, file: h5py.File) -> None:
    """Raise ValueError unless an open HDF5 file is a sample file that this code knows."""
    described = description.NAME in file  # checked bytes, looked at before HDF5's heaps
    if not described and str(layout.plain(file.attrs.get("schema"))) != layout.SCHEMA:
        raise checks.InputError(f"{path} is an HDF5 file, but not a sample file of gibbsformer: check the name")
    version = layout.plain(file.attrs.get("schema_version", 0))
    if not isinstance(version, int):
        raise checks.InputError(f"{path} is damaged (schema version {checks.brief(version)}): use a copy of the file")
    if version > layout.SCHEMA_VERSION:
        raise checks.InputError(
            f"{path} has schema version {version}, newer than {layout.SCHEMA_VERSION}: upgrade gibbsformer"
        )
    _check_once(path, file, described)
    missing = [name for name in _REQUIRED if name not in file] + ["settings"] * ("settings" not in file.attrs)
    if version < 1 or missing:
        raise checks.InputError(
            f"{path} is damaged ({', '.join(missing) or 'no schema version'} missing): use a copy of the file"
        )


@contextlib.contextmanager
def explained(path: Path, everything: bool = False) -> Iterator[None]:
    """What HDF5 says about a file it cannot read, as the user is to read it; ``everything`` that goes wrong, where
    nothing but the file can be the cause."""
    kinds = (*_OF_FILES, *_OF_VALUES) if everything else _OF_FILES
    try:
        yield
    except checks.InputError:  # says it already
        raise
    except kinds as error:
        text = str(error)
        if isinstance(error, PermissionError):
            what = f"cannot be read ({error.strerror}): look at its permissions"
        elif sizes := re.search(r"truncated file: eof = (\d+), .*stored_eof = (\d+)", text):
            what = f"is truncated: {sizes[1]} of {sizes[2]} bytes are there, use a whole copy"
        elif "signature not found" in text:
            what = "is not an HDF5 file: give a sample file written by gibbsformer"
        elif "unable to lock" in text:
            what = "is locked by another program, which has it open for writing: close it there"
        else:
            what = f"is damaged ({reason(error)}): use a copy of the file"
        raise checks.InputError(f"{path} {what}") from None


def reason(error: BaseException) -> str:
    """What HDF5 said, on one line."""
    return " ".join(str(error).split())[:200]
