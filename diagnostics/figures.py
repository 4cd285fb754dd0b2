"""Figures: accuracy against width, and heat maps of the order parameter, in one legible style.

Layout and meaning of lines follow figure 2 of arXiv:2405.15926; colours are from the Okabe-Ito set, told apart by
line and marker as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.3,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",
}
BLUE, RED, BLACK = "#0072B2", "#D55E00", "#000000"
_GP_LINES = ("-", "--", ":", "-.")


class Points(NamedTuple):
    """Accuracies [n] at widths [n] with their Monte Carlo standard errors [n]."""

    widths: Sequence[int]
    accuracy: Sequence[float]
    error: Sequence[float]


def accuracy_figure(
    theory: tuple[Sequence[int], Sequence[float]],
    gp: Mapping[str, float],
    exact: Points | None = None,
    weights: Points | None = None,
) -> Figure:
    """Test accuracy against width N.

    Args:
        theory: (widths, accuracies) of the large-N theory.
        gp: accuracy in the GP limit by name of the set of paths.
        exact: exact posterior, collapsed sampler.
        weights: weight-space samples.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.4), layout="constrained")
        axes = figure.add_subplot(
            xscale="log", xlabel="width $N$", ylabel="test accuracy", title="hidden Markov chain task"
        )
        for (name, value), line in zip(gp.items(), _GP_LINES, strict=False):
            axes.axhline(value, color=RED, linestyle=line, label=f"GP limit, {name}", zorder=1)
        axes.plot(*theory, color=BLUE, marker="x", label="theory", zorder=2)
        if exact is not None:
            axes.errorbar(
                exact.widths, exact.accuracy, exact.error,
                color=BLACK, marker="o", linestyle="none", markersize=4, capsize=2, label="exact posterior", zorder=3,
            )  # fmt: skip
        if weights is not None:
            axes.errorbar(
                weights.widths, weights.accuracy, weights.error, color=BLACK, marker="s", linestyle="none",
                markersize=9, markerfacecolor="none", capsize=4, label="weight samples (NUTS)", zorder=4,
            )  # fmt: skip
        axes.legend(loc="best")
        return figure


def order_parameter_figure(panels: Mapping[str, np.ndarray], path_names: Sequence[str]) -> Figure:
    """Heat maps of U_1 [H, H] over pairs of paths, side by side on one colour scale centred at zero.

    Args:
        panels: title -> U_1.
        path_names: names of the H paths.
    """
    largest = max(float(np.abs(U).max()) for U in panels.values())
    with rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 2.6 * len(panels), 3.6), layout="constrained")
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, U) in zip(grid, panels.items(), strict=True):
            image = axes.imshow(U, cmap="RdBu_r", norm=TwoSlopeNorm(0.0, -largest, largest))
            axes.set_title(title)
            axes.set_xticks(range(len(path_names)), path_names, rotation=40, ha="right", rotation_mode="anchor")
            axes.set_yticks(range(len(path_names)), path_names)
            axes.spines[:].set_visible(False)
            if len(path_names) <= 6:
                for (i, j), value in np.ndenumerate(U):
                    colour = "white" if abs(value) > 0.6 * largest else "black"
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(image, ax=list(grid), label="order parameter $U$", shrink=0.8)
        return figure


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write a figure as PNG and SVG into an existing folder; returns the paths."""
    paths = [Path(folder) / f"{name}.{kind}" for kind in ("png", "svg")]
    with rc_context(STYLE):
        for path in paths:
            figure.savefig(path, dpi=200)
    return paths
