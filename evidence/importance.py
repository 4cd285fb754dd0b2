r"""The log evidence by importance weights of independent draws from the Gaussian at the posterior's mode.

    p(y) = E_q[ p(s, y) / q(s) ],       q = N(s*, L L^T)       (docs/model.md, section 11)

in the coordinates s in which the posterior of the order parameters is nearly Gaussian. One evaluation of the density a
draw, no gradient. The largest weights say whether to believe it: above Pareto k = 0.7 their mean converges too slowly.
Sources: Vehtari, Simpson, Gelman, Yao and Gabry 2024 (Pareto k).
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from ..models import Posterior, collapsed
from ..models.collapsed import CollapsedData, Layout
from ..models.target import Guide
from ..sampler.guide import laplace

PARETO_LIMIT = 0.7
_BATCH = 64  # densities evaluated at a time


class Weights(NamedTuple):
    """Importance weights of independent proposals.

    Attributes:
        log_weights: log p(s, y) - log q(s) of each replicate's proposals [R, n].
        pareto_k: shape of the tail of all weights together.
    """

    log_weights: np.ndarray
    pareto_k: float

    @property
    def values(self) -> np.ndarray:
        """Log-evidence of each replicate [R]."""
        return logsumexp(self.log_weights, axis=1) - np.log(self.log_weights.shape[1])

    @property
    def errors(self) -> np.ndarray:
        """Their standard errors [R]."""
        relative = np.exp(self.log_weights - self.values[:, None])
        return relative.std(axis=1, ddof=1) / np.sqrt(relative.shape[1])

    @property
    def ess(self) -> float:
        """Effective number of proposals of a replicate: Kish's, on average."""
        share = np.exp(self.log_weights - self.log_weights.max())
        return float(np.mean(share.sum(1) ** 2 / np.sum(share**2, axis=1)))


def importance_weights(posterior: Posterior, key: jax.Array, proposals: int, repeats: int) -> Weights | None:
    """Weights of ``repeats`` times so many proposals; None where widths leave the posterior no mode.

    It belongs inside ``core.numerics.numerics()``.
    """
    shape = collapsed.layout(posterior.network)
    if shape.singular:
        return None
    guide, data = laplace(posterior, straight=True), posterior.collapsed_data()
    found = np.asarray(_log_weights(shape, repeats * proposals, data, guide, key))
    found = np.where(np.isnan(found), -np.inf, found)
    if not np.isfinite(found).any():
        return Weights(found.reshape(repeats, proposals), np.inf)
    return Weights(found.reshape(repeats, proposals), _pareto_k(found))


@partial(jax.jit, static_argnums=(0, 1))
def _log_weights(shape: Layout, count: int, data: CollapsedData, guide: Guide, key):
    z = jax.random.normal(key, (count, shape.size), guide.centre.dtype)
    density = partial(collapsed.straight_log_density, shape, partial(collapsed.log_density, shape, data))
    values = jax.lax.map(lambda z: density(guide.centre + guide.spread @ z), z, batch_size=_BATCH)
    volume = jnp.sum(jnp.log(jnp.diag(guide.spread))) + 0.5 * shape.size * np.log(2 * np.pi)
    return values + 0.5 * jnp.sum(z**2, axis=1) + volume


def _pareto_k(log_weights: np.ndarray) -> float:
    import arviz  # not above: its import is slow

    if np.ptp(log_weights) < 1e-9:  # the posterior is Gaussian, and the weights have no tail
        return -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(arviz.psislw(log_weights)[1])
