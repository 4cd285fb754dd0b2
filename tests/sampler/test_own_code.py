"""Kernels and targets of a user's own: one file each, found again by what a sample file says."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.sampler import kernels

KEY = jax.random.key(0)

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


@pytest.fixture
def own(monkeypatch):
    """The module of own code, importable by name."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import own_code

    return own_code


@pytest.fixture
def regression(own):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((9, 2))
    return own.Regression(x, x @ [1.0, -0.5] + 0.3 * rng.standard_normal(9), 0.25)


def test_a_kernel_is_one_file_and_one_line(own, small, monkeypatch, tmp_path):
    monkeypatch.setitem(kernels.KERNELS, "random_walk", own.RandomWalk)
    run = gf.sample(small.posterior, "random_walk", key=KEY, chains=2, warmup=3, draws=8, thin=40, progress=False)
    assert run.made.target == "marginal"
    assert run.stats["accepted"].max() <= 40  # summed over the transitions of a draw
    assert run.stats["accepted"].max() > 1


def test_an_importable_kernel_resumes_without_being_registered(own, small, tmp_path):
    kernel = own.RandomWalk(scale=0.2)
    options = {"key": KEY, "chains": 2, "warmup": 3, "progress": False}
    whole = gf.sample(small.posterior, kernel, draws=12, **options)
    path = tmp_path / "run.h5"
    gf.sample(small.posterior, kernel, draws=5, store=path, **options)
    resumed = gf.resume(path, 12, progress=False)
    np.testing.assert_array_equal(resumed.variables["U_1"], whole.variables["U_1"])
    assert resumed.made.kernel_class == "own_code:RandomWalk"


def test_a_kernel_that_cannot_be_imported_is_named(own, small, tmp_path, monkeypatch):
    path = tmp_path / "run.h5"
    gf.sample(
        small.posterior, own.RandomWalk(), key=KEY, chains=2, warmup=3, draws=5, store=path, progress=False
    )  # fmt: skip
    monkeypatch.delitem(sys.modules, "own_code")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(Path(__file__).parent)])
    assert gf.open(path).draws == 5
    with pytest.raises(ValueError, match=r"kernel='own_code:RandomWalk' cannot be imported .* Python path"):
        gf.resume(path, 9, progress=False)


def test_a_target_of_ones_own_has_driver_files_resume_monitor_and_convergence(regression, tmp_path):
    """Bayesian linear regression has a known posterior: mean and covariance of w."""
    path = tmp_path / "own.h5"
    options = {"key": KEY, "chains": 4, "warmup": 200, "progress": False, "test": (np.eye(2), np.zeros(2))}
    whole = gf.sample(regression, "nuts", draws=500, **options)
    gf.sample(regression, "nuts", draws=300, store=path, **options)
    run = gf.resume(path, 500, progress=False)
    np.testing.assert_array_equal(run.variables["w"], whole.variables["w"])
    assert run.monitored == ("norm",)
    assert list(gf.open(path).names("weight")) == ["w"]
    assert gf.diagnostics.convergence(run).rhat < 1.05
    assert list(run.summary().index) == ["norm"]
    precision = np.eye(2) + regression.x.T @ regression.x / regression.temperature
    mean = np.linalg.solve(precision, regression.x.T @ regression.y / regression.temperature)
    found = gf.diagnostics.moments(np.asarray(run.variables["w"]))
    assert np.all(found["ess_bulk"] > 400)
    assert np.all(np.abs(found["mean"] - mean) < 4 * found["mcse"])
    np.testing.assert_array_equal(run.variables["f"], run.variables["w"])  # the test inputs are unit vectors
    assert {"posterior", "posterior_predictive", "sample_stats"} <= set(run.datasets())


def test_weights_of_ones_own_target(regression):
    start = {"w": np.full((2, 2), 0.25)}
    run = gf.sample(regression, "nuts", key=KEY, chains=2, warmup=0, draws=1, init=start, progress=False)
    assert list(run.weights) == ["w"]
    with pytest.raises(ValueError, match="init has weights of shapes"):
        gf.sample(regression, "nuts", key=KEY, chains=2, init={"w": np.zeros(2)}, progress=False)
    with pytest.raises(ValueError, match="target='collapsed' is not known: use weights"):
        gf.sample(regression, "nuts", key=KEY, chains=2, init="collapsed", progress=False)


def test_a_kernel_may_have_an_option_called_space(own, small, tmp_path):
    """That name was an option of built-in kernels in files of schema 1 only."""
    made = gf.sampler.settings.RunSettings.from_stored(
        {"kernel": "own", "options": {"space": 3}, "target": "weights", "warmup": 1, "draws": 1, "chains": 1}
    )
    assert made.options == {"space": 3}


def test_what_a_target_lacks_is_said_in_one_line(regression, own):
    with pytest.raises(ValueError, match=r"'collapsed' needs a target with .*guided, which this posterior lacks"):
        gf.sample(regression, "collapsed", key=KEY)
    with pytest.raises(ValueError, match=r"run recorded .*w.* and no order parameters"):
        _ = gf.sample(regression, own.RandomWalk(), key=KEY, warmup=1, draws=1, progress=False).order_parameters


def test_an_undeclared_statistic_or_variable_is_named(own, small, monkeypatch):
    monkeypatch.setattr(own.RandomWalk, "statistics", {})
    with pytest.raises(ValueError, match="returns the statistic 'accepted', which it does not declare"):
        gf.sample(small.posterior, own.RandomWalk(scale=0.3), key=KEY, progress=False)
