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
    network = posterior.network
    heads = (f"branch_{l}" if skip else f"head_{l}" for l, skip in enumerate(network.skips, start=1))
    axes = ("example" if posterior.has_examples else "pseudo_example", "input", *heads)
    output = ("output",) if network.outputs > 1 else ()
    arrays: dict[str, dict] = {
        "constant_data": {"xi": (axes, posterior.data.xi)},
        "observed_data": {"y": ((axes[0], *output), posterior.y)},
    }
    if test is not None:
        arrays["constant_data"]["xi_test"] = (("test_example", *axes[1:]), test[0].xi)
        seen = labels.encoded("test labels", test[1], posterior.classes or (), network.outputs)
        arrays["observed_data"]["y_test"] = (("test_example", *output), seen)
    settings = {
        "network": described(network),
        "temperature": posterior.temperature,
        "reduce": posterior.reduce,
        "classes": list(posterior.classes or ()),
    }
    if network.outputs > 1:
        settings["paths"] = list(posterior.data.path_names)
    if not posterior.has_examples:
        found = posterior.reduction
        settings["reduction"] = {"examples": found.examples, "residual": found.residual, "sha256": found.digest}
    return settings, arrays


def described(network: Network) -> dict[str, Any]:
    """The fields of a network as plain values; what only some networks have is left out of the others."""
    fields = asdict(network)
    if network.outputs == 1:
        del fields["outputs"]
    if not any(network.skips):
        del fields["residual"]
    return fields


def network_of(described: Mapping[str, Any]) -> Network:
    """The network of ``described`` fields."""
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in described.items()}
    return Network(**fields)


def restored(kind, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], axes: Mapping[str, np.ndarray]):
    """(posterior, test examples or None), see ``Posterior.restored``."""
    network = network_of(settings["network"])
    names = tuple(settings["paths"] if network.outputs > 1 else axes["path_1"])
    y, found, reduce = arrays["y"], settings.get("classes"), settings.get("reduce", False)
    if found is None:  # of a file that fitted the numbers, whatever they were
        found = labels.SIGNS if np.isin(y, labels.SIGNS).all() else ()
    classes, data = tuple(found), PathInputs(arrays["xi"], names, network.residual)
    if "reduction" in settings:
        given = _reduction(settings["reduction"], data, y, classes)
        posterior = kind(network, given, temperature=settings["temperature"], reduce=reduce)
    else:
        posterior = kind(network, data, labels.decoded(y, classes), settings["temperature"], classes, reduce)
    if "xi_test" not in arrays:
        return posterior, None
    inputs = PathInputs(arrays["xi_test"], names, network.residual)
    return posterior, (inputs, labels.named(arrays["y_test"], classes))


def _reduction(kept: Mapping[str, Any], data: PathInputs, y: np.ndarray, classes: tuple) -> Reduction:
    found = Reduction(data, y, int(kept["examples"]), float(kept["residual"]), classes)
    if found.digest != kept["sha256"]:
        raise checks.InputError("the pseudo-examples in the file are damaged (checksum mismatch): use a copy of it")
    return found
