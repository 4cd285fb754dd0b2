"""What verbs print: JSON for programs, or text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def show(options, found: Any, render: Callable[[Any], str]) -> None:
    """Print findings as JSON, or as the text that ``render`` makes of them, escapes for terminals made visible."""
    from ..core import console
    from ..core.text import dumps, visible  # not above: it imports JAX

    try:
        print(dumps(found) if options.json else visible(render(found)), flush=True)
    except BrokenPipeError:  # its reader has seen enough, as `head` has: the work is done, and the exit code its own
        console.silence(sys.stdout)


def say(text: str) -> None:
    """Print a line to stderr, in our name."""
    from ..core import console
    from ..core.text import visible

    console.say(f"gibbsformer: {visible(text)}")


def written(options, *files) -> int:
    """Print the names of the files written; the exit code."""
    names = [str(file) for file in files or (options.out,)]
    found = {"files": names} if files else {"file": options.out}
    show(options, found, lambda _: "written: " + ", ".join(names))
    return 0


def show_run(run, options) -> dict[str, Any]:
    """Print a run, compared with theory where there is one; returns the findings."""
    from .. import theory
    from ..diagnostics.findings import own_findings, run_findings
    from ..models import Posterior
    from ..reports.text import render_own, render_run

    if not isinstance(run.posterior, Posterior):
        found = own_findings(run)
        show(options, found, render_own)
        return found
    found = run_findings(run, theory.solve(run.posterior), theory.gp(run.posterior))
    show(options, found, render_run)
    return found


def sampled(run, options) -> int:
    """Print what a run found; the exit code."""
    from ..sampler.convergence import MIN_DRAWS

    ended = run.settings.get("ended")
    if ended == "interrupt":
        say(f"interrupted; continue with: gibbsformer resume {run.path}")
    converged = False
    if run.draws >= MIN_DRAWS:
        converged = show_run(run, options)["convergence"]["converged"]
    else:
        why = "the time was over before there were more" if ended == "time" else f"{MIN_DRAWS} say something"
        show(options, {"file": run.path, "draws": run.draws}, lambda f: f"{f['draws']} draws in {f['file']}: {why}")
    if ended == "interrupt":
        return 130
    return 3 if options.require_converged and not converged else 0
