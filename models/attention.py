r"""Attention patterns, fixed by the bare input: A_l^h(x)[s, t], weight of source s for target t.

Columns sum to 1 unless the user says otherwise (docs/model.md, section 1). A layer is anything that maps inputs
x [P, N_0, S] to patterns [P, H, S, S]: from one matrix per head, ``softmax_s(x(s)^T W^h x(t))``; from queries and keys,
``softmax_s((K^h x(s)) . (Q^h x(t)) / sqrt(G))``; the one-hot argmax of either; arrays already computed;
or a function of the user's own.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..core import checks
from . import stored

if TYPE_CHECKING:
    from .pretrained import Pretrained

COLUMN_SUM_TOLERANCE = 1e-4  # patterns stored in float32 sum to 1 within about S * 1e-7


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention of every layer, bottom layer first.

    Args:
        layers: one entry per layer l = 1..L, each an array W [H, N_0, N_0] (key on the left, query on the
            right), a pair (Q, K) of arrays [H, G, N_0], or a function x [P, N_0, S] -> A [P, H, S, S]
            with columns (over source tokens s) that sum to 1. A function with a parameter ``mask`` gets that of
            padded sequences, [P, S] or None.
        hardmax: replace the softmax over source tokens by the one-hot argmax (W and Q, K layers only).
        path_names: names of the H_1 .. H_L attention paths in C order (h_1 slowest); default "(h1 h2 .. hL)".
        normalised: columns sum to 1. With False those of functions and of given patterns may sum to anything, as in
            linear attention, or with the scale of a frozen layer norm or a mask folded in.
        causal: a token attends to itself and to earlier ones only. W and Q, K layers are masked; functions and given
            patterns have to be so.

    Raises:
        ValueError: an entry has the wrong shape or holds NaN or infinity, or a name a control character.

    Source: arXiv:2405.15926, section 2.
    """

    layers: Sequence
    hardmax: bool = False
    path_names: tuple[str, ...] = ()
    normalised: bool = True
    causal: bool = False
    _patterns: tuple[Callable | _Given, ...] = field(init=False, repr=False)

    def __post_init__(self):
        if isinstance(self.layers, (str, bytes)) or not hasattr(self.layers, "__len__") or not len(self.layers):
            raise checks.InputError(
                f"layers={checks.brief(self.layers)} must list one attention per layer, bottom first: [W_1, .., W_L]"
            )
        object.__setattr__(self, "path_names", checks.names("path_names", self.path_names))
        for name in ("hardmax", "normalised", "causal"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise checks.InputError(f"{name}={checks.brief(getattr(self, name))} must be True or False")
        if getattr(self.layers, "ndim", 0) == 3:
            raise checks.InputError(
                f"layers is one array of shape {np.shape(self.layers)}: give a list of layers, [W_1]"
            )
        shapes = [getattr(layer, "shape", ()) for layer in self.layers]
        if isinstance(self.layers, tuple) and len(shapes) == 2 and len(shapes[0]) == 3 and shapes[0] == shapes[1]:
            warnings.warn(
                f"layers is a pair of arrays of shape {tuple(shapes[0])}, read as two layers: give a list, [W_1, W_2], "
                "to confirm it, or [(Q, K)] for one layer",
                checks.InputWarning,
                stacklevel=3,
            )
        object.__setattr__(self, "layers", tuple(self.layers))
        kinds: dict[str, Any] = {"hardmax": bool(self.hardmax), "causal": bool(self.causal)}
        patterns = tuple(_layer(f"layers[{l}]", layer, kinds) for l, layer in enumerate(self.layers))
        object.__setattr__(self, "_patterns", patterns)

    @classmethod
    def given(
        cls,
        patterns: Sequence,
        path_names: tuple[str, ...] = (),
        *,
        test: Sequence | None = None,
        normalised: bool = True,
    ) -> Attention:
        """Attention already computed for one set of inputs, or for a training and a test set.

        Args:
            patterns: A_l [P, H_l, S, S] for each layer, bottom first; A[s, t] weighs source s for target t, so columns
                (over s) sum to 1. That, and S, are checked when the attention meets its inputs.
            path_names: as for the class.
            test: patterns of the test examples of a task, in the same form.
            normalised: as for the class; False for columns that need not sum to 1.

        Returns:
            Attention of the training examples; ``of_test`` gives that of the test examples.

        Raises:
            ValueError: no patterns, another rank, NaN or infinity, or another number of layers for the test set.
        """
        arrays = [checks.array(f"patterns[{l}]", a, "P, H, S, S") for l, a in enumerate(patterns)]
        others = None if test is None else [checks.array(f"test[{l}]", a, "P, H, S, S") for l, a in enumerate(test)]
        if others is not None and len(others) != len(arrays):
            raise checks.InputError(
                f"test has patterns of {len(others)} layers and patterns has {len(arrays)}: give both the same number"
            )
        given = [_Given(a, None if others is None else others[l]) for l, a in enumerate(arrays)]
        return cls(given, path_names=path_names, normalised=normalised)

    def of_test(self) -> Attention:
        """The attention of a task's test examples: the same, unless patterns were given.

        Returns:
            Attention.

        Raises:
            ValueError: patterns were given for the training examples alone.
        """
        if not is_given(self):
            return self
        if any(isinstance(layer, _Given) and layer.test is None for layer in self.layers):
            raise checks.InputError(
                "attention was given for the training examples alone: use gf.Attention.given(patterns, test=patterns "
                "of the test examples)"
            )
        layers = [_Given(layer.test) if isinstance(layer, _Given) else layer for layer in self.layers]
        return Attention(layers, self.hardmax, self.path_names, self.normalised, self.causal)

    @classmethod
    def load(cls, path: str | Path, path_names: tuple[str, ...] = ()) -> Attention:
        """Attention from a file of weights; the file of a trained network (``gf.training``) is one such.

        Args:
            path: .npz or .safetensors file that holds per layer l = 1.. either W_l [H, N_0, N_0] or Q_l and K_l
                [H, G, N_0]; other arrays in it are ignored.
            path_names: as for the class.

        Returns:
            Attention by softmax.

        Raises:
            ValueError: no such file, not of that format, a layer missing or of another shape.
        """
        name = f"path={str(path)!r}"
        found = cls(stored.layers(name, stored.read("path", path)), path_names=path_names)
        widths = [np.shape(layer[0] if isinstance(layer, tuple) else layer)[-1] for layer in found.layers]
        if len(set(widths)) > 1:
            raise checks.InputError(
                f"{name} has layers that act on widths {tuple(widths)}: every layer must act on the bare input, "
                "make the last axis N_0 in all"
            )
        return found

    @classmethod
    def from_transformers(
        cls, model, inputs, layers: Sequence[int] | None = None, heads: Sequence | None = None, *,
        pattern: str = "captured", layer_norm: str = "none", tokenizer=None, max_length: int | None = None,
        batch: int = 16, progress: bool = True,
    ) -> Pretrained:  # fmt: skip
        """Inputs as a pretrained model of the transformers library reads them: tokens and attention patterns.

        Args:
            model: a model with eager attention, or the path or name of one.
            inputs: texts, or arrays by name as a tokenizer returns them: input_ids [P, S] and attention_mask [P, S], or
                inputs_embeds [P, S, N_0]; tensors on any device and of any precision.
            layers: of the model, from 1, that stand for the layers l = 1..L of a network; default all.
            heads: of each of these layers, [(1, 2), ..], from 1; default all.
            pattern: ``"captured"``, of the model as it is, where each layer reads its own input; or ``"recomputed"``:
                every chosen layer reads the bare input x, as in the paper.
            layer_norm: of each chosen layer's attention: ``"none"`` leaves it out, ``"frozen"`` keeps its scale of each
                token, 1 / standard deviation over channels in the pretrained model (docs/pretrained.md).
            tokenizer: of texts; default the one in the directory of the model.
            max_length: tokens, at which texts are cut; default as many as the model takes.
            batch: examples of a forward pass.
            progress: show a bar on stderr.

        Returns:
            Pretrained: ``contract`` gives what posteriors take, ``batches`` what ``gf.reduce`` takes, ``read`` x and
            attention.

        Raises:
            ValueError: PyTorch or transformers missing, fused attention, a model without attention, layers or heads
                that do not exist, token ids that are not the model's, sequences that are too long, norms that cannot be
                frozen.
        """
        from .pretrained import from_transformers  # PyTorch is imported there

        return from_transformers(
            model, inputs, layers, heads, pattern=pattern, layer_norm=layer_norm, tokenizer=tokenizer,
            max_length=max_length, batch=batch, progress=progress,
        )  # fmt: skip

    @classmethod
    def from_transformer_lens(
        cls, model, inputs, layers: Sequence[int] | None = None, heads: Sequence | None = None, *,
        pattern: str = "captured", layer_norm: str = "none", max_length: int | None = None, batch: int = 16,
        progress: bool = True,
    ) -> Pretrained:  # fmt: skip
        """As ``from_transformers``, of a model of TransformerLens.

        Args:
            model: a ``HookedTransformer`` or a ``TransformerBridge``.
            inputs: texts, or arrays by name: input_ids [P, S] and attention_mask [P, S].
            layers, heads, pattern, layer_norm, max_length, batch, progress: as for ``from_transformers``.

        Returns:
            Pretrained.

        Raises:
            ValueError: as ``from_transformers``.
        """
        from .pretrained import from_transformer_lens

        return from_transformer_lens(
            model, inputs, layers, heads, pattern=pattern, layer_norm=layer_norm, max_length=max_length, batch=batch,
            progress=progress,
        )  # fmt: skip

    def __repr__(self) -> str:
        kinds = "".join(f", {name}" for name in ("hardmax", "causal") if getattr(self, name))
        return f"Attention({len(self.layers)} layers{kinds})"

    def __call__(self, x, examples: slice = slice(None), mask=None) -> list[Float[Array, "P H S S"]]:
        """Patterns [P, H_l, S, S] of each layer for inputs x[examples], checked.

        mask [P, S] is True for tokens; padding neither attends nor is attended to.
        """
        mask = None if mask is None else np.asarray(mask, bool)[examples]
        return self.of_part(x[examples], mask, examples, len(x))

    def of_part(self, x, mask, examples: slice, total: int) -> list[Float[Array, "P H S S"]]:
        """Patterns of some of all examples.

        Args:
            x: their inputs [p, N_0, S].
            mask: [p, S], or None for no padding.
            examples: which they are.
            total: P, number of all examples.

        Returns:
            One array [p, H_l, S, S] per layer.

        Raises:
            ValueError: what attention must not be.
        """
        result = []
        for l, pattern in enumerate(self._patterns):
            name = f"attention of layer {l + 1}"
            if isinstance(pattern, _Given) and len(pattern.arrays) != total:
                raise checks.InputError(
                    f"{name} has shape {pattern.arrays.shape} and x has {total} examples: give one pattern each"
                )
            a = pattern.arrays[examples] if isinstance(pattern, _Given) else _call(pattern, x, mask)
            try:
                a = jnp.asarray(a, float)
            except (TypeError, ValueError):
                raise checks.InputError(
                    f"{name} is a {type(a).__name__}: give a function that returns an array [P, H, S, S]"
                ) from None
            result.append(self._checked(name, a, x.shape, mask))
        return result

    def _checked(self, name: str, a, shape: tuple[int, ...], mask):
        P, _, S = shape
        if a.ndim != 4 or a.shape[0] != P or a.shape[2:] != (S, S):
            raise checks.InputError(f"{name} has shape {tuple(a.shape)}: give [P, H, S, S] with P={P}, S={S} as in x")
        a = masked(a, mask)
        if not bool(jnp.isfinite(a).all()):
            raise checks.InputError(f"{name} holds NaN or infinity: every attention weight must be finite")
        if self.causal and bool(jnp.tril(a, -1).any()):
            raise checks.InputError(
                f"{name} has weights of later tokens, and causal=True: make A[s, t] 0 for s > t, or give causal=False"
            )
        missed = jnp.abs(a.sum(-2) - 1) if mask is None else jnp.abs(a.sum(-2) - 1) * mask[:, None]
        error = float(missed.max()) if self.normalised else 0.0
        if error > COLUMN_SUM_TOLERANCE:
            over = "source tokens s" if mask is None else "source tokens s that are not padding,"
            raise checks.InputError(
                f"{name} has columns that miss 1 by up to {error:.3g}: A[s, t] must sum to 1 over {over} "
                "for every target t (transpose it if rows are normalised), or give normalised=False if they need not"
            )
        return a


def _call(pattern: Callable, x, mask):
    """Patterns by a function, which gets the mask if it has a parameter for it."""
    if mask is not None and not isinstance(pattern, partial):
        try:
            known = "mask" in inspect.signature(pattern).parameters
        except (TypeError, ValueError):  # of a function in C
            known = False
        return pattern(x, mask=mask) if known else pattern(x)
    return pattern(x) if mask is None else pattern(x, mask=mask)


def is_given(attention: Attention) -> bool:
    """Whether some layer holds the patterns of one set of examples."""
    return any(isinstance(layer, _Given) for layer in attention.layers)


def weights_of(attention: Attention) -> list[dict[str, np.ndarray]] | None:
    """The weights of every layer by name, "weights" or "query" and "key"; None if some layer is of another kind."""
    found = []
    for layer, pattern in zip(attention.layers, attention._patterns, strict=True):
        if pattern is layer or not isinstance(pattern, partial):
            return None
        found.append({name: w for name, w in pattern.keywords.items() if not isinstance(w, bool)})
    return found


class _Given:
    """Patterns that need no input: of the training examples, and of the test examples or None."""

    def __init__(self, arrays, test=None):
        self.arrays, self.test = arrays, test


def _layer(name: str, layer, kinds: dict[str, Any]) -> Callable | _Given:
    if callable(layer) or isinstance(layer, _Given):
        return layer
    if isinstance(layer, tuple) and len(layer) == 2:
        query = checks.array(f"{name} Q", layer[0], "H, G, N_0")
        key = checks.array(f"{name} K", layer[1], "H, G, N_0")
        if query.shape != key.shape:
            raise checks.InputError(f"{name} has Q {query.shape} and K {key.shape}: give both as [H, G, N_0]")
        return partial(query_key_attention, query=query, key=key, **kinds)  # not a lambda: it is pickled
    weights = checks.array(f"{name} W", layer, "H, N_0, N_0")
    if weights.shape[1] != weights.shape[2]:
        raise checks.InputError(
            f"{name} W has shape {weights.shape}: give one square matrix per head [H, N_0, N_0], or a pair (Q, K)"
        )
    return partial(bilinear_attention, weights=weights, **kinds)


def bilinear_attention(
    x: Float[Array | np.ndarray, "P N_0 S"],
    weights: Float[Array | np.ndarray, "H N_0 N_0"],
    hardmax: bool = False,
    causal: bool = False,
    mask: Bool[Array | np.ndarray, "P S"] | None = None,
) -> Float[Array, "P H S S"]:
    """softmax_s(x(s)^T W^h x(t)), or its one-hot argmax, over the source tokens that may be attended to."""
    _same_width(x, weights)
    scores = jnp.einsum("pas,hab,pbt->phst", x, weights, x, optimize="optimal")
    return _normalise(scores, hardmax, causal, mask)


def query_key_attention(
    x: Float[Array | np.ndarray, "P N_0 S"],
    query: Float[Array | np.ndarray, "H G N_0"],
    key: Float[Array | np.ndarray, "H G N_0"],
    hardmax: bool = False,
    causal: bool = False,
    mask: Bool[Array | np.ndarray, "P S"] | None = None,
) -> Float[Array, "P H S S"]:
    """softmax_s((K^h x(s)) . (Q^h x(t)) / sqrt(G)), or its one-hot argmax, over the sources that may be attended to."""
    return _normalise(query_key_scores(x, query, key), hardmax, causal, mask)


def query_key_scores(
    x: Float[Array | np.ndarray, "P N_0 S"],
    query: Float[Array | np.ndarray, "H G N_0"],
    key: Float[Array | np.ndarray, "H G N_0"],
) -> Float[Array, "P H S S"]:
    """(K^h x(s)) . (Q^h x(t)) / sqrt(G)."""
    _same_width(x, query)
    keys = jnp.einsum("hga,pas->phgs", key, x)
    queries = jnp.einsum("hga,pat->phgt", query, x)
    return jnp.einsum("phgs,phgt->phst", keys, queries) / math.sqrt(query.shape[1])


def _normalise(scores, hardmax, causal, mask):
    if causal or mask is not None:
        scores = jnp.where(allowed(scores.shape[-1], causal, mask), scores, -jnp.inf)
    if hardmax:
        found = jax.nn.one_hot(jnp.argmax(scores, axis=-2), scores.shape[-2], axis=-2, dtype=scores.dtype)
    else:
        found = jax.nn.softmax(scores, axis=-2)
    return masked(found, mask)


def allowed(S: int, causal: bool, mask):
    """Which sources a target may attend to; for a target that is padding anything, so that its column has a sum."""
    past = np.triu(np.ones((S, S), bool)) if causal else np.ones((S, S), bool)
    return past if mask is None else (past & mask[:, None, :, None]) | ~mask[:, None, None, :]


def masked(a: Float[Array, "P H S S"], mask: Bool[Array | np.ndarray, "P S"] | None) -> Float[Array, "P H S S"]:
    """Patterns in which padding neither attends nor is attended to."""
    return a if mask is None else jnp.where(mask[:, None, :, None] & mask[:, None, None, :], a, 0.0)


def _same_width(x, weights):
    if weights.shape[-1] != x.shape[1]:
        remedy = "give tokens='rows'" if x.shape[2] == weights.shape[-1] else "make them the same N_0"
        raise checks.InputError(
            f"x has input width {x.shape[1]} (shape {tuple(x.shape)}) and the attention weights act on width "
            f"{weights.shape[-1]} (shape {tuple(weights.shape)}): {remedy}"
        )
