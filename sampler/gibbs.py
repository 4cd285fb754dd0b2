r"""Exact blocked Gibbs sweeps in weight space (docs/model.md, section 5).

f is linear in each block theta of weights (V_0, V_1, .., V_L, a) with the others fixed, f = Phi theta, so the
block's conditional is Gaussian and is drawn by conditioning a draw from the prior:

    theta = theta~ + sigma^2 Phi^T (sigma^2 Phi Phi^T + T I)^{-1} (y - Phi theta~ - eps),    eps ~ N(0, T I).

Phi and its transpose are applied by the forward pass and its vjp; Phi Phi^T [P, P] comes from order parameters and
contracted activations. No step size, no rejection, no warm-up beyond forgetting the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ..models import Network
from ..models.network import effective_weights, forward, path_weights
from . import targets
from .kernel import Kernel, Target


@dataclass(frozen=True, kw_only=True)
class Gibbs(Kernel):
    """The blocked Gibbs kernel; it has no options.

    Choose it to check another sampler by independent means, or where exact weights are wanted at small width with
    many paths. It mixes slowly at small width and low temperature: ``collapsed`` is faster there.

    Source: docs/model.md, section 5.
    """

    name: ClassVar[str] = "gibbs"
    float64_only: ClassVar[bool] = True

    def target(self, network: Network, weights: bool) -> Target:
        return targets.weights(network)._replace(lapack=True)

    def init(self, setting, key, position):
        return position

    def step(self, setting, key, index, number, state, shared):
        data, variances = setting.data, setting.target.network.variances
        blocks = list(zip(state, jax.random.split(key, len(state)), variances, strict=True))
        for name, key_block, variance in blocks[::-1]:  # from the readout down
            state = state | {name: _draw_block(data, state, name, variance, key_block)}
        return state, {"lp": setting.log_density(state)}, ()

    def position(self, state):
        return state


def _draw_block(data, weights, name, variance, key):
    """One exact draw of block ``name`` from its conditional."""
    T, y = data.temperature, data.y
    key_prior, key_noise = jax.random.split(key)
    prior = jnp.sqrt(variance) * jax.random.normal(key_prior, weights[name].shape, y.dtype)
    noise = jnp.sqrt(T) * jax.random.normal(key_noise, y.shape, y.dtype)
    f, transpose = jax.vjp(lambda block: forward(path_weights(weights | {name: block}), data.xi), prior)
    covariance = variance * block_kernel(data, weights, name) + T * jnp.eye(len(y), dtype=y.dtype)
    alpha = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(covariance), True), y - f - noise)
    return prior + variance * transpose(alpha)[0]


def block_kernel(data, weights, name):
    """Phi Phi^T [P, P] of one block: the Gram matrix of the examples' gradients of f in that block."""
    effective = effective_weights(weights)  # W_1 .. W_{L+1}
    if name == "V_0":
        W = effective[0]
        mixed = jnp.einsum("pnh,hg->png", data.xi, W @ W.T / W.shape[1])
        return jnp.einsum("png,qng->pq", mixed, data.xi, optimize="optimal")
    z = activations(data.xi, weights, upto=len(weights) - 1 if name == "a" else int(name[2:]))
    if name == "a":
        return z[:, 0] @ z[:, 0].T / z.shape[-1]
    H, N_above, N = weights[name].shape
    W = effective[int(name[2:])]  # W_{l+1} [q, N_{l+1}]
    z = z.reshape(len(z), H, -1, N)
    mixed = jnp.einsum("phqn,qr->phrn", z, W @ W.T / N_above)
    return jnp.einsum("phqn,rhqn->pr", mixed, z, optimize="optimal") / N


def activations(xi, weights, upto: int):
    """z_l [P, k_l, N_l], l = ``upto``: contracted activations entering layer l, heads below it summed over.

    z_1 = V_0 xi, and z_{l+1}^q = sum_h V_l^h z_l^{(h, q)} / sqrt(N_l).
    """
    z = jnp.einsum("jn,pnh->phj", weights["V_0"], xi)
    for l in range(1, upto):
        V = weights[f"V_{l}"]
        z = z.reshape(len(z), V.shape[0], -1, V.shape[2])
        z = jnp.einsum("hij,phqj->pqi", V, z) / jnp.sqrt(V.shape[2]).astype(z.dtype)
    return z
