r"""Attention paths: contract the tokens away, once (docs/model.md, section 2).

A path pi = (h_1, .., h_L) takes one head per layer. The network depends on x only through

    xi^pi(x) = 1/sqrt(N_0 H) sum_{s_1..s_L} x(s_1) A_1^{h_1}[s_1, s_2] .. A_L^{h_L}[s_L, t*],   H = prod_l H_l,

computed from the readout token down, one layer at a time, so that nothing of size S^L exists; or from the inputs up,
where every token is a readout. A skip connection of strength g_l is one more branch of its layer, listed first, with
the identity for a pattern, g_l in place of 1/sqrt(H_l), and no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import checks
from ..core.numerics import numerics
from . import residual as skips
from .attention import Attention, bilinear_attention, query_key_attention, weights_of
from .paths import PathInputs
from .tokens import ALL, Reading, Sequences, check_readout, reading, sequences

_PART_BYTES = 2**23  # of inputs and patterns contracted at a time: about the cache of a CPU
_PATTERNS = 4  # heads of a layer, about


def contract(
    x,
    attention: Attention,
    readout="last",
    *,
    tokens: str | None = None,
    residual: bool | Sequence[float] = (),
    mask=None,
    lengths=None,
) -> PathInputs:
    """Path-contracted inputs of sequences x under fixed attention, in float64.

    Args:
        x: sequences [P, N_0, S], token s is column s; or a list of P arrays [N_0, S_i] of different lengths.
        attention: the attention patterns of every layer, a function of x.
        readout: token t* that the network reads: ``"last"``, ``"first"``, or ``"mean"`` over target tokens; the
            index of a token of each sequence [P], from 0; or ``"all"``, where every token has an output of its own.
        tokens: ``"rows"`` for x [P, S, N_0], as PyTorch has it; ``"columns"`` says that x is [P, N_0, S], which is
            asked by a warning where S = N_0. The attention sees columns in either case.
        residual: strength g_l of the skip connection of each layer, (g_1, .., g_L), or True for 1 in all. A layer with
            g_l > 0 has one more branch, which comes before its heads; one with 0 has none.
        mask: [P, S], True for tokens and False for padding, which neither attends nor is attended to and is not read.
        lengths: number of tokens of each sequence [P], in place of a mask, where padding comes last.

    Returns:
        PathInputs with xi [P, N_0, G_1, .., G_L], G_l = H_l heads and a skip connection if there is one. With
        ``readout="all"`` its rows are the tokens that are not padding, sequence by sequence.

    Raises:
        ValueError: shapes of x and attention that disagree, NaN or infinity in either, attention columns
            that do not sum to 1, an unknown readout, the index of padding, a sequence without tokens, a strength below
            0 or not one per layer, more rows than fit in memory.

    Source: docs/model.md, section 2; cost P * (S^2 sum_l G_l..G_L + N_0 S G), memory for xi and one part of x.
    """
    check_readout(readout)
    given = sequences("x", x, tokens, mask, lengths)
    if not isinstance(attention, Attention):
        raise checks.InputError(f"attention is a {type(attention).__name__}: give gf.Attention([W_1, .., W_L])")
    residual = skips.strengths(residual, len(attention.layers))
    read = reading("readout", readout, given)
    xi = contract_batch(given, attention, read, residual)
    return PathInputs(xi, names_of(attention, xi.shape[2:], residual), residual, read.rows)


def names_of(attention: Attention, branches: tuple[int, ...], residual: tuple[float, ...]) -> tuple[str, ...]:
    """Names of all paths: the attention's own, where it has one for each, or for each that skips no layer."""
    names = attention.path_names
    whole = [not any(skip) for skip in skips.skipped(branches, residual).tolist()]
    if not len(names) or len(names) != sum(whole):
        return names
    own = iter(names)
    return tuple(next(own) if w else name for name, w in zip(skips.path_names(branches, residual), whole, strict=True))


def contract_batch(
    given: Sequences, attention: Attention, read: Reading, residual: tuple[float, ...] = ()
) -> Float[np.ndarray, "rows N_0 *G"]:
    """xi of sequences that were checked, a part at a time; what is float32 becomes float64 there.

    Where all layers are weights, attention and contraction are one compiled program, of parts that are padded to a
    power of two so that few of them are compiled.
    """
    x, mask = given
    size = 2 ** int(np.log2(max(1, _PART_BYTES // _bytes_per_example(x, attention, read))))
    rows = np.ones((len(x), 1), bool) if read.rows is None else read.rows
    weights, found, done = weights_of(attention), np.empty(0), 0
    with numerics():
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            arguments = _part(x, part), _part(mask, part), _part(read.weights, part), read.kind
            if weights is None:
                xi = _by_patterns(attention, *arguments, residual, part, len(x))
            else:
                xi = _by_weights(weights, attention, *arguments, residual)
            if not done:
                shape = (int(rows.sum()), x.shape[1], *xi.shape[3:])
                checks.memory(
                    f"x of shape {x.shape}",
                    8 * int(np.prod(shape)),
                    "gf.reduce, which holds one batch, or fewer paths",
                )
                found = np.empty(shape)
            chosen = np.asarray(xi)[: len(rows[part])][rows[part]]
            found[done : done + len(chosen)] = chosen
            done += len(chosen)
    found.flags.writeable = False
    return found


def _bytes_per_example(x, attention, read) -> int:
    (_, N_0, S), L = x.shape, len(attention.layers)
    return 8 * S * (N_0 * (_PATTERNS**L if read.kind == ALL else 1) + _PATTERNS * S * L)


def _part(array: np.ndarray | None, part: slice):
    found = None if array is None else array[part]
    return found if found is None or found.dtype == bool else found.astype(float)


def _by_patterns(attention, x, mask, weights, kind, residual, part, total):
    patterns = attention.of_part(x, mask, part, total)
    return _contracted(x, patterns, kind, residual, weights)


def _by_weights(layers, attention, x, mask, weights, kind, residual):
    size = 2 ** int(np.ceil(np.log2(len(x))))
    fill = lambda a, value: np.concatenate([a, np.full((size - len(a), *a.shape[1:]), value, a.dtype)])  # noqa: E731
    x, mask, weights = (None if a is None else fill(a, v) for a, v in ((x, 0), (mask, True), (weights, 0)))
    return _contract_weights(x, layers, mask, weights, attention.hardmax, attention.causal, kind, residual)


@partial(jax.jit, static_argnames=("hardmax", "causal", "kind", "residual"))
def _contract_weights(x, layers, mask, weights, hardmax, causal, kind, residual):
    functions = (bilinear_attention if "weights" in layer else query_key_attention for layer in layers)
    patterns = [
        function(x, **layer, hardmax=hardmax, causal=causal, mask=mask)
        for function, layer in zip(functions, layers, strict=True)
    ]
    return _contracted(x, patterns, kind, residual, weights)


def _contracted(x, patterns, kind, residual, weights):
    """[P, outputs per sequence, N_0, G_1, .., G_L]."""
    if kind == ALL:
        return contract_upwards(x, patterns, residual)
    return contract_patterns(x, patterns, kind, residual, weights)[:, None]


def contract_patterns(
    x: Float[Array | np.ndarray, "P N_0 S"],
    patterns: Sequence[Float[Array, "P H_l S S"]],
    readout: str,
    residual: tuple[float, ...] = (),
    weights: Float[Array, "P S"] | None = None,
) -> Float[Array, "P N_0 *G"]:
    """xi of x under attention patterns [P, H_l, S, S], bottom layer first; differentiable, nothing checked.

    The network reads the target tokens with weights [P, S], or as ``readout`` says.
    """
    P, N_0, S = x.shape
    residual, branches = _branches(patterns, residual)
    top = patterns[-1]
    if weights is not None:
        to_readout = jnp.einsum("phst,pt->phs", top, weights)
    else:
        to_readout = {"last": top[..., -1], "first": top[..., 0], "mean": top.mean(-1)}[readout]  # [P, H_L, S]
    if residual[-1]:
        one = jnp.eye(S, dtype=top.dtype)
        read = {"last": one[-1], "first": one[0], "mean": one.mean(0)}[readout] if weights is None else weights[:, None]
        to_readout = jnp.concatenate([jnp.broadcast_to(read, (P, 1, S)), to_readout], 1)
    for a, g in zip(patterns[-2::-1], residual[-2::-1], strict=True):
        # a [P, h, s, t], to_readout [P, (h_{l+1}..h_L), t] -> [P, (h_l..h_L), s], h_l slowest
        through = jnp.einsum("phst,pqt->phqs", a, to_readout).reshape(P, -1, S)
        to_readout = jnp.concatenate([to_readout, through], 1) if g else through
    xi = jnp.einsum("pns,pqs->pnq", x, to_readout) / skips.scales(N_0, branches, residual)
    return xi.reshape(P, N_0, *branches)


def contract_upwards(
    x: Float[Array | np.ndarray, "P N_0 S"],
    patterns: Sequence[Float[Array, "P H_l S S"]],
    residual: tuple[float, ...] = (),
) -> Float[Array, "P S N_0 *G"]:
    """xi of every target token: 2 P N_0 S^2 sum_l G_1..G_{l-1} H_l flops, fewer than from each token down."""
    P, N_0, S = x.shape
    residual, branches = _branches(patterns, residual)
    z = jnp.asarray(x)[:, None]  # [P, (h_1..h_{l-1}), N_0, s]
    for a, g in zip(patterns, residual, strict=True):
        through = jnp.einsum("pqns,phst->pqhnt", z, a)
        through = jnp.concatenate([z[:, :, None], through], 2) if g else through
        z = through.reshape(P, -1, N_0, S)
    xi = jnp.moveaxis(z, (3, 2), (1, 2)) / skips.scales(N_0, branches, residual)  # [P, S, N_0, paths]
    return xi.reshape(P, S, N_0, *branches)


def _branches(patterns, residual) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """(g_1, .., g_L), (G_1, .., G_L)."""
    residual = residual or (0.0,) * len(patterns)
    return residual, tuple(a.shape[1] + (g > 0) for a, g in zip(patterns, residual, strict=True))
