r"""Inputs of a pretrained transformer as this package's networks read them: tokens and attention patterns.

Kept of the pretrained network are x, what enters its first layer (token and position embeddings, after their layer norm
if the architecture has one there), and the patterns A_l^h(x)[s, t] of some heads. Value and output projections, biases,
MLPs and later layer norms are left out: the value weights V_l^h and the readout of a ``gf.Network`` stand in their
place, with a prior. Where patterns come from is a choice:

- ``"captured"``: each layer's own input in the pretrained network, so they are its patterns as it is;
- ``"recomputed"``: every chosen layer reads x itself, which is the network of the paper, whose attention is a function
  of the bare input only.

In both, a pattern is a fixed function of the input, which is all that the theory and the exact posterior need. So are
the scales of the layer norms, which can be frozen into the patterns (``frozen``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..core import checks, console
from . import residual as skips
from .attention import Attention
from .contraction import contract_batch, names_of
from .frozen import FROZEN, LAYER_NORMS, NONE
from .paths import PathInputs
from .readers import CAPTURED, RECOMPUTED, LensReader, Limits, TransformersReader, loaded
from .tokens import reading, sequences, token_weights

_ROUND = 32  # tokens: batches of text are padded to multiples of it, so that few shapes are computed
_HALF = 0.02  # error of a sum of bfloat16 numbers


class Read(NamedTuple):
    """Tokens and patterns of P examples in memory.

    Attributes:
        x: tokens [P, N_0, S].
        attention: ``Attention.given``, patterns [P, H_l, S, S] of the chosen heads, columns over sources.
        mask: bool [P, S], True for tokens, False for padding.
    """

    x: np.ndarray
    attention: Attention
    mask: np.ndarray


class _Part(NamedTuple):
    """A batch: x [B, N_0, S], patterns [B, H_l, S, S], mask [B, S], and weights [B, S] of tokens or None."""

    x: np.ndarray
    patterns: list[np.ndarray]
    mask: np.ndarray
    weights: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Inputs as a pretrained model reads them, from ``Attention.from_transformers``; it runs when they are asked for.

    Attributes:
        layers: of the pretrained model, from 1, that stand for the layers l = 1..L.
        heads: of each of them, from 1, that stand for the heads h = 1..H_l.
        pattern: ``"captured"`` or ``"recomputed"``.
        layer_norm: ``"none"`` or ``"frozen"``.
        batch: examples of a forward pass.
        progress: show a bar on stderr.
        reader: of the model, ``reader.model``.
        inputs: of all examples, tokenised.
    """

    layers: tuple[int, ...]
    heads: tuple[tuple[int, ...], ...]
    pattern: str
    layer_norm: str
    batch: int
    progress: bool
    reader: Any
    inputs: Any

    def __repr__(self) -> str:
        return f"Pretrained({len(self)} examples, layers={self.layers}, heads={tuple(map(len, self.heads))})"

    def __len__(self) -> int:
        return len(self.inputs)

    def original(self, heads: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Heads (l, h) of this selection, as scores list them, by their numbers in the pretrained model.

        Args:
            heads: pairs (layer, head), from 1.

        Returns:
            Pairs (layer, head), from 1, of the pretrained model.

        Raises:
            ValueError: a head that was not chosen.
        """
        found = []
        for l, h in heads:
            if not (0 < l <= len(self.layers) and 0 < h <= len(self.heads[l - 1])):
                counts = tuple(map(len, self.heads))
                raise checks.InputError(f"heads={(l, h)} is none of those chosen: give (layer, head) within {counts}")
            found.append((self.layers[l - 1], self.heads[l - 1][h - 1]))
        return found

    def contract(self, readout: str = "mean", *, residual: bool | Sequence[float] = ()) -> PathInputs:
        """Path-contracted inputs, batch by batch: the patterns of one batch are all that is held.

        Args:
            readout: token that the network reads, among those that are not padding: ``"last"``, ``"first"`` (BERT's
                [CLS]), or ``"mean"`` over them.
            residual: strengths of skip connections, (g_1, .., g_L), or True for 1 in all, as for ``gf.contract``.

        Returns:
            PathInputs with xi [P, N_0, G_1, .., G_L] and paths named "(l.h ..)" by the pretrained model's numbers.

        Raises:
            ValueError: an unknown readout, or what ``gf.contract`` refuses.
        """
        parts = list(self._contracted(readout, residual))
        return parts[0].like(np.concatenate([part.xi for part in parts]))

    def batches(
        self, y, readout: str = "mean", *, residual: bool | Sequence[float] = ()
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Pairs (xi, y) for ``gf.reduce``: no more than a batch of any of these is ever in memory.

        Args:
            y: labels [P].
            readout, residual: as for ``contract``.

        Yields:
            xi [B, N_0, G_1, .., G_L] and labels [B].

        Raises:
            ValueError: another number of labels than of examples, or as ``contract``.
        """
        y = np.asarray(y)
        if len(y) != len(self):
            raise checks.InputError(f"y has {len(y)} labels and there are {len(self)} examples: give one label each")
        starts = range(0, len(self), self.batch)
        parts = self._contracted(readout, residual)
        return ((part.xi, y[start : start + self.batch]) for start, part in zip(starts, parts, strict=True))

    def read(self) -> Read:
        """All tokens and patterns in memory, as ``gf.contract`` and ``gf.tasks.arrays`` take them.

        Returns:
            Read: x, attention, mask; about P S (N_0 + S sum_l H_l) numbers of 8 bytes.

        Raises:
            ValueError: more than the free memory, or frozen norms after the sum with the skip connection, which weigh
                the tokens that are read.
        """
        S, N = self.inputs.longest, sum(map(len, self.heads))
        checks.memory("the patterns", 16 * len(self) * S * S * N, "contract or batches, which hold one batch at a time")
        parts = list(self._parts(width=S))
        if parts[0].weights is not None:
            raise checks.InputError(
                "layer_norm='frozen' weighs the tokens that this model reads, which patterns cannot hold: use contract "
                "or batches"
            )
        joined = [np.concatenate(layer) for layer in zip(*(part.patterns for part in parts), strict=True)]
        x, mask = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "mask"))
        return Read(x, self._attention(joined), mask)

    def _contracted(self, readout, residual) -> Iterator[PathInputs]:
        checks.nearest("readout", readout, ("last", "first", "mean"))
        strengths = skips.strengths(residual, len(self.layers))
        return (self._contraction(part, readout, strengths) for part in self._parts())

    def _contraction(self, part: _Part, readout: str, strengths: tuple[float, ...]) -> PathInputs:
        given = sequences("x", part.x, "columns", part.mask)
        read, attention = reading("readout", readout, given), self._attention(part.patterns, strengths)
        if part.weights is not None:
            read = read._replace(weights=token_weights(read, part.x.shape[2]) * part.weights)
        xi = contract_batch(given, attention, read, strengths)
        return PathInputs(xi, names_of(attention, xi.shape[2:], strengths), strengths)

    def _attention(self, patterns: Sequence[np.ndarray], strengths: tuple[float, ...] = ()) -> Attention:
        return Attention.given(patterns, self._names(strengths), normalised=self.layer_norm == NONE)

    def _parts(self, width: int | None = None) -> Iterator[_Part]:
        """Batch by batch."""
        total, layers = len(self), [l - 1 for l in self.layers]
        with console.bar(total=total, unit="example", desc="read", disable=not self.progress) as bar:
            for start in range(0, total, self.batch):
                inputs = self.inputs.part(range(start, min(start + self.batch, total)), width)
                x, found, scales = self.reader.read(inputs, layers, self.pattern, self.layer_norm == FROZEN)
                chosen = [_columns(a[:, np.array(h) - 1]) for a, h in zip(found, self.heads, strict=True)]
                chosen, weights = (chosen, None) if scales is None else scales.folded(chosen)
                mask = np.asarray(inputs.get("attention_mask", np.ones(x.shape[:2])), bool)
                yield _Part(x.swapaxes(1, 2).astype(float), chosen, mask, weights)
                bar.update(len(x))

    def _names(self, residual: tuple[float, ...] = ()) -> tuple[str, ...]:
        axes = [[f"{l}.{h}" for h in heads] for l, heads in zip(self.layers, self.heads, strict=True)]
        axes = [[*(["skip"] if g else []), *axis] for g, axis in zip(residual or [0] * len(axes), axes, strict=True)]
        return tuple(f"({' '.join(path)})" for path in itertools.product(*axes))


def _columns(a: np.ndarray) -> np.ndarray:
    """[P, H, source, target] in float64; the rounding of half precision is taken out of the columns' sums."""
    a = a.swapaxes(-1, -2).astype(float)
    sums = a.sum(-2, keepdims=True)
    return np.where(np.abs(sums - 1) < _HALF, a / sums, a)


def from_transformers(
    model, inputs, layers=None, heads=None, *, pattern=CAPTURED, layer_norm=NONE, tokenizer=None, max_length=None,
    batch=16, progress=True,
) -> Pretrained:  # fmt: skip
    """``Attention.from_transformers``."""
    model, own = loaded(model)
    tokenizer = own if tokenizer is None else tokenizer
    return _pretrained(
        TransformersReader(model), inputs, layers, heads, pattern, layer_norm, tokenizer, max_length, batch, progress
    )


def from_transformer_lens(
    model, inputs, layers=None, heads=None, *, pattern=CAPTURED, layer_norm=NONE, max_length=None, batch=16,
    progress=True,
) -> Pretrained:  # fmt: skip
    """``Attention.from_transformer_lens``."""
    tokenizer = getattr(model, "tokenizer", None)
    return _pretrained(
        LensReader(model), inputs, layers, heads, pattern, layer_norm, tokenizer, max_length, batch, progress
    )


def _pretrained(
    reader, inputs, layers, heads, pattern, layer_norm, tokenizer, max_length, batch, progress
) -> Pretrained:
    checks.nearest("pattern", pattern, (CAPTURED, RECOMPUTED))
    checks.nearest("layer_norm", layer_norm, LAYER_NORMS)
    limits = reader.limits
    layers = tuple(range(1, limits.layers + 1)) if layers is None else checks.counts("layers", layers)
    beyond = [l for l in layers if l > limits.layers]
    if beyond or len(set(layers)) < len(layers) or list(layers) != sorted(layers):
        raise checks.InputError(
            f"layers={checks.brief(layers)}: the model has {limits.layers}, give numbers from 1 to {limits.layers}, "
            "bottom layer first, each once"
        )
    chosen = _heads(heads, len(layers), limits.heads)
    encoded = _encoded(inputs, tokenizer, max_length, limits)
    return Pretrained(
        layers, chosen, pattern, layer_norm, checks.count("batch", batch), bool(progress), reader, encoded
    )


def _heads(heads, depth: int, most: int) -> tuple[tuple[int, ...], ...]:
    """Heads of each chosen layer."""
    if heads is None:
        return (tuple(range(1, most + 1)),) * depth
    given = list(heads) if np.iterable(heads) else [heads]
    if len(given) != depth or not all(np.iterable(entry) for entry in given):
        raise checks.InputError(
            f"heads={checks.brief(heads)}: give the numbers of heads of each of {depth} layers, [(1, 2), ..]"
        )
    found = tuple(checks.counts(f"heads[{l}]", entry) for l, entry in enumerate(given))
    for l, entry in enumerate(found):
        if max(entry) > most or len(set(entry)) < len(entry):
            raise checks.InputError(
                f"heads[{l}]={checks.brief(entry)}: the model has {most} in a layer, give numbers from 1 to {most}, "
                "each once"
            )
    return found


class _Texts:
    """Token ids of texts of any lengths, padded a batch at a time."""

    def __init__(self, ids: list[list[int]], padding: int, side: str, limit: int):
        self._ids, self._padding, self._side, self._limit = ids, padding, side, limit
        self.longest = self._width(max(map(len, ids)))

    def __len__(self) -> int:
        return len(self._ids)

    def tokens(self, example: int) -> int:
        """Number of tokens of an example."""
        return len(self._ids[example])

    def part(self, examples: Sequence[int], width: int | None = None) -> dict[str, np.ndarray]:
        """Arrays of some examples, of a width, or the least that holds them."""
        ids = [self._ids[i] for i in examples]
        width = self._width(max(map(len, ids))) if width is None else width
        tokens, mask = np.full((len(ids), width), self._padding), np.zeros((len(ids), width), int)
        for row, found in enumerate(ids):
            place = slice(width - len(found), None) if self._side == "left" else slice(0, len(found))
            tokens[row, place], mask[row, place] = found, 1
        return {"input_ids": tokens, "attention_mask": mask}

    def _width(self, tokens: int) -> int:
        return min(-(-tokens // _ROUND) * _ROUND, max(tokens, self._limit))


class _Arrays:
    """Inputs by name that somebody has tokenised."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self._arrays = arrays
        first = next(iter(arrays.values()))
        self.longest = first.shape[1]
        self._number = len(first)

    def __len__(self) -> int:
        return self._number

    def tokens(self, example: int) -> int:
        """Number of tokens of an example, padding included."""
        return self.longest

    def part(self, examples: Sequence[int], width: int | None = None) -> dict[str, np.ndarray]:
        """Arrays of some examples."""
        return {name: value[np.asarray(examples)] for name, value in self._arrays.items()}


def _encoded(inputs, tokenizer, max_length, limits: Limits) -> _Texts | _Arrays:
    if isinstance(inputs, str):
        raise checks.InputError("inputs is one text: give a list of texts")
    longest = limits.length if max_length is None else checks.count("max_length", max_length)
    if limits.length is not None and longest is not None and longest > limits.length:
        raise checks.InputError(f"max_length={longest} exceeds the model's {limits.length} positions: make it smaller")
    if isinstance(inputs, Mapping) or hasattr(inputs, "keys"):
        return _of_arrays({name: inputs[name] for name in inputs.keys()}, limits)  # noqa: SIM118  BatchEncoding
    if hasattr(inputs, "shape"):
        return _of_arrays({"input_ids": inputs}, limits)
    texts = list(inputs) if np.iterable(inputs) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise checks.InputError(
            f"inputs={checks.brief(inputs)}: give a list of texts, or arrays by name as a tokenizer returns them"
        )
    if tokenizer is None:
        raise checks.InputError(
            "inputs are texts and model has no tokenizer: give tokenizer=, or the path of a directory that holds both"
        )
    limit = min(longest or 512, getattr(tokenizer, "model_max_length", None) or 512)
    ids = [list(row) for row in tokenizer(texts, truncation=True, max_length=limit)["input_ids"]]
    _check_ids(np.concatenate([np.asarray(row, int) for row in ids]), limits)
    empty = [i for i, row in enumerate(ids) if not row]
    if empty:
        raise checks.InputError(f"inputs[{empty[0]}] has no tokens: remove it, or give a text that is not empty")
    padding = getattr(tokenizer, "pad_token_id", None)
    return _Texts(ids, padding or 0, getattr(tokenizer, "padding_side", "right"), limit)


def _of_arrays(given: dict[str, Any], limits: Limits) -> _Arrays:
    """Inputs by name, checked; tensors of any device and precision become arrays."""
    main = next((name for name in ("input_ids", "inputs_embeds", "pixel_values") if name in given), None)
    if main is None:
        raise checks.InputError(f"inputs has {', '.join(given) or 'nothing'}: it must hold input_ids or inputs_embeds")
    arrays = {name: checks.array(f"inputs[{name!r}]", value, "P, ..") for name, value in given.items()}
    for name in ("input_ids", "attention_mask", "token_type_ids", "position_ids"):
        if name in arrays:
            whole = arrays[name].astype(np.int64)
            if arrays[name].ndim != 2 or not np.array_equal(whole, arrays[name]):
                raise checks.InputError(f"inputs[{name!r}] of shape {whole.shape}: give whole numbers [P, S]")
            arrays[name] = whole
    shapes = {name: arrays[name].shape[: 1 if main == "pixel_values" else 2] for name in arrays}
    if len(set(shapes.values())) > 1:
        raise checks.InputError(f"inputs has {shapes}: make P and S the same in all")
    if main == "input_ids":
        _check_ids(arrays[main], limits)
    S = arrays[main].shape[1]
    if main != "pixel_values" and limits.length is not None and limits.length < S:
        raise checks.InputError(
            f"inputs[{main!r}] has {S} tokens and the model {limits.length} positions: make them shorter"
        )
    if "attention_mask" in arrays and not (arrays["attention_mask"] == 1).any(1).all():
        row = int(np.argmin((arrays["attention_mask"] == 1).any(1)))
        raise checks.InputError(f"inputs['attention_mask'] leaves no token of example {row}: remove that example")
    return _Arrays(arrays)


def _check_ids(ids: np.ndarray, limits: Limits) -> None:
    if limits.vocabulary is not None and (ids.min() < 0 or ids.max() >= limits.vocabulary):
        wrong = int(ids.min() if ids.min() < 0 else ids.max())
        raise checks.InputError(
            f"inputs has the token id {wrong} and the model {limits.vocabulary} of them: use the model's own tokenizer"
        )
