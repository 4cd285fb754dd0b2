"""Figures 1c, 2c, 2d and 2e of arXiv:2405.15926: the hidden Markov chain task at T = 0.01 (docs/model.md, section 9a).

Exact posterior means come from the collapsed kernel; weight samples from ChEES with V_0 integrated out, which shares
nothing with it but the start. With several seeds, points are means over seeds and errors their standard deviation;
with one seed, errors are Monte Carlo standard errors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from .. import tasks, theory
from ..core import files
from ..diagnostics import accuracy, accuracy_error, alignment, finite_width, predict
from ..sampler import ChEES, Collapsed
from . import drawing
from .options import Options
from .runs import finished_or_new

WIDTHS = (10, 30, 50, 100, 300, 500, 1000)
MAP_WIDTHS = (10, 100, 1000)
WEIGHT_WIDTHS = (10, 100)
GP_LINES: dict[str, dict[str, tuple[str, ...] | None]] = {
    "2c": {"all paths": None, "good path": ("good",), "good + denoising": ("good", "denoising")},
    "2e": {"all paths": None, "good path": ("good",)},
}
COMPONENTS = 30
EXAMPLES = 100
_CHAINS, _WARMUP, _DRAWS = 4, 100, 500


def accuracy_against_width(folder: Path, options: Options, variant: str = "2c") -> list[Path]:
    """Figure 2c: test accuracy against N."""
    table = _accuracy_table(folder, options, variant)
    figure, (axes,) = drawing.new_figure()
    _draw_accuracy(axes, table, variant)
    axes.set_title("hidden Markov chain task")
    return _write(figure, table, folder, variant)


def order_parameters(folder: Path, options: Options) -> list[Path]:
    """Figure 2d: U_1 over pairs of paths, theory above exact posterior; the CSV holds the finite-width correction."""
    widths = options.widths_or(MAP_WIDTHS)
    sums: dict[str, dict[str, Any]] = {"theory": {}, "exact posterior": {}}
    rows, names = [], ()
    for seed in options.seeds:
        task, solved, exact = _solved_and_sampled(folder, options, "2c", seed, widths)
        names = task.train_inputs.path_names
        for N, run in exact.items():
            found = finite_width(run, solved[N])
            rows += [
                {"seed": seed, "N": N, "entry": entry, "theory": u, "exact": mean, "mcse": mcse, "sd": np.sqrt(v),
                 "theory_sd": np.sqrt(w), "correction": found.correction, "correction_error": found.correction_error}
                for entry, u, mean, mcse, v, w in zip(
                    found.entries, found.saddle, found.mean, found.mcse, np.diag(found.covariance),
                    np.diag(found.saddle_covariance), strict=True)
            ]  # fmt: skip
            mean = run.order_parameters.U[0].mean((0, 1), dtype=np.float64)
            for kind, U in (("theory", solved[N].U[0]), ("exact posterior", mean)):
                sums[kind][f"{kind}, $N={N}$"] = sums[kind].get(f"{kind}, $N={N}$", 0) + U / len(options.seeds)
    figure = drawing.order_parameter_figure(list(sums.values()), names)
    return _write(figure, pd.DataFrame(rows), folder, "2d")


def kernel_alignment(folder: Path, options: Options) -> list[Path]:
    """Figure 1c: overlaps of the leading kernel principal components with the labels, N = 10 against the GP limit."""
    table = _overlap_table(options, "2c")
    figure, (axes,) = drawing.new_figure()
    _draw_overlaps(axes, table)
    axes.set_title("hidden Markov chain task")
    return _write(figure, table, folder, "1c")


def two_paths(folder: Path, options: Options) -> list[Path]:
    """Figure 2e: perpendicular noise 5 and two paths; accuracy against N, and overlaps at N = 10."""
    table, overlaps = _accuracy_table(folder, options, "2e"), _overlap_table(options, "2e")
    figure, (left, right) = drawing.new_figure(columns=2)
    _draw_accuracy(left, table, "2e")
    _draw_overlaps(right, overlaps)
    left.set_title(r"two paths, $\sigma_\perp = 5$")
    files.write(folder / "figure_2e_overlaps.csv", overlaps.to_csv(index=False))
    return [*_write(figure, table, folder, "2e"), folder / "figure_2e_overlaps.csv"]


FIGURES: dict[str, Callable[[Path, Options], list[Path]]] = {
    "1c": kernel_alignment,
    "2c": partial(accuracy_against_width, variant="2c"),
    "2d": order_parameters,
    "2e": two_paths,
}


def _task(options: Options, variant: str, seed: int):
    return tasks.hidden_markov_chain(key=jax.random.key(seed), variant=variant, examples=options.examples or EXAMPLES)


def _solved_and_sampled(folder, options, variant, seed, widths):
    """(task, N -> theory, N -> exact posterior) of one seed."""
    task = _task(options, variant, seed)
    solved = theory.grid(task.posterior(widths[0]), widths, (task.temperature,))
    draws = 100 if options.quick else options.draws or _DRAWS
    about = {"task": "hmm", "seed": seed, **task.settings}
    shared = {"chains": _CHAINS, "warmup": _WARMUP, "draws": draws, "about": about, "progress": options.progress}
    exact = {
        N: finished_or_new(
            folder / f"exact_{variant}_N{N}_seed{seed}{options.suffix}.h5", task.posterior(N), Collapsed(),
            jax.random.fold_in(jax.random.key(seed), i), **shared,
        )
        for i, N in enumerate(widths)
    }  # fmt: skip
    return task, {N: solved[i, 0] for i, N in enumerate(widths)}, exact


def _accuracy_table(folder, options, variant) -> pd.DataFrame:
    widths = options.widths_or(WIDTHS)
    rows = []
    for seed in options.seeds:
        task, solved, exact = _solved_and_sampled(folder, options, variant, seed, widths)
        test, labels = task.test_set
        gp = {f"gp {name}": accuracy(predict(theory.gp(task.posterior(widths[0]), paths), test), labels)
              for name, paths in GP_LINES[variant].items()}  # fmt: skip
        for N in widths:
            row = {"seed": seed, "N": N, "theory": accuracy(predict(solved[N], test), labels)}
            for name, run in (
                ("exact", exact[N]),
                ("weights", _weight_samples(folder, options, variant, task, seed, N)),
            ):
                if run is not None:
                    prediction = predict(run, test)
                    row[name], row[f"{name}_error"] = accuracy(prediction, labels), accuracy_error(prediction, labels)
            rows.append(row | gp)
    return pd.DataFrame(rows)


def _weight_samples(folder, options, variant, task, seed, N):
    if N not in (WEIGHT_WIDTHS[:1] if options.quick else WEIGHT_WIDTHS):
        return None
    return finished_or_new(
        folder / f"weights_{variant}_N{N}_seed{seed}{options.suffix}.h5", task.posterior(N), ChEES(),
        jax.random.fold_in(jax.random.key(seed), 1000 + N), chains=_CHAINS, warmup=_WARMUP,
        draws=100 if options.quick else 1000, keep="order_parameters", init="collapsed",
        about={"task": "hmm", "seed": seed, **task.settings}, progress=options.progress,
    )  # fmt: skip


def _draw_accuracy(axes, table: pd.DataFrame, variant: str) -> None:
    by_width = table.groupby("N")
    several = table["seed"].nunique() > 1
    spread = by_width.std(ddof=1) if several else None

    def points(column):
        values = by_width[column].mean().dropna()
        if spread is not None:
            errors = spread[column].loc[values.index]
        else:
            errors = by_width[f"{column}_error"].mean().loc[values.index] if f"{column}_error" in table else 0 * values
        return drawing.Points(list(values.index), list(values), list(errors))

    gp = {name: float(table[f"gp {name}"].mean()) for name in GP_LINES[variant]}
    weights = points("weights") if "weights" in table else None
    drawing.accuracy_axes(axes, points("theory"), gp, points("exact"), weights, "ChEES")


def _overlap_table(options, variant) -> pd.DataFrame:
    width = (options.widths or (10,))[0]
    rows = []
    for seed in options.seeds:
        posterior = _task(options, variant, seed).posterior(width)
        for name, solved in ((f"$N={width}$", theory.solve(posterior)), ("GP limit", theory.gp(posterior))):
            found = alignment(solved)
            rows += [
                {"seed": seed, "kernel": name, "component": k + 1, "eigenvalue": found.eigenvalues[k],
                 "overlap": found.overlaps[k]} for k in range(len(found.overlaps))
            ]  # fmt: skip
    return pd.DataFrame(rows)


def _draw_overlaps(axes, table: pd.DataFrame) -> None:
    mean = table.groupby(["kernel", "component"], sort=False)["overlap"].mean()
    drawing.overlap_axes(axes, {name: mean[name].to_numpy() for name in table["kernel"].unique()}, COMPONENTS)


def _write(figure, table: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    path = folder / f"figure_{name}.csv"
    files.write(path, table.to_csv(index=False))
    return [*drawing.save(figure, folder, f"figure_{name}"), path]
