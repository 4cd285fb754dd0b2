"""Schemes drawn from data: a network of heads and the paths through it, chains of hidden states, sums of kernels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import FancyBboxPatch

from ..core.text import literal
from ..plot.style import BLUE, GREEN

PATH_COLOURS = (BLUE, "#CC79A7", GREEN, "#999999")
STATES = ("#F5F5F5", "#333333")  # of hidden states - and +
_BOX = (0.56, 0.62)  # width and height of a head, layers and heads being 1 apart
_POINTS = 40


class Line(NamedTuple):
    """A path as it is drawn: the heads it passes, from 0, its colour, its width in points and its name."""

    heads: tuple[int, ...]
    colour: str
    width: float
    name: str


def network(
    axes: Axes,
    heads: Sequence[Sequence[str]],
    lines: Sequence[Line],
    patterns: Sequence[np.ndarray] | None = None,
    ends: tuple[str, str] = ("$x$", "$f$"),
) -> None:
    """Heads as boxes, a column per layer, and every path as a line from the input on the left to the output.

    Args:
        axes: to draw on.
        heads: names of the heads of every layer, bottom layer first.
        lines: the paths.
        patterns: attention [H_l, S, S] of every layer, shown in the boxes; None for the names alone.
        ends: what stands at the input and at the output.
    """
    depth = len(heads)
    places = [[(l, (len(names) - 1) / 2 - h) for h in range(len(names))] for l, names in enumerate(heads, start=1)]
    for i, line in enumerate(lines):
        shift = ((len(lines) - 1) / 2 - i) * 0.08
        stops = [(0.0, 0.0), *(places[l][h] for l, h in enumerate(line.heads)), (depth + 1.0, 0.0)]
        x, y = _smooth(stops, shift)
        axes.plot(x, y, color=line.colour, linewidth=line.width, label=line.name, zorder=1, solid_capstyle="butt")
    for l, names in enumerate(heads):
        for h, name in enumerate(names):
            _head(axes, places[l][h], name, None if patterns is None else patterns[l][h])
        axes.text(l + 1, _top(heads) + 0.1, f"layer {l + 1}", ha="center", va="bottom")
    for end, text in zip((0.0, depth + 1.0), ends, strict=True):
        circle = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": "black", "linewidth": 0.8}
        axes.text(end, 0, text, ha="center", va="center", bbox=circle, zorder=4)
    axes.set(xlim=(-0.3, depth + 1.3), ylim=(-_top(heads) - 0.1, _top(heads) + 0.4))
    axes.set_axis_off()


def _top(heads) -> float:
    return (max(len(names) for names in heads) - 1) / 2 + 0.5


def _head(axes: Axes, place: tuple[float, float], name: str, pattern: np.ndarray | None) -> None:
    (x, y), (width, height) = place, _BOX
    if pattern is None:
        low = (x - width / 2 + 0.04, y - 0.14)
        box = FancyBboxPatch(low, width - 0.08, 0.28, "round,pad=0.05", facecolor="white", edgecolor="black", zorder=3)
        axes.add_patch(box)
        axes.text(x, y, literal(name), ha="center", va="center", zorder=4, fontsize="small")
        return
    inset = axes.inset_axes((x - width / 2, y - height / 2, width, height), transform=axes.transData, zorder=3)
    inset.imshow(pattern, cmap="Greys", norm=PowerNorm(0.5, 0, 1), aspect="auto", interpolation="nearest")
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set_visible(True)
    inset.set_title(literal(name), fontsize="small", pad=1.5)


def _smooth(stops, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """A line that runs level through every stop and bends between them; ``shift`` keeps lines apart."""
    x, y = [], []
    half = _BOX[0] / 2
    for (x0, y0), (x1, y1) in itertools.pairwise(stops):
        t = np.linspace(0, 1, _POINTS)
        x.append(x0 + half + t * (x1 - x0 - 2 * half))
        y.append(y0 + (y1 - y0) * t**2 * (3 - 2 * t) + shift)
    return np.concatenate([[0.0], *x, [stops[-1][0]]]), np.concatenate([[shift], *y, [shift]])


def chains(axes: Axes, states: np.ndarray, labels: Sequence[float], stay: Sequence[float]) -> None:
    """Chains of hidden states +-, a row each, dark where the state is +; rows of the two classes apart.

    Args:
        axes: to draw on.
        states: -1 or +1 [chains, S].
        labels: +1 or -1 of each chain.
        stay: probabilities to stay in the state for y = +1 and y = -1.
    """
    for i, (row, y) in enumerate(zip(states, labels, strict=True)):
        bottom = -i - (0.6 if y < 0 else 0.0)
        colours = [STATES[int(state > 0)] for state in row]
        axes.bar(range(1, len(row) + 1), 0.72, 1.0, bottom=bottom, color=colours, edgecolor="black", linewidth=0.3)
    for y, probability in zip((1, -1), stay, strict=True):
        rows = [i for i, label in enumerate(labels) if np.sign(label) == y]
        middle = -np.mean(rows) - (0.6 if y < 0 else 0.0) + 0.36
        axes.text(-0.3, float(middle), f"$y={y:+d}$\n$p_\\mathrm{{stay}}={probability:g}$", ha="right", va="center")
    axes.set(xlim=(0.4, states.shape[1] + 0.6), xlabel="token $s$", yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)


def kernel_sum(place: Any, kernels: np.ndarray, weights: np.ndarray, total: np.ndarray, names, titles) -> None:
    """K = sum of weighted path-path kernels: blocks U C of all pairs of paths, and their sum beside them.

    Args:
        place: figure or part of one.
        kernels: C [H, H, P, P].
        weights: U [H, H].
        total: K [P, P].
        names: of the paths [H].
        titles: of the blocks, and of the sum.
    """
    H, P = len(weights), len(total)
    blocks = weights[:, :, None, None] * kernels
    left, right = place.subplots(1, 2, width_ratios=(1.25, 1))
    scale = float(np.quantile(np.abs(blocks).max((0, 1)), 0.98))  # the largest few values are those of x with itself
    whole = blocks.transpose(0, 2, 1, 3).reshape(H * P, H * P)
    left.imshow(whole, cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="antialiased")
    edges = np.arange(1, H) * P - 0.5
    for draw in (left.axhline, left.axvline):
        for edge in edges:
            draw(edge, color="#888888", linewidth=0.4)
    left.set_yticks(np.arange(H) * P + P / 2, [literal(name) for name in names])
    left.set(xticks=[], title=titles[0])
    largest = float(np.quantile(np.abs(total), 0.98))
    right.imshow(total, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="antialiased")
    right.set(xticks=[], yticks=[], title=titles[1])
    for axes in (left, right):
        axes.tick_params(length=0)
        axes.spines[:].set(visible=True, color="#888888", linewidth=0.4)
