"""The figures of arXiv:2405.15926, and that of residual streams: picture (PNG and SVG), numbers (CSV), and the runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..core import checks, files
from . import hidden_markov, one_shot, residual
from .options import Options

FIGURES = hidden_markov.FIGURES | one_shot.FIGURES | residual.FIGURES


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
    """Make one figure of the paper, or ``"residual"``: theory, exact posterior, weight samples, GP limit.

    Args:
        name: one of ``FIGURES``, such as ``"2c"``.
        out: directory for picture, numbers and sample files, created if needed. Finished runs of the same settings in
            it are reused, also those of other figures.
        seeds: one task, and its chains, per seed; with several the figure shows their mean and spread (figures 3: the
            first alone).
        widths: N of the horizontal axis; default the paper's.
        temperatures: T among which figures 3 look for the best; default the paper's.
        examples: P, even; default 100, for figures 3 600.
        draws: draws per chain of the exact posterior; default 500, for figures 3 100.
        data: characters of figures 3: ``"glyphs"``, ``"omniglot"`` or ``"omniglot=PATH"``.
        network: trained network whose attention figures 3 use, a .safetensors file; default one trained in ``out``.
        progress: progress on stderr.
        quick: few draws and widths, to see the layout in seconds.

    Returns:
        Paths of what was written: PNG, SVG, CSV.

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
