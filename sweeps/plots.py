"""Ready plots of a sweep: lines over the width, a heat map over width and temperature."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ..core import checks
from ..core.text import literal
from ..plot import style

_LOOKS: dict[str, dict[str, Any]] = {  # of a quantity, by the suffix of its variables
    "theory": {"linestyle": "-"},
    "exact": {"linestyle": "none", "marker": "o", "markersize": 4, "capsize": 2},
    "weights": {"linestyle": "none", "marker": "s", "markersize": 8, "markerfacecolor": "none", "capsize": 3},
    "gp": {"linestyle": ":"},
}
_WORDS = {"theory": "theory", "exact": "exact posterior", "weights": "weight samples", "gp": "GP limit"}
_LABELS = {
    "accuracy": "test accuracy",
    "r_squared": "test $R^2$",
    "log_evidence": "log evidence (nats)",
    "U_a": "order parameter $U_a$",
    "bias": "bias (mean squared error of the mean)",
    "variance": "variance of $f$",
}


def lines(data: xr.Dataset, quantity: str = "accuracy", *, against: str = "width", colours: str = "temperature", **at):
    """A quantity over the width, a colour per temperature; lines are the theory, dots the exact posterior.

    Means over seeds; error bars of dots are their spread where there are several, and Monte Carlo errors otherwise.

    Args:
        data: from ``open_sweep``.
        quantity: ``"accuracy"``, ``"log_evidence"``, ``"U_a"``, or any variable without its suffix.
        against: axis along the horizontal, ``"width"``, ``"temperature"`` or ``"examples"``, drawn logarithmically.
        colours: axis with a colour per value.
        at: label of every other axis that has several, such as ``task="hmm"``, ``paths="all"``, ``kernel="chees"``.

    Returns:
        matplotlib Figure; ``gf.plot.save(figure, folder, name)`` writes it.

    Raises:
        ValueError: an unknown quantity, axis or label, or an axis of several labels of which none is chosen.
    """
    for name, axis in (("against", against), ("colours", colours)):
        checks.nearest(name, axis, [str(dim) for dim in data.dims])
    checks.nearest("quantity", quantity, _quantities(data))
    found = {name: data[f"{quantity}_{name}"] for name in _LOOKS if f"{quantity}_{name}" in data}
    found = found or {"exact": data[quantity]}
    figure, (axes,) = style.new_figure()
    values = data[colours].values
    shades = _shades(len(values))
    axes.set(xscale="log", xlabel=_axis_label(against), ylabel=_LABELS.get(quantity, quantity.replace("_", " ")))
    for name, array in found.items():
        array = _chosen(array, (against, colours), at)
        errors = _errors(data, quantity, name, array, (against, colours), at)
        for value, shade in zip(values, shades, strict=True):
            mean = (array.mean("seed") if "seed" in array.dims else array).sel({colours: value}, drop=True)
            if not np.isfinite(mean).any():
                continue
            bars = None if errors is None else errors.sel({colours: value}).values
            axes.errorbar(
                _numbers(data, against), mean.values, bars, color=shade, **_LOOKS[name],
            )  # fmt: skip
    for name in found:
        axes.plot([], [], color=style.BLACK, label=_WORDS[name], **_drawn(name))
    for value, shade in zip(values, shades, strict=True):
        axes.plot([], [], color=shade, linewidth=4, label=f"{_axis_label(colours)} = {literal(str(value))}")
    with rc_context(style.STYLE):
        style.below(axes, columns=3)
    return figure


def heat_map(data: xr.Dataset, variable: str = "accuracy_exact", **at) -> Figure:
    """A variable over width and temperature, mean over seeds.

    Args:
        data: from ``open_sweep``.
        variable: name of a variable, such as ``"accuracy_theory"`` or ``"log_evidence"``.
        at: label of every other axis that has several.

    Returns:
        matplotlib Figure; cells without a finished point stay blank.

    Raises:
        ValueError: an unknown variable or label, or an axis of several labels of which none is chosen.
    """
    checks.nearest("variable", variable, [str(name) for name in data])
    array = _chosen(data[variable], ("width", "temperature"), at)
    array = array.mean("seed") if "seed" in array.dims else array
    values = array.transpose("temperature", "width").values
    figure, (axes,) = style.new_figure()
    image = axes.imshow(values, cmap="viridis", aspect="auto", origin="lower")
    axes.set_xticks(range(values.shape[1]), [literal(str(v)) for v in data["width"].values])
    axes.set_yticks(range(values.shape[0]), [str(v) for v in data["temperature"].values])
    axes.set(xlabel=_axis_label("width"), ylabel=_axis_label("temperature"))
    axes.spines[:].set_visible(False)
    if values.size <= 100:
        style.written(axes, image, ".3g")
    figure.colorbar(image, ax=axes, label=variable.replace("_", " "))
    return figure


def _chosen(array: xr.DataArray, kept: tuple[str, ...], at: dict[str, Any]) -> xr.DataArray:
    """``array`` over the kept axes and seeds only: axes of one label dropped, others as chosen."""
    for name in at:
        checks.nearest("axis", name, [str(dim) for dim in array.dims] + ["kernel", "path", "path_prime"])
    for dim in [str(dim) for dim in array.dims if dim not in kept]:
        labels = array[dim].values.tolist()
        if dim in at:
            if at[dim] not in labels:
                raise checks.InputError(f"{dim}={at[dim]!r} is not in this sweep: choose one of {checks.brief(labels)}")
            array = array.sel({dim: at[dim]}, drop=True)
        elif len(labels) == 1:
            array = array.isel({dim: 0}, drop=True)
        elif dim != "seed":
            raise checks.InputError(f"{dim} has {len(labels)} values {checks.brief(labels)}: choose one with {dim}=..")
    return array


def _errors(data, quantity, name, array, kept, at) -> xr.DataArray | None:
    if _LOOKS[name]["linestyle"] != "none":  # bars belong to dots: lines carry no Monte Carlo error
        return None
    if "seed" in array.dims:
        return array.std("seed", ddof=1)
    for stored in (f"{quantity}_error_{name}", f"{quantity}_mcse_{name}", f"{quantity}_error"):
        if stored in data:
            return _chosen(data[stored], kept, at)
    return None


def _drawn(name: str) -> dict[str, Any]:
    return {key: look for key, look in _LOOKS[name].items() if key != "capsize"}


def _quantities(data: xr.Dataset) -> list[str]:
    ends = tuple(f"_{name}" for name in _LOOKS)
    return sorted({str(v).rpartition("_")[0] if str(v).endswith(ends) else str(v) for v in data})


def _shades(count: int) -> list[str]:
    return [to_hex(matplotlib.colormaps["viridis"](0.9 * i / max(1, count - 1))) for i in range(count)]


def _axis_label(axis: str) -> str:
    names = {"width": "width $N$", "temperature": "temperature $T$", "examples": "training examples $P$"}
    return names.get(axis, axis)


def _numbers(data: xr.Dataset, axis: str) -> np.ndarray:
    values = data[axis].values
    if not np.issubdtype(values.dtype, np.number):
        raise checks.InputError(
            f"against={axis!r} has labels {checks.brief(values.tolist())}: choose an axis of numbers"
        )
    return values
