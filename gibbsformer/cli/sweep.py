"""``gibbsformer sweep``."""

from __future__ import annotations

from .options import add_quiet
from .output import show

HELP = "compute the points of a plan that a directory lacks"


def add_arguments(parser) -> None:
    """The plan, where results go, and who computes them."""
    parser.add_argument("plan", metavar="PLAN", help="plan.toml: tables [axes] and [compute], see docs/sweeps.md")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory of results, created or continued")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine (default %(default)s)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler to compute on, instead of workers")
    parser.add_argument("--gpus-per-point", type=int, default=0, metavar="N", help="GPUs that a point uses")
    parser.add_argument(
        "--worker-timeout",
        type=float,
        default=3600,
        metavar="S",
        help="wait S seconds for a worker of the scheduler once all are gone (default %(default)s)",
    )
    parser.add_argument("--discard-samples", action="store_true", help="remove sample files of finished points")
    parser.add_argument("--yes", action="store_true", help="start however many points there are")
    add_quiet(parser)


def run(options) -> int:
    """Compute what is missing; exit code 1 if points failed."""
    from ..sweeps import sweep
    from ..sweeps.sweep import LIMIT

    found = sweep(
        options.plan,
        options.out,
        workers=options.workers,
        scheduler=options.scheduler,
        gpus_per_point=options.gpus_per_point,
        worker_timeout=options.worker_timeout,
        limit=None if options.yes else LIMIT,
        keep_samples=not options.discard_samples,
        progress=not (options.quiet or options.json),
    )
    show(options, found._asdict() | {"folder": str(found.folder)}, lambda _: found.render())
    return 1 if found.failed else 0
