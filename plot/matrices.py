"""Order parameters as heat maps over pairs of paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm

from ..core import checks
from ..core.text import literal
from ..diagnostics.kernels import mean_order_parameter
from ..models.records import entry_labels
from ..models.solvable import check_solvable
from ..sampler import Run
from ..theory import Theory
from .style import drawn_on, written

_FEW = 6  # rows up to which cells carry their value


def order_parameters(
    source,
    *,
    layer: int = 1,
    names: Sequence[str] = (),
    largest: float | None = None,
    values: bool | None = None,
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Heat map of an order parameter over pairs of paths, on a symmetric scale that is logarithmic beyond 1.

    Args:
        source: a theory, a run (posterior mean), or a symmetric array [k, k].
        layer: l of U_l; layer 1 is the paper's U.
        names: of the rows; default those of the paths.
        largest: value at the ends of the colour scale; default the largest that is shown. Give the same to compare
            maps.
        values: write the value into each cell; default for six rows or fewer.
        colorbar: draw the scale beside the map.
        ax: axes to draw on; default new ones.

    Returns:
        The axes; ``axes.images[0]`` holds the values.

    Raises:
        ValueError: a layer that the network does not have, or another number of names.
    """
    U, found = _matrix(source, layer)
    names = [literal(str(name)) for name in (names if len(names) else found)]
    if len(names) != len(U):
        raise checks.InputError(f"names has {len(names)} entries and the matrix {len(U)} rows: give one name each")
    largest = float(np.abs(U).max()) if largest is None else checks.positive("largest", largest)
    few = len(U) <= _FEW
    with drawn_on(ax, (4.2, 3.8)) as axes:
        image = axes.imshow(U, cmap="RdBu_r", norm=SymLogNorm(1.0, vmin=-largest, vmax=largest))
        slanted: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(names)), names, **(slanted if few else {"rotation": 90}))
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if few if values is None else values:
            written(axes, image, ".2f")
        if colorbar:
            symbol = "U" if layer == 1 else f"U_{layer}"
            axes.figure.colorbar(image, ax=axes, label=f"order parameter ${symbol}$", shrink=0.8, format="{x:g}")
    return axes


def _matrix(source, layer: int) -> tuple[np.ndarray, Sequence[str]]:
    """The matrix and the names of its rows."""
    if not isinstance(source, Theory | Run):
        U = checks.array("source", source, "k, k")
        return U, [str(i) for i in range(1, len(U) + 1)]
    check_solvable("an order parameter", source.posterior)
    depth = source.posterior.network.depth
    if checks.count("layer", layer) > depth:
        raise checks.InputError(f"layer={layer} does not exist: choose 1 to {depth}")
    if layer == 1:
        U = mean_order_parameter(source)
    elif isinstance(source, Theory):
        U = source.U[layer - 1]
    else:
        U = source.order_parameters.U[layer - 1].mean((0, 1))
    names: Sequence[str] = source.paths or () if isinstance(source, Theory) and layer == 1 else ()
    posterior = source.posterior
    return U, names or entry_labels(posterior.network, posterior.data.path_names, posterior.classes or ())[layer - 1]
