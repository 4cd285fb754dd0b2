"""HDF5 sample files that are ArviZ / xarray files: created whole, grown chunk by chunk, read lazily.

Layout: groups as ArviZ names them, each with its own ``chain`` (fixed) and ``draw`` (unlimited) scales and one scale
per further axis, plus ``sampler_state``; root attributes hold schema, configuration and provenance as JSON. All
variables of a file grow in one commit together with the sampler state. ``_Backing`` is the one place that
knows how bytes reach the disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from ..models import checks

SCHEMA = "gibbsformer-samples"
SCHEMA_VERSION = 1
_CHUNK_EDGE = 250  # weight matrices in (1, 1, 250, 250) chunks: one weight's trace reads few bytes
_SMALL_CHUNK_BYTES = 64 * 2**10
_REQUIRED = ("posterior/path_1", "sample_stats", "constant_data/xi", "observed_data/y", "sampler_state")
_STRING = h5py.string_dtype()


class Column(NamedTuple):
    """One recorded variable: its group, its axes after chain and draw, their lengths, and its dtype."""

    group: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: Any


class SampleFile:
    """A sample file open for appending; use it as a context manager."""

    def __init__(self, backing: _Backing, columns: Mapping[str, Column]):
        self._backing = backing
        self._columns = columns
        self._length = 0

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        columns: Mapping[str, Column],
        labels: Mapping[str, np.ndarray],
        constants: Mapping[str, Mapping[str, tuple[tuple[str, ...], np.ndarray]]],
        settings: Mapping[str, Any],
        chains: int,
        overwrite: bool = False,
    ) -> SampleFile:
        """Create a file with no draws yet.

        Args:
            path: file to create; it appears under this name only once its skeleton is written.
            columns: recorded variables by name.
            labels: coordinate of each axis by name.
            constants: group -> name -> (axes, array) written once.
            settings: plain values stored as JSON in the root attributes.
            chains: number of chains.
            overwrite: replace an existing file.

        Raises:
            ValueError: the file exists and overwrite is False, or its folder is missing or cannot be written.
        """
        path = checked_path(path, overwrite)
        backing = _Backing.create(path)
        file = backing.file
        file.attrs["schema"], file.attrs["schema_version"] = SCHEMA, SCHEMA_VERSION
        file.attrs["uuid"] = str(uuid.uuid4())
        file.attrs["settings"] = json.dumps(settings)
        for group in {column.group for column in columns.values()}:
            _scale(file.require_group(group), "chain", np.arange(chains))
            _scale(file[group], "draw", np.arange(0), unlimited=True)
        for name, column in columns.items():
            _create_column(file[column.group], name, column, chains, labels)
        for group, content in constants.items():
            for name, (dims, values) in content.items():
                _write_array(file.require_group(group), name, dims, values, labels)
        file.create_group("sampler_state")
        backing.publish(path)
        return cls(backing, columns)

    def append(
        self,
        values: Mapping[str, np.ndarray],
        state: list[np.ndarray],
        step: int,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Append draws [chain, n, ..] of every column and commit them together with the sampler state.

        Args:
            values: draws by column name; empty arrays (n = 0) during warm-up.
            state: leaves of the sampler state after these draws.
            step: number of records taken, warm-up included.
            attributes: plain values stored as JSON in root attributes.
        """
        counts = {len(v[0]) for v in values.values()}
        if set(values) != set(self._columns) or len(counts) != 1:
            raise checks.InputError("a commit must bring the same number of draws of every column")
        (count,) = counts
        stop = self._length + count
        file = self._backing.file
        for group in {column.group for column in self._columns.values()}:
            file[group]["draw"].resize((stop,))
            file[group]["draw"][self._length :] = np.arange(self._length, stop)
        for name, column in self._columns.items():
            dataset = file[column.group][name]
            dataset.resize(stop, axis=1)
            if count:
                dataset[:, self._length :] = values[name]
        group = file["sampler_state"]
        group.attrs["step"] = step
        for i, leaf in enumerate(state):
            name = f"leaf_{i:03d}"
            if name in group:
                group[name][...] = leaf
            else:
                _write_array(group, name, tuple(f"{name}_{axis}" for axis in range(leaf.ndim)), leaf, {})
        for name, value in (attributes or {}).items():
            file.attrs[name] = json.dumps(value)
        self._length = stop
        self._backing.commit()

    def close(self) -> None:
        """Close the file; what was appended stays."""
        self._backing.close()

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Backing:
    """How bytes reach the disk: an h5py file that is built beside its final name, and commits by flushing."""

    def __init__(self, file: h5py.File):
        self.file = file

    @classmethod
    def create(cls, path: Path) -> _Backing:
        building = path.with_name(path.name + ".new")
        building.unlink(missing_ok=True)
        return cls(h5py.File(building, "x", libver=("earliest", "v110")))

    def publish(self, path: Path) -> None:
        self.file.flush()
        os.replace(self.file.filename, path)

    def commit(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()


class LazyArray:
    """An array [chain, draw, ..] in a sample file; indexing reads just that part from disk."""

    def __init__(self, path: str, name: str):
        self._path, self._name = path, name
        with reading(path) as file:
            self.shape, self.dtype = file[name].shape, _dtype(file[name])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index) -> np.ndarray:
        with reading(self._path) as file:
            return np.asarray(file[self._name][index]).astype(self.dtype, copy=False)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[...], dtype=dtype)

    def __repr__(self) -> str:
        return f"LazyArray({self._name!r}, shape={self.shape}, dtype={self.dtype}, file={self._path!r})"


class Contents(NamedTuple):
    """What a sample file holds, its draws as lazy arrays."""

    settings: dict[str, Any]
    attributes: dict[str, Any]  # schema, version, uuid
    draws: dict[str, LazyArray]
    stats: dict[str, LazyArray]
    constants: dict[str, np.ndarray]
    path_names: tuple[str, ...]
    step: int


def read(path: str | os.PathLike) -> Contents:
    """Open a sample file for reading.

    Raises:
        ValueError: the file is missing, not HDF5, damaged, not a sample file, or of a newer schema.
    """
    path = str(path)
    with reading(path) as file:
        draws: dict[str, LazyArray] = {}
        stats: dict[str, LazyArray] = {}
        constants: dict[str, np.ndarray] = {}
        for group in ("posterior", "posterior_predictive", "sample_stats"):
            for name, item in file.get(group, {}).items():
                if item.dims[0].label == "chain" and item.ndim >= 2:
                    (stats if group == "sample_stats" else draws)[name] = LazyArray(path, f"{group}/{name}")
        for group in ("constant_data", "observed_data"):
            for name, item in file.get(group, {}).items():
                if not item.is_scale:
                    constants[name] = item[()]
        return Contents(
            json.loads(file.attrs["settings"]),
            {key: _plain(file.attrs[key]) for key in ("schema", "schema_version", "uuid")},
            draws,
            stats,
            constants,
            tuple(file["posterior/path_1"].asstr()[()]),
            int(file["sampler_state"].attrs.get("step", 0)),
        )


@contextlib.contextmanager
def reading(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Open a sample file, with one clear message for each way it can be unfit."""
    path = Path(path)
    if not path.is_file():
        raise checks.InputError(f"{path} is no file: give a sample file written by gibbsformer")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = "is truncated" if "truncated" in str(error) else "is not an HDF5 file"
        if "lock" in str(error):
            reason = "is being written by another process"
        raise checks.InputError(f"{path} {reason} ({error}): give a sample file written by gibbsformer") from None
    with file:
        if str(file.attrs.get("schema")) != SCHEMA:
            raise checks.InputError(f"{path} is an HDF5 file, but not a sample file of gibbsformer: check the name")
        version = int(file.attrs.get("schema_version", 0))
        if version > SCHEMA_VERSION:
            raise checks.InputError(
                f"{path} has schema version {version}, newer than {SCHEMA_VERSION}: upgrade gibbsformer"
            )
        missing = [name for name in _REQUIRED if name not in file] + ["settings"] * ("settings" not in file.attrs)
        if version < 1 or missing:
            raise checks.InputError(
                f"{path} is damaged ({', '.join(missing) or 'no schema version'} missing): give a whole file"
            )
        yield file


def checked_path(path: str | os.PathLike, overwrite: bool) -> Path:
    """A path that can be created, or ValueError with the remedy."""
    try:
        path = Path(path)
    except TypeError:
        raise checks.InputError(f"store={checks.brief(path)} is no path: give a file name, such as run.h5") from None
    if path.is_dir():
        raise checks.InputError(f"store={str(path)!r} is a folder: give the name of a file, such as run.h5")
    if path.exists() and not overwrite:
        raise checks.InputError(
            f"store={str(path)!r} exists: choose another name, or overwrite it (overwrite=True, --overwrite)"
        )
    folder = path.parent
    if not folder.is_dir():
        raise checks.InputError(
            f"store={str(path)!r} is in folder {str(folder)!r}, which does not exist: create it first"
        )
    probe = folder / f".{path.name}.{uuid.uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise checks.InputError(
            f"store={str(path)!r} cannot be written ({error.strerror}): choose a folder you can write to"
        ) from None
    return path


def _create_column(group, name, column: Column, chains, labels):
    shape = (chains, 0, *column.shape)
    boolean = np.dtype(column.dtype) == bool
    dtype = np.dtype("i1") if boolean else np.dtype(column.dtype)
    floating = np.issubdtype(dtype, np.floating)
    dataset = group.create_dataset(
        name,
        shape,
        dtype,
        maxshape=(chains, None, *column.shape),
        chunks=_chunks(column.shape, dtype.itemsize),
        fillvalue=np.nan if floating else None,
    )
    if boolean:
        dataset.attrs["dtype"] = "bool"  # xarray's convention
    _attach(group, dataset, ("chain", "draw", *column.dims), labels)


def _chunks(shape, itemsize):
    inner = tuple(min(n, _CHUNK_EDGE) for n in shape)
    draws = max(1, min(256, _SMALL_CHUNK_BYTES // (int(np.prod(inner)) * itemsize)))
    return (1, draws, *inner)


def _write_array(group, name, dims, values, labels):
    values = np.asarray(values)
    dataset = group.create_dataset(name, data=values)
    missing = {d: np.arange(n) for d, n in zip(dims, values.shape, strict=True) if d not in labels}
    _attach(group, dataset, dims, dict(labels) | missing)


def _attach(group, dataset, dims, labels):
    for axis, dim in enumerate(dims):
        if dim not in group:
            _scale(group, dim, labels[dim])
        dataset.dims[axis].attach_scale(group[dim])
        dataset.dims[axis].label = dim


def _scale(group, name, values, unlimited=False):
    values = np.asarray(values)
    text = values.dtype == object
    scale = group.create_dataset(
        name,
        data=values.astype(_STRING) if text else values,
        dtype=_STRING if text else np.int64,
        maxshape=(None,) if unlimited else values.shape,
        chunks=(1024,) if unlimited else None,
    )
    scale.make_scale(name)


def _dtype(dataset):
    return np.dtype(bool) if _plain(dataset.attrs.get("dtype")) == "bool" else dataset.dtype


def _plain(value):
    return value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
