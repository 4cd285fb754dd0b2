"""The results of a sweep as one labelled Dataset over the plan's axes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from . import folder as folders
from . import plan as plans
from . import result

_SUFFIX = {"theory": "theory", "collapsed": "exact", "weights": "weights", "evidence": "evidence"}
_OWN = ("accuracy_gp", "r_squared_gp", "log_evidence", "log_evidence_error")  # say what they are without a suffix
_PATHS = ("path", "path_prime")  # of U_1


def open_sweep(folder: str | os.PathLike) -> xr.Dataset:
    """What a sweep found so far, against its axes.

    Args:
        folder: ``out`` of a sweep, also while it runs.

    Returns:
        Dataset with axes task, seed, paths, width, temperature, and kernel for what weights samples say. Variables
        carry the quantity they come from as a suffix, ``exact`` for the collapsed sampler: accuracy_theory,
        accuracy_gp, accuracy_exact, accuracy_error_exact (r_squared where labels are real values), U_1_exact
        [.., path, path_prime], U_1_mcse_exact, U_a_exact,
        rhat_exact, ess_exact, divergences_exact, converged_theory (1 or 0), log_evidence, log_evidence_error,
        seconds_theory, ... NaN where a point is not finished or does not have the path.

    Raises:
        ValueError: no sweep in the folder, or a damaged result.
    """
    normal, done, found = folders.stored_plan(folder), folders.finished(Path(folder)), []
    for point in plans.points(normal):
        if point.id in done:
            values, about = result.read(folders.result_file(Path(folder), point))
            found.append((point, values | {"seconds": about["seconds"]}))
    coordinates = {
        plans.AXES[name]: [plans.label(plans.AXES[name], value) for value in values]
        for name, values in normal["axes"].items()
    }
    for name, labels in list(coordinates.items()):
        if len({type(label) for label in labels}) > 1:  # widths of some layers differ: all become text
            coordinates[name] = [str(label) for label in labels]
    names = list(dict.fromkeys(name for _, values in found for name in values.get("paths", ())))
    coordinates |= dict.fromkeys(_PATHS, names) if names else {}
    arrays: dict[str, tuple[tuple[str, ...], Any]] = {}
    for point, values in found:
        paths = [names.index(name) for name in values.pop("paths", ())]
        for name, value in values.items():
            dims = (*point.place, *(_PATHS if np.ndim(value) else ()))
            full = name if name in _OWN else f"{name}_{_SUFFIX[point.settings['compute']]}"
            if full not in arrays:
                arrays[full] = dims, np.full([len(coordinates[dim]) for dim in dims], np.nan)
            place = arrays[full][1][(*point.place.values(), ...)]
            place[np.ix_(paths, paths) if np.ndim(value) else ()] = value
    return xr.Dataset(arrays, coords=coordinates, attrs={"points": plans.count(normal), "finished": len(found)})
