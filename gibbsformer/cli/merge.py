"""``gibbsformer merge``."""

from __future__ import annotations

from .options import add_target_file
from .output import written

HELP = "join the chains of several sample files"


def add_arguments(parser) -> None:
    """The files."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="sample files of one problem")
    add_target_file(parser)


def run(options) -> int:
    """Write the merged file."""
    from ..store import merge

    merge(options.files, options.out, options.overwrite)
    return written(options)
