"""Groups of draws as ArviZ holds them: InferenceData before ArviZ 1, DataTree since."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def made_of(groups: Mapping[str, Any], base: Any = None) -> Any:
    """Datasets by group, added to what ``arviz.from_netcdf`` returned.

    Args:
        groups: Dataset by group; a group that ``base`` has gains the variables it lacks.
        base: InferenceData or DataTree, or None to begin with.

    Returns:
        InferenceData (ArviZ 0.x) or DataTree (ArviZ 1.x).
    """
    import arviz  # not above: its import is slow
    import xarray as xr

    old = arviz.__version__.startswith("0.")  # ArviZ 1 has InferenceData too, for a DataTree
    if base is not None:
        has = base.groups() if old else [str(name) for name in base.children]
        held = {name: base[name] if old else base[name].to_dataset() for name in has}
        groups = held | {name: held[name].merge(new) if name in held else new for name, new in groups.items()}
    return arviz.InferenceData(**groups) if old else xr.DataTree.from_dict(dict(groups))
