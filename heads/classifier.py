"""A pretrained model with a classification head of its own, from which heads are removed: what pruning is for.

The body stays as it is. The head is a linear classifier of the average (or the first or last) output token, trained by
maximum likelihood with a ridge penalty, as is usual for features of a frozen model. Layers below those in question are
computed once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..core import checks, console
from ..models.optional import library
from ..models.pretrained import Pretrained
from ..models.readers import TransformersReader, blocks_of, evaluating
from .pretrained import model_gradients, switched_off
from .scores import divided

_READOUTS = ("mean", "first", "last")
_TINY = 1e-12  # keeps features that are the same for all examples from being divided by zero
_STEPS, _GRADIENT = 1000, 1e-7  # of the training of the head: most iterations, largest entry of the gradient


@dataclass(eq=False, repr=False)
class Classifier:
    """A pretrained model and a classification head trained on some examples.

    Heads (layer, head) are numbered as in ``read``, like those of a network made from it, so that ``compare`` takes
    scores of either.

    Args:
        read: inputs and layers, from ``gf.Attention.from_transformers``.
        y: labels of all inputs [P]: two classes or more, names or numbers.
        train: indices of the examples that the head is trained on.
        readout: output token that it reads: ``"mean"`` over those that are not padding, ``"first"`` or ``"last"``.
        penalty: ridge penalty, half of it times the sum of squares of the weights on standardised features.
        progress: show a bar on stderr.

    Raises:
        ValueError: a model of TransformerLens, labels of one class, indices out of range, or an unknown readout.

    Source: Michel, Levy and Neubig, "Are sixteen heads really better than one?", NeurIPS 2019, section 4.
    """

    read: Pretrained
    y: np.ndarray
    train: Sequence[int]
    _: KW_ONLY
    readout: str = "mean"
    penalty: float = 1.0
    progress: bool = True

    def __post_init__(self):
        if not isinstance(self.read, Pretrained) or not isinstance(self.read.reader, TransformersReader):
            raise checks.InputError(
                f"read is a {type(self.read).__name__}: give gf.Attention.from_transformers(model, texts, layers)"
            )
        if np.shape(self.y) != (len(self.read),):
            raise checks.InputError(
                f"y has shape {np.shape(self.y)}: give one label for each of {len(self.read)} texts"
            )
        checks.nearest("readout", self.readout, _READOUTS)
        self.classes, self._codes = np.unique(np.asarray(self.y), return_inverse=True)
        self.train = self._rows("train", self.train)
        if len(set(self._codes[list(self.train)])) < len(self.classes):
            raise checks.InputError(f"train has examples of some classes only: give some of all {len(self.classes)}")
        penalty = checks.positive("penalty", self.penalty)
        self._below: dict[tuple[int, ...], _Below] = {}
        features = self.features(self.train)
        self._centre, self._spread = features.mean(0), features.std(0) + _TINY
        codes = self._codes[list(self.train)]
        self._head = _trained(self._standard(features), codes, len(self.classes), penalty)

    def features(self, examples: Sequence[int], heads: Sequence[tuple[int, int]] = ()) -> np.ndarray:
        """What the classification head reads, with the model as it is or without some heads.

        Args:
            examples: indices [Q].
            heads: pairs (layer, head) that are removed.

        Returns:
            Array [Q, N].

        Raises:
            ValueError: indices out of range, or heads that were not chosen.
        """
        rows = self._rows("examples", examples)
        if rows not in self._below:
            self._below[rows] = _Below(self.read, rows, self.progress)
        with switched_off(self.read.reader.model, self.read.original(heads)):
            parts = [
                (places, _pooled(output, given, self.readout)) for places, output, given in self._below[rows].outputs()
            ]
        found = np.empty((len(rows), parts[0][1].shape[1]))
        for places, pooled in parts:
            found[places] = pooled.double().cpu().numpy()
        return found

    def accuracy(self, examples: Sequence[int], heads: Sequence[tuple[int, int]] = ()) -> float:
        """Fraction of examples whose class is found.

        Args:
            examples, heads: as for ``features``.

        Returns:
            Accuracy in [0, 1].
        """
        return float(np.mean(self._log_probabilities(examples, heads).argmax(1) == self._codes[list(examples)]))

    def loss(self, examples: Sequence[int], heads: Sequence[tuple[int, int]] = ()) -> float:
        """Mean cross-entropy.

        Args:
            examples, heads: as for ``features``.

        Returns:
            Loss in nats.
        """
        found = self._log_probabilities(examples, heads)
        return float(-np.mean(found[np.arange(len(found)), self._codes[list(examples)]]))

    def by_gradient(self, *, by_layer: bool = True) -> pd.Series:
        """Gradient-based importance of the chosen heads on the training examples.

        Args:
            by_layer: divide the scores of each layer by their norm over all heads of the model, as the source does.

        Returns:
            Series indexed by (layer, head) from 1.

        Source: Michel, Levy and Neubig, "Are sixteen heads really better than one?", NeurIPS 2019, equation 2.
        """
        found = divided(self._gradients) if by_layer else self._gradients
        chosen = self._chosen()
        values = [found[place] for place in self.read.original(chosen)]
        return pd.Series(values, pd.MultiIndex.from_tuples(chosen, names=("layer", "head")), name="score")

    @cached_property
    def _gradients(self) -> pd.Series:
        """Of all heads of the model."""
        torch = library("torch")
        weight, bias, centre, spread = map(torch.as_tensor, (*self._head, self._centre, self._spread))

        def loss(model, rows):
            inputs = self.read.inputs.part(rows)
            output = model(**self.read.reader.tensors(inputs))[0]
            features = _pooled(output, inputs, self.readout).double().cpu()
            logits = (features - centre) / spread @ weight + bias
            return torch.nn.functional.cross_entropy(logits, torch.as_tensor(self._codes[rows]), reduction="none")

        batches = _batches(self.read, self.train)
        return model_gradients(self.read.reader.model, loss, batches, by_layer=False, progress=self.progress)

    def by_leaving_out(self) -> pd.Series:
        """Rise of the mean cross-entropy on the training examples when one head alone is removed.

        Returns:
            Series indexed by (layer, head) from 1.
        """
        chosen = self._chosen()
        whole = self.loss(self.train)
        with console.bar(total=len(chosen), unit="head", desc="leave out", disable=not self.progress) as bar:
            values = []
            for head in chosen:
                values.append(self.loss(self.train, [head]) - whole)
                bar.update(1)
        return pd.Series(values, pd.MultiIndex.from_tuples(chosen, names=("layer", "head")), name="score")

    def _chosen(self) -> list[tuple[int, int]]:
        return [(l, h) for l, layer in enumerate(self.read.heads, 1) for h in range(1, len(layer) + 1)]

    def _log_probabilities(self, examples, heads) -> np.ndarray:
        weight, bias = self._head
        logits = self._standard(self.features(examples, heads)) @ weight + bias
        return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def _standard(self, features: np.ndarray) -> np.ndarray:
        return (features - self._centre) / self._spread

    def _rows(self, name: str, examples) -> tuple[int, ...]:
        rows = tuple(int(i) for i in np.ravel(np.asarray(examples)))
        if not rows or min(rows) < 0 or max(rows) >= len(self.read) or len(set(rows)) < len(rows):
            raise checks.InputError(
                f"{name}={checks.brief(rows)}: give indices of some of the {len(self.read)} inputs, from 0, each once"
            )
        return rows


def _batches(read: Pretrained, rows: Sequence[int]) -> list[list[int]]:
    """Rows in batches of about the same number of tokens."""
    order = sorted(rows, key=read.inputs.tokens)
    return [order[i : i + read.batch] for i in range(0, len(order), read.batch)]


def _pooled(output, inputs, readout: str):
    """What is read of the last hidden states [B, S, N], padding left out: [B, N]."""
    torch = library("torch")
    mask = torch.as_tensor(inputs.get("attention_mask", np.ones(output.shape[:2]))).to(output.device) == 1
    if readout == "mean":
        weights = mask / mask.sum(1, keepdim=True)
    else:
        S = mask.shape[1]
        first = mask.int().argmax(1) if readout == "first" else S - 1 - mask.int().flip(1).argmax(1)
        weights = torch.nn.functional.one_hot(first, S)
    return (output * weights[:, :, None].to(output)).sum(1)


def _trained(features: np.ndarray, codes: np.ndarray, classes: int, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights [N, classes] and biases of the head of greatest penalised likelihood."""
    torch = library("torch")
    x, y = torch.as_tensor(features), torch.as_tensor(codes)
    weight = torch.zeros(x.shape[1], classes, dtype=x.dtype, requires_grad=True)
    bias = torch.zeros(classes, dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, tolerance_grad=_GRADIENT, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight + bias, y, reduction="sum")
        loss = loss + penalty / 2 * (weight**2).sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    return weight.detach().numpy(), bias.detach().numpy()


class _Below:
    """What enters the lowest chosen layer, for some examples, kept batch by batch."""

    def __init__(self, read: Pretrained, rows: tuple[int, ...], progress: bool):
        torch = library("torch")
        self.reader, self._first = read.reader, read.layers[0] - 1
        self._blocks = blocks_of(read.reader.model, read.reader.limits.layers)
        self._parts: list[tuple[np.ndarray, dict[str, Any], Any]] = []
        place = {row: i for i, row in enumerate(rows)}
        with (
            console.bar(total=len(rows), unit="example", desc="layers below", disable=not progress) as bar,
            evaluating(self.reader.model),
            torch.no_grad(),
        ):
            for found in _batches(read, rows):
                kept: list[Any] = []
                inputs = read.inputs.part(found)
                self._run(inputs, _keeper(kept))
                self._parts.append((np.array([place[row] for row in found]), inputs, kept[0]))
                bar.update(len(found))
            self._tuple = self._returns_tuple()

    def outputs(self) -> Iterator[tuple[np.ndarray, Any, dict[str, Any]]]:
        """Places of examples, last hidden states [B, S, N] and inputs of each batch."""
        torch = library("torch")
        with evaluating(self.reader.model), torch.no_grad(), _skipped(self._blocks, self._first, self._tuple):
            for places, inputs, hidden in self._parts:
                yield places, self._run(inputs, _putter(hidden)), inputs

    def _run(self, inputs: dict[str, Any], hook):
        """Output of the model, with a hook at the lowest chosen layer."""
        handle = self._blocks[self._first].register_forward_pre_hook(hook, with_kwargs=True)
        try:
            return self.reader.model(**self.reader.tensors(inputs))[0]
        finally:
            handle.remove()

    def _returns_tuple(self) -> bool:
        """Whether layers return a tuple or hidden states alone."""
        kept: list[Any] = []
        handle = self._blocks[self._first].register_forward_hook(lambda module, args, output: kept.append(output))
        self._run(self._parts[0][1], _putter(self._parts[0][2]))
        handle.remove()
        return isinstance(kept[0], tuple)


def _keeper(kept: list):
    def keep(module, args, kwargs):
        kept.append(args[0] if args else kwargs["hidden_states"])

    return keep


def _putter(hidden):
    def put(module, args, kwargs):
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    return put


@contextlib.contextmanager
def _skipped(container, number: int, as_tuple: bool) -> Iterator[None]:
    """Inside this block the first layers of a model return what they are given."""
    torch = library("torch")

    class Nothing(torch.nn.Module):  # type: ignore[name-defined]  # torch is a value here
        def __init__(self, layer):
            super().__init__()
            object.__setattr__(self, "layer", layer)  # not a part of this module

        def __getattr__(self, name):
            return getattr(object.__getattribute__(self, "layer"), name)  # such as the kind of its attention mask

        def forward(self, hidden_states, *args, **kwargs):
            return (hidden_states,) if as_tuple else hidden_states

    layers = [container[i] for i in range(number)]
    try:
        for i, layer in enumerate(layers):
            container[i] = Nothing(layer)
        yield
    finally:
        for i, layer in enumerate(layers):
            container[i] = layer
