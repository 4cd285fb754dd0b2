"""Real processes killed, interrupted, out of disk: no file and no acknowledged draw is lost, and errors are clear."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gibbsformer.core import checks, files
from gibbsformer.store import SampleFile, journal, redo

SCRIPT = Path(__file__).with_name("killed.py")


def run(*arguments) -> list[str]:
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("trials", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_sigkill_at_random_moments(tmp_path, trials):
    assert run("kill", tmp_path, trials, 1) == [str(trials)]


@pytest.mark.parametrize("trials", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_ctrl_c_at_random_moments(tmp_path, trials):
    assert run("interrupt", tmp_path, trials, 2) == [str(trials)]


def test_disk_full(toy, tmp_path):
    """A limit on the file's size stands for a full disk: mounting a small one takes privileges."""
    path = tmp_path / "run.h5"
    first, again = run("full", path, 700_000)
    commits = int(first.split()[0])
    assert commits > 3
    assert first.split(maxsplit=1)[1] == again == os.strerror(errno.EFBIG)
    assert toy.commits_in(path) == commits
    toy.check_resumes(path, commits)


@pytest.mark.parametrize("limit", [2_000, 300_000])
def test_disk_full_for_copies(tmp_path, limit):
    """Where h5py writes a file by itself, it crashes the interpreter."""
    command = [sys.executable, SCRIPT, "copies", str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    said = [*done.stdout.splitlines(), *(line for line in done.stderr.splitlines() if line.startswith("gibbsformer"))]
    assert len(said) == 3
    assert all(f"cannot be written ({os.strerror(errno.EFBIG)}): look at" in line for line in said)
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "b.h5"]


class Failing:
    """``os`` with one operation that fails from its n-th call on."""

    def __init__(self, operation, n, number):
        self._operation, self._left, self._number = operation, n, number

    def __getattr__(self, name):
        real = getattr(os, name)
        if name == "fsync":
            real = lambda fd: None  # noqa: E731
        if name != self._operation:
            return real

        def call(*arguments):
            self._left -= 1
            if self._left < 0:
                raise OSError(self._number, os.strerror(self._number))
            return real(*arguments)

        return call


@pytest.mark.parametrize(
    ("operation", "number"),
    [
        ("pwrite", errno.ENOSPC),
        ("ftruncate", errno.ENOSPC),
        ("open", errno.ENOSPC),
        ("fsync", errno.EIO),
        ("rename", errno.EIO),
    ],
)
def test_every_operation_can_fail(toy, tmp_path, monkeypatch, operation, number):
    n = 0
    while True:
        path, commits = tmp_path / f"{n}.h5", 0
        stand_in = Failing(operation, n, number)
        for module in (journal, redo, files):
            monkeypatch.setattr(module, "os", stand_in)
        try:
            with toy.create(path) as file:
                for commit in (1, 2, 3):
                    toy.append(file, commit)
                    commits = commit
        except (OSError, ValueError) as error:
            message = str(error)
        else:
            return  # there are fewer operations than n
        assert os.strerror(number) in message
        stand_in = Failing(None, 0, 0)
        for module in (journal, redo, files):
            monkeypatch.setattr(module, "os", stand_in)
        if not path.exists():
            assert commits == 0
        else:
            found = toy.commits_in(path)
            assert found in (commits, commits + 1)  # the failed commit may have passed its commit point
            toy.check_resumes(path, found)
        n += 1 if operation != "pwrite" else 4


def test_a_failed_append_leaves_the_file_to_be_resumed(toy, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    with toy.create(path) as file:
        toy.append(file, 1)
        with pytest.raises(ValueError, match="every column: look at f"):
            file.append(toy.draws(2) | {"f": toy.draws(2)["f"][:, :1]}, toy.state(2), 20)
        toy.append(file, 2)  # nothing had been written
        with monkeypatch.context() as patch:
            stand_in = Failing("pwrite", 3, errno.ENOSPC)
            for module in (journal, redo, files):
                patch.setattr(module, "os", stand_in)
            with pytest.raises(OSError, match=r"takes no more draws \(No space left.*holds 6 of each chain") as caught:
                toy.append(file, 3)
            assert isinstance(caught.value, checks.InputError)  # which the command line prints, on one line
            assert "\n" not in str(caught.value)
        with pytest.raises(OSError, match="No space left"):
            toy.append(file, 3)
        assert (file.length, file.step) == (2 * toy.DRAWS, 20)
    toy.check_resumes(path, 2)


def test_a_fork_that_ends_leaves_the_file_alone(tmp_path):
    assert run("fork", tmp_path / "run.h5") == ["2"]


def test_a_file_left_open_is_whole(toy, tmp_path):
    path = tmp_path / "run.h5"
    file = toy.create(path)
    toy.append(file, 1)
    del file
    assert os.listdir(tmp_path) == ["run.h5"]
    with SampleFile.resume(path) as file:
        assert file.length == toy.DRAWS
