"""Every adjusted kernel leaves the posterior alone: chains that start at exact draws (lifted from collapsed ones) have
the same moments of U, f, block norms and train loss after hundreds of transitions, tuning included."""

from functools import cache

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models import marginal
from gibbsformer.sampler import driver

CAUGHT = 6  # standard errors; the tests fail at 4
CHAINS = 192
NETWORKS = {
    "one layer": {"heads": (2,), "widths": (4, 3), "N_0": 4, "variances": (0.7, 1.3, 0.9), "temperature": 0.2},
    "two layers": {"widths": (7, 5, 4), "N_0": 4, "temperature": 0.1},
}
KERNELS = {
    "nuts": gf.NUTS(max_doublings=4),
    "hmc": gf.HMC(integration_steps=6),
    "chees": gf.ChEES(max_leapfrog_steps=30),
    "mala": gf.MALA(),
    "ghmc": gf.GHMC(),
    "adjusted_mclmc": gf.AdjustedMCLMC(length=0.5),
    "chees of all weights": gf.ChEES(space="weights", max_leapfrog_steps=30),
    "ghmc of all weights": gf.GHMC(space="weights"),
}
QUICK = ("chees", "ghmc")  # the others have the joint-distribution test of test_geweke.py on the same network


def statistics(run, posterior):
    """[chain, statistic]: averages over the draws of each chain; chains are independent."""
    U_a, U = run.order_parameters
    f = np.einsum("cdhn,pnh->cdp", run.variables["path_weights"], posterior.data.flat)
    norms = [np.sum(np.reshape(w, (*w.shape[:2], -1)) ** 2, axis=-1)[..., None] for w in run.weights.values()]
    parts = [U_a[..., None], *(u.reshape(*u.shape[:2], -1) for u in U), f, *norms]
    values = np.concatenate(parts, axis=-1)
    loss = np.mean((f - posterior.y) ** 2, axis=-1)[..., None]
    return np.concatenate([values, values**2, loss], axis=-1).mean(1)


@pytest.fixture(scope="module")
def exact(make_small):
    """network -> (posterior, exact weights to start from, mean and standard error of each statistic)."""

    @cache
    def exact(name):
        posterior = make_small(**NETWORKS[name]).posterior
        run = gf.sample(
            posterior, key=jax.random.key(9), chains=48, warmup=100, draws=64, keep="weights", progress=False
        )
        values = statistics(run, posterior)
        spread = [0, 16, 32, 48]  # draws apart, so nearly independent
        start = {n: np.reshape(np.asarray(w)[:, spread], (CHAINS, *w.shape[2:])) for n, w in run.weights.items()}
        return posterior, start, values.mean(0), values.std(0) / np.sqrt(len(values))

    return exact


def z_scores(exact, network, kernel):
    posterior, start, mean, error = exact(network)
    run = gf.sample(
        posterior, kernel, key=jax.random.key(3), chains=CHAINS, warmup=50, draws=4, thin=25, init=start, progress=False
    )
    found = statistics(run, posterior)
    return (found.mean(0) - mean) / np.hypot(found.std(0) / np.sqrt(len(found)), error)


@pytest.mark.parametrize(
    ("network", "kernel"),
    [
        pytest.param(n, k, marks=[pytest.mark.slow] * (n == "two layers" and k not in QUICK))
        for n in NETWORKS
        for k in KERNELS
    ],
)
def test_adjusted_kernel_leaves_the_posterior_alone(exact, assert_within, network, kernel):
    assert_within(z_scores(exact, network, KERNELS[kernel]), "statistic ")


def at_twice_the_temperature(U, kernel, y, temperature, variance, original=marginal.log_likelihood):
    return original(U, kernel, y, 2 * temperature, variance)


def without_one_layer_of_the_prior(network, weights, original=marginal.log_prior):
    return original(network, {name: w for name, w in weights.items() if name != "V_1"})


@pytest.mark.parametrize(
    ("function", "fault"),
    [("log_likelihood", at_twice_the_temperature), ("log_prior", without_one_layer_of_the_prior)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_planted_faults_are_caught(exact, monkeypatch, function, fault):
    exact("one layer")
    monkeypatch.setattr(marginal, function, fault)
    driver._program.cache_clear()  # programs compiled before the fault, and after it
    try:
        assert np.max(np.abs(z_scores(exact, "one layer", KERNELS["hmc"]))) > CAUGHT
    finally:
        driver._program.cache_clear()
