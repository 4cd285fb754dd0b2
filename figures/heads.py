"""Scores of heads compared on figure 3's trained network: accuracy as heads are removed (docs/model.md, section 8).

Beyond the paper, whose figure 3f has one order. A seed draws the episodes: the training examples that all scores see,
and the test examples on which the network without heads is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import pandas as pd

from .. import plot, tasks, training
from ..core import checks, files
from ..heads import Comparison, all_scores, compare
from ..heads.scores import OF_POSTERIOR
from ..plot import style
from ..sampler import Collapsed
from .assembly import KINDS
from .one_shot import TEST_EXAMPLES, trained_network
from .options import Options
from .runs import Job, complete

WIDTHS, TEMPERATURE, EXAMPLES = (30,), 0.5, 300  # no fewer than paths: importance weights give the evidence
_QUICK_EXAMPLES = 60
_CHAINS, _WARMUP, _DRAWS = 4, 50, 100


def heads(folder: Path, options: Options) -> list[Path]:
    """Accuracy of the trained network as heads are removed, by every score, and the area under each curve."""
    temperatures = options.temperatures or (TEMPERATURE,)
    if len(temperatures) > 1:
        raise checks.InputError(f"temperatures={temperatures}: figure heads takes one, give that")
    characters = tasks.characters_by_name(options.data)
    trained = trained_network(folder, options, characters)
    made = {seed: _task(options, seed, characters, trained) for seed in options.seeds}
    jobs = {seed: _jobs(folder, options, seed, task, temperatures[0]) for seed, task in made.items()}
    runs = complete([job for found in jobs.values() for job in found], options.progress)
    first, *others = (_compared(seed, task, trained, jobs[seed], runs, options) for seed, task in made.items())
    found = first.join(*others)
    name = f"figure_heads_{options.data.partition('=')[0]}"
    tables = {"": found.table.reset_index(), "_curves": found.curves}
    figure, (axes,) = style.new_figure(size=(5.6, 5.2))
    plot.pruning(found, ax=axes).set_title("network trained by gradient descent")
    pictures = style.save(figure, folder, name, KINDS)
    return pictures + [_written(folder / f"{name}{end}.csv", table) for end, table in tables.items()]


def _task(options: Options, seed: int, characters: tasks.Characters, trained: training.Trained) -> tasks.Task:
    return tasks.one_shot(
        characters, trained.attention, jax.random.key(seed),
        train=options.examples or (_QUICK_EXAMPLES if options.quick else EXAMPLES), test=TEST_EXAMPLES,
        channels=trained.config.channels, residual=trained.residual,
    )  # fmt: skip


def _jobs(folder: Path, options: Options, seed: int, task: tasks.Task, T: float) -> list[Job]:
    draws = 20 if options.quick else options.draws or _DRAWS
    about = {"task": "one_shot", "seed": seed, **task.settings}
    return [
        Job(
            folder / f"heads_{options.data.partition('=')[0]}_N{N}_seed{seed}{options.suffix}.h5",
            task.posterior(N, T), Collapsed(), jax.random.fold_in(jax.random.key(seed), N),
            {"chains": _CHAINS, "warmup": _WARMUP, "draws": draws, "about": about},
        )
        for N in options.widths_or(WIDTHS)
    ]  # fmt: skip


def _compared(seed, task, trained, jobs, runs, options) -> Comparison:
    """All scores at every width, each network of its own; the others once."""
    scores: dict[str, pd.Series] = {}
    for job in jobs:
        key = jax.random.fold_in(job.key, 1)
        found = all_scores(job.posterior, trained.weights, key=key, run=runs[job.path], progress=options.progress)
        width = f", N = {job.width}" if len(jobs) > 1 else ""
        scores |= {name + width if name in OF_POSTERIOR else name: s for name, s in found.items()}
    return compare(trained.weights, scores, task.test_set, seed=seed)


def _written(path: Path, table: pd.DataFrame) -> Path:
    files.write(path, table.to_csv(index=False))
    return path


FIGURES: dict[str, Callable[[Path, Options], list[Path]]] = {"heads": heads}
