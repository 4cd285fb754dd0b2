"""Figure 2 of arXiv:2405.15926: the hidden Markov chain task.

With several seeds, points are means over seeds and errors their standard deviation; with one seed, errors are Monte
Carlo standard errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase

from .. import plot
from ..core.text import literal
from . import schemes
from .assembly import Panel, Plan, split
from .figure_1 import kernel_alignment
from .hidden_markov import GP_LINES, HEADS, HiddenMarkov

_CHAINS = 3  # of each class that are shown
_ABOVE = {"2c": 1.5, "2e": 1.5}  # height of the accuracies in that of the order parameters


def task(place: FigureBase, made: HiddenMarkov) -> Mapping[str, pd.DataFrame]:
    """(a) Hidden states of some training chains, and the tokens of the first."""
    found = made.task("2c", made.options.seeds[0])
    features = found.settings["features"]
    x, y = (
        found.train.x[:, :features, 1:],
        np.asarray(found.train.y),
    )  # without the beginning-of-sequence token and the position code
    states = np.sign(x[:, : features // 2].sum(1) - x[:, features // 2 :].sum(1))  # noise is far smaller than v
    shown = [*np.flatnonzero(y > 0)[:_CHAINS], *np.flatnonzero(y < 0)[:_CHAINS]]
    above, under = place.subplots(2, 1, height_ratios=(1.5, 1), sharex=True)
    schemes.chains(above, states[shown], y[shown].tolist(), found.settings["stay"])
    above.set(xlabel="", title="hidden states of chains of both classes")
    above.tick_params(labelbottom=False, length=0)
    largest = np.quantile(np.abs(x[shown[0]]), 0.99)
    extent = (0.5, x.shape[2] + 0.5, features + 0.5, 0.5)
    under.imshow(x[shown[0]], cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", extent=extent)
    under.set(xlabel="token $s$", ylabel="feature", yticks=[1, features // 2, features])
    under.set_title("tokens $x(s)$ of the first chain")
    rows = [
        {"chain": int(i), "y": float(y[i]), "token": s + 1, "state": int(states[i, s])}
        for i in shown for s in range(x.shape[2])
    ]  # fmt: skip
    return {"": pd.DataFrame(rows)}


def network(place: FigureBase, made: HiddenMarkov) -> Mapping[str, pd.DataFrame]:
    """(b) The heads with their attention to one training chain, and the paths through them."""
    found = made.task("2c", made.options.seeds[0])
    patterns = [np.asarray(layer[0], float) for layer in found.attention(found.train.x[:1])]
    names, shape = found.train_inputs.path_names, found.train_inputs.heads
    index = [tuple(map(int, np.unravel_index(i, shape))) for i in range(len(names))]
    lines = [
        schemes.Line(heads, colour, 1.6, literal(name))
        for name, heads, colour in zip(names, index, schemes.PATH_COLOURS, strict=True)
    ]
    axes = place.subplots()
    schemes.network(axes, HEADS["2c"], lines, patterns)
    title = "lines: paths; boxes: attention A[source, target] to one chain"
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.02), ncol=2, title=title)
    legend.get_title().set_fontsize("small")
    rows = [
        {"path": name} | {f"layer {l + 1}": HEADS["2c"][l][h] for l, h in enumerate(heads)}
        for name, heads in zip(names, index, strict=True)
    ]
    return {"": pd.DataFrame(rows)}


def accuracy(place: FigureBase, made: HiddenMarkov, variant: str) -> Mapping[str, pd.DataFrame]:
    """(c), (e) Top: accuracy against N. Bottom: U at several N, theory and samples."""
    table = made.accuracies(variant)
    rows, means = made.order_parameters(variant)
    above, under = split(place, 2, 1, height_ratios=(_ABOVE[variant], 1))
    by_width = table.groupby("N")
    several = table["seed"].nunique() > 1

    def points(column: str) -> pd.DataFrame | None:
        if column not in table:
            return None
        values = by_width[column].mean().dropna()
        errors = by_width[column].std(ddof=1) if several else by_width.mean().get(f"{column}_error", 0 * values)
        return pd.DataFrame({"value": values, "error": errors}).dropna()

    limits = {name: float(table[f"gp {name}"].mean()) for name in GP_LINES[variant]}
    axes = above.subplots()
    plot.accuracy(points("theory"), points("exact"), limits, weights=points("weights"), kernel="ChEES", ax=axes)
    if variant == "2e":
        axes.set_title(r"two paths, $\sigma_\perp = 5$")
    _maps(under, means, made.task(variant, made.options.seeds[0]).train_inputs.path_names)
    return {"": table, "_order_parameters": rows}


def _maps(place: FigureBase, means, path_names) -> None:
    """U over pairs of paths: a row each of theory and samples, a column per N, on one colour scale."""
    largest = max(float(np.abs(U).max()) for each in means.values() for U in each.values())
    grid = place.subplots(len(means), len(means["theory"]), squeeze=False)
    for i, (kind, each) in enumerate(means.items()):
        for j, (axes, (N, U)) in enumerate(zip(grid[i], each.items(), strict=True)):
            plot.order_parameters(U, names=path_names, largest=largest, values=False, colorbar=False, ax=axes)
            axes.set_xticks([])
            if i == 0:
                axes.set_title(f"$N={N}$")
            if j == 0:
                axes.set_ylabel(kind)
            else:
                axes.set_yticks([])
    options: dict[str, Any] = {"shrink": 0.9, "aspect": 12, "pad": 0.03, "ticks": _ticks(largest), "format": "{x:g}"}
    place.colorbar(grid[0, 0].images[0], ax=grid, label="$U$", **options)


def _ticks(largest: float) -> list[float]:
    """Round values of a symmetric scale, logarithmic beyond 1."""
    powers = [10.0**k for k in range(4) if 10.0**k <= largest] or [round(largest / 2, 1)]
    chosen = powers if len(powers) < 4 else powers[::2]
    return [-v for v in chosen[::-1]] + [0.0] + chosen


def _jobs(variant: str):
    return lambda made: made.jobs(variant, made.widths, weights=True)


def _places(figure: Figure) -> Mapping[str, FigureBase]:
    above, under = split(figure, 2, 1, height_ratios=(1, 2.2))
    a, b = split(above, 1, 2)
    c, right = split(under, 1, 2)
    d, e = split(right, 2, 1, height_ratios=(1, 1.9))
    return {"a": a, "b": b, "c": c, "d": d, "e": e}


PLAN = Plan(
    "2",
    HiddenMarkov,
    {
        "a": Panel(task, (4.6, 3.0)),
        "b": Panel(network, (4.6, 3.2)),
        "c": Panel(partial(accuracy, variant="2c"), (4.6, 5.6), _jobs("2c")),
        "d": Panel(kernel_alignment, (4.6, 3.2)),
        "e": Panel(partial(accuracy, variant="2e"), (4.6, 5.4), _jobs("2e")),
    },
    (7.1, 7.6),
    _places,
)
