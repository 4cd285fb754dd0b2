"""Fixtures shared by the tests: the reference extract, a small network with unequal shapes, double precision."""

import contextlib
import ctypes
import gc
import os
import resource
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

# Before JAX is imported, and for the processes that tests start. Without optimisation, and with the older of two code
# generators, small programs compile up to ten times faster. Compiled programs are shared between test processes and
# kept for the next run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1" and "fusion_emitters" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters=true"
    ).strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import h5py
import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models.network import draw_prior
from gibbsformer.sampler import driver

EXTRACT = Path(__file__).parent / "data" / "reference_hmm_extract.h5"
REFERENCE_WIDTHS = (10, 100, 1000)


# modules stay, and tracing allocates much that does: collect garbage less often
gc.freeze()
gc.set_threshold(50_000, 20, 20)

MEMORY = 1500  # MiB of a test process, above which compiled programs are dropped


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory():
    """Drop compiled programs after a module that left many; the cache on disk has them when they are needed again."""
    yield
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if Path("/proc/self/statm").exists() else 0
    if pages * resource.getpagesize() > MEMORY * 2**20:
        driver._program.cache_clear()
        driver._record_shapes.cache_clear()
        jax.clear_caches()
        gc.collect()
        with contextlib.suppress(OSError, AttributeError):  # give it back to the system, where the C library can
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def _optimised():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="session")
def optimised():
    """Context manager for the few programs that run for longer than they compile."""
    return _optimised


@pytest.fixture
def x64():
    """Double precision for one test; the global flag is left alone."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def reference() -> dict[str, np.ndarray]:
    """The reference extract (data/extract.py) as name -> array; test/xi in double precision."""
    arrays = {}
    with h5py.File(EXTRACT, "r") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        arrays["temperature"] = float(file.attrs["temperature"])
    arrays["test/xi"] = arrays["test/xi"].astype(np.float64)
    return arrays


@pytest.fixture(scope="session")
def reference_posterior(reference):
    """Width N -> posterior of the reference task at N_1 = N_2 = N_3 = N."""
    data = _four_paths(reference["train/xi"])

    @cache
    def posterior(N: int) -> gf.Posterior:
        return gf.Posterior(gf.Network(231, (2, 2), (N, N, N)), data, reference["train/y"], reference["temperature"])

    return posterior


@pytest.fixture(scope="session")
def reference_theory(reference_posterior):
    """Width N -> saddle point of the reference task; each is solved once."""
    return cache(lambda N: gf.theory.solve(reference_posterior(N)))


@pytest.fixture(scope="session")
def reference_test(reference):
    """(path inputs, labels) of the 1000 reference test chains."""
    return _four_paths(reference["test/xi"]), reference["test/y"]


def _four_paths(xi):
    return gf.PathInputs(xi.reshape(*xi.shape[:2], 2, 2), ("good", "same-token/random", "denoising", "random/random"))


@dataclass(frozen=True, eq=False)
class Small:
    """One small problem, everything in float64 on the host."""

    network: gf.Network
    x: np.ndarray  # [P, N_0, S]
    layers: list  # W_l [H_l, N_0, N_0]
    attention: gf.Attention
    posterior: gf.Posterior

    @cached_property
    def weights(self) -> dict[str, jax.Array]:
        """One draw of the prior, in float64."""
        with jax.enable_x64(True):
            return draw_prior(self.network, jax.random.key(0))

    @cached_property
    def test(self) -> tuple[gf.PathInputs, np.ndarray]:
        """Four test inputs and labels."""
        rng = np.random.default_rng(99)
        return gf.PathInputs(rng.standard_normal((4, *self.posterior.data.xi.shape[1:])) / 3), np.array(
            [1, -1, 1, -1.0]
        )

    @property
    def host_weights(self) -> dict[str, np.ndarray]:
        """The same as NumPy arrays, for loops."""
        return {name: np.asarray(w) for name, w in self.weights.items()}


@pytest.fixture(scope="session")
def make_small():
    """Factory of small problems: unequal heads, widths and variances unless told otherwise."""

    @cache
    def make(
        heads=(2, 3), widths=(4, 3, 5), variances=(0.7, 1.3, 0.9, 1.1), N_0=6, S=3, P=7, temperature=0.3,
        readout="last", seed=0, outputs=1, residual=False,
    ) -> Small:  # fmt: skip
        rng = np.random.default_rng(seed)
        network = gf.Network(N_0, heads, widths, variances, outputs, residual)
        x, y = rng.standard_normal((P, N_0, S)), rng.standard_normal(P if outputs == 1 else (P, outputs))
        layers = [rng.standard_normal((H, N_0, N_0)) / np.sqrt(N_0) for H in heads]
        attention = gf.Attention(layers)
        posterior = gf.Posterior(network, gf.contract(x, attention, readout, residual=residual), y, temperature)
        return Small(network, x, layers, attention, posterior)

    return make


@pytest.fixture(scope="session")
def small(make_small) -> Small:
    """L=2, heads (2, 3), widths (4, 3, 5), input width 6, S=5, P=7; N_1 is below the number of paths."""
    return make_small(S=5)


@pytest.fixture(scope="session")
def characters() -> gf.tasks.Characters:
    """Twenty characters of four drawings: every patch has a stroke in one of four directions, with noise in the ink."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:8, :8] - 3.5
    strokes = np.stack([np.abs(np.cos(a) * columns + np.sin(a) * rows) < 1.2 for a in np.arange(4) * np.pi / 4])
    patches = strokes[rng.choice(4, (20, 4, 4))]  # [character, row, column, 8, 8]
    drawings = patches.swapaxes(2, 3).reshape(20, 1, 32, 32) * rng.uniform(0.5, 1, (20, 4, 32, 32))
    return gf.tasks.Characters(
        1 - drawings.reshape(-1, 32, 32), np.repeat(np.arange(20), 4), tuple(f"pattern {i}" for i in range(20)), "toy"
    )
