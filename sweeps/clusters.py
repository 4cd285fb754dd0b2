"""Dask clusters: workers on this machine, or batch jobs of SLURM and PBS, spoken to under TLS.

Whoever reaches a Dask scheduler can run code as its user. Both clusters therefore make a certificate of their own when
they start, and talk to nobody who does not have its key. Dask is an optional extra
(``pip install gibbsformer[sweeps]``), imported where it is used.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..core import checks, files

SYSTEMS = ("slurm", "pbs")
_CACHED_SECONDS = "0.5"  # compilations longer than this go to the cache
# One BLAS thread, as in every computation of ours. XLA's own threads stay as they are in this process: restricted to
# one, it sums in another order, and chains differ in the last bit.
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# A terminal sends Ctrl-C to workers too, which would print a traceback each: the process that started them ends them.
_DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
_LOOPBACK = "127.0.0.1"
_SPARE_SECONDS = 600  # of a walltime that a worker leaves unused at most, so that it ends before its job is killed


class SchedulerLost(RuntimeError):  # noqa: N818  a state of affairs, which the next run mends
    """The scheduler went away before all points were computed, or no worker started; what is finished is on disk."""


def local_cluster(workers: int, cache: Path | None = None, dashboard: bool = False):
    """A Dask cluster on this machine: a process of one thread for each worker, restarted when it dies.

    Scheduler and workers listen on the loopback interface alone and talk under TLS, with keys that never leave their
    memory.

    Args:
        workers: number of processes.
        cache: folder of compiled programs that the workers share; None compiles in every process.
        dashboard: serve Dask's pages at ``cluster.dashboard_link``. Every user of this machine can read them.

    Returns:
        ``distributed.LocalCluster``, a context manager that ends its processes.

    Raises:
        ValueError: Dask or cryptography is not installed.
        SchedulerLost: no worker starts.
    """
    dask, distributed = modules(own=True)
    environment = _THREADS | _caching(cache)
    # read when a worker is made, and kept for those that replace it
    options = {"distributed.nanny.pre-spawn-environ": environment, "distributed.worker.preload": [_DEAF]}
    with dask.config.set(options | _pages(dashboard)):
        try:
            return distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host=_LOOPBACK,
                security=distributed.Security.temporary(),
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                dashboard_address=f"{_LOOPBACK}:0",
                scheduler_kwargs={"dashboard": dashboard},
            )
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SchedulerLost(f"workers={workers} did not start ({reason}): use fewer, or workers=1") from None


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
    certificates: str | os.PathLike | None = None,
    dashboard: bool = False,
):
    """A cluster whose workers are batch jobs, each with one thread of points and, by Dask's resource "GPU", one GPU.

    Submit jobs with ``cluster.scale(jobs=100)``, or ``cluster.adapt(maximum_jobs=100)``, which replaces those that have
    ended, and hand it to ``sweep(.., scheduler=cluster, gpus_per_point=1)``; ``cluster.job_script()`` is the text that
    is submitted. A worker hands its point back and ends a little before its walltime, so that the point goes on
    elsewhere and does not count as one that kills its workers. Scheduler and workers talk under TLS.

    Args:
        system: ``"slurm"`` or ``"pbs"``.
        memory, cores: of one job.
        walltime: of one job, ``[days-]hours:minutes:seconds``.
        queue, account: partition or queue, and project to charge.
        gpus: GPUs of one job: 1, or 0 for CPU workers.
        cache: folder of compiled programs on a file system that all jobs share.
        prologue: shell lines before the worker starts, such as ``"source /home/me/venv/bin/activate"``.
        directives: scheduler directives; default those that ask for the GPU: ``--gres=gpu:1`` (SLURM),
            ``-l ngpus=1`` (PBS, where it is a host-level resource). Give your site's own where they differ.
        certificates: directory on a file system that all jobs share, for the key and certificate of the cluster, which
            you alone can read and which are removed with it; default the current one.
        dashboard: serve Dask's pages on the loopback interface of this machine, port 8787.

    Returns:
        ``dask_jobqueue.SLURMCluster`` or ``PBSCluster``, without jobs yet.

    Raises:
        ValueError: an unknown system, a number or walltime out of range, a directory that cannot be made, or
            dask-jobqueue or cryptography is not installed.
    """
    checks.nearest("system", system, SYSTEMS)
    cores, gpus = checks.count("cores", cores), checks.count("gpus", gpus, least=0)
    if gpus > 1:
        raise checks.InputError(f"gpus={gpus}: a worker computes one point at a time on one GPU, use gpus=1, more jobs")
    dask, distributed = modules(own=True)
    try:
        import dask_jobqueue
    except ImportError:
        raise _missing("dask-jobqueue") from None
    if directives is None:
        directives = [{"slurm": "--gres=gpu:1", "pbs": "-l ngpus=1"}[system]] * gpus
    environment = _caching(None if cache is None else Path(cache)) | ({} if gpus else _THREADS)
    environment["DASK_DISTRIBUTED__WORKER__HTTP__ROUTES"] = "[]"
    extra = [*_lifetime(walltime), "--no-dashboard", *(["--resources", f"GPU={gpus}"] if gpus else [])]
    kind = {"slurm": dask_jobqueue.SLURMCluster, "pbs": dask_jobqueue.PBSCluster}[system]
    folder = files.output_folder("certificates", certificates or ".")
    with dask.config.set(_pages(dashboard)):
        return kind(
            cores=1,
            processes=1,
            memory=memory,
            walltime=walltime,
            queue=queue,
            account=account,
            security=distributed.Security.temporary(),
            protocol="tls://",
            shared_temp_directory=str(folder),
            scheduler_options={"dashboard": dashboard, "dashboard_address": f"{_LOOPBACK}:{8787 if dashboard else 0}"},
            job_extra_directives=list(directives),
            job_script_prologue=[*prologue, *(f"export {name}='{value}'" for name, value in environment.items())],
            worker_extra_args=extra,
            **({"job_cpu": cores} if system == "slurm" else {"resource_spec": f"select=1:ncpus={cores}:mem={memory}"}),
        )


def modules(own: bool = False):
    """Dask and its scheduler: modules dask and distributed.

    Args:
        own: for a cluster of our own, whose keys need cryptography too.

    Raises:
        ValueError: they are not installed.
    """
    try:
        import dask
        import distributed
    except ImportError:
        raise _missing("dask") from None
    if own:
        try:
            import cryptography  # noqa: F401
        except ImportError:
            raise _missing("cryptography") from None
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


def _pages(dashboard: bool) -> dict[str, list]:
    """Dask's settings without the pages that scheduler and workers serve, unless they are asked for."""
    return {} if dashboard else {f"distributed.{role}.http.routes": [] for role in ("scheduler", "worker")}


def _lifetime(walltime: str) -> list[str]:
    """Options of a worker that ends before the job it runs in, at a time of its own."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", str(walltime))
    days, hours, minutes, seconds = (int(number or 0) for number in found.groups()) if found else (0, 0, 0, 0)
    total = ((24 * days + hours) * 60 + minutes) * 60 + seconds
    if not total:
        raise checks.InputError(
            f"walltime={checks.brief(walltime)} is not a time above 0: give [days-]hours:minutes:seconds, as 04:00:00"
        )
    spare = min(_SPARE_SECONDS, total // 4)
    return ["--lifetime", f"{total - spare}s", "--lifetime-stagger", f"{spare // 2}s"]
