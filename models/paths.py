r"""Attention paths: contract the tokens away, once (docs/model.md, section 2).

A path pi = (h_1, .., h_L) takes one head per layer. The network depends on x only through

    xi^pi(x) = 1/sqrt(N_0 H) sum_{s_1..s_L} x(s_1) A_1^{h_1}[s_1, s_2] .. A_L^{h_L}[s_L, t*],   H = prod_l H_l,

computed from the readout token down, one layer at a time, so that nothing of size S^L exists. A skip connection of
strength g_l is one more branch of its layer, listed first, with the identity for a pattern and g_l in place of
1/sqrt(H_l) and no weights.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import checks
from ..core.numerics import numerics
from . import residual as skips
from .attention import Attention, bilinear_attention, query_key_attention, weights_of

READOUTS = ("last", "first", "mean")
_BATCH = 128  # examples contracted at a time: bounds the attention patterns held in memory
_PART_BYTES = 2**23  # of inputs and patterns contracted at a time, of one of many batches: about the cache of a CPU
_PATTERNS = 4  # heads of a layer, about


@dataclass(frozen=True, eq=False)
class PathInputs:
    """Path-contracted inputs xi, all that the network sees of its inputs.

    Args:
        xi: array [P, N_0, G_1, .., G_L], prefactors included; kept as float64 on the host. G_l is the number of
            branches of layer l: its heads H_l and, where it has a skip connection, that one, which comes first.
        path_names: names of the paths in C order (h_1 slowest); default "(h1 h2 .. hL)", heads from 1, and "skip" for
            a skip connection.
        residual: (g_1, .., g_L), strengths of the skip connections that xi was made with; 0 for a layer without one,
            as all are by default. True stands for 1 in every layer.

    Raises:
        ValueError: wrong rank, NaN or infinity, no examples, a number of names that is not that of paths, a control
            character in a name, or a negative strength.

    Source: docs/model.md, section 2.
    """

    xi: np.ndarray
    path_names: tuple[str, ...] = ()
    residual: tuple[float, ...] = ()
    _groups: tuple[tuple[bool, ...], ...] = ()  # layers that each path skips, once paths have one axis of their own

    def __post_init__(self):
        xi = checks.array("xi", self.xi, "P, N_0, H_1, ..")
        object.__setattr__(self, "xi", xi)
        object.__setattr__(self, "residual", skips.strengths(self.residual, len(self.heads)))
        names = self.path_names if len(self.path_names) else skips.path_names(self.heads, self.residual)
        names = checks.names("path_names", names)
        if len(names) != self.paths or len(set(names)) != len(names):
            raise checks.InputError(
                f"path_names={names} must be {self.paths} different names, one per path of {self.heads}"
            )
        object.__setattr__(self, "path_names", names)
        if not self._groups:
            found = skips.skipped(self.heads, self.residual).tolist()
            object.__setattr__(self, "_groups", tuple(map(tuple, found)))

    def __len__(self) -> int:
        return self.xi.shape[0]

    @property
    def input_width(self) -> int:
        """N_0."""
        return self.xi.shape[1]

    @property
    def heads(self) -> tuple[int, ...]:
        """Branches per layer (G_1, .., G_L): heads, and one for a skip connection."""
        return self.xi.shape[2:]

    @property
    def paths(self) -> int:
        """Number of paths, prod_l G_l."""
        return int(np.prod(self.heads))

    @property
    def flat(self) -> np.ndarray:
        """xi as [P, N_0, H], paths in C order."""
        return self.xi.reshape(len(self), self.input_width, self.paths)

    def __repr__(self) -> str:
        residual = f", residual={self.residual}" if any(self.residual) else ""
        return f"PathInputs(P={len(self)}, N_0={self.input_width}, heads={self.heads}{residual})"

    def like(self, xi: np.ndarray) -> PathInputs:
        """Other inputs of the same paths.

        Args:
            xi: [any, N_0, G_1, .., G_L], prefactors included.

        Returns:
            PathInputs with these names and skip connections.

        Raises:
            ValueError: as for the class.
        """
        return dataclasses.replace(self, xi=xi)

    def path_indices(self, paths: Sequence) -> tuple[int, ...]:
        """Places of some paths on the path axis.

        Args:
            paths: names or indices (from 0, C order), or one of them alone.

        Returns:
            Indices, sorted, whatever the order asked.

        Raises:
            ValueError: an unknown name (the nearest is offered), an index out of range, none, or a repeat.
        """
        if isinstance(paths, str) or not np.iterable(paths):
            paths = (paths,)
        found = []
        for path in paths:
            if isinstance(path, str):
                found.append(self.path_names.index(checks.nearest("path", path, self.path_names)))
            else:
                index = checks.count("path", path, least=0)
                if index >= self.paths:
                    raise checks.InputError(
                        f"path={index} is out of range: there are {self.paths} paths, give 0 to {self.paths - 1}"
                    )
                found.append(index)
        if not found or len(set(found)) != len(found):
            raise checks.InputError(f"paths={tuple(paths)} must name at least one path, each once")
        return tuple(sorted(found))

    def scales_left(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """What xi of some paths is multiplied by when the others are dropped, see ``select``.

        Args:
            index: places [n] of the paths that stay, on the path axis.

        Returns:
            Factors [n].
        """
        before, after = Counter(self._groups), Counter(self._groups[i] for i in index)
        return np.sqrt([before[self._groups[i]] / after[self._groups[i]] for i in index])

    def select(self, paths: Sequence) -> PathInputs:
        """Inputs of the sub-network made of some paths, with their own number in place of that of all in xi.

        Paths that are all combinations of some branches of each layer keep one axis per layer, and the
        sub-network can have any width. Any other set becomes one axis of paths: enough for the GP limit.

        Args:
            paths: names or indices of the paths to keep.

        Returns:
            PathInputs, paths in the order they have here; xi is multiplied by sqrt(H / number kept). With skip
            connections that holds for paths that skip the same layers, of which H is the number: heads that are left
            in a layer have the coefficient 1 / sqrt(their number), and its skip connection keeps g_l.

        Raises:
            ValueError: as ``path_indices``.
        """
        index = self.path_indices(paths)
        names = tuple(self.path_names[i] for i in index)
        groups = tuple(self._groups[i] for i in index)
        kept = [sorted(set(axis)) for axis in zip(*(np.unravel_index(i, self.heads) for i in index), strict=True)]
        heads = tuple(len(axis) for axis in kept)
        residual = tuple(g if axis[0] == 0 else 0.0 for g, axis in zip(self.residual, kept, strict=True))
        if int(np.prod(heads)) == len(index):
            groups = ()
        else:
            heads, residual = (len(index),), ()
        xi = self.flat[:, :, list(index)] * self.scales_left(index)
        return PathInputs(xi.reshape(len(self), self.input_width, *heads), names, residual, groups)


def sequences(name: str, x, tokens: str | None = None) -> np.ndarray:
    """Sequences as float64 [P, N_0, S], token s in column s.

    Args:
        name: what the user called them, for messages.
        x: an array, or an xarray.DataArray with axes "P", "N_0" and "S" in any order.
        tokens: ``"columns"`` for x [P, N_0, S], ``"rows"`` for x [P, S, N_0]; None: columns, where S is not N_0.

    Raises:
        ValueError: another rank, NaN or infinity, an unknown ``tokens``.
    """
    if tokens is not None:
        checks.nearest("tokens", tokens, ("columns", "rows"))
    return oriented(name, x, checks.array(name, x, axes_of(tokens)), tokens)


def axes_of(tokens: str | None) -> str:
    """The axes of sequences in words."""
    return "P, S, N_0" if tokens == "rows" else "P, N_0, S"


def oriented(name: str, x, found: np.ndarray, tokens: str | None) -> np.ndarray:
    """Sequences found in x as [P, N_0, S], with a warning where tokens may be on either axis and nobody said."""
    named = set(getattr(x, "dims", ())) == {"P", "N_0", "S"}
    if tokens is None and not named and found.shape[1] == found.shape[2] > 1:
        warnings.warn(
            f"{name} has shape {found.shape}, where tokens may be columns [P, N_0, S] or rows [P, S, N_0], read as "
            "columns: give tokens='columns' to confirm it, or tokens='rows'",
            checks.InputWarning,
            stacklevel=4,
        )
    return found.swapaxes(1, 2) if tokens == "rows" else found


def contract(
    x,
    attention: Attention,
    readout: str = "last",
    *,
    tokens: str | None = None,
    residual: bool | Sequence[float] = (),
) -> PathInputs:
    """Path-contracted inputs of sequences x under fixed attention, in float64.

    Args:
        x: sequences [P, N_0, S], token s is column s.
        attention: the attention patterns of every layer, a function of x.
        readout: token t* that the network reads: ``"last"``, ``"first"``, or ``"mean"`` over target tokens.
        tokens: ``"rows"`` for x [P, S, N_0], as PyTorch has it; ``"columns"`` says that x is [P, N_0, S], which is
            asked by a warning where S = N_0. The attention sees columns in either case.
        residual: strength g_l of the skip connection of each layer, (g_1, .., g_L), or True for 1 in all. A layer with
            g_l > 0 has one more branch, which comes before its heads; one with 0 has none.

    Returns:
        PathInputs with xi [P, N_0, G_1, .., G_L], G_l = H_l heads and a skip connection if there is one.

    Raises:
        ValueError: shapes of x and attention that disagree, NaN or infinity in either, attention columns
            that do not sum to 1, an unknown readout, a strength below 0 or not one per layer.

    Source: docs/model.md, section 2; cost P * (S^2 sum_l G_l..G_L + N_0 S G), memory for 128 examples.
    """
    x = sequences("x", x, tokens)
    checks.nearest("readout", readout, READOUTS)
    if not isinstance(attention, Attention):
        raise checks.InputError(f"attention is a {type(attention).__name__}: give gf.Attention([W_1, .., W_L])")
    residual = skips.strengths(residual, len(attention.layers))
    with numerics():
        batches = [slice(i, i + _BATCH) for i in range(0, len(x), _BATCH)]
        xi = np.concatenate([np.asarray(_contract(x, attention, readout, residual, batch)) for batch in batches])
    return PathInputs(xi, names_of(attention, xi.shape[2:], residual), residual)


def names_of(attention: Attention, branches: tuple[int, ...], residual: tuple[float, ...]) -> tuple[str, ...]:
    """Names of all paths: the attention's own, where it has one for each, or for each that skips no layer."""
    names = attention.path_names
    whole = [not any(skip) for skip in skips.skipped(branches, residual).tolist()]
    if not len(names) or len(names) != sum(whole):
        return names
    own = iter(names)
    return tuple(next(own) if w else name for name, w in zip(skips.path_names(branches, residual), whole, strict=True))


def _contract(x, attention, readout, residual, batch):
    return contract_patterns(x[batch], attention(x, batch), readout, residual)


def contract_batch(
    x: Float[np.ndarray, "P N_0 S"], attention: Attention, readout: str, residual: tuple[float, ...] = ()
) -> Float[np.ndarray, "P N_0 *G"]:
    """xi of one of many batches, whose inputs were checked; float32 inputs become float64 a part at a time.

    Where all layers are weights, attention and contraction are one compiled program, of parts that are padded to a
    power of two so that few of them are compiled.
    """
    P, N_0, S = x.shape
    weights = weights_of(attention)
    size = 2 ** int(np.log2(max(1, _PART_BYTES // (8 * S * (N_0 + _PATTERNS * S * len(attention.layers))))))
    found = []
    with numerics():
        for part in (x[i : i + size] for i in range(0, P, size)):
            if weights is None:
                xi = _contract(jnp.asarray(part, float), attention, readout, residual, slice(None))
            else:
                padded = np.zeros((2 ** int(np.ceil(np.log2(len(part)))), N_0, S))
                padded[: len(part)] = part
                xi = _contract_weights(padded, weights, attention.hardmax, readout, residual)
            found.append(np.asarray(xi)[: len(part)])
    return np.concatenate(found)


@partial(jax.jit, static_argnames=("hardmax", "readout", "residual"))
def _contract_weights(x, layers, hardmax, readout, residual):
    kinds = (bilinear_attention if "weights" in layer else query_key_attention for layer in layers)
    patterns = [kind(x, **layer, hardmax=hardmax) for kind, layer in zip(kinds, layers, strict=True)]
    return contract_patterns(x, patterns, readout, residual)


def contract_patterns(
    x: Float[Array | np.ndarray, "P N_0 S"],
    patterns: Sequence[Float[Array, "P H_l S S"]],
    readout: str,
    residual: tuple[float, ...] = (),
) -> Float[Array, "P N_0 *G"]:
    """xi of x under attention patterns [P, H_l, S, S], bottom layer first; differentiable, nothing checked."""
    P, N_0, S = x.shape
    residual = residual or (0.0,) * len(patterns)
    branches = tuple(a.shape[1] + (g > 0) for a, g in zip(patterns, residual, strict=True))
    read = {"last": jnp.eye(S)[-1], "first": jnp.eye(S)[0], "mean": jnp.full(S, 1 / S)}[readout]
    top = patterns[-1]
    to_readout = {"last": top[..., -1], "first": top[..., 0], "mean": top.mean(-1)}[readout]  # [P, H_L, S]
    if residual[-1]:
        to_readout = jnp.concatenate([jnp.broadcast_to(read, (P, 1, S)), to_readout], 1)
    for a, g in zip(patterns[-2::-1], residual[-2::-1], strict=True):
        # a [P, h, s, t], to_readout [P, (h_{l+1}..h_L), t] -> [P, (h_l..h_L), s], h_l slowest
        through = jnp.einsum("phst,pqt->phqs", a, to_readout).reshape(P, -1, S)
        to_readout = jnp.concatenate([to_readout, through], 1) if g else through
    xi = jnp.einsum("pns,pqs->pnq", x, to_readout) / skips.scales(N_0, branches, residual)
    return xi.reshape(P, N_0, *branches)
