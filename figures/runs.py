"""Runs behind figures: finished sample files of the same settings are reused, begun ones continued, others made.

Each job that is done tells what a transition of its kernel costs at its width, from which the time left is estimated.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..core import checks, console
from ..core.text import visible
from ..models import Posterior
from ..sampler import ConvergenceWarning, Run, resume, sample
from ..sampler import open as open_run
from ..sampler.kernels.kernel import Kernel

_DECIDED = (None, "auto")  # options that a run decides, and records what it decided


class Job(NamedTuple):
    """A run that a figure needs.

    Attributes:
        path: of its sample file.
        posterior, kernel, key: as for ``sample``.
        options: chains, warmup, draws, about, and other arguments of ``sample``.
    """

    path: Path
    posterior: Posterior
    kernel: Kernel
    key: jax.Array
    options: dict[str, Any]

    @property
    def width(self) -> int:
        """N_1."""
        return self.posterior.network.widths[0]

    def transitions(self, done: int = 0) -> int:
        """Transitions of a chain that remain after so many draws."""
        return self.options["draws"] - done + (0 if done else self.options["warmup"])


class _Left(NamedTuple):
    """What remains of a job: the run as far as it came, or None."""

    job: Job
    run: Run | None

    @property
    def transitions(self) -> int:
        return self.job.transitions(0 if self.run is None else self.run.draws)


def complete(jobs: Sequence[Job], progress: bool) -> dict[Path, Run]:
    """The finished run of every job, by path; says how many there are to make and how long it will take.

    Raises:
        KeyboardInterrupt: the user stopped; what was drawn stays in the files, and the next call continues it.
    """
    jobs = list({job.path: job for job in jobs}.values())
    runs, left = {}, []
    for job in jobs:
        found = _found(job)
        if found is not None and found.draws == job.options["draws"]:
            runs[job.path] = found
        else:
            left.append(_Left(job, found))
    if progress and jobs:
        _say(_plan(jobs, left))
    seconds: dict[tuple[str, int], float] = {}  # per transition, by kernel and width
    for i, each in enumerate(left):
        began = time.perf_counter()
        runs[each.job.path] = _finish(each, progress)
        took = time.perf_counter() - began
        seconds[each.job.kernel.name, each.job.width] = took / max(1, each.transitions)
        if progress and i + 1 < len(left):
            _say(f"run {i + 1} of {len(left)} took {took:.1f} s; {_remaining(left[i + 1 :], seconds)}")
    return runs


def _plan(jobs: Sequence[Job], left: Sequence[_Left]) -> str:
    begun = sum(each.run is not None for each in left)
    folder = jobs[0].path.parent
    parts = [f"{len(jobs)} run{'s' * (len(jobs) > 1)}: {len(jobs) - len(left)} finished in {folder}", f"{begun} begun"]
    parts.append(f"{len(left) - begun} to make")
    after = "; if interrupted, the same command continues them" if left else ""
    return ", ".join(parts) + after


def _remaining(left: Sequence[_Left], seconds: dict[tuple[str, int], float]) -> str:
    """Time left, from the costs measured; kernels without one are named."""
    total, unknown = 0.0, set()
    for each in left:
        cost = _cost(each.job, seconds)
        if cost is None:
            unknown.add(each.job.kernel.name)
        else:
            total += cost * each.transitions
    parts = [f"about {total:.0f} s for the others"] if len(unknown) < len({e.job.kernel.name for e in left}) else []
    parts += [f"no estimate yet for {name}" for name in sorted(unknown)]
    return ", ".join(parts)


def _cost(job: Job, seconds: dict[tuple[str, int], float]) -> float | None:
    """Seconds per transition, from the nearest width: order parameters do not grow with N, weights do."""
    known = {N: cost for (kernel, N), cost in seconds.items() if kernel == job.kernel.name}
    if not known:
        return None
    nearest = min(known, key=lambda N: abs(N - job.width))
    growth = 1.0 if job.kernel.name == "collapsed" else max(1.0, job.width / nearest)
    return known[nearest] * growth


def _found(job: Job) -> Run | None:
    """The run in the job's file, as far as it came, if it has the job's settings."""
    if not job.path.exists():
        return None
    try:
        run = open_run(job.path)
    except checks.InputError:
        return None  # not a readable run: the name is the figure's own, so replace it
    wanted = {name: job.options[name] for name in ("chains", "warmup", "about")}
    same = run.settings["kernel"] == job.kernel.name and all(run.settings.get(n) == v for n, v in wanted.items())
    asked = {name: value for name, value in dataclasses.asdict(job.kernel).items() if value not in _DECIDED}
    same = same and all(run.settings["options"].get(name) == value for name, value in asked.items())
    same = same and job.options.get("target") in (None, run.made.target) and run.draws <= job.options["draws"]
    return run if same and _same_problem(run.posterior, job.posterior) else None


def _same_problem(one: Posterior, other: Posterior) -> bool:
    return (
        one.network == other.network
        and one.temperature == other.temperature
        and np.array_equal(one.reduction.data.xi, other.reduction.data.xi)
        and np.array_equal(one.reduction.y, other.reduction.y)
    )


def _finish(left: _Left, progress: bool) -> Run:
    job = left.job
    if progress:
        _say(f"{job.kernel.name} at N={job.width}" + (f", from draw {left.run.draws}" if left.run else ""))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # R-hat and ESS are among the numbers of the figure
        if left.run is not None:
            run = resume(job.path, job.options["draws"], progress=progress)
        else:
            run = sample(
                job.posterior, job.kernel, key=job.key, store=job.path, overwrite=True, progress=progress, **job.options
            )
    if run.settings["ended"] == "interrupt":
        raise KeyboardInterrupt  # part of a run is not a result, and the user wants to stop
    return run


def _say(text: str) -> None:
    console.say(visible(f"gibbsformer: {text}"))
