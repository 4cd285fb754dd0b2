"""Where points are computed: this process, a Dask cluster on this machine, any Dask scheduler, SLURM or PBS.

Every executor calls ``compute`` on a point and nothing else, so the numbers are the same on each. Dask is an optional
extra (``pip install gibbsformer[sweeps]``), imported where it is used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

from ..core import checks
from .compute import Outcome, compute
from .plan import Point

SYSTEMS = ("slurm", "pbs")
_CACHED_SECONDS = "0.5"  # compilations longer than this go to the cache
# One BLAS thread, as in every computation of ours. XLA's own threads stay as they are in this process: restricted to
# one, it sums in another order, and chains differ in the last bit.
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# A terminal sends Ctrl-C to workers too, which would print a traceback each: the process that started them ends them.
_DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"


class SchedulerLost(RuntimeError):  # noqa: N818  a state of affairs, which the next run mends
    """The scheduler went away before all points were computed; those finished are on disk."""


def in_process(points: Sequence[Point], folder: str, keep_samples: bool) -> Iterator[Outcome]:
    """Outcomes of points, one after the other in this process."""
    for point in points:
        yield compute(point, folder, keep_samples)


def local_cluster(workers: int, cache: Path | None = None):
    """A Dask cluster on this machine: a process of one thread for each worker, restarted when it dies.

    Args:
        workers: number of processes.
        cache: folder of compiled programs that the workers share; None compiles in every process.

    Returns:
        ``distributed.LocalCluster``, a context manager that ends its processes.

    Raises:
        ValueError: Dask is not installed.
    """
    dask, distributed = modules()
    environment = _THREADS | _caching(cache)
    # read when a worker is made, and kept for those that replace it
    options = {"distributed.nanny.pre-spawn-environ": environment, "distributed.worker.preload": [_DEAF]}
    with dask.config.set(options):
        return distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0,
            silence_logs=40,
        )  # fmt: skip


def job_cluster(
    system: str,
    *,
    memory: str = "16GB",
    cores: int = 4,
    walltime: str = "04:00:00",
    queue: str | None = None,
    account: str | None = None,
    gpus: int = 1,
    cache: str | os.PathLike | None = None,
    prologue: Sequence[str] = (),
    directives: Sequence[str] | None = None,
):
    """A cluster whose workers are batch jobs, each with one thread of points and, by Dask's resource "GPU", one GPU.

    Submit jobs with ``cluster.scale(jobs=100)`` and hand it to ``sweep(.., scheduler=cluster, gpus_per_point=1)``;
    ``cluster.job_script()`` is the text that is submitted.

    Args:
        system: ``"slurm"`` or ``"pbs"``.
        memory, cores, walltime: of one job.
        queue, account: partition or queue, and project to charge.
        gpus: GPUs of one job: 1, or 0 for CPU workers.
        cache: folder of compiled programs on a file system that all jobs share.
        prologue: shell lines before the worker starts, such as ``"source /home/me/venv/bin/activate"``.
        directives: scheduler directives; default those that ask for the GPU: ``--gres=gpu:1`` (SLURM),
            ``-l ngpus=1`` (PBS, where it is a host-level resource). Give your site's own where they differ.

    Returns:
        ``dask_jobqueue.SLURMCluster`` or ``PBSCluster``, without jobs yet.

    Raises:
        ValueError: an unknown system, a number out of range, or dask-jobqueue is not installed.
    """
    checks.nearest("system", system, SYSTEMS)
    cores, gpus = checks.count("cores", cores), checks.count("gpus", gpus, least=0)
    if gpus > 1:
        raise checks.InputError(f"gpus={gpus}: a worker computes one point at a time on one GPU, use gpus=1, more jobs")
    modules()
    try:
        import dask_jobqueue
    except ImportError:
        raise _missing("dask-jobqueue") from None
    if directives is None:
        directives = [{"slurm": "--gres=gpu:1", "pbs": "-l ngpus=1"}[system]] * gpus
    environment = _caching(None if cache is None else Path(cache)) | ({} if gpus else _THREADS)
    kind = {"slurm": dask_jobqueue.SLURMCluster, "pbs": dask_jobqueue.PBSCluster}[system]
    return kind(
        cores=1,
        processes=1,
        memory=memory,
        walltime=walltime,
        queue=queue,
        account=account,
        job_extra_directives=list(directives),
        job_script_prologue=[*prologue, *(f"export {name}='{value}'" for name, value in environment.items())],
        worker_extra_args=["--resources", f"GPU={gpus}"] if gpus else [],
        **({"job_cpu": cores} if system == "slurm" else {"resource_spec": f"select=1:ncpus={cores}:mem={memory}"}),
    )


def on_dask(
    points: Sequence[Point], folder: str, keep_samples: bool, scheduler, resources: Mapping[str, int] | None
) -> Generator[Outcome, None, None]:
    """Outcomes of points in the order in which a Dask cluster finishes them.

    A point whose worker dies is given to another, which continues from its sample file; one that repeatedly kills its
    workers (Dask's ``distributed.scheduler.allowed-failures``) comes out with an error.

    Args:
        points, folder, keep_samples: see ``compute``; the folder is on a file system that all workers see.
        scheduler: address of a Dask scheduler, or a cluster object.
        resources: what a point takes of a worker's resources, such as {"GPU": 1}.

    Raises:
        ValueError: no scheduler answers at the address, or no worker offers the resources of a point.
        SchedulerLost: the scheduler went away.
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
        for future in finishing:
            if future.cancelled():
                raise SchedulerLost(f"scheduler={shown} went away: what is finished is on disk, run the sweep again")
            error = future.exception()
            point_id, _ = pending.pop(future.key)
            yield future.result() if error is None else Outcome(point_id, _died(error), 0.0)
    finally:
        with contextlib.suppress(Exception):  # of a scheduler that is gone, or busy: the results are on disk
            client.cancel([future for _, future in pending.values()])
        with contextlib.suppress(Exception):
            client.close(timeout=5)


def modules():
    """Dask and its scheduler: modules dask and distributed.

    Raises:
        ValueError: they are not installed.
    """
    try:
        import dask
        import distributed
    except ImportError:
        raise _missing("dask") from None
    return dask, distributed


def _missing(package: str) -> checks.InputError:
    return checks.InputError(f"{package} is not installed: run pip install 'gibbsformer[sweeps]', or use workers=1")


def _caching(cache: Path | None) -> dict[str, str]:
    if cache is None:
        return {}
    return {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": _CACHED_SECONDS,
    }


def _died(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:1000]
