"""The file object alone: it behaves as a file, commits all or nothing, and trusts no journal that is not its own."""

import errno
import fcntl
import os
import shutil
import uuid
import zlib

import numpy as np
import pytest

from gibbsformer.core import checks
from gibbsformer.store import journal, redo
from gibbsformer.store.journal import JournaledFile

MARK = redo._MARK.size
START = journal.mark(str(uuid.UUID(int=1)))


def put(file, offset, data):
    file.seek(offset)
    assert file.write(data) == len(data)


def content(file) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    buffer = bytearray(size)
    file.readinto(buffer)
    return bytes(buffer)


def committed(path) -> bytes:
    file = JournaledFile.snapshot(path)
    try:
        return content(file)
    finally:
        file.close()


@pytest.fixture
def started(tmp_path):
    path = tmp_path / "file"
    file = JournaledFile.create(path)
    put(file, 0, START + bytes(range(256)) * 40)
    file.commit()
    yield path, file
    file.close()


@pytest.fixture
def deferred(started):
    """A commit that a reader keeps from being applied: (path, file, content before, content committed)."""
    path, file = started
    before = path.read_bytes()
    with open(path) as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)
        put(file, 5000, b"new" * 2000)
        file.commit()
        wanted = content(file)
        assert path.read_bytes()[: len(before)] == before
        yield path, file, before, wanted


@pytest.mark.parametrize("seed", range(8))
def test_behaves_as_a_file_and_keeps_commits(tmp_path, seed, monkeypatch):
    """Against a plain array of bytes, over random writes, truncations, commits, readers and reopenings."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    rng = np.random.default_rng(seed)
    path, copy = tmp_path / "file", tmp_path / "copy"
    file = JournaledFile.create(path)
    put(file, 0, START)
    file.commit()
    model = bytearray(START)
    last, reader, applied = bytes(model), None, len(model)
    for _ in range(400):
        match rng.choice(
            ["write", "append", "cut", "commit", "reader", "reopen", "crash"], p=[0.4, 0.2, 0.05, *[0.0875] * 4]
        ):
            case "write" | "append" as kind:
                start = len(model) if kind == "append" else int(rng.integers(len(START), len(model) + 1))
                data = rng.bytes(int(rng.choice([1, 100, 4096, 20_000])))
                put(file, start, data)
                model[start : start + len(data)] = data
            case "cut":
                size = int(rng.integers(len(START), len(model) + 1))
                file.truncate(size)
                del model[size:]
            case "commit":
                file.commit()
                last = bytes(model)
            case "reader" if reader is None:
                reader = os.open(path, os.O_RDONLY)
                fcntl.flock(reader, fcntl.LOCK_SH)
                seen = path.read_bytes()[:applied]
            case "reader":
                # nothing that this reader's version refers to has changed
                assert path.read_bytes()[: len(seen)] == seen
                os.close(reader)
                reader = None
            case "reopen":
                file.close()
                file = JournaledFile.open(path)
                file.truncate(len(last))  # as HDF5 does on opening: what follows belongs to no commit
                model = bytearray(last)
            case "crash":
                for suffix in ("", ".journal"):
                    if os.path.exists(f"{path}{suffix}"):
                        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
                assert committed(copy)[: len(last)] == last
                JournaledFile.open(copy).close()
                assert copy.read_bytes()[: len(last)] == last
                assert not os.path.exists(f"{copy}.journal")
        if not os.path.exists(f"{path}.journal"):
            applied = len(last)
        assert content(file) == model
    file.close()
    if reader is not None:
        os.close(reader)


def test_a_commit_in_the_way_of_a_reader_is_kept_beside_the_file(deferred):
    path, file, _before, wanted = deferred
    assert committed(path) == wanted
    put(file, 0, START[:4])  # the next commit carries both
    put(file, 6000, b"newer")
    file.commit()
    assert committed(path) == wanted[:6000] + b"newer" + wanted[6005:]


def test_damaged_journals_are_refused(deferred):
    """A journal gets its name when it is whole, so one that is not was damaged, and dropping it would lose draws."""
    path, _file, before, wanted = deferred
    name = path.with_name("file.journal")
    good = name.read_bytes()
    for position in np.linspace(0, len(good) - MARK - 1, 40).astype(int):
        for bad in (good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :], good[:position]):
            name.write_bytes(bad)
            with pytest.raises(checks.InputError, match="journal is damaged, and holds the last commits"):
                committed(path)
    assert path.read_bytes()[: len(before)] == before
    for end in range(1, MARK + 1):  # of the mark, without which the journal is as whole
        name.write_bytes(good[:-end])
        assert committed(path) == wanted
        name.write_bytes(good[:-end] + bytes([good[-end] ^ 1]) + good[len(good) - end + 1 :])
        assert committed(path) == wanted
    name.write_bytes(good)
    assert committed(path) == wanted


def test_a_last_segment_that_is_not_whole_was_never_acknowledged(deferred):
    path, file, _before, wanted = deferred
    name = path.with_name("file.journal")
    first = name.stat().st_size
    put(file, 6000, b"newer")
    file.commit()
    whole = name.read_bytes()
    assert whole[:first] != whole
    start = first - MARK
    for position in range(start, len(whole) - MARK, 97):
        name.write_bytes(whole[:position])
        assert committed(path) == wanted
        changed = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        name.write_bytes(changed[:-MARK])  # as a power loss leaves it
        assert committed(path) == wanted
        name.write_bytes(changed)  # it had been on disk
        with pytest.raises(checks.InputError, match="journal is damaged, and holds the last commits"):
            committed(path)
    name.write_bytes(whole + whole[start:])  # not the next segment: its checksum goes on from another
    assert committed(path) == wanted[:6000] + b"newer" + wanted[6005:]


def test_journals_of_earlier_versions(deferred):
    """One segment under another magic; what comes after is appended to it."""
    path, file, _before, wanted = deferred
    name = path.with_name("file.journal")
    name.write_bytes(b"redo-1\r\n" + name.read_bytes()[8:])
    assert committed(path) == wanted
    put(file, 6000, b"newer")
    file.commit()
    assert committed(path) == wanted[:6000] + b"newer" + wanted[6005:]


@pytest.mark.parametrize("field", range(4))
def test_crafted_lengths_are_compared_with_the_journal_first(deferred, field):
    """Numbers of runs and their lengths, 2^63 and more, with a checksum that is right as far as it can be."""
    path, *_ = deferred
    name = path.with_name("file.journal")
    good = bytearray(name.read_bytes())
    start = {0: 48, 1: 56, 2: 64, 3: 72}[field]  # end of file, number of runs, offset and length of the first
    good[start : start + 8] = (2**63 + 4096).to_bytes(8, "little")
    good[8:12] = zlib.crc32(good[12:-MARK]).to_bytes(4, "little")
    name.write_bytes(good)
    with pytest.raises(checks.InputError, match="journal is damaged"):
        committed(path)


def test_journals_that_cannot_be_read_leak_nothing(deferred):
    path, *_ = deferred
    name = path.with_name("file.journal")
    target = path.with_name("target")
    name.rename(target)
    name.symlink_to(target)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(checks.InputError, match="is a link, a directory or a device: remove it"):
            committed(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_long_journal_is_written_anew(deferred, monkeypatch):
    path, file, _before, wanted = deferred
    monkeypatch.setattr(redo, "_BLOATED", 50_000)
    wanted = bytearray(wanted)
    for i in range(100):
        data = bytes([i]) * 100
        put(file, 6000, data)
        wanted[6000:6100] = data
        file.commit()
        assert path.with_name("file.journal").stat().st_size < 60_000
    assert committed(path) == wanted == content(file)


def test_a_journal_of_another_file_is_removed(deferred, tmp_path):
    path, *_ = deferred
    other = tmp_path / "other"
    other.write_bytes(journal.mark(str(uuid.UUID(int=2))) + bytes(50_000))
    before = other.read_bytes()
    shutil.copy(path.with_name("file.journal"), tmp_path / "other.journal")
    JournaledFile.open(other).close()
    assert other.read_bytes() == before
    assert not (tmp_path / "other.journal").exists()


def test_recovery_does_not_hide_that_a_file_was_cut(deferred, tmp_path):
    path, _, _before, wanted = deferred
    short = tmp_path / "short"
    short.write_bytes(path.read_bytes()[:6000])
    shutil.copy(path.with_name("file.journal"), tmp_path / "short.journal")
    file = JournaledFile.open(short)
    assert file.seek(0, os.SEEK_END) == 6000 < len(wanted)
    file.close()
    assert short.stat().st_size == 6000
    assert (tmp_path / "short.journal").exists()


def test_errors_reach_the_owner_and_not_hdf5(started, monkeypatch):
    path, file = started
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        put(file, len(before), b"more")
    put(file, len(before) + 4, b"more")  # there is room again, but the first four bytes are missing
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            file.commit()
    file.close()
    assert path.read_bytes() == before
    put(file, 0, b"after closing")
    assert path.read_bytes() == before


def test_one_writer(started):
    path, file = started
    for start in (JournaledFile.open, JournaledFile.create):
        with pytest.raises(journal.Busy, match=f"process {os.getpid()} on "):
            start(path)
    file.close()
    JournaledFile.open(path).close()
    assert os.listdir(path.parent) == ["file"]
