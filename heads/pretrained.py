"""Heads of a pretrained model switched off, scored by gradients, and removed from its weights.

A head's part in a layer's output is what the output projection makes of its own slice of inputs. Heads are numbered
(layer, head) from 1, as the model has them: ``Pretrained.original`` translates those of a selection.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import checks, console, files
from ..models.optional import library
from ..models.readers import TransformersReader, evaluating, loaded, output_projection
from .scores import divided

_CLOSE = 1e-5  # of the largest output: what two ways of switching a head off may differ by, in float32
RECORD = "removed_heads.json"


def mask(model, heads: Iterable[tuple[int, int]]) -> np.ndarray:
    """Which heads of a model are left.

    Args:
        model: of transformers, with eager attention; or the path of one.
        heads: pairs (layer, head) that are removed.

    Returns:
        bool [layers, heads], False for removed ones.

    Raises:
        ValueError: a head that does not exist, or a model that ``gf.Attention.from_transformers`` refuses.
    """
    return _mask(TransformersReader(loaded(model)[0]).limits, heads)


@contextlib.contextmanager
def switched_off(model, heads: Iterable[tuple[int, int]]) -> Iterator[Any]:
    """Inside this block some heads of a model add nothing to the output of their layers.

    Args:
        model: of transformers, with eager attention.
        heads: pairs (layer, head).

    Yields:
        The model.

    Raises:
        ValueError: as ``mask``.
    """
    reader = TransformersReader(model)
    kept = _mask(reader.limits, heads)
    torch = library("torch")
    with contextlib.ExitStack() as hooks:
        for block, row in zip(reader.blocks, kept, strict=True):
            if not row.all():
                factor = torch.as_tensor(row.astype(np.float32))[None]
                hooks.callback(_scaled(_projection(block), partial(_constant, factor)))
        yield model


def model_gradients(
    model, loss: Callable[[Any, Any], Any], batches: Iterable, *, by_layer: bool = True, progress: bool = False
) -> pd.Series:
    """Gradient-based importance of all heads of a pretrained model, the mean of |dL / dm| over examples.

    Args:
        model: of transformers, with eager attention.
        loss: (model, batch) -> tensor [B], the loss L of each example of a batch.
        batches: anything that ``loss`` takes.
        by_layer: divide the scores of each layer by their root of the sum of squares, as the source does.
        progress: show a bar on stderr.

    Returns:
        Series of scores indexed by (layer, head) from 1, as the model has them.

    Raises:
        ValueError: as ``mask``, no batches, or a loss that is not one number for each example.

    Source: Michel, Levy and Neubig, "Are sixteen heads really better than one?", NeurIPS 2019, equation 2.
    """
    reader = TransformersReader(model)
    total, number = np.zeros((reader.limits.layers, reader.limits.heads)), 0
    with console.bar(total=None, unit="example", desc="gradients", disable=not progress) as bar, evaluating(model):
        for batch in batches:
            found = _gradients(reader, loss, model, batch)
            total, number = total + np.abs(found).sum(0), number + len(found)
            bar.update(len(found))
    if not number:
        raise checks.InputError("batches is empty: give at least one")
    layers, heads = np.indices(total.shape).reshape(2, -1) + 1
    scores = pd.Series(
        total.ravel() / number, pd.MultiIndex.from_arrays([layers, heads], names=("layer", "head")), name="score"
    )
    return divided(scores) if by_layer else scores


def write(model, heads: Sequence[tuple[int, int]], out: str | Path, *, inputs=None, overwrite: bool = False) -> Path:
    """A pretrained model without some heads, as a directory that its library loads.

    Their slices of the output projections become zero; shapes stay as they are, so that nothing else about the model
    changes. ``removed_heads.json`` in the directory lists them. What was written is loaded again, and its output
    compared with that of the model with the same heads switched off.

    Args:
        model: of transformers, with eager attention; or the path of one.
        heads: pairs (layer, head) from 1, as the model has them.
        out: directory to write config.json and model.safetensors to.
        inputs: input_ids [P, S] and others by name, to compare outputs on; default random token ids.
        overwrite: replace a model that is there.

    Returns:
        The directory.

    Raises:
        ValueError: as ``mask``, a directory that exists, or a model whose outputs differ once it is loaded.
    """
    model, tokenizer = loaded(model)
    reader = TransformersReader(model)
    kept = _mask(reader.limits, heads)
    folder = files.absolute("out", out, "such as pruned")
    if folder.exists() and not overwrite:
        raise checks.InputError(f"out={str(out)!r} exists: choose another name, or overwrite=True")
    state = dict(model.state_dict())
    names = {id(module): name for name, module in model.named_modules()}
    for block, row in zip(reader.blocks, kept, strict=True):
        projection = _projection(block)
        key = f"{names[id(projection)]}.weight"
        state[key] = _without(projection, state[key], row)
    model.save_pretrained(folder, state_dict=state)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    removed = [[int(l), int(h)] for l, h in heads]
    (folder / RECORD).write_text(json.dumps({"removed": removed, "from": 1}) + "\n")
    _compare(model, heads, folder, reader, inputs)
    return folder


def _compare(model, heads, folder: Path, reader, inputs) -> None:
    """Refuse a model whose outputs, once loaded, are not those with heads switched off."""
    torch = library("torch")
    if inputs is None:
        length = min(16, reader.limits.length or 16)
        inputs = {"input_ids": np.random.default_rng(0).integers(0, reader.limits.vocabulary or 2, (4, length))}
    written = type(model).from_pretrained(folder, attn_implementation="eager")
    written.to(next(model.parameters()).device, next(model.parameters()).dtype)
    given = reader.tensors(inputs)
    with torch.no_grad(), evaluating(model), evaluating(written):
        found = written(**given)[0]
        with switched_off(model, heads):
            expected = model(**given)[0]
    difference = float((found - expected).abs().max() / expected.abs().max())
    allowed = max(_CLOSE, 4 * float(torch.finfo(expected.dtype).eps))
    if not difference <= allowed:
        raise checks.InputError(
            f"out={str(folder)!r} has outputs that differ by {difference:.1e} from those with heads switched off: "
            "give the model in float32"
        )


def _mask(limits, heads) -> np.ndarray:
    kept = np.ones((limits.layers, limits.heads), bool)
    for entry in heads:
        if not hasattr(entry, "__len__") or len(entry) != 2:
            raise checks.InputError(f"heads has the entry {checks.brief(entry)}: give pairs (layer, head), from 1")
        layer, head = checks.counts("heads", entry)
        if layer > limits.layers or head > limits.heads:
            raise checks.InputError(
                f"heads={(layer, head)} does not exist: the model has {limits.layers} layers of {limits.heads} heads, "
                "give numbers from 1"
            )
        kept[layer - 1, head - 1] = False
    return kept


def _projection(block):
    """The output projection of a layer's attention."""
    found = output_projection(block)
    if found is not None:
        return found
    raise checks.InputError(
        f"model has layers of the kind {type(block).__name__}, whose output projection is unknown: use a model of the "
        "BERT, GPT-2, Llama, ViT or T5 family"
    )


def _scaled(projection, factors: Callable[[Any], Any]) -> Callable[[], None]:
    """Multiply the inputs [B, S, H D] of a projection by factors [B or 1, H]; returns what undoes it."""

    def scale(module, args):
        (z, *rest) = args
        m = factors(z).to(z)
        shape = (*z.shape[:-1], m.shape[-1], z.shape[-1] // m.shape[-1])
        return ((z.reshape(shape) * m[:, None, :, None]).reshape(z.shape), *rest)

    return projection.register_forward_pre_hook(scale).remove


def _constant(factor, z):
    return factor


def _gradients(reader, loss, model, batch) -> np.ndarray:
    """dL / dm of each example [B, layers, heads]."""
    torch = library("torch")
    switches: list = [None] * len(reader.blocks)

    def factors(place):
        def made(z):
            switches[place] = torch.ones(len(z), reader.limits.heads, device=z.device, requires_grad=True)
            return switches[place]

        return made

    with contextlib.ExitStack() as hooks, torch.enable_grad():
        for place, block in enumerate(reader.blocks):
            hooks.callback(_scaled(_projection(block), factors(place)))
        each = loss(model, batch)
        if getattr(each, "ndim", None) != 1 or any(m is None or len(m) != len(each) for m in switches):
            raise checks.InputError(
                f"loss returned a {type(each).__name__} of shape {tuple(getattr(each, 'shape', ()))}: give one loss "
                "for each example of the batch, as with reduction='none'"
            )
        found = torch.autograd.grad(each.sum(), switches, allow_unused=True)
    empty = torch.zeros(len(each), reader.limits.heads)
    return np.stack([(empty if g is None else g).detach().cpu().float().numpy() for g in found], 1)


def _without(projection, weight, row: np.ndarray):
    """Weights [out, in], or [in, out] as GPT-2 has them, with zeros for the inputs from removed heads."""
    torch = library("torch")
    inputs_last = isinstance(projection, torch.nn.Linear)
    width = weight.shape[1 if inputs_last else 0]
    factor = torch.as_tensor(np.repeat(row, width // len(row)).astype(np.float32)).to(weight)
    return weight * factor if inputs_last else weight * factor[:, None]
