"""Test score against width, as figure 2c of arXiv:2405.15926 shows it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes

from ..core import checks
from ..core.text import literal
from ..diagnostics import Score, predict, score
from ..models.solvable import check_solvable
from ..sampler import Run
from ..theory import Grid, Theory
from .style import BLACK, BLUE, RED, below, drawn_on

_GP_LINES = ("-", "--", ":", "-.")
_DOTS: dict[str, Any] = {"marker": "o", "capsize": 2, "linestyle": "none", "zorder": 3}
_SQUARES: dict[str, Any] = {"marker": "s", "markerfacecolor": "none", "capsize": 3, "linestyle": "none", "zorder": 4}
_SIZES = {"samples": 0.65, "weights": 1.5}  # of markers, in those of lines
_LABELS = {"accuracy": "test accuracy", "r_squared": "test $R^2$"}


def accuracy(
    theory=None,
    samples=None,
    gp=None,
    *,
    test: tuple[Any, Any] | None = None,
    weights=None,
    kernel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Test accuracy (R^2 where labels are real) against width N: theory, samples and GP limit.

    The theory is a line through blue crosses, samples are black dots with Monte Carlo errors, and the GP limit is a
    horizontal red line, solid for the first set of paths, then dashed, dotted.

    Args:
        theory: theories of several widths, or a ``gf.theory.Grid`` of one temperature.
        samples: a run, or runs of several widths.
        gp: the theory of the GP limit, or name -> theory of several sets of paths.
        test: (inputs, labels) of the test examples, as ``task.test_set``.
        weights: further runs, shown as open squares, such as samples of the weights.
        kernel: what to call them in the legend, in brackets.
        ax: axes to draw on; default new ones.

    Any of the four may also be numbers that are known already: a Series of scores indexed by width, a DataFrame with
    columns value and error, and a number per GP limit.

    Returns:
        The axes.

    Raises:
        ValueError: nothing to draw, theories and runs without ``test``, or a run of a model without widths.
    """
    parts = {"theory": theory, "samples": samples, "weights": weights}
    found = {name: _points(name, source, test) for name, source in parts.items() if source is not None}
    limits = {} if gp is None else gp if isinstance(gp, Mapping) else {"": gp}
    lines = {name: _score("gp", value, test) for name, value in limits.items()}
    if not found and not lines:
        raise checks.InputError("theory, samples and gp are None: give one or more of them")
    measures = [*(t.attrs.get("measure", "accuracy") for t in found.values()), *(s.name for s in lines.values())]
    with drawn_on(ax) as axes:
        axes.set(xscale="log", xlabel="width $N$", ylabel=_LABELS[measures[0]])
        widths = {N for table in found.values() for N in table.index}
        if len(widths) == 1:  # a scale needs more than a point
            axes.set_xlim(min(widths) / 2, min(widths) * 2)
        for (name, limit), line in zip(lines.items(), itertools.cycle(_GP_LINES), strict=False):
            label = f"GP limit, {literal(str(name))}" if name else "GP limit"
            axes.axhline(limit.value, color=RED, linestyle=line, label=label, zorder=1)
        if "theory" in found:
            _theory(axes, found["theory"])
        for name, style, label in (
            ("samples", _DOTS, "samples"),
            ("weights", _SQUARES, "weight samples" + f" ({kernel})" * bool(kernel)),
        ):
            if name in found:
                table = found[name]
                size = _SIZES[name] * rcParams["lines.markersize"]
                axes.errorbar(
                    table.index, table["value"], table["error"], color=BLACK, label=label, markersize=size, **style
                )
        axes.margins(y=0.08)
        below(axes)
    return axes


def _theory(axes: Axes, table: pd.DataFrame) -> None:
    axes.plot(table.index, table["value"], color=BLUE, marker="x", label="theory", zorder=2)
    if table["error"].any():  # over seeds: a theory has no Monte Carlo error
        low, high = table["value"] - table["error"], table["value"] + table["error"]
        axes.fill_between(table.index, low, high, color=BLUE, alpha=0.2, linewidth=0)


def _points(name: str, source, test) -> pd.DataFrame:
    """value and error by width; its ``attrs`` say what the value is."""
    if isinstance(source, pd.Series):
        return pd.DataFrame({"value": source, "error": 0.0})
    if isinstance(source, pd.DataFrame):
        return source
    if isinstance(source, Grid):
        if len(source.temperatures) > 1:
            raise checks.InputError(
                f"{name} is a grid of {len(source.temperatures)} temperatures: give the theories of one, "
                "[grid[i, 0] for i in range(n)]"
            )
        source = [row[0] for row in source.theories]
    sources = [source] if isinstance(source, Theory | Run) else list(source)
    found = {_width(each): _score(name, each, test) for each in sources}
    table = pd.DataFrame([each[1:] for each in found.values()], list(found), columns=["value", "error"]).sort_index()
    table.attrs["measure"] = next(iter(found.values())).name if found else "accuracy"
    return table


def _width(source: Theory | Run) -> int:
    if not hasattr(source.posterior, "network"):  # that of a model of one's own
        check_solvable("accuracy against width", source.posterior)
    return source.posterior.network.widths[0]


def _score(name: str, source, test) -> Score:
    if not isinstance(source, Theory | Run):
        return Score("accuracy", float(source), 0.0)
    if test is None:
        raise checks.InputError(f"test=None, and {name} has theories or runs: give test=task.test_set")
    return score(predict(source, test[0]), test[1])
