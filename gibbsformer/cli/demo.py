"""``gibbsformer demo``."""

from __future__ import annotations

from typing import Any

from .options import add_chains, add_seed
from .output import show

HELP = "figure 2c from beginning to end: table, sample files and figures in a directory"


def add_arguments(parser) -> None:
    """Where to, and how long the NUTS chains are."""
    parser.add_argument("--out", default="demo", metavar="DIR", help="directory to write (default %(default)s)")
    add_chains(parser, chains=2, warmup=100, draws=400)
    parser.add_argument(
        "--target", default="marginal", choices=("marginal", "weights"),
        help="of NUTS: V_0 integrated out, or all weights, which takes minutes (default %(default)s)",
    )  # fmt: skip
    add_seed(parser)


def run(options) -> int:
    """Make the demonstration."""
    from ..figures.demo import demo

    quiet = options.quiet or options.json
    found, files = demo(options.out, options.seed, options.chains, options.warmup, options.draws, options.target, quiet)
    names = [str(file) for file in files]
    show(options, found | {"files": names}, lambda _: f"{_render(found)}\n\nwritten: {', '.join(names)}")
    return 0


def _render(found: dict[str, Any]) -> str:
    """What the demonstration found, as text."""
    lines = ["hidden Markov chain task (arXiv:2405.15926, figure 2c): P=100, S=30, T=0.01", ""]
    lines += [f"{'N':>6} {'theory':>8} {'exact posterior':>18}   test accuracy"]
    lines += [f"{r['N']:6d} {r['theory']:8.3f} {r['exact']:10.3f} +- {r['exact_error']:.3f}" for r in found["accuracy"]]
    nuts, error = found["nuts_accuracy"]
    lines += ["", f"weight samples (NUTS) at N=10: {nuts:.3f} +- {error:.3f}"]
    lines += ["GP limit: " + ", ".join(f"{name} {value:.3f}" for name, value in found["gp_accuracy"].items())]
    rows = found["order_parameters"]
    width = max(len(row["entry"]) for row in rows)
    lines += ["", f"{'N = 10':{width}} {'theory':>8} {'exact':>8} {'MCSE':>7} {'NUTS':>8} {'MCSE':>7} {'z':>5}"]
    lines += [
        f"{r['entry']:{width}} {r['theory']:8.3f} {r['exact']:8.3f} {r['exact_mcse']:7.3f} {r['nuts']:8.3f} "
        f"{r['nuts_mcse']:7.3f} {r['z']:5.1f}"
        for r in rows
    ]
    lines += ["(z: NUTS against exact; the theory is exact for N -> infinity)", ""]
    for name, c in found["convergence"].items():
        lines.append(
            f"{name}: largest R-hat {c['rhat']:.3f}, minimum ESS {c['ess_bulk']:.0f}, {c['divergences']} divergences"
        )
        lines += [f"! {problem}" for problem in c["problems"]]
    return "\n".join(lines)
