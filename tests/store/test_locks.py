"""One writer, whatever names and links a file has; nothing beside a file is followed; file systems without locks."""

import errno
import fcntl
import os

import pytest

from gibbsformer.core import checks, lock
from gibbsformer.store import SampleFile, export, merge, read, verify


@pytest.fixture
def path(toy, tmp_path):
    with toy.create(tmp_path / "run.h5") as file:
        toy.append(file, 1)
    return tmp_path / "run.h5"


@pytest.fixture
def other(toy, tmp_path):
    with toy.create(tmp_path / "other.h5", {"key_data": [1, 1]}) as file:
        toy.append(file, 1)
    return tmp_path / "other.h5"


@pytest.mark.parametrize("suffix", [".lock", ".journal", ".journal.tmp", ".new"])
@pytest.mark.parametrize("kind", ["symbolic", "hard"])
@pytest.mark.parametrize("content", ["precious", ""])
def test_links_beside_a_file_are_not_followed(toy, path, other, suffix, kind, content):
    victim = path.with_name("precious.txt")
    victim.write_text(content)
    beside = path.with_name("run.h5" + suffix)
    for use in (
        lambda: read(path), lambda: verify(path), lambda: toy.check_resumes(path, 1),
        lambda: toy.create(path, overwrite=True).close(), lambda: export(other, path, overwrite=True),
    ):  # fmt: skip
        if not os.path.lexists(beside):
            beside.symlink_to(victim) if kind == "symbolic" else os.link(victim, beside)
        try:
            use()
        except checks.InputError as error:
            assert "\n" not in str(error)  # noqa: PT017  whether it is refused depends on the link
        assert victim.read_text() == content


def test_a_file_that_is_no_lock_is_left_alone(path):
    beside = path.with_name("run.h5.lock")
    beside.write_text("notes about locks")
    with pytest.raises(checks.InputError, match=r"run\.h5\.lock is another file and not a lock"):
        SampleFile.resume(path)
    assert beside.read_text() == "notes about locks"


def test_a_hard_link_has_no_lock_of_its_own(toy, path, other):
    link = path.with_name("link.h5")
    os.link(path, link)
    with SampleFile.resume(path) as file:
        with pytest.raises(checks.InputError, match="is being written by another process, under another name"):
            SampleFile.resume(link)
        with pytest.raises(checks.InputError, match="is being written by another process, under another name"):
            toy.create(link, overwrite=True)
        with pytest.raises(checks.InputError, match="is being written by another process, under another name"):
            export(other, link, overwrite=True)
        toy.append(file, 2)
    assert toy.commits_in(path) == toy.commits_in(link) == 2
    toy.check_resumes(link, 2)


@pytest.mark.parametrize("creating", [False, True])
def test_removing_the_lock_lets_no_second_writer_in(toy, path, other, creating):
    with toy.create(path, overwrite=True) if creating else SampleFile.resume(path) as file:
        path.with_name("run.h5.lock").unlink()
        for use in (
            lambda: SampleFile.resume(path), lambda: toy.create(path, overwrite=True),
            lambda: export(other, path, overwrite=True),
        ):  # fmt: skip
            with pytest.raises(checks.InputError, match="is being written by another process"):
                use()
        toy.append(file, 1 if creating else 2)
        verify(path)  # readers are welcome all the time
        toy.append(file, 2 if creating else 3)
    assert toy.commits_in(path) == (2 if creating else 3)
    assert sorted(os.listdir(path.parent)) == ["other.h5", "run.h5"]


def test_a_lock_file_made_after_ours_was_removed_is_not_ours(path):
    name = path.with_name("run.h5.lock")
    held = lock.take(path)
    name.unlink()
    second = lock.take(path)
    lock.release(path, held)
    assert name.exists()
    lock.release(path, second)
    assert not name.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_file_systems_without_locks(toy, path, other, tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert toy.commits_in(path) == 1
    assert verify(path).draws == toy.DRAWS
    for use in (
        lambda: SampleFile.resume(path), lambda: toy.create(tmp_path / "new.h5"),
        lambda: merge([path, other], tmp_path / "all.h5"), lambda: export(path, tmp_path / "out.nc"),
    ):  # fmt: skip
        with pytest.raises(checks.InputError, match=r"has no file locks .*choose a folder on a local disk"):
            use()
    assert sorted(os.listdir(tmp_path)) == before


def test_where_both_kinds_of_lock_are_one_readers_are_not_kept_out(toy, path, monkeypatch):
    """As on network file systems: there the name alone is locked."""
    real, locked = fcntl.fcntl, []

    def both(fd, command, argument=0):
        if command == lock._SET:
            kind = lock._FLOCK.unpack(argument)[0]
            locked.append(kind)
            fcntl.flock(fd, fcntl.LOCK_EX if kind == fcntl.F_WRLCK else fcntl.LOCK_UN)
            return argument
        return real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", both)
    with SampleFile.resume(path) as file:
        assert locked == [fcntl.F_WRLCK, fcntl.F_UNLCK]
        toy.append(file, 2)
        assert toy.commits_in(path) == 2


def test_a_file_that_is_removed_or_replaced_while_it_is_written(toy, path):
    for what, change in {
        "moved or removed .* its draws are lost, sample again": lambda: path.unlink(),
        "moved or removed .* under its new name": lambda: path.rename(path.with_name("moved.h5")),
        "replaced by another file .* its draws are lost": lambda: os.replace(path.with_name("other.h5"), path),
    }.items():
        toy.create(path.with_name("other.h5"), overwrite=True).close()
        with toy.create(path, overwrite=True) as file:
            toy.append(file, 1)
            change()
            with pytest.raises(OSError, match=what):
                toy.append(file, 2)
        assert not path.with_name("run.h5.lock").exists()
    assert toy.commits_in(path.with_name("moved.h5")) == 1
    assert toy.commits_in(path) == 0  # the other file, as it was


def test_a_reader_that_stays_does_not_make_commits_dearer(toy, tmp_path, monkeypatch):
    """Bytes written by 120 commits beside a reader are about those without one; they grew with the square."""
    from gibbsformer.core import files
    from gibbsformer.store import journal, redo

    class Counting:
        written = 0
        fsync = staticmethod(lambda fd: None)

        def __getattr__(self, name):
            return getattr(os, name)

        def pwrite(self, fd, data, offset):
            Counting.written += len(data)
            return os.pwrite(fd, data, offset)

    for module in (journal, redo, files):
        monkeypatch.setattr(module, "os", Counting())
    written = {}
    for held in (False, True):
        path, Counting.written = tmp_path / f"{held}.h5", 0
        with toy.create(path) as file:
            toy.append(file, 1)
            with open(path) as reader:
                if held:
                    fcntl.flock(reader, fcntl.LOCK_SH)
                for commit in range(2, 120):
                    toy.append(file, commit)
        written[held] = Counting.written
        assert toy.commits_in(path) == 119
    assert written[True] < 1.1 * written[False] < 16 * path.stat().st_size
