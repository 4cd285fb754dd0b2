"""Groups of bars: overlaps of principal components, scores of heads, shares of paths by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ..core import checks
from ..core.text import literal
from ..diagnostics import Alignment
from ..diagnostics import alignment as alignment_of
from ..diagnostics import head_scores as scores_of
from .style import BLUE, RED, SERIES, drawn_on, several_on


def alignment(sources, components: int = 30, *, ax: Axes | None = None) -> Axes:
    """Overlap of the leading principal components of a kernel with the labels, largest eigenvalue first.

    Args:
        sources: name -> theory, run, ``gf.alignment(..)`` or its overlaps [P]; or one of these. The first is blue, the
            second orange.
        components: how many.
        ax: axes to draw on; default new ones.

    Returns:
        The axes, one container of bars per source.

    Raises:
        ValueError: as ``gf.alignment``.
    """
    given = sources if isinstance(sources, Mapping) else {"": sources}
    overlaps = {name: _overlaps(source) for name, source in given.items()}
    shown = min(checks.count("components", components), *(len(values) for values in overlaps.values()))
    with drawn_on(ax, (4.6, 3.2)) as axes:
        _bars(axes, np.arange(1, shown + 1), {name: values[:shown] for name, values in overlaps.items()})
        axes.set(xlabel="principal component of the kernel", ylabel="overlap with labels")
        axes.set(xlim=(0.3, shown + 0.7), ylim=(0, None))
        if any(given):
            axes.legend()
    return axes


def head_scores(scores, drops: pd.Series | None = None, *, ax: Axes | None = None) -> Axes:
    """Scores of heads, and what is lost without each.

    Args:
        scores: a Series from ``gf.head_scores`` or another indexed by (layer, head); a theory, a run or weights by
            name, which are scored; or name -> any of these, a colour each.
        drops: what is lost without each head, as ``gf.head_drops`` returns it: red bars with a scale of their own.
        ax: axes to draw on; default new ones.

    Returns:
        The axes of the scores; those of the drops are the last of ``axes.figure.axes``.

    Raises:
        ValueError: as ``gf.head_scores``; drops of other heads than the scores.
    """
    single = not isinstance(scores, Mapping) or "V_1" in scores
    given: dict[str, Any] = {"head score": scores} if single else dict(scores)
    if not given:
        raise checks.InputError("scores is empty: give a Series of gf.head_scores, or name -> Series")
    series = {name: each if isinstance(each, pd.Series) else scores_of(each) for name, each in given.items()}
    heads = next(iter(series.values())).index
    if any(set(each.index) != set(heads) for each in [*series.values(), *([] if drops is None else [drops])]):
        raise checks.InputError("scores and drops are of different heads: give one value for each head in all of them")
    with drawn_on(ax, (4.6, 3.2)) as axes:
        groups = len(series) + (drops is not None)
        _bars(axes, np.arange(len(heads)), {n: s.reindex(heads).to_numpy() for n, s in series.items()}, groups=groups)
        axes.set_xticks(range(len(heads)), [f"{layer}.{head}" for layer, head in heads])
        axes.set(xlabel="head (layer.head)", ylabel="head score")
        axes.axhline(0, color="black", linewidth=0.8)
        if drops is not None:
            _drops(axes, drops.reindex(heads), groups)
        if not single:
            axes.legend()
    return axes


def _drops(axes: Axes, drops: pd.Series, groups: int) -> None:
    """Red bars in the last place of each group, the scale on the right, zero at the height of the scores' zero."""
    lost = axes.twinx()
    width = 0.8 / groups
    values = drops.to_numpy()
    lost.bar(np.arange(len(values)) + (groups - 1) / 2 * width, values, width, color=RED)
    measure = str(drops.name or "score_drop").removesuffix("_drop").replace("_", " ")
    lost.set_ylabel(f"drop of {measure} without it", color=RED)
    lost.tick_params(axis="y", colors=RED)
    lost.spines["right"].set(visible=True, color=RED)
    if groups == 2:
        axes.yaxis.label.set_color(BLUE)
        axes.tick_params(axis="y", colors=BLUE)
    top = axes.get_ylim()[1]
    most, least = max(np.nanmax(values), 1e-12) * 1.05, min(0.0, np.nanmin(values) * 1.05)
    lost.set_ylim(least, most)
    axes.set_ylim(least / most * top, top)


def path_lengths(found, *, axes: Sequence[Axes] | None = None) -> np.ndarray:
    """Shares of order parameter, kernel and prediction of the paths of each length, and their scores if there are any.

    Args:
        found: from ``gf.path_lengths``, or its ``table``.
        axes: axes to draw on, one for the shares and one for each score; default new ones.

    Returns:
        Array of the axes [1 or more].

    Raises:
        ValueError: something else, or another number of axes.
    """
    table = found if isinstance(found, pd.DataFrame) else getattr(found, "table", None)
    if not isinstance(table, pd.DataFrame) or "prediction" not in table:
        raise checks.InputError(f"found is a {type(found).__name__}: give what gf.path_lengths returns")
    words = {"U": "$U$", "kernel": "kernel", "prediction": "prediction"}
    parts = [({word: table[column] for column, word in words.items()}, "share")]
    measures = [n.removesuffix("_alone") for n in map(str, table) if n.endswith("_alone") and n != "evidence_alone"]
    for measure in measures:
        alone = {"these paths alone": table[f"{measure}_alone"], "without them": table[f"{measure}_without"]}
        parts.append((alone, f"test {measure.replace('_', ' ')}"))
    with several_on(axes, len(parts), (4.6, 3.4)) as places:
        for place, (series, label) in zip(places, parts, strict=True):
            _bars(place, np.arange(len(table)), series)
            place.set_xticks(range(len(table)), [str(length) for length in table.index])
            place.axhline(0, color="black", linewidth=0.8)
            place.set(xlabel="heads passed", ylabel=label)
            place.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(series))
    return places


def _bars(axes: Axes, places: np.ndarray, series: Mapping[str, Any], groups: int | None = None) -> None:
    """A group of bars at each place, one bar per series."""
    groups = len(series) if groups is None else groups
    width = 0.8 / groups
    for i, (name, values) in enumerate(series.items()):
        at = places + (i - (groups - 1) / 2) * width
        axes.bar(at, values, width, color=SERIES[i % len(SERIES)], label=_shown(name))


def _shown(name) -> str:
    """A name of ours may hold a formula; others are shown as they are."""
    text = str(name)
    return text if text.startswith("$") and text.count("$") == 2 else literal(text)


def _overlaps(source) -> np.ndarray:
    if isinstance(source, Alignment):
        return source.overlaps
    if np.ndim(source) == 1 and not isinstance(source, str):
        return checks.array("sources", source, "P")
    return alignment_of(source).overlaps
