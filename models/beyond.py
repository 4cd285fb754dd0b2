r"""Two networks beyond the solvable one, by tokens: attention that reads activations, and layers that are not linear.

    z_1(t)     = V_0 x(t) / sqrt(N_0)
    A_l^h[s,t] = softmax_s( x(s)^T W_l^h x(t) + c (K_l^h z_l(s)) . (Q_l^h z_l(t)) / (N sqrt(G)) )
    u_l(t)     = g z_l(t) + 1/sqrt(H_l N) sum_h sum_s V_l^h v(z_l(s)) A_l^h[s, t]
    z_{l+1}(t) = u_l(t),  or  g u_l(t) + B_l phi(C_l u_l(t) / sqrt(N)) / sqrt(M)  with an MLP block
    f(x)       = a . z_{L+1}(t*) / sqrt(N)

v is the identity or phi. The W are given and fixed, all else has a prior; c = 0, v = 1 and no MLP is the solvable
network with its frozen attention (docs/model.md, section 1). Both functions return a ``gf.Model``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from ..core import checks
from .own import Model, Weights

ACTIVATIONS: dict[str, Callable] = {
    "tanh": jnp.tanh, "relu": jax.nn.relu, "gelu": jax.nn.gelu, "erf": jax.scipy.special.erf,
}  # fmt: skip
READOUTS = ("last", "first", "mean")


def attention_from_activations(
    input_width: int,
    heads: Sequence[int],
    width: int,
    *,
    query_width: int | None = None,
    scale: float = 1.0,
    frozen: Sequence | None = None,
    residual: float = 0.0,
    readout: str = "last",
    outputs: int = 1,
    variances: Mapping[str, float] | float = 1.0,
    observables: Callable | None = None,
) -> Model:
    """Softmax attention whose queries and keys read the activations of the layer below; all weights have a prior.

    Args:
        input_width: N_0, entries per token of the inputs x [P, N_0, S].
        heads: (H_1, .., H_L), heads of each layer.
        width: N, of all layers.
        query_width: G, entries of a query; default the width.
        scale: c, of the logits that depend on activations; 0 leaves out Q and K.
        frozen: (W_1, .., W_L), each [H_l, N_0, N_0]: logits that depend on the bare inputs; default none. A file does
            not hold large ones: ``gf.open`` and ``gf.resume`` then need ``model=`` in another process.
        residual: g, of the skip connections.
        readout: ``"last"``, ``"first"`` or ``"mean"``, the token that is read.
        outputs: m; 1 gives f [P], more give f [P, m].
        variances: prior VARIANCE of the entries of "V_0", "Q_l", "K_l", "V_l", "a", by name or one for all.
        observables: as for ``gf.Model``.

    Returns:
        Model with weights "V_0" [N, N_0], "Q_l" and "K_l" [H_l, G, N], "V_l" [H_l, N, N], "a" [N] or [m, N].

    Raises:
        ValueError: an option out of range, or W of another shape.

    Source: docs/own_network.md; the open question of arXiv:2405.15926, section 5.
    """
    options = _checked(input_width, heads, width, scale, frozen, residual, readout)
    shapes = _shapes(input_width, heads, width, query_width, scale, outputs)
    forward = partial(token_outputs, **options)
    return Model(shapes=shapes, variances=variances, forward=forward, observables=observables)


def with_mlp(
    input_width: int,
    heads: Sequence[int],
    width: int,
    *,
    mlp_width: int | None = None,
    activation: str = "gelu",
    nonlinear_values: bool = False,
    query_width: int | None = None,
    scale: float = 0.0,
    frozen: Sequence | None = None,
    residual: float = 0.0,
    readout: str = "last",
    outputs: int = 1,
    variances: Mapping[str, float] | float = 1.0,
    observables: Callable | None = None,
) -> Model:
    """Attention layers with an MLP block after each, with non-linear values, or with both.

    Args:
        input_width, heads, width, query_width, frozen, residual, readout, outputs: as for
            ``attention_from_activations``.
        mlp_width: M, hidden units of the MLP blocks; None for no blocks.
        activation: phi: ``"tanh"``, ``"relu"``, ``"gelu"`` or ``"erf"``.
        nonlinear_values: the values are those of phi(z) in place of z.
        scale: c; by default attention depends on the bare inputs alone, and is uniform without ``frozen``.
        variances: as for ``attention_from_activations``, of "B_l" and "C_l" too.
        observables: as for ``gf.Model``.

    Returns:
        Model with weights as of ``attention_from_activations``, "C_l" [M, N] and "B_l" [N, M].

    Raises:
        ValueError: an option out of range, neither blocks nor non-linear values, or W of another shape.

    Source: docs/own_network.md; the open question of arXiv:2405.15926, section 5.
    """
    checks.nearest("activation", activation, ACTIVATIONS)
    if mlp_width is None and not nonlinear_values:
        raise checks.InputError("mlp_width=None and nonlinear_values=False leave all layers linear: give one of them")
    options = _checked(input_width, heads, width, scale, frozen, residual, readout) | {"activation": activation}
    options["nonlinear_values"] = bool(nonlinear_values)
    shapes = _shapes(input_width, heads, width, query_width, scale, outputs)
    readout_shape = shapes.pop("a")
    if mlp_width is not None:
        M = checks.count("mlp_width", mlp_width)
        for l in range(1, len(heads) + 1):
            shapes |= {f"C_{l}": (M, width), f"B_{l}": (width, M)}
    shapes["a"] = readout_shape
    forward = partial(token_outputs, **options)
    return Model(shapes=shapes, variances=variances, forward=forward, observables=observables)


def token_outputs(
    weights: Weights,
    x: jax.Array,
    *,
    layers: int,
    scale: float = 1.0,
    frozen: Sequence | None = None,
    residual: float = 0.0,
    readout: str = "last",
    activation: str = "gelu",
    nonlinear_values: bool = False,
) -> jax.Array:
    """f [P] or [P, m] of sequences x [P, N_0, S], see the equations above."""
    phi = ACTIVATIONS[activation]
    z = jnp.einsum("ij,pjs->pis", weights["V_0"], x) / math.sqrt(x.shape[1])
    for l in range(1, layers + 1):
        V = weights[f"V_{l}"]
        H, N = V.shape[:2]
        A = _patterns(weights, l, x, z, scale, frozen)
        values = jnp.einsum("hij,pjs->phis", V, phi(z) if nonlinear_values else z) / math.sqrt(H * N)
        u = residual * z + jnp.einsum("phis,phst->pit", values, A)
        z = u
        if f"C_{l}" in weights:
            C, B = weights[f"C_{l}"], weights[f"B_{l}"]
            hidden = phi(jnp.einsum("mi,pit->pmt", C, u) / math.sqrt(N))
            z = residual * u + jnp.einsum("im,pmt->pit", B, hidden) / math.sqrt(len(C))
    read = z.mean(-1) if readout == "mean" else z[..., -1 if readout == "last" else 0]
    return read @ weights["a"].T / math.sqrt(read.shape[1])


def _patterns(weights: Weights, l: int, x, z, scale: float, frozen) -> jax.Array:
    """A [P, H, S, S] of a layer: weight of source s for target t, columns sum to 1."""
    H = weights[f"V_{l}"].shape[0]
    logits = jnp.zeros((len(x), H, x.shape[2], x.shape[2]), z.dtype)
    if frozen is not None:
        logits = jnp.einsum("pis,hij,pjt->phst", x, jnp.asarray(frozen[l - 1], z.dtype), x)
    if scale:
        K, Q = (jnp.einsum("hgi,pis->phgs", weights[f"{name}_{l}"], z) for name in "KQ")
        logits = logits + scale * jnp.einsum("phgs,phgt->phst", K, Q) / (z.shape[1] * math.sqrt(K.shape[2]))
    return jax.nn.softmax(logits, axis=2)


def _checked(input_width, heads, width, scale, frozen, residual, readout) -> dict:
    """Options of ``token_outputs`` that both networks have, as plain values."""
    N_0, heads = checks.count("input_width", input_width), checks.counts("heads", heads)
    checks.count("width", width)
    checks.nearest("readout", readout, READOUTS)
    for name, value in (("scale", scale), ("residual", residual)):
        if value:
            checks.positive(name, value)
    options = {"layers": len(heads), "scale": float(scale), "residual": float(residual), "readout": readout}
    if frozen is not None:
        arrays = [checks.array(f"frozen[{l}]", W, "H, N_0, N_0") for l, W in enumerate(frozen)]
        wanted = [(H, N_0, N_0) for H in heads]
        if [W.shape for W in arrays] != wanted:
            raise checks.InputError(f"frozen has arrays of shapes {[W.shape for W in arrays]}: give {wanted}")
        options["frozen"] = tuple(arrays)
    return options


def _shapes(input_width, heads, width, query_width, scale, outputs) -> dict[str, tuple[int, ...]]:
    G = width if query_width is None else checks.count("query_width", query_width)
    m = checks.count("outputs", outputs)
    shapes: dict[str, tuple[int, ...]] = {"V_0": (width, input_width)}
    for l, H in enumerate(heads, start=1):
        if scale:
            shapes |= {f"Q_{l}": (H, G, width), f"K_{l}": (H, G, width)}
        shapes[f"V_{l}"] = (H, width, width)
    return shapes | {"a": (width,) if m == 1 else (m, width)}
