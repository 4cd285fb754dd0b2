"""What a report says of a sweep: its axes and points in words, and its numbers for the page's script to draw."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from ..core import checks
from ..sweeps import failures, open_sweep, stored_plan

_SOURCES = {"theory": "theory", "exact": "exact posterior", "weights": "weight samples", "gp": "GP limit"}
_ERRORS = ("error", "mcse")  # variables that are error bars of others
_FIRST = ("accuracy", "log_evidence")  # quantities a reader looks for, before all others
_DIGITS = 6


def section(folder: str | os.PathLike, number: int = 1) -> dict[str, Any]:
    """Everything a report says of the sweep in a folder.

    Raises:
        ValueError: no sweep in the folder, a damaged result, or no point finished yet.
    """
    data, plan = open_sweep(folder), stored_plan(folder)
    if not data.attrs["finished"]:
        raise checks.InputError(f"folder={str(folder)!r} has no finished point: run the sweep first")
    failed = failures(folder)
    axes = [str(name) for name in data.coords if name not in ("path", "path_prime")]
    return {
        "id": f"sweep-{number}",
        "name": Path(folder).resolve().name,
        "points": data.attrs["points"],
        "finished": data.attrs["finished"],
        "failed": [entry["error"] for entry in failed],
        "axes": [(name, ", ".join(map(str, data[name].values.tolist()))) for name in axes],
        "computed": [
            (name, ", ".join(f"{option} {value}" for option, value in options.items()))
            for name, options in plan["compute"].items()
        ],
        "folder": str(Path(folder).resolve()),
        "plan": json.dumps(plan, indent=1),
        "data": _script({"axes": {name: data[name].values.tolist() for name in axes}, "quantities": quantities(data)}),
    }


def quantities(data: xr.Dataset) -> dict[str, dict[str, dict[str, Any]]]:
    """Quantity -> source -> {"dims", "values", "errors"} of all numbers of a sweep; values in C order, None for NaN.

    Sources are the suffixes of the Dataset in words; a variable without a suffix is its own only source.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name in map(str, data):
        quantity, _, suffix = name.rpartition("_")
        if suffix not in _SOURCES:
            quantity, suffix = name, ""
        if "path" in data[name].dims or quantity.endswith(_ERRORS):
            continue
        ends = [f"_{suffix}"] if suffix else [""]
        errors = next((data[e] for end in ends for kind in _ERRORS if (e := f"{quantity}_{kind}{end}") in data), None)
        found.setdefault(quantity, {})[_SOURCES.get(suffix, "value")] = {
            "dims": [str(dim) for dim in data[name].dims],
            "values": _numbers(data[name]),
            "errors": None if errors is None else _numbers(errors),
        }
    rank = {name: place for place, name in enumerate(_FIRST)}
    return {
        quantity: {name: found[quantity][name] for name in [*_SOURCES.values(), "value"] if name in found[quantity]}
        for quantity in sorted(found, key=lambda quantity: (rank.get(quantity, len(rank)), quantity))
    }


def _numbers(array: xr.DataArray) -> list[float | None]:
    values = np.asarray(array, np.float64).ravel()
    return [float(f"{v:.{_DIGITS}g}") if np.isfinite(v) else None for v in values.tolist()]


def _script(value) -> Markup:
    """JSON that no text in it can end: it stands inside a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
