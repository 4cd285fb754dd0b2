"""``gibbsformer evidence``."""

from __future__ import annotations

from .options import add_problem, chains_key, problem
from .output import show

HELP = "log evidence of a task's labels, with its standard error"


def add_arguments(parser) -> None:
    """Task and particles."""
    add_problem(parser)
    parser.add_argument("--particles", type=int, default=256, help="particles of each replicate (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=4, help="replicates that count (default %(default)s)")
    parser.add_argument("--method", default="auto", help="auto, importance or smc (default %(default)s)")


def run(options) -> int:
    """Estimate the evidence."""
    from ..evidence import evidence
    from ..evidence.selection import evidence_findings
    from ..reports.text import render_evidence

    task, posterior = problem(options)
    asked = {"particles": options.particles, "repeats": options.repeats, "method": options.method}
    found = evidence(posterior, key=chains_key(options), **asked)
    show(options, evidence_findings(found, task.test_set), render_evidence)
    return 0
