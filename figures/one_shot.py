"""Figures 3b to 3f of arXiv:2405.15926: one-shot images, 16 attention paths of a trained network (docs/model.md, 9b).

The attention is that of a network trained here (``training.SMALL``) or given. The theory is solved on a grid of (N, T);
each N is shown at its T of best test accuracy, as in the paper, and at that of least action, which is that of largest
evidence at large N and looks at no test set: log p(y | N, T) = -S / 2 to leading order, up to terms without T.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from .. import tasks, theory, training
from ..core import files
from ..diagnostics import (
    accuracy,
    accuracy_error,
    head_drops,
    head_scores,
    predict,
    pruning_curve,
    pruning_order,
)
from ..sampler import Collapsed
from . import drawing
from .options import Options
from .runs import finished_or_new

WIDTHS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
TEMPERATURES = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5)
EXACT_WIDTHS = (100, 1000)
EXAMPLES, TEST_EXAMPLES = 600, 1000
RANDOM_ORDERS = 20
_QUICK_EXAMPLES, _QUICK_STEPS, _QUICK_TEMPERATURES = 60, 500, (0.1, 0.5)
_CHAINS, _WARMUP, _DRAWS = 4, 50, 100


class _Problem:
    """The trained network, its task, and the theory on the grid; grid results are kept in the folder."""

    def __init__(self, folder: Path, options: Options):
        self.folder, self.options = folder, options
        self.characters = tasks.characters_by_name(options.data)
        self.name = options.data.partition("=")[0]
        self.trained = self._network()
        examples = options.examples or (_QUICK_EXAMPLES if options.quick else EXAMPLES)
        self.seed = options.seeds[0]
        self.task = tasks.one_shot(
            self.characters, self.trained.attention, jax.random.key(self.seed), train=examples, test=TEST_EXAMPLES,
            channels=self.trained.config.channels, residual=self.trained.residual,
        )  # fmt: skip
        self.test, self.labels = self.task.test_set  # type: ignore[misc]  # this task always has a test set
        self.widths = options.widths_or(WIDTHS)
        self.temperatures = options.temperatures or (_QUICK_TEMPERATURES if options.quick else TEMPERATURES)

    def grid(self) -> pd.DataFrame:
        """Rows N, T: accuracy of the theory, action, whether converged, accuracy of the GP limit at that T."""
        path = self.folder / f"one_shot_grid_{self.name}_seed{self.seed}{self.options.suffix}.json"
        wanted = json.loads(json.dumps({
            "task": self.task.settings, "widths": self.widths, "temperatures": self.temperatures,
            "network": self.trained.settings, "step": self.trained.step,
        }))  # fmt: skip
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["settings"] == wanted:
                return pd.DataFrame(kept["rows"])
        solved = theory.grid(self.task.posterior(self.widths[0]), self.widths, self.temperatures)
        score = lambda source: accuracy(predict(source, self.test), self.labels)  # noqa: E731
        gp = [score(theory.gp(self.task.posterior(self.widths[0], T))) for T in self.temperatures]
        rows = [
            {"N": N, "T": T, "accuracy": score(solved[i, j]),
             "action": solved[i, j].action, "converged": solved[i, j].converged, "gp": gp[j]}
            for i, N in enumerate(self.widths) for j, T in enumerate(self.temperatures)
        ]  # fmt: skip
        files.write(path, json.dumps({"settings": wanted, "rows": rows}))
        return pd.DataFrame(rows)

    def temperature(self, N: int) -> float:
        """T of best test accuracy at N."""
        best = best_temperatures(self.grid())
        return best["T"].to_numpy()[best["N"].to_numpy() == N].item()

    def theory_at(self, N: int) -> theory.Theory:
        """The theory at N and its best T."""
        return theory.solve(self.task.posterior(N, self.temperature(N)))

    def exact(self, N: int):
        """The exact posterior at N and its best T."""
        about = {"task": "one_shot", "seed": self.seed, **self.task.settings}
        return finished_or_new(
            self.folder / f"exact_{self.name}_N{N}_seed{self.seed}{self.options.suffix}.h5",
            self.task.posterior(N, self.temperature(N)), Collapsed(),
            jax.random.fold_in(jax.random.key(self.seed), N), chains=_CHAINS, warmup=_WARMUP,
            draws=20 if self.options.quick else self.options.draws or _DRAWS, about=about,
            progress=self.options.progress,
        )  # fmt: skip

    def write(self, figure, table: pd.DataFrame, name: str) -> list[Path]:
        path = self.folder / f"figure_{name}_{self.name}.csv"
        files.write(path, table.to_csv(index=False))
        return [*drawing.save(figure, self.folder, f"figure_{name}_{self.name}"), path]

    def _network(self):
        if self.options.network is not None:
            return training.load(self.options.network, "network")
        path = self.folder / f"network_{self.name}{self.options.suffix}.safetensors"
        return training.train(
            self.characters, key=jax.random.key(0), steps=_QUICK_STEPS if self.options.quick else None, out=path,
            resume=path.exists(), progress=self.options.progress,
        )  # fmt: skip


def accuracy_against_width(folder: Path, options: Options) -> list[Path]:
    """Figure 3b: test accuracy on unseen characters against N, at the best T of each N."""
    problem = _Problem(folder, options)
    grid = problem.grid()
    best = best_temperatures(grid)
    exact_widths = options.widths or (problem.widths[-1:] if options.quick else EXACT_WIDTHS)
    for N in exact_widths:
        prediction = predict(problem.exact(N), problem.test)
        best.loc[best["N"] == N, "exact"] = accuracy(prediction, problem.labels)
        best.loc[best["N"] == N, "exact_error"] = accuracy_error(prediction, problem.labels)
    best["gp"] = grid["gp"].max()
    best["trained"] = pruning_curve(problem.trained.weights, problem.test, problem.labels, [])[0]
    figure, (axes,) = drawing.new_figure()
    shown = best.dropna()
    zeros = [0.0] * len(best)
    drawing.accuracy_axes(
        axes,
        drawing.Points(list(best["N"]), list(best["accuracy"]), zeros),
        {"all paths": float(best["gp"].iloc[0])},
        drawing.Points(list(shown["N"]), list(shown["exact"]), list(shown["exact_error"])),
        extra={
            "theory, $T$ of largest evidence": drawing.Points(
                list(best["N"]), list(best["accuracy_by_evidence"]), zeros
            )
        },
    )
    axes.set_title(f"one-shot images, unseen characters ({problem.name})")
    return problem.write(figure, best, "3b")


def order_parameters(folder: Path, options: Options) -> list[Path]:
    """Figure 3c: U_1 over pairs of 16 paths, narrowest and widest network."""
    problem = _Problem(folder, options)
    names = problem.test.path_names
    panels, rows = {}, []
    for N in (problem.widths[0], problem.widths[-1]):
        solved = problem.theory_at(N)
        panels[f"$N={N}$, $T={solved.posterior.temperature:g}$"] = U = solved.U[0]
        rows += [
            {"N": N, "path": p, "path_prime": q, "U": U[i, j]}
            for i, p in enumerate(names) for j, q in enumerate(names)
        ]  # fmt: skip
    return problem.write(drawing.order_parameter_figure([panels], names), pd.DataFrame(rows), "3c")


def scores(folder: Path, options: Options) -> list[Path]:
    """Figure 3d: head scores from U_1 of the theory, and from the value weights of the trained network."""
    problem = _Problem(folder, options)
    N = problem.widths[0]
    series = {
        f"theory, $N={N}$": head_scores(problem.theory_at(N)),
        "trained network": head_scores(problem.trained.weights),
    }
    return _head_bars(problem, series, "head score", "3d")


def pruning(folder: Path, options: Options) -> list[Path]:
    """Figure 3e: accuracy of trained network and theory as heads are dropped: by score, in reverse, at random.

    Scores are those of the theory at the least N; random orders give mean and standard deviation.
    """
    problem = _Problem(folder, options)
    N = problem.widths[0]
    solved = problem.theory_at(N)
    found = head_scores(solved)
    orders = {"least score first": [pruning_order(found)], "largest score first": [pruning_order(-found)]}
    rng = np.random.default_rng(problem.seed)
    orders["random order"] = [
        pruning_order(pd.Series(rng.random(len(found)), found.index)) for _ in range(RANDOM_ORDERS)
    ]
    figure, panels = drawing.new_figure(columns=2)
    rows = []
    for axes, (title, source) in zip(
        panels, {"trained network": problem.trained.weights, f"theory, $N={N}$": solved}.items(), strict=True
    ):
        for name, tried in orders.items():
            curves = np.array([pruning_curve(source, problem.test, problem.labels, order) for order in tried])
            mean, sd = curves.mean(0), curves.std(0)
            drawing.curve(axes, name, mean, sd)
            rows += [
                {"network": title, "order": name, "heads_removed": k, "accuracy": mean[k], "sd": sd[k]}
                for k in range(len(mean))
            ]
        axes.set(xlabel="heads removed", ylabel="test accuracy", title=title)
        axes.legend(frameon=False, fontsize=8)
    return problem.write(figure, pd.DataFrame(rows), "3e")


def drops(folder: Path, options: Options) -> list[Path]:
    """Figure 3f: accuracy lost without one head, trained network and theory."""
    problem = _Problem(folder, options)
    N = problem.widths[0]
    series = {
        f"theory, $N={N}$": head_drops(problem.theory_at(N), problem.test, problem.labels),
        "trained network": head_drops(problem.trained.weights, problem.test, problem.labels),
    }
    return _head_bars(problem, series, "accuracy lost without the head", "3f")


def best_temperatures(grid: pd.DataFrame) -> pd.DataFrame:
    """A row per N: T and accuracy at the best T by accuracy, and both at the T of least action (largest evidence).

    Args:
        grid: rows N, T, accuracy, action.
    """
    top = grid.loc[grid.groupby("N")["accuracy"].idxmax()].set_index("N")
    least = grid.loc[grid.groupby("N")["action"].idxmin()].set_index("N")
    return top[["T", "accuracy"]].join(least[["T", "accuracy"]].add_suffix("_by_evidence")).reset_index()


def _head_bars(problem: _Problem, series: dict[str, pd.Series], label: str, name: str) -> list[Path]:
    figure, (axes,) = drawing.new_figure()
    heads = [f"{layer}.{head}" for layer, head in next(iter(series.values())).index]
    drawing.bars(axes, heads, series)
    axes.set(xlabel="layer.head", ylabel=label, title=f"one-shot images ({problem.name})")
    axes.legend(frameon=False, fontsize=8)
    table = pd.DataFrame(series).reset_index()
    return problem.write(figure, table, name)


FIGURES: dict[str, Callable[[Path, Options], list[Path]]] = {
    "3b": accuracy_against_width,
    "3c": order_parameters,
    "3d": scores,
    "3e": pruning,
    "3f": drops,
}
