"""Samplers that share no code beyond the network agree on one posterior: NUTS and HMC on the weights, Gibbs, and the
collapsed and split samplers with lifting, on order parameters, outputs, norms of all blocks and the train loss."""

from functools import cache
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import gibbsformer as gf

MIN_ESS = 400  # Vehtari et al. 2021: below it R-hat and standard errors are not to be trusted
# in the default run each sampler has the joint-distribution test or reference posteriors
pytestmark = pytest.mark.slow
NETWORKS = {
    "regular": {"widths": (7, 5, 4)},
    "singular": {"widths": (5, 4, 3)},  # 6 paths: U_1 has rank 5 where N_1 = 5
    "outputs": {"widths": (7, 5, 2), "outputs": 3},  # U_a has rank 2
    "skips": {"widths": (6, 6, 6), "heads": (2, 1), "residual": (0.8, 1.2)},
}
# Draws per chain (4 chains), for an ESS well above MIN_ESS; a multiple of 256 lifts in equal batches.
SAMPLERS = {
    "collapsed": (gf.Collapsed(), 300, 2048),
    "split": (gf.SplitHMC(kicks=4), 100, 4096),
    "surrogate": (gf.Collapsed(move="surrogate"), 100, 4096),
    "gibbs": (gf.Gibbs(), 100, 2048),
    "nuts": (gf.NUTS(), 400, 1024),
    "hmc": (gf.HMC(integration_steps=16), 400, 2048),
}


@pytest.fixture(scope="module")
def agreement(make_small, optimised, estimate):
    """(network, sampler) -> estimates of means and of centred squares; each run is made once."""

    def problem(name):
        options = {**NETWORKS[name], "N_0": 4, "temperature": 0.1}
        return make_small(**options).posterior, make_small(**options, seed=1).posterior

    @cache
    def quantities(name, sampler):
        """Samples [chain, draw, quantity] and the names of the quantities."""
        posterior, other = problem(name)
        kernel, warmup, draws = SAMPLERS[sampler]
        options = {"key": jax.random.key(1), "warmup": warmup, "draws": draws, "test": (other.data, other.y)}
        if sampler == "nuts":
            with optimised():
                run = gf.sample(posterior, kernel, target="weights", **options, progress=False)
        else:
            run = gf.sample(posterior, kernel, **options, progress=False)
        if sampler in ("collapsed", "split", "surrogate"):
            run = gf.lift(run, key=jax.random.key(2), progress=False)
        U_1 = run.order_parameters.U[0]
        rows, columns = np.triu_indices(U_1.shape[-1])
        arrays = {f"U_1[{i}, {j}]": U_1[:, :, i, j] for i, j in zip(rows, columns, strict=True)}
        f = np.reshape(run.variables["f"], (*U_1.shape[:2], -1))
        arrays |= {f"f[{i}]": f[:, :, i] for i in range(other.y.size)}
        for block, w in run.weights.items():
            arrays[f"|{block}|^2"] = np.sum(np.reshape(w, (*w.shape[:2], -1)) ** 2, axis=-1)
        f = gf.theory.outputs(np.asarray(run.variables["path_weights"]), posterior.data)
        arrays["train loss"] = np.mean(((f - posterior.y) ** 2).reshape(*U_1.shape[:2], -1), axis=-1)
        return tuple(arrays), np.stack(list(arrays.values()), axis=-1)

    @cache
    def centre(name):
        return quantities(name, "collapsed")[1].mean((0, 1))

    @cache
    def estimates(name, sampler):
        """Estimates of the means, and of squares about one common centre: equal means and squares, equal variances."""
        samples = quantities(name, sampler)[1]
        return estimate(samples), estimate((samples - centre(name)) ** 2)

    return SimpleNamespace(problem=problem, names=lambda name: quantities(name, "gibbs")[0], estimates=estimates)


def assert_agree(names, ours, theirs):
    for what, a, b in zip(("mean", "variance"), ours, theirs, strict=True):
        assert min(a.ess.min(), b.ess.min()) >= MIN_ESS
        z = (a.mean - b.mean) / np.hypot(a.error, b.error)
        # 4 standard errors: 6e-5 of normal draws are farther out, and there are 34 quantities; the seed is fixed
        off = {name: f"{value:.1f}" for name, value in zip(names, z, strict=True) if abs(value) >= 4}
        assert not off, f"{what} differs by more than 4 standard errors: {off}"


@pytest.mark.parametrize("network", NETWORKS)
def test_gibbs_agrees_with_collapsed(agreement, network):
    ours, theirs = (agreement.estimates(network, sampler) for sampler in ("collapsed", "gibbs"))
    assert_agree(agreement.names(network), ours, theirs)


@pytest.mark.parametrize("network", NETWORKS)
def test_nuts_agrees_with_collapsed_and_gibbs(agreement, network):
    nuts = agreement.estimates(network, "nuts")
    for sampler in ("collapsed", "gibbs"):
        assert_agree(agreement.names(network), agreement.estimates(network, sampler), nuts)


def test_split_hmc_agrees_with_gibbs(agreement):
    ours, theirs = (agreement.estimates("regular", sampler) for sampler in ("split", "gibbs"))
    assert_agree(agreement.names("regular"), ours, theirs)


def test_hmc_agrees_with_collapsed(agreement):
    ours, theirs = (agreement.estimates("regular", sampler) for sampler in ("collapsed", "hmc"))
    assert_agree(agreement.names("regular"), ours, theirs)


def test_numpyro_nuts_on_the_collapsed_model_agrees(agreement, estimate, assert_within):
    """NumPyro's own density, sampler and parametrisation of the order parameters."""
    import numpyro.infer

    posterior, _ = agreement.problem("regular")
    with jax.enable_x64(True):
        kernel = numpyro.infer.NUTS(posterior.collapsed_model)
        mcmc = numpyro.infer.MCMC(
            kernel, num_warmup=300, num_samples=1000, num_chains=4, chain_method="vectorized", progress_bar=False
        )
        mcmc.run(jax.random.key(3))
        U_1 = np.asarray(mcmc.get_samples(group_by_chain=True)["U_1"])
    theirs = estimate(U_1[:, :, *np.triu_indices(6)])
    ours = agreement.estimates("regular", "collapsed")[0]
    assert min(theirs.ess.min(), ours.ess.min()) >= MIN_ESS
    n = len(theirs.mean)
    assert_within((theirs.mean - ours.mean[:n]) / np.hypot(theirs.error, ours.error[:n]), "U_1 entry ")
