r"""Exact weights from order parameters (docs/model.md, section 4, "lifting").

With C_l and M_l of ``models.collapsed`` and W_l = sqrt(N_l) C_l Q_l, Q_l [rank, N_l] orthonormal rows, Haar:

    a       = sqrt(N_{L+1}) C_{L+1} Q_{L+1}
    V_l^h   = (1 - Q_{l+1}^T Q_{l+1}) V~ + sigma_l sqrt(N_l) Q_{l+1}^T M_l^h Q_l,        V~ from the prior,
    V_0     = V~ + sigma_0^2 Phi^T (K + T I)^{-1} (y - Phi V~ - eps),                    eps ~ N(0, T I),

where M_l^h is the block of rows of head h and Phi the linear map V_0 -> f. The second line is the prior
conditioned on W_l: the pseudo-inverse of W_{l+1} cancels against the square root C_{l+1} in W_l. With a skip connection
Q_l is Q_{l+1} and, below it, Haar in its complement, and [X_l, M_l] stands for M_l.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import gaussian
from .collapsed import CollapsedData, Layout, bartlett_factors, square_roots
from .network import Network, Weights, draw_prior, forward


def lift(
    network: Network,
    shape: Layout,
    data: CollapsedData,
    xi: Float[Array, "P N_0 H"],
    key: jax.Array,
    theta: Float[Array, " D"],
) -> Weights:
    """One exact draw of all weights given theta and the data.

    If theta is drawn from the collapsed posterior, (theta, weights) is an exact joint draw.

    Args:
        network, shape: sizes; ``shape`` from ``collapsed.layout(network)``.
        data: data of the collapsed density.
        xi: training inputs [P, N_0, H].
        key: typed random key.
        theta: Bartlett coordinates.
    """
    key_prior, key_noise, key_haar = jax.random.split(key, 3)
    prior = draw_prior(network, key_prior, theta.dtype)
    roots = square_roots(shape, data.variances, theta)
    factors = bartlett_factors(shape, theta)
    bases: list[Array] = []  # Q, top layer first
    weights = {}
    for i, (layer, k) in enumerate(zip(shape.layers, jax.random.split(key_haar, len(factors)), strict=True)):
        l, N = network.depth + 1 - i, network.widths[-1 - i]
        Q = _haar(k, layer.rank, N, theta.dtype, bases[-1] if layer.skip else None)
        bases.append(jnp.concatenate([bases[-1], Q]) if layer.skip else Q)
        if i == 0:
            weights["a"] = (np.sqrt(N) * roots[0] @ Q).reshape(network.weight_shapes["a"])
            continue
        above, normals = bases[-2], factors[i].normals
        free = prior[f"V_{l}"]
        pinned = jnp.sqrt(data.variances[l] * N) * (normals.reshape(layer.heads, -1, normals.shape[1]) @ bases[-1])
        weights[f"V_{l}"] = free + above.T @ (pinned - above @ free)

    W_1 = jnp.sqrt(jnp.asarray(network.widths[0], theta.dtype)) * roots[-1] @ bases[-1]
    weights["V_0"] = first_layer(W_1, prior["V_0"], data, xi, key_noise)
    return {name: weights[name] for name in network.weight_shapes}


def first_layer(
    W_1: Float[Array, "Hm N_1"],
    free: Float[Array, "N_1 N_0"],
    data: CollapsedData,
    xi: Float[Array, "P N_0 H"],
    key: jax.Array,
) -> Float[Array, "N_1 N_0"]:
    """V_0 given W_1 and the data: Bayesian linear regression by conditioning ``free``, a draw from the prior."""
    N = W_1.shape[1]
    covariance = data.term.covariance(W_1 @ W_1.T / N)
    eps = gaussian.noise(key, data.y, data.temperature, W_1.dtype)
    alpha = gaussian.conditioning_weights(covariance, data.y, forward(W_1 @ free / np.sqrt(N), xi), eps)
    return free + data.variances[0] / np.sqrt(N) * W_1.T @ gaussian.pulled_back(alpha, xi)


def _haar(key, rank, width, dtype, above=None):
    """rank orthonormal rows of length width, uniformly distributed, orthogonal to those of ``above`` if given.

    QR of a Gaussian with the signs fixed, projected first.
    """
    if rank == 0:
        return jnp.zeros((0, width), dtype)
    columns = jax.random.normal(key, (width, rank), dtype)
    if above is not None:
        columns = columns - above.T @ (above @ columns)
    Q, R = jnp.linalg.qr(columns)
    return (Q * jnp.sign(jnp.diag(R))).T
