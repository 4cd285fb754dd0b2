"""Continuing a stored run: bit for bit what the uninterrupted run draws, wherever it was stopped, also by kill -9."""

import random
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.sampler.progress import Progress

KEY = jax.random.key(11)
WARMUP, DRAWS, CHUNK = 12, 18, 5
QUICK = ("hmc",)  # collapsed runs are resumed in test_moves.py and elsewhere
KERNELS = {  # ensemble, windowed and memoryless warm-up; order parameters and weights
    "collapsed": gf.Collapsed(max_doublings=3),
    "surrogate": gf.Collapsed(move="surrogate"),
    "hmc": gf.HMC(integration_steps=3),
    "nuts": gf.NUTS(max_doublings=3),
    "ghmc": gf.GHMC(),
    "mclmc": gf.MCLMC(),
}

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


class StoppedError(Exception):
    pass


def sample(small, kernel, path, **options):
    options |= {"chains": 4, "warmup": WARMUP, "draws": DRAWS, "chunk": CHUNK, "test": small.test, "progress": False}
    return gf.sample(small.posterior, kernel, key=KEY, store=path, **options)


def stop_after(monkeypatch, chunks):
    """Let the process stumble after so many commits."""
    left = [chunks]

    def update(self, chunk, report):
        left[0] -= 1
        if not left[0]:
            raise StoppedError

    monkeypatch.setattr(Progress, "update", update)


def assert_equal(one, other):
    for name in (*one.variables, *one.stats):
        a, b = ({**run.variables, **run.stats}[name] for run in (one, other))
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), err_msg=name)


@pytest.mark.parametrize("kernel", [pytest.param(k, marks=[pytest.mark.slow] * (k not in QUICK)) for k in KERNELS])
def test_resumed_run_is_bit_for_bit_the_uninterrupted_one(small, tmp_path, monkeypatch, kernel):
    whole = sample(small, KERNELS[kernel], tmp_path / "whole.h5")
    for chunks in (1, 4):  # in the middle of the warm-up, and of the draws
        path = tmp_path / f"{chunks}.h5"
        with monkeypatch.context() as patch:
            stop_after(patch, chunks)
            with pytest.raises(StoppedError):
                sample(small, KERNELS[kernel], path)
        assert gf.open(path).draws == max(0, chunks * CHUNK - WARMUP)
        assert_equal(whole, gf.resume(path, progress=False, chunk=CHUNK))


def test_more_draws_than_first_asked(small, tmp_path):
    sample(small, "gibbs", tmp_path / "a.h5")
    longer = gf.resume(tmp_path / "a.h5", draws=DRAWS + 10, progress=False, chunk=CHUNK)
    assert longer.draws == longer.settings["draws"] == DRAWS + 10
    with pytest.raises(ValueError, match=r"draws=3 is less than the 28"):
        gf.resume(tmp_path / "a.h5", draws=3)
    assert gf.resume(tmp_path / "a.h5", progress=False).draws == DRAWS + 10  # nothing left to do


def test_until_counts_the_draws_already_stored(small, tmp_path):
    sample(small, "gibbs", tmp_path / "a.h5")
    run = gf.resume(tmp_path / "a.h5", draws=10**5, until=gf.until(ess=100), progress=False, chunk=20)
    assert DRAWS < run.draws < 10**5
    assert run.settings["ended"] == "until"


def test_what_cannot_be_resumed(small, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        gf.resume(tmp_path / "none.h5")
    run = sample(small, gf.Collapsed(move="independent"), tmp_path / "a.h5")
    gf.lift(run, key=KEY, draws=2, store=tmp_path / "lifted.h5", progress=False)
    with pytest.raises(ValueError, match="was lifted from other draws"):
        gf.resume(tmp_path / "lifted.h5")
    sample(small, gf.Collapsed(move="independent"), tmp_path / "b.h5", overwrite=True)
    with gf.store.SampleFile.resume(tmp_path / "b.h5"), pytest.raises(ValueError, match="is being written by"):
        gf.resume(tmp_path / "b.h5", draws=100)


SCRIPT = """
import sys, warnings, jax, numpy as np, gibbsformer as gf
from gibbsformer.sampler.progress import Progress
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
warnings.simplefilter("ignore")
Progress.update = lambda self, chunk, report: print(chunk.start + chunk.length, flush=True)
path, options = sys.argv[1], {"chunk": 3, "progress": False}
try:
    gf.resume(path, **options)
except ValueError:
    rng = np.random.default_rng(0)
    data = gf.PathInputs(rng.standard_normal((5, 4, 2)))
    posterior = gf.Posterior(gf.Network(4, (2,), (3, 3)), data, rng.standard_normal(5), 0.5)
    gf.sample(posterior, "gibbs", key=jax.random.key(3), chains=2, warmup=60, draws=600, store=path, **options)
"""


def start(path, cache):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "trials", [2, pytest.param(20, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.slow)]
)
def test_killed_runs_resume_bit_for_bit(tmp_path, trials):
    """Sampling processes are killed at random moments, and what goes on after them is killed too."""
    cache, rng = tmp_path / "cache", random.Random(trials)
    whole = start(tmp_path / "whole.h5", cache)
    whole.communicate(timeout=240)
    assert whole.returncode == 0
    killed = files = 0
    while killed < trials:
        path = tmp_path / f"{files}.h5"
        process = start(path, cache)
        acknowledged = [int(process.stdout.readline() or 660)]
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        acknowledged += [int(line) for line in process.communicate()[0].splitlines()]
        killed += process.returncode == -signal.SIGKILL
        stored = gf.open(path)
        assert max(0, acknowledged[-1] - 60) <= stored.draws <= 600
        if stored.draws > 400 or killed == trials:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", gf.ConvergenceWarning)
                assert_equal(gf.open(tmp_path / "whole.h5"), gf.resume(path, progress=False))
            files += 1
