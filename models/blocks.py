r"""Blocks of weights whose conditional law is Gaussian, and one exact sweep over them (docs/model.md, section 5).

f is linear in each block theta of weights (V_0, V_1, .., V_L, a) with the others fixed, f = Phi theta, so the
block's conditional is Gaussian and is drawn by conditioning a draw from the prior:

    theta = theta~ + sigma^2 Phi^T (sigma^2 Phi Phi^T + T I)^{-1} (y - Phi theta~ - eps),    eps ~ N(0, T I).

Every block V [h, i, j] acts as f(x) = sum_{h, q} A^q V^h z^{(h, q)}(x), A the weights above it contracted and z what
comes from below. A sweep is one pass up with the old weights, for all z, and one pass down that draws block after
block and contracts the new one.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp

from . import gaussian
from .network import Network, Weights, through_heads
from .weight_space import WeightData


def redraw(network: Network, data: WeightData, key: jax.Array, weights: Weights) -> Weights:
    """One sweep: every block redrawn from its exact conditional, from the readout down to V_0.

    Args:
        network: shapes and prior.
        data: of the weight-space density, in float64.
        key: typed random key.
        weights: all weights by name.
    """
    blocks = {name: weights[name].reshape(shape) for name, shape in block_shapes(network).items()}
    inputs = block_inputs(data.xi, blocks)
    keys = jax.random.split(key, len(blocks))
    A = jnp.ones((1, 1), data.xi.dtype)
    for name, z, variance, key_block in list(zip(blocks, inputs, network.variances, keys, strict=True))[::-1]:
        V = draw_block(data, A, z, variance, key_block)
        A = through_heads(A, V).reshape(-1, V.shape[2]) / math.sqrt(V.shape[2])
        weights = weights | {name: V.reshape(weights[name].shape)}
    return weights


def draw_block(data, A, z, variance, key):
    """One exact draw of the block V [h, i, j] between A [q, i] and z [h, q, j, P]."""
    T, y = data.temperature, data.y
    key_prior, key_noise = jax.random.split(key)
    shape = (z.shape[0], A.shape[1], z.shape[2])
    prior = jnp.sqrt(variance) * jax.random.normal(key_prior, shape, y.dtype)
    eps = gaussian.noise(key_noise, y, T)
    f = through_heads(A, prior).reshape(-1) @ z.reshape(-1, len(y))
    covariance = gaussian.with_noise(variance * block_kernel(A, z), T)
    alpha = gaussian.conditioning_weights(covariance, y, f, eps)
    return prior + variance * through_heads(A.T, z @ alpha)


def block_kernel(A, z):
    """Phi Phi^T [P, P] of the block between A [q, i] and z [h, q, j, P]: the Gram matrix of the examples' gradients."""
    h, q, _, P = z.shape
    mixed = through_heads(A @ A.T, z.reshape(h, q, -1))
    return z.reshape(-1, P).T @ mixed.reshape(-1, P)


def block_shapes(network):
    """(h, i, j) of every block by name, from V_0 up; V_0 and a have one head, a one row."""
    return {name: (1, *shape)[-3:] for name, shape in (network.weight_shapes | {"a": (1, network.widths[-1])}).items()}


def block_inputs(xi, blocks):
    """z [h, q, j, P] that enters every block, from V_0 up: activations contracted with the attention above them.

    z is xi below V_0 and, above a block V, sum_h V^h z^h / sqrt(i), its paths q taken apart as the next block's (h, q).
    """
    z = jnp.transpose(xi, (2, 1, 0))[None]
    found = [z]
    for V, above in itertools.pairwise(blocks.values()):
        z = jnp.matmul(V[:, None], z).sum(0) / math.sqrt(V.shape[1])
        z = z.reshape(len(above), -1, *z.shape[1:])
        found.append(z)
    return found
