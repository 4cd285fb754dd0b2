"""``gibbsformer resume``."""

from __future__ import annotations

from .options import add_converged, add_progress, add_until, progress, until
from .output import sampled

HELP = "continue a stored run from its last commit"


def add_arguments(parser) -> None:
    """The file, and how far."""
    parser.add_argument("file", metavar="FILE", help="sample file")
    parser.add_argument("--draws", type=int, help="draws per chain in the end (default: as first requested)")
    add_until(parser)
    add_progress(parser)
    add_converged(parser)


def run(options) -> int:
    """Resume, and print the result compared with theory."""
    from ..sampler import resume

    return sampled(resume(options.file, options.draws, until=until(options), progress=progress(options)), options)
