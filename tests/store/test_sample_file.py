"""Sample files: what is written is what is read, by us, by ArviZ and by xarray, also while the file grows."""

import json

import h5py
import jax
import numpy as np
import pytest
import xarray as xr

import gibbsformer as gf
from gibbsformer.store import Column, LazyArray, SampleFile, read

OPTIONS = {
    "kernel": gf.HMC(integration_steps=3, target_acceptance=0.95, initial_step_size=0.05),
    "key": jax.random.key(3), "chains": 2, "warmup": 20, "draws": 12, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def stored(make_small, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "run.h5"
    small = make_small()
    run = gf.sample(small.posterior, store=path, about={"note": "plain"}, test=small.test, **OPTIONS)
    return small, run, path


def test_open_restores_the_problem(stored):
    small, _run, path = stored
    again = gf.open(path)
    assert again.posterior.network == small.posterior.network
    assert again.posterior.temperature == small.posterior.temperature
    np.testing.assert_array_equal(again.posterior.data.xi, small.posterior.data.xi)
    np.testing.assert_array_equal(again.posterior.y, small.posterior.y)
    assert again.posterior.data.path_names == small.posterior.data.path_names
    np.testing.assert_array_equal(again.test[0].xi, small.test[0].xi)
    assert again.settings["about"] == {"note": "plain"}
    assert again.settings["kernel"] == "hmc"
    assert again.settings["precision"] == "float64"
    assert (again.chains, again.draws) == (2, 12)
    assert gf.theory.solve(again.posterior).U_a == gf.theory.solve(small.posterior).U_a


def test_arrays_are_lazy(stored):
    _, run, _ = stored
    V = run.weights["V_1"]
    assert isinstance(V, LazyArray)
    np.testing.assert_array_equal(V[1, 3], np.asarray(V)[1, 3])
    np.testing.assert_array_equal(V[:, 2:5, 0], np.asarray(V)[:, 2:5, 0])
    assert V.shape[:2] == (2, 12)


def test_xarray_opens_it_with_named_axes(stored):
    small, run, path = stored
    tree = xr.open_datatree(path, engine="h5netcdf")
    posterior = tree["posterior"]
    assert posterior["U_1"].dims == ("chain", "draw", "path_1", "path_1_prime")
    assert posterior["path_1"].values.tolist() == list(small.posterior.data.path_names)
    np.testing.assert_array_equal(posterior["U_1"].values, np.asarray(run.variables["U_1"]))
    np.testing.assert_array_equal(tree["posterior_predictive"]["f"].values, np.asarray(run.variables["f"]))
    assert tree["sample_stats"]["diverging"].dtype == bool
    np.testing.assert_array_equal(tree["observed_data"]["y"].values, small.posterior.y)
    tree.close()


def test_arviz_opens_it(stored):
    import arviz

    _, run, path = stored
    data = arviz.from_netcdf(str(path))
    np.testing.assert_array_equal(data["posterior"]["U_a"].values, np.asarray(run.variables["U_a"]))
    assert run.to_arviz()["posterior"]["U_1"].shape == run.variables["U_1"].shape


def test_in_memory_run_becomes_arviz_with_the_same_names(stored):
    small, _run, path = stored
    memory = gf.sample(small.posterior, test=small.test, **OPTIONS)
    groups = memory.to_arviz()
    for group in ("posterior", "posterior_predictive", "sample_stats"):
        ours = groups[group]
        with xr.open_dataset(path, group=group, engine="h5netcdf") as theirs:
            assert set(ours.data_vars) == set(theirs.data_vars)
            for name in theirs.data_vars:
                assert ours[name].dims == theirs[name].dims
                np.testing.assert_array_equal(ours[name].values, theirs[name].values)
    assert "U_1[(1 1), (1 1)]" in memory.summary().index


def test_file_can_be_read_while_it_grows(tmp_path):
    path = tmp_path / "grows.h5"
    columns = {
        "U_1": Column("posterior", ("path_1", "path_1_prime"), (1, 1), np.float64),
        "lp": Column("sample_stats", (), (), np.float64),
    }
    labels = {name: np.array(["only"], dtype=object) for name in ("path_1", "path_1_prime")}
    constants = {
        "constant_data": {"xi": (("example", "input"), np.ones((2, 3)))},
        "observed_data": {"y": (("example",), np.ones(2))},
    }
    values = {"U_1": np.arange(6.0).reshape(2, 3, 1, 1), "lp": np.zeros((2, 3))}
    with SampleFile.create(path, columns, labels, constants, {"any": 1}, chains=2) as file:
        for step in range(1, 4):
            file.append(values, [np.array(step), np.arange(4.0)], step)
        with pytest.raises(ValueError, match="same number of draws"):
            file.append({"U_1": values["U_1"], "lp": np.zeros((2, 2))}, [], 4)
    contents = read(path)
    assert contents.step == 3
    assert contents.settings == {"any": 1}
    np.testing.assert_array_equal(contents.draws["U_1"][:, 6:], values["U_1"])
    assert not list(tmp_path.glob("*.new"))


def test_file_says_how_it_was_made(stored):
    _, _, path = stored
    with h5py.File(path) as file:
        settings = json.loads(file.attrs["settings"])
        assert file.attrs["schema"] == "gibbsformer-samples"
        assert file["sampler_state"].attrs["step"] == 32
        assert len(file["posterior/draw"]) == 12
    assert set(settings["versions"]) >= {"gibbsformer", "jax", "blackjax", "numpyro"}
    assert settings["key_data"] == [0, 3]
    assert settings["created"][:2] == "20"


def test_weights_can_be_left_out(stored, tmp_path):
    small, _, _ = stored
    run = gf.sample(small.posterior, keep="order_parameters", store=tmp_path / "lean.h5", test=small.test, **OPTIONS)
    assert "V_0" not in run.variables
    assert gf.predict(run, small.test[0]).mean.shape == (len(small.test[1]),)
    with pytest.raises(ValueError, match="keep='weights'"):
        _ = run.weights
