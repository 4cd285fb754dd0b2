"""A sweep: the points of a plan that a folder lacks, computed on an executor, with progress over the whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core import cards, checks, console
from . import clusters, executors, folder
from . import plan as plans
from .compute import Outcome
from .dataset import open_sweep

LIMIT = 1000
_SHOWN = 10  # failed points printed
_PATIENCE = 60.0  # seconds without any local worker, which are restarted within a few


class Sweep(NamedTuple):
    """What a sweep did.

    Attributes:
        folder: where the results are; ``open()`` is ``open_sweep`` of it.
        points: points of the plan.
        computed: points computed this time, failed ones not counted.
        failed: index entries of points that failed: settings and error.
        damaged: what was wrong with results that were computed again, a line each.
    """

    folder: Path
    points: int
    computed: int
    failed: tuple[dict[str, Any], ...]
    damaged: tuple[str, ...] = ()

    def __repr__(self) -> str:
        counts = f"{self.points} points, {self.computed} computed now, {len(self.failed)} failed"
        return f"Sweep({counts}, {str(self.folder)!r})"

    def _repr_html_(self) -> str:
        first, *rest = self.render().splitlines()
        return cards.card("Sweep", [("points", first), *(("", line) for line in rest)])

    def open(self):
        """What the sweep found so far.

        Returns:
            Dataset of ``open_sweep``.
        """
        return open_sweep(self.folder)

    def render(self) -> str:
        """Text for people.

        Returns:
            A line of counts, and one for each of the first 10 failed points with its error, and of the first 10 damaged
            results.
        """
        lines = [
            f"{self.points} points: {self.computed} computed now, {len(self.failed)} failed; results in {self.folder}"
        ]
        for entry in self.failed[:_SHOWN]:
            settings = entry["settings"]
            where = " ".join(f"{k}={plans.label(k, settings[k])}" for k in plans.AXES.values() if k in settings)
            lines.append(f"! {settings['compute']} {where}: {entry['error']}")
        if len(self.failed) > _SHOWN:
            lines.append(f"! and {len(self.failed) - _SHOWN} more, listed in {self.folder / folder.INDEX}")
        lines += [f"! computed again: {fault}" for fault in self.damaged[:_SHOWN]]
        if len(self.damaged) > _SHOWN:
            lines.append(f"! and {len(self.damaged) - _SHOWN} more that were computed again")
        return "\n".join(lines)


def sweep(
    plan: str | os.PathLike | Mapping[str, Any],
    out: str | os.PathLike,
    *,
    workers: int = 1,
    scheduler: Any = None,
    gpus_per_point: int = 0,
    worker_timeout: float | None = 3600,
    limit: int | None = LIMIT,
    keep_samples: bool = True,
    compilation_cache: str | os.PathLike | None = "compiled",
    progress: bool = True,
) -> Sweep:
    """Compute the points of a plan that are not in a folder yet; docs/sweeps.md describes plans.

    Each point's random key is made of its own settings, so its numbers depend neither on the other points nor on the
    order nor on the executor. A failed point is listed with its error and does not stop the others; it is tried again
    by the next call. Whatever stops a sweep, the next call continues: finished points are kept, sampled points in
    mid-run continue from their sample files.

    Args:
        plan: a TOML file or a dict.
        out: directory of the results, created if needed. It may hold an earlier version of the plan.
        workers: processes on this machine; 1 computes in this process, more on a Dask LocalCluster. A script that
            asks for more must start under ``if __name__ == "__main__":``.
        scheduler: address of a Dask scheduler, or a cluster object such as ``sweeps.job_cluster`` makes, instead of
            workers. Its workers need gibbsformer installed and ``out`` under the same path.
        gpus_per_point: of Dask's resource "GPU" that one point takes of a worker of ``scheduler``.
        worker_timeout: seconds to wait for a worker of ``scheduler`` after the last one has gone; points that are left
            then fail. None waits for ever, as all do for the first worker.
        limit: refuse to start more points than this; None for any number.
        keep_samples: keep the sample files of finished points in ``out``/samples.
        compilation_cache: folder, relative to ``out``, of compiled programs that local workers share; None for none.
        progress: a live line on stderr: points done, points a second, time left, failures.

    Returns:
        Sweep.

    Raises:
        ValueError: a bad plan, a folder of another plan or in use, more points than the limit, a scheduler that does
            not answer, Dask not installed. Nothing has been computed then.
        SchedulerLost: the scheduler went away, or no local worker starts.
        OSError: the disk is full; finished points are in the folder.
        KeyboardInterrupt: Ctrl-C; finished points are in the folder.
    """
    workers, gpus = checks.count("workers", workers), checks.count("gpus_per_point", gpus_per_point, least=0)
    if scheduler is not None and workers > 1:
        raise checks.InputError(f"workers={workers} are on this machine and scheduler is another: give one of them")
    if gpus and scheduler is None:
        raise checks.InputError(
            f"gpus_per_point={gpus} is for the workers of a scheduler: give scheduler, or leave it out"
        )
    patience = None if worker_timeout is None else checks.positive("worker_timeout", worker_timeout)
    if scheduler is not None or workers > 1:
        clusters.modules(own=scheduler is None)  # refused here, before there is a folder
    executor = _Executor(workers, scheduler, gpus, patience)
    normal = plans.checked(plan)
    if limit is not None and plans.count(normal) > checks.count("limit", limit):
        raise checks.InputError(
            f"plan has {plans.count(normal)} points, more than limit={limit}: use limit=None (--yes) if you mean it"
        )
    points = list(plans.points(normal))
    with folder.held(out, normal, points) as place:
        missing = place.missing
        done = len(points) - len(missing)
        shown = console.bar(total=len(points), initial=done, unit="point", desc="sweep", disable=not progress)
        failed = 0
        with shown, _outcomes(missing, place.path, executor, keep_samples, compilation_cache) as found:
            for outcome in found:
                place.note(outcome)
                failed += outcome.error is not None
                shown.set_postfix({"failed": failed} if failed else {}, refresh=False)
                shown.update()
    return Sweep(place.path, len(points), len(missing) - failed, tuple(folder.failures(place.path)), place.damaged)


class _Executor(NamedTuple):
    workers: int
    scheduler: Any
    gpus: int
    patience: float | None


@contextlib.contextmanager
def _outcomes(points, path: Path, executor: _Executor, keep_samples, cache) -> Iterator[Iterator[Outcome]]:
    """The outcomes of points by the executor that was asked for, which ends with this context."""
    workers, scheduler, gpus, patience = executor
    job = points, str(path), keep_samples
    if not points:
        yield iter(())
    elif scheduler is not None:
        resources = {"GPU": gpus} if gpus else None
        with contextlib.closing(executors.on_dask(*job, scheduler, resources, patience)) as found:
            yield found
    elif workers == 1:
        yield executors.in_process(*job)
    else:
        with clusters.local_cluster(min(workers, len(points)), None if cache is None else path / cache) as cluster:
            with contextlib.closing(executors.on_dask(*job, cluster, None, _PATIENCE, started=True)) as found:
                yield found
