"""The demonstration: figure 2c of the paper, with theory, exact posterior and weight samples side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import tasks, theory
from ..core import files
from ..diagnostics import accuracy, accuracy_error, compare, convergence, predict
from ..sampler import NUTS, Collapsed
from . import drawing
from .hidden_markov import GP_LINES, WIDTHS
from .runs import finished_or_new

_EXACT = {"chains": 4, "warmup": 100, "draws": 1000}


def demo(out: str | Path, seed: int = 0, chains: int = 2, warmup: int = 300, draws: int = 800, quiet: bool = False):
    """Figure 2c of arXiv:2405.15926: accuracy and order parameters against width at T = 0.01.

    The exact posterior is drawn by the collapsed kernel at all seven widths, and once more by NUTS over all weights at
    N = 10, which shares no code with it.

    Args:
        out: directory for the sample files and figures, created if it does not exist. Finished runs of the same
            settings are reused.
        seed: sets task and chains.
        chains, warmup, draws: of NUTS.
        quiet: no progress bars.

    Returns:
        (findings: plain values, files written).
    """
    folder = files.output_folder("out", out)
    key = jax.random.key(seed)
    task = tasks.hidden_markov_chain(key=key)
    test, labels = task.test_inputs, task.test_set[1]  # type: ignore[index]  # this task always has a test set
    posteriors = {N: task.posterior(N) for N in WIDTHS}
    solutions = theory.grid(posteriors[10], WIDTHS, (task.temperature,))
    solved = {N: solutions[i, 0] for i, N in enumerate(WIDTHS)}
    gp = {name: theory.gp(posteriors[10], paths) for name, paths in GP_LINES["2c"].items()}
    options = {"progress": not quiet, "about": {"task": "hmm", "seed": seed, **task.settings}}

    exact = {}
    for i, (N, posterior) in enumerate(posteriors.items()):
        path = folder / f"exact_N{N}.h5"
        exact[N] = finished_or_new(path, posterior, Collapsed(), jax.random.fold_in(key, i), **_EXACT, **options)
    nuts = finished_or_new(
        folder / "run.h5", posteriors[10], NUTS(), jax.random.fold_in(key, len(WIDTHS)), target="weights",
        chains=chains, warmup=warmup, draws=draws, test=(test, labels), precision="float32", **options,
    )  # fmt: skip

    score = lambda source: accuracy(predict(source, test), labels)  # noqa: E731
    scored = {N: _scored(run, test, labels) for N, run in exact.items()}
    found: dict[str, Any] = {
        "accuracy": [
            {"N": N, "theory": score(solved[N]), "exact": scored[N][0], "exact_error": scored[N][1]} for N in WIDTHS
        ],
        "gp_accuracy": {name: score(t) for name, t in gp.items()},
        "nuts_accuracy": _scored(nuts, test, labels),
        "order_parameters": _side_by_side(solved[10], exact[10], nuts),
        "convergence": {
            name: convergence(run)._asdict() for name, run in [("exact, N=10", exact[10]), ("NUTS, N=10", nuts)]
        },
    }
    figure, (axes,) = drawing.new_figure()
    drawing.accuracy_axes(
        axes,
        theory=drawing.Points(WIDTHS, [row["theory"] for row in found["accuracy"]], [0.0] * len(WIDTHS)),
        gp=found["gp_accuracy"],
        exact=drawing.Points(WIDTHS, *zip(*scored.values(), strict=True)),
        weights=drawing.Points([10], *([value] for value in found["nuts_accuracy"])),
        kernel="NUTS",
    )
    axes.set_title("hidden Markov chain task")
    pictures = drawing.save(figure, folder, "accuracy")
    mean = lambda run: run.order_parameters.U[0].mean((0, 1))  # noqa: E731
    panels = {
        "theory, $N=10$": solved[10].U[0],
        "exact, $N=10$": mean(exact[10]),
        "NUTS, $N=10$": mean(nuts),
        "exact, $N=1000$": mean(exact[1000]),
    }
    pictures += drawing.save(drawing.order_parameter_figure([panels], test.path_names), folder, "order_parameters")
    return found, [folder / "run.h5", *(folder / f"exact_N{N}.h5" for N in WIDTHS), *pictures]


def _scored(run, test, labels) -> tuple[float, float]:
    prediction = predict(run, test)
    return accuracy(prediction, labels), accuracy_error(prediction, labels)


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
