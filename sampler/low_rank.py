r"""The Gaussian at the mode of hundreds of paths: the prior's, changed in the few directions that the data determine.

In coordinates t in which the prior is nearly a unit Gaussian the Hessian of -log density is the identity plus a matrix
of low effective rank, whose eigenvectors V and eigenvalues lambda - 1 Lanczos finds (``theory.many_paths``):

    s = c + diag(scales) [ I + V diag(lambda^{-1/2} - 1) V^T ] z,        z ~ N(0, I)

Nothing has D^2 numbers.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..models import Posterior, collapsed
from ..theory.many_paths import Chart, directions, least
from .mode import prior_scales

_TOLERANCE = 1e-4  # of the gradient, in standard deviations: the Gaussian biases nothing


class LowRankGuide(NamedTuple):
    """Gaussian approximation as ``models.target.Guide``, in numbers that grow as D."""

    centre: jax.Array  # [D]
    scales: jax.Array  # [D]
    vectors: jax.Array  # [D, r], orthonormal columns
    stretches: jax.Array  # [r], standard deviations along them in units of the scales

    def position(self, z: jax.Array) -> jax.Array:
        """Position [D] of whitened coordinates z [D]."""
        return self.centre + self.scales * self._stretched(z, self.stretches)

    def whitened(self, position: jax.Array) -> jax.Array:
        """z of a position."""
        return self._stretched((position - self.centre) / self.scales, 1 / self.stretches)

    def pulled_back(self, gradient: jax.Array) -> jax.Array:
        """Gradient in z of what has this gradient in the position."""
        return self._stretched(self.scales * gradient, self.stretches)

    def pushed_forward(self, gradient: jax.Array) -> jax.Array:
        """The inverse of ``pulled_back``."""
        return self._stretched(gradient, 1 / self.stretches) / self.scales

    @property
    def log_volume(self) -> jax.Array:
        """-log density of the Gaussian at its centre."""
        logs = jnp.sum(jnp.log(self.scales)) + jnp.sum(jnp.log(self.stretches))
        return logs + 0.5 * len(self.centre) * math.log(2 * math.pi)

    def _stretched(self, x, by):
        return x + self.vectors @ ((by - 1) * (self.vectors.T @ x))


def low_rank(posterior: Posterior) -> LowRankGuide:
    """The Gaussian at the mode in the coordinates of ``collapsed.straightened``.

    Args:
        posterior: what is sampled, with widths that leave a mode.
    """
    shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
    found = least(_CHART, shape, data, _TOLERANCE, np.zeros(shape.size))
    values, vectors = directions(_CHART, shape, data, found.t)
    return LowRankGuide(
        _straight(shape, data, jnp.asarray(found.t)),
        prior_scales(shape, data.widths),
        jnp.asarray(vectors),
        jnp.asarray(1 / np.sqrt(np.abs(values))),
    )


def _straight(shape, data, t):
    return collapsed.straightened(shape, jnp.zeros(shape.size)) + prior_scales(shape, data.widths) * t


def _rest(shape, data, t):
    prior = partial(collapsed.log_prior, shape, data.widths)
    return -collapsed.straight_log_density(shape, prior, _straight(shape, data, t))


_CHART = Chart(lambda shape, data, t: collapsed.unstraightened(shape, _straight(shape, data, t)), _rest)
