"""Models from modules of Equinox and Flax: their arrays by name, and a forward pass with other arrays in their place.

Names are the path of an array in its module, such as ``layers.0.weight``. The functions are made here, so that a sample
file cannot name them: in another process ``gf.open`` and ``gf.resume`` need ``model=``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..core import checks


class Arrays(NamedTuple):
    """A pytree of arrays as arrays by name.

    Attributes:
        shapes: by name, in the order of the tree.
        tree: its structure.
    """

    shapes: dict[str, tuple[int, ...]]
    tree: Any

    def filled(self, weights) -> Any:
        """The pytree with given arrays."""
        return self.tree.unflatten([weights[name] for name in self.shapes])


def arrays_of(tree) -> Arrays:
    """Names and shapes of the arrays of a pytree."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return Arrays({jax.tree_util.keystr(p, simple=True, separator="."): jnp.shape(x) for p, x in leaves}, structure)


def of_equinox(module, forward: Callable | None) -> tuple[dict[str, tuple[int, ...]], Callable]:
    """(shapes, forward pass) of an Equinox module, whose arrays of real numbers are the weights."""
    eqx = _imported("equinox")
    if not isinstance(module, eqx.Module):
        raise checks.InputError(f"module is a {type(module).__name__}: give an equinox.Module")
    variable, fixed = eqx.partition(module, eqx.is_inexact_array)
    found = arrays_of(variable)

    def run(weights, x):
        filled = eqx.combine(found.filled(weights), fixed)
        return jax.vmap(filled)(x) if forward is None else forward(filled, x)

    return found.shapes, run


def of_flax(module, x, forward: Callable | None) -> tuple[dict[str, tuple[int, ...]], Callable]:
    """(shapes, forward pass) of a Flax module, of ``flax.linen`` or ``flax.nnx``, whose parameters are the weights."""
    linen, nnx = _imported("flax.linen"), _imported("flax.nnx")
    if isinstance(module, nnx.Module):
        graph, variable, fixed = nnx.split(module, nnx.Param, ...)
        found = arrays_of(nnx.to_pure_dict(variable))

        def run(weights, x):
            nnx.replace_by_pure_dict(state := jax.tree.map(lambda each: each, variable), found.filled(weights))
            filled = nnx.merge(graph, state, fixed)
            return filled(x) if forward is None else forward(filled, x)

        return found.shapes, run
    if not isinstance(module, linen.Module):
        raise checks.InputError(f"module is a {type(module).__name__}: give a flax.linen.Module or a flax.nnx.Module")
    if x is None:
        raise checks.InputError(
            "x=None: give inputs of a flax.linen module, from which it takes the shapes of its arrays"
        )
    kept = module.init(jax.random.key(0), jnp.asarray(x))
    found, others = arrays_of(kept["params"]), {name: value for name, value in kept.items() if name != "params"}

    def run_linen(weights, x):
        variables = {"params": found.filled(weights)} | others
        return module.apply(variables, x) if forward is None else forward(module, variables, x)

    return found.shapes, run_linen


def _imported(name: str):
    """A module of an optional library."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise checks.InputError(
            f"{name.partition('.')[0]} is not installed: install it with pip install 'gibbsformer[modules]'"
        ) from None
