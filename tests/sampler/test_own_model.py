"""Sampling a network of the user's own: exact where the posterior is known, and everything that a run offers."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.__main__ import main
from gibbsformer.models import own_keeping
from gibbsformer.models.network import forward, path_weights
from gibbsformer.reports import chains

KEY = jax.random.key(0)
OPTIONS = {"key": KEY, "chains": 4, "warmup": 12, "draws": 18, "chunk": 5, "progress": False}
FOLDER = Path(__file__).parents[1] / "models"
rng = np.random.default_rng(3)
X = rng.standard_normal((9, 3))
Y = X @ [1.0, -0.5, 0.2] + 0.3 * rng.standard_normal(9)
TEST = (rng.standard_normal((5, 3)), rng.standard_normal(5))

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


@pytest.fixture
def own(monkeypatch):
    """The module of own networks, importable by name."""
    monkeypatch.syspath_prepend(FOLDER)
    import own_networks

    return own_networks


def regression(**options):
    model = gf.Model(shapes={"w": (3,)}, variances=1.0, forward=lambda w, x: x @ w["w"], **options)
    return model.posterior(X, Y, 0.25)


def exact():
    """Mean and covariance of the weights of Bayesian linear regression."""
    precision = np.eye(3) + X.T @ X / 0.25
    return np.linalg.solve(precision, X.T @ Y / 0.25), np.linalg.inv(precision)


KERNELS = {
    "nuts": {"draws": 800},
    "hmc": {"draws": 1500},
    "chees": {"draws": 800, "chains": 8},
    "mala": {"draws": 1500, "thin": 8},
    "ghmc": {"draws": 1500, "chains": 64, "thin": 4},
    "adjusted_mclmc": {"draws": 1500},
    "mclmc": {"draws": 3000, "thin": 10},
    gf.SGLD(step_size=1e-3, batch_size=None): {"draws": 1500, "thin": 40},
    gf.SGHMC(step_size=1e-2, batch_size=8): {"draws": 1500, "thin": 20},
}
BIAS = {"mclmc": 0.02, "sgld": 0.02, "sghmc": 0.05}  # of unadjusted kernels at these steps, in standard deviations


@pytest.mark.parametrize(
    "kernel", [pytest.param(k, marks=[pytest.mark.slow] * (k != "nuts"), id=getattr(k, "name", k)) for k in KERNELS]
)
def test_linear_regression_has_its_posterior(kernel, estimate, optimised):
    with optimised():
        run = gf.sample(regression(), kernel, **({"warmup": 500} | {**OPTIONS, "warmup": 500, **KERNELS[kernel]}))
    mean, covariance = exact()
    w = np.asarray(run.variables["w"])
    first, second = estimate(w), estimate((w - mean)[..., :, None] * (w - mean)[..., None, :])
    sd = np.sqrt(np.diag(covariance))
    bias = BIAS.get(getattr(kernel, "name", kernel), 0.0)
    assert first.ess.min() > 400
    assert np.all(np.abs(first.mean - mean) < 4 * first.error + bias * sd)
    off = np.abs(second.mean - covariance.ravel())
    assert np.all(off < 4 * second.error + 2 * bias * np.outer(sd, sd).ravel())


def test_the_linear_network_by_hand_is_the_built_in_one_draw_for_draw(small):
    """The same weights, prior and function: the same random numbers give the same chains."""
    network, data = small.network, small.posterior.data
    model = gf.Model(
        shapes=network.weight_shapes,
        variances=dict(zip(network.weight_shapes, network.variances, strict=True)),
        forward=lambda w, xi: forward(path_weights(w), xi),
    )
    by_hand = model.posterior(data.flat, small.posterior.y, small.posterior.temperature)
    options = OPTIONS | {"target": "weights", "chains": 2}
    expected = gf.sample(small.posterior, gf.HMC(integration_steps=5), **options)
    found = gf.sample(by_hand, gf.HMC(integration_steps=5), **options)
    for name in network.weight_shapes:
        np.testing.assert_allclose(found.variables[name], expected.variables[name], rtol=1e-6)  # rounding, 30 draws on
    np.testing.assert_allclose(found.stats["lp"], expected.stats["lp"], rtol=1e-8)


def assert_equal(one, other, chains=slice(None)):
    for name in (*one.variables, *one.stats):
        a, b = (np.asarray({**run.variables, **run.stats}[name]) for run in (one, other))
        np.testing.assert_array_equal(a[chains], b, err_msg=name)


def test_a_stored_run_resumes_bit_for_bit(own, tmp_path, monkeypatch):
    """Of a module's function, of a lambda in this process, and of one that is handed over."""
    options = OPTIONS | {"test": TEST}
    named = own.model().posterior(X, Y, 0.25)
    whole = gf.sample(named, gf.HMC(integration_steps=4), **options)
    gf.sample(named, gf.HMC(integration_steps=4), **(options | {"draws": 7}), store=tmp_path / "named.h5")
    assert_equal(whole, gf.resume(tmp_path / "named.h5", 18, progress=False, chunk=5))

    nameless = own.model(lambda w, x: own.mlp(w, x))
    gf.sample(nameless.posterior(X, Y, 0.25), gf.HMC(integration_steps=4), **(options | {"draws": 7}),
              store=tmp_path / "nameless.h5")  # fmt: skip
    assert gf.resume(tmp_path / "nameless.h5", 9, progress=False, chunk=5).draws == 9
    monkeypatch.setattr(own_keeping, "_KNOWN", [])  # as in another process
    opened = gf.open(tmp_path / "nameless.h5")
    assert opened.monitored == ("norm", "training_error", "f_train")
    assert "a lambda" in json.dumps(opened.settings["model"])
    with pytest.raises(
        ValueError, match=r"forward is a lambda .*, which a file cannot hold: give model= to gf.open or"
    ):
        gf.resume(tmp_path / "nameless.h5", 18, progress=False)
    with pytest.raises(ValueError, match="forward is a lambda"):
        gf.predict(opened, X)
    assert gf.predict(opened, TEST[0]).mean.shape == (5,)  # which was recorded
    assert_equal(whole, gf.resume(tmp_path / "nameless.h5", 18, progress=False, chunk=5, model=own.model()))
    assert gf.predict(gf.open(tmp_path / "nameless.h5", model=own.model()), X).mean.shape == (9,)


@pytest.mark.slow
def test_a_model_is_for_files_of_models(small, tmp_path):
    gf.sample(small.posterior, "gibbs", **OPTIONS, store=tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"model is given, and .*a.h5 is of a Posterior: leave it out"):
        gf.open(tmp_path / "a.h5", model=regression().model)


def test_predictions_are_moments_of_f(tmp_path):
    posterior = regression()
    run = gf.sample(posterior, gf.HMC(integration_steps=5), **(OPTIONS | {"test": TEST, "draws": 150}))
    f = np.asarray(run.variables["w"]) @ TEST[0].T  # [chain, draw, Q]
    for found in (gf.predict(run, TEST[0]), gf.predict(run, TEST[0][:4])):  # recorded, and computed from the weights
        Q = len(found.mean)
        np.testing.assert_allclose(found.mean, f.mean((0, 1))[:Q], rtol=1e-10)
        np.testing.assert_allclose(found.variance, f.var((0, 1))[:Q], rtol=1e-10)
        assert found.blocks.shape == (32, Q)
        np.testing.assert_allclose(found.blocks[0], f[0, :18, :Q].mean(0), rtol=1e-10)
    assert gf.score(gf.predict(run, TEST[0]), TEST[1]).name == "r_squared"
    lean = gf.sample(posterior, gf.HMC(integration_steps=5), **(OPTIONS | {"test": TEST, "keep": "order_parameters"}))
    assert not lean.names("weight")
    assert gf.predict(lean, TEST[0]).mean.shape == (5,)
    with pytest.raises(
        ValueError, match="kept no weights, so that f is known on its own test inputs alone: give these"
    ):
        gf.predict(lean, X)
    for refused in (lambda: gf.head_scores(run), lambda: gf.alignment(run), lambda: gf.renormalized_kernel(run),
                    lambda: gf.compare(run, None), lambda: gf.lift(run, key=KEY), lambda: gf.finite_width(run, None),
                    lambda: gf.head_drops(run, gf.PathInputs(np.ones((2, 3, 2))), [1.0, 2]),
                    lambda: gf.heads.by_gradient(run, X, Y), lambda: gf.heads.by_leaving_out(run, X, Y),
                    lambda: gf.plot.accuracy(samples=run, test=TEST)):  # fmt: skip
        with pytest.raises(ValueError, match=r"needs the solvable network of a gf.Posterior, and posterior is a Model"):
            refused()
    with pytest.raises(ValueError, match="no order parameters, which only the solvable network"):
        _ = run.order_parameters


def test_several_outputs_are_recorded_scored_and_read_again(tmp_path):
    model = gf.Model(
        shapes={"W": (2, 3)},
        variances=1.0,
        forward=lambda w, x: x @ w["W"].T,
        observables=lambda w: {"products": w["W"] @ w["W"].T, "square": w["W"][:, :2]},
    )
    posterior = model.posterior(X, np.stack([Y, 2 * Y], 1), 0.25)
    test = (TEST[0], np.stack([TEST[1]] * 2, 1))
    run = gf.sample(posterior, gf.HMC(integration_steps=5), **(OPTIONS | {"test": test, "store": tmp_path / "m.h5"}))
    assert run.variables["f"].shape == (4, 18, 5, 2)
    assert run.variables["f_train"].shape == (4, 18, 8, 2)
    found = gf.predict(run, X[:4])
    expected = np.einsum("cdmi,qi->cdqm", np.asarray(run.variables["W"]), X[:4])
    np.testing.assert_allclose(found.mean, expected.mean((0, 1)), rtol=1e-10)
    assert found.blocks.shape == (32, 4, 2)
    rows = {row["entry"] for name in run.monitored for row in gf.diagnostics.findings.entries(run, name)}
    assert {"products[0, 1]", "square[1, 0]", "square[0, 1]", "f_train[8, 1]", "training_error"} <= rows
    assert "products[1, 0]" not in rows  # of a symmetric matrix once
    assert gf.open(tmp_path / "m.h5").test[1].shape == (5, 2)
    error = np.asarray(run.variables["training_error"])[0, 0]
    residual = X @ np.asarray(run.variables["W"])[0, 0].T - posterior.y
    np.testing.assert_allclose(error, np.mean(residual**2), rtol=1e-10)


def test_until_batches_and_given_weights():
    run = gf.sample(regression(), gf.HMC(integration_steps=5), **(OPTIONS | {"draws": 4000, "chunk": 200}),
                    until=gf.until(ess=150))  # fmt: skip
    assert run.draws < 4000
    assert run.settings["ended"] == "until"
    start = {"w": np.full((4, 3), 0.25)}
    run = gf.sample(regression(), gf.SGLD(step_size=1e-9, batch_size=2), **(OPTIONS | {"warmup": 0, "init": start}))
    np.testing.assert_allclose(run.variables["w"], 0.25, atol=1e-3)
    with pytest.raises(ValueError, match="batch_size=20 is more than the 9 examples"):
        gf.sample(regression(), gf.SGLD(batch_size=20), **OPTIONS)


def test_report_and_command_line(own, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    posterior = own.model().posterior(X, np.where(Y > 0, "up", "down"), 0.25)
    test = (TEST[0], np.where(TEST[1] > 0, "up", "down"))
    path = tmp_path / "run.h5"
    run = gf.sample(posterior, gf.HMC(integration_steps=5), **OPTIONS, store=path, test=test)
    page = gf.report(run, tmp_path / "run.html").read_text()
    for said in (
        "Monitored variables",
        "training_error",
        "f_train[8]",
        "norm",
        "Test accuracy",
        "ModelPosterior(",
        "hmc,",
    ):
        assert said in page
    assert "Head scores" not in page
    assert "large-N" not in page
    worst = chains.worst(run)
    assert len(worst) == 6
    entry = next(name for name in worst if str(name).startswith("f_train"))
    column = list(run.records.labels["train_example"]).index(int(str(entry)[8:-1]))
    np.testing.assert_array_equal(worst[entry], np.asarray(run.variables["f_train"])[:, :, column])
    for command in (["compare"], ["inspect"], ["resume", "--quiet"]):
        assert main([command[0], str(path), *command[1:]]) == 0
        shown = capsys.readouterr().out
        assert "own_networks:mlp" in shown or "training_error" in shown
    assert main(["compare", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"]["sampled"] == gf.accuracy(gf.predict(run, test[0]), test[1])
    assert [row["entry"] for row in found["monitored"]][:2] == ["norm", "training_error"]


@pytest.mark.slow
def test_chains_divide_over_processes(own, monkeypatch, tmp_path):
    """A share is the chains of the whole run, to the last bit."""
    options = OPTIONS | {"chains_at_once": 1}
    posterior = own.model().posterior(X, Y, 0.25)
    whole = gf.sample(posterior, gf.HMC(integration_steps=3), **options)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    part = gf.sample(posterior, gf.HMC(integration_steps=3), **options, distributed=True)
    assert_equal(whole, part, slice(2, 4))


@pytest.mark.slow
def test_an_mlp_has_the_moments_that_numpyro_finds(own, estimate, optimised):
    """NumPyro's NUTS on the same density: outputs for test inputs, their squares, and the observable."""
    import numpyro

    posterior = own.model().posterior(X, Y, 0.25)
    with optimised(), jax.enable_x64(True):
        run = gf.sample(posterior, "nuts", **(OPTIONS | {"warmup": 400, "draws": 1500, "test": TEST}))
        mcmc = numpyro.infer.MCMC(
            numpyro.infer.NUTS(posterior.numpyro_model), num_warmup=400, num_samples=1500, num_chains=4,
            chain_method="vectorized", progress_bar=False,
        )  # fmt: skip
        mcmc.run(jax.random.PRNGKey(5))
        theirs = mcmc.get_samples(group_by_chain=True)
        f = jax.vmap(jax.vmap(lambda w: own.mlp(w, TEST[0])))({name: theirs[name] for name in ("W", "a")})
    norm = (np.asarray(theirs["a"]) ** 2).sum(-1)
    ours = np.asarray(run.variables["f"])
    for one, other in ((ours, f), (ours**2, f**2), (run.variables["norm"], norm)):
        one, other = estimate(np.asarray(one)), estimate(np.asarray(other))
        assert min(one.ess.min(), other.ess.min()) > 400
        assert np.all(np.abs(one.mean - other.mean) < 4 * np.hypot(one.error, other.error))


SCRIPT = """
import sys, warnings, jax, numpy as np
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
if sys.argv[3:]:
    jax.distributed.initialize(sys.argv[3], 2, int(sys.argv[4]))
import gibbsformer as gf, own_networks
from gibbsformer.sampler.progress import Progress
warnings.simplefilter("ignore")
path, options = sys.argv[1], {"chunk": 3, "progress": False}
if not sys.argv[3:]:
    Progress.update = lambda self, chunk, report: print(chunk.start + chunk.length, flush=True)
try:
    gf.resume(path, **options)
except ValueError:
    x = np.random.default_rng(0).standard_normal((9, 3))
    posterior = own_networks.model().posterior(x, x[:, 0], 0.5)
    options |= {"distributed": True, "chains_at_once": 1} if sys.argv[3:] else {"chains_at_once": 1}
    kernel = gf.HMC(integration_steps=3)
    gf.sample(posterior, kernel, key=jax.random.key(3), chains=4, warmup=60, draws=600, store=path, **options)
"""


def start(path, cache, *more):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path), str(cache), *more]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")])}
    environment |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.parametrize("trials", [pytest.param(n, marks=pytest.mark.slow) for n in (5, 30)])
def test_killed_runs_resume_bit_for_bit(own, tmp_path, trials):
    """Sampling processes are killed at random moments, and what goes on after them is killed too."""
    cache, chance = tmp_path / "cache", random.Random(trials)
    whole = start(tmp_path / "whole.h5", cache)
    _, said = whole.communicate(timeout=240)
    assert whole.returncode == 0, said
    killed = files = 0
    while killed < trials:
        path = tmp_path / f"{files}.h5"
        process = start(path, cache)
        acknowledged = [int(process.stdout.readline() or 660)]
        time.sleep(chance.uniform(0.0, 0.3))
        process.kill()
        acknowledged += [int(line) for line in process.communicate()[0].splitlines()]
        killed += process.returncode == -signal.SIGKILL
        stored = gf.open(path)
        assert max(0, acknowledged[-1] - 60) <= stored.draws <= 600
        if stored.draws > 400 or killed == trials:
            last = start(path, cache)  # compiled as those before it
            _, said = last.communicate(timeout=240)
            assert last.returncode == 0, said
            assert_equal(gf.open(tmp_path / "whole.h5"), gf.open(path))
            files += 1


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(own, tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    started = [start(tmp_path / "run.h5", tmp_path / "cache", address, str(i)) for i in range(2)]
    started.append(start(tmp_path / "alone.h5", tmp_path / "cache"))
    try:
        said = [process.communicate(timeout=240)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0, 0], said
    gf.store.merge([tmp_path / f"run.{i}of2.h5" for i in range(2)], tmp_path / "merged.h5")
    assert_equal(gf.open(tmp_path / "alone.h5"), gf.open(tmp_path / "merged.h5"))
