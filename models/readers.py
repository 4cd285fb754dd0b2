"""Forward passes of pretrained models that keep attention patterns: Hugging Face's and TransformerLens's.

A reader takes a batch of inputs by name and returns what enters the first layer, the patterns of some layers as the
library has them, and the scales of their layer norms. Layers count from 0 here. PyTorch is imported when a reader is
made, not before.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core import checks
from .frozen import NormHooks, Scales
from .optional import library

CAPTURED, RECOMPUTED = "captured", "recomputed"
_ENDINGS = (  # names of output projections within a layer
    "attention.output.dense", "attention.out_lin", "attention.o_proj", "attention.dense", "attention.out_proj",
    "attn.c_proj", "attn.o_proj", "attn.out_proj", "attn.dense", "attn.proj", "SelfAttention.o",
)  # fmt: skip


class Limits(NamedTuple):
    """What a model says of its inputs and of itself.

    Attributes:
        layers: number of attention layers.
        heads: of each layer.
        vocabulary: number of token ids; None if it has none.
        length: longest sequence; None if it does not say.
    """

    layers: int
    heads: int
    vocabulary: int | None
    length: int | None


class Forward(NamedTuple):
    """What a forward pass leaves.

    Attributes:
        x: what enters the first layer, [P, S, N_0].
        patterns: of some layers, [P, H, target, source], float64 or as they are.
        scales: of the layer norms of their attention, if asked for.
    """

    x: np.ndarray
    patterns: list[np.ndarray]
    scales: Scales | None


class TransformersReader:
    """Reads a model of the transformers library.

    Args:
        model: ``PreTrainedModel``; its body is read, so heads for language or classes are skipped.
    """

    def __init__(self, model):
        self._torch = library("torch")
        config = getattr(model, "config", None)
        if config is None or not hasattr(model, "named_modules"):
            raise checks.InputError(
                f"model is a {type(model).__name__}: give a model of transformers, or the path of one"
            )
        self.model = model.base_model
        if hasattr(self.model, "encoder") and hasattr(self.model, "decoder"):
            raise checks.InputError(
                f"model is a {type(model).__name__}, an encoder and a decoder: give one of them, model.get_encoder()"
            )
        heads, layers = getattr(config, "num_attention_heads", 0), getattr(config, "num_hidden_layers", 0)
        self.blocks = list(blocks_of(self.model, layers)) if layers else []
        if not heads or not self.blocks:
            raise _without_attention(model)
        used = getattr(config, "_attn_implementation", None)
        if used not in (None, "eager"):
            raise checks.InputError(
                f"model has attn_implementation={used!r}, fused attention that returns no patterns: use "
                "model.set_attn_implementation('eager'), or load it with attn_implementation='eager'"
            )
        length = getattr(config, "max_position_embeddings", None)
        self.limits = Limits(layers, heads, getattr(config, "vocab_size", None), length)

    def read(self, inputs: Mapping[str, np.ndarray], layers: Sequence[int], pattern: str, scales: bool) -> Forward:
        """A forward pass that keeps patterns of some layers, and scales of their norms."""
        kept: list = []
        norms = NormHooks([self.blocks[l] for l in layers], output_projection) if scales else None

        def keep(module, args, kwargs):
            kept.append(args[0] if args else kwargs["hidden_states"])

        def replace(module, args, kwargs):
            return ((kept[0], *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": kept[0]})

        bare = [l for l in layers if l] if pattern == RECOMPUTED else []
        options: dict[str, Any] = {"output_attentions": True}
        if "use_cache" in inspect.signature(self.model.forward).parameters:
            options["use_cache"] = False
        with evaluating(self.model), self._torch.no_grad(), contextlib.ExitStack() as hooks:
            for block, hook in [(self.blocks[0], keep), *((self.blocks[l], replace) for l in bare)]:
                handle = block.register_forward_pre_hook(hook, with_kwargs=True)
                hooks.callback(handle.remove)
            for remove in norms.register() if norms else ():
                hooks.callback(remove)
            found = getattr(self.model(**self.tensors(inputs), **options), "attentions", None)
        if not found or any(found[l] is None for l in layers):
            raise _without_attention(self.model)
        return Forward(array(kept[0]), [array(found[l]) for l in layers], norms.scales() if norms else None)

    def tensors(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs as tensors where the model is; real ones in its precision."""
        first = next(self.model.parameters())
        found = {}
        for name, value in inputs.items():
            tensor = self._torch.as_tensor(value).to(first.device)
            found[name] = tensor.to(first.dtype) if tensor.is_floating_point() else tensor
        return found


class LensReader:
    """Reads a model of TransformerLens, a ``HookedTransformer`` or a ``TransformerBridge``.

    Args:
        model: with the hook points blocks.l.hook_resid_pre and blocks.l.attn.hook_pattern.
    """

    def __init__(self, model):
        self._torch = library("torch")
        config = getattr(model, "cfg", None)
        if config is None or not hasattr(model, "run_with_hooks"):
            raise checks.InputError(
                f"model is a {type(model).__name__}: give a model of TransformerLens, or use from_transformers"
            )
        self.model = model
        self.limits = Limits(config.n_layers, config.n_heads, config.d_vocab, config.n_ctx)

    def read(self, inputs: Mapping[str, np.ndarray], layers: Sequence[int], pattern: str, scales: bool) -> Forward:
        """As that of ``TransformersReader``."""
        kept: dict[Any, Any] = {}  # by layer; -1 is what enters the first

        def keep(place):
            def hook(value, hook):
                kept[place] = value.detach()

            return hook

        def replace(value, hook):
            return kept[-1]

        hooks = [("blocks.0.hook_resid_pre", keep(-1)), *((f"blocks.{l}.attn.hook_pattern", keep(l)) for l in layers)]
        hooks += [(f"blocks.{l}.hook_resid_pre", replace) for l in layers if l and pattern == RECOMPUTED]
        if scales:
            hooks += [(f"blocks.{l}.ln1.hook_scale", keep(("scale", l))) for l in layers]
        given = {name: self._torch.as_tensor(value) for name, value in inputs.items()}
        tokens, mask = given["input_ids"], given.get("attention_mask")
        with evaluating(self.model), self._torch.no_grad():
            self.model.run_with_hooks(tokens, attention_mask=mask, fwd_hooks=hooks)
        if any(place not in kept for place in (-1, *layers)):
            raise _without_attention(self.model)
        found = [array(kept[l]) for l in layers]
        if not scales:
            return Forward(array(kept[-1]), found, None)
        if any(("scale", l) not in kept for l in layers):
            raise checks.InputError(
                f"layer_norm='frozen' and model is a {type(self.model).__name__} without hook_scale of ln1 in every "
                "layer: use layer_norm='none'"
            )
        divisors = [array(kept["scale", l])[..., 0].astype(float) for l in layers]
        return Forward(array(kept[-1]), found, Scales([1 / each for each in divisors], after=False))


def loaded(model) -> tuple[Any, Any]:
    """A model and, if it was given as a path or name, its tokenizer.

    Raises:
        ValueError: a directory that does not exist or holds no model.
    """
    if not isinstance(model, str | Path):
        return model, None
    transformers = library("transformers")
    try:
        found = transformers.AutoModel.from_pretrained(str(model), attn_implementation="eager")
    except Exception as error:
        text = checks.brief(str(error).partition("\n")[0])
        raise checks.InputError(
            f"model={str(model)!r} could not be loaded ({text}): give a directory with config.json and weights"
        ) from None
    try:
        return found, transformers.AutoTokenizer.from_pretrained(str(model))
    except Exception:  # of images, or a tokenizer that is elsewhere
        return found, None


def blocks_of(model, layers: int):
    """The layers of a model, bottom first: its first ModuleList of as many modules as it says it has layers, or []."""
    kind = library("torch").nn.ModuleList
    return next((part for part in model.modules() if isinstance(part, kind) and len(part) == layers), [])


def output_projection(block) -> Any | None:
    """The output projection of a layer's attention; None if its name is unknown."""
    for name, module in block.named_modules():
        if name.endswith(_ENDINGS) and getattr(module, "weight", None) is not None:
            return module
    return None


@contextlib.contextmanager
def evaluating(model) -> Iterator[None]:
    """Without dropout inside this block; the model's own mode comes back after it."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


def array(tensor) -> np.ndarray:
    """A tensor, whatever its device and precision, as float32 or float64."""
    tensor = tensor.detach().cpu()
    return (tensor if tensor.dtype.itemsize > 2 else tensor.float()).numpy()


def _without_attention(model) -> checks.InputError:
    return checks.InputError(
        f"model is a {type(model).__name__}, which returned no attention patterns: give a transformer with softmax "
        "attention in every layer"
    )
