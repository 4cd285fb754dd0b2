"""``gibbsformer curve``."""

from __future__ import annotations

from .options import add_chains, add_problem, chains_key, task_of
from .output import show

HELP = "learning curve of a task: theory and exact posterior against the number of training examples"


def add_arguments(parser) -> None:
    """Task, numbers of examples, what to compute, where the numbers and the picture go."""
    add_problem(parser)
    parser.add_argument("--examples", type=int, nargs="+", required=True, metavar="P", help="numbers of examples")
    parser.add_argument(
        "--what", nargs="+", default=["theory"], metavar="WHAT", help="theory, collapsed or both (default theory)"
    )
    parser.add_argument("--out", metavar="DIR", help="directory for curve.nc and the picture, created if needed")
    add_chains(parser, 4, 200, 500)


def run(options) -> int:
    """Compute the curve, print it, write it."""
    from matplotlib import rc_context

    from .. import plot
    from ..core import files
    from ..plot import style
    from ..sweeps import learning_curve
    from ..sweeps.curves import table

    task = task_of(options)
    folder = None if options.out is None else files.absolute("out", options.out, "such as curve")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    data = learning_curve(
        task, options.examples, options.what, key=chains_key(options), width=options.width,
        temperature=options.temperature, chains=options.chains, warmup=options.warmup, draws=options.draws,
        progress=not (options.quiet or options.json),
    )  # fmt: skip
    if folder is not None:
        data.to_netcdf(folder / "curve.nc", engine="h5netcdf")
        if task.test is not None:
            figure, axes = style.new_figure(3, (3.6, 3.4))
            with rc_context(style.STYLE):
                plot.learning_curve(data, axes=axes)
            plot.save(figure, folder, "curve")
    found = table(data)
    show(options, found.reset_index().to_dict("list"), lambda _: found.to_string(float_format=lambda v: f"{v:.4g}"))
    return 0
