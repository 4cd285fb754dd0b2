r"""The attention-only network with trainable attention: no MLP, no layer norm (docs/model.md, sections 1 and 12).

Query and key weights act on the bare input in every layer, so the network is what the posterior is about, with Q and
K trained together with the value weights: f(x) = sum_pi B^pi . xi^pi(x), xi through attention paths
(models/paths.py), B the path weights (models/network.py). A gradient step never forms an activation of width N.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..models.attention import query_key_attention
from ..models.contraction import contract_patterns
from ..models.network import Network, Weights, draw_prior, forward, path_weights


def initial(network: Network, key_width: int, scale: float, key: jax.Array) -> Weights:
    """Random weights: values and readout N(0, variance), Q = K of entries N(0, scale^2 / N_0), float32.

    Equal Q and K make tokens attend to those that resemble them, which is where the search for resembling drawings
    begins; apart, they take thousands of steps to find it.
    """
    values, attention = jax.random.split(key)
    weights = draw_prior(network, values, jnp.float32)
    for l, (H, k) in enumerate(zip(network.heads, jax.random.split(attention, network.depth), strict=True), start=1):
        Q = scale * jax.random.normal(k, (H, key_width, network.input_width), jnp.float32) / network.input_width**0.5
        weights |= {f"Q_{l}": Q, f"K_{l}": Q}
    return weights


def outputs(
    weights: Weights, x: Float[Array, "P N_0 S"], readout: str, residual: tuple[float, ...] | None = None
) -> Float[Array, " P"]:
    """f(x) of a network with trainable attention, differentiable in all weights.

    Args:
        weights: V_0, V_1, .., a as everywhere, and Q_l, K_l [H_l, G, N_0] of each layer, by name.
        x: sequences [P, N_0, S], token s is column s.
        readout: ``"last"``, ``"first"`` or ``"mean"``.
        residual: (g_1, .., g_L), strengths of the skip connections, () for none; None: the weights' entry "residual".

    Returns:
        Outputs [P] in the precision of the arguments.

    Raises:
        ValueError: x of another input width than the attention.
    """
    patterns = [query_key_attention(x, Q, K) for Q, K in attention_layers(weights)]
    if residual is None:
        residual = tuple(np.asarray(weights.get("residual", ())).tolist())
    xi = contract_patterns(x, patterns, readout, residual)
    values = {name: w for name, w in weights.items() if name[0] not in "QK"}
    return forward(path_weights(values, residual), xi.reshape(*xi.shape[:2], -1))


def attention_layers(weights: Weights) -> list[tuple[Array, Array]]:
    """[(Q_1, K_1), .., (Q_L, K_L)]."""
    depth = sum(name.startswith("Q_") for name in weights)
    return [(weights[f"Q_{l}"], weights[f"K_{l}"]) for l in range(1, depth + 1)]
