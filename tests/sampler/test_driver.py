"""The driver loop: draws do not depend on chunks, chains beside, devices or memory; one compilation per run."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models.target import Records, Target
from gibbsformer.sampler import driver
from gibbsformer.sampler.kernels import adaptation
from gibbsformer.sampler.kernels.kernel import Kernel

KEY = jax.random.key(7)
HMC = gf.HMC(integration_steps=3)  # compiles fast


def draws(run):
    return {name: np.asarray(values) for name, values in (*run.variables.items(), *run.stats.items())}


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param("nuts", marks=pytest.mark.slow),
        pytest.param("gibbs", marks=pytest.mark.slow),
        pytest.param("collapsed", marks=pytest.mark.slow),
        "ghmc",
    ],
)
def test_chunks_and_other_chains_change_nothing(small, kernel):
    run = lambda **options: draws(  # noqa: E731
        gf.sample(small.posterior, kernel, key=KEY, warmup=30, draws=21, progress=False, keep="weights", **options)
    )
    whole = run(chains=4)
    other = run(chains=4, chunk=17)
    for name, values in whole.items():
        np.testing.assert_array_equal(other[name], values, err_msg=name)
    if kernel == "ghmc":  # learns from all chains
        return
    # fewer chains beside: the same random streams; batched linear algebra may round differently
    alone = run(chains=1)
    np.testing.assert_allclose(alone["U_a"][0, 0], whole["U_a"][0, 0], rtol=1e-6)


def test_store_holds_the_same_draws(small, tmp_path):
    options = {"key": KEY, "chains": 2, "warmup": 20, "draws": 15, "progress": False, "test": small.test}
    memory = gf.sample(small.posterior, HMC, **options)
    stored = gf.sample(small.posterior, HMC, store=tmp_path / "run.h5", **options)
    for name, values in draws(memory).items():
        np.testing.assert_array_equal(draws(stored)[name], values, err_msg=name)
    assert stored.path == str(tmp_path / "run.h5")


@pytest.mark.parametrize("kernel", ["gibbs", "chees"])
def test_one_compilation_per_run(small, kernel):
    """Warm-up, draws and the short last chunk share one program, and a longer run compiles nothing."""
    traced = []
    original = driver._advance

    def counting(plan, capacity):
        traced.append(plan)
        return original(plan, capacity)

    run = lambda draws: gf.sample(  # noqa: E731
        small.posterior, kernel, key=KEY, chains=2, warmup=3, draws=draws, thin=2, progress=False
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "_advance", counting)
        run(301)
        run(601)
    assert len(traced) == 1


def test_kinetic_energy_is_summed_in_float64_whatever_the_momentum():
    """A million equal terms: a float32 sum would be off by more than float32 rounding of one term."""
    with jax.enable_x64(True):
        momentum = {"a": jnp.full(10**6, 0.1, jnp.float32)}
        energy = adaptation.metric(jnp.ones(10**6, jnp.float32)).kinetic_energy(momentum)
    assert energy.dtype == jnp.float64
    np.testing.assert_allclose(energy, 0.5e6 * float(np.float32(0.1) * np.float32(0.1)), rtol=1e-12)


@dataclass(frozen=True, kw_only=True)
class KeyRecorder(Kernel):
    """Moves nothing; reports the key of each transition."""

    name: ClassVar[str] = "keys"
    statistics: ClassVar[dict] = {"key": "last"}

    def init(self, setting, key, position):
        return jax.random.key_data(key)

    def step(self, setting, key, index, state):
        return state, {"key": jax.random.key_data(key)}

    def position(self, state):
        return state


KEY_TARGET = Target(
    name="keys",
    describe=lambda posterior, test_examples: Records({}, {}),
    data=lambda posterior, dtype: jnp.zeros(1),
    initial=lambda data, key: jax.random.key_data(key),
    log_density=lambda data, position: jnp.zeros(()),
    observe=lambda data, test, position, key: {"key": jax.random.key_data(key), "start": position},
)


@pytest.mark.parametrize("thin", [1, 3])
def test_every_random_key_is_used_once(thin):
    """Keys of the start, of every transition and of every record differ, between chains too."""
    plan = driver.Plan(KeyRecorder(), KEY_TARGET, warmup=4, chains=3, record=("key", "start"), thin=thin)
    problem = driver.Problem(plan, jnp.zeros(1), None, driver.chain_keys(KEY, range(3)))
    keys = []
    for part in driver.run_chains(problem, driver.start_chains(problem), 0, 4 + 5, chunk=2):
        first = max(0, 4 - part.start)
        keys += [part.stats["key"], part.draws["key"][:, first:]]
        start = part.draws["start"][:, -1]
    keys = np.concatenate([k.reshape(-1, k.shape[-1]) for k in (*keys, start)])
    assert len(keys) == 3 * (9 + 5 + 1)
    assert len(np.unique(keys, axis=0)) == len(keys)


@pytest.mark.slow
def test_statistics_of_a_thinned_draw(small):
    """Steps add up over its transitions, the depth of the tree is the largest, a divergence counts if there was one."""
    options = {"key": KEY, "chains": 2, "warmup": 0, "progress": False}
    kernel = gf.NUTS(initial_step_size=1.0)
    each = gf.sample(small.posterior, kernel, draws=12, **options).stats
    thinned = gf.sample(small.posterior, kernel, draws=4, thin=3, **options).stats
    groups = {name: np.reshape(values, (2, 4, 3)) for name, values in each.items()}
    np.testing.assert_array_equal(thinned["n_steps"], groups["n_steps"].sum(-1))
    np.testing.assert_array_equal(thinned["tree_depth"], groups["tree_depth"].max(-1))
    np.testing.assert_array_equal(thinned["diverging"], groups["diverging"].any(-1))
    np.testing.assert_array_equal(thinned["lp"], groups["lp"][..., -1])
    assert len(np.unique(groups["tree_depth"])) > 1  # or the largest would be the last


def test_nothing_random_is_shared(small):
    run = gf.sample(small.posterior, HMC, key=KEY, chains=4, warmup=0, draws=3, progress=False)
    first = np.asarray(run.variables["U_a"])[:, 0]
    assert len(np.unique(first)) == 4


def test_gradient_kernels_record_f_and_path_weights_consistently(small):
    run = gf.sample(small.posterior, HMC, key=KEY, chains=2, warmup=20, draws=5, progress=False, test=small.test)
    inputs = small.test[0]
    B = np.asarray(run.variables["path_weights"])
    f = np.einsum("qnh,cdhn->cdq", inputs.flat, B)
    np.testing.assert_allclose(run.variables["f"], f, rtol=1e-10, atol=1e-12)  # float64 rounding
    for chain, draw in ((0, 0), (1, 4)):
        weights = {name: np.asarray(w[chain, draw]) for name, w in run.weights.items()}
        with jax.enable_x64(True):
            U = gf.models.order_parameters(weights)
        np.testing.assert_allclose(run.order_parameters.U[0][chain, draw], U.U[0], rtol=1e-10)


def test_chunk_capacity_is_bounded_by_bytes():
    assert driver.capacity_of(1) == driver._MAX_CAPACITY
    assert driver.capacity_of(driver._CHUNK_BYTES) == 1
    assert driver.capacity_of(10 * driver._CHUNK_BYTES) == 1


DEVICES = """
import sys, json, jax, numpy as np, gibbsformer as gf
rng = np.random.default_rng(0)
data = gf.PathInputs(rng.standard_normal((5, 4, 2, 2)))
posterior = gf.Posterior(gf.Network(4, (2, 2), (3, 3, 3)), data, rng.standard_normal(5), 0.5)
assert len(jax.devices()) == int(sys.argv[1])
nuts = gf.NUTS(max_doublings=4)
run = gf.sample(posterior, nuts, target="weights", key=jax.random.key(1), chains=4, warmup=0, draws=3, progress=False)
options = {"target": "weights", "key": jax.random.key(1), "chains": 4, "progress": False}
pooled = gf.sample(posterior, "chees", warmup=3, draws=2, **options)
col = gf.sample(posterior, "collapsed", key=jax.random.key(1), chains=4, warmup=10, draws=5, progress=False)
print(json.dumps([np.asarray(r.variables["U_a"]).tolist() for r in (run, pooled, col)]))
"""


@pytest.mark.slow
def test_devices_change_nothing():
    def run(devices):
        flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        done = subprocess.run(
            [sys.executable, "-c", DEVICES, str(devices)], env=os.environ | flags, capture_output=True, text=True,
            timeout=240, check=True,
        )  # fmt: skip
        return [np.array(a) for a in json.loads(done.stdout)]

    one = run(1)
    for devices in (2,):
        several = run(devices)
        # the first transitions agree to rounding; later ones amplify it (chaotic trajectories)
        for ours, theirs, tolerance in zip(several, one, (1e-9, 1e-6, 1e-6), strict=True):
            np.testing.assert_allclose(ours[:, 0], theirs[:, 0], rtol=tolerance)


@pytest.mark.slow
def test_memory_does_not_grow_with_draws(tmp_path):
    """Peak resident memory of a stored run at 1x and 10x draws, in fresh processes."""
    script = """
import sys, resource, jax, numpy as np, gibbsformer as gf
rng = np.random.default_rng(0)
data = gf.PathInputs(rng.standard_normal((5, 30, 2, 2)))
posterior = gf.Posterior(gf.Network(30, (2, 2), (40, 40, 40)), data, rng.standard_normal(5), 0.5)
kernel = gf.NUTS(max_doublings=1)
gf.sample(posterior, kernel, key=jax.random.key(1), chains=2, warmup=0, draws=int(sys.argv[1]), progress=False,
          store=sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peak = {}
    for draws in (600, 6000):  # 70 kB a draw and chain: 84 MB and 840 MB
        command = [sys.executable, "-c", script, str(draws), str(tmp_path / f"{draws}.h5")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
        peak[draws] = int(done.stdout) / 1024
    # 756 MB more on disk; the page cache is not resident memory of the process. 100 MB for allocator noise.
    assert peak[6000] - peak[600] < 100, peak
