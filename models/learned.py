r"""Attention whose queries and keys have a prior: bare-input attention in the posterior (docs/model.md, section 13).

    Q, K [H, G, N_0] ~ N(mean, variance)
    A^h[s, t] = softmax_s( (K^h x(s)) . (Q^h x(t)) / sqrt(G) ),   or   (K^h x(s)) . (Q^h x(t)) / (n_t sqrt(G))

with n_t the number of tokens that t may attend to. Given Q and K everything else is that of frozen attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..core import checks
from .attention import Attention, allowed, masked, query_key_attention, query_key_scores, weights_of

if TYPE_CHECKING:
    from .learned_posterior import LearnedPosterior
    from .network import Network

KINDS = ("softmax", "linear")


@dataclass(frozen=True, eq=False)
class LearnedAttention:
    """Attention with a Gaussian prior over queries and keys, to be sampled with everything else.

    Args:
        layers: one entry per layer l = 1..L, bottom first: a number of heads H_l, of prior mean 0; or a pair (Q, K) of
            arrays [H_l, G, N_0], the prior mean.
        width: G, entries of a query and of a key; taken from the arrays where there are any.
        variances: prior VARIANCE of each entry of Q and K: one for all, one per layer, or an array [L, N_0], one for
            each entry of a token, so that heads can be told what to look at; default 1/N_0.
        kind: ``"softmax"``, or ``"linear"``, whose columns need not sum to 1.
        causal: a token attends to itself and to earlier ones only.
        path_names: as for ``gf.Attention``.

    Raises:
        ValueError: layers of another form, a missing or disagreeing width, a variance that is not positive, hardmax
            (which has no gradient), or another ``kind``.

    Source: docs/model.md, section 13; docs/learned_attention.md.
    """

    layers: Sequence
    width: int | None = None
    variances: float | Sequence | None = None
    kind: str = "softmax"
    causal: bool = False
    path_names: tuple[str, ...] = ()
    heads: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self):
        if isinstance(self.layers, str | bytes) or not hasattr(self.layers, "__len__") or not len(self.layers):
            raise checks.InputError(
                f"layers={checks.brief(self.layers)} must list one entry per layer, bottom first: heads (2, 2), or "
                "pairs [(Q, K), ..]"
            )
        if self.kind == "hardmax":
            raise checks.InputError("kind='hardmax' has no gradient in queries and keys: use kind='softmax'")
        checks.nearest("kind", self.kind, KINDS)
        if not isinstance(self.causal, bool | np.bool_):
            raise checks.InputError(f"causal={checks.brief(self.causal)} must be True or False")
        width = None if self.width is None else checks.count("width", self.width)
        layers = tuple(_layer(f"layers[{l}]", layer) for l, layer in enumerate(self.layers))
        given = {layer[0].shape[1:] for layer in layers if not isinstance(layer, int)}
        if len(given) > 1 or (width is not None and any(shape[0] != width for shape in given)):
            asked = "" if width is None else f" and width={width}"
            raise checks.InputError(f"layers has Q of [G, N_0] = {sorted(given)}{asked}: give all layers one G and N_0")
        if width is None and not given:
            raise checks.InputError("width=None: give width=G, the number of entries of a query and of a key")
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "width", width if width is not None else next(iter(given))[0])
        object.__setattr__(self, "heads", tuple(layer if isinstance(layer, int) else len(layer[0]) for layer in layers))
        object.__setattr__(self, "variances", _variances(self.variances, len(layers)))
        object.__setattr__(self, "causal", bool(self.causal))
        object.__setattr__(self, "path_names", checks.names("path_names", self.path_names))

    @classmethod
    def around(
        cls,
        attention: Attention,
        width: int | None = None,
        variances: float | Sequence | None = None,
    ) -> LearnedAttention:
        """Attention whose prior mean is that of frozen heads.

        Args:
            attention: of layers (Q, K) or W; K^T Q / sqrt(G) is made equal to W, or to its best approximation of rank
                ``width``.
            width: G; default that of Q and K, or the largest rank of any W.
            variances: as for the class.

        Returns:
            LearnedAttention, by softmax, with the path names of ``attention``.

        Raises:
            ValueError: attention by hardmax, by functions or by given patterns, or a width below that of Q and K.
        """
        if not isinstance(attention, Attention):
            raise checks.InputError(f"attention is a {type(attention).__name__}: give gf.Attention([W_1, .., W_L])")
        found = weights_of(attention)
        if found is None or attention.hardmax:
            what = "hardmax" if attention.hardmax else "functions or given patterns"
            raise checks.InputError(f"attention is by {what}, without queries and keys: give layers W or (Q, K)")
        matrices = [
            layer["weights"] if "weights" in layer else _products(layer["query"], layer["key"]) for layer in found
        ]
        least = max(int(np.linalg.matrix_rank(w).max()) for w in matrices)
        queries = [layer["query"].shape[1] for layer in found if "query" in layer]
        G = checks.count("width", width) if width is not None else max([least, *queries, 1])
        pairs = [
            (layer["query"], layer["key"]) if "query" in layer and layer["query"].shape[1] == G else _factors(w, G)
            for layer, w in zip(found, matrices, strict=True)
        ]
        return cls(pairs, G, variances, causal=attention.causal, path_names=attention.path_names)

    @property
    def names(self) -> tuple[str, ...]:
        """ "Q_1", "K_1", .., "Q_L", "K_L"."""
        return tuple(f"{name}_{l}" for l in range(1, len(self.heads) + 1) for name in "QK")

    def shapes(self, input_width: int) -> dict[str, tuple[int, int, int]]:
        """Shape [H_l, G, N_0] of queries and keys by name.

        Args:
            input_width: N_0.

        Returns:
            By name, in the order of ``names``.
        """
        return {
            n: (H, int(self.width or 0), input_width)
            for n, H in zip(self.names, np.repeat(self.heads, 2).tolist(), strict=True)
        }

    def means(self, input_width: int) -> dict[str, np.ndarray]:
        """Prior mean of queries and keys by name.

        Args:
            input_width: N_0.

        Returns:
            Arrays [H_l, G, N_0].
        """
        given = [part for layer in self.layers for part in ((None, None) if isinstance(layer, int) else layer)]
        return {
            name: np.zeros(shape) if part is None else part
            for (name, shape), part in zip(self.shapes(input_width).items(), given, strict=True)
        }

    def deviations(self, input_width: int) -> dict[str, np.ndarray]:
        """Prior standard deviation of the entries of each array by name.

        Args:
            input_width: N_0.

        Returns:
            Arrays [], or [N_0].
        """
        variances = self.variances or (1 / input_width,) * len(self.heads)
        return dict(zip(self.names, np.sqrt(np.repeat(variances, 2, axis=0)), strict=True))  # type: ignore[arg-type]

    def frozen(self, weights: Mapping[str, np.ndarray]) -> Attention:
        """The attention at given queries and keys.

        Args:
            weights: "Q_l" and "K_l" [H_l, G, N_0] by name; other arrays are ignored.

        Returns:
            Attention, for ``gf.contract``.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        missing = [name for name in self.names if name not in weights]
        if missing:
            raise checks.InputError(f"weights lack {', '.join(missing)}: give queries and keys of all layers")
        arrays = {name: checks.array(name, weights[name], "H, G, N_0") for name in self.names}
        for name, shape in self.shapes(arrays["Q_1"].shape[2]).items():
            if arrays[name].shape != shape:
                raise checks.InputError(f"weights have {name} of shape {arrays[name].shape}: give {shape}")
        pairs = [(arrays[f"Q_{l}"], arrays[f"K_{l}"]) for l in range(1, len(self.heads) + 1)]
        if self.kind == "softmax":
            return Attention(pairs, causal=self.causal, path_names=self.path_names)
        layers = [partial(linear_attention, query=q, key=k, causal=self.causal) for q, k in pairs]
        return Attention(layers, causal=self.causal, path_names=self.path_names, normalised=False)

    def posterior(
        self, network: Network, x, y, temperature: float, *, readout: str = "last", tokens: str | None = None,
        classes: tuple | None = None,
    ) -> LearnedPosterior:  # fmt: skip
        """The joint posterior of queries, keys and the network's weights, which ``gf.sample`` takes.

        Args:
            network: shapes and prior of everything but queries and keys, with as many layers and heads.
            x: sequences [P, N_0, S], or a list of P arrays [N_0, S_i] of different lengths.
            y: labels [P] or [P, m], as for ``gf.Posterior``.
            temperature: T > 0, the variance of the Gaussian likelihood.
            readout: token that the network reads: ``"last"``, ``"first"``, or ``"mean"``.
            tokens: ``"rows"`` for x [P, S, N_0], as for ``gf.contract``.
            classes: as for ``gf.Posterior``.

        Returns:
            ``gf.models.LearnedPosterior``.

        Raises:
            ValueError: shapes that disagree, NaN or infinity, temperature not above 0, another readout.
        """
        from .learned_posterior import LearnedPosterior  # not above: it takes a LearnedAttention

        return LearnedPosterior(self, network, x, y, temperature, classes, readout, tokens)

    def __repr__(self) -> str:
        kinds = "" if self.kind == "softmax" else f", kind={self.kind!r}"
        return f"LearnedAttention(heads={self.heads}, width={self.width}{kinds}{', causal' * self.causal})"


def linear_attention(
    x: Float[Array | np.ndarray, "P N_0 S"],
    query: Float[Array | np.ndarray, "H G N_0"],
    key: Float[Array | np.ndarray, "H G N_0"],
    causal: bool = False,
    mask: Bool[Array | np.ndarray, "P S"] | None = None,
) -> Float[Array, "P H S S"]:
    """(K^h x(s)) . (Q^h x(t)) / (n_t sqrt(G)), n_t the number of sources that t may attend to."""
    scores = query_key_scores(x, query, key)
    if causal or mask is not None:
        open_to = jnp.broadcast_to(allowed(scores.shape[-1], causal, mask), scores.shape)
        scores = jnp.where(open_to, scores, 0.0) / open_to.sum(-2, keepdims=True)
    else:
        scores = scores / scores.shape[-1]
    return masked(scores, mask)


PATTERNS: dict[str, Callable] = {"softmax": query_key_attention, "linear": linear_attention}


def _layer(name: str, layer) -> int | tuple[np.ndarray, np.ndarray]:
    pair = isinstance(layer, tuple | list) and len(layer) == 2
    if not pair and np.ndim(layer) == 0:
        return checks.count(name, layer)
    if not pair:
        raise checks.InputError(f"{name} is a {type(layer).__name__}: give a number of heads, or a pair (Q, K)")
    query, key = (checks.array(f"{name} {what}", part, "H, G, N_0") for what, part in zip("QK", layer, strict=True))
    if query.shape != key.shape:
        raise checks.InputError(f"{name} has Q {query.shape} and K {key.shape}: give both as [H, G, N_0]")
    return query, key


def _variances(variances, depth: int) -> tuple | None:
    """One number, or one tuple of numbers, per layer."""
    if variances is None:
        return None
    if isinstance(variances, np.ndarray | list | tuple) and any(np.ndim(each) for each in variances):
        rows = checks.array("variances", variances, "L, N_0")
        if len(rows) != depth:
            raise checks.InputError(f"variances has shape {rows.shape} for {depth} layers: give one row per layer")
        return tuple(checks.positives(f"variances[{l}]", row.tolist()) for l, row in enumerate(rows))
    return checks.positives("variances", (variances,) * depth if np.ndim(variances) == 0 else variances, depth)


def _products(query, key) -> np.ndarray:
    """W [H, N_0, N_0] of queries and keys."""
    return np.einsum("hga,hgb->hab", key, query) / np.sqrt(query.shape[1])


def _factors(W: np.ndarray, G: int) -> tuple[np.ndarray, np.ndarray]:
    """(Q, K) [H, G, N_0] with K^T Q / sqrt(G) = W, or its best approximation of rank G; zeros beyond the rank."""
    u, s, vt = np.linalg.svd(W)
    n = min(G, s.shape[1])
    root = np.sqrt(s[:, :n] * np.sqrt(G))
    K, Q = root[..., None] * np.swapaxes(u, 1, 2)[:, :n], root[..., None] * vt[:, :n]
    fill = ((0, 0), (0, G - n), (0, 0))
    return np.pad(Q, fill), np.pad(K, fill)
