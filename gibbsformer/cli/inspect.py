"""``gibbsformer inspect``."""

from __future__ import annotations

from .output import show

HELP = "list what a sample file holds"


def add_arguments(parser) -> None:
    """The file."""
    parser.add_argument("file", metavar="FILE", help="sample file")
    parser.add_argument("--verify", action="store_true", help="read every chunk and check the checksums")


def run(options) -> int:
    """Print settings, sizes and convergence."""
    from ..diagnostics.findings import inspection
    from ..reports.text import render_inspection
    from ..sampler import open
    from ..store import verify

    found = inspection(open(options.file))
    if options.verify:
        found["verified"] = verify(options.file)._asdict()
    show(options, found, render_inspection)
    return 0
