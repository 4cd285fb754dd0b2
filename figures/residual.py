"""Figure 2c's task with and without residual streams: accuracy and evidence against N (docs/model.md, section 12).

Beyond the paper. The networks of a seed have the same data and heads; one has a skip connection of strength 1 in both
layers besides.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from .. import tasks, theory
from ..core import files
from ..diagnostics import accuracy, accuracy_error, predict
from ..evidence import evidence
from ..plot import style
from ..sampler import Collapsed, Run
from .assembly import KINDS
from .options import Options
from .runs import Job, complete

WIDTHS = (10, 30, 100, 300, 1000)
NETWORKS = {"attention only": False, "residual": True}  # name in the table -> residual
_EXAMPLES, _CHAINS, _WARMUP, _DRAWS = 100, 4, 100, 250
_MARKS = {"attention only": (style.BLUE, "o"), "residual": (style.RED, "s")}


def residual_streams(folder: Path, options: Options) -> list[Path]:
    """Test accuracy (theory, exact posterior, GP limit) and log evidence per example of both networks against N."""
    made = {(seed, name): _task(options, seed, name) for seed in options.seeds for name in NETWORKS}
    jobs = {each: _jobs(folder, options, *each, task) for each, task in made.items()}
    runs = complete([job for found in jobs.values() for job in found], options.progress)
    rows = [row for each, task in made.items() for row in _rows(*each, task, jobs[each], runs)]
    table = pd.DataFrame(rows)
    path = folder / "figure_residual.csv"
    files.write(path, table.to_csv(index=False))
    return [*style.save(_drawn(table), folder, "figure_residual", KINDS), path]


def _drawn(table: pd.DataFrame) -> Figure:
    figure, (left, right) = style.new_figure(columns=2)
    for name in NETWORKS:
        _draw(left, right, table[table["network"] == name], name)
    left.set(xscale="log", xlabel="width $N$", ylabel="test accuracy")
    right.set(xscale="log", xlabel="width $N$", ylabel="log evidence per training label")
    with rc_context(style.STYLE):
        style.below(left)
        style.below(right)
    return figure


def _task(options: Options, seed: int, name: str) -> tasks.Task:
    examples = options.examples or _EXAMPLES
    return tasks.hidden_markov_chain(key=jax.random.key(seed), examples=examples, residual=NETWORKS[name])


def _jobs(folder: Path, options: Options, seed: int, name: str, task: tasks.Task) -> list[Job]:
    draws = 50 if options.quick else options.draws or _DRAWS
    about = {"task": "hmm", "seed": seed, **task.settings}
    return [
        Job(
            folder / f"residual_{name.split()[0]}_N{N}_seed{seed}{options.suffix}.h5", task.posterior(N), Collapsed(),
            jax.random.fold_in(jax.random.key(seed), i),
            {"chains": _CHAINS, "warmup": _WARMUP, "draws": draws, "about": about},
        )
        for i, N in enumerate(options.widths_or(WIDTHS))
    ]  # fmt: skip


def _rows(seed: int, name: str, task: tasks.Task, jobs: list[Job], runs: dict[Path, Run]) -> list[dict]:
    test, labels = task.test_set  # type: ignore[misc]  # the task has one
    base, P = jobs[0].posterior, len(task.train.y)
    solved = theory.grid(base, [job.width for job in jobs], (task.temperature,))
    gp = accuracy(predict(theory.gp(base), test), labels)
    rows = []
    for i, job in enumerate(jobs):
        found = evidence(job.posterior, key=jax.random.fold_in(job.key, 1))
        prediction = predict(runs[job.path], test)
        rows.append({
            "seed": seed, "network": name, "N": job.width, "theory": accuracy(predict(solved[i, 0], test), labels),
            "gp": gp, "exact": accuracy(prediction, labels), "exact_error": accuracy_error(prediction, labels),
            "log_evidence": found.log_evidence / P, "log_evidence_error": found.error / P, "method": found.method,
        })  # fmt: skip
    return rows


def _draw(left, right, table: pd.DataFrame, name: str) -> None:
    colour, marker = _MARKS[name]
    several = table["seed"].nunique() > 1
    grouped = table.groupby("N")

    def errors(column: str) -> np.ndarray:
        found = grouped[column].sem() if several else grouped[f"{column}_error"].mean()
        return found.to_numpy()

    widths = list(grouped.groups)
    mean = grouped.mean(numeric_only=True)
    left.axhline(mean["gp"].mean(), color=colour, linestyle=":", label=f"{name}, GP limit")
    left.plot(widths, mean["theory"], color=colour, label=f"{name}, theory")
    for axes, column in ((left, "exact"), (right, "log_evidence")):
        label = f"{name}, exact posterior" if axes is left else name
        line = "none" if axes is left else "-"
        axes.errorbar(
            widths, mean[column], errors(column), color=colour, marker=marker, linestyle=line, capsize=2, label=label
        )


FIGURES: dict[str, Callable[[Path, Options], list[Path]]] = {"residual": residual_streams}
