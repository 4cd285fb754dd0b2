"""Lines: scores as heads are removed, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes

from ..core import checks
from ..core.text import literal
from .style import BLACK, BLUE, ORANGE, RED, below, drawn_on, several_on

_LOOKS = (
    (BLUE, "o"), (RED, "s"), (BLACK, "^"), ("#009E73", "v"), ("#CC79A7", "D"), (ORANGE, "P"), ("#56B4E9", "X"),
)  # fmt: skip
_INSIDE = 5  # names in a legend that covers the axes
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {  # suffix of the variables -> words, looks
    "theory": ("theory", {"linestyle": "-"}),
    "exact": ("exact posterior", {"linestyle": "none", "marker": "o", "markersize": 4}),
}


def pruning(curves, *, ax: Axes | None = None) -> Axes:
    """Test score as heads are removed, a line per score of heads.

    Args:
        curves: from ``gf.heads.compare``; a Series from ``gf.pruning_curve``, or name -> Series; or a DataFrame with
            columns score, heads_removed and value, and error or seed: errors are given, or are standard errors over
            seeds.
        ax: axes to draw on; default new ones.

    Returns:
        The axes, one container of error bars per score.

    Raises:
        ValueError: something else.
    """
    table, measure = _table(curves)
    order = list(dict.fromkeys(table["score"]))
    with drawn_on(ax, (5.6, 3.8)) as axes:
        for name, looks in zip(order, _looks(len(order)), strict=True):
            grouped = table[table["score"] == name].groupby("heads_removed")
            error = grouped["error"].mean() if "error" in table else grouped["value"].sem().fillna(0.0)
            shown: dict[str, Any] = {**looks, "markersize": 4, "capsize": 2}
            if (error > 0).any():
                shown["yerr"] = error.to_numpy()
            mean = grouped["value"].mean()
            axes.errorbar(mean.index, mean.to_numpy(), label=literal(str(name)), **shown)
        axes.set(xlabel="heads removed", ylabel=f"test {measure}")
        if order != [""]:
            below(axes, size="small") if len(order) > _INSIDE else axes.legend()
    return axes


def _table(curves) -> tuple[pd.DataFrame, str]:
    """(columns score, heads_removed, value; what the value is)."""
    if isinstance(found := getattr(curves, "curves", curves), pd.DataFrame):
        if not {"score", "heads_removed", "value"} <= set(found):
            raise checks.InputError(
                f"curves has columns {checks.brief(list(found))}: give score, heads_removed and value"
            )
        return found, getattr(curves, "measure", "accuracy")
    series = curves if isinstance(curves, Mapping) else {"": curves}
    if not series or not all(isinstance(each, pd.Series) for each in series.values()):
        raise checks.InputError(f"curves is a {type(curves).__name__}: give gf.heads.compare(..) or a Series")
    parts = [
        pd.DataFrame({"score": name, "heads_removed": each.index, "value": each.to_numpy()})
        for name, each in series.items()
    ]
    measure = str(next(iter(series.values())).name or "accuracy").replace("_", " ")
    return pd.concat(parts, ignore_index=True), measure


def _looks(count: int) -> list[dict[str, Any]]:
    """Colour and marker of each line; dashed where they come again."""
    n = len(_LOOKS)
    return [
        {"color": _LOOKS[i % n][0], "marker": _LOOKS[i % n][1], "linestyle": ("-", "--")[i // n % 2]}
        for i in range(count)
    ]


def learning_curve(data: xr.Dataset, *, axes: Sequence[Axes] | None = None) -> np.ndarray:
    """A learning curve: test score, bias and variance, and the order parameter of every path.

    Lines are the theory, dots the exact posterior, and paths have a colour each.

    Args:
        data: from ``gf.learning_curve``.
        axes: three axes to draw on; default new ones.

    Returns:
        Array of the three axes.

    Raises:
        ValueError: data without a score, such as of another function or without test examples; another number of axes.
    """
    if not isinstance(data, xr.Dataset):
        raise checks.InputError(f"data is a {type(data).__name__}: give what gf.learning_curve returns")
    found = {kind: [n for n in ("accuracy", "r_squared") if f"{n}_{kind}" in data] for kind in _KINDS}
    if not any(found.values()) or "examples" not in data.dims:
        raise checks.InputError("data has no test score against examples: give a learning curve with test examples")
    with several_on(axes, 3, (3.6, 3.4)) as places:
        score, error, U = places
        first = next(kind for kind in found if found[kind])
        for kind, names in found.items():
            _scores(score, data, kind, names)
            _errors(error, data, kind, labelled=kind == first)
            _diagonals(U, data, kind, labelled=kind == first)
        error.set(yscale="log", ylabel="test error")
        U.set(yscale="log", ylabel="order parameter $U^{\\pi\\pi}$")
        for each in places:
            each.set(xscale="log", xlabel="training examples $P$")
            below(each, columns=1 if each is score else 2)
    return places


def _scores(axes: Axes, data: xr.Dataset, kind: str, names: Sequence[str]) -> None:
    words, looks = _KINDS[kind]
    for name in names:
        axes.plot(data["examples"].values, data[f"{name}_{kind}"].values, color=BLACK, label=words, **looks)
        axes.set_ylabel({"accuracy": "test accuracy", "r_squared": "test $R^2$"}[name])


def _errors(axes: Axes, data: xr.Dataset, kind: str, labelled: bool) -> None:
    for name, colour in (("bias", BLUE), ("variance", RED)):
        if f"{name}_{kind}" in data:
            values = data[f"{name}_{kind}"].values
            axes.plot(
                data["examples"].values, values, color=colour, label=name if labelled else None, **_KINDS[kind][1]
            )


def _diagonals(axes: Axes, data: xr.Dataset, kind: str, labelled: bool) -> None:
    if f"U_1_{kind}" not in data:
        return
    for i, path in enumerate(data["path"].values):
        diagonal = data[f"U_1_{kind}"].values[:, i, i]
        label = literal(str(path)) if labelled else None
        axes.plot(data["examples"].values, diagonal, color=f"C{i}", label=label, **_KINDS[kind][1])
