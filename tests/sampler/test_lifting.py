"""Lifted weights carry exactly the order parameters they were lifted from; runs with weights hold them together."""

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models import collapsed, lifting

NETWORKS = {"regular": (7, 5, 4), "singular": (3, 2, 4)}


@pytest.mark.parametrize("case", NETWORKS)
def test_weights_have_the_order_parameters_of_theta(make_small, case, x64):
    posterior = make_small(widths=NETWORKS[case]).posterior
    shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
    theta = 0.3 * jax.random.normal(jax.random.key(0), (shape.size,))
    weights = lifting.lift(posterior.network, shape, data, posterior.data.flat, jax.random.key(1), theta)
    found, expected = gf.models.order_parameters(weights), collapsed.order_parameters(shape, data.variances, theta)
    np.testing.assert_allclose(found.U_a, expected.U_a, rtol=1e-10)
    for one, other in zip(found.U, expected.U, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.fixture(scope="module")
def run(make_small):
    small = make_small()
    options = {"key": jax.random.key(2), "chains": 2, "warmup": 30, "draws": 40, "progress": False, "test": small.test}
    return gf.sample(small.posterior, **options)


def test_lifting_afterwards(run, tmp_path):
    lifted = gf.lift(run, key=jax.random.key(3), draws=7, store=tmp_path / "lifted.h5", progress=False)
    assert (lifted.chains, lifted.draws) == (2, 7)
    assert {name: w.shape[2:] for name, w in lifted.weights.items()} == run.posterior.network.weight_shapes
    picked = np.linspace(0, 39, 7).round().astype(int)
    np.testing.assert_array_equal(lifted.order_parameters.U_a, run.order_parameters.U_a[:, picked])
    B = np.asarray(lifted.variables["path_weights"])
    f = np.einsum("qnh,cdhn->cdq", run.test[0].flat, B)
    np.testing.assert_allclose(lifted.variables["f"], f, atol=1e-12)
    memory = gf.lift(run, key=jax.random.key(3), draws=7, progress=False)
    np.testing.assert_array_equal(np.asarray(memory.weights["V_1"]), np.asarray(lifted.weights["V_1"]))


def test_keeping_weights_while_sampling(run):
    whole = gf.sample(
        run.posterior, key=jax.random.key(2), chains=2, warmup=30, draws=40, keep="weights", progress=False,
        test=run.test,
    )  # fmt: skip
    # the same chains: keeping weights changes no draw
    np.testing.assert_allclose(whole.order_parameters.U_a, run.order_parameters.U_a, rtol=1e-6)
    weights = {name: np.asarray(w[1, 5]) for name, w in whole.weights.items()}
    with jax.enable_x64(True):
        U = gf.models.order_parameters(weights)
    np.testing.assert_allclose(U.U[0], whole.order_parameters.U[0][1, 5], rtol=1e-8, atol=1e-10)


def test_rao_blackwell_predictor_is_the_mean_of_f_with_less_noise(run):
    inputs = run.test[0]
    exact = gf.predict(run, inputs)
    np.testing.assert_allclose(exact.mean, np.asarray(run.variables["f_mean"]).mean((0, 1)), atol=1e-10)
    drawn = np.asarray(gf.lift(run, key=jax.random.key(4), progress=False).variables["f"])
    found = gf.diagnostics.moments(drawn)
    assert np.all(np.abs(exact.mean - found["mean"]) < 4 * found["mcse"])
    # law of total variance, within 5 standard errors of a variance from 80 draws
    ratio = exact.variance / drawn.var((0, 1))
    assert np.all(np.abs(ratio - 1) < 5 * np.sqrt(2 / found["ess_bulk"]))
    conditional = gf.diagnostics.moments(np.asarray(run.variables["f_mean"]))
    assert np.all(conditional["mcse"] < found["mcse"])


def test_what_cannot_be_lifted(run, make_small):
    with pytest.raises(ValueError, match="draws=41 is more than the 40"):
        gf.lift(run, key=jax.random.key(0), draws=41)
    gibbs = gf.sample(run.posterior, "gibbs", key=jax.random.key(0), chains=1, warmup=1, draws=2, progress=False)
    with pytest.raises(ValueError, match="'gibbs'"):
        gf.lift(gibbs, key=jax.random.key(0))
    with pytest.raises(ValueError, match="init='collapsed' is for kernels over weights"):
        gf.sample(run.posterior, "collapsed", key=jax.random.key(0), init="collapsed")
