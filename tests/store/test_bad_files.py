"""Each way a file can be unfit, or held by others, has its own one-line message."""

import fcntl
import gc
import os
import re
import socket
import threading

import h5py
import numpy as np
import pytest

from gibbsformer.core import lock
from gibbsformer.store import SampleFile, export, journal, merge, read, verify

READERS = (read, verify, SampleFile.resume, lambda path: export(path, path.with_name("out.nc")))


@pytest.fixture
def path(toy, tmp_path):
    with toy.create(tmp_path / "run.h5") as file:
        toy.append(file, 1)
    return tmp_path / "run.h5"


def refuses(path, message):
    for use in READERS:
        with pytest.raises(ValueError, match=message) as caught:
            use(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def test_missing(tmp_path):
    refuses(tmp_path / "none.h5", "does not exist: give a sample file")


def test_not_hdf5(path):
    path.write_text("draws, draws, draws")
    refuses(path, "is not an HDF5 file")


def test_empty(path):
    path.write_bytes(b"")
    refuses(path, "is not an HDF5 file")


def test_truncated(path):
    size = path.stat().st_size
    os.truncate(path, size - 1000)
    refuses(path, f"is truncated: {size - 1000} of {size} bytes are there, use a whole copy")


def test_foreign(path):
    path.unlink()
    h5py.File(path, "w").close()
    refuses(path, "is an HDF5 file, but not a sample file of gibbsformer")


def test_newer(path):
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 7
    refuses(path, "schema version 7, newer than 3: upgrade gibbsformer")


def test_incomplete(path):
    with h5py.File(path, "r+") as file:
        del file["sample_stats"]
    refuses(path, r"is damaged \('sample_stats/diverging' is missing\)")


def test_damaged_metadata(path):
    content = path.read_bytes()
    for position in (content.index(b"OHDR"), content.rindex(b"OHDR"), content.index(b"posterior")):
        path.write_bytes(content[:position] + bytes(4) + content[position + 4 :])
        with pytest.raises(ValueError, match=r"is damaged|is truncated|is not an HDF5 file"):
            verify(path)


def test_a_flipped_byte_is_found_by_verify(toy, path):
    content = path.read_bytes()
    assert verify(path).draws == toy.DRAWS
    wanted = {"posterior/V_0": toy.draws(1)["V_0"][1, 1].tobytes(),
              "posterior/U_1": toy.draws(1)["U_1"][1, 1].tobytes(),
              "constant_data/xi": np.arange(50.0, 60).tobytes(),
              "sampler_state": toy.state(1)[0].tobytes()}  # fmt: skip
    for name, stored in wanted.items():
        position = content.index(stored) + 3
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises(ValueError, match=f"is damaged.*'{name}'"):
            verify(path)
    path.write_bytes(content)
    verify(path)


def test_a_second_writer_is_told_who_writes(toy, path):
    holder = re.escape(f"is being written by process {os.getpid()} on {socket.gethostname()}")
    others = [path.with_name(f"{i}.h5") for i in range(2)]
    for i, other in enumerate(others):
        toy.create(other, {"key_data": [0, i]}).close()
    with SampleFile.resume(path):
        with pytest.raises(ValueError, match=holder):
            SampleFile.resume(path)
        with pytest.raises(ValueError, match=holder):
            toy.create(path, overwrite=True)
        with pytest.raises(ValueError, match=holder):
            merge(others, path, overwrite=True)
    assert toy.commits_in(path) == 1


def test_a_lock_left_by_a_killed_process_does_not_hold(toy, path):
    path.with_name("run.h5.lock").write_text("process 1 on another")
    toy.check_resumes(path, 1)


def test_locked_by_another_program(path, monkeypatch):
    monkeypatch.setattr(journal, "_PATIENCE", 0.05)
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for use in (read, verify):
            with pytest.raises(ValueError, match="is locked by another program, which has it open for writing"):
                use(path)


def test_folder_that_cannot_be_written(toy, path, monkeypatch):
    """Permissions do not bind every user who runs tests, so the system calls refuse instead."""

    class ReadOnly:
        def __getattr__(self, name):
            return getattr(os, name)

        def open(self, path, flags, mode=0o777):
            if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
                raise PermissionError(13, "Permission denied", str(path))
            return os.open(path, flags, mode)

    monkeypatch.setattr(journal, "os", ReadOnly())
    monkeypatch.setattr(lock, "os", ReadOnly())
    assert toy.commits_in(path) == 1
    with pytest.raises(ValueError, match=r"cannot be written \(Permission denied\)"):
        SampleFile.resume(path)


def test_a_journal_is_laid_over_a_file_that_a_reader_holds(toy, path):
    with open(path) as reader, SampleFile.resume(path) as file:
        fcntl.flock(reader, fcntl.LOCK_SH)
        toy.append(file, 2)
        file.close()
        assert path.with_name("run.h5.journal").exists()
        before = path.read_bytes()
        assert toy.commits_in(path) == 2
        assert path.read_bytes() == before
        assert path.with_name("run.h5.journal").exists()
    assert toy.commits_in(path) == 2  # nobody is in the way: applied on disk
    assert not path.with_name("run.h5.journal").exists()
    with h5py.File(path) as file:
        assert len(file["posterior/draw"]) == 2 * toy.DRAWS


def test_readers_beside_a_writer(toy, tmp_path):
    """Stock HDF5, xarray and ArviZ, and our own readers, while another thread commits: each sees a whole commit."""
    import arviz
    import xarray

    path, stop, seen = tmp_path / "run.h5", threading.Event(), []
    file = toy.create(path)
    toy.append(file, 1)

    def watch():
        while not stop.is_set():
            seen.append(toy.commits_in(path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for commit in range(2, 12):
            toy.append(file, commit)
            with h5py.File(path) as stock:
                held = len(stock["posterior/draw"])
                toy_values = stock["posterior/U_1"][()]
                np.testing.assert_array_equal(toy_values[:, : toy.DRAWS], toy.draws(1)["U_1"])
                assert toy_values.shape[1] == held
    finally:
        stop.set()
        watcher.join()
    assert seen == sorted(seen)
    toy.append(file, 12)  # nobody is in the way
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        length = tree["posterior"].sizes["draw"]
        toy.append(file, 13)  # beside an open tree: kept in the journal
        assert tree["posterior"]["V_0"].values.shape[1] == length == 12 * toy.DRAWS
        assert toy.commits_in(path) == 13
    toy.append(file, 14)
    data = arviz.from_netcdf(str(path))
    assert data["posterior"].sizes["draw"] == 14 * toy.DRAWS
    data.close()
    file.close()
    toy.check_resumes(path, 14)


def test_files_that_are_refused_leave_nothing_open(toy, path, tmp_path):
    """Of each kind: cut, of another program, damaged, with a damaged journal, written by another process."""
    whole = path.read_bytes()
    held = tmp_path / "held.h5"
    toy.create(held, {"key_data": [0, 1]}).close()

    def journal_of(content):
        path.with_name("run.h5.journal").write_bytes(content)

    kinds = (
        lambda: path.write_bytes(whole[:-1000]), lambda: path.write_bytes(b"draws"),
        lambda: path.write_bytes(whole.replace(b"OHDR", b"OHDS")), lambda: journal_of(b"redo-2"),
    )  # fmt: skip
    with SampleFile.resume(held):
        for make in kinds:
            path.write_bytes(whole)
            path.with_name("run.h5.journal").unlink(missing_ok=True)
            make()
            before = sorted(os.listdir("/proc/self/fd"))
            for use in (*READERS, lambda p: merge([p, held], p.with_name("all.h5")), lambda _: SampleFile.resume(held)):
                with pytest.raises(ValueError, match=r"run\.h5|held\.h5"):
                    use(path)
            assert sorted(os.listdir("/proc/self/fd")) == before
            assert not path.with_name("run.h5.lock").exists()


def test_arviz_has_a_file_open_that_this_process_writes(toy, path):
    """Both ways round: what ArviZ reads later is what it opened, and commits are there once it lets go."""
    import arviz

    with SampleFile.resume(path) as file:
        data = arviz.from_netcdf(str(path))
        toy.append(file, 2)
        toy.append(file, 3)
        np.testing.assert_array_equal(data["posterior"]["V_0"].values, toy.draws(1)["V_0"])
        assert toy.commits_in(path) == 3
        assert path.with_name("run.h5.journal").exists()
        data.close()
        del data  # only then does ArviZ let go of the file
        gc.collect()
        toy.append(file, 4)
        assert not path.with_name("run.h5.journal").exists()
        data = arviz.from_netcdf(str(path))
        assert data["posterior"].sizes["draw"] == 4 * toy.DRAWS
        with toy.create(path.with_name("other.h5")) as other:
            toy.append(other, 1)
        os.replace(path.with_name("other.h5"), path)  # as sampling anew does
        assert data["posterior"]["U_1"].values.shape[1] == 4 * toy.DRAWS
        data.close()
