r"""Layer norms of a pretrained model with their scales frozen: numbers, one for each token and layer.

A layer norm divides what it reads by its standard deviation over channels (its root mean square in RMS norms). With the
scale r(t) = 1 / that number taken from the pretrained model's own forward pass it is linear, and becomes part of the
patterns. Where the norm stands decides how, for z_l(t) what enters layer l:

    before attention (GPT-2, Llama):    z_{l+1}(t) = g z_l(t) + sum_s V z_l(s) r_l(s) A_l[s, t]
    after the sum (BERT):               z_{l+1}(t) = r_l(t) ( g z_l(t) + sum_s V z_l(s) A_l[s, t] )

The second is z_l(t) = rho_l(t) y_l(t), rho_{l+1} = r_l rho_l, rho_1 = 1, of y_{l+1}(t) = g y_l(t) + sum_s V y_l(s)
A_l[s, t] rho_l(s) / rho_l(t), read with the weight rho_{L+1}(t) of each token. Either way A_l has been multiplied by
numbers, and the skip connection is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import checks
from .optional import library

NONE, FROZEN = LAYER_NORMS = ("none", "frozen")
_BEFORE, _AFTER = "before", "after"
_ROUNDINGS = 4  # of the largest entry, by which what a norm reads may differ from the sum that it is


class Scales(NamedTuple):
    """Frozen scales of the chosen layers.

    Attributes:
        of_layers: r_l [P, S], bottom layer first.
        after: norms stand after the sum with the skip connection, as in BERT.
    """

    of_layers: list[np.ndarray]
    after: bool

    def folded(self, patterns: Sequence[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Patterns [P, H_l, source, target] with the scales in them, and the weights [P, S] of tokens that are read."""
        if not self.after:
            return [a * r[:, None, :, None] for a, r in zip(patterns, self.of_layers, strict=True)], None
        rho, found = np.ones_like(self.of_layers[0]), []
        for a, r in zip(patterns, self.of_layers, strict=True):
            found.append(a * rho[:, None, :, None] / rho[:, None, None, :])
            rho = rho * r
        return found, rho


class NormHooks:
    """What the norms of some layers read during a forward pass of a model of transformers.

    Args:
        blocks: the layers, modules of PyTorch.
        projection: of a layer, the output projection of its attention, or None.
    """

    def __init__(self, blocks: Sequence[Any], projection: Callable[[Any], Any | None]):
        self._blocks, self._projection = blocks, projection
        self._seen: list[dict[str, Any]] = [{"norms": []} for _ in blocks]

    def register(self) -> list[Callable[[], None]]:
        """Watch; returns what ends it. After hooks that replace what a layer reads."""
        found = []
        for block, seen in zip(self._blocks, self._seen, strict=True):

            def entered(module, args, kwargs, seen=seen):
                seen["input"] = args[0] if args else kwargs["hidden_states"]

            def normed(module, args, seen=seen):
                seen["norms"].append((module, args[0]))

            def projected(module, args, output, seen=seen):
                seen["output"] = output

            found.append(block.register_forward_pre_hook(entered, with_kwargs=True).remove)
            for module in block.modules():
                if type(module).__name__.endswith("Norm"):
                    found.append(module.register_forward_pre_hook(normed).remove)
            projection = self._projection(block)
            if projection is not None:
                found.append(projection.register_forward_hook(projected).remove)
        return found

    def scales(self) -> Scales:
        """Of the norm of each layer's attention.

        Raises:
            ValueError: a layer whose norm is neither before its attention nor after the sum.
        """
        found = [self._of(block, seen) for block, seen in zip(self._blocks, self._seen, strict=True)]
        if len({place for place, _ in found}) > 1:
            raise _unknown(self._blocks[0])
        return Scales([scale for _, scale in found], found[0][0] == _AFTER)

    def _of(self, block, seen) -> tuple[str, np.ndarray]:
        whole = seen["input"]
        norms = [(module, z) for module, z in seen["norms"] if z.shape == whole.shape]
        attention = seen.get("output")
        places = {_BEFORE: whole, _AFTER: None if attention is None else whole + attention}
        if any(_same(z, attention) for _, z in norms):  # a norm of the attention's own output
            raise _unknown(block)
        for place, read in places.items():
            for module, z in norms:
                if _same(z, read):
                    return place, _scale(module, z, block)
        raise _unknown(block)


def _same(z, other) -> bool:
    torch = library("torch")
    if other is None or z.shape != other.shape:
        return False
    allowed = _ROUNDINGS * torch.finfo(z.dtype).eps
    return float((z - other).abs().max()) <= allowed * float(other.abs().max())


def _scale(module, z, block) -> np.ndarray:
    """1 / standard deviation, or root mean square, of every token."""
    torch = library("torch")
    z = z.double()
    if isinstance(module, torch.nn.LayerNorm):
        square, eps = z.var(-1, unbiased=False), module.eps
    elif "RMS" in type(module).__name__ or type(module).__name__ == "T5LayerNorm":
        square, eps = (z**2).mean(-1), getattr(module, "variance_epsilon", getattr(module, "eps", 0.0))
    else:
        raise _unknown(block)
    return (square + eps).rsqrt().cpu().numpy()


def _unknown(block) -> checks.InputError:
    return checks.InputError(
        f"layer_norm='frozen' and model has layers of the kind {type(block).__name__}, whose norm is neither before "
        "the attention nor after its sum with the skip connection: use layer_norm='none'"
    )
