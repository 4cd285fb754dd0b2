"""Planted faults are caught: each is a plausible slip in a formula, and each must move a statistic of the
joint-distribution test of the sampler concerned (test_geweke.py) far beyond its limit, with fewer chains than there.

The tests compile anew what they run, so a replaced function is seen; no cache outlives the fault.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models import blocks, collapsed, gaussian, lifting
from gibbsformer.sampler.kernels import split

CAUGHT = 6  # standard errors: the joint-distribution tests fail at 4 and 5, so the margin is not a matter of the seed


# the blocks of "two layers" by their heads and the paths above: V_0 (1, 6), V_1 (2, 3), V_2 (3, 1), a (1, 1)


def without_one_over_N(A, z, original=blocks.block_kernel):
    return original(A, z) * (z.shape[2] if z.shape[0] > 1 else 1)  # V_1, V_2


def without_one_over_N_of_a(A, z, original=blocks.block_kernel):
    return original(A, z) * (z.shape[2] if z.shape[:2] == (1, 1) else 1)


def without_off_diagonal(A, z, original=blocks.block_kernel):
    kernel = original(A, z)
    return jnp.diag(jnp.diag(kernel)) if z.shape[:2] == (2, 3) else kernel


def draw_block_without_noise(data, A, z, variance, key, original=blocks.draw_block):
    noise = jnp.sqrt(data.temperature) * jax.random.normal(jax.random.split(key)[1], data.y.shape, data.y.dtype)
    return original(data._replace(y=data.y + noise), A, z, variance, key)  # the two cancel


def draw_block_with_swapped_variance(data, A, z, variance, key, original=blocks.draw_block):
    return original(data, A, z, 0.7 if z.shape[:2] == (2, 3) else variance, key)  # that of V_0


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        ("block_kernel", without_one_over_N),
        pytest.param("block_kernel", without_one_over_N_of_a, marks=pytest.mark.slow),
        pytest.param("block_kernel", without_off_diagonal, marks=pytest.mark.slow),
        pytest.param("draw_block", draw_block_without_noise, marks=pytest.mark.slow),
        pytest.param("draw_block", draw_block_with_swapped_variance, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_gibbs(geweke, monkeypatch, function, fault):
    monkeypatch.setattr(blocks, function, fault)
    z = geweke.weight_space_z(geweke.problem("two layers"), gf.Gibbs(), chains=1000, rounds=20)
    assert np.max(np.abs(z)) > CAUGHT


def diagonals(shape, theta):
    return [factor.log_diagonal for factor in collapsed.bartlett_factors(shape, theta)]


def without_jacobian(shape, widths, theta, original=collapsed.log_prior):
    return original(shape, widths, theta) - sum(jnp.sum(d) for d in diagonals(shape, theta))


def with_one_degree_too_many(shape, widths, theta, original=collapsed.log_prior):
    return original(shape, widths, theta) + sum(jnp.sum(d) for d in diagonals(shape, theta))


def with_equal_degrees(shape, widths, theta, original=collapsed.log_prior):
    """chi(N) in every row instead of chi(N - i + 1)."""
    return original(shape, widths, theta) + sum(jnp.sum(np.arange(len(d)) * d) for d in diagonals(shape, theta))


def with_half_the_data(U, kernel, y, temperature, variance, original=gaussian.log_likelihood):
    return 0.5 * original(U, kernel, y, temperature, variance)


def without_first_variance(U, kernel, y, temperature, variance, original=gaussian.log_likelihood):
    return original(U, kernel, y, temperature, jnp.ones_like(variance))


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        pytest.param("log_prior", without_jacobian, marks=pytest.mark.slow),
        pytest.param("log_prior", with_one_degree_too_many, marks=pytest.mark.slow),
        ("log_prior", with_equal_degrees),
        pytest.param("log_likelihood", with_half_the_data, marks=pytest.mark.slow),
        pytest.param("log_likelihood", without_first_variance, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_collapsed(geweke, monkeypatch, function, fault):
    monkeypatch.setattr(collapsed if hasattr(collapsed, function) else gaussian, function, fault)
    assert np.max(np.abs(geweke.collapsed_z(geweke.problem("one layer"), chains=1000, rounds=10))) > CAUGHT


def straight_without_jacobian(shape, log_density, s):
    return jnp.where(jnp.all(jnp.where(collapsed.is_diagonal(shape), s > 0, True)),
                     log_density(collapsed.unstraightened(shape, s)), -jnp.inf)  # fmt: skip


def rotation_that_shrinks(z, p, angle, original=split._rotated):
    z, p = original(z, p, angle)
    return 0.9 * z, p


@pytest.mark.parametrize(
    ("module", "function", "fault"),
    [
        (collapsed, "straight_log_density", straight_without_jacobian),
        pytest.param(split, "_rotated", rotation_that_shrinks, marks=pytest.mark.slow),  # see test_quadrature.py
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_moves_around_the_mode(geweke, monkeypatch, module, function, fault):
    monkeypatch.setattr(module, function, fault)
    problem = geweke.problem("one layer")
    z = geweke.collapsed_z(problem, chains=1000, rounds=10, kernel=gf.SplitHMC(kicks=1))
    assert np.max(np.abs(z)) > CAUGHT


def prior_with_wrong_variance_of_V_1(network, key, dtype, original=lifting.draw_prior):
    return original(network, key, dtype) | {"V_1": original(network, key, dtype)["V_1"] / np.sqrt(network.variances[1])}


def first_layer_without_noise(W_1, free, data, xi, key, original=lifting.first_layer):
    noise = jnp.sqrt(data.temperature) * jax.random.normal(key, data.y.shape, W_1.dtype)
    return original(W_1, free, data._replace(y=data.y + noise), xi, key)  # the two cancel


def first_layer_without_regression(W_1, free, data, xi, key):
    return free


def haar_without_signs(key, rank, width, dtype, above=None):
    return jnp.linalg.qr(jax.random.normal(key, (width, rank), dtype))[0].T


def haar_without_rotation(key, rank, width, dtype, above=None):
    return jnp.eye(rank, width, dtype=dtype)


@pytest.mark.parametrize(
    ("function", "fault"),
    [
        pytest.param("draw_prior", prior_with_wrong_variance_of_V_1, marks=pytest.mark.slow),
        ("first_layer", first_layer_without_noise),
        pytest.param("first_layer", first_layer_without_regression, marks=pytest.mark.slow),
        pytest.param("_haar", haar_without_signs, marks=pytest.mark.slow),
        pytest.param("_haar", haar_without_rotation, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_lifting(geweke, monkeypatch, function, fault):
    monkeypatch.setattr(lifting, function, fault)
    z, z_pairs = geweke.lifting_z(geweke.problem("two layers"), draws=4000)
    assert max(np.max(np.abs(z)), np.max(np.abs(z_pairs))) > CAUGHT


def with_all_degrees_of_freedom(layer, width):
    """Those of a layer without a skip connection."""
    return width - np.arange(layer.rank)


@pytest.mark.slow
def test_degrees_of_freedom_below_a_skip_connection(geweke, monkeypatch):
    monkeypatch.setattr(collapsed.Layer, "degrees", with_all_degrees_of_freedom)
    z = geweke.collapsed_z(geweke.problem("skip, outputs"), chains=700, rounds=40)
    assert np.max(np.abs(z)) > CAUGHT
