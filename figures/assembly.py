"""Panels put together as figures, or drawn alone: runs first, then pictures (PNG, SVG, PDF) and numbers (CSV)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure, FigureBase, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from ..core import files
from ..plot import style
from .options import Options
from .runs import Job, complete

KINDS = ("png", "svg", "pdf")


class Made(Protocol):
    """What the panels of a figure are drawn from: a problem, its theories and its runs.

    Attributes:
        runs: finished runs by path of their sample file.
        suffix: of the names of the files, such as the images used.
    """

    runs: dict[Path, Any]
    suffix: str

    def __init__(self, folder: Path, options: Options): ...


class Panel(NamedTuple):
    """One panel.

    Attributes:
        draw: draws on a figure or part of one; returns the numbers, by the end of the name of their CSV file.
        size: of the panel alone, in inches.
        jobs: the runs it needs.
    """

    draw: Callable[[FigureBase, Any], Mapping[str, pd.DataFrame]]
    size: tuple[float, float]
    jobs: Callable[[Any], Sequence[Job]] = lambda made: ()


class Plan(NamedTuple):
    """One figure.

    Attributes:
        number: its number in the paper.
        made: what makes the problem and its theories.
        panels: by letter.
        size: of the page, in inches.
        places: the part of a page for each letter.
    """

    number: str
    made: type[Made]
    panels: Mapping[str, Panel]
    size: tuple[float, float]
    places: Callable[[Figure], Mapping[str, FigureBase]]

    def figures(self) -> dict[str, Callable[[Path, Options], list[Path]]]:
        """Name -> function that makes the figure or one of its panels."""
        whole = {self.number: lambda folder, options: _whole(self, folder, options)}
        return whole | {f"{self.number}{letter}": _alone(self, letter) for letter in self.panels}


def split(place: FigureBase, rows: int, columns: int, **options: Any) -> list[SubFigure]:
    """Parts of a page, row by row; options are those of ``subfigures``."""
    return list(np.ravel(np.asarray(place.subfigures(rows, columns, **options), dtype=object)))


def _alone(plan: Plan, letter: str) -> Callable[[Path, Options], list[Path]]:
    def make(folder: Path, options: Options) -> list[Path]:
        panel = plan.panels[letter]
        made = plan.made(folder, options)
        made.runs |= complete(panel.jobs(made), options.progress)
        with rc_context(style.STYLE):
            figure = Figure(figsize=panel.size, layout="constrained")
            numbers = panel.draw(figure, made)
        return _written(figure, {letter: numbers}, f"{plan.number}{letter}", plan.number, folder, made.suffix)

    return make


def _whole(plan: Plan, folder: Path, options: Options) -> list[Path]:
    made = plan.made(folder, options)
    made.runs |= complete([job for panel in plan.panels.values() for job in panel.jobs(made)], options.progress)
    numbers = {}
    with rc_context(style.SMALL):
        figure = Figure(figsize=plan.size, layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
        for letter, place in plan.places(figure).items():
            place.suptitle(f"({letter})", x=0.01, ha="left", fontsize=9, fontweight="bold")
            numbers[letter] = plan.panels[letter].draw(place, made)
    return _written(figure, numbers, plan.number, plan.number, folder, made.suffix)


def _written(figure, numbers, name: str, number: str, folder: Path, suffix: str) -> list[Path]:
    paths = style.save(figure, folder, f"figure_{name}{suffix}", KINDS)
    for letter, tables in numbers.items():
        for end, table in tables.items():
            path = folder / f"figure_{number}{letter}{end}{suffix}.csv"
            files.write(path, table.to_csv(index=False))
            paths.append(path)
    return paths
