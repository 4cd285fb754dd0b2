"""When runs end and what is said about them: until, Ctrl-C, thinning, verdicts, running diagnostics."""

import itertools
import json
import os
import signal
import warnings

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.sampler import driver
from gibbsformer.sampler.convergence import rhat_limit
from gibbsformer.sampler.monitor import Monitor, next_look
from gibbsformer.sampler.progress import Progress

KEY = jax.random.key(5)


def sample(small, kernel="gibbs", **options):
    options = {"key": KEY, "chains": 2, "warmup": 5, "draws": 30, "chunk": 7, "progress": False} | options
    return gf.sample(small.posterior, kernel, **options)


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.ConvergenceWarning)
        return function(*arguments, **options)


def draws(n):
    rng = np.random.default_rng(1)
    x = np.zeros((4, n))
    noise = rng.standard_normal((4, n))
    for t in range(1, n):
        x[:, t] = 0.8 * x[:, t - 1] + noise[:, t]
    return x


@pytest.mark.parametrize("n", [500, 30_000])
def test_running_diagnostics_agree_with_those_of_all_draws(n):
    """30,000 draws are held as batch means: their ESS estimates the same number, within the noise of either (5 %)."""
    x = draws(n)
    monitor = Monitor(4)
    for part in np.array_split(x, n // 97, axis=1):
        monitor._judged_at = monitor._judged_draws = 0  # judge every time
        report = monitor.add({"U_a": part}, {})
    found = gf.diagnostics.moments(x)
    assert report.draws == n
    np.testing.assert_allclose(report.ess, found["ess_bulk"], rtol=1e-9 if n < 2048 else 0.15)
    np.testing.assert_allclose(report.rhat, found["rhat"], rtol=1e-9 if n < 2048 else 2e-3)
    assert monitor._series.nbytes + monitor._rest.nbytes < 4 * 2100 * 8


def test_draws_that_come_one_by_one_after_many():
    """Fewer than make a batch, none waiting."""
    U = np.random.default_rng(0).standard_normal((2, 4100, 3))
    monitor = Monitor(2)
    for part in (U[:, :4096], *np.split(U[:, 4096:], 4, axis=1)):
        report = monitor.add({"U_a": part}, {}, last=part.shape[1] == 1)
    assert report.draws == 4100
    whole = Monitor(2).add({"U_a": U}, {}, last=True)
    np.testing.assert_allclose(report.rhat, whole.rhat, rtol=1e-3)


def test_until_stops_as_soon_as_ess_and_rhat_are_good(small):
    run = quiet(sample, small, "gibbs", draws=20_000, until=gf.until(ess=200, rhat=1.1))
    assert 50 <= run.draws < 20_000
    assert run.summary()["ess_bulk"].min() >= 190  # the summary rounds; the running value was at least 200


def test_where_until_stops_does_not_depend_on_the_clock(small, monkeypatch):
    """The same key stops at the same draw however fast the machine is, and however long its chunks are."""
    options = {"draws": 5000, "until": gf.until(ess=150)}
    whole = quiet(sample, small, chunk=64, **options)
    assert whole.settings["ended"] == "until"
    for share in (1e9, 1e-9):
        monkeypatch.setattr("gibbsformer.sampler.monitor._SHARE", share)  # how often it judges for the bar
        run = quiet(sample, small, **options)
        assert run.draws == whole.draws
        np.testing.assert_array_equal(run.variables["U_1"], whole.variables["U_1"])


def test_looks_are_frequent_and_few():
    looks = [next_look(0)]
    while looks[-1] < 100_000:
        looks.append(next_look(looks[-1]))
    assert looks[:4] == [8, 10, 12, 14]
    assert all(b <= max(a + 2, 1.1 * a) for a, b in itertools.pairwise(looks))
    assert len(looks) < 100


@pytest.mark.slow
def test_time_covers_the_start_and_a_run_without_draws_says_so(small, tmp_path):
    with pytest.warns(gf.ConvergenceWarning, match="the time was over before the first draw: continue with gf.resume"):
        run = sample(small, warmup=10**6, until=gf.until(seconds=1e-6), store=tmp_path / "run.h5", test=small.test)
    assert run.draws == 0
    for use in (
        lambda: gf.predict(run, small.test[0]), lambda: gf.head_scores(run), lambda: gf.diagnostics.convergence(run),
        lambda: gf.compare(run, gf.theory.solve(run.posterior)), lambda: gf.alignment(run),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"the run has no draws: continue it with gf.resume"):
            use()


def test_time_budget_and_store(small, tmp_path):
    sample(small, draws=2, test=small.test)  # compiled before the clock starts
    run = quiet(sample, small, draws=10**6, until=gf.until(seconds=2), store=tmp_path / "run.h5", test=small.test)
    assert run.settings["ended"] == "time"
    assert 1 <= run.draws < 10**6
    assert all(values.shape[1] == run.draws for values in (*run.variables.values(), *run.stats.values()))


def test_stored_report_is_that_of_all_draws(small, tmp_path):
    run = quiet(sample, small, draws=120, store=tmp_path / "run.h5")
    report, verdict = run.settings["report"], gf.diagnostics.convergence(run)
    assert report["draws"] == 120
    # the file holds the same float64 draws, so the numbers are the same to rounding
    np.testing.assert_allclose([report["rhat"], report["ess"]], [verdict.rhat, verdict.ess_bulk], rtol=1e-9)


@pytest.fixture
def signalled(monkeypatch):
    """number -> the process gets this signal when its third chunk is shown."""

    def arrange(number):
        shown, update = [0], Progress.update

        def after_three(self, chunk, report):
            update(self, chunk, report)
            shown[0] += 1
            if shown[0] == 3:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Progress, "update", after_three)

    return arrange


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_finish_the_chunk_and_return_what_there_is(small, tmp_path, signalled, number):
    before = signal.signal(number, signal.default_int_handler)  # a background job starts with SIGINT ignored
    signalled(number)
    with pytest.warns(UserWarning, match=r"interrupted after \d+ of 1000000 draws.*gf.resume"):
        run = quiet_only_convergence(sample, small, draws=10**6, store=tmp_path / "run.h5")
    assert 3 * 7 - 5 <= run.draws <= 5 * 7 - 5
    assert signal.signal(number, before) is signal.default_int_handler


def test_an_ignored_signal_stays_ignored(small, signalled):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signalled(signal.SIGHUP)
    try:
        run = quiet(sample, small)
        assert run.settings["ended"] is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def quiet_only_convergence(function, *arguments, **options):
    warnings.simplefilter("ignore", gf.ConvergenceWarning)
    return function(*arguments, **options)


def test_thinning_keeps_every_so_many_transitions_of_the_same_chain(small):
    kernel = gf.HMC(integration_steps=3, initial_step_size=0.1)
    every = quiet(sample, small, kernel, warmup=0, draws=12)
    third = quiet(sample, small, kernel, warmup=0, draws=4, thin=3)
    np.testing.assert_allclose(third.order_parameters.U[0], every.order_parameters.U[0][:, 2::3], rtol=1e-9)
    steps = np.asarray(every.stats["n_steps"]).reshape(2, 4, 3).sum(2)
    np.testing.assert_array_equal(third.stats["n_steps"], steps)


@pytest.mark.slow
def test_chains_in_turns_draw_the_same(small):
    together = quiet(sample, small, "hmc", chains=4, draws=5)
    turns = quiet(sample, small, "hmc", chains=4, draws=5, chains_at_once=3)
    np.testing.assert_allclose(turns.order_parameters.U_a, together.order_parameters.U_a, rtol=1e-6)


@pytest.mark.slow
def test_chains_beyond_memory_take_turns(small, monkeypatch):
    options = {"chains": 64, "keep": "order_parameters", "draws": 3}
    whole = quiet(sample, small, "hmc", **options)
    assert whole.settings["chains_at_once"] is None
    answers = iter([(10.0, 4.0)])  # of the program of all chains; those of fewer fit
    monkeypatch.setattr(driver, "_memory", lambda program: next(answers, (3.0, 4.0)))
    run = quiet(sample, small, "hmc", **options)
    assert run.settings["chains_at_once"] == 16
    np.testing.assert_allclose(run.order_parameters.U_a, whole.order_parameters.U_a, rtol=1e-6)
    monkeypatch.setattr(driver, "_memory", lambda program: (10.0, 4.0))
    with pytest.raises(ValueError, match=r"chains=64 need .* GiB .* about 24 fit, use chains_at_once=12 or fewer"):
        sample(small, "hmc", chains_at_once=60, **options)


@pytest.mark.slow
def test_more_chains_than_fit_one_by_one_are_refused(small, monkeypatch):
    monkeypatch.setattr(driver, "_memory", lambda program: (2.0, 1.0))
    with pytest.raises(ValueError, match=r"chains=4 need .* GiB .* not even one at a time fits, use fewer chains"):
        sample(small, "hmc", chains=4, keep="order_parameters", draws=1)


def test_frozen_chains_are_reported_and_never_averaged_in_silently(small):
    kernel = gf.HMC(initial_step_size=1e3, integration_steps=1)
    with pytest.warns(gf.ConvergenceWarning, match=r"2 of 2 chains never moved \(chain 0, 1\)"):
        run = sample(small, kernel, warmup=0, test=small.test)
    with pytest.warns(gf.ConvergenceWarning, match="averaged over chains that never moved"):
        gf.predict(run, small.test[0])
    assert not gf.diagnostics.convergence(run).converged


def test_broken_chains_are_reported(small):
    with pytest.warns(gf.ConvergenceWarning, match="NaN or infinity"):
        run = sample(small, gf.SGLD(step_size=10.0), test=small.test)
    with pytest.warns(gf.ConvergenceWarning, match="averaged over chains that hold NaN"):
        gf.predict(run, small.test[0])


@pytest.mark.slow
def test_warmup_that_did_not_adapt_is_reported(small):
    kernel = gf.HMC(initial_step_size=1.2, integration_steps=8)
    with pytest.warns(gf.ConvergenceWarning, match="never moved|ended without adapting"):
        sample(small, kernel, warmup=0, draws=200, init="collapsed")


@pytest.mark.parametrize("kernel", ["chees", "ghmc"])
def test_ensemble_kernels_need_an_ensemble(small, kernel):
    with pytest.raises(ValueError, match=r"chains=1: kernel .* use \d or more"):
        sample(small, kernel, chains=1)


def test_progress_as_json_lines(small, capsys):
    quiet(sample, small, progress="json")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    last = json.loads(lines[-1])
    assert last["done"] == last["total"] == 35
    assert last["phase"] == "sample"
    assert last["seconds_left"] == 0


@pytest.fixture
def many_chains():
    """AR(1) chains [2048, 30, 2], superchain by superchain at one start far out, that forget it at a rate."""

    def make(rate, seed=0):
        rng = np.random.default_rng(seed)
        x = np.empty((2048, 30, 2))
        now = np.repeat(rng.normal(0, 3, (32, 2)), 64, axis=0)
        for i in range(30):
            now = rate * now + np.sqrt(1 - rate**2) * rng.normal(size=now.shape)
            x[:, i] = now
        return x

    return make


def test_diagnostics_of_many_short_chains(many_chains):
    x = many_chains(0.3)[:, 5:]  # forgotten after five draws
    found = gf.diagnostics.moments(x)
    assert np.all(found["rhat"] < 1.01)
    # of AR(1): draws (1 - r) / (1 + r), a little more of a finite stretch; tails have a correlation of their own
    np.testing.assert_allclose(found["ess_bulk"], x[..., 0].size * 0.7 / 1.3, rtol=0.15)
    assert np.all((found["ess_tail"] > found["ess_bulk"]) & (found["ess_tail"] < 1.2 * x[..., 0].size))
    np.testing.assert_allclose(found["mcse"], x.std((0, 1)) / np.sqrt(found["ess_bulk"]), rtol=0.01)
    assert np.all(gf.diagnostics.moments(many_chains(0.99))["rhat"] > 1.5)  # and chains that have not forgotten it
    stuck = np.repeat(x[:, :1], 30, axis=1) * np.ones((2048, 1, 1))
    assert np.all(gf.diagnostics.moments(stuck)["ess_bulk"] < 2.5 * 2048)  # one draw a chain, whatever their number


def test_the_monitor_of_many_chains_says_the_same(many_chains):
    x = many_chains(0.3)
    monitor = Monitor(len(x))
    for part in np.split(x, [3, 4, 17], axis=1):
        report = monitor.add({"x": part}, {}, last=True)
    found = gf.diagnostics.moments(x)
    np.testing.assert_allclose((report.rhat, report.ess), (found["rhat"].max(), found["ess_bulk"].min()), rtol=1e-9)


@pytest.mark.slow
def test_many_chains_start_in_groups(make_small):
    posterior = make_small(widths=(7, 6, 4)).posterior
    options = {"key": jax.random.key(0), "warmup": 0, "draws": 1, "progress": False}
    run = gf.sample(posterior, gf.SplitHMC(kicks=0), chains=1024, **options)
    theta = np.asarray(run.variables["theta"])[:, 0]
    # a proposal is accepted or not: those that were not are where they started
    stayed = [np.unique(group, axis=0, return_counts=True)[1].max() for group in theta.reshape(16, 64, -1)]
    assert np.median(stayed) > 1
    assert len(np.unique(theta, axis=0)) < 1024
    few = gf.sample(posterior, gf.SplitHMC(kicks=0), chains=64, **options)
    assert len(np.unique(np.asarray(few.variables["theta"]), axis=0)) == 64


@pytest.mark.slow
def test_small_problems_on_a_gpu_are_advised_against(make_small, monkeypatch, capfd):
    posterior = make_small(widths=(7, 6, 4)).posterior
    options = {"key": KEY, "chains": 2, "warmup": 2, "draws": 2}
    on_cpu = gf.sample(posterior, **options, progress=False)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "as fast on a CPU" not in capfd.readouterr().err
    run = gf.sample(posterior, **options)
    assert "gibbsformer: 2 chains of 7 examples run as fast on a CPU: set JAX_PLATFORMS=cpu" in capfd.readouterr().err
    gf.sample(posterior, **options, progress=False)
    assert capfd.readouterr().err == ""
    # the start, which is then computed on the host, is the same
    np.testing.assert_array_equal(run.variables["theta"], on_cpu.variables["theta"])


@pytest.mark.parametrize(("chains", "draws"), [(2, 300), (4, 200), (4, 500)])
def test_independent_draws_are_not_called_unfinished(chains, draws):
    """The largest R-hat of many is beyond 1.01, which is meant for one; a shifted chain is seen all the same."""
    rng, false, missed = np.random.default_rng(chains * draws), 0, 0
    for _ in range(3):
        x = rng.standard_normal((chains, draws, 40))
        found = gf.diagnostics.moments(x)
        false += found["rhat"].max() > rhat_limit(found["ess_bulk"].min(), 2 * chains, 40)
        x[0, :, 7] += 0.7
        found = gf.diagnostics.moments(x)
        ess = found["ess_bulk"].min()
        missed += found["rhat"].max() < rhat_limit(ess, 2 * chains, 40) and ess > 400
    assert (false, missed) == (0, 0)


def test_the_limit_of_one_number_is_the_usual_one():
    assert rhat_limit(1e5, 8, 1) == 1.01
    # 2 chains of 300 independent draws, 147 numbers: chi^2 of 3 degrees of freedom at 1 - 0.01 / 294
    np.testing.assert_allclose(rhat_limit(600, 4, 147), np.sqrt(1 + 23.15 / 3 * 4 / 600), rtol=2e-3)
    assert rhat_limit(0.0, 8, 14) == rhat_limit(np.nan, 8, 14) == 1.01


def test_few_draws_have_no_diagnostics_and_say_so(small, caplog):
    run = sample(small, draws=1)
    problems = gf.diagnostics.convergence(run).problems
    assert "R-hat is not known of so few draws: draw more" in problems
    assert not caplog.records  # ArviZ logs what it cannot do


@pytest.mark.slow
def test_a_tree_that_never_turns_is_reported(small):
    with pytest.warns(gf.ConvergenceWarning, match=r"\d+ % of transitions used the whole tree of 2 doublings: raise"):
        sample(small, gf.NUTS(max_doublings=2, initial_step_size=0.01), warmup=0)


def test_advice_is_another_kernel(small):
    run = quiet(sample, small, draws=10)
    problems = gf.diagnostics.convergence(run).problems
    assert any("use kernel 'collapsed'" in p for p in problems)


def test_devices_without_work_are_reported(small, monkeypatch, capfd):
    devices = jax.local_devices()
    monkeypatch.setattr(jax, "local_devices", lambda: devices * 4)
    target = small.posterior.target("weights")
    plan = driver.Plan(gf.HMC(), target, 10, 5)
    assert driver.devices_of(plan) == (1, 4)
    assert driver.devices_of(plan._replace(chains=8)) == (4, 4)
    assert driver.devices_of(plan._replace(chains=6)) == (3, 4)
