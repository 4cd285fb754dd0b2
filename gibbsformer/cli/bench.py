"""``gibbsformer bench``."""

from __future__ import annotations

import argparse

from .output import show

HELP = "measure speed and compare it with other samplers and the previous record"


def add_arguments(parser) -> None:
    """Which suites, how large, how long."""
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="gradient, peers, scaling, .. (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after M minutes, whatever is left")
    parser.add_argument(
        "--device",
        choices=("cpu", "gpu"),
        help="where to run; gpu: its suites and sizes, with a share of M minutes each",
    )
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)  # of one suite, from the process that runs all
    parser.add_argument("--out", default="bench", metavar="DIR", help="directory of records (default %(default)s)")
    parser.add_argument("--data", default="glyphs", metavar="SET", help="images of suite oneshot (default %(default)s)")
    parser.add_argument("--network", metavar="FILE", help="trained network of suite oneshot (default: train one)")


def run(options) -> int:
    """Run the suites; exit code 1 if one failed or got slower."""
    from ..benchmarks import Options, bench
    from ..benchmarks.suite import render, summary

    asked = Options(options.quick, options.data, options.network, options.device, options.seconds)
    found = bench(options.suites, options.out, minutes=options.minutes, options=asked)
    show(options, found, lambda suites: "\n\n".join([*map(render, suites), *[summary(suites)] * (len(suites) > 1)]))
    return 1 if any(suite["problem"] or suite["slower"] for suite in found) else 0
