"""``gibbsformer compare``."""

from __future__ import annotations

from .output import show_run

HELP = "compare a sample file with the theory"


def add_arguments(parser) -> None:
    """The file."""
    parser.add_argument("file", metavar="FILE", help="sample file")


def run(options) -> int:
    """Print the comparison."""
    from ..sampler import open

    show_run(open(options.file), options)
    return 0
