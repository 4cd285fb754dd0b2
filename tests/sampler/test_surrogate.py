"""The polynomial that kicks of split HMC may come from: what its fit finds, and what is refused."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core.numerics import numerics
from gibbsformer.models import collapsed
from gibbsformer.models.target import Guide
from gibbsformer.sampler import surrogate
from gibbsformer.sampler.guide import laplace
from gibbsformer.sampler.kernels.kernel import Setting
from gibbsformer.sampler.mode import log_density

KEY = jax.random.key(4)


@pytest.mark.parametrize(("D", "degree"), [(1, 3), (4, 3), (5, 2), (3, 1)])
def test_monomials(D, degree):
    x = np.random.default_rng(0).standard_normal(D)
    products = [
        math.prod(x[list(names)])
        for d in range(degree + 1)
        for names in itertools.combinations_with_replacement(range(D), d)
    ]
    found = surrogate.Surrogate(jnp.zeros(D), jnp.asarray(np.eye(len(products))[:, :D]), None)
    assert found.slope(x).shape == (D,)
    np.testing.assert_allclose(surrogate._monomials(jnp.asarray(x), degree), products, rtol=1e-6)


def test_a_slope_that_is_a_polynomial_is_found(monkeypatch, x64):
    """Of r(z) = a.z + b.z^2 + (c.z)^4 from its gradients and Hessians; the density is exp(r - z^2/2)."""
    D, rng = 3, np.random.default_rng(1)
    a, b, c = rng.standard_normal((3, D))
    r = lambda z: a @ z + b @ z**2 + (c @ z) ** 4  # noqa: E731
    minus = lambda z: 0.5 * z @ z - r(z)  # noqa: E731
    monkeypatch.setattr(
        surrogate, "slopes", lambda shape, data, parts, at, z: (jax.grad(minus)(z), jax.hessian(minus)(z))
    )
    guide = Guide(jnp.zeros(D), jnp.eye(D), jnp.eye(D))
    draws = list(jnp.asarray(rng.standard_normal((2, 7, D))))
    found = surrogate._least_squares(3, (None, None), None, guide, draws)
    z = jnp.asarray(rng.standard_normal(D))
    np.testing.assert_allclose(found.slope(z), jax.grad(r)(z), rtol=1e-8)


def test_a_gradient_counts_as_one_row_of_a_hessian(monkeypatch, x64):
    """Where no polynomial fits, the weights decide; against least squares of the equations as they stand."""
    D, rng = 2, np.random.default_rng(2)
    minus = lambda z: jnp.sum(jnp.cosh(z)) + jnp.sin(z[0] * z[1])  # noqa: E731
    parts = (jax.grad(minus), jax.hessian(minus))
    monkeypatch.setattr(surrogate, "slopes", lambda shape, data, _, at, z: tuple(part(z) for part in parts))
    z = rng.standard_normal((5, D))
    guide = Guide(jnp.zeros(D), jnp.eye(D), jnp.eye(D))
    found = surrogate._least_squares(1, (None, None), None, guide, [jnp.asarray(z)])
    rows, values = [], []
    for each in z:
        rows += [np.append(1, each - z.mean(0)) / np.sqrt(D), *np.eye(1 + D)[1:]]
        values += [(each - parts[0](each)) / np.sqrt(D), *(np.eye(D) - parts[1](each))]
    np.testing.assert_allclose(found.coefficients, np.linalg.lstsq(np.array(rows), np.array(values))[0], rtol=1e-9)


def test_a_chain_in_a_tail_shows_in_the_acceptance():
    """One of 48 chains that never moves: the mean hardly changes, the harmonic mean says that it stays."""
    rates = np.full((8, 48), 0.9)
    np.testing.assert_allclose(surrogate._harmonic(rates), 0.9, rtol=1e-6)
    rates[:, 0] = 0.0
    assert surrogate._harmonic(rates) < 0.35 < 0.88 < rates.mean()


@pytest.fixture(scope="module")
def few_paths(make_small):
    """A posterior far from a Gaussian, and its guide with a surrogate."""
    posterior = make_small(heads=(2, 1), widths=(6, 6, 6), temperature=0.02).posterior
    with numerics():
        target = posterior.target("collapsed")
        data = target.data(posterior, "float64")._replace(guide=laplace(posterior, straight=True))
        setting = Setting(target.straight, data, 0, 4)
        return posterior, setting, surrogate.fitted(posterior, setting, KEY)


def test_little_of_the_slope_is_left(few_paths):
    """At draws that it has not seen; the residual is what makes proposals fail."""
    posterior, setting, guide = few_paths
    with numerics():
        shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
        start = jnp.zeros((48, shape.size))
        (*_, z), rate = surrogate._moved(setting.target, setting.data._replace(guide=guide), KEY, start)
        assert abs(rate - guide.surrogate.acceptance) < 0.05
        slope = jax.vmap(lambda z: jax.grad(lambda z: log_density(shape, data, guide.position(z)))(z) + z)(z)
        left = slope - jax.vmap(guide.surrogate.slope)(z)
    assert np.median(np.sum(left**2, 1)) < 0.1 * np.median(np.sum(slope**2, 1))


def test_a_fit_is_the_same_again(few_paths):
    posterior, setting, guide = few_paths
    with numerics():
        again = surrogate.fitted(posterior, setting, KEY).surrogate
    np.testing.assert_array_equal(again.coefficients, guide.surrogate.coefficients)


def test_more_is_accepted_than_without(few_paths):
    options = {"key": KEY, "warmup": 50, "draws": 300, "progress": False}
    accepted = [
        gf.sample(few_paths[0], gf.Collapsed(move=move, kicks=kicks), **options).stats["acceptance_rate"].mean()
        for move, kicks in (("split", 0), ("surrogate", None))
    ]
    assert accepted[1] > 0.95 > accepted[0] + 0.1


def test_what_is_refused(few_paths):
    with pytest.raises(ValueError, match="surrogate='yes' must be True or False"):
        gf.SplitHMC(surrogate="yes")
    posterior, setting, _ = few_paths
    wide = setting._replace(data=setting.data._replace(guide=_Wide(jnp.zeros(2000))))
    with pytest.raises(ValueError, match="in all 2,000 coordinates of the order parameters: use move='split', or"):
        surrogate.fitted(posterior, wide, KEY)


class _Wide:
    """A guide of hundreds of paths, as far as the refusal looks."""

    def __init__(self, centre):
        self.centre = centre
