r"""Blocks of weights whose conditional law is Gaussian, and one exact sweep over them (docs/model.md, section 5).

f is linear in each block theta of weights (V_0, V_1, .., V_L, a) with the others fixed, f = Phi theta, so the
block's conditional is Gaussian and is drawn by conditioning a draw from the prior:

    theta = theta~ + sigma^2 Phi^T (sigma^2 Phi Phi^T + T I)^{-1} (y - Phi theta~ - eps),    eps ~ N(0, T I).

Every block V [h, i, j] acts as f(x) = sum_{h, q} A^q V^h z^{(h, q)}(x), A the weights above it contracted and z what
comes from below; with m outputs A has m rows for each q. A skip connection adds what bypasses the block,
sqrt(N_l) sum_q A^q z^{(0, q)}, which is moved to the labels' side. A sweep is one pass up with the old weights, for all
z, and one pass down that draws block after block and contracts the new one.
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
    skips = block_skips(network)
    inputs = block_inputs(data.xi, blocks, skips)
    keys = jax.random.split(key, len(blocks))
    A = jnp.eye(network.outputs, dtype=data.xi.dtype)
    for name, z, skip, variance, key_block in [*zip(blocks, inputs, skips, network.variances, keys, strict=True)][::-1]:
        # z carries 1/sqrt(N_l), for the block; what bypasses it has none
        given = data._replace(y=data.y - math.sqrt(z.shape[2]) * outputs_of(A[None], z[:1], data.y)) if skip else data
        V = draw_block(given, A, z[1:] if skip else z, variance, key_block)
        through = through_heads(A, V).reshape(-1, V.shape[2]) / math.sqrt(V.shape[2])
        A = jnp.concatenate([A, through]) if skip else through
        weights = weights | {name: V.reshape(weights[name].shape)}
    return weights


def draw_block(data, A, z, variance, key):
    """One exact draw of the block V [h, i, j] between A [q m, i] and z [h, q, j, P]."""
    T, y = data.temperature, data.y
    key_prior, key_noise = jax.random.split(key)
    shape = (z.shape[0], A.shape[1], z.shape[2])
    prior = jnp.sqrt(variance) * jax.random.normal(key_prior, shape, y.dtype)
    eps = gaussian.noise(key_noise, y, T)
    f = outputs_of(through_heads(A, prior), z, y)
    covariance = gaussian.with_noise(variance * block_kernel(A, z), T)
    alpha = gaussian.conditioning_weights(covariance, y, f, eps)
    if y.ndim == 1:
        return prior + variance * through_heads(A.T, z @ alpha)
    pulled = jnp.einsum("hqjp,pa->hqaj", z, alpha).reshape(len(z), len(A), -1)
    return prior + variance * through_heads(A.T, pulled)


def outputs_of(AV, z, y):
    """f like y [P] or [P, m], of AV [h, q m, j] and z [h, q, j, P]."""
    if y.ndim == 1:
        return AV.reshape(-1) @ z.reshape(-1, len(y))
    h, q, j, _ = z.shape
    return jnp.einsum("hqaj,hqjp->pa", AV.reshape(h, q, -1, j), z)


def block_kernel(A, z):
    """Phi Phi^T [P m, P m] of the block between A [q m, i] and z [h, q, j, P]: the Gram matrix of the gradients."""
    h, q, _, P = z.shape
    if len(A) == q:
        mixed = through_heads(A @ A.T, z.reshape(h, q, -1))
        return z.reshape(-1, P).T @ mixed.reshape(-1, P)
    m = len(A) // q
    mixed = jnp.einsum("qarb,hrjp->hqjpab", (A @ A.T).reshape(q, m, q, m), z)
    return jnp.einsum("hqjs,hqjpab->sapb", z, mixed).reshape(P * m, P * m)


def block_shapes(network):
    """(h, i, j) of every block by name, from V_0 up; V_0 and a have one head, a a row for each output."""
    return {
        name: (1, *shape)[-3:]
        for name, shape in (network.weight_shapes | {"a": (network.outputs, network.widths[-1])}).items()
    }


def block_skips(network):
    """Whether a skip connection bypasses each block, from V_0 up."""
    return (False, *network.skips, False)


def block_inputs(xi, blocks, skips):
    """z [g, q, j, P] that enters every block, from V_0 up: activations contracted with the attention above them.

    z is xi below V_0 and, above a block V, sum_h V^h z^h / sqrt(i), its paths q taken apart as the next block's (g, q).
    Of a block with a skip connection z^0 bypasses it.
    """
    z = jnp.transpose(xi, (2, 1, 0))[None]
    found = [z]
    pairs = zip(itertools.pairwise(blocks.values()), itertools.pairwise(skips), strict=True)
    for (V, above), (skip, skip_above) in pairs:
        bypass, z = (z[0], z[1:]) if skip else (0, z)
        z = jnp.matmul(V[:, None], z).sum(0) / math.sqrt(V.shape[1]) + bypass
        z = z.reshape(len(above) + skip_above, -1, *z.shape[1:])
        found.append(z)
    return found
