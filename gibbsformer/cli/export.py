"""``gibbsformer export``."""

from __future__ import annotations

from .options import add_target_file
from .output import written

HELP = "write part of a sample file as a plain netCDF file"


def add_arguments(parser) -> None:
    """The file, and which part of it."""
    parser.add_argument("file", metavar="FILE", help="sample file")
    parser.add_argument("--variables", nargs="+", metavar="NAME", help="variables to write (default: all)")
    parser.add_argument("--thin", type=int, default=1, metavar="N", help="write every N-th draw (default %(default)s)")
    parser.add_argument("--mantissa-bits", type=int, metavar="B", help="round draws to B bits (default: exact)")
    parser.add_argument("--compression", help="gzip (default: none)")
    add_target_file(parser)


def run(options) -> int:
    """Write the file."""
    from ..store import export

    export(
        options.file,
        options.out,
        options.variables,
        options.thin,
        options.mantissa_bits,
        options.compression,
        options.overwrite,
    )
    return written(options)
