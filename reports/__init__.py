"""One self-contained HTML page about runs and sweeps: results compared with theory, plots, provenance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..core import checks, files
from ..sampler import Run
from ..sampler import open as open_run
from . import sweep
from .content import sections
from .page import render


def report(runs: Run | str | os.PathLike | Sequence[Run | str | os.PathLike], out: str | os.PathLike) -> Path:
    """Write a report of runs and sweeps as one HTML page that needs no network, no server and no other file.

    For each run: what was sampled and on what, convergence, accuracy and order parameters compared with the
    large-N theory with z-scores (``gf.compare``), heat maps of U_l, kernel alignment, head scores, trace and rank
    plots, provenance. The theory is solved for each run: seconds. For each sweep: its numbers over any two of its axes,
    as a heat map, lines and a table.

    Args:
        runs: a run, the path of a sample file, the folder of a sweep, or several of these.
        out: the page to write, ending in .html; replaced if it exists.

    Returns:
        Path of the page.

    Raises:
        ValueError: no runs, a run with too few draws to judge, a sweep without a finished point, ``out`` no .html file
            or in no folder; a sample file as ``gf.open`` says, a folder as ``gf.open_sweep``.
    """
    given = [runs] if isinstance(runs, Run | str | os.PathLike) else list(runs)
    if not given:
        raise checks.InputError("runs=[] is empty: give a run, a sample file or the folder of a sweep, or several")
    path = files.output_file("out", out, overwrite=True, example="such as report.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise checks.InputError(f"out={str(out)!r} must end in .html: use a name such as report.html")
    folders = [source for source in given if isinstance(source, str | os.PathLike) and Path(source).is_dir()]
    opened = [
        source if isinstance(source, Run) else open_run(source)
        for source in given
        if not any(source is folder for folder in folders)
    ]
    page = render(sections(opened), [sweep.section(folder, i) for i, folder in enumerate(folders, start=1)])
    files.write(path, page)
    return path


__all__ = ["report"]
