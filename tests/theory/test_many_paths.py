"""The theory and the Gaussian of many paths, on a problem small enough for their dense counterparts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core.numerics import numerics
from gibbsformer.models import collapsed
from gibbsformer.sampler import guide, low_rank
from gibbsformer.theory import many_paths, saddle

KEY = jax.random.key(3)


@pytest.fixture
def posterior(make_small):
    return make_small(heads=(2, 2), widths=(9, 8, 7), temperature=0.05).posterior


def test_the_saddle_is_that_of_the_dense_hessian(posterior, monkeypatch):
    dense = gf.theory.solve(posterior)
    monkeypatch.setattr(many_paths, "MANY", 1)
    found = gf.theory.solve(posterior)
    assert found.converged
    assert found.gradient_norm < saddle.GRADIENT_TOLERANCE
    np.testing.assert_allclose(found.U[0], dense.U[0], atol=1e-6)  # 1e-7 relative each (``saddle``)
    np.testing.assert_allclose(found.action, dense.action, rtol=1e-10)
    assert found.covariance is None
    assert found.hessian_min > 0


@pytest.mark.parametrize("chart", [saddle._UNIT_CHART, low_rank._CHART], ids=["theory", "straight"])
def test_products_are_those_of_the_hessian(posterior, chart):
    with numerics():
        shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
        t, v = (0.3 * jax.random.normal(k, (shape.size,)) for k in jax.random.split(KEY))
        products = many_paths._Products(chart, shape, data)
        gradient = lambda t: np.asarray(many_paths._value(chart, shape, data, t)[1])  # noqa: E731
        step = 1e-5
        expected = (gradient(t + step * v) - gradient(t - step * v)) / (2 * step)
        # central differences: step^2 of the third derivative, and rounding over the step
        np.testing.assert_allclose(products.product(t, v), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


def test_the_gaussian_is_that_of_the_dense_hessian(posterior, monkeypatch):
    """With all directions but one; a unit Gaussian in the others."""
    dense = guide.laplace(posterior, straight=True)
    with numerics():
        size = len(dense.centre)
        monkeypatch.setattr(many_paths, "_FLAT", 1e-8)
        monkeypatch.setattr(many_paths, "_RANK", size)
        monkeypatch.setattr(many_paths, "_SHARE", 1)
        found = low_rank.low_rank(posterior)
        deviations = jnp.sqrt(jnp.diag(dense.covariance))
        np.testing.assert_allclose(found.centre / deviations, dense.centre / deviations, atol=1e-3)
        rows = jax.vmap(found.position)(jnp.eye(size)) - found.centre
        ratio = np.linalg.eigvals(np.linalg.solve(dense.covariance, rows.T @ rows)).real
        assert np.sum(np.abs(ratio - 1) > 0.05) <= 1
        z = jax.random.normal(KEY, (size,))
        np.testing.assert_allclose(found.whitened(found.position(z)), z, atol=1e-10)
        np.testing.assert_allclose(found.pushed_forward(found.pulled_back(z)), z, atol=1e-10)
        slope = jax.grad(lambda z: jnp.sum(jnp.sin(found.position(z))))(z)
        np.testing.assert_allclose(slope, found.pulled_back(jnp.cos(found.position(z))), atol=1e-10)
        volume = 0.5 * jnp.linalg.slogdet(2 * jnp.pi * rows.T @ rows)[1]
        np.testing.assert_allclose(found.log_volume, volume, rtol=1e-10)


@pytest.mark.slow
def test_many_paths_are_sampled_as_few(posterior, monkeypatch):
    """The same posterior by both Gaussians: they bias nothing."""
    options = {"key": KEY, "warmup": 20, "draws": 1000, "progress": False}
    few = gf.sample(posterior, gf.Collapsed(kicks=3, move="split"), **options)
    monkeypatch.setattr(guide, "MANY", 1)
    many = gf.sample(posterior, gf.Collapsed(kicks=3, move="split"), **options)
    a, b = (gf.diagnostics.moments(run.order_parameters.U[0]) for run in (few, many))
    assert min(a["ess_bulk"].min(), b["ess_bulk"].min()) > 400
    assert np.max(np.abs(a["mean"] - b["mean"]) / np.hypot(a["mcse"], b["mcse"])) < 4.5  # of 16 entries
