r"""Exact weights from order parameters (docs/model.md, section 4, "lifting").

With C_l and M_l of ``models.collapsed`` and W_l = sqrt(N_l) C_l Q_l, Q_l [rank, N_l] orthonormal rows, Haar:

    a       = sqrt(N_{L+1}) C_{L+1} Q_{L+1}
    V_l^h   = (1 - Q_{l+1}^T Q_{l+1}) V~ + sigma_l sqrt(N_l) Q_{l+1}^T M_l^h Q_l,        V~ from the prior,
    V_0     = V~ + sigma_0^2 Phi^T (K + T I)^{-1} (y - Phi V~ - eps),                    eps ~ N(0, T I),

where M_l^h is the block of rows of head h and Phi the linear map V_0 -> f. The second line is the prior
conditioned on W_l: the pseudo-inverse of W_{l+1} cancels against the square root C_{l+1} in W_l.
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
    factors = [M for M, _ in bartlett_factors(shape, theta)]
    roots = square_roots(shape, data.variances, theta)
    haar = [
        _haar(k, rank, N, theta.dtype)
        for k, (_, rank), N in zip(
            jax.random.split(key_haar, len(factors)), shape.factors, network.widths[::-1], strict=True
        )
    ]
    weights = {"a": (np.sqrt(network.widths[-1]) * roots[0] @ haar[0])[0]}
    for i in range(1, len(factors)):  # layer l = L + 1 - i, top down
        l = network.depth + 1 - i
        above, below, N = haar[i - 1], haar[i], network.widths[l - 1]
        M = factors[i].reshape(network.heads[l - 1], -1, factors[i].shape[1])
        free = prior[f"V_{l}"]
        pinned = jnp.sqrt(data.variances[l] * N) * (M @ below) - above @ free
        weights[f"V_{l}"] = free + above.T @ pinned

    W_1 = jnp.sqrt(jnp.asarray(network.widths[0], theta.dtype)) * roots[-1] @ haar[-1]
    weights["V_0"] = first_layer(W_1, prior["V_0"], data, xi, key_noise)
    return {name: weights[name] for name in network.weight_shapes}


def first_layer(
    W_1: Float[Array, "H N_1"],
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
    return free + data.variances[0] / np.sqrt(N) * W_1.T @ jnp.einsum("p,pnh->hn", alpha, xi)


def _haar(key, rank, width, dtype):
    """rank orthonormal rows of length width, uniformly distributed: QR of a Gaussian with the signs fixed."""
    Q, R = jnp.linalg.qr(jax.random.normal(key, (width, rank), dtype))
    return (Q * jnp.sign(jnp.diag(R))).T
