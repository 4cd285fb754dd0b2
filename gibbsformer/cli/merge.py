"""``gibbsformer merge``."""

from __future__ import annotations

from .options import add_target_file
from .output import written

HELP = "join the chains of several sample files"


def add_arguments(parser) -> None:
    """The files."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="sample files of one problem")
    parser.add_argument(
        "--shorten", action="store_true", help="also drop more than a tenth of the draws of the longest file"
    )
    add_target_file(parser)


def run(options) -> int:
    """Write the merged file."""
    from ..store import merge

    merge(options.files, options.out, options.overwrite, options.shorten)
    return written(options)
