"""The Gaussian approximation that collapsed chains start from and move around."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from .. import theory
from ..core.numerics import on_host
from ..models import Posterior, collapsed
from ..models.target import Guide
from ..theory.energy import derivative_data, hessian


def laplace(posterior: Posterior, straight: bool = False) -> Guide:
    """Guide in Bartlett coordinates: the theory's saddle point, and the inverse Hessian of -log density there.

    Where a width is below the size of its order parameter there is no saddle point: the guide is then the unit matrix
    M = I with variances 1 / N, and the warm-up finds the metric.

    Args:
        posterior: what is sampled.
        straight: in the coordinates of ``collapsed.straightened``, around the exact mode there.
    """
    shape = collapsed.layout(posterior.network)
    with on_host(posterior.reduction.y.size):
        if shape.singular:
            centre = np.zeros(shape.size)
            covariance = np.eye(shape.size) / min(posterior.network.widths)
        else:
            problem = (
                shape,
                straight,
                posterior.collapsed_data(),
                derivative_data(posterior.reduction.data.flat, posterior.network.outputs),
            )
            centre = theory.solve(posterior).theta
            if straight:
                centre = _mode(problem, np.asarray(collapsed.straightened(shape, jnp.asarray(centre))))
            values, vectors = np.linalg.eigh(np.asarray(_curvature(*problem, centre)))
            covariance = (vectors / np.abs(values)) @ vectors.T
        spread = np.asarray(jnp.linalg.cholesky(covariance))
    return Guide(*map(jnp.asarray, (centre, covariance, spread)))


def _mode(problem, start: np.ndarray) -> np.ndarray:
    """Where the density is largest, from a point nearby."""
    shape, straight, density, _ = problem

    def value_and_gradient(s):
        value, gradient = _negative(shape, straight, density, s)
        return float(value), np.asarray(gradient)

    curvature = lambda s: np.asarray(_curvature(*problem, s))  # noqa: E731
    found = scipy.optimize.minimize(value_and_gradient, start, jac=True, hess=curvature, method="trust-exact")
    return found.x


def _to_theta(shape, straight):
    return partial(collapsed.unstraightened, shape) if straight else lambda theta: theta


def _prior(shape, straight, density, t):
    prior = partial(collapsed.log_prior, shape, density.widths)
    return collapsed.straight_log_density(shape, prior, t) if straight else prior(t)


@partial(jax.jit, static_argnums=(0, 1))
@partial(jax.value_and_grad, argnums=3)
def _negative(shape, straight, density, t):
    """-log density."""
    U_1 = collapsed.order_parameters(shape, density.variances, _to_theta(shape, straight)(t)).U[0]
    return -_prior(shape, straight, density, t) - density.term.log_likelihood(U_1)


@partial(jax.jit, static_argnums=(0, 1))
def _curvature(shape, straight, density, parts, t):
    """Hessian of -log density."""
    rest = lambda t: -2 * _prior(shape, straight, density, t)  # noqa: E731
    return 0.5 * hessian(shape, density, parts, rest, t, _to_theta(shape, straight))
