"""Figure 3 of arXiv:2405.15926: one-shot images, read through the attention of a trained network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase

from .. import plot, theory
from ..diagnostics import accuracy as accuracy_of
from ..diagnostics import (
    accuracy_error,
    alignment,
    head_drops,
    head_scores,
    predict,
    pruning_curve,
    pruning_order,
)
from ..tasks.one_shot import TOKENS
from .assembly import Panel, Plan, split
from .one_shot import OneShot, best_temperatures

RANDOM_ORDERS = 20
_EPISODES, _COMPONENTS, _CLASSES = 3, 50, ("0", "1", "?")


def task(place: FigureBase, made: OneShot) -> Mapping[str, pd.DataFrame]:
    """(a) Training episodes: two labelled drawings, and one of either character whose label is asked."""
    y = made.task.train.y
    shown = [int(np.flatnonzero(np.asarray(y) == label)[k]) for label, k in ((1, 0), (-1, 0), (1, 1))][:_EPISODES]
    grid = place.subplots(len(shown), 3, squeeze=False)
    rows = []
    for axes, i in zip(grid, shown, strict=True):
        images, labels = made.drawings(i)
        for k, (panel, image) in enumerate(zip(axes, images, strict=True)):
            panel.imshow(image, cmap="gray", interpolation="nearest")
            panel.set(xticks=[7.5, 15.5, 23.5], yticks=[7.5, 15.5, 23.5], xticklabels=[], yticklabels=[])
            panel.grid(color="#D55E00", linewidth=0.3)
            panel.tick_params(length=0)
            panel.spines[:].set(visible=True, linewidth=0.6)
            panel.set_title(_CLASSES[labels[k]], pad=2)
        axes[-1].set_ylabel(f"$y={int(y[i]):+d}$", rotation=0, ha="left", va="center")
        axes[-1].yaxis.set_label_position("right")
        rows.append({"episode": i, "label_1": labels[0], "label_2": labels[1], "y": float(y[i])})
    place.supxlabel(f"{TOKENS} tokens: 16 patches of each of three images", fontsize="medium")
    return {"": pd.DataFrame(rows)}


def accuracy(place: FigureBase, made: OneShot) -> Mapping[str, pd.DataFrame]:
    """(b) Test accuracy on unseen characters against N, at the best T of each N."""
    grid = made.grid()
    best = best_temperatures(grid).set_index("N")
    for N in made.exact_widths:
        prediction = predict(made.exact(N), made.test)
        best.loc[N, "exact"] = accuracy_of(prediction, made.labels)
        best.loc[N, "exact_error"] = accuracy_error(prediction, made.labels)
    best["gp"] = grid["gp"].max()
    best["trained"] = pruning_curve(made.trained.weights, made.test, made.labels, [])[0]
    samples = best[["exact", "exact_error"]].dropna().set_axis(["value", "error"], axis=1)
    axes = place.subplots()
    plot.accuracy(best["accuracy"], samples, float(best["gp"].iloc[0]), ax=axes)
    axes.set_title("unseen characters")
    return {"": best.reset_index()}


def order_parameters(place: FigureBase, made: OneShot) -> Mapping[str, pd.DataFrame]:
    """(c) U over pairs of paths at the least N, theory and samples; paths are pi = (h1, h2)."""
    N = made.narrow
    U = {"theory": made.theory_at(N).U[0], "samples": made.exact(N).order_parameters.U[0].mean((0, 1))}
    names = [name.strip("()").replace(" ", ", ").join("()") for name in made.test.path_names]
    largest = max(float(np.abs(each).max()) for each in U.values())
    maps = place.subplots(1, len(U), sharey=True)
    for axes, (kind, each) in zip(maps, U.items(), strict=True):
        plot.order_parameters(each, names=names, largest=largest, colorbar=False, ax=axes)
        axes.set(title=f"{kind}, $N={N}$", xlabel=r"$\pi'=(h_1, h_2)$")
        axes.tick_params(labelsize=5.8, pad=1)
    maps[0].set_ylabel(r"$\pi=(h_1, h_2)$")
    place.colorbar(maps[0].images[0], ax=list(maps), label="$U$", shrink=0.8, format="{x:g}")
    rows = [
        {"N": N, "T": made.temperature(N), "path": p, "path_prime": q}
        | {kind: each[i, j] for kind, each in U.items()}
        for i, p in enumerate(names) for j, q in enumerate(names)
    ]  # fmt: skip
    return {"": pd.DataFrame(rows)}


def overlaps(place: FigureBase, made: OneShot) -> Mapping[str, pd.DataFrame]:
    """(d) Overlap of the leading kernel principal components with the labels, the least N against the GP limit."""
    solved = made.theory_at(made.narrow)
    found = {f"$N={made.narrow}$": alignment(solved), "GP limit": alignment(theory.gp(solved.posterior))}
    plot.alignment(found, _COMPONENTS, ax=place.subplots())
    rows = [
        {"kernel": name, "component": k + 1, "eigenvalue": each.eigenvalues[k], "overlap": each.overlaps[k]}
        for name, each in found.items() for k in range(len(each.overlaps))
    ]  # fmt: skip
    return {"": pd.DataFrame(rows)}


def scores_and_drops(place: FigureBase, made: OneShot) -> Mapping[str, pd.DataFrame]:
    """(e) Head scores (from U of the theory at the least N), and what the trained network loses without each head."""
    scores = head_scores(made.theory_at(made.narrow))
    drops = head_drops(made.trained.weights, made.test, made.labels)
    axes = place.subplots()
    plot.head_scores(scores, drops, ax=axes)
    axes.set(title="network trained by gradient descent", ylabel=f"head score (theory, $N={made.narrow}$)")
    table = pd.DataFrame({
        "score": scores, "drop": drops, "score_of_trained_weights": head_scores(made.trained.weights),
        "drop_of_theory": head_drops(made.theory_at(made.narrow), made.test, made.labels),
    })  # fmt: skip
    return {"": table.reset_index()}


def pruning(place: FigureBase, made: OneShot) -> Mapping[str, pd.DataFrame]:
    """(f) Accuracy of the trained network as heads are pruned, lowest score first; other orders for comparison."""
    solved = made.theory_at(made.narrow)
    scores = head_scores(solved)
    rng = np.random.default_rng(made.seed)
    orders = {
        "lowest score first": [pruning_order(scores)],
        "highest score first": [pruning_order(-scores)],
        "random order": [pruning_order(pd.Series(rng.random(len(scores)), scores.index)) for _ in range(RANDOM_ORDERS)],
    }
    rows = []
    for network, source in (("trained network", made.trained.weights), ("theory", solved)):
        for name, tried in orders.items():
            values = np.array([pruning_curve(source, made.test, made.labels, order) for order in tried])
            rows += [
                {"network": network, "score": name, "heads_removed": k, "value": value, "error": sd}
                for k, (value, sd) in enumerate(zip(values.mean(0), values.std(0), strict=True))
            ]
    table = pd.DataFrame(rows)
    axes = place.subplots()
    plot.pruning(table[table["network"] == "trained network"], ax=axes)
    axes.set_title("network trained by gradient descent")
    return {"": table.rename(columns={"score": "order", "value": "accuracy", "error": "sd"})}


def _places(figure: Figure) -> Mapping[str, FigureBase]:
    rows = split(figure, 3, 1, height_ratios=(1.15, 1.3, 1))
    a, b = split(rows[0], 1, 2, width_ratios=(1, 1.3))
    c, d = split(rows[1], 1, 2, width_ratios=(1.9, 1))
    e, f = split(rows[2], 1, 2)
    return {"a": a, "b": b, "c": c, "d": d, "e": e, "f": f}


PLAN = Plan(
    "3",
    OneShot,
    {
        "a": Panel(task, (3.4, 3.4)),
        "b": Panel(accuracy, (4.6, 3.6), lambda made: made.jobs(made.exact_widths)),
        "c": Panel(order_parameters, (7.0, 3.8), lambda made: made.jobs((made.narrow,))),
        "d": Panel(overlaps, (4.6, 3.2)),
        "e": Panel(scores_and_drops, (4.6, 3.2)),
        "f": Panel(pruning, (4.6, 3.2)),
    },
    (7.1, 7.8),
    _places,
)
