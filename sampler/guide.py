"""The Gaussian approximation that collapsed chains start from and move around."""

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
from ..theory.many_paths import MANY
from .low_rank import LowRankGuide, low_rank
from .mode import mode


def laplace(posterior: Posterior, straight: bool = False) -> Guide | LowRankGuide:
    """Guide in Bartlett coordinates: the theory's saddle point, and the inverse Hessian of -log density there.

    Where a width is below the size of its order parameter there is no saddle point: without ``straight`` the guide is
    then the unit matrix M = I with variances 1 / N, and the warm-up finds the metric.

    Args:
        posterior: what is sampled.
        straight: in the coordinates of ``collapsed.straightened``, around the exact mode there.
    """
    shape = collapsed.layout(posterior.network)
    if straight and shape.size > MANY:
        return low_rank(posterior)
    with on_host(posterior.reduction.y.size):
        if shape.singular and not straight:
            centre = np.zeros(shape.size)
            covariance = np.eye(shape.size) / min(posterior.network.widths)
        else:
            parts = derivative_data(posterior.reduction.data.flat, posterior.network.outputs)
            problem = shape, posterior.collapsed_data(), parts
            if straight:
                centre, precision, _ = mode(*problem)
            else:
                centre = theory.solve(posterior).theta
                precision = _curvature(*problem, centre)
            values, vectors = np.linalg.eigh(np.asarray(precision))
            covariance = (vectors / np.abs(values)) @ vectors.T
        spread = np.linalg.cholesky(covariance)
    return Guide(*map(jnp.asarray, (centre, covariance, spread)))


@partial(jax.jit, static_argnums=0)
def _curvature(shape, density, parts, theta):
    """Hessian of -log density of theta."""
    rest = lambda t: -2 * collapsed.log_prior(shape, density.widths, t)  # noqa: E731
    return 0.5 * hessian(shape, density, parts, rest, theta)
