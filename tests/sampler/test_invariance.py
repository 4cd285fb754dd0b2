"""Adjusted kernels leave the posterior alone, unadjusted ones are biased as theory says.

Every adjusted kernel leaves the posterior alone: chains that start at exact draws (lifted from collapsed ones) have
the same moments of U, f, block norms and train loss after hundreds of transitions, tuning included."""

from functools import cache

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models import gaussian, marginal, weight_space
from gibbsformer.sampler import driver

CAUGHT = 6  # standard errors; the tests fail at 4
CHAINS = 192
NETWORKS = {
    "one layer": {"heads": (2,), "widths": (4, 3), "N_0": 4, "variances": (0.7, 1.3, 0.9), "temperature": 0.2},
    "two layers": {"widths": (7, 5, 4), "N_0": 4, "temperature": 0.1},
}
ALL = "of all weights"
KERNELS = {  # a name that ends in ALL samples all weights
    "nuts": gf.NUTS(max_doublings=4),
    "hmc": gf.HMC(integration_steps=6),
    "chees": gf.ChEES(max_leapfrog_steps=30),
    "mala": gf.MALA(),
    "ghmc": gf.GHMC(),
    "adjusted_mclmc": gf.AdjustedMCLMC(length=0.5),
    "chees of all weights": gf.ChEES(max_leapfrog_steps=30),
    "ghmc of all weights": gf.GHMC(),
}
# in the default run: the others have the joint-distribution test of test_geweke.py, or are tested in it on two layers
QUICK = {"one layer": {"chees", "mala", "ghmc", "adjusted_mclmc"}, "two layers": set()}


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


def z_scores(exact, network, kernel, target=None):
    posterior, start, mean, error = exact(network)
    run = gf.sample(
        posterior,
        kernel,
        target=target,
        key=jax.random.key(3),
        chains=CHAINS,
        warmup=50,
        draws=4,
        thin=25,
        init=start,
        progress=False,
    )
    found = statistics(run, posterior)
    return (found.mean(0) - mean) / np.hypot(found.std(0) / np.sqrt(len(found)), error)


@pytest.mark.parametrize(
    ("network", "kernel"),
    [pytest.param(n, k, marks=[pytest.mark.slow] * (k not in QUICK[n])) for n in NETWORKS for k in KERNELS],
)
def test_adjusted_kernel_leaves_the_posterior_alone(exact, assert_within, network, kernel):
    target = "weights" if kernel.endswith(ALL) else None
    assert_within(z_scores(exact, network, KERNELS[kernel], target), "statistic ")


def at_twice_the_temperature(U, kernel, y, temperature, variance, original=gaussian.log_likelihood):
    return original(U, kernel, y, 2 * temperature, variance)


def without_one_layer_of_the_prior(network, weights, original=marginal.log_prior):
    return original(network, {name: w for name, w in weights.items() if name != "V_1"})


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        ("log_likelihood", at_twice_the_temperature),
        pytest.param("log_prior", without_one_layer_of_the_prior, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_planted_faults_are_caught(exact, monkeypatch, function, fault):
    exact("one layer")
    monkeypatch.setattr(marginal if hasattr(marginal, function) else gaussian, function, fault)
    driver._program.cache_clear()  # programs compiled before the fault, and after it
    try:
        assert np.max(np.abs(z_scores(exact, "one layer", KERNELS["hmc"]))) > CAUGHT
    finally:
        driver._program.cache_clear()


def loss_bias(exact, kernel, thin):
    """(bias of the mean train loss, its standard error) of a long run that starts at exact draws."""
    posterior, start, mean, error = exact("one layer")
    run = gf.sample(
        posterior, kernel, key=jax.random.key(4), chains=CHAINS, warmup=30, draws=150, thin=thin, init=start,
        progress=False,
    )  # fmt: skip
    f = np.einsum("cdhn,pnh->cdp", np.asarray(run.variables["path_weights"])[:, 50:], posterior.data.flat)
    loss = np.mean((f - posterior.y) ** 2, axis=(1, 2))
    return loss.mean() - mean[-1], np.hypot(loss.std() / np.sqrt(CHAINS), error[-1])


@pytest.mark.parametrize("batch_size", [None, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_bias_of_sgld_grows_with_the_step(exact, batch_size):
    """First order in the step: twice the step gives twice the bias, and more as stability is lost."""
    (one, error), (two, other) = (
        loss_bias(exact, gf.SGLD(step_size=e, batch_size=batch_size), round(0.2 / e)) for e in (0.005, 0.01)
    )
    assert two > CAUGHT * other
    assert 1.5 - 4 * error / one < two / one < 4 + 4 * error / one


@pytest.mark.slow
def test_mclmc_is_hardly_biased_at_its_default_step(exact):
    bias, error = loss_bias(exact, gf.MCLMC(), 8)
    assert abs(bias) < 4 * error


def with_noise_of_twice_the_variance(self, key, position, gradient, batch, step_size):
    import blackjax

    return blackjax.sgld.build_kernel()(key, position, gradient, batch, step_size, temperature=2.0)


@pytest.mark.slow
def test_noise_of_the_wrong_variance_is_caught(exact, monkeypatch):
    kernel = gf.SGLD(step_size=0.0025)  # nearly unbiased
    monkeypatch.setattr(gf.SGLD, "_move", with_noise_of_twice_the_variance)
    bias, error = loss_bias(exact, kernel, 80)
    assert bias > 2 * CAUGHT * error


def with_one_gradient_reversed(network, data, weights, indices, original=weight_space.estimate):
    reverse = weights["V_1"] - 2 * (weights["V_1"] - jax.lax.stop_gradient(weights["V_1"]))
    return original(network, data, weights | {"V_1": reverse}, indices)


def test_wrong_sign_of_one_gradient_block_is_caught(exact, monkeypatch):
    """An adjusted kernel would only be slowed down by it: accept/reject looks at the density alone."""
    monkeypatch.setattr(weight_space, "estimate", with_one_gradient_reversed)
    bias, error = loss_bias(exact, gf.SGLD(step_size=0.004), 20)
    assert not abs(bias) < CAUGHT * error  # NaN where it runs away
