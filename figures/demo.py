"""The demonstration: figure 2c of the paper, with theory, exact posterior and weight samples side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from .. import plot, tasks, theory
from ..core import files
from ..diagnostics import accuracy, accuracy_error, compare, convergence, predict
from ..plot import style
from ..sampler import NUTS, Collapsed, Run, lift
from .hidden_markov import GP_LINES, WIDTHS
from .runs import Job, complete

_EXACT = {"chains": 4, "warmup": 100, "draws": 500}
_NARROW = WIDTHS[0]  # the width of the check by NUTS


def demo(
    out: str | Path,
    seed: int = 0,
    chains: int = 2,
    warmup: int = 100,
    draws: int = 400,
    target: str = "marginal",
    quiet: bool = False,
):
    """Figure 2c of arXiv:2405.15926: accuracy and order parameters against width at T = 0.01.

    The exact posterior is drawn by the collapsed kernel at all seven widths, and once more by NUTS over the weights at
    N = 10, which shares nothing with it but the draws that its chains start at, lifted to weights.

    Args:
        out: directory for the sample files and figures, created if it does not exist. Finished runs of the same
            settings are reused, begun ones continued.
        seed: sets task and chains.
        chains, warmup, draws: of NUTS.
        target: of NUTS: ``"marginal"``, V_0 integrated out, or ``"weights"``, all weights, which takes minutes.
        quiet: no progress.

    Returns:
        (findings: plain values, files written).

    Raises:
        ValueError: as ``gf.sample``, or ``out`` is a file.
    """
    folder = files.output_folder("out", out)
    key = jax.random.key(seed)
    task = tasks.hidden_markov_chain(key=key)
    test: Any = task.test_set  # this task always has one
    posteriors = {N: task.posterior(N) for N in WIDTHS}
    about = {"about": {"task": "hmm", "seed": seed, **task.settings}}
    jobs = [
        Job(folder / f"exact_N{N}.h5", posterior, Collapsed(), jax.random.fold_in(key, i), _EXACT | about)
        for i, (N, posterior) in enumerate(posteriors.items())
    ]
    finished = complete(jobs, not quiet)
    exact = {N: finished[job.path] for N, job in zip(WIDTHS, jobs, strict=True)}
    options: dict[str, Any] = {
        "target": target, "chains": chains, "warmup": warmup, "draws": draws,
        "init": _weights(exact[_NARROW], chains, jax.random.fold_in(key, len(WIDTHS) + 1)), "test": test, **about,
    }  # fmt: skip
    check = Job(folder / "run.h5", posteriors[_NARROW], NUTS(), jax.random.fold_in(key, len(WIDTHS)), options)
    nuts = complete([check], not quiet)[check.path]

    solutions = theory.grid(posteriors[_NARROW], WIDTHS, (task.temperature,))
    solved = {N: solutions[i, 0] for i, N in enumerate(WIDTHS)}
    gp = {name: theory.gp(posteriors[_NARROW], paths) for name, paths in GP_LINES["2c"].items()}
    found = _found(solved, exact, nuts, gp, test)
    pictures = _pictures(folder, found, solved, exact, nuts)
    return found, [*(job.path for job in (*jobs, check)), *pictures]


def _weights(run: Run, chains: int, key: jax.Array) -> dict[str, np.ndarray]:
    """Exact draws of all weights, one for each of so many chains."""
    lifted = lift(run, key=key, draws=-(-chains // run.chains), progress=False).weights
    return {name: np.concatenate(np.asarray(w))[:chains] for name, w in lifted.items()}


def _found(solved, exact, nuts, gp, test) -> dict[str, Any]:
    """Plain values: accuracies, order parameters at N = 10, convergence."""

    def scored(source) -> tuple[float, float]:
        prediction = predict(source, test[0])
        return accuracy(prediction, test[1]), accuracy_error(prediction, test[1])

    rows = []
    for N, run in exact.items():
        value, error = scored(run)
        rows.append({"N": N, "theory": scored(solved[N])[0], "exact": value, "exact_error": error})
    return {
        "accuracy": rows,
        "gp_accuracy": {name: scored(each)[0] for name, each in gp.items()},
        "nuts_accuracy": scored(nuts),
        "order_parameters": _side_by_side(solved[_NARROW], exact[_NARROW], nuts),
        "convergence": {
            name: convergence(run)._asdict() for name, run in [("exact, N=10", exact[_NARROW]), ("NUTS, N=10", nuts)]
        },
    }


def _pictures(folder: Path, found: dict[str, Any], solved, exact, nuts) -> list[Path]:
    table = pd.DataFrame(found["accuracy"]).set_index("N")
    samples = table[["exact", "exact_error"]].set_axis(["value", "error"], axis="columns")
    weights = pd.DataFrame([found["nuts_accuracy"]], [_NARROW], ["value", "error"])
    with rc_context(style.STYLE):
        figure = Figure(figsize=(4.6, 4.0), layout="constrained")
        axes = figure.subplots()
        plot.accuracy(table["theory"], samples, found["gp_accuracy"], weights=weights, kernel="NUTS", ax=axes)
        axes.set_title("hidden Markov chain task")
        pictures = style.save(figure, folder, "accuracy")
        panels = {
            "theory, $N=10$": solved[10],
            "exact, $N=10$": exact[10],
            "NUTS, $N=10$": nuts,
            "exact, $N=1000$": exact[1000],
        }
        figure = Figure(figsize=(11.6, 3.6), layout="constrained")
        largest = max(float(np.abs(run.order_parameters.U[0].mean((0, 1))).max()) for run in (exact[10], nuts))
        grid = figure.subplots(1, len(panels), sharey=True)
        for axes, (title, source) in zip(grid, panels.items(), strict=True):
            plot.order_parameters(source, largest=largest, colorbar=False, ax=axes)
            axes.set_title(title)
        figure.colorbar(grid[0].images[0], ax=list(grid), label="order parameter $U$", shrink=0.8, format="{x:g}")
        return pictures + style.save(figure, folder, "order_parameters")


def _side_by_side(solved, exact, nuts) -> list[dict[str, Any]]:
    """Order parameters: theory, exact and NUTS means, and z of NUTS against exact."""
    table, check = compare(exact, solved), compare(nuts, solved)
    return [
        {
            "entry": entry,
            "theory": row["theory"],
            "exact": row["sampled"],
            "exact_mcse": row["mcse"],
            "nuts": other["sampled"],
            "nuts_mcse": other["mcse"],
            "z": (other["sampled"] - row["sampled"]) / np.hypot(row["mcse"], other["mcse"]),
        }
        for (entry, row), (_, other) in zip(table.iterrows(), check.iterrows(), strict=True)
    ]
