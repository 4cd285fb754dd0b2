"""What a sample file holds of a posterior: settings, the training set or its reduction, and test examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ..core import checks
from . import labels
from .network import Network
from .paths import PathInputs
from .reduction import Reduction


def stored(posterior, test: tuple[PathInputs, np.ndarray] | None) -> tuple[dict[str, Any], dict[str, dict]]:
    """(plain values by name, arrays: group -> name -> (dims, array [dims])), see ``Posterior.stored``."""
    heads = (f"head_{l}" for l in range(1, posterior.network.depth + 1))
    axes = ("example" if posterior.has_examples else "pseudo_example", "input", *heads)
    arrays: dict[str, dict] = {
        "constant_data": {"xi": (axes, posterior.data.xi)},
        "observed_data": {"y": (axes[:1], posterior.y)},
    }
    if test is not None:
        arrays["constant_data"]["xi_test"] = (("test_example", *axes[1:]), test[0].xi)
        seen = labels.encoded("test labels", test[1], posterior.classes or ())
        arrays["observed_data"]["y_test"] = (("test_example",), seen)
    settings = {
        "network": asdict(posterior.network),
        "temperature": posterior.temperature,
        "reduce": posterior.reduce,
        "classes": list(posterior.classes or ()),
    }
    if not posterior.has_examples:
        found = posterior.reduction
        settings["reduction"] = {"examples": found.examples, "residual": found.residual, "sha256": found.digest}
    return settings, arrays


def restored(kind, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], axes: Mapping[str, np.ndarray]):
    """(posterior, test examples or None), see ``Posterior.restored``."""
    shape, names = settings["network"], tuple(axes["path_1"])
    network = Network(shape["input_width"], *(tuple(shape[name]) for name in ("heads", "widths", "variances")))
    y, found, reduce = arrays["y"], settings.get("classes"), settings.get("reduce", False)
    if found is None:  # of a file that fitted the numbers, whatever they were
        found = labels.SIGNS if np.isin(y, labels.SIGNS).all() else ()
    classes, data = tuple(found), PathInputs(arrays["xi"], names)
    if "reduction" in settings:
        given = _reduction(settings["reduction"], data, y, classes)
        posterior = kind(network, given, temperature=settings["temperature"], reduce=reduce)
    else:
        posterior = kind(network, data, labels.decoded(y, classes), settings["temperature"], classes, reduce)
    if "xi_test" not in arrays:
        return posterior, None
    return posterior, (PathInputs(arrays["xi_test"], names), labels.decoded(arrays["y_test"], classes))


def _reduction(kept: Mapping[str, Any], data: PathInputs, y: np.ndarray, classes: tuple) -> Reduction:
    found = Reduction(data, y, int(kept["examples"]), float(kept["residual"]), classes)
    if found.digest != kept["sha256"]:
        raise checks.InputError("the pseudo-examples in the file are damaged (checksum mismatch): use a copy of it")
    return found
