"""The figures of arXiv:2405.15926, one call each: picture (PNG and SVG), numbers (CSV), and the runs behind them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..models import checks
from . import hidden_markov

FIGURES = hidden_markov.FIGURES


def figure(
    name: str,
    out: str | os.PathLike = "figures",
    *,
    seeds: Sequence[int] = (0,),
    widths: Sequence[int] | None = None,
    examples: int = 100,
    draws: int = 500,
    progress: bool = True,
    quick: bool = False,
) -> list[Path]:
    """Make one figure of the paper: theory, exact posterior, weight samples, GP limit.

    Args:
        name: one of ``FIGURES``, such as ``"2c"``.
        out: folder for picture, numbers and sample files; made if missing. Finished runs of the same settings in it
            are used again, also those of other figures.
        seeds: one task, and its chains, per seed; with several the figure shows their mean and spread.
        widths: N of the horizontal axis; default the paper's.
        examples: P, even.
        draws: draws per chain of the exact posterior.
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
    options = hidden_markov.Options(
        seeds=tuple(checks.count("seeds", seed, least=0) for seed in seeds),
        widths=None if widths is None else checks.counts("widths", widths),
        examples=checks.count("examples", examples),
        draws=checks.count("draws", draws),
        progress=progress,
        quick=quick,
    )
    folder = made_folder(out)
    return FIGURES[name](folder, options)


def made_folder(out: str | os.PathLike) -> Path:
    """``out`` as an existing folder, or ValueError with the remedy."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.InputError(f"out={str(out)!r} cannot be a folder ({error.strerror}): choose another") from None
    return folder


__all__ = ["FIGURES", "figure", "made_folder"]
