"""Drawing in one legible style: accuracy against width, heat maps of the order parameter, kernel alignment.

Layout and meaning of lines follow figure 2 of arXiv:2405.15926; colours are from the Okabe-Ito set, distinguished by
line and marker as well.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from ..core import files
from ..core.text import literal

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
_EXACT: dict[str, Any] = {"marker": "o", "markersize": 4, "capsize": 2, "label": "exact posterior", "zorder": 3}
_WEIGHTS: dict[str, Any] = {"marker": "s", "markersize": 9, "markerfacecolor": "none", "capsize": 4, "zorder": 4}
_CURVES = (
    (BLUE, "o"), (RED, "s"), (BLACK, "^"), ("#009E73", "v"), ("#CC79A7", "D"), ("#E69F00", "P"), ("#56B4E9", "X"),
)  # fmt: skip
_SERIES = ((BLUE, ""), (RED, "////"), (BLACK, "...."))


class Points(NamedTuple):
    """Values [n] at widths [n] with their errors [n]: Monte Carlo, or over seeds where there are several."""

    widths: Sequence[int]
    values: Sequence[float]
    errors: Sequence[float]


def accuracy_axes(
    axes: Axes,
    theory: Points,
    gp: Mapping[str, float],
    exact: Points | None = None,
    weights: Points | None = None,
    kernel: str = "",
    extra: Mapping[str, Points] | None = None,
) -> None:
    """Test accuracy against width N: GP limit (red), theory (blue line and crosses), samples (black).

    Args:
        axes: to draw on.
        theory: accuracies of the large-N theory; errors above 0 become a band.
        gp: accuracy in the GP limit by name of the set of paths, first line solid, then dashed, dotted.
        exact: exact posterior, collapsed sampler.
        weights: samples of the weights, by the kernel of that name.
        extra: further lines of the theory by name.
    """
    axes.set(xscale="log", xlabel="width $N$", ylabel="test accuracy")
    for (name, value), line in zip(gp.items(), _GP_LINES, strict=False):
        axes.axhline(value, color=RED, linestyle=line, label=f"GP limit, {literal(name)}", zorder=1)
    axes.plot(theory.widths, theory.values, color=BLUE, marker="x", label="theory", zorder=2)
    for name, more in (extra or {}).items():
        axes.plot(more.widths, more.values, color=BLUE, linestyle=":", marker="+", label=name, zorder=2)
    if np.any(theory.errors):
        low, high = np.subtract(theory.values, theory.errors), np.add(theory.values, theory.errors)
        axes.fill_between(theory.widths, low, high, color=BLUE, alpha=0.2, linewidth=0)
    for points, style in ((exact, _EXACT), (weights, _WEIGHTS | {"label": f"weight samples ({kernel})"})):
        if points is not None:
            axes.errorbar(*points, color=BLACK, linestyle="none", **style)
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.18), ncol=2, fontsize=7, columnspacing=1.2, frameon=False)


def overlap_axes(axes: Axes, overlaps: Mapping[str, np.ndarray], components: int = 30) -> None:
    """Overlaps |v_k . y| / |y| of the leading kernel principal components with the labels, a series per kernel."""
    shown = min(components, *(len(values) for values in overlaps.values()))
    width = 0.8 / len(overlaps)
    for i, ((name, values), (colour, hatch)) in enumerate(zip(overlaps.items(), _SERIES, strict=False)):
        place = np.arange(1, shown + 1) + (i - (len(overlaps) - 1) / 2) * width
        axes.bar(place, values[:shown], width, color=colour, hatch=hatch, label=name)
    axes.set(xlabel="principal component of the kernel", ylabel="overlap with the labels", xlim=(0.3, shown + 0.7))
    axes.legend(loc="best", frameon=False)


def bars(axes: Axes, names: Sequence[str], series: Mapping[str, Any]) -> None:
    """A group of bars per name, one bar per series."""
    width = 0.8 / len(series)
    for i, ((label, values), (colour, hatch)) in enumerate(zip(series.items(), _SERIES, strict=False)):
        place = np.arange(len(names)) + (i - (len(series) - 1) / 2) * width
        axes.bar(place, values, width, color=colour, hatch=hatch, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.axhline(0, color=BLACK, linewidth=0.8)


def curve(axes: Axes, name: str, mean: np.ndarray, sd: np.ndarray) -> None:
    """A line through points 0, 1, .. with error bars where there is a spread; each further line looks different."""
    colour, marker = _CURVES[len(axes.containers) % len(_CURVES)]
    axes.errorbar(range(len(mean)), mean, sd, color=colour, marker=marker, capsize=2, label=name)


def new_figure(columns: int = 1, size: tuple[float, float] = (4.6, 4.0)) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side, in our style."""
    with rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1]), layout="constrained")
        return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def order_parameter_figure(rows: Sequence[Mapping[str, np.ndarray]], path_names: Sequence[str]) -> Figure:
    """Heat maps of U_1 [H, H] over pairs of paths on one colour scale centred at zero.

    Args:
        rows: of each row, title -> U_1; all of one length.
        path_names: names of the H paths.
    """
    panels = [panel for row in rows for panel in row.items()]
    largest = max(float(np.abs(U).max()) for _, U in panels)
    columns = len(rows[0])
    with rc_context(STYLE):
        size = (1.2 + 2.6 * columns, 1.0 + 2.6 * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (title, U) in zip(grid, panels, strict=True):
            image = axes.imshow(U, cmap="RdBu_r", norm=SymLogNorm(1.0, vmin=-largest, vmax=largest))
            axes.set_title(title)
            names = [literal(name) for name in path_names]
            few = len(names) <= 6
            slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(range(len(names)), names, **(slanted if few else {"rotation": 90}))
            axes.set_yticks(range(len(names)), names)
            axes.spines[:].set_visible(False)
            if few:
                for (i, j), value in np.ndenumerate(U):
                    colour = "white" if abs(image.norm(value) - 0.5) > 0.3 else "black"
                    axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
        figure.colorbar(image, ax=list(grid), label="order parameter $U$ (log. beyond 1)", shrink=0.8)
        return figure


def save(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write a figure as PNG (200 dots an inch) and SVG.

    Args:
        figure: matplotlib figure.
        folder: made if it does not exist.
        name: of both files, without a suffix.

    Returns:
        Paths of the PNG and of the SVG file.

    Raises:
        ValueError: ``folder`` is a file, or cannot be written to.
    """
    made = files.output_folder("folder", folder)
    paths = [made / f"{name}.{kind}" for kind in ("png", "svg")]
    with rc_context(STYLE):
        for path in paths:
            picture = io.BytesIO()
            figure.savefig(picture, format=path.suffix[1:], dpi=200)
            files.write(path, picture.getvalue())
    return paths
