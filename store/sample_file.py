"""Sample files as they are written: created whole, grown chunk by chunk, resumed after whatever stopped the run.

Every commit brings the same draws of all variables together with the sampler state, all of it or nothing
(``journal``); the layout is in ``layout``.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..core import checks, files
from ..core.text import dumps
from . import description, journal, layout, sampler_state, writer
from .layout import Column
from .reading import check_contents, check_resumable, check_same, explained, present, settings_of
from .verifying import check_before_resuming
from .writer import closed_on_failure, uninterrupted, writing


class SampleFile:
    """A sample file open for appending; use it as a context manager.

    Attributes:
        path: of the file.
        uuid: of the file.
        columns: recorded variables by name.
        length: draws per chain so far.
        state: leaves of the sampler state after them, with the dtypes they had.
        step: transitions taken, warm-up included.
    """

    def __init__(self, path: Path, backing: journal.JournaledFile, file: h5py.File, columns: Mapping[str, Column]):
        self.path, self._backing, self._file = path, backing, file
        self.columns = dict(columns)
        self.length, self.step = 0, 0
        self.uuid = ""
        self.state: list[np.ndarray] = []
        # also at interpreter exit, where HDF5 would call a file object that is gone
        self._close = weakref.finalize(self, writer.close, backing, file, os.getpid())

    @classmethod
    def create(
        cls,
        path: str | os.PathLike,
        columns: Mapping[str, Column],
        labels: Mapping[str, np.ndarray],
        constants: Mapping[str, Mapping[str, tuple[tuple[str, ...], np.ndarray]]],
        settings: Mapping[str, Any],
        chains: int | Sequence[int],
        overwrite: bool = False,
    ) -> SampleFile:
        """Create a file with no draws yet.

        Args:
            path: file to create; it appears under this name only once its skeleton is written.
            columns: recorded variables by name.
            labels: labels [n] of each axis by name.
            constants: group -> name -> (axes, array [axes]) written once.
            settings: plain values stored as JSON in the root attributes.
            chains: number of chains, or their ids where several files share the chains of a run.
            overwrite: replace an existing file.

        Returns:
            SampleFile, which holds the file's lock until it is closed.

        Raises:
            ValueError: the file exists and overwrite is False, another process writes it, or its folder is missing
                or cannot be written.
        """
        path = files.output_file("store", path, overwrite)
        identity = str(uuid.uuid4())
        with uninterrupted(), writing(path):
            backing = journal.JournaledFile.create(path)
            with closed_on_failure(backing):
                with h5py.File(path, "w", driver="fileobj", fileobj=backing, libver=layout.VERSIONS) as file:
                    # contiguous, and written first: it stays where the journal looks for it
                    file.create_dataset(description.IDENTITY, data=np.bytes_(journal.mark(identity)))
                file = h5py.File(path, "r+", driver="fileobj", fileobj=backing, libver=layout.INDEXED)
                made = cls(path, backing, file, columns)
                made.uuid = identity
                file.attrs["schema"], file.attrs["schema_version"] = layout.SCHEMA, layout.SCHEMA_VERSION
                file.attrs["uuid"] = identity
                file.attrs["settings"] = dumps(settings)
                ids = np.arange(chains) if isinstance(chains, int) else np.asarray(chains)
                layout.create_draws(file, columns, labels, ids, crc=True)
                for group, content in constants.items():
                    for name, (dims, values) in content.items():
                        layout.write_array(file.require_group(group), name, dims, values, labels)
                description.write(file, backing.building)
                writer.commit(backing, file)
        return made

    @classmethod
    def resume(cls, path: str | os.PathLike, uuid: str | None = None) -> SampleFile:
        """Open a file for appending, at its last commit.

        Args:
            path: sample file.
            uuid: of the file that is meant; None for whichever is there.

        Returns:
            SampleFile with ``length``, ``state`` and ``step`` of that commit; it holds the file's lock until it is
            closed.

        Raises:
            ValueError: the file is missing, damaged, no sample file, of a newer schema, merged from others, another
                than the one meant, being written by another process, or cannot be written.
        """
        path = present(path)
        with uninterrupted(), writing(path):
            backing = journal.JournaledFile.open(path)
            with closed_on_failure(backing), explained(path, everything=True):
                file = h5py.File(path, "r+", driver="fileobj", fileobj=backing, libver=layout.VERSIONS)
                check_contents(path, file)
                described = description.read(path, file)
                check_resumable(path, settings_of(path, described))
                if backing.identity != described.uuid.encode():
                    raise checks.InputError(
                        f"{path} was written again by another program: resume the file it came from"
                    )
                if uuid is not None:
                    check_same(path, file, uuid)
                check_before_resuming(path, file, described)
                made = cls(path, backing, file, described.columns)
                made.uuid = described.uuid
                made.length = len(file["posterior/draw"])
                made.step = int(file["sampler_state"].attrs.get("step", 0))
                made.state = sampler_state.read(path, file["sampler_state"])
            with closed_on_failure(backing):
                writer.commit(backing, file)  # drops what an unfinished commit left behind the end
        return made

    def append(
        self,
        values: Mapping[str, np.ndarray],
        state: list[np.ndarray],
        step: int,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Append draws [chain, n, ..] of every column and commit them together with the sampler state.

        When this returns, the draws survive whatever happens to the process or the machine.

        Args:
            values: draws by column name, [chain, n, ..]; empty (n = 0) during warm-up.
            state: leaves of the sampler state after these draws, of any shapes [..].
            step: number of transitions taken, warm-up included.
            attributes: plain values stored as JSON in root attributes of these names, such as the run's verdict or
                settings that changed; others stay.

        Raises:
            ValueError: the columns or their shapes are not those of the file, which stays usable.
            OSError: the commit failed, for example because the disk is full. The file stays at its last commit and
                takes no more draws; resume it once the cause is gone.
        """
        texts = {name: dumps(value) for name, value in (attributes or {}).items()}
        with uninterrupted():
            stop = self.length + self._checked_count(values)
            try:
                self._write(values, stop, state, step, texts)
            except BaseException as error:
                # HDF5 stumbles over what it could not write: the first error says why
                self._backing.error = self._backing.error or error
            self._commit()
            self.length, self.step, self.state = stop, step, list(state)

    def close(self) -> None:
        """Close the file; what was appended stays."""
        with uninterrupted():
            self._close()

    def __enter__(self) -> SampleFile:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _checked_count(self, values) -> int:
        chains = len(self._file["posterior/chain"])
        count = next(iter(values.values())).shape[1] if values else 0
        wrong = [n for n, c in self.columns.items() if n not in values or values[n].shape != (chains, count, *c.shape)]
        if wrong or set(values) != set(self.columns):
            names = ", ".join(wrong or sorted(set(values) - set(self.columns)))
            raise checks.InputError(f"a commit must bring the same number of draws of every column: look at {names}")
        return count

    def _write(self, values, stop, state, step, texts) -> None:
        file, start = self._file, self.length
        self._backing.release(*sampler_state.unused(file["sampler_state"]))
        if stop > start:
            sums = file.get(layout.CHECKSUMS, {})
            for group in {column.group for column in self.columns.values()} | ({layout.CHECKSUMS} if sums else set()):
                file[group]["draw"].resize((stop,))
                file[group]["draw"][start:] = np.arange(start, stop)
            for name, column in self.columns.items():
                dataset = file[column.group][name]
                dataset.resize(stop, axis=1)
                dataset[:, start:] = values[name]
                if name in sums:
                    sums[name].resize(stop, axis=1)
                    sums[name][:, start:] = layout.crc32(values[name])
            if layout.TOGETHER in sums:
                small = [np.asarray(values[n], self.columns[n].dtype) for n in layout.small(self.columns)]
                sums[layout.TOGETHER].resize(stop, axis=1)
                sums[layout.TOGETHER][:, start:] = layout.together(small) if small else 0
        sampler_state.write(file["sampler_state"], state)
        file["sampler_state"].attrs["step"] = step
        for name, text in texts.items():
            layout.record(file, name, text)

    def _commit(self) -> None:
        try:
            writer.commit(self._backing, self._file)
        except journal.GoneError as error:
            raise writer.WriteError(f"{self.path} {error}", error) from None
        except OSError as error:
            raise writer.WriteError(
                f"{self.path} takes no more draws ({error.strerror or error}), it holds {self.length} of each chain: "
                "see to the cause, and resume it",
                error,
            ) from None
