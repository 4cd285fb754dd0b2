r"""The log evidence by importance weights of independent draws from the Gaussian at the posterior's mode.

    p(y) = E_q[ p(s, y) / q(s) ],       q = N(s*, L L^T)       (docs/model.md, section 11)

in the coordinates s in which the posterior of the order parameters is nearly Gaussian. One evaluation of the density a
draw, no gradient. Some proposals come first, and where they are not enough, four times as many from a Gaussian at the
mean that they give, and so on; only the last ones count. The largest weights say whether to believe it: above Pareto
k = 0.7 their mean converges too slowly, and S proposals are enough to tell where k is below 1 - 1 / log10(S).
Sources: Vehtari, Simpson, Gelman, Yao and Gabry 2024 (Pareto k, and how it depends on S).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..models import Posterior, collapsed
from ..models.collapsed import CollapsedData, Layout
from ..models.target import Guide
from ..sampler.guide import laplace
from ..sampler.low_rank import LowRankGuide
from ..sampler.weights import PARETO_LIMIT, Weights

_LEAST = 64  # proposals of a replicate
_BATCH = 16  # densities evaluated at a time: their matrices stay in caches
_CHUNKS = 1, 4, 16, 64  # of proposals, in turn: the next are made around the mean of the last, unless these have a
_PRECISE = 0.03  # standard error (nats) of at most so much, and a Pareto k that is low for their number


def importance_weights(posterior: Posterior, key: jax.Array, proposals: int, repeats: int) -> Weights:
    """Weights of ``repeats`` times so many proposals at most.

    It belongs inside ``core.numerics.numerics()``.
    """
    shape = collapsed.layout(posterior.network)
    guide, data = laplace(posterior, straight=True), posterior.collapsed_data()
    few = max(_LEAST, proposals // _CHUNKS[-1])
    for chunks in _CHUNKS:
        key, own = jax.random.split(key)
        found, z = _weights(shape, repeats, few, data, guide, jax.random.split(own, chunks))
        sure = min(PARETO_LIMIT, 1 - 1 / np.log10(found.log_weights.size))
        if found.pareto_k <= sure and np.max(found.errors) / np.sqrt(repeats) <= _PRECISE:
            break
        guide = _moved(guide, found, z)
    return found


def _weights(shape, repeats, few, data, guide, keys) -> tuple[Weights, np.ndarray]:
    """Weights of independent proposals, so many a key and replicate, and where these were in whitened coordinates."""
    parts = [_log_weights(shape, repeats * few, data, guide, key) for key in keys]
    log_weights = np.concatenate([np.asarray(w).reshape(repeats, few) for w, _ in parts], axis=1)
    z = np.concatenate([np.asarray(z).reshape(repeats, few, -1) for _, z in parts], axis=1)
    return Weights.of(log_weights), z.reshape(-1, z.shape[2])


def _moved(guide: Guide | LowRankGuide, weights: Weights, z: np.ndarray) -> Guide | LowRankGuide:
    """The Gaussian at the mean that weights give, and as much wider as they give: its tails then cover the skew ones.

    Means and variances of whitened coordinates are known from ESS proposals to 1 / sqrt(ESS), and shrink towards those
    of the guide by as much.
    """
    if not isinstance(guide, Guide):  # hundreds of paths: no number of proposals tells their mean
        return guide
    log_weights = weights.log_weights.ravel()
    share = np.exp(log_weights - log_weights.max())
    share /= share.sum()
    trust = 1 / (1 + len(z[0]) * np.sum(share**2))
    mean = trust * (share @ z)
    wider = np.sqrt(np.maximum(1.0, 1 + trust * (share @ (z - mean) ** 2 - 1)))
    spread = np.linalg.cholesky((guide.spread * wider**2) @ guide.spread.T)
    return Guide(guide.position(jnp.asarray(mean)), guide.covariance, jnp.asarray(spread))


@partial(jax.jit, static_argnums=(0, 1))
def _log_weights(shape: Layout, count: int, data: CollapsedData, guide: Guide, key):
    z = jax.random.normal(key, (count, shape.size), guide.centre.dtype)
    density = partial(collapsed.straight_log_density, shape, partial(collapsed.log_density, shape, data))
    values = jax.lax.map(lambda z: density(guide.position(z)), z, batch_size=_BATCH)
    return values + 0.5 * jnp.sum(z**2, axis=1) + guide.log_volume, z
