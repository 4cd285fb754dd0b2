"""The command line: ``gibbsformer VERB ..``; what the verbs do is in ``_commands``.

Numbers as text for people, ``--json`` for programs; progress on stderr. Exit code 0 on success, 2 on bad input with
one line on stderr, 1 for a sweep with points that failed or a benchmark that got slower, 3 for a run that was required
to converge and did not.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from . import __version__
from . import _commands as commands


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"gibbsformer: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")  # its notice of a coming 1.0
    import jax

    from .diagnostics import ConvergenceWarning
    from .evidence import EvidenceWarning

    # One XLA device per core lets chains run side by side on a CPU; draws do not depend on it. A sweep keeps to one,
    # as its workers have, so that its numbers are the same to the last bit.
    if options.verb != "sweep" and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    from .core.checks import InputError
    from .sweeps import SchedulerLost

    for category in (ConvergenceWarning, EvidenceWarning):
        warnings.filterwarnings("ignore", category=category)  # every verb prints the verdict itself
    try:
        return options.run(options)
    except InputError as error:
        print(f"gibbsformer: {error}", file=sys.stderr)
        return 2
    except SchedulerLost as error:
        print(f"gibbsformer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("gibbsformer: stopped by the user", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="gibbsformer", description="Sampling and theory of deep linear-value multi-head attention.")
    parser.add_argument("--version", action="version", version=f"gibbsformer {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)

    demo = _verb(verbs, "demo", commands.demo, "the main job end to end: table, sample file and figures in a folder")
    demo.add_argument("--out", default="demo", metavar="DIR", help="folder to write (default %(default)s)")
    _chain_options(demo, chains=2, warmup=300, draws=800)
    _seed(demo)

    sample = _verb(verbs, "sample", commands.sample, "draw from the posterior of a task")
    _problem_options(sample)
    sample.add_argument("--kernel", default="collapsed", help="kernel by name (default %(default)s)")
    sample.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the kernel; may be repeated"
    )
    sample.add_argument("--init", help="collapsed: start kernels over weights at exact draws")
    sample.add_argument("--thin", type=int, default=1, help="transitions per draw (default %(default)s)")
    _until_options(sample)
    _chain_options(sample, chains=4, warmup=500, draws=1000)
    sample.add_argument("--chains-at-once", type=int, metavar="K", help="chains a device moves at once (default: all)")
    sample.add_argument("--out", required=True, metavar="FILE", help="sample file to write, such as run.h5")
    sample.add_argument("--overwrite", action="store_true", help="replace an existing file")
    sample.add_argument("--keep", help="weights or order_parameters (default: the kernel's own)")
    sample.add_argument("--precision", default="auto", help="auto, float32 or float64 (default %(default)s)")
    sample.add_argument("--require-converged", action="store_true", help="exit 3 unless R-hat and ESS are good")
    sample.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, each with a share of the chains and a file",
    )
    sample.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0 (default: found, as by SLURM)")
    sample.add_argument("--process", type=int, metavar="I", help="number of this process, from 0 (default: found)")
    sample.add_argument("--processes", type=int, metavar="N", help="number of processes (default: found)")

    theory = _verb(verbs, "theory", commands.theory, "solve the large-N theory of a task")
    _problem_options(theory)

    figure = _verb(verbs, "figure", commands.figure, "a figure of the paper: picture, numbers, sample files")
    figure.add_argument("name", metavar="NAME", help="1c, 2c, 2d, 2e, 3b, 3c, 3d, 3e or 3f")
    figure.add_argument("--out", default="figures", metavar="DIR", help="folder to write (default %(default)s)")
    figure.add_argument("--seeds", type=int, nargs="+", default=[0], help="one task per seed; several give bands")
    figure.add_argument("--widths", type=int, nargs="+", metavar="N", help="widths (default: the paper's)")
    figure.add_argument(
        "--temperatures", type=float, nargs="+", metavar="T", help="of figures 3 (default: the paper's)"
    )
    figure.add_argument("--examples", type=int, metavar="P", help="training examples (default: the paper's)")
    figure.add_argument("--draws", type=int, help="draws per chain of the exact posterior")
    figure.add_argument("--data", default="glyphs", metavar="SET", help="images of figures 3 (default %(default)s)")
    figure.add_argument("--network", metavar="FILE", help="trained network of figures 3 (default: train one)")
    figure.add_argument("--quick", action="store_true", help="few widths and draws: the layout in seconds")
    figure.add_argument("--quiet", action="store_true", help="no progress line")

    evidence = _verb(verbs, "evidence", commands.evidence, "log evidence of a task's labels, with its standard error")
    _problem_options(evidence)
    evidence.add_argument("--particles", type=int, default=256, help="particles of each pass (default %(default)s)")
    evidence.add_argument("--repeats", type=int, default=4, help="passes that count (default %(default)s)")

    sweep = _verb(verbs, "sweep", commands.sweep, "compute the points of a plan that a folder lacks")
    sweep.add_argument("plan", metavar="PLAN", help="plan.toml: tables [axes] and [compute], see docs/sweeps.md")
    sweep.add_argument("--out", required=True, metavar="DIR", help="folder of results, made or continued")
    sweep.add_argument("--workers", type=int, default=1, help="processes on this machine (default %(default)s)")
    sweep.add_argument("--scheduler", metavar="ADDRESS", help="Dask scheduler to compute on, instead of workers")
    sweep.add_argument("--gpus-per-point", type=int, default=0, metavar="N", help="GPUs a point takes of its worker")
    sweep.add_argument("--discard-samples", action="store_true", help="remove sample files of finished points")
    sweep.add_argument("--yes", action="store_true", help="start however many points there are")
    sweep.add_argument("--quiet", action="store_true", help="no progress line")

    bench = _verb(verbs, "bench", commands.bench, "measure speed, beside other samplers and the last record")
    bench.add_argument("suites", nargs="*", metavar="SUITE", help="gradient, peers, scaling, .. (default: all)")
    bench.add_argument("--quick", action="store_true", help="small sizes")
    bench.add_argument("--minutes", type=float, metavar="M", help="stop after M minutes, whatever is left")
    bench.add_argument("--out", default="bench", metavar="DIR", help="folder of records (default %(default)s)")
    bench.add_argument("--data", default="glyphs", metavar="SET", help="images of suite oneshot (default %(default)s)")
    bench.add_argument("--network", metavar="FILE", help="trained network of suite oneshot (default: train one)")

    compare = _verb(verbs, "compare", commands.compare, "a sample file beside the theory")
    compare.add_argument("file", metavar="FILE", help="sample file")

    report = _verb(verbs, "report", commands.report, "one HTML page about runs and sweeps, to send")
    report.add_argument("files", nargs="+", metavar="FILE", help="sample files, or folders of sweeps")
    report.add_argument("--out", default="report.html", metavar="FILE", help="page to write (default %(default)s)")

    resume = _verb(verbs, "resume", commands.resume, "continue a stored run from its last commit")
    resume.add_argument("file", metavar="FILE", help="sample file")
    resume.add_argument("--draws", type=int, help="draws per chain in the end (default: as first asked)")
    _until_options(resume)
    _progress_options(resume)
    resume.add_argument("--require-converged", action="store_true", help="exit 3 unless R-hat and ESS are good")

    inspect = _verb(verbs, "inspect", commands.inspect, "what a sample file holds")
    inspect.add_argument("file", metavar="FILE", help="sample file")
    inspect.add_argument("--verify", action="store_true", help="read every chunk and check the checksums")

    merge = _verb(verbs, "merge", commands.merge, "join the chains of several sample files")
    merge.add_argument("files", nargs="+", metavar="FILE", help="sample files of one problem")
    export = _verb(verbs, "export", commands.export, "write part of a sample file as a plain netCDF file")
    export.add_argument("file", metavar="FILE", help="sample file")
    export.add_argument("--variables", nargs="+", metavar="NAME", help="variables to write (default: all)")
    export.add_argument("--thin", type=int, default=1, metavar="N", help="write every N-th draw (default %(default)s)")
    export.add_argument("--mantissa-bits", type=int, metavar="B", help="round draws to B bits (default: exact)")
    export.add_argument("--compression", help="gzip (default: none)")
    for verb in (merge, export):
        verb.add_argument("--out", required=True, metavar="FILE", help="file to write")
        verb.add_argument("--overwrite", action="store_true", help="replace an existing file")

    train = _verb(verbs, "train", commands.train, "train query and key weights on one-shot image episodes")
    train.add_argument("--data", required=True, metavar="SET", help="images: glyphs, omniglot or omniglot=PATH")
    train.add_argument("--config", default="small", help="small or paper (default %(default)s)")
    train.add_argument("--steps", type=int, metavar="N", help="steps in the end (default: the configuration's)")
    train.add_argument(
        "--patience", type=int, metavar="N", help="stop when held-out accuracy has not risen for N steps"
    )
    train.add_argument("--seed", type=int, default=0, help="sets start and episodes (default %(default)s)")
    train.add_argument("--out", required=True, metavar="FILE", help="file to write, such as net.safetensors")
    train.add_argument("--resume", action="store_true", help="go on from an existing file")
    train.add_argument("--quiet", action="store_true", help="no progress line")
    return parser


def _verb(verbs, name, run, text):
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(run=run)
    verb.add_argument("--json", action="store_true", help="print JSON instead of text")
    return verb


def _problem_options(verb):
    verb.add_argument("--task", default="hmm", help="hmm, or an .npz file of your own arrays (default %(default)s)")
    verb.add_argument("--width", type=int, default=10, metavar="N", help="N_1 = .. = N_{L+1} (default %(default)s)")
    verb.add_argument("--temperature", type=float, metavar="T", help="temperature (default: the task's, 0.01)")
    _seed(verb)


def _chain_options(verb, chains, warmup, draws):
    verb.add_argument("--chains", type=int, default=chains, help="number of chains (default %(default)s)")
    verb.add_argument("--warmup", type=int, default=warmup, help="warm-up transitions per chain (default %(default)s)")
    verb.add_argument("--draws", type=int, default=draws, help="draws per chain (default %(default)s)")
    _progress_options(verb)


def _progress_options(verb):
    verb.add_argument("--quiet", action="store_true", help="no progress line")
    verb.add_argument("--progress", default="bar", choices=("bar", "json"), help="bar, or JSON lines for programs")


def _until_options(verb):
    verb.add_argument("--until-ess", type=float, metavar="ESS", help="stop once every entry of U has this ESS")
    verb.add_argument("--until-rhat", type=float, metavar="RHAT", help="stop once every R-hat of U is below this")
    verb.add_argument("--max-seconds", type=float, metavar="S", help="stop after S seconds")


def _seed(verb):
    verb.add_argument("--seed", type=int, default=0, help="sets task and chains (default %(default)s)")


if __name__ == "__main__":
    sys.exit(main())
