"""Records of the networks of this package: names, groups, axes, roles and labels of everything a run may hold."""

from __future__ import annotations

import itertools

import numpy as np

from . import collapsed
from .network import Network
from .target import MONITORED, PREDICTION, STATE, WEIGHT, Records, Variable


def describe(posterior, test_examples: int) -> Records:
    """Records of every target of a posterior, statistics of the kernel aside.

    Args:
        posterior: network, and path-contracted inputs, which name the paths.
        test_examples: number Q of test examples.

    Returns:
        Records; chain and draw are the leading axes of every variable.
    """
    network = posterior.network
    return Records(variables(network), labels(network, posterior.data.path_names, test_examples))


def variables(network: Network) -> dict[str, Variable]:
    """Every variable that the targets of a network may record."""
    L = network.depth
    table = {"U_a": Variable("posterior", (), MONITORED)}
    for l in range(1, L + 1):
        table[f"U_{l}"] = Variable("posterior", (f"path_{l}", f"path_{l}_prime"), MONITORED)
    table["path_weights"] = Variable("posterior", ("path_1", "input"), PREDICTION)
    table["V_0"] = Variable("posterior", ("width_1", "input"), WEIGHT)
    for l in range(1, L + 1):
        table[f"V_{l}"] = Variable("posterior", (f"head_{l}", f"width_{l + 1}", f"width_{l}"), WEIGHT)
    table["a"] = Variable("posterior", (f"width_{L + 1}",), WEIGHT)
    table["theta"] = Variable("posterior", ("bartlett",), STATE)
    table["f"] = table["f_mean"] = Variable("posterior_predictive", ("test_example",), PREDICTION)
    return table


def labels(network: Network, path_names: tuple[str, ...], test_examples: int) -> dict[str, np.ndarray]:
    """Labels of every axis: paths by name, the others by number."""
    result: dict[str, np.ndarray] = {"input": np.arange(network.input_width), "test_example": np.arange(test_examples)}
    for l, names in enumerate(path_labels(network, path_names), start=1):
        result[f"path_{l}"] = result[f"path_{l}_prime"] = np.array(names, dtype=object)
        result[f"head_{l}"] = np.arange(1, network.heads[l - 1] + 1)
    result["bartlett"] = np.arange(collapsed.layout(network).size)
    return result | {f"width_{l}": np.arange(N) for l, N in enumerate(network.widths, start=1)}


def path_labels(network: Network, path_names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Names of the paths from each layer up, (h_l .. h_L), bottom layer first; those of layer 1 are given."""
    heads = [range(1, H + 1) for H in network.heads]
    above = [
        tuple(f"({' '.join(map(str, h))})" for h in itertools.product(*heads[l:])) for l in range(1, network.depth)
    ]
    return [path_names, *above]
