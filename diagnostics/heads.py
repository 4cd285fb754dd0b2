"""Which heads and paths matter, and what is lost without them (docs/model.md, section 8).

Removing heads or paths from a network that has learnt leaves its other weights as they are and rescales the layer by
sqrt(H_l / remaining heads). Since f = sum_pi B^pi . xi^pi, that is the same network on inputs whose dropped paths are
zero and whose others carry sqrt(H / remaining paths): one rule for weights, samples and exact posterior. In the theory
the rows and columns of U_1 are zeroed and the predictor is that of the kernel which remains. A layer with a skip
connection can lose all of its heads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple, overload

import jax.numpy as jnp
import numpy as np
import pandas as pd

from ..core import checks
from ..core.numerics import numerics
from ..models import PathInputs, Weights
from ..models.network import forward, path_weights
from ..models.residual import head_counts
from ..models.solvable import check_solvable
from ..sampler import Run
from ..theory import Theory
from .kernels import mean_order_parameter, weights_by_name
from .predictor import Prediction, Score, predict, score

Head = tuple[int, int]  # (layer, head), both counted from 1


def head_scores(source: Theory | Run | Weights) -> pd.Series:
    """Score of each head: sum of |U_1| over the entries whose pi or pi' passes through it, over the largest score.

    Args:
        source: a theory, a run (posterior mean of U_1), or value weights by name, such as a trained network's; the
            entry "residual" (g_1, .., g_L) of such a dict says which layers have skip connections.

    Returns:
        Series of scores in [0, 1], indexed by (layer, head), both counted from 1.

    Raises:
        ValueError: ``source`` is none of these, or weights whose shapes do not follow one another.

    Source: docs/model.md, section 8.
    """
    U = np.abs(mean_order_parameter(source))
    shape = shape_of(source)
    scores = {}
    for head in all_heads(shape.heads):
        passing = np.repeat(through(shape, [head]), len(U) // shape.paths)  # of a path, the rows of its outputs
        scores[head] = U[passing[:, None] | passing[None, :]].sum()
    index = pd.MultiIndex.from_tuples(list(scores), names=("layer", "head"))
    values = np.array(list(scores.values()))
    return pd.Series(values / values.max(), index, name="score")


@overload
def prune(source: Theory, heads: Iterable[Head] = (), paths: Sequence = ()) -> Theory: ...
@overload
def prune(source: PathInputs, heads: Iterable[Head] = (), paths: Sequence = ()) -> PathInputs: ...
@overload
def prune(source: Weights, heads: Iterable[Head] = (), paths: Sequence = ()) -> Weights: ...
def prune(source, heads=(), paths=()):
    """Remove heads, or paths, after learning.

    Args:
        source: a theory (its U_1 loses their rows and columns); inputs, on which any run or network with these paths
            then acts as if pruned; or weights by name, for heads only.
        heads: (layer, head) pairs counted from 1.
        paths: names or indices of paths.

    Returns:
        The same kind of thing, of the same shape: weights with each layer's remaining heads times sqrt(H_l /
        remaining); inputs with the remaining paths times sqrt(H / remaining), which is the same network; a theory with
        rows and columns of U_1 set to zero.

    Raises:
        ValueError: unknown heads or paths, or nothing would be left.

    Source: docs/model.md, section 8.
    """
    shape = shape_of(source)
    heads = _checked_heads(heads, shape)
    if isinstance(source, dict):
        if len(paths):
            raise checks.InputError(f"paths={tuple(paths)} cannot be removed from weights: give heads, or prune inputs")
        left = [H - sum(layer == l for layer, _ in heads) for l, H in enumerate(shape.heads, start=1)]
        pruned = dict(source)
        for l, (H, kept) in enumerate(zip(shape.heads, left, strict=True), start=1):
            mask = np.array([(l, h) not in heads for h in range(1, H + 1)]) * np.sqrt(H / max(kept, 1))
            pruned[f"V_{l}"] = np.asarray(source[f"V_{l}"]) * mask[:, None, None]
        return pruned
    data = source.posterior.data if isinstance(source, Theory) else source
    gone = through(shape, heads)
    if len(paths):
        gone[list(data.path_indices(paths))] = True
    if gone.all():
        raise checks.InputError(f"heads={tuple(heads)}, paths={tuple(paths)} leave no path: keep at least one")
    if isinstance(source, Theory):
        kept = np.repeat(np.where(gone, 0.0, 1.0), len(source.U[0]) // len(gone))
        return dataclasses.replace(source, U=(kept[:, None] * source.U[0] * kept, *source.U[1:]))
    scale = np.zeros(len(gone))
    scale[~gone] = data.scales_left(np.flatnonzero(~gone))
    return source.like(source.xi * scale.reshape(source.heads))


def pruning_order(scores: pd.Series) -> list[Head]:
    """Heads from the lowest score up, as many as can go with one head left in each layer.

    Args:
        scores: of all heads, indexed by (layer, head), as ``head_scores`` returns them.

    Returns:
        Pairs (layer, head), counted from 1; equal scores in the order of the index.

    Source: docs/model.md, section 8.
    """
    left = scores.groupby(level="layer").size().to_dict()
    order = []
    for layer, head in scores.sort_values(kind="stable").index:
        if left[layer] > 1:
            left[layer] -= 1
            order.append((int(layer), int(head)))
    return order


def pruning_curve(source: Theory | Run | Weights, data_test: PathInputs, y_test, order: Sequence[Head]) -> pd.Series:
    """Test score (accuracy, or R^2 of real labels) after removing the first 0, 1, .. heads of an order.

    Args:
        source: a theory, a run, or all weights of one network by name.
        data_test, y_test: test inputs of all paths and labels [Q].
        order: heads as (layer, head), such as ``pruning_order(head_scores(theory))``.

    Returns:
        Series of len(order) + 1 scores, named after the score, indexed by the number of heads removed.

    Raises:
        ValueError: as ``prune`` and ``score``.

    Source: docs/model.md, section 8.
    """
    found = [pruned_score(source, data_test, y_test, order[:n]) for n in range(len(order) + 1)]
    return pd.Series([s.value for s in found], pd.RangeIndex(len(found), name="heads_removed"), name=found[0].name)


def head_drops(source: Theory | Run | Weights, data_test: PathInputs, y_test) -> pd.Series:
    """Loss of test score (accuracy, or R^2 of real labels) when one head alone is removed.

    Args:
        source: a theory, a run, or all weights of one network by name.
        data_test, y_test: test inputs of all paths and labels [Q].

    Returns:
        Series of scores lost (below 0 where the score rises), indexed by (layer, head) counted from 1; NaN for the
        only head of its layer.

    Raises:
        ValueError: as ``prune`` and ``score``.

    Source: docs/model.md, section 8.
    """
    whole = pruned_score(source, data_test, y_test, ())
    lost = lambda head: whole.value - pruned_score(source, data_test, y_test, [head]).value  # noqa: E731
    shape = shape_of(source)
    drops = {(l, h): np.nan if shape.alone(l) else lost((l, h)) for l, h in all_heads(shape.heads)}
    index = pd.MultiIndex.from_tuples(list(drops), names=("layer", "head"))
    return pd.Series(list(drops.values()), index, name=f"{whole.name}_drop")


def pruned_score(source, data_test, y_test, heads) -> Score:
    """Test score of a theory, a run or weights by name without some heads."""
    if isinstance(source, Theory):
        return score(predict(prune(source, heads), data_test), y_test)
    if isinstance(source, Run):
        check_solvable("pruning", source.posterior)
    inputs = prune(data_test, heads)
    if isinstance(source, dict):
        with numerics():
            weights, residual = weights_by_name(source, first_layer=True)
            B = path_weights({name: jnp.asarray(w, float) for name, w in weights.items()}, residual)
            f = np.asarray(forward(B, inputs.flat))
        return score(Prediction(f, np.zeros_like(f)), y_test)
    return score(predict(source, inputs), y_test)


class Shape(NamedTuple):
    """Heads of every layer, and which layers have a skip connection."""

    heads: tuple[int, ...]
    skips: tuple[bool, ...]

    @property
    def branches(self) -> tuple[int, ...]:
        """Heads and skip connection of every layer."""
        return tuple(H + skip for H, skip in zip(self.heads, self.skips, strict=True))

    @property
    def paths(self) -> int:
        """H."""
        return int(np.prod(self.branches))

    def alone(self, layer: int) -> bool:
        """Whether a layer, from 1, has one head and nothing beside it, so that it cannot go."""
        return self.branches[layer - 1] == 1


def shape_of(source) -> Shape:
    """Heads and skip connections of a theory, a run, inputs, or weights by name."""
    if isinstance(source, Run):
        check_solvable("what belongs to heads", source.posterior)
        return Shape(source.posterior.network.heads, source.posterior.network.skips)
    if isinstance(source, Theory | PathInputs):
        data = source.train if isinstance(source, Theory) else source
        return Shape(head_counts(data.heads, data.residual), tuple(g > 0 for g in data.residual))
    weights, residual = weights_by_name(source)
    heads = tuple(np.shape(V)[0] for name, V in weights.items() if name != "a")
    return Shape(heads, tuple(g > 0 for g in residual))


def all_heads(heads) -> list[Head]:
    """All (layer, head) of layers with so many heads, from 1."""
    return [(l, h) for l, H in enumerate(heads, start=1) for h in range(1, H + 1)]


def through(shape: Shape, chosen) -> np.ndarray:
    """[H] whether each path passes through one of the chosen heads."""
    branches = np.indices(shape.branches).reshape(len(shape.heads), -1)
    found = np.zeros(branches.shape[1], bool)
    for layer, head in chosen:
        found |= branches[layer - 1] == head - 1 + shape.skips[layer - 1]
    return found


def _checked_heads(heads, shape) -> list[Head]:
    found = []
    for entry in heads:
        if not hasattr(entry, "__len__") or len(entry) != 2:
            raise checks.InputError(f"heads has the entry {checks.brief(entry)}: give pairs (layer, head), from 1")
        layer, head = checks.counts("heads", entry)
        if layer > len(shape.heads) or head > shape.heads[layer - 1]:
            raise checks.InputError(
                f"heads={checks.brief((layer, head))} does not exist: layers have {shape.heads} heads, give numbers "
                "from 1"
            )
        found.append((layer, head))
    for l, (H, skip) in enumerate(zip(shape.heads, shape.skips, strict=True), start=1):
        if not skip and len({h for layer, h in found if layer == l}) == H:
            raise checks.InputError(f"heads={checks.brief(found)} are all heads of layer {l}: keep at least one")
    return found
