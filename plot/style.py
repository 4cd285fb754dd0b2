"""One legible style for all plots: fonts, colours of the Okabe-Ito and Tol sets, axes to draw on, files."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.transforms import ScaledTranslation

from ..core import checks, files

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.titlesize": "medium",
    "lines.linewidth": 1.3,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # fonts stay text in PDF too
}
BLUE, RED, BLACK, ORANGE, GREEN = "#0072B2", "#CC3311", "#000000", "#E69F00", "#009E73"
SMALL: dict[Any, Any] = STYLE | {  # for a page of many panels
    "font.size": 7.5,
    "legend.fontsize": 6.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
SERIES = (BLUE, ORANGE, BLACK, GREEN, "#CC79A7")
KINDS = ("png", "svg")


@contextlib.contextmanager
def drawn_on(ax: Axes | None, size: tuple[float, float] = (4.6, 3.8)) -> Iterator[Axes]:
    """The axes given, or new ones in our style.

    Raises:
        ValueError: something else than axes.
    """
    if ax is None:
        with several_on(None, 1, size) as (new,):
            yield new
    elif isinstance(ax, Axes):
        yield ax
    else:
        raise checks.InputError(f"ax is a {type(ax).__name__}: give matplotlib axes, or leave ax out for new ones")


@contextlib.contextmanager
def several_on(axes, count: int, size: tuple[float, float]) -> Iterator[np.ndarray]:
    """As many axes as given, or new ones side by side, each of a size in inches.

    Raises:
        ValueError: another number of axes.
    """
    if axes is not None:
        found = np.ravel(axes)
        if len(found) != count or not all(isinstance(each, Axes) for each in found):
            raise checks.InputError(f"axes must be {count} matplotlib axes: give so many, or leave axes out")
        yield found
        return
    import matplotlib.pyplot as plt  # not above: it chooses a window system

    with rc_context(STYLE):
        figure = plt.figure(figsize=(size[0] * count, size[1]), layout="constrained")
        yield figure.subplots(1, count, squeeze=False)[0]


def new_figure(columns: int = 1, size: tuple[float, float] = (4.6, 4.0)) -> tuple[Figure, list[Axes]]:
    """A figure with axes side by side, in our style, that no window system knows."""
    with rc_context(STYLE):
        figure = Figure(figsize=(size[0] * columns, size[1]), layout="constrained")
        return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def below(axes: Axes, columns: int = 2, size: str | None = None) -> None:
    """A legend below the label of the horizontal axis, where it covers no data; its letters of a size by name."""
    down = ScaledTranslation(0, -3.6 * rcParams["font.size"] / 72, axes.figure.dpi_scale_trans)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=axes.transAxes + down, ncol=columns,
        columnspacing=1.2, borderaxespad=0, frameon=False, fontsize=size,
    )  # fmt: skip


def written(axes: Axes, image: AxesImage, form: str) -> None:
    """The value of each cell of a heat map, in black or white, whichever is legible; none where it is not a number."""
    cells: Any = image.get_array()
    values = np.ma.filled(cells, np.nan)
    red, green, blue, _ = np.moveaxis(image.to_rgba(values), -1, 0)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5  # luma
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "white" if dark[i, j] else "black"
            axes.text(j, i, format(value, form), ha="center", va="center", fontsize="x-small", color=colour)


@contextlib.contextmanager
def _without_remarks(name: str) -> Iterator[None]:
    """A library that remarks on fonts as they are embedded keeps to errors, for as long as this lasts."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def save(figure: Figure, folder: str | Path, name: str, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Write a figure, as PNG with 200 dots an inch.

    Args:
        figure: matplotlib figure, such as ``axes.figure``.
        folder: made if it does not exist.
        name: of the files, without a suffix.
        kinds: ``"png"``, ``"svg"``, ``"pdf"``.

    Returns:
        Paths of the files.

    Raises:
        ValueError: ``folder`` is a file, or cannot be written to; a name with a slash; an unknown kind.
    """
    if not name or os.sep in name:
        raise checks.InputError(f"name={name!r} must be the name of a file alone: give its directory as folder")
    for kind in kinds:
        checks.nearest("kind", kind, ("png", "svg", "pdf"))
    made = files.output_folder("folder", folder)
    paths = [made / f"{name}.{kind}" for kind in kinds]
    with rc_context(STYLE), _without_remarks("fontTools"):
        for path in paths:
            picture = io.BytesIO()
            figure.savefig(picture, format=path.suffix[1:], dpi=200)
            files.write(path, picture.getvalue())
    return paths
