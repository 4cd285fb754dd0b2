"""The figures of arXiv:2405.15926, whole or one panel, and two beyond it: pictures, numbers, runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..core import checks, files
from . import figure_1, figure_2, figure_3, heads, residual
from .options import Options

FIGURES = figure_1.PLAN.figures() | figure_2.PLAN.figures() | figure_3.PLAN.figures()
FIGURES |= residual.FIGURES | heads.FIGURES


def figure(
    name: str,
    out: str | os.PathLike = "figures",
    *,
    seeds: Sequence[int] = (0,),
    widths: Sequence[int] | None = None,
    temperatures: Sequence[float] | None = None,
    examples: int | None = None,
    draws: int | None = None,
    data: str = "glyphs",
    network: str | os.PathLike | None = None,
    progress: bool = True,
    quick: bool = False,
) -> list[Path]:
    """Make a figure of the paper, one of its panels, ``"residual"`` or ``"heads"``.

    Args:
        name: one of ``FIGURES``: ``"1"``, ``"2"``, ``"3"``, or one panel, such as ``"2c"``, by the paper's letters;
            ``"residual"``, networks with skip connections; ``"heads"``, all scores of the heads of figure 3's network.
        out: directory for pictures, numbers and sample files, created if needed. Finished runs of the same settings in
            it are reused, also those of other figures, and begun ones are continued.
        seeds: one task, and its chains, per seed; with several the figure shows their mean and spread (figures 3: the
            first alone).
        widths: N of the horizontal axis; default the paper's.
        temperatures: T among which figures 3 look for the best; default the paper's. Figure heads takes one.
        examples: P, even; default 100, for figures 3 600, for figure heads 300.
        draws: draws per chain of the exact posterior; default 500, for figures 3 100.
        data: characters of figures 3 and heads: ``"glyphs"``, ``"omniglot"`` or ``"omniglot=PATH"``.
        network: trained network whose attention they use, a .safetensors file; default one trained in ``out``.
        progress: progress on stderr, with the time left from the cost of the runs so far.
        quick: few draws and widths, to see the layout in seconds.

    Returns:
        Paths of what was written: PNG, SVG, PDF, and one CSV or more for each panel.

    Raises:
        ValueError: an unknown figure (the nearest is offered) or an argument out of range, before anything runs.
    """
    checks.nearest("figure", name, FIGURES)
    if isinstance(seeds, int) or not len(seeds):
        raise checks.InputError(f"seeds={checks.brief(seeds)} must list one or more whole numbers, such as (0, 1, 2)")
    options = Options(
        seeds=tuple(checks.count("seeds", seed, least=0) for seed in seeds),
        widths=None if widths is None else checks.counts("widths", widths),
        temperatures=None if temperatures is None else checks.positives("temperatures", temperatures),
        examples=None if examples is None else checks.count("examples", examples),
        draws=None if draws is None else checks.count("draws", draws),
        data=data,
        network=None if network is None else os.fspath(network),
        progress=progress,
        quick=quick,
    )
    folder = files.output_folder("out", out)
    return FIGURES[name](folder, options)


__all__ = ["FIGURES", "figure"]
