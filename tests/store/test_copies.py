"""Merged files hold the chains of all parts, exported ones what was asked for; both open in other programs."""

import json
import os
import sys
import tracemalloc
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import xarray

from gibbsformer import cli
from gibbsformer.store import SampleFile, copies, export, merge, read, verify, writer
from gibbsformer.store.copies import DroppedDrawsWarning
from gibbsformer.store.reading import reading


@pytest.fixture
def parts(toy, tmp_path):
    """Two files of a run on two hosts, the second one commit further."""
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for part, path in enumerate(paths):
        with toy.create(path, chains=[2 * part, 2 * part + 1]) as file:
            for commit in range(1, 3 + part):
                values = toy.draws(commit, seed=part)
                file.append(values, toy.state(commit), commit)
    return paths


def test_merge_joins_chains_and_keeps_common_draws(toy, parts, tmp_path):
    out = tmp_path / "all.h5"
    with pytest.raises(ValueError, match=r"a\.h5 has 6 draws, so that 3 of 9 of b\.h5 would be dropped: resume it"):
        merge(parts, out)
    with pytest.warns(DroppedDrawsWarning, match=r"3 of 9 of b\.h5 are dropped"):
        merge(parts, out, shorten=True)
    contents = read(out)
    for name, column in toy.COLUMNS.items():
        stored = (contents.draws | contents.stats)[name]
        wanted = [np.concatenate([toy.draws(c, seed)[name] for c in (1, 2)], axis=1) for seed in (0, 1)]
        assert stored.dtype == column.dtype
        np.testing.assert_array_equal(stored, np.concatenate(wanted))
    assert (contents.settings["chains"], contents.settings["draws"]) == (4, 2 * toy.DRAWS)
    assert [part["file"] for part in contents.settings["merged_from"]] == ["a.h5", "b.h5"]
    np.testing.assert_array_equal(contents.constants["xi"], toy.CONSTANTS["constant_data"]["xi"][1])
    with xarray.open_datatree(out, engine="h5netcdf") as tree:
        assert tree["posterior"]["chain"].values.tolist() == [0, 1, 2, 3]
        assert tree["posterior"]["path_1"].values.tolist() == ["(1)", "(2)"]
    verify(out)
    with pytest.raises(ValueError, match="was merged and holds no sampler state: resume its parts"):
        SampleFile.resume(out)
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "all.h5", "b.h5"]


def test_a_small_loss_is_said_by_the_command_line(toy, tmp_path, capsys, monkeypatch):
    paths = [tmp_path / f"{i}.h5" for i in range(2)]
    for i, path in enumerate(paths):
        with toy.create(path, {"key_data": [0, i]}) as file:
            for commit in range(1, 12 - i):
                toy.append(file, commit)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")  # leaves the test's devices alone
    with warnings.catch_warnings():
        warnings.showwarning = lambda *said: print(warnings.formatwarning(*said[:4]), end="", file=sys.stderr)
        assert cli.main(["merge", *map(str, paths), "--out", str(tmp_path / "all.h5")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gibbsformer")]
    assert len(said) == 1
    assert "3 of 33 of 0.h5 are dropped, resume the shorter ones" in said[0]


def test_merge_numbers_chains_of_runs_with_other_keys(toy, tmp_path):
    paths = [tmp_path / f"{i}.h5" for i in range(3)]
    for i, path in enumerate(paths):
        with toy.create(path, {"key_data": [0, i], "device": f"cpu {i}", "created": str(i)}) as file:
            toy.append(file, 1)
    merge(paths, tmp_path / "all.h5")
    with reading(tmp_path / "all.h5") as file:
        assert file["posterior/chain"][()].tolist() == list(range(6))
        assert json.loads(file.attrs["settings"])["key_data"] == [[0, 0], [0, 1], [0, 2]]


def shares(toy, folder, name, processes, **settings):
    """Files of a distributed run of two chains a process."""
    paths = [folder / f"{name}.{process}of{processes}.h5" for process in range(processes)]
    for process, path in enumerate(paths):
        own = {"distributed": {"chains": 2 * processes, "process": process, "processes": processes}, "device": "cpu"}
        with toy.create(
            path, own | {"created": str(process)} | settings, chains=[2 * process, 2 * process + 1]
        ) as file:
            for commit in range(1, 3 + process):
                file.append(toy.draws(commit, seed=process), toy.state(commit), commit)
    return paths


def test_parts_of_a_distributed_run_give_the_file_of_one_process(toy, tmp_path):
    paths = shares(toy, tmp_path, "run", 3)
    merge([paths[2], paths[0], paths[1]], tmp_path / "all.h5", shorten=True)
    contents = read(tmp_path / "all.h5")
    with reading(tmp_path / "all.h5") as file:
        assert file["posterior/chain"][()].tolist() == list(range(6))
    for name, stored in (contents.draws | contents.stats).items():
        wanted = [np.concatenate([toy.draws(c, seed)[name] for c in (1, 2)], axis=1) for seed in range(3)]
        np.testing.assert_array_equal(stored, np.concatenate(wanted), err_msg=name)
    settings = contents.settings
    assert [part["file"] for part in settings.pop("merged_from")] == [path.name for path in paths]
    alone = {"kernel": "toy", "chains": 6, "key_data": [0, 0], "draws": 2 * toy.DRAWS, "device": "cpu"}
    assert settings == alone | {"created": ["0", "1", "2"]}


def test_merge_wants_all_parts_of_one_run(toy, tmp_path):
    run, four = shares(toy, tmp_path, "run", 2), shares(toy, tmp_path, "four", 4)
    other = shares(toy, tmp_path, "other", 2, key_data=[0, 1])
    lifted = shares(toy, tmp_path, "lifted", 2, lifted_from_draws=6)
    toy.create(tmp_path / "alone.h5", chains=[2, 3]).close()
    for paths, said in (
        (four[:3], r"lack part 3 of 4, counted from 0: give the files of all processes"),
        ([four[2], four[0]], r"lack part 1, 3 of 4"),
        ([run[0], run[0]], "lack part 1 of 2"),
        ([*run, run[0]], "both hold chain 0 of the same key"),
        ([run[0], other[1]], r"cannot be merged: key is \[0, 0\] in the first and \[0, 1\]"),
        ([run[0], four[1]], "cannot be merged: parts is 2 in the first and 4"),
        ([run[0], tmp_path / "alone.h5"], "cannot be merged: parts is 2 in the first and None"),
        (lifted, "merge the parts, lift then"),
    ):
        with pytest.raises(ValueError, match=said) as refused:
            merge(paths, tmp_path / "all.h5")
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "all.h5").exists()


def test_merge_refuses_what_does_not_fit(toy, parts, tmp_path):
    out, other = tmp_path / "all.h5", tmp_path / "other.h5"
    toy.create(other, {"kernel": "nuts"}, chains=[8, 9]).close()
    with pytest.raises(ValueError, match=r"cannot be merged: kernel is 'toy' in the first and 'nuts' in the second"):
        merge([parts[0], other], out)
    settings = read(parts[0]).settings
    y = {"y": (("example",), np.array([1.0, 7.0, 1.0]))}
    for columns, constants, message in (
        (toy.COLUMNS, toy.CONSTANTS | {"observed_data": y}, "observed_data/y is array"),
        ({n: c for n, c in toy.COLUMNS.items() if n != "V_0"}, toy.CONSTANTS, "variable V_0 is Column"),
    ):
        SampleFile.create(other, columns, toy.LABELS, constants, settings, [8, 9], overwrite=True).close()
        with pytest.raises(ValueError, match=message):
            merge([parts[0], other], out)
    with pytest.raises(ValueError, match="both hold chain 0 of the same key"):
        merge([parts[0], parts[0]], out)
    with pytest.raises(ValueError, match="give two files or more"):
        merge([parts[0]], out)
    with pytest.raises(ValueError, match="is one of the files to read"):
        merge(parts, parts[1], overwrite=True)
    with pytest.raises(ValueError, match=r"out='.*b.h5' exists"):
        merge([parts[0], other], parts[1])
    assert not out.exists()


def test_a_damaged_part_leaves_no_copy(toy, parts, tmp_path):
    content = parts[1].read_bytes()
    position = content.index(toy.draws(2, 1)["V_0"][0, 0].tobytes())
    parts[1].write_bytes(content[:position] + b"\0" + content[position + 1 :])
    for copy in (lambda out: merge(parts, out, shorten=True), lambda out: export(parts[1], out)):
        with pytest.raises(ValueError, match=r"b\.h5 is damaged"):
            copy(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "b.h5"]


def test_export_writes_what_was_asked_for(toy, parts, tmp_path):
    out = tmp_path / "part.nc"
    export(parts[1], out, variables=["V_0", "diverging"], thin=2, mantissa_bits=10, compression="gzip")
    exact = np.concatenate([toy.draws(c, 1)["V_0"] for c in (1, 2, 3)], axis=1)[:, ::2]
    with xarray.open_datatree(out, engine="h5netcdf") as tree:
        V = tree["posterior"]["V_0"]
        assert set(tree["posterior"].data_vars) == {"V_0"}
        assert tree["posterior"]["draw"].values.tolist() == [0, 2, 4, 6, 8]
        assert V.dims == ("chain", "draw", "width_1", "input")
        error = np.abs(V.values / exact - 1)
        assert 2.0**-12 < error.max() <= 2.0**-11  # half of the last bit kept
        assert tree["sample_stats"]["diverging"].dtype == bool
        assert json.loads(tree.attrs["settings"])["kernel"] == "toy"
    with pytest.raises(ValueError, match="not a sample file"):
        read(out)
    export(parts[1], tmp_path / "whole.nc")
    with xarray.open_datatree(tmp_path / "whole.nc", engine="h5netcdf") as tree:
        np.testing.assert_array_equal(tree["posterior"]["V_0"].values[:, ::2], exact)
        np.testing.assert_array_equal(tree["observed_data"]["y"].values, toy.CONSTANTS["observed_data"]["y"][1])
    assert out.stat().st_size < 0.6 * (tmp_path / "whole.nc").stat().st_size


def test_export_checks_its_arguments(parts, tmp_path):
    out = tmp_path / "out.nc"
    for options, message in {
        "variables": (["V0"], r"variables='V0' is not known: did you mean 'V_0'\?"),
        "thin": (0, "thin=0 must be a whole number, 1 or more"),
        "mantissa_bits": (0, "mantissa_bits=0 must be"),
        "compression": ("zstd", "compression='zstd' is not known"),
    }.items():
        with pytest.raises(ValueError, match=message[1]):
            export(parts[0], out, **{options: message[0]})
    with pytest.raises(ValueError, match="is one of the files to read"):
        export(parts[0], parts[0], overwrite=True)
    assert not out.exists()


def test_copies_look_for_room_first(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "os", SimpleNamespace(statvfs=lambda _: SimpleNamespace(f_bavail=1, f_frsize=4096)))
    for copy in (lambda out: merge(parts, out, shorten=True), lambda out: export(parts[1], out)):
        with pytest.raises(ValueError, match=r"out='.*' needs 0.0 GiB of disk in .*: use another disk"):
            copy(tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["a.h5", "b.h5"]


def test_copies_that_were_killed_are_cleared(parts, tmp_path):
    """What killed copies to the same name left goes; what belongs to others, or may be in use, stays."""
    old, young = tmp_path / f".all.h5.{'0' * 32}", tmp_path / f".all.h5.{'1' * 32}"
    others = [tmp_path / f".other.h5.{'0' * 32}", tmp_path / ".all.h5.backup"]
    for path in (old, young, *others, tmp_path / "all.h5.new"):
        path.write_bytes(b"left")
        os.utime(path, (0, 0))
    os.utime(young)
    merge(parts, tmp_path / "all.h5", shorten=True)
    assert sorted(os.listdir(tmp_path)) == sorted(["a.h5", "all.h5", "b.h5", young.name, *(p.name for p in others)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_to_nearest_even(dtype):
    rounded = copies._rounded(
        np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-12, np.nan, -np.inf, -0.0], dtype), 10
    )
    np.testing.assert_array_equal(rounded, np.array([1, 1 + 2.0**-9, 1, np.nan, -np.inf, -0.0], dtype))
    np.testing.assert_array_equal(copies._rounded(np.array([1 / 3], dtype), 60), np.array([1 / 3], dtype))


def test_copies_need_little_memory(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "_BLOCK_BYTES", 2**20)
    with toy.create(tmp_path / "run.h5") as file:
        large = {name: np.repeat(values, 400, axis=1) for name, values in toy.draws(1).items()}
        file.append(large, [], 1)
        with toy.create(tmp_path / "other.h5", {"key_data": [1, 1]}) as other:
            other.append(large, [], 1)
    assert large["V_0"].nbytes > 16 * 2**20
    for copy in (lambda: export(tmp_path / "run.h5", tmp_path / "out.nc"),
                 lambda: merge([tmp_path / "run.h5", tmp_path / "other.h5"], tmp_path / "all.h5")):  # fmt: skip
        tracemalloc.start()
        copy()
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
        tracemalloc.stop()
