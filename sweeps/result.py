"""Result files: one small HDF5 file per finished point, complete or absent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..core import checks, files

SCHEMA, SCHEMA_VERSION = "gibbsformer-point", 1


def write(path: Path, settings: Mapping[str, Any], about: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Write a point's values; the file takes its name once it is on disk.

    Args:
        path: file of the point.
        settings: the point's settings.
        about: where, when and with what it was computed.
        values: numbers and arrays by name; "paths" holds the names along the axes of U_1.
    """
    with files.whole(path) as building, h5py.File(building, "x") as file:
        file.attrs["schema"], file.attrs["schema_version"] = SCHEMA, SCHEMA_VERSION
        file.attrs["settings"], file.attrs["about"] = json.dumps(settings), json.dumps(about)
        for name, value in values.items():
            texts = name == "paths"
            file.create_dataset(name, data=value, dtype=h5py.string_dtype() if texts else np.asarray(value).dtype)


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(values, about) of a finished point.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            values = {name: item.asstr()[()] if name == "paths" else item[()] for name, item in file.items()}
            return values, json.loads(file.attrs["about"])
    except (OSError, KeyError, ValueError) as error:
        raise checks.InputError(
            f"{path} cannot be read ({error}): remove it and run the sweep again, which computes this point again"
        ) from None
