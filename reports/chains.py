"""Trace and rank plots of U and f by ArviZ, as pictures inside the page."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..core.text import literal
from ..diagnostics import moments
from ..diagnostics.findings import entries
from ..models.records import entry_labels
from ..sampler import Run

SHOWN_U, SHOWN_F = 4, 2


def plots(run: Run) -> dict[str, Any] | None:
    """Trace and rank plots of the entries of U, and of f on the test inputs, that mix worst.

    Returns:
        {"entries": their names, "trace", "rank": PNG data URIs}; None with ArviZ 1, whose plots are made otherwise.
    """
    import arviz

    if not arviz.__version__.startswith("0."):
        return None
    found = worst(run)
    data = found.rename({name: literal(str(name)) for name in found})
    n = len(data)
    with rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        trace = Figure(figsize=(8.6, 1.35 * n), layout="constrained")
        arviz.plot_trace(arviz.InferenceData(posterior=data), axes=trace.subplots(n, 2, squeeze=False), show=False)
        rank = Figure(figsize=(8.6, 1.6 * -(-n // 2)), layout="constrained")
        grid = rank.subplots(-(-n // 2), 2, squeeze=False).ravel()
        arviz.plot_rank(data, ax=grid[:n], show=False)
        for spare in grid[n:]:
            spare.set_axis_off()
        for figure in (trace, rank):
            for axes in figure.axes:
                axes.title.set_fontsize(8)
                axes.tick_params(labelsize=7)
                axes.xaxis.label.set_fontsize(7)
                axes.yaxis.label.set_fontsize(7)
        return {"entries": [str(name) for name in found], "trace": _uri(trace), "rank": _uri(rank)}


def worst(run: Run) -> xr.Dataset:
    """U_a, the entries of U and the test outputs f with the smallest bulk ESS, each [chain, draw]."""
    import arviz

    if "U_a" not in run.variables:
        return _worst_monitored(run)
    U_a, U = run.order_parameters
    labels = entry_labels(run.posterior.network, run.posterior.data.path_names, run.posterior.classes or ())
    entries = {"U_a": U_a if U_a.ndim == 2 else np.trace(U_a, axis1=2, axis2=3)}
    found: dict[str, tuple[float, np.ndarray]] = {}
    for l, draws in enumerate(U, start=1):
        ess = moments(draws)["ess_bulk"]
        for i, j in zip(*np.triu_indices(draws.shape[-1]), strict=True):
            name = f"U_{l}[{labels[l - 1][i]}, {labels[l - 1][j]}]"
            found[name] = (float(ess[i, j]), draws[:, :, i, j])
    entries |= {name: found[name][1] for name in sorted(found, key=lambda name: found[name][0])[:SHOWN_U]}
    for name in ("f", "f_mean"):
        if name in run.variables:
            f = np.asarray(run.variables[name], np.float64)
            f = f.reshape(*f.shape[:3], -1)[..., 0]  # the first of several outputs stands for all
            outputs = xr.Dataset({"f": (("chain", "draw", "example"), f)})
            for i in np.argsort(arviz.ess(outputs)["f"].values)[:SHOWN_F]:
                entries[f"{name}(test example {i})"] = f[:, :, i]
    return xr.Dataset({name: (("chain", "draw"), values) for name, values in entries.items()})


def _worst_monitored(run: Run) -> xr.Dataset:
    """The entries of all monitored variables with the smallest bulk ESS, each [chain, draw]."""
    found = []
    for name in run.monitored:
        samples = np.asarray(run.variables[name], np.float64)
        flat = samples.reshape(*samples.shape[:2], -1)
        rows = entries(run, name)
        if len(rows) == flat.shape[2]:  # otherwise it is symmetric, and has another order
            found += [(row["ess_bulk"], row["entry"], flat[:, :, i]) for i, row in enumerate(rows)]
    chosen = sorted(found, key=lambda each: each[0])[: SHOWN_U + SHOWN_F]
    return xr.Dataset({name: (("chain", "draw"), values) for _, name, values in chosen})


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
