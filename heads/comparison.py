"""Scores of heads compared by what they are for: how long a network stays good as heads with low scores go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..core import checks, console
from ..diagnostics import Prediction, pruning_order, score
from ..diagnostics.heads import shape_of
from ..models import PathInputs, Weights
from ..sampler import Run
from ..theory import Theory
from .mean_network import MeanNetwork

RANDOM = "random"
_KEYS = ["seed", "score", "heads_removed"]


def _three(value: float) -> str:
    return f"{value:.3f}"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Test scores as heads are removed, of one seed or of several.

    Attributes:
        curves: DataFrame with columns seed, score (the name of a score of heads), heads_removed, and value.
        measure: what ``value`` is, such as ``"accuracy"``.
    """

    curves: pd.DataFrame
    measure: str

    @property
    def areas(self) -> pd.DataFrame:
        """Area under each curve, the trapezoidal mean of its values, [seed, score]."""
        wide = self.curves.set_index(_KEYS)["value"].unstack()
        values = wide.to_numpy()
        found = np.trapezoid(values, axis=1) / (values.shape[1] - 1)
        return pd.Series(found, wide.index).unstack("score")[list(dict.fromkeys(self.curves["score"]))]

    @property
    def table(self) -> pd.DataFrame:
        """Mean area of each score over seeds and its standard error, the largest first; and those of the difference to
        random orders of the same seed.
        """
        areas = self.areas
        gain = areas.sub(areas[RANDOM], axis=0) if RANDOM in areas else areas * np.nan
        found = {"area": areas.mean(), "error": areas.sem(), "over_random": gain.mean(), "its_error": gain.sem()}
        return pd.DataFrame(found).sort_values("area", ascending=False)

    def __repr__(self) -> str:
        return f"{self.measure}\n{self.table.to_string(float_format=_three)}"

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format=_three)

    def join(self, *others: Comparison) -> Comparison:
        """This comparison and those of further seeds.

        Args:
            others: comparisons of the same scores on the same number of heads.

        Returns:
            Comparison of all of them, seeds numbered from 0 in this order.

        Raises:
            ValueError: other scores, or another number of heads.
        """
        found, seeds = [], 0
        for other in (self, *others):
            curves, mine = other.curves, set(map(tuple, self.curves[_KEYS[1:]].to_numpy()))
            if set(map(tuple, curves[_KEYS[1:]].to_numpy())) != mine or other.measure != self.measure:
                raise checks.InputError("others compare other scores or heads: make them the same in all")
            found.append(curves.assign(seed=curves["seed"] - curves["seed"].min() + seeds))
            seeds = int(found[-1]["seed"].max()) + 1
        return Comparison(pd.concat(found, ignore_index=True), self.measure)


def compare(
    network: Theory | Run | Weights | Callable[[list[tuple[int, int]]], float],
    scores: Mapping[str, pd.Series],
    test: tuple[PathInputs, Any] | None = None,
    *,
    random: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """What a network loses as heads are removed, the lowest score first, for several scores of its heads.

    Args:
        network: a theory, a run, all weights by name, or any function of the list of removed heads (layer, head) that
            returns a test score, such as the accuracy of a pretrained model.
        scores: name -> Series of all heads, indexed by (layer, head) from 1: from ``gf.head_scores``, ``by_gradient``,
            or your own. The only head of a layer stays, whatever its score.
        test: (inputs with all paths, labels) of the test examples; not with a function.
        random: random orders, whose mean is added as the score "random"; 0 for none.
        seed: of the random orders, and of the rows of the result.
        progress: show a bar on stderr.

    Returns:
        Comparison of this seed; ``join`` adds those of others.

    Raises:
        ValueError: no scores, scores of other heads than the network's, no test set, or as ``gf.pruning_curve``.

    Source: Michel, Levy and Neubig 2019, section 4 (removing heads by score); docs/model.md, section 8.
    """
    value, measure = _measure(network, test)
    series = _checked(scores, None if callable(network) else shape_of(network).heads)
    first = next(iter(series.values()))
    orders = {name: [pruning_order(found)] for name, found in series.items()}
    rng = np.random.default_rng(seed)
    if checks.count("random", random, least=0):
        orders[RANDOM] = [pruning_order(pd.Series(rng.random(len(first)), first.index)) for _ in range(random)]
    known: dict[frozenset, float] = {}  # orders share their beginnings and ends

    def of(removed: frozenset) -> float:
        if removed not in known:
            known[removed] = float(value(sorted(removed)))
        bar.update(1)
        return known[removed]

    rows = []
    total = sum(len(order) + 1 for tried in orders.values() for order in tried)
    with console.bar(total=total, unit="network", desc="prune", disable=not progress) as bar:
        for name, tried in orders.items():
            curves = [[of(frozenset(order[:n])) for n in range(len(order) + 1)] for order in tried]
            rows += [(seed, name, n, v) for n, v in enumerate(np.mean(curves, 0))]
    return Comparison(pd.DataFrame(rows, columns=[*_KEYS, "value"]), measure())


def _checked(scores, heads) -> dict[str, pd.Series]:
    """Scores of the same heads, those of the network."""
    found = {name: _series(name, each) for name, each in scores.items()} if isinstance(scores, Mapping) else {}
    if not found:
        raise checks.InputError(f"scores={checks.brief(scores)} must be a dict: give {{name: gf.head_scores(..)}}")
    first = next(iter(found.values()))
    for name, each in found.items():
        counts = tuple(each.groupby(level="layer").size())
        if set(each.index) != set(first.index) or (heads is not None and counts != heads):
            raise checks.InputError(f"scores[{name!r}] has heads {counts}: give one score for each head of the network")
    return found


def _measure(network, test) -> tuple[Callable[[list], float], Callable[[], str]]:
    """The test score without some heads, and what it is called once there is one."""
    if callable(network) and not isinstance(network, Theory | Run):
        if test is not None:
            raise checks.InputError("test is given and network is a function, which has its own: leave test out")
        return network, lambda: "accuracy"
    if not (isinstance(test, tuple | list) and len(test) == 2):
        raise checks.InputError(f"test={checks.brief(test)}: give (inputs, labels) of test examples, task.test_set")
    mean, classes = MeanNetwork(network), network.posterior.classes if isinstance(network, Theory | Run) else None
    names: list[str] = []

    def value(heads) -> float:
        f = mean(test[0], heads)
        found = score(Prediction(f, np.zeros_like(f), None, classes), test[1])
        names.append(found.name)
        return found.value

    return value, lambda: names[0]


def _series(name: str, found) -> pd.Series:
    if isinstance(found, pd.DataFrame) and "score" in found:  # of by_evidence
        found = found["score"]
    if not isinstance(found, pd.Series) or found.index.names != ["layer", "head"]:
        raise checks.InputError(
            f"scores[{name!r}] is a {type(found).__name__}: give a pandas Series indexed by (layer, head)"
        )
    return found.sort_index().fillna(np.inf)
