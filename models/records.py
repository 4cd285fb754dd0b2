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
    network, classes = posterior.network, posterior.classes or ()
    return Records(variables(network), labels(network, posterior.data.path_names, test_examples, classes))


def variables(network: Network) -> dict[str, Variable]:
    """Every variable that the targets of a network may record."""
    L = network.depth
    several = network.outputs > 1
    output = ("output",) if several else ()
    table = {"U_a": Variable("posterior", ("output", "output_prime") if several else (), MONITORED)}
    for l in range(1, L + 1):
        axis = f"path_{l}_output" if several else f"path_{l}"
        table[f"U_{l}"] = Variable("posterior", (axis, f"{axis}_prime"), MONITORED)
    table["path_weights"] = Variable("posterior", ("path_1_output" if several else "path_1", "input"), PREDICTION)
    table["V_0"] = Variable("posterior", ("width_1", "input"), WEIGHT)
    for l in range(1, L + 1):
        table[f"V_{l}"] = Variable("posterior", (f"head_{l}", f"width_{l + 1}", f"width_{l}"), WEIGHT)
    table["a"] = Variable("posterior", (*output, f"width_{L + 1}"), WEIGHT)
    table["theta"] = Variable("posterior", ("bartlett",), STATE)
    table["f"] = table["f_mean"] = Variable("posterior_predictive", ("test_example", *output), PREDICTION)
    return table


def labels(
    network: Network, path_names: tuple[str, ...], test_examples: int, classes: tuple = ()
) -> dict[str, np.ndarray]:
    """Labels of every axis: paths and outputs by name, the others by number."""
    result: dict[str, np.ndarray] = {"input": np.arange(network.input_width), "test_example": np.arange(test_examples)}
    result["output"] = result["output_prime"] = _texts(output_names(network, classes))
    for l, names in enumerate(path_labels(network, path_names), start=1):
        result[f"path_{l}"] = result[f"path_{l}_prime"] = _texts(names)
        result[f"head_{l}"] = np.arange(1, network.heads[l - 1] + 1)
        result[f"branch_{l}"] = _texts(branch_names(network, l))
    for l, names in enumerate(entry_labels(network, path_names, classes), start=1):
        result[f"path_{l}_output"] = result[f"path_{l}_output_prime"] = _texts(names)
    result["bartlett"] = np.arange(collapsed.layout(network).size)
    return result | {f"width_{l}": np.arange(N) for l, N in enumerate(network.widths, start=1)}


def _texts(names) -> np.ndarray:
    return np.array(list(names), dtype=object)


def branch_names(network: Network, layer: int) -> tuple[str, ...]:
    """Names of the branches of a layer, from 1: "skip" where there is such a connection, and the heads' numbers."""
    heads = tuple(str(h) for h in range(1, network.heads[layer - 1] + 1))
    return ("skip", *heads) if network.skips[layer - 1] else heads


def output_names(network: Network, classes: tuple) -> tuple[str, ...]:
    """Names of the outputs: their classes, or numbers from 1."""
    names = tuple(str(c) for c in classes) if len(classes) == network.outputs else ()
    return names if len(set(names)) == len(names) > 0 else tuple(str(i) for i in range(1, network.outputs + 1))


def path_labels(network: Network, path_names: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Names of the paths from each layer up, (h_l .. h_L), bottom layer first; those of layer 1 are given."""
    branches = [branch_names(network, l) for l in range(1, network.depth + 1)]
    above = [tuple(f"({' '.join(h)})" for h in itertools.product(*branches[l:])) for l in range(1, network.depth)]
    return [path_names, *above]


def entry_labels(network: Network, path_names: tuple[str, ...], classes: tuple = ()) -> list[tuple[str, ...]]:
    """Names of the rows of U_1, .., U_L: the paths, and with several outputs "path, output"."""
    outputs = output_names(network, classes)
    found = path_labels(network, path_names)
    return found if network.outputs == 1 else [tuple(f"{p}, {o}" for p in names for o in outputs) for names in found]
