"""``gibbsformer sample``."""

from __future__ import annotations

from .options import add_chains, add_converged, add_problem, add_until, chains_key, problem, progress, until
from .output import sampled

HELP = "draw from the posterior of a task"


def add_arguments(parser) -> None:
    """Task, kernel, chains, file."""
    add_problem(parser)
    parser.add_argument("--kernel", default="collapsed", help="kernel by name (default %(default)s)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the kernel; may be repeated"
    )
    parser.add_argument("--target", help="collapsed, marginal or weights (default: what the kernel can use)")
    parser.add_argument("--init", help="collapsed: start kernels over weights at exact draws")
    parser.add_argument("--thin", type=int, default=1, help="transitions per draw (default %(default)s)")
    add_until(parser)
    add_chains(parser, chains=4, warmup=500, draws=1000)
    parser.add_argument(
        "--chains-at-once", type=int, metavar="K", help="chains that a device advances at once (default: all)"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="sample file to write, such as run.h5")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--keep", help="weights or order_parameters (default: the target's own)")
    parser.add_argument("--precision", default="auto", help="auto, float32 or float64 (default %(default)s)")
    add_converged(parser)
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, each with a share of the chains and a file",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0 (default: found, as by SLURM)")
    parser.add_argument("--process", type=int, metavar="I", help="number of this process, from 0 (default: found)")
    parser.add_argument("--processes", type=int, metavar="N", help="number of processes (default: found)")


def run(options) -> int:
    """Sample, and print the result compared with theory."""
    from ..core import files
    from ..sampler import resolve_kernel, sample

    kernel = resolve_kernel(options.kernel, _option_values(options.option))
    files.output_file("out", options.out, options.overwrite or options.distributed)
    _join(options)
    task, posterior = problem(options)
    found = sample(
        posterior,
        kernel,
        key=chains_key(options),
        target=options.target,
        chains=options.chains,
        warmup=options.warmup,
        draws=options.draws,
        thin=options.thin,
        chains_at_once=options.chains_at_once,
        until=until(options),
        init=options.init,
        store=options.out,
        keep=options.keep,
        test=task.test_set,
        precision=options.precision,
        overwrite=options.overwrite,
        progress=progress(options),
        about={"task": options.task, "seed": options.seed, **task.settings},
        distributed=options.distributed,
    )
    return sampled(found, options)


def _option_values(pairs) -> dict:
    """NAME=VALUE as Python values; a word that is not one stays text."""
    import ast

    from ..core.checks import InputError

    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"option={pair!r} has no value: write --option NAME=VALUE")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def _join(options) -> None:
    """Become one of several processes, if asked to, before anything starts XLA."""
    from ..core.checks import InputError
    from ..sampler.processes import join

    if options.distributed:
        join(options.coordinator, options.process, options.processes)
        return
    for name in ("coordinator", "process", "processes"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} {getattr(options, name)} is for --distributed: give that too, or leave it out")
