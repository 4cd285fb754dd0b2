"""A crash after every single operation on the file system: the file is whole, at its last commit, and goes on.

The last commit is the last one acknowledged, or the one in flight. Crashes are kills, which keep what was written, and
power losses, which keep what was synced and any part of the rest.
"""

import fcntl
import os
from types import SimpleNamespace

import numpy as np
import pytest

from gibbsformer.core import files
from gibbsformer.store import SampleFile, journal, read, redo

COMMITS = 3


class _NoWaiting:
    """``os`` whose fsync returns at once: these tests read what they wrote through the same machine."""

    fsync = staticmethod(lambda fd: None)

    def __getattr__(self, name):
        return getattr(os, name)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    stand_in = _NoWaiting()
    for module in (journal, redo, files):
        monkeypatch.setattr(module, "os", stand_in)


@pytest.fixture(scope="module")
def recorded(toy, crash, tmp_path_factory):
    """Operations of a run of a few commits, one of them made while a reader was in the way."""
    folder = tmp_path_factory.mktemp("recorded")
    recorder = crash.Recorder(folder)
    with pytest.MonkeyPatch.context() as patch:
        for module in (journal, redo, files):
            patch.setattr(module, "os", recorder)
        with toy.create(folder / "run.h5") as file:
            recorder.note("acknowledged", 0)
            for commit in range(1, COMMITS + 1):
                with open(folder / "run.h5") as reader:
                    if commit == 2:
                        fcntl.flock(reader, fcntl.LOCK_SH)
                    toy.append(file, commit)
                recorder.note("acknowledged", commit)
    return recorder


def crashes(crash, before, operations):
    """(number of operations, folder then, last acknowledged commit) for every prefix; some writes also half done."""
    folder, acknowledged = crash.Folder(before), None
    yield 0, folder, acknowledged
    for i, operation in enumerate(operations, 1):
        if operation[0] == "acknowledged":
            acknowledged = operation[1]
            continue
        if operation[0] == "write" and i % 4 == 0 and len(operation[3]) > 1:
            kind, file, where, data = operation
            folder.play((kind, file, where, data[: len(data) // 2]))
            yield i, folder, acknowledged
        folder.play(operation)
        yield i, folder, acknowledged


def check(toy, folder, acknowledged, resume_first: bool) -> None:
    path = folder / "run.h5"
    if not path.exists():
        assert acknowledged is None
        with pytest.raises(ValueError, match="does not exist"):
            read(path)
        with toy.create(path) as file:
            toy.append(file, 1)
        assert toy.commits_in(path) == 1
        return
    if resume_first:
        with SampleFile.resume(path) as file:
            commits = file.length // toy.DRAWS
    else:
        commits = toy.commits_in(path)
    assert commits in ([0] if acknowledged is None else [acknowledged, acknowledged + 1])
    toy.check_resumes(path, commits)
    assert not [name for name in os.listdir(folder) if name != "run.h5"]


def test_kill_after_every_operation(toy, crash, recorded, tmp_path):
    assert len(recorded.operations) > 120
    for i, folder, acknowledged in crashes(crash, recorded.before, recorded.operations):
        folder.write(tmp_path / "killed")
        check(toy, tmp_path / "killed", acknowledged, i % 2 == 0)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_power_loss_after_every_operation(toy, crash, recorded, tmp_path, seed):
    rng = np.random.default_rng(seed)
    for i, folder, acknowledged in crashes(crash, recorded.before, recorded.operations):
        folder.write_after_power_loss(tmp_path / "lost", rng)
        check(toy, tmp_path / "lost", acknowledged, i % 2 == 0)


def test_the_model_of_power_loss_notices_a_missing_fsync(toy, crash, recorded, tmp_path):
    """Each fsync is needed: without those of one kind, some crash loses or damages an acknowledged commit."""
    rng = np.random.default_rng(5)
    kinds = {
        "data": lambda name: name.startswith("run.h5.new"),
        "journal": lambda name: name.startswith("run.h5.journal"),
        "folder": lambda name: name == "folder",
    }
    for kind, matches in kinds.items():
        left = [op for op in recorded.operations if not (op[0] == "fsync" and matches(op[1]))]
        with pytest.raises((AssertionError, ValueError)):
            _lose_power(toy, crashes(crash, recorded.before, left), tmp_path / kind, rng)


def _lose_power(toy, moments, folder, rng):
    for _, state, acknowledged in moments:
        if acknowledged is not None:
            state.write_after_power_loss(folder, rng)
            assert toy.commits_in(folder / "run.h5") >= acknowledged


def interrupted(crash, recorded):
    """Folders in which a commit is due, one for each journal, with it partly applied."""
    folder, acknowledged, found = crash.Folder(recorded.before), None, []
    for operation in recorded.operations:
        acknowledged = operation[1] if operation[0] == "acknowledged" else acknowledged
        folder.play(operation)
        if "run.h5.journal" in folder.names and operation[0] == "write" and operation[1].startswith("run.h5.new"):
            contents = {name: bytes(folder.files[file]) for name, file in folder.names.items()}
            found.append(SimpleNamespace(contents=contents, acknowledged=acknowledged))
    return found


@pytest.mark.slow
def test_crash_inside_recovery(toy, crash, recorded, tmp_path):
    rng = np.random.default_rng(6)
    cases = interrupted(crash, recorded)
    assert len(cases) >= 4
    for case in cases[:: len(cases) // 3]:
        folder = tmp_path / "recovered"
        crash.Folder(case.contents).write(folder)
        recorder = crash.Recorder(folder)
        with pytest.MonkeyPatch.context() as patch:
            for module in (journal, redo, files):
                patch.setattr(module, "os", recorder)
            SampleFile.resume(folder / "run.h5").close()
        assert any(op[0] == "write" for op in recorder.operations)
        for i, again, _ in crashes(crash, recorder.before, recorder.operations):
            again.write(folder)
            check(toy, folder, case.acknowledged, i % 2 == 0)
            again.write_after_power_loss(folder, rng)
            check(toy, folder, case.acknowledged, i % 2 == 1)


def test_recovery_while_a_reader_holds_the_file(toy, crash, recorded, tmp_path):
    folder = tmp_path / "held"
    cases = interrupted(crash, recorded)
    for case in cases[:: len(cases) // 4]:
        crash.Folder(case.contents).write(folder)
        with open(folder / "run.h5", "rb") as reader:
            fcntl.flock(reader, fcntl.LOCK_SH)
            commits = toy.commits_in(folder / "run.h5")
            assert commits in (case.acknowledged, case.acknowledged + 1)
            assert reader.read() == case.contents["run.h5"]  # nothing changed under the reader
            toy.check_resumes(folder / "run.h5", commits)
            reader.seek(0)
            assert reader.read(len(case.contents["run.h5"])) == case.contents["run.h5"]
        check(toy, folder, commits + 1, False)
