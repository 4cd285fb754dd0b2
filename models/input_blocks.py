"""Path kernels of many paths straight from the inputs, some input directions at a time.

    K = sum_n X_n U X_n^T,      dE/dU = sum_n X_n^T G X_n,      X_n = xi[:, n, :] of a block of input directions n

so that what a gradient needs besides the inputs does not grow with N_0, for any number of chains.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_BLOCK_BYTES = 16 * 2**20  # of X_n of one chain


def combined(xi: Float[Array, "P N_0 H"], U: Float[Array, "H H"]) -> Float[Array, "P P"]:
    """sum_{pi pi'} U^{pi pi'} xi^pi xi^pi'^T, for symmetric U."""

    def add(K, X):
        flat = X.reshape(len(X), -1)
        return K + (X @ U).reshape(len(X), -1) @ flat.T

    return _sum(xi, add, jnp.zeros((len(xi), len(xi)), xi.dtype))


def projected(xi: Float[Array, "P N_0 H"], G: Float[Array, "P P"]) -> Float[Array, "H H"]:
    """sum_{mu nu} G_{mu nu} xi_mu^pi . xi_nu^pi', for symmetric G: the transpose of ``combined``."""
    H = xi.shape[2]

    def add(total, X):
        GX = (G @ X.reshape(len(X), -1)).reshape(-1, H)
        return total + X.reshape(-1, H).T @ GX

    return _sum(xi, add, jnp.zeros((H, H), xi.dtype))


def _sum(xi, add, start):
    """``add`` over blocks of input directions, one after the other."""
    P, N_0, H = xi.shape
    size = max(1, min(N_0, _BLOCK_BYTES // (8 * P * H)))
    whole = N_0 // size

    def body(i, total):
        return add(total, jax.lax.dynamic_slice_in_dim(xi, i * size, size, axis=1))

    total = jax.lax.fori_loop(0, whole, body, start)
    return add(total, xi[:, whole * size :]) if whole * size < N_0 else total
