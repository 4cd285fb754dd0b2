"""Sweeps in this process: every point once, failures apart, numbers that depend on nothing but the point."""

import json
import os

import h5py
import jax
import numpy as np
import pytest
import xarray as xr

import gibbsformer as gf
from gibbsformer import sweeps
from gibbsformer.__main__ import main
from gibbsformer.sweeps import compute as computing


@pytest.fixture(scope="module")
def swept(make_plan, tmp_path_factory):
    out = tmp_path_factory.mktemp("swept") / "out"
    return gf.sweep(make_plan(), out, progress=False)


def numbers(data: xr.Dataset) -> xr.Dataset:
    """A Dataset without what differs from run to run."""
    return data.drop_vars([name for name in data if str(name).startswith("seconds")])


def test_dataset_holds_what_direct_calls_give(swept, own_arrays):
    assert (swept.points, swept.computed, swept.failed) == (8, 8, ())
    data = gf.open_sweep(swept.folder)
    assert data.attrs == {"points": 8, "finished": 8}
    at = data.sel(task="own.npz", seed=1, paths="all", width=30, temperature=0.5)
    task = gf.tasks.load(own_arrays)
    solved = gf.theory.solve(task.posterior(30, 0.5))
    np.testing.assert_array_equal(at["U_1_theory"], solved.U[0])
    assert at["accuracy_theory"] == gf.accuracy(gf.predict(solved, task.test_inputs), task.test.y)
    samples = [gf.open(file) for file in (swept.folder / "samples").iterdir()]
    (run,) = (r for r in samples if (r.posterior.network.widths[0], r.settings["about"]["point"]["seed"]) == (30, 1))
    np.testing.assert_array_equal(at["U_1_exact"], run.order_parameters.U[0].mean((0, 1)))
    assert at["accuracy_exact"] == gf.accuracy(gf.predict(run, task.test_inputs), task.test.y)
    assert at["rhat_exact"] == gf.diagnostics.convergence(run).rhat
    assert len({r.settings["key_data"][0] for r in samples}) == 4  # no two points share a key


def test_finished_points_are_not_computed_again(swept, make_plan):
    times = {file: file.stat().st_mtime_ns for file in (swept.folder / "points").iterdir()}
    more = gf.sweep(make_plan(widths=[30, 3, 5]), swept.folder, progress=False)  # another order, one width more
    assert (more.points, more.computed) == (12, 4)
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    back = gf.sweep(make_plan(), swept.folder, progress=False)
    assert back.computed == 0
    assert back.open().sizes["width"] == 2


def test_order_does_not_matter_and_a_stopped_run_continues(swept, make_plan, tmp_path, monkeypatch):
    plan = make_plan(widths=[30, 3], seeds=[1, 0])
    stopped = []

    def stop_once(run):
        if not stopped:
            stopped.append(run.path)
            raise KeyboardInterrupt
        return gf.diagnostics.convergence(run)

    with monkeypatch.context() as patch:
        patch.setattr(computing, "convergence", stop_once)
        with pytest.raises(KeyboardInterrupt):
            gf.sweep(plan, tmp_path / "out", progress=False)
        index = json.loads((tmp_path / "out" / "index.json").read_text())
        assert sorted(entry["status"] for entry in index) == ["finished"] + ["missing"] * 7
        # as if killed in mid-run: the file ends after 8 draws
        (point,) = (p for p in gf.sweeps.plan.points(gf.sweeps.plan.checked(plan)) if p.id in stopped[0])
        (tmp_path / "out" / "samples" / f"{point.id}.h5").unlink()
        task = gf.tasks.load(point.file)
        run = gf.open(swept.folder / "samples" / f"{point.id}.h5")
        key = jax.random.wrap_key_data(np.asarray(run.settings["key_data"], np.uint32))
        gf.sample(task.posterior(point.settings["width"], 0.5), key=key, chains=2, warmup=10, draws=8, progress=False,
                  store=stopped[0], about={"point": point.settings})  # fmt: skip
        with h5py.File(stopped[0], "r+") as file:
            del file["sampler_state/description"]  # as of schema 2, where settings can be changed unnoticed
            file.attrs["schema_version"] = 2
            settings = json.loads(file.attrs["settings"]) | {"draws": 20}
            file.attrs["settings"], file.attrs["draws"] = json.dumps(settings), json.dumps(20)
            identity = file.attrs["uuid"]
    again = gf.sweep(plan, tmp_path / "out", progress=False)
    assert again.computed == 7
    with h5py.File(stopped[0]) as file:
        assert file.attrs["uuid"] == identity  # continued, not made anew
    xr.testing.assert_equal(
        numbers(again.open()).sortby(["width", "seed"]),
        numbers(gf.sweep(make_plan(), swept.folder, progress=False).open()),
    )


def test_a_failed_point_is_listed_and_tried_again(make_plan, tmp_path, monkeypatch):
    plan = make_plan(seeds=[0], paths=["all", ["(3)"]])
    plan["compute"].pop("collapsed")
    found = gf.sweep(plan, tmp_path, progress=False)
    assert (found.points, found.computed, len(found.failed)) == (4, 2, 2)
    assert "'(3)' is not known" in found.failed[0]["error"]
    assert found.failed[0]["settings"]["paths"] == ["(3)"]
    assert sweeps.failures(tmp_path) == list(found.failed)
    assert "! theory task=own.npz seed=0 paths=(3) width=3" in found.render()
    data = found.open()
    assert np.isnan(data["accuracy_theory"].sel(paths="(3)")).all()
    assert np.isfinite(data["accuracy_theory"].sel(paths="all")).all()

    def broken(posterior):
        raise MemoryError("no room")

    monkeypatch.setattr(gf.theory, "solve", broken)
    mended = plan | {"axes": plan["axes"] | {"paths": ["all", ["(1)"]]}}
    found = gf.sweep(mended, tmp_path, progress=False)
    assert [entry["error"] for entry in found.failed] == ["MemoryError: no room"] * 2
    monkeypatch.undo()
    assert not gf.sweep(mended, tmp_path, progress=False).failed


def test_heads_that_are_kept_leave_skip_connections():
    data = gf.PathInputs(np.random.default_rng(0).standard_normal((5, 3, 3, 2)), residual=(1.0, 0.0))
    posterior = gf.Posterior(gf.Network(3, (2, 2), (4, 4, 4), residual=(1.0, 0.0)), data, np.arange(5.0), 0.1)
    assert computing._path_names(posterior, {"heads": [[2], [1]]}) == ["(skip 1)", "(2 1)"]


@pytest.mark.parametrize("evidence", [False, pytest.param({"particles": 32, "repeats": 1}, marks=pytest.mark.slow)])
def test_weights_evidence_and_heads(make_plan, tmp_path, evidence):
    plan = make_plan(seeds=[0], widths=[3], theory=False, paths=[{"heads": [[2]]}], kernels=["gibbs"])
    plan["compute"] = {"weights": {"chains": 2, "warmup": 5, "draws": 20}, "evidence": evidence}
    found = gf.sweep(plan, tmp_path, progress=False, keep_samples=False)
    assert not found.failed
    assert not list((tmp_path / "samples").iterdir())
    data = found.open().squeeze()
    assert data["kernel"] == "gibbs"
    assert data["paths"] == "heads 2"
    assert data["path"] == "(2)"
    names = ("log_evidence", "log_evidence_error", "seconds_evidence") if evidence else ()
    for name in ("accuracy_weights", "U_a_weights", *names):
        assert np.isfinite(data[name]), name


def test_refusals(swept, make_plan, tmp_path, monkeypatch):
    def refused(said, *arguments, **options):
        with pytest.raises(ValueError, match=said) as raised:
            gf.sweep(*arguments, progress=False, **options)
        assert "\n" not in str(raised.value)

    refused("holds the sweep of another plan", make_plan(draws=21, theory=False), swept.folder)
    refused(r"8 points, more than limit=7: use limit=None \(--yes\)", make_plan(), tmp_path / "a", limit=7)
    refused("give one of them", make_plan(), tmp_path / "a", workers=2, scheduler="tcp://localhost:1")
    refused("gpus_per_point=1", make_plan(), tmp_path / "a", gpus_per_point=1)
    refused("worker_timeout=0", make_plan(), tmp_path / "a", worker_timeout=0)
    refused("workers=0", make_plan(), tmp_path / "a", workers=0)
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    refused("cannot be used as a directory", make_plan(), tmp_path / "file")
    with gf.core.lock.held(swept.folder / "plan.json"):
        refused(f"in use by process {os.getpid()}", make_plan(), swept.folder)
    with pytest.raises(ValueError, match="holds no sweep"):
        gf.open_sweep(tmp_path)
    damaged = tmp_path / "damaged"
    done = gf.sweep(make_plan(widths=[3], seeds=[0]) | {"compute": {"theory": True}}, damaged, progress=False)
    (file,) = (done.folder / "points").iterdir()
    file.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"cannot be read .*: run the sweep again"):
        done.open()


def test_plots(swept):
    data = swept.open()
    figure = sweeps.lines(data, "accuracy")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {"theory", "exact posterior", "GP limit"} < set(labels)
    shown = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(shown, data["accuracy_theory"].mean("seed").squeeze())
    figure = sweeps.heat_map(data, "U_a_exact")
    np.testing.assert_allclose(
        figure.axes[0].images[0].get_array(), data["U_a_exact"].mean("seed").squeeze().values[None]
    )
    for call, said in (
        (lambda: sweeps.lines(data, "acuracy"), "did you mean 'accuracy'"),
        (lambda: sweeps.lines(data, against="widht"), "did you mean 'width'"),
        (lambda: sweeps.heat_map(data, "accuracy_exakt"), "did you mean 'accuracy_exact'"),
        (lambda: sweeps.heat_map(data, "U_1_exact"), "choose one with path="),
        (lambda: sweeps.lines(data, task="hmm"), "choose one of"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_command_line(make_plan, own_arrays, tmp_path, capsys):
    path, out = tmp_path / "plan.toml", tmp_path / "out"
    path.write_text(
        f'[axes]\ntasks = ["{own_arrays}"]\nwidths = [3, 30]\ntemperatures = [0.5]\npaths = ["all", ["(3)"]]\n'
        "[compute]\ntheory = true\n"
    )
    assert main(["sweep", str(path), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "4 points: 2 computed now, 2 failed" in captured.out
    assert "4/4" in captured.err
    assert main(["sweep", str(path), "--out", str(out), "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    assert json.loads(captured.out)["computed"] == 0
    path.write_text("[axes]\nwidths = []\n[compute]\ntheory = true\n")
    assert main(["sweep", str(path), "--out", str(out)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "axes.widths=[] is empty" in captured.err
