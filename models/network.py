r"""The network: its shapes, its prior, and the forward pass through attention paths.

Effective weights, from the readout down (docs/model.md, section 3), carry one 1/sqrt per contracted width:

    W_{L+1} = a [1, N_{L+1}],   W_l[(h_l, q), j] = sum_i W_{l+1}[q, i] V_l^{h_l}[i, j] / sqrt(N_{l+1}),   [k_l, N_l]

with q = (h_{l+1}..h_L) and k_l = H_l..H_L. They give at once the order parameters U_l = W_l W_l^T / N_l and
the network, f(x) = sum_pi B^pi . xi^pi(x) with the path weights B = W_1 V_0 / sqrt(N_1) [H, N_0]. Contracted in
this order no activation of any example is ever formed: a gradient costs k_l N_l N_{l+1} per layer whatever P is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import checks

Weights = dict[str, Array]  # "V_0" [N_1, N_0], "V_l" [H_l, N_{l+1}, N_l], "a" [N_{L+1}]


class OrderParameters(NamedTuple):
    """Order parameters of one set of weights, or of many along leading axes such as [chain, draw].

    Attributes:
        U_a: |a|^2 / N_{L+1}, a scalar [..].
        U: (U_1, .., U_L), U_l = W_l W_l^T / N_l [.., k_l, k_l] with k_l = H_l..H_L, paths in C order, h_l slowest.
            U_1 is the paper's U.

    Source: docs/model.md, section 3.
    """

    U_a: Any
    U: tuple[Any, ...]


@dataclass(frozen=True)
class Network:
    """Shapes and prior of a deep linear-value multi-head attention network with one output.

    Args:
        input_width: N_0, entries per token.
        heads: (H_1, .., H_L), attention heads of each layer.
        widths: (N_1, .., N_{L+1}): widths entering each attention layer, then the readout width.
        variances: (sigma_0^2, .., sigma_L^2, sigma_a^2), prior VARIANCE of each entry of V_0, V_1.., V_L, a;
            all 1 by default.

    Raises:
        ValueError: an entry below 1, a variance that is not positive, or tuples whose lengths disagree.

    Source: docs/model.md, section 1; arXiv:2405.15926, section 2.
    """

    input_width: int
    heads: tuple[int, ...]
    widths: tuple[int, ...]
    variances: tuple[float, ...] = ()

    def __post_init__(self):
        heads = checks.counts("heads", self.heads)
        L = len(heads)
        variances = self.variances if np.size(self.variances) else (1.0,) * (L + 2)
        object.__setattr__(self, "input_width", checks.count("input_width", self.input_width))
        object.__setattr__(self, "heads", heads)
        object.__setattr__(self, "widths", checks.counts("widths", self.widths, L + 1))
        object.__setattr__(self, "variances", checks.positives("variances", variances, L + 2))

    @property
    def depth(self) -> int:
        """L, the number of attention layers."""
        return len(self.heads)

    @property
    def paths(self) -> int:
        """H, the number of attention paths."""
        return self.path_counts[0]

    @property
    def path_counts(self) -> tuple[int, ...]:
        """(k_1, .., k_L), k_l = H_l..H_L: sizes of the order parameters U_1..U_L."""
        return tuple(int(n) for n in np.cumprod(self.heads[::-1])[::-1])

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each weight array, in the order of ``variances``."""
        N = (self.input_width, *self.widths)
        shapes: dict[str, tuple[int, ...]] = {"V_0": (N[1], N[0])}
        for l, H in enumerate(self.heads, start=1):
            shapes[f"V_{l}"] = (H, N[l + 1], N[l])
        return shapes | {"a": (N[-1],)}

    @property
    def weight_count(self) -> int:
        """Number of weights."""
        return sum(math.prod(shape) for shape in self.weight_shapes.values())


def draw_prior(network: Network, key: jax.Array, dtype=jnp.float64) -> Weights:
    """One draw of all weights from the prior.

    Args:
        network: shapes, and the prior VARIANCE of each array's entries.
        key: typed random key, split over the arrays in the order of ``weight_shapes``.
        dtype: of the weights; float64 needs ``jax.enable_x64(True)``.

    Returns:
        Weights by name: "V_0" [N_1, N_0], "V_l" [H_l, N_{l+1}, N_l], "a" [N_{L+1}].

    Source: docs/model.md, section 1.
    """
    keys = jax.random.split(key, network.depth + 2)
    return {
        name: math.sqrt(variance) * jax.random.normal(k, shape, dtype)
        for (name, shape), variance, k in zip(network.weight_shapes.items(), network.variances, keys, strict=True)
    }


def effective_weights(weights: Weights) -> tuple[Array, ...]:
    """(W_1, .., W_{L+1}), each [k_l, N_l]: the weights contracted from the readout down. V_0 is not needed."""
    W = weights["a"][None, :]
    result = [W]
    for V in value_weights(weights)[::-1]:
        W = through_heads(W, V).reshape(-1, V.shape[2]) / math.sqrt(V.shape[1])
        result.append(W)
    return tuple(result[::-1])


def value_weights(weights: Weights) -> list[Array]:
    """[V_1, .., V_L]: the value weights of all attention layers, bottom layer first; other arrays are ignored."""
    found: list[Array] = []
    while (name := f"V_{len(found) + 1}") in weights:
        found.append(weights[name])
    return found


def through_heads(A: Float[Array, "q i"], V: Float[Array, "h i j"]) -> Float[Array, "h q j"]:
    """A V^h of every head h.

    As a batch of products over heads: of ``matmul(A, V)`` XLA makes one product, and for that copies V to [i, (h, j)]
    (docs/performance.md).
    """
    return jnp.matmul(jnp.broadcast_to(A, (len(V), *A.shape)), V)


def order_parameters(weights: Weights) -> OrderParameters:
    """U_a = |a|^2 / N_{L+1} and U_l = W_l W_l^T / N_l of one set of weights.

    Args:
        weights: "V_l" [H_l, N_{l+1}, N_l] and "a" [N_{L+1}] by name; V_0 is not needed.

    Returns:
        OrderParameters in the precision of the weights, differentiable.

    Source: docs/model.md, section 3.
    """
    return _gram(effective_weights(weights))


def _gram(effective) -> OrderParameters:
    *U, U_a = (W @ W.T / W.shape[1] for W in effective)
    return OrderParameters(U_a[0, 0], tuple(U))


def path_weights(weights: Weights) -> Float[Array, "H N_0"]:
    """B with f(x) = sum_pi B^pi . xi^pi(x): all that the network's output depends on.

    Args:
        weights: "V_0" [N_1, N_0], "V_l" [H_l, N_{l+1}, N_l], "a" [N_{L+1}] by name.

    Returns:
        B = W_1 V_0 / sqrt(N_1) [H, N_0], W_1 the effective weights; paths in C order, h_1 slowest.

    Source: docs/model.md, sections 2 and 3 (B^pi = V_0^T w^pi).
    """
    return _output_map(effective_weights(weights)[0], weights["V_0"])


def _output_map(W_1, V_0):
    return W_1 @ V_0 / math.sqrt(W_1.shape[1])


def summarise(weights: Weights) -> tuple[OrderParameters, Float[Array, "H N_0"]]:
    """Order parameters and path weights of one set of weights, in one pass."""
    effective = effective_weights(weights)
    return _gram(effective), _output_map(effective[0], weights["V_0"])


def forward(B: Float[Array, "H N_0"], xi: Float[Array, "P N_0 H"]) -> Float[Array, " P"]:
    """Network output f(x) = sum_pi B^pi . xi^pi(x)."""
    return jnp.matmul(xi.reshape(xi.shape[0], -1), B.T.reshape(-1))
