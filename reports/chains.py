"""Trace and rank plots of U and f, as pictures inside the page, whichever version of ArviZ is installed."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import scipy.stats
import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..core.text import literal
from ..diagnostics import moments
from ..diagnostics.findings import entries
from ..models import Posterior
from ..models.records import entry_labels
from ..plot import style
from ..sampler import Run

SHOWN_U, SHOWN_F = 4, 2
_RANK_BINS = 20


def plots(run: Run) -> dict[str, Any]:
    """Trace and rank plots of the entries of U, and of f on the test inputs, that mix worst.

    Returns:
        {"entries": their names, "trace", "rank": PNG data URIs}.
    """
    found = worst(run)
    draws = {literal(str(name)): values.values for name, values in found.items()}
    n = len(draws)
    with rc_context(style.SMALL):
        trace = Figure(figsize=(8.6, 1.35 * n), layout="constrained")
        grid = trace.subplots(n, 2, squeeze=False, width_ratios=(1, 2))
        for row, (name, values) in zip(grid, draws.items(), strict=True):
            _histogram(row[0], values)
            row[1].plot(values.T, linewidth=0.5)
            row[0].set_title(name, loc="left")
        grid[-1, 1].set_xlabel("draw")
        rank = Figure(figsize=(8.6, 1.6 * -(-n // 2)), layout="constrained")
        places = rank.subplots(-(-n // 2), 2, squeeze=False).ravel()
        for place, (name, values) in zip(places, draws.items(), strict=False):
            _ranks(place, values)
            place.set_title(name)
        for spare in places[n:]:
            spare.set_axis_off()
        return {"entries": [str(name) for name in found], "trace": _uri(trace), "rank": _uri(rank)}


def _histogram(axes, values: np.ndarray) -> None:
    """The distribution of each chain [chain, draw], as a line."""
    edges = np.histogram_bin_edges(values, bins=min(40, max(5, values.shape[1] // 10)))
    for chain in values:
        axes.stairs(np.histogram(chain, edges, density=True)[0], edges, linewidth=0.8)
    axes.set_yticks([])


def _ranks(axes, values: np.ndarray) -> None:
    """How often each chain has each rank among the draws of all chains, less what chance expects."""
    ranks = scipy.stats.rankdata(values, axis=None).reshape(values.shape)
    bins = min(_RANK_BINS, max(2, values.shape[1] // 5))
    edges = np.linspace(0.5, values.size + 0.5, bins + 1)
    expected = values.shape[1] / bins
    for number, chain in enumerate(ranks):
        heights = (np.histogram(chain, edges)[0] / expected - 1) * 0.4
        axes.stairs(number + heights, edges, baseline=number, fill=True, alpha=0.7)
        axes.axhline(number, color="black", linewidth=0.4)
    axes.set(yticks=range(len(ranks)), ylabel="chain", xticks=[])


def worst(run: Run) -> xr.Dataset:
    """U_a, the entries of U and the test outputs f with the smallest bulk ESS, each [chain, draw]."""
    import arviz

    if not isinstance(run.posterior, Posterior):
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
