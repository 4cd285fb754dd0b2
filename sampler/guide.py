"""The Gaussian approximation at the theory's saddle point: where collapsed chains start, and their first metric."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from .. import theory
from ..core.numerics import on_host
from ..models import Posterior, collapsed
from ..models.target import Guide
from ..theory.energy import derivative_data, hessian


def laplace(posterior: Posterior) -> Guide:
    """Guide in Bartlett coordinates: the saddle point, and the inverse of the Hessian of -log density there.

    Where a width is below the size of its order parameter there is no saddle point: the guide is then the unit matrix
    M = I with variances 1 / N, and the warm-up finds the metric.
    """
    shape = collapsed.layout(posterior.network)
    with on_host(len(posterior.reduction.y)):
        if shape.singular:
            centre = np.zeros(shape.size)
            covariance = np.eye(shape.size) / min(posterior.network.widths)
        else:
            centre = theory.solve(posterior).theta
            parts = derivative_data(posterior.reduction.data.flat)
            values, vectors = np.linalg.eigh(np.asarray(_curvature(shape, posterior.collapsed_data(), parts, centre)))
            covariance = (vectors / np.abs(values)) @ vectors.T
        spread = np.asarray(jnp.linalg.cholesky(covariance))
    return Guide(*map(jnp.asarray, (centre, covariance, spread)))


@partial(jax.jit, static_argnums=0)
def _curvature(shape, density, parts, theta):
    """Hessian of -log density."""
    return 0.5 * hessian(shape, density, parts, lambda t: -2 * collapsed.log_prior(shape, density.widths, t), theta)
