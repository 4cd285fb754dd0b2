"""The data term against dense linear algebra, and its derivatives in every argument against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gibbsformer.models import blocks, gaussian, path_kernel
from gibbsformer.models.gaussian import GaussianTerm
from gibbsformer.models.path_kernel import PathKernel

P, N_0, H = 70, 3, 2  # two panels of packed rows
T, VARIANCE = 0.3, 0.7
RELATIVE = 1e-10  # float64 through one factorisation of condition number below 1e4

pytestmark = pytest.mark.usefixtures("x64")


class Dense:
    """The same numbers by NumPy."""

    rng = np.random.default_rng(5)
    xi, y = rng.standard_normal((P, N_0, H)) / 2, rng.standard_normal(P)
    test = rng.standard_normal((4, N_0, H)) / 2
    U = np.array([[1.3, 0.4], [0.4, 0.8]])
    K = np.einsum("pnh,hg,qng->pq", xi, U, xi)
    A = VARIANCE * K + T * np.eye(P)
    alpha = np.linalg.solve(A, y)


def kernels(xi):
    """The two ways to store path kernels."""
    xi = jnp.asarray(xi)
    packed = path_kernel.symmetric_blocks(xi, packed=True)
    return {"blocks": PathKernel(packed, None, P, H), "inputs": PathKernel(None, xi, P, H)}


@pytest.fixture(params=["blocks", "inputs"])
def term(request) -> GaussianTerm:
    return GaussianTerm(
        kernels(Dense.xi)[request.param], jnp.asarray(Dense.y), jnp.asarray(T), jnp.asarray(VARIANCE), jnp.zeros(2)
    )


def test_every_quantity_of_the_term_is_that_of_dense_algebra(term):
    U, xi, test = map(jnp.asarray, (Dense.U, Dense.xi, Dense.test))
    np.testing.assert_allclose(term.covariance(U), Dense.A, rtol=RELATIVE, atol=1e-13)
    expected = scipy.stats.multivariate_normal.logpdf(Dense.y, np.zeros(P), Dense.A)
    np.testing.assert_allclose(term.log_likelihood(U), expected, rtol=RELATIVE)
    half = np.asarray(term.inverse_factor(U))
    np.testing.assert_allclose(half.T @ half, np.linalg.inv(Dense.A), rtol=1e-9, atol=1e-12)
    assert not np.triu(half, 1).any()
    B = VARIANCE * Dense.U @ np.einsum("p,pnh->hn", Dense.alpha, Dense.xi)
    np.testing.assert_allclose(term.mean_path_weights(U, xi), B, rtol=1e-9, atol=1e-13)
    k = VARIANCE * np.einsum("qnh,hg,png->qp", Dense.test, Dense.U, Dense.xi)
    prior = VARIANCE * np.einsum("qnh,hg,qng->q", Dense.test, Dense.U, Dense.test)
    mean, variance = term.predictor(U, xi, test)
    np.testing.assert_allclose(mean, k @ Dense.alpha, rtol=1e-9)
    np.testing.assert_allclose(variance, prior - np.einsum("qp,pq->q", k, np.linalg.solve(Dense.A, k.T)), rtol=1e-9)


def test_gradients_in_labels_temperature_and_variance(term):
    """Central differences: step^2 f''' ~ 1e-10 |f'''|, rounding 1e-16 |f| / step ~ 1e-9."""
    U = jnp.asarray(Dense.U)
    arguments = (term.y, term.temperature, term.variance)

    @jax.jit
    def value(y, temperature, variance):
        return gaussian.log_likelihood(U, term.kernel, y, temperature, variance)

    found = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(*arguments)
    np.testing.assert_allclose(found[0], -Dense.alpha, rtol=RELATIVE, atol=1e-12)
    step = 1e-5
    for i in (1, 2):
        shifted = [[a + s * step * (j == i) for j, a in enumerate(arguments)] for s in (1, -1)]
        difference = (value(*shifted[0]) - value(*shifted[1])) / (2 * step)
        assert abs(difference) > 1  # a missing cotangent would be zero
        np.testing.assert_allclose(found[i], difference, rtol=1e-6)


@pytest.mark.parametrize("storage", ["blocks", "inputs"])
def test_gradient_in_the_inputs(storage):
    """The path kernel made from xi, in either storage, passes its cotangent on to xi."""
    rng = np.random.default_rng(1)

    @jax.jit
    def value(xi):
        kernel = kernels(xi)[storage]
        return gaussian.log_likelihood(jnp.asarray(Dense.U), kernel, jnp.asarray(Dense.y), T, VARIANCE)

    slope = jax.jit(jax.grad(value))(jnp.asarray(Dense.xi))
    G = (np.outer(Dense.alpha, Dense.alpha) - np.linalg.inv(Dense.A)) / 2
    closed = 2 * VARIANCE * np.einsum("pq,qng,gh->pnh", G, Dense.xi, Dense.U)
    np.testing.assert_allclose(slope, closed, rtol=1e-8, atol=1e-10)
    direction, step = rng.standard_normal(Dense.xi.shape), 1e-5
    difference = (value(Dense.xi + step * direction) - value(Dense.xi - step * direction)) / (2 * step)
    np.testing.assert_allclose(np.sum(slope * direction), difference, rtol=1e-6)


def test_gradients_of_several_chains_at_once(term):
    """Under vmap every chain gets its own gradient in every argument."""
    scales = jnp.array([0.5, 1.0, 2.0])

    def value(scale, term):
        return term._replace(temperature=scale * term.temperature).log_likelihood(scale * jnp.asarray(Dense.U))

    both = jax.jit(jax.grad(value, argnums=(0, 1)))
    together = jax.jit(jax.vmap(both, (0, None)))(scales, term)
    for i, scale in enumerate(scales):
        jax.tree.map(
            lambda all_, one, i=i: np.testing.assert_allclose(all_[i], one, rtol=1e-9, atol=1e-11),
            together, both(scale, term),
        )  # fmt: skip


def test_second_derivatives_are_those_of_the_gradient(term):
    """Forward over reverse in (U along a symmetric direction, T, sigma_0^2), and forward differentiation alone."""
    U, D = jnp.asarray(Dense.U), jnp.array([[0.3, -0.2], [-0.2, 0.5]])

    def value(t):
        return gaussian.log_likelihood(U + t[0] * D, term.kernel, term.y, t[1], t[2])

    at = jnp.array([0.0, T, VARIANCE])
    hessian = np.asarray(jax.jit(jax.hessian(value))(at))
    step, gradient = 1e-5, jax.jit(jax.grad(value))
    difference = np.array([(gradient(at + step * e) - gradient(at - step * e)) / (2 * step) for e in np.eye(3)])
    np.testing.assert_allclose(hessian, difference, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-8)


def test_a_conditional_draw_has_the_mean_and_covariance_of_regression():
    """theta = theta~ + s Phi^T A^{-1} (y - Phi theta~ - eps) is linear in (y, theta~, eps): unit vectors give its
    matrices, and from them mean and covariance follow exactly."""
    rng = np.random.default_rng(2)
    q, i, h, j, P = 3, 2, 2, 2, 4
    A, z, y = (jnp.asarray(rng.standard_normal(shape)) for shape in ((q, i), (h, q, j, P), P))
    Phi = np.einsum("qi,hqjp->phij", A, z).reshape(P, -1)
    np.testing.assert_allclose(blocks.block_kernel(A, z), Phi @ Phi.T, rtol=1e-12)
    covariance = gaussian.with_noise(VARIANCE * blocks.block_kernel(A, z), T)

    @jax.jit
    def draw(y, theta, eps):
        alpha = gaussian.conditioning_weights(covariance, y, Phi @ theta, eps)
        return theta + VARIANCE * Phi.T @ alpha

    zero = np.zeros(Phi.shape[1])
    of_y = np.array(jax.vmap(lambda e: draw(e, zero, np.zeros(P)))(jnp.eye(P))).T
    of_theta = np.array(jax.vmap(lambda e: draw(np.zeros(P), e, np.zeros(P)))(jnp.eye(len(zero)))).T
    of_eps = np.array(jax.vmap(lambda e: draw(np.zeros(P), zero, e))(jnp.eye(P))).T
    precision = np.eye(len(zero)) / VARIANCE + Phi.T @ Phi / T
    np.testing.assert_allclose(of_y @ y, np.linalg.solve(precision, Phi.T @ y / T), rtol=1e-9)
    spread = VARIANCE * of_theta @ of_theta.T + T * of_eps @ of_eps.T
    np.testing.assert_allclose(spread, np.linalg.inv(precision), rtol=1e-9, atol=1e-12)
