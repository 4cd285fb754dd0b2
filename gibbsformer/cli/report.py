"""``gibbsformer report``."""

from __future__ import annotations

from .output import written

HELP = "one HTML page about runs and sweeps, to send"


def add_arguments(parser) -> None:
    """What the page is about."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="sample files, or directories of sweeps")
    parser.add_argument("--out", default="report.html", metavar="FILE", help="page to write (default %(default)s)")


def run(options) -> int:
    """Write the page."""
    from ..reports import report

    report(options.files, options.out)
    return written(options)
