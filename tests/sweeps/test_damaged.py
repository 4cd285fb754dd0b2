"""Folders of sweeps with something wrong in them: found before it is used, said in one line, computed again."""

import json
import os
import shutil
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import gibbsformer as gf
from gibbsformer.sweeps import compute as computing
from gibbsformer.sweeps import folder, result

OLD = next((Path(__file__).parents[1] / "data" / "points").iterdir())  # written before there were checksums


@pytest.fixture
def swept(make_plan, tmp_path):
    """A sweep of two theories, and its plan."""
    plan = make_plan(seeds=[0]) | {"compute": {"theory": True}}
    return gf.sweep(plan, tmp_path / "out", progress=False), plan


def files_of(swept):
    return sorted((swept.folder / "points").iterdir())


def refused(path):
    with pytest.raises(ValueError, match=r"cannot be read .*: run the sweep again") as raised:
        result.read(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_every_byte_counts(swept):
    path = files_of(swept[0])[0]
    content = bytearray(path.read_bytes())
    for place in [*range(0, len(content), 13), *range(len(content) - 60, len(content))]:
        changed = content.copy()
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        assert result.fault(path), place
        refused(path)
    for length in (0, 1, len(content) // 2, len(content) - 56, len(content) - 1):
        path.write_bytes(content[:length])
        assert result.fault(path), length
    path.write_bytes(content)
    assert result.fault(path) is None


def test_a_damaged_point_is_said_and_computed_again(swept, capsys):
    done, plan = swept
    before = done.open().drop_vars("seconds_theory")
    first, second = files_of(done)
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    with pytest.raises(ValueError, match="checksum mismatch"):
        done.open()
    again = gf.sweep(plan, done.folder, progress=False)
    assert (again.computed, again.failed) == (1, ())
    assert again.damaged == (f"{str(first)!r} cannot be read (checksum mismatch)",)
    assert f"! computed again: {again.damaged[0]}" in again.render().splitlines()
    xr.testing.assert_identical(again.open().drop_vars("seconds_theory"), before)
    assert gf.sweep(plan, done.folder, progress=False).damaged == ()
    # the result of another point under this name
    shutil.copy(second, first)
    with pytest.raises(ValueError, match=f"it is the result of point {second.stem}"):
        done.open()
    again = gf.sweep(plan, done.folder, progress=False)
    assert "it is the result of point" in again.damaged[0]
    xr.testing.assert_identical(again.open().drop_vars("seconds_theory"), before)


def test_old_points(tmp_path):
    """Files of version 1 are read, also under a damaged name; one of version 2 must have its checksum."""
    values, about = result.read(OLD)
    assert values["U_1"].shape == (2, 2)
    assert about["seconds"] > 0
    assert result.fault(OLD) is None
    other = tmp_path / f"{'0' * 20}.h5"
    shutil.copy(OLD, other)
    assert "those of another point" in refused(other)
    assert "those of another point" in result.fault(other)
    mine = tmp_path / OLD.name
    with h5py.File(OLD) as file:
        settings = json.loads(file.attrs["settings"])
    result.write(mine, settings, about, values)
    assert result.fault(mine) is None
    mine.write_bytes(mine.read_bytes()[:-55])
    assert "its checksum is missing" in refused(mine)


@pytest.mark.parametrize("kind", ["external link", "external storage", "huge", "text"])
def test_a_point_of_a_stranger(kind, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(4.0).tobytes())
    path = tmp_path / OLD.name
    shutil.copy(OLD, path)
    with h5py.File(path, "r+") as file:
        del file["U_1"]
        if kind == "external link":
            file["U_1"] = h5py.ExternalLink(str(OLD), "U_1")
        elif kind == "external storage":
            file.create_dataset("U_1", (2, 2), "f8", external=[(str(secret), 0, 32)])
        elif kind == "huge":
            file.create_dataset("U_1", (10**5, 10**5), "f8", chunks=(1000, 1000))
        else:
            file.attrs["about"] = "no JSON"
    refused(path)
    assert result.fault(path)
    path.write_bytes(sealed(path.read_bytes(), path.stem))  # a checksum does not make it a result
    refused(path)
    assert result.fault(path)


def sealed(content, identity):
    content += f"\ngibbsformer-point {identity} crc32 ".encode()
    return content + f"{zlib.crc32(content):08x}\n".encode()


@pytest.mark.parametrize("content", ["", '{"axes": {"wid', "[]", '{"axes": {}, "compute": {}}', "7"])
def test_a_damaged_plan_does_not_stop_its_sweep(content, swept, make_plan, tmp_path):
    done, plan = swept
    (done.folder / folder.PLAN).write_text(content)
    with pytest.raises(ValueError, match=r"damaged plan.json .*: run the sweep with its plan"):
        done.open()
    with pytest.raises(ValueError, match="holds the sweep of another plan"):
        gf.sweep(make_plan(temperatures=[0.7]) | {"compute": {"theory": True}}, done.folder, progress=False)
    assert gf.sweep(plan, done.folder, progress=False).computed == 0
    assert done.open().attrs["finished"] == 2


def test_plan_index_and_results_are_on_disk_before_they_have_their_names(make_plan, tmp_path, monkeypatch):
    """fsync of the file, its name, fsync of the folder; else a power loss could leave an empty file."""
    done = []

    class Noting:
        def __getattr__(self, name):
            return getattr(os, name)

        def fsync(self, fd):
            done.append(("fsync", os.readlink(f"/proc/self/fd/{fd}")))

        def rename(self, old, new):
            done.append(("rename", str(old), str(new)))
            os.rename(old, new)

    monkeypatch.setattr(gf.core.files, "os", Noting())
    plan = make_plan(seeds=[0], widths=[3]) | {"compute": {"theory": True}}
    out = gf.sweep(plan, tmp_path / "out", progress=False).folder
    renamed = [i for i, each in enumerate(done) if each[0] == "rename"]
    assert {Path(done[i][2]).name for i in renamed} > {folder.PLAN, folder.INDEX}
    assert len(renamed) == 4  # the index twice
    for i in renamed:
        _, old, new = done[i]
        assert Path(new).is_relative_to(out)
        assert (done[i - 1], done[i + 1]) == (("fsync", old), ("fsync", str(Path(new).parent)))


@pytest.mark.parametrize("content", ["", "[1, 2]", "7", '[{"id": "a"}]', "{}"])
def test_a_damaged_index_is_made_again(content, swept):
    done, plan = swept
    (done.folder / folder.INDEX).write_text(content)
    assert gf.sweeps.failures(done.folder) == []
    assert gf.sweep(plan, done.folder, progress=False).computed == 0
    assert len(json.loads((done.folder / folder.INDEX).read_text())) == 2


def test_arrays_that_change_during_a_sweep(own_arrays, tmp_path, monkeypatch):
    """What was read is what the point is named after."""
    own = tmp_path / "own.npz"
    shutil.copy(own_arrays, own)
    with np.load(own) as arrays:
        changed = dict(arrays) | {"y": -arrays["y"]}
    plan = {"axes": {"tasks": [str(own)], "widths": [3, 30], "temperatures": [0.5]}, "compute": {"theory": True}}
    computing._task.cache_clear()
    load = gf.tasks.load

    def changed_before(path):
        np.savez(path, **changed)
        return load(path)

    monkeypatch.setattr(computing.tasks, "load", changed_before)
    swept = gf.sweep(plan, tmp_path / "out", progress=False)
    assert swept.computed == 0
    assert all("has changed since the sweep began: run it again" in entry["error"] for entry in swept.failed)
    monkeypatch.undo()
    again = gf.sweep(plan, tmp_path / "again", progress=False)
    assert (again.computed, again.failed) == (2, ())


def test_a_network_that_changes_is_another_task(tmp_path):
    network = tmp_path / "net.safetensors"
    axes = {"tasks": [{"name": "one-shot", "network": str(network)}], "widths": [3]}
    plan = {"axes": axes, "compute": {"theory": True}}
    with pytest.raises(ValueError, match=r"tasks\[0\].network=.* does not exist"):
        gf.sweep(plan, tmp_path / "out", progress=False)
    ids = []
    for content in (b"one", b"two"):
        network.write_bytes(content)
        ids += [point.id for point in gf.sweeps.plan.points(gf.sweeps.plan.checked(plan))]
    assert ids[0] != ids[1]


def test_files_are_relative_to_the_plan(own_arrays, tmp_path, monkeypatch):
    (tmp_path / "study" / "data").mkdir(parents=True)
    shutil.copy(own_arrays, tmp_path / "study" / "data" / "own.npz")
    plan = tmp_path / "study" / "plan.toml"
    plan.write_text('[axes]\ntasks = ["data/own.npz"]\nwidths = [3]\ntemperatures = [0.5]\n[compute]\ntheory = true\n')
    monkeypatch.chdir(tmp_path)
    assert gf.sweep("study/plan.toml", "out", progress=False).computed == 1
    as_dict = {"axes": {"tasks": ["data/own.npz"], "widths": [3]}, "compute": {"theory": True}}
    with pytest.raises(ValueError, match=r"'data/own.npz' does not exist"):
        gf.sweep(as_dict, "out", progress=False)
    os.chdir("study")
    assert gf.sweep("plan.toml", "../out", progress=False).computed == 0


def test_what_killed_processes_left_is_removed(swept):
    """Locks that nobody holds, and temporary files that have not grown for an hour; nothing else."""
    done, plan = swept
    samples, points = done.folder / "samples", done.folder / "points"
    left = [samples / "dead.h5.lock", points / f".a.h5.{'0' * 32}", done.folder / f".plan.json.{'a' * 32}"]
    kept = [points / f".b.h5.{'1' * 32}", points / ".mine", samples / "busy.h5.lock", samples / "link.h5.lock"]
    for path in (*left, *kept[:2]):
        path.write_text("process 1 on nowhere")
    kept[3].symlink_to(kept[1])
    for path in (*left, kept[1]):
        os.utime(path, (0, 0))
    with gf.core.lock.held(samples / "busy.h5"):
        gf.sweep(plan, done.folder, progress=False)
        assert not any(path.exists() for path in left)
        assert all(path.exists() for path in kept)
    assert kept[1].read_text() == "process 1 on nowhere"
    page = done.folder / "page.html"
    leftover = done.folder / f".page.html.{'0' * 32}"
    leftover.touch()
    os.utime(leftover, (0, 0))
    gf.report(done.folder, page)
    assert not leftover.exists()
