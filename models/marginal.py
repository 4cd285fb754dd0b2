r"""Marginal weight space: V_0 integrated out (docs/model.md, section 5).

    log p(V_1, .., V_L, a, y) = log N(y; 0, K(U_1) + T I) + log prior(V_1, .., V_L, a),      U_1 = W_1 W_1^T / N_1

At low temperature the posterior of all weights is badly conditioned through V_0 alone; here that is gone. The Gaussian
is evaluated in float64 whatever the precision of the weights: it sees them only through U_1 [H, H].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .collapsed import CollapsedData
from .lifting import first_layer
from .network import Network, Weights, effective_weights
from .weight_space import log_prior


@partial(jax.tree_util.register_dataclass, data_fields=["density", "xi"], meta_fields=["dtype"])
@dataclass(frozen=True)
class MarginalData:
    """Data of the Gaussian, the inputs that drawing V_0 needs, and the precision of the weights."""

    density: CollapsedData
    xi: Float[Array, "P N_0 H"]
    dtype: np.dtype


def log_density(network: Network, data: MarginalData, weights: Weights) -> Float[Array, ""]:
    """log p(V_1, .., V_L, a, y), natural logarithm, normalising constants included.

    Args:
        network: shapes and prior.
        data: from ``Posterior.marginal_data``.
        weights: dict of "V_l" [H_l, N_{l+1}, N_l] and "a" [N_{L+1}] or [m, N_{L+1}].
    """
    W_1 = effective_weights(weights, network.residual)[0]
    U_1 = (W_1 @ W_1.T / W_1.shape[1]).astype(data.xi.dtype)
    d = data.density
    return log_prior(network, weights) + d.term.log_likelihood(U_1)


def draw_first_layer(network: Network, data: MarginalData, key: jax.Array, weights: Weights) -> Float[Array, "N_1 N_0"]:
    """One exact draw of V_0 given the weights above it and the data."""
    key_prior, key_noise = jax.random.split(key)
    W_1 = effective_weights(weights, network.residual)[0].astype(data.xi.dtype)
    shape = network.weight_shapes["V_0"]
    free = jnp.sqrt(data.density.variances[0]) * jax.random.normal(key_prior, shape, data.xi.dtype)
    return first_layer(W_1, free, data.density, data.xi, key_noise).astype(data.dtype)
