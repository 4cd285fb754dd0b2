"""Pseudo-examples stand for all examples: densities, theory, predictor and draws are the same."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core.numerics import numerics
from gibbsformer.models import collapsed
from gibbsformer.models.marginal import log_density as marginal_log_density
from gibbsformer.models.reduction import reduction

N_0, HEADS, WIDTHS = 3, (2, 2), (6, 7, 5)

KEY = jax.random.key(3)


def inputs(kind: str, P: int, rng) -> np.ndarray:
    xi = rng.standard_normal((P, N_0, *HEADS))
    if kind == "duplicated":
        xi[P // 2 :] = xi[: P - P // 2]
    if kind == "one direction":
        xi[:, 1:] = 0
    return xi


CASES = {"one direction 40": ("one direction", 40), "duplicated 10": ("duplicated", 10), "tall 60": ("tall", 60)}


def _cases(quick):
    return [pytest.param(c, marks=[pytest.mark.slow] * (i >= quick)) for i, c in enumerate(CASES)]


COSTLY = pytest.mark.parametrize("pair", _cases(1), indirect=True)  # they see pseudo-examples, however these were found


@pytest.fixture(scope="module", params=_cases(2))
def pair(request):
    """A posterior with pseudo-examples, the same with all examples, and test inputs."""
    kind, P = CASES[request.param]
    rng = np.random.default_rng(P)
    network = gf.Network(N_0, HEADS, WIDTHS, (0.9, 1.2, 0.8, 1.1))
    data, y = gf.PathInputs(inputs(kind, P, rng)), rng.standard_normal(P)
    reduced = gf.Posterior(network, data, y, 0.02)
    return reduced, dataclasses.replace(reduced, reduce=False), gf.PathInputs(rng.standard_normal((6, N_0, *HEADS)))


def test_number_and_constants(pair):
    reduced, whole, _ = pair
    found = reduced.reduction
    xi = whole.data.xi.reshape(len(whole.data), -1)
    assert len(found.y) == np.linalg.matrix_rank(xi) < len(xi)
    projection = xi @ np.linalg.pinv(xi)
    np.testing.assert_allclose(found.residual, np.sum((whole.y - projection @ whole.y) ** 2), rtol=1e-9)
    assert found.constants[0] == len(xi) - len(found.y)
    assert reduction(whole.data, whole.y) is found  # shared by grids of posteriors
    assert len(whole.reduction.y) == len(xi)


def of_temperature(data, T):
    return data._replace(temperature=T).term.log_likelihood(jax.numpy.eye(4))


@COSTLY
def test_log_densities_are_those_of_all_examples(pair):
    """In weights, in weights without V_0 and in order parameters, with all gradients and in the temperature."""
    reduced, whole, _ = pair
    rng = np.random.default_rng(1)
    network = reduced.network
    with numerics():
        weights = {k: jax.numpy.asarray(rng.standard_normal(s)) for k, s in network.weight_shapes.items()}
        upper = {k: w for k, w in weights.items() if k != "V_0"}
        shape = collapsed.layout(network)
        theta = jax.numpy.asarray(0.3 * rng.standard_normal(shape.size))
        for density, position in (
            (lambda p: jax.value_and_grad(p.log_density), weights),
            (lambda p: jax.value_and_grad(lambda w: marginal_log_density(network, p.marginal_data(float), w)), upper),
            (lambda p: jax.value_and_grad(lambda t: collapsed.log_density(shape, p.collapsed_data(), t)), theta),
        ):
            one, other = (density(p)(position) for p in (reduced, whole))
            np.testing.assert_allclose(one[0], other[0], rtol=1e-10)
            # rounding of the unreduced gradient, whose terms are 1e5 times larger
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), one[1], other[1])
        by_temperature = [jax.grad(partial(of_temperature, p.collapsed_data()))(0.3) for p in (reduced, whole)]
        np.testing.assert_allclose(*by_temperature, rtol=1e-10)


@COSTLY
def test_theory_predictor_and_gp_limit(pair):
    reduced, whole, test = pair
    one, other = gf.theory.solve(reduced), gf.theory.solve(whole)
    np.testing.assert_allclose(one.action, other.action, rtol=1e-10)
    np.testing.assert_allclose(one.U[0], other.U[0], rtol=1e-6, atol=1e-8)  # of the saddle's own tolerance
    np.testing.assert_allclose(one.hessian_min, other.hessian_min, rtol=1e-5)
    paths = [reduced.data.path_names[i] for i in (0, 3)]
    pairs = [(one, other), tuple(gf.theory.gp(p) for p in pair[:2]), tuple(gf.theory.gp(p, paths) for p in pair[:2])]
    for a, b in pairs:
        for name in ("mean", "variance"):
            x, y = (getattr(gf.predict(t, test), name) for t in (a, b))
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-8)


def summaries(run, posterior):
    """Mean and standard error of order parameters, squared weights and the loss over all examples [quantity]."""
    quantities = [run.variables["U_a"][..., None], run.variables["U_1"].reshape(*run.variables["U_1"].shape[:2], -1)]
    quantities += [np.sum(np.reshape(w, (*w.shape[:2], -1)) ** 2, -1)[..., None] for w in run.weights.values()]
    f = np.einsum("cdhn,pnh->cdp", run.variables["path_weights"], posterior.data.flat)
    quantities.append(np.mean((f - posterior.y) ** 2, axis=-1)[..., None])
    found = gf.diagnostics.moments(np.concatenate(quantities, -1))
    assert found["ess_bulk"].min() > 400
    return found["mean"], found["mcse"]


@pytest.mark.slow
def test_draws_agree_with_those_that_see_all_examples():
    """Gibbs sweeps, and collapsed draws with lifted weights, of pseudo-examples; Gibbs sweeps of all examples."""
    rng = np.random.default_rng(0)
    data = gf.PathInputs(rng.standard_normal((30, 2, 2)))
    reduced = gf.Posterior(gf.Network(2, (2,), (3, 4), (0.9, 1.2, 1.1)), data, rng.standard_normal(30), 0.5)
    whole = dataclasses.replace(reduced, reduce=False)
    options = {"key": KEY, "chains": 4, "warmup": 200, "draws": 1500, "progress": False}
    mean, error = summaries(gf.sample(whole, "gibbs", **options), whole)
    for kernel in ("gibbs", "collapsed"):
        found = summaries(gf.sample(reduced, kernel, keep="weights", **options), whole)
        # 4 standard errors of 9 quantities; the key is fixed
        assert np.abs((found[0] - mean) / np.hypot(found[1], error)).max() < 4


@pytest.mark.parametrize("temperature", [1e-6, 1e-9, 1e-12])
def test_temperatures_below_the_rounding_of_the_kernel(temperature):
    """Duplicated examples leave K singular; its pseudo-examples do not, and the theory converges."""
    rng = np.random.default_rng(5)
    xi = inputs("duplicated", 16, rng)
    y = np.sign(rng.standard_normal(8))[np.arange(16) % 8]
    posterior = gf.Posterior(gf.Network(N_0, HEADS, (8, 8, 8)), gf.PathInputs(xi), y, temperature)
    assert gf.theory.solve(posterior).converged
    single = gf.Posterior(gf.Network(N_0, HEADS, (8, 8, 8)), gf.PathInputs(xi[:8]), y[:8], temperature / 2)
    # each example twice is each once at half the temperature
    np.testing.assert_allclose(gf.theory.solve(posterior).U[0], gf.theory.solve(single).U[0], rtol=1e-5, atol=1e-7)


def test_a_file_keeps_whether_it_was_reduced(tmp_path):
    rng = np.random.default_rng(0)
    data = gf.PathInputs(rng.standard_normal((30, 2, 2)))
    posterior = gf.Posterior(gf.Network(2, (2,), (3, 4)), data, rng.standard_normal(30), 0.5)
    for p in (posterior, dataclasses.replace(posterior, reduce=False)):
        settings, arrays = p.stored(None)
        flat = {name: values for group in arrays.values() for name, (_, values) in group.items()}
        axes = {"path_1": np.array(data.path_names)}
        restored, _ = gf.Posterior.restored(settings, flat, axes)
        assert len(restored.reduction.y) == len(p.reduction.y)
    del settings["reduce"]  # of a file from before
    assert len(gf.Posterior.restored(settings, flat, axes)[0].reduction.y) == 30


def test_batches_are_of_the_examples():
    rng = np.random.default_rng(0)
    data = gf.PathInputs(rng.standard_normal((30, 2, 2)))
    posterior = gf.Posterior(gf.Network(2, (2,), (3, 4)), data, rng.standard_normal(30), 0.5)
    with numerics():
        weights = posterior.weight_data(float)
        assert weights.batched[0].shape == (30, 2, 2)
        target = posterior.target("weights")
        w = {k: jax.numpy.asarray(rng.standard_normal(s)) for k, s in posterior.network.weight_shapes.items()}
        batches = np.arange(30).reshape(6, 5)
        mean = jax.tree.map(lambda *g: sum(g) / 6, *(target.minibatch_gradient(weights, w, b) for b in batches))
        whole = jax.grad(lambda v: target.log_density(weights, v))(w)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), mean, whole)
    assert gf.sample(posterior, gf.SGLD(batch_size=30), key=KEY, chains=2, warmup=0, draws=2, progress=False).draws == 2
