"""Known answers: with one layer of one head the posterior is over two numbers, U_a and U_1, and every moment is a
two-dimensional integral. The package's density, and draws of the collapsed sampler, against chi-square laws."""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import gibbsformer as gf
from gibbsformer.models import collapsed
from gibbsformer.sampler import driver
from gibbsformer.sampler.kernels import split

# Both quadratures are trapezoidal rules that are exact to rounding for smooth densities vanishing at both ends.
RELATIVE = 1e-9
NAMES = ("U_a", "U_1", "U_a^2", "U_1^2", "U_a U_1")


class Answer(NamedTuple):
    """Evidence p(y), posterior means of ``NAMES``, and of f on the test inputs."""

    evidence: float
    moments: np.ndarray
    f: np.ndarray


@pytest.fixture(scope="module")
def problem(make_small):
    options = {"heads": (1,), "widths": (4, 3), "variances": (0.7, 1.3, 0.9), "N_0": 3, "P": 6, "temperature": 0.1}
    return make_small(**options).posterior, make_small(**options, seed=1).posterior.data


def moments_of(U_a, U_1, weight):
    powers = np.stack([U_a, U_1, U_a**2, U_1**2, U_a * U_1])
    return (powers * weight).reshape(len(powers), -1).sum(1) / weight.sum()


@pytest.fixture(scope="module")
def expected(problem) -> Answer:
    """Section 3 and 4 in NumPy: U_a = s_a c/N_2, U_1 = s_1 U_a d/N_1, c ~ chi^2(N_2), d ~ chi^2(N_1)."""
    posterior, test = problem
    (N_1, N_2), (s_0, s_1, s_a), T = posterior.network.widths, posterior.network.variances, posterior.temperature
    # dc = c d(log c); the densities fall as exp(3 log(c) / 2) on the left and exp(-c / 2) on the right
    log_c, log_d = np.linspace(-22.0, 5.5, 221), np.linspace(-18.0, 5.5, 221)
    c, d = np.meshgrid(np.exp(log_c), np.exp(log_d), indexing="ij")
    U_a = s_a * c / N_2
    U_1 = s_1 * U_a * d / N_1

    xi, y = posterior.data.flat[:, :, 0], posterior.y
    eigenvalues, vectors = np.linalg.eigh(s_0 * xi @ xi.T)
    z = vectors.T @ y
    scale = eigenvalues * U_1[..., None] + T  # of y in the eigenbasis of the kernel
    likelihood = np.exp(-0.5 * np.sum(z**2 / scale + np.log(2 * np.pi * scale), axis=-1))
    weight = likelihood * scipy.stats.chi2.pdf(c, N_2) * c * scipy.stats.chi2.pdf(d, N_1) * d
    step = (log_c[1] - log_c[0]) * (log_d[1] - log_d[0])
    cross = s_0 * test.flat[:, :, 0] @ xi.T @ vectors  # f = U_1 k^T (U_1 K + T)^{-1} y
    mean_f = np.einsum("cd,qk,cdk,k->q", weight * U_1, cross, 1 / scale, z) / weight.sum()
    return Answer(weight.sum() * step, moments_of(U_a, U_1, weight), mean_f)


def test_evidence_and_moments_of_the_package_density(problem, expected, batched, x64):
    posterior, _ = problem
    shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
    grid = jnp.linspace(-11.0, 2.2, 301)  # log M
    theta = jnp.stack(jnp.meshgrid(grid, grid), axis=-1).reshape(-1, 2)

    def tabulate(t):
        U = collapsed.order_parameters(shape, data.variances, t)
        return U.U_a, U.U[0][0, 0], jnp.exp(collapsed.log_density(shape, data, t))

    U_a, U_1, weight = map(np.asarray, batched(tabulate, theta))
    np.testing.assert_allclose(weight.sum() * (grid[1] - grid[0]) ** 2, expected.evidence, rtol=RELATIVE)
    np.testing.assert_allclose(moments_of(U_a, U_1, weight), expected.moments, rtol=RELATIVE)


KERNELS = {
    "collapsed": (gf.Collapsed(), 4000),
    "split": (gf.SplitHMC(kicks=3), 16_000),
    "surrogate": (gf.Collapsed(move="surrogate"), 8000),
}


def drawn(posterior, test, name):
    kernel, draws = KERNELS[name]
    options = {"key": jax.random.key(0), "draws": draws, "warmup": 300, "test": (test, np.zeros(len(test)))}
    return gf.sample(posterior, kernel, **options, progress=False)


@pytest.mark.parametrize("name", KERNELS)
def test_sampler_reproduces_the_integrals(problem, expected, estimate, assert_within, name):
    posterior, test = problem
    run = drawn(posterior, test, name)
    U_a, U_1 = run.order_parameters.U_a, run.order_parameters.U[0][:, :, 0, 0]
    found = estimate(np.stack([U_a, U_1, U_a**2, U_1**2, U_a * U_1], axis=-1))
    assert found.ess.min() >= 1000
    assert_within((found.mean - expected.moments) / found.error, "moment ")
    # the conditional mean of f given U_1, averaged; its error is far below that of f itself
    found = estimate(run.variables["f_mean"])
    assert found.ess.min() >= 1000
    assert_within((found.mean - expected.f) / found.error, "f ")
    np.testing.assert_allclose(gf.predict(run, test).mean, found.mean, rtol=1e-12)


def rotation_that_shrinks(monkeypatch, original=split._rotated):
    """Volume is lost."""

    def rotated(z, p, angle):
        z, p = original(z, p, angle)
        return 0.95 * z, p

    monkeypatch.setattr(split, "_rotated", rotated)


def kick_at_the_end_of_the_arc(monkeypatch, original=split._rotated):
    """The second half of each arc comes before the kick: not reversible."""
    share = itertools.cycle((2, 0))
    monkeypatch.setattr(split, "_rotated", lambda z, p, angle: original(z, p, next(share) * angle))


def density_of_the_place_before(monkeypatch, original=gf.SplitHMC.step):
    """The density of the old place is kept for the new one."""

    def step(self, setting, key, index, state):
        new, stats = original(self, setting, key, index, state)
        return split.SplitState(new.chain._replace(logdensity=setting.log_density(state.chain.position))), stats

    monkeypatch.setattr(gf.SplitHMC, "step", step)


@pytest.mark.parametrize(
    "fault",
    [
        rotation_that_shrinks,
        pytest.param(kick_at_the_end_of_the_arc, marks=pytest.mark.slow),
        pytest.param(density_of_the_place_before, marks=pytest.mark.slow),
    ],
)
def test_planted_faults_of_split_hmc_are_caught(problem, expected, estimate, monkeypatch, fault):
    fault(monkeypatch)
    jax.clear_caches()
    driver._program.cache_clear()
    run = drawn(*problem, "split")
    driver._program.cache_clear()
    U_a, U_1 = run.order_parameters.U_a, run.order_parameters.U[0][:, :, 0, 0]
    found = estimate(np.stack([U_a, U_1, U_a**2, U_1**2, U_a * U_1], axis=-1))
    assert np.max(np.abs(found.mean - expected.moments) / found.error) > 6
