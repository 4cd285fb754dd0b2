r"""Labels by a teacher in the model class: any number of examples, and a truth to recover.

Tokens are N(0, 1) numbers, attention has random weights, and

    y = sum_pi B^pi . xi^pi(x) + sqrt(T) noise,        B^pi ~ N(0, s^pi I)

with a strength s^pi for every path, most of them 0. Any path weights B are those of a network whose widths are at least
the number of paths, and those of the prior at large widths have s^pi = 1. As examples are added the order parameter U_1
learns which paths the teacher uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from ..core import checks
from ..models import Attention, contract
from ..models import residual as skips
from .task import Examples, Task

_BLOCK = 1024  # examples drawn together, so that each one depends on its number alone
_TEST = 2**31  # first block of test examples
_SHARPNESS = 2.0  # standard deviation of the attention scores


def teacher(
    key: jax.Array,
    paths: Mapping[str, float] | None = None,
    examples: int = 100,
    test_examples: int = 1000,
    heads: Sequence[int] = (2, 2),
    input_width: int = 16,
    length: int = 8,
    noise: float = 0.01,
    readout: str = "last",
    residual: bool | Sequence[float] = (),
) -> Task:
    """Real labels of a teacher that uses some paths, for learning curves.

    Args:
        key: typed random key; sets attention, teacher, inputs and noise.
        paths: strength s^pi of each path the teacher uses, by name; default the first one, with as much as all paths
            have together in the prior.
        examples, test_examples: P of the training set, and test examples. ``task.batches`` draws more.
        heads: (H_1, .., H_L).
        input_width: N_0.
        length: S.
        noise: VARIANCE of the noise of a label, which is the task's temperature too.
        readout: ``"last"``, ``"first"`` or ``"mean"``.
        residual: strength of the skip connection of each layer, as for ``gf.contract``.

    Returns:
        Task. Example n is the same whatever the number of examples.

    Raises:
        ValueError: an argument out of range, or a path that does not exist.

    Source: docs/model.md, sections 2 and 4.
    """
    checks.random_key("key", key)
    heads = checks.counts("heads", heads)
    sizes = checks.count("input_width", input_width), checks.count("length", length)
    numbers = checks.count("examples", examples), checks.count("test_examples", test_examples)
    checks.nearest("readout", readout, ("last", "first", "mean"))
    strengths = skips.strengths(residual, len(heads))
    variance, seed = checks.positive("noise", noise), np.asarray(jax.random.key_data(key)).ravel().tolist()
    rng = np.random.default_rng(seed)
    weights = [_SHARPNESS / sizes[0] * rng.standard_normal((H, sizes[0], sizes[0])) for H in heads]
    branches = tuple(H + (g > 0) for H, g in zip(heads, strengths, strict=True))
    names = skips.path_names(branches, strengths)
    chosen = {names[0]: float(len(names))} if paths is None else _strengths(paths, names)
    B = rng.standard_normal((len(names), sizes[0])) * np.sqrt([chosen.get(name, 0.0) for name in names])[:, None]
    source = _Source(Attention(weights), B, variance, seed, sizes, readout, strengths)
    return Task(
        name="teacher",
        train=source(0, numbers[0]),
        test=source(_TEST * _BLOCK, _TEST * _BLOCK + numbers[1]),
        attention=source.attention,
        readout=readout,
        temperature=variance,
        settings={"paths": chosen, "examples": numbers[0], "test_examples": numbers[1], "heads": list(heads),
                  "input_width": sizes[0], "length": sizes[1], "noise": variance, "key_data": seed},
        classes=(),
        residual=strengths,
        draw=source,
    )  # fmt: skip


def _strengths(paths, names: tuple[str, ...]) -> dict[str, float]:
    if not isinstance(paths, Mapping) or not paths:
        raise checks.InputError(
            f"paths={checks.brief(paths)}: give the strength of each path by name, {{'(1 1)': 1.0}}"
        )
    return {
        checks.nearest("path", name, names): checks.at_least_zero(f"paths[{name!r}]", value)
        for name, value in paths.items()
    }


@dataclass(frozen=True)
class _Source:
    """Examples by their numbers."""

    attention: Attention
    path_weights: np.ndarray
    noise: float
    seed: list[int]
    sizes: tuple[int, int]
    readout: str
    residual: tuple[float, ...]

    def __call__(self, start: int, stop: int) -> Examples:
        blocks = range(start // _BLOCK, -(-stop // _BLOCK))
        found = [self._block(number) for number in blocks]
        first = start - blocks[0] * _BLOCK
        x, y = (np.concatenate(parts)[first : first + stop - start] for parts in zip(*found, strict=True))
        return Examples(x, y)

    def _block(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([*self.seed, number])
        x, noise = rng.standard_normal((_BLOCK, *self.sizes)), rng.standard_normal(_BLOCK)
        data = contract(x, self.attention, self.readout, tokens="columns", residual=self.residual)
        return x, np.einsum("pnh,hn->p", data.flat, self.path_weights) + np.sqrt(self.noise) * noise
