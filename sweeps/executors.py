"""Where points are computed: this process, or the workers of a Dask cluster.

Every executor calls ``compute`` on a point and nothing else, so the numbers are the same on each.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from ..core import checks, files
from .clusters import SchedulerLost, modules
from .compute import Outcome, compute
from .plan import Point

_LOOK_SECONDS = 2.0  # between looks at the workers that there are


def in_process(points: Sequence[Point], folder: str, keep_samples: bool) -> Iterator[Outcome]:
    """Outcomes of points, one after the other in this process."""
    for point in points:
        yield compute(point, folder, keep_samples)


def on_dask(
    points: Sequence[Point],
    folder: str,
    keep_samples: bool,
    scheduler,
    resources: Mapping[str, int] | None,
    patience: float | None,
    started: bool = False,
) -> Generator[Outcome, None, None]:
    """Outcomes of points in the order in which a Dask cluster finishes them.

    A point whose worker dies is given to another, which continues from its sample file; one that repeatedly kills its
    workers (Dask's ``distributed.scheduler.allowed-failures``) comes out with an error. Once all workers have been gone
    for some time, so do all points that are left.

    Args:
        points, folder, keep_samples: see ``compute``; the folder is on a file system that all workers see.
        scheduler: address of a Dask scheduler, or a cluster object.
        resources: what a point takes of a worker's resources, such as {"GPU": 1}.
        patience: seconds without any worker, after there was one, until the points that are left are given up; None
            waits for ever.
        started: there was one already.

    Raises:
        ValueError: no scheduler answers at the address, or no worker offers the resources of a point.
        SchedulerLost: the scheduler went away.
        OSError: the disk of a worker is full.
    """
    _, distributed = modules()
    shown = checks.brief(scheduler if isinstance(scheduler, str) else type(scheduler).__name__)
    try:
        client = distributed.Client(scheduler, timeout=20, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as failure:
        raise checks.InputError(
            f"scheduler={shown} does not answer ({type(failure).__name__}): give what `dask scheduler` prints"
        ) from None
    pending: dict[str, tuple] = {}
    try:
        futures = client.map(
            compute, points, folder=folder, keep_samples=keep_samples, pure=False, resources=resources or {}
        )
        pending = {future.key: (point.id, future) for future, point in zip(futures, points, strict=True)}
        with client.as_current():
            finishing = distributed.as_completed(futures)
        del futures
        for future in _finished(client, finishing, patience, started):
            if future.cancelled():
                raise SchedulerLost(f"scheduler={shown} went away: what is finished is on disk, run the sweep again")
            error = future.exception()
            if isinstance(error, OSError) and error.errno in files.FULL:
                raise error
            point_id, _ = pending.pop(future.key)
            yield future.result() if error is None else Outcome(point_id, _died(error), 0.0)
        for point_id, _ in list(pending.values()):
            yield Outcome(point_id, f"not computed: all workers ended, and none came back for {patience:g} s", 0.0)
    finally:
        with contextlib.suppress(Exception):  # of a scheduler that is gone, or busy: the results are on disk
            client.cancel([future for _, future in pending.values()])
        with contextlib.suppress(Exception):
            client.close(timeout=5)


def _finished(client, finishing, patience: float | None, started: bool) -> Iterator[Any]:
    """Futures as they finish, until none is left or there has been no worker for too long after there was one."""
    looked = time.monotonic()
    seen = looked if started else None  # when a worker was there
    while not finishing.is_empty():
        if finishing.has_ready():
            yield next(finishing)
            continue
        time.sleep(0.05)
        now = time.monotonic()
        if now - looked < _LOOK_SECONDS:
            continue
        looked = now
        with contextlib.suppress(OSError, TimeoutError):  # a scheduler that is gone or busy: the futures will say
            if client.sync(client.scheduler.ncores, callback_timeout=10):
                seen = now
            elif patience is not None and seen is not None and now - seen > patience:
                return


def _died(error: BaseException) -> str:
    if type(error).__name__ == "KilledWorker":
        return "its workers died again and again: look at the memory it takes, or compute it with workers=1"
    return " ".join(f"{type(error).__name__}: {error}".split())[:1000]
