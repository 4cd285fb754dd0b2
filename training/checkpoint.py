"""One safetensors file per trained network: weights by name, optimiser state, and how they came about as JSON.

    V_0 [N_1, N_0], V_l [H_l, N_{l+1}, N_l], a [N_{L+1}], Q_l, K_l [H_l, G, N_0]    averaged over steps: what one uses
    residual [L]                                                                    skip connections, if there are any
    current/.., optimiser/.., step                                                  what the next step starts from

The metadata hold ``settings`` (configuration, key, characters), ``history``, ``accuracy`` and ``versions``, each a JSON
text, and a checksum of the file. Writing is atomic: the file is the old one or the new one, whatever happens in
between.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from ..core import checks, files, sealing
from ..core.text import dumps
from ..models import stored
from ..models.network import Weights

_FORMATS = ("gibbsformer network 1", "gibbsformer network 2")  # the first had no checksum
_ABOUT: dict[str, Any] = {"settings": dict, "history": list, "accuracy": (dict, type(None))}
_PACKAGES = ("gibbsformer", "jax", "optax", "numpy")


class State(NamedTuple):
    """All that the next step depends on."""

    average: Weights
    current: Weights
    optimiser: Any
    step: jax.Array


def write(path: Path, state: State, about: dict[str, Any], residual: Sequence[float] = ()) -> None:
    """Replace the file by one that holds this state; OSError leaves the old one as it was.

    Args:
        about: plain values, by the names in the metadata.
        residual: (g_1, .., g_L), () for none.
    """
    # safetensors writes the memory of an array as it lies, whatever its strides say
    arrays = {name: np.array(value, order="C") for name, value in _named(state).items()}
    if residual:
        arrays["residual"] = np.array(residual, float)
    about = about | {"versions": {name: version(name) for name in _PACKAGES}}
    texts = {name: dumps(value) for name, value in about.items()}
    files.write(path, sealing.sealed(save(arrays, {"format": _FORMATS[-1], sealing.NAME: sealing.EMPTY} | texts)))


def read(path: Path, argument: str = "path") -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, plain values by name) of a file; ``argument`` is what the user called it.

    Raises:
        ValueError: no such file, not one of a trained network, or a damaged one.
    """
    arrays: dict[str, np.ndarray] = {}
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors" or not path.is_file():
        arrays = stored.read(argument, path, "a network written by gibbsformer train")
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    if metadata.get("format") not in _FORMATS:
        raise checks.InputError(
            f"{argument}={str(path)!r} is not a trained network of this version ({_FORMATS[-1]}): give one, or for "
            "query and key weights from elsewhere, use gf.Attention.load"
        )
    try:
        about = {name: json.loads(metadata[name]) for name in _ABOUT}
        if not all(isinstance(about[name], kind) for name, kind in _ABOUT.items()):
            raise ValueError("types")
    except (KeyError, ValueError):
        raise damaged(path, argument) from None
    return arrays, about


def damaged(path: Path, argument: str) -> checks.InputError:
    """The error of a file whose description cannot be."""
    return checks.InputError(f"{argument}={str(path)!r} is damaged: use a copy of it, or train the network again")


def restore(template: State, arrays: dict[str, np.ndarray], path: Path, argument: str = "path") -> State:
    """The state among the named arrays of a file, with the structure of ``template``.

    Raises:
        ValueError: an array is missing, or has another shape or type.
    """
    expected = _named(template)
    names = list(expected)
    for name, leaf in expected.items():
        if name not in arrays or (arrays[name].shape, arrays[name].dtype) != (leaf.shape, leaf.dtype):
            raise damaged(path, argument)
    return jax.tree.unflatten(jax.tree.structure(template), [jax.numpy.asarray(arrays[name]) for name in names])


def refuse_other(path: Path, held: dict, asked: dict) -> None:
    """Raise ValueError that names the first setting in which a file differs from what is asked."""
    held, asked = _flat(held), _flat(json.loads(json.dumps(asked)))
    asked.pop("config steps", None)  # a longer run is the same run
    for name in asked:
        if held.get(name) != asked[name]:
            raise checks.InputError(
                f"out={str(path)!r} holds a network with {name}={checks.brief(held.get(name))} and {name}="
                f"{checks.brief(asked[name])} is asked: give the same to resume it, or choose another name"
            )


def _flat(settings: dict, prefix: str = "") -> dict:
    flat: dict = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name} ") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _named(state: State) -> dict[str, Any]:
    """Leaves by path, in the order of the tree; averaged weights by their bare names."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/").removeprefix("average/"): leaf for path, leaf in leaves
    }
