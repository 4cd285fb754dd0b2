"""``gibbsformer figure``."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter

from .options import add_quiet
from .output import written

HELP = "a figure of the paper, whole or one panel, or one beyond it: pictures, numbers, sample files"
_LETTERS = """panels, by the letters of the paper's captions:
  1: a paths, b order parameter, c alignment, d sum of kernels
  2: a task, b network, c accuracy and order parameters, d overlaps, e as c with sigma_perp = 5
  3: a task, b accuracy, c order parameters, d overlaps, e head scores and drops, f pruning

beyond the paper:
  residual: accuracy and evidence with and without skip connections
  heads: accuracy of figure 3's network as heads are removed, by every score, with the areas in a table

Before letters followed the paper, 2d was what is below in 2c; 3d and 3f are in 3e; 3e is 3f.

Finished runs in --out are reused, and begun ones continued, by all figures.
"""


def add_arguments(parser) -> None:
    """Which figure, and its sizes."""
    parser.epilog = _LETTERS
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("name", metavar="NAME", help="1, 2 or 3; one panel, such as 2c; residual or heads")
    parser.add_argument("--out", default="figures", metavar="DIR", help="directory to write (default %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one task per seed; several give bands")
    parser.add_argument("--widths", type=int, nargs="+", metavar="N", help="widths (default: the paper's)")
    parser.add_argument(
        "--temperatures", type=float, nargs="+", metavar="T", help="of figures 3 (default: the paper's); one of heads"
    )
    parser.add_argument("--examples", type=int, metavar="P", help="training examples (default: the paper's)")
    parser.add_argument("--draws", type=int, help="draws per chain of the exact posterior")
    parser.add_argument(
        "--data", default="glyphs", metavar="SET", help="images of figures 3 and heads (default %(default)s)"
    )
    parser.add_argument("--network", metavar="FILE", help="trained network of figures 3 and heads (default: train one)")
    parser.add_argument("--quick", action="store_true", help="few widths and draws: the layout in seconds")
    add_quiet(parser)


def run(options) -> int:
    """Make the figure."""
    from ..figures import figure

    files = figure(
        options.name,
        options.out,
        seeds=options.seeds,
        widths=options.widths,
        temperatures=options.temperatures,
        examples=options.examples,
        draws=options.draws,
        data=options.data,
        network=options.network,
        progress=not (options.quiet or options.json),
        quick=options.quick,
    )
    return written(options, *files)
