r"""The network: its shapes, its prior, and the forward pass through attention paths.

Effective weights, from the readout down (docs/model.md, section 3), carry one 1/sqrt per contracted width:

    W_{L+1} = a [m, N_{L+1}],   W_l[(h_l, q), j] = sum_i W_{l+1}[q, i] V_l^{h_l}[i, j] / sqrt(N_{l+1}),   [k_l m, N_l]

with q = (h_{l+1} .. h_L, output). A skip connection is one more branch, h_l = 0, without weights: W_l[(0, q)] =
W_{l+1}[q]; its strength g_l is in the path-contracted inputs. With k_l = G_l..G_L the number of paths from layer l
up, G_l branches in layer l, the effective weights give at once the order parameters U_l = W_l W_l^T / N_l and the
network, f(x) = sum_pi B^pi . xi^pi(x) with the path weights B = W_1 V_0 / sqrt(N_1) [H m, N_0]. Contracted in this
order no activation of any example is ever formed: a gradient costs k_l m N_l N_{l+1} per layer whatever P is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import cards, checks
from .residual import strengths
from .shown import network_rows

Weights = dict[str, Array]  # "V_0" [N_1, N_0], "V_l" [H_l, N_{l+1}, N_l], "a" [N_{L+1}], or [m, N_{L+1}] for m outputs


class OrderParameters(NamedTuple):
    """Order parameters of one set of weights, or of many along leading axes such as [chain, draw].

    Attributes:
        U_a: |a|^2 / N_{L+1}, a scalar [..]; a a^T / N_{L+1} [.., m, m] for m > 1 outputs.
        U: (U_1, .., U_L), U_l = W_l W_l^T / N_l [.., k_l m, k_l m] with k_l = G_l..G_L, paths in C order, h_l slowest,
            the output fastest. U_1 is the paper's U.

    Source: docs/model.md, sections 3 and 7.
    """

    U_a: Any
    U: tuple[Any, ...]

    def __repr__(self) -> str:
        return cards.line("OrderParameters", self._shown())

    def _repr_html_(self) -> str:
        return cards.card("OrderParameters", self._shown().items())

    def _shown(self) -> dict[str, Any]:
        return {"U_a": self.U_a} | {f"U_{l}": U for l, U in enumerate(self.U, start=1)}


@dataclass(frozen=True)
class Network:
    """Shapes and prior of a deep linear-value multi-head attention network.

    Args:
        input_width: N_0, entries per token.
        heads: (H_1, .., H_L), attention heads of each layer.
        widths: (N_1, .., N_{L+1}): widths entering each attention layer, then the readout width.
        variances: (sigma_0^2, .., sigma_L^2, sigma_a^2), prior VARIANCE of each entry of V_0, V_1.., V_L, a;
            all 1 by default.
        outputs: m, of the network; the readout ``a`` is then [m, N_{L+1}].
        residual: (g_1, .., g_L), strengths of skip connections, z_{l+1} = g_l z_l + attention; 0 for none in a layer.
            True for 1 in all layers. The inputs must be contracted with the same values.

    Raises:
        ValueError: an entry below 1, a variance that is not positive, a strength below 0, a skip connection between
            different widths, or tuples whose lengths disagree.

    Source: docs/model.md, sections 1, 7 and 12; arXiv:2405.15926, section 2.
    """

    input_width: int
    heads: tuple[int, ...]
    widths: tuple[int, ...]
    variances: tuple[float, ...] = ()
    outputs: int = 1
    residual: tuple[float, ...] = ()

    def __post_init__(self):
        heads = checks.counts("heads", self.heads)
        L = len(heads)
        variances = self.variances if np.size(self.variances) else (1.0,) * (L + 2)
        object.__setattr__(self, "input_width", checks.count("input_width", self.input_width))
        object.__setattr__(self, "heads", heads)
        object.__setattr__(self, "widths", checks.counts("widths", self.widths, L + 1))
        object.__setattr__(self, "variances", checks.positives("variances", variances, L + 2))
        object.__setattr__(self, "outputs", checks.count("outputs", self.outputs))
        object.__setattr__(self, "residual", strengths(self.residual, L))
        for l, (g, below, above) in enumerate(zip(self.residual, self.widths, self.widths[1:], strict=False), start=1):
            if g and below != above:
                raise checks.InputError(
                    f"residual={self.residual} has a skip connection in layer {l}, between widths N_{l}={below} and "
                    f"N_{l + 1}={above}: make them equal"
                )

    def __repr__(self) -> str:
        fields = [f"{name}={getattr(self, name)}" for name in ("input_width", "heads", "widths", "variances")]
        fields += [f"outputs={self.outputs}"] * (self.outputs > 1) + [f"residual={self.residual}"] * any(self.skips)
        return f"Network({', '.join(fields)})"

    def _repr_html_(self) -> str:
        return cards.card("Network", network_rows(self).items())

    @property
    def depth(self) -> int:
        """L, the number of attention layers."""
        return len(self.heads)

    @property
    def skips(self) -> tuple[bool, ...]:
        """Whether each layer has a skip connection."""
        return tuple(g > 0 for g in self.residual)

    @property
    def branches(self) -> tuple[int, ...]:
        """(G_1, .., G_L): heads of each layer, and one more for a skip connection, which is listed first."""
        return tuple(H + skip for H, skip in zip(self.heads, self.skips, strict=True))

    @property
    def paths(self) -> int:
        """H, the number of attention paths, those through skip connections among them."""
        return self.path_counts[0]

    @property
    def path_counts(self) -> tuple[int, ...]:
        """(k_1, .., k_L), k_l = G_l..G_L: numbers of paths from each layer up; U_l has k_l times ``outputs`` rows."""
        return tuple(int(n) for n in np.cumprod(self.branches[::-1])[::-1])

    @property
    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each weight array, in the order of ``variances``."""
        N = (self.input_width, *self.widths)
        shapes: dict[str, tuple[int, ...]] = {"V_0": (N[1], N[0])}
        for l, H in enumerate(self.heads, start=1):
            shapes[f"V_{l}"] = (H, N[l + 1], N[l])
        return shapes | {"a": (N[-1],) if self.outputs == 1 else (self.outputs, N[-1])}

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


def effective_weights(weights: Weights, residual: Sequence[float] = ()) -> tuple[Array, ...]:
    """(W_1, .., W_{L+1}), each [k_l m, N_l]: the weights contracted from the readout down. V_0 is not needed."""
    W = jnp.atleast_2d(weights["a"])
    result = [W]
    values = value_weights(weights)
    for V, g in zip(values[::-1], (tuple(residual) or (0.0,) * len(values))[::-1], strict=True):
        through = through_heads(W, V).reshape(-1, V.shape[2]) / math.sqrt(V.shape[1])
        W = jnp.concatenate([W, through]) if g else through
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


def order_parameters(weights: Weights, residual: Sequence[float] = ()) -> OrderParameters:
    """U_a = a a^T / N_{L+1} and U_l = W_l W_l^T / N_l of one set of weights.

    Args:
        weights: "V_l" [H_l, N_{l+1}, N_l] and "a" [N_{L+1}] or [m, N_{L+1}] by name; V_0 is not needed.
        residual: (g_1, .., g_L) of a network with skip connections.

    Returns:
        OrderParameters in the precision of the weights, differentiable.

    Source: docs/model.md, sections 3, 7 and 12.
    """
    return gram(W @ W.T / W.shape[1] for W in effective_weights(weights, residual))


def gram(matrices) -> OrderParameters:
    """(U_a, (U_1, .., U_L)) from the matrices U_1, .., U_L, U_{L+1}; that of one output is a number."""
    *U, U_a = matrices
    return OrderParameters(U_a[0, 0] if U_a.shape[0] == 1 else U_a, tuple(U))


def path_weights(weights: Weights, residual: Sequence[float] = ()) -> Float[Array, "Hm N_0"]:
    """B with f(x) = sum_pi B^pi . xi^pi(x): all that the network's output depends on.

    Args:
        weights: "V_0" [N_1, N_0], "V_l" [H_l, N_{l+1}, N_l], "a" [N_{L+1}] or [m, N_{L+1}] by name.
        residual: (g_1, .., g_L) of a network with skip connections.

    Returns:
        B = W_1 V_0 / sqrt(N_1) [H m, N_0], W_1 the effective weights; paths in C order, h_1 slowest, output fastest.

    Source: docs/model.md, sections 2, 3 and 7 (B^pi = V_0^T w^pi).
    """
    return _output_map(effective_weights(weights, residual)[0], weights["V_0"])


def _output_map(W_1, V_0):
    return W_1 @ V_0 / math.sqrt(W_1.shape[1])


def summarise(weights: Weights, residual: Sequence[float] = ()) -> tuple[OrderParameters, Float[Array, "Hm N_0"]]:
    """Order parameters and path weights of one set of weights, in one pass."""
    effective = effective_weights(weights, residual)
    return gram(W @ W.T / W.shape[1] for W in effective), _output_map(effective[0], weights["V_0"])


def forward(B: Float[Array, "Hm N_0"], xi: Float[Array, "P N_0 H"]) -> Float[Array, "P ..."]:
    """Network output f(x) = sum_pi B^pi . xi^pi(x), [P] for one output and [P, m] for more."""
    P, N_0, H = xi.shape
    if len(B) == H:
        return jnp.matmul(xi.reshape(P, -1), B.T.reshape(-1))
    return jnp.matmul(xi.reshape(P, -1), B.reshape(H, -1, N_0).transpose(2, 0, 1).reshape(N_0 * H, -1))
