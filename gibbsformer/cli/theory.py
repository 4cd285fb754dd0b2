"""``gibbsformer theory``."""

from __future__ import annotations

from .options import add_problem, problem
from .output import show

HELP = "solve the large-N theory of a task"


def add_arguments(parser) -> None:
    """Task, width, temperature."""
    add_problem(parser)


def run(options) -> int:
    """Solve the theory and its GP limit."""
    from .. import theory
    from ..diagnostics.findings import theory_findings
    from ..reports.text import render_theory

    task, posterior = problem(options)
    show(options, theory_findings(theory.solve(posterior), theory.gp(posterior), task.test_set), render_theory)
    return 0
