"""Names, groups, axes and labels of everything a run records: one table for memory, files and ArviZ.

Groups are ArviZ's: ``posterior`` (order parameters, weights), ``posterior_predictive`` (f on test inputs) and
``sample_stats``. Every variable has leading axes chain and draw.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from ..models import Network, collapsed

ORDER_PARAMETERS_ONLY = "order_parameters"
WEIGHTS = "weights"


class Variable(NamedTuple):
    """Group and axes (after chain and draw) of one recorded variable."""

    group: str
    dims: tuple[str, ...]


def variables(network: Network) -> dict[str, Variable]:
    """Every variable that kernels may record for a network, statistics aside."""
    L = network.depth
    table = {"U_a": Variable("posterior", ())}
    table |= {f"U_{l}": Variable("posterior", (f"path_{l}", f"path_{l}_prime")) for l in range(1, L + 1)}
    table["path_weights"] = Variable("posterior", ("path_1", "input"))
    table["V_0"] = Variable("posterior", ("width_1", "input"))
    for l in range(1, L + 1):
        table[f"V_{l}"] = Variable("posterior", (f"head_{l}", f"width_{l + 1}", f"width_{l}"))
    table["a"] = Variable("posterior", (f"width_{L + 1}",))
    table["theta"] = Variable("posterior", ("bartlett",))
    table["f"] = table["f_mean"] = Variable("posterior_predictive", ("test_example",))
    return table


def coordinates(network: Network, path_names: tuple[str, ...], test_examples: int) -> dict[str, np.ndarray]:
    """Labels of every axis; paths by name, the others by number."""
    heads = [range(1, H + 1) for H in network.heads]
    labels: dict[str, np.ndarray] = {"input": np.arange(network.input_width), "test_example": np.arange(test_examples)}
    for l in range(1, network.depth + 1):
        names = (
            path_names if l == 1 else tuple(f"({' '.join(map(str, h))})" for h in itertools.product(*heads[l - 1 :]))
        )
        labels[f"path_{l}"] = labels[f"path_{l}_prime"] = np.array(names, dtype=object)
        labels[f"head_{l}"] = np.arange(1, network.heads[l - 1] + 1)
    labels["bartlett"] = np.arange(collapsed.layout(network).size)
    labels |= {f"width_{l}": np.arange(N) for l, N in enumerate(network.widths, start=1)}
    return labels


def kept(network: Network, available, keep: str) -> tuple[str, ...]:
    """Names to record out of those a kernel offers: all, or all but the weights."""
    weights = set(network.weight_shapes)
    return tuple(name for name in available if keep == WEIGHTS or name not in weights)
