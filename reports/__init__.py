"""One self-contained HTML page about one or more runs, fit to be sent: findings beside theory, plots, provenance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .._sampling import open as open_run
from ..models import checks
from ..sampler import Run
from .content import sections
from .page import render


def report(runs: Run | str | os.PathLike | Sequence[Run | str | os.PathLike], out: str | os.PathLike) -> Path:
    """Write a report of runs as one HTML page that needs no network, no server and no other file.

    For each run: what was sampled and on what, a verdict on convergence, accuracy and order parameters beside the
    large-N theory with z-scores (``gf.compare``), heat maps of U_l, kernel alignment, head scores, trace and rank
    plots, provenance. The theory is solved for each run: seconds.

    Args:
        runs: a run, the path of a sample file, or several of either.
        out: the page to write, ending in .html; replaced if it exists.

    Returns:
        Path of the page.

    Raises:
        ValueError: no runs, a run with too few draws to judge, ``out`` no .html file or in no folder; a sample file as
            ``gf.open`` says.
    """
    given = [runs] if isinstance(runs, Run | str | os.PathLike) else list(runs)
    if not given:
        raise checks.InputError("runs=[] is empty: give a run or a sample file, or several")
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise checks.InputError(f"out={str(out)!r} is no .html file: name the page such as report.html")
    if not path.parent.is_dir():
        raise checks.InputError(f"out={str(out)!r} is in a folder that does not exist: create it first")
    opened = [run if isinstance(run, Run) else open_run(run) for run in given]
    page = render(sections(opened))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise checks.InputError(f"out={str(out)!r} cannot be written ({error.strerror}): choose another") from None
    return path


__all__ = ["report"]
