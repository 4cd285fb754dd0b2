"""Tasks by name: what ``--task`` of the command line and the tasks of a sweep's plan take.

A new task is a file with a function of ``key`` and options that returns a ``Task``, and a line in ``BUILT_IN``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..core import checks, files
from ..models import Attention, stored
from .arrays import load
from .characters import Characters
from .digits import digits
from .glyphs import glyphs
from .hidden_markov import hidden_markov_chain
from .omniglot import omniglot
from .one_shot import one_shot
from .task import Task
from .teacher import teacher

SUFFIXES = (".npz", ".safetensors")  # of files of arrays


def one_shot_by_name(
    key: jax.Array, data: str = "glyphs", network: str | None = None, train: int = 600, test: int = 1000,
    residual: bool | Sequence[float] | None = None,
) -> Task:  # fmt: skip
    """One-shot episodes from images by name, read through the attention of a trained network.

    Args:
        key: typed random key; draws the episodes.
        data: ``"glyphs"``, ``"omniglot"`` or ``"omniglot=PATH"``.
        network: file with query and key weights, from ``gibbsformer train``.
        train, test: number of episodes.
        residual: strength of the skip connection of each layer, as for ``one_shot``; None: as the network was trained.

    Returns:
        Task of ``one_shot``.

    Raises:
        ValueError: no network, or unknown images.

    Source: docs/model.md, section 9b.
    """
    if network is None:
        raise checks.InputError(
            "network=None: task 'one-shot' needs a trained network, make one with "
            f"`gibbsformer train --data {data} --out net.safetensors` and give network=net.safetensors (--network)"
        )
    path = files.absolute("network", network, "such as net.safetensors")
    attention = Attention.load(path)
    if residual is None:
        residual = stored.read("network", path).get("residual", np.empty(0)).tolist()
    return one_shot(characters_by_name(data), attention, key, train, test, residual=residual)  # type: ignore[arg-type]


BUILT_IN: dict[str, Callable[..., Task]] = {
    "hmm": hidden_markov_chain,
    "one-shot": one_shot_by_name,
    "digits": digits,
    "teacher": teacher,
}


def by_name(name: str, seed: int, **options: Any) -> Task:
    """A built-in task by name, or one from a file.

    Args:
        name: a name in ``BUILT_IN``, or the path of a file as ``load`` takes it.
        seed: of a built-in task, whose key is ``jax.random.key(seed)``; a file has none.
        options: options of the task by name, such as ``data`` and ``network`` of ``one-shot``.

    Returns:
        Task.

    Raises:
        ValueError: an unknown name (the nearest built-in one is offered), or an option that the task does not have.
    """
    if Path(str(name)).suffix in SUFFIXES:
        for option in options:
            raise checks.InputError(f"{option}={options[option]!r} is not an option of a file of arrays: leave it out")
        return load(name)
    build = BUILT_IN[checks.nearest("task", name, (*BUILT_IN, *(f"FILE{suffix}" for suffix in SUFFIXES)))]
    check_options(name, options)
    return build(key=jax.random.key(seed), **options)


def check_options(name: str, options: dict[str, Any]) -> None:
    """Refuse options that a built-in task does not have, by ``checks.InputError``."""
    known = [parameter for parameter in inspect.signature(BUILT_IN[name]).parameters if parameter != "key"]
    for option in options:
        if option not in known:
            raise checks.InputError(f"task {name!r} has no option {option!r}: {checks.choose(option, known)}")


def characters_by_name(name: str) -> Characters:
    """Character images by name: what ``--data`` of the command line takes.

    Args:
        name: ``"glyphs"``, ``"omniglot"`` (where GIBBSFORMER_OMNIGLOT says) or ``"omniglot=PATH"``.

    Returns:
        Characters.

    Raises:
        ValueError: another name (the nearest is offered), or Omniglot was not found.
    """
    source, _, path = str(name).partition("=")
    checks.nearest("data", source, ("glyphs", "omniglot"))
    if source == "glyphs":
        if path:
            raise checks.InputError(f"data={name!r} has a path, but glyphs come with matplotlib: give data=glyphs")
        return glyphs()
    try:
        return omniglot(os.path.expanduser(path) if path else None)
    except checks.InputError as error:
        raise checks.InputError(f"data={name!r}: {error}") from None
