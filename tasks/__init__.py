"""Tasks: the hidden Markov chain and the one-shot images of the paper, and arrays of your own."""

from __future__ import annotations

import jax

from ..models import checks
from .arrays import arrays, load
from .characters import Characters
from .glyphs import glyphs
from .hidden_markov import hidden_markov_chain
from .omniglot import omniglot
from .one_shot import one_shot
from .task import Examples, Task

BUILT_IN = {"hmm": hidden_markov_chain}


def by_name(name: str, seed: int) -> Task:
    """A built-in task by name, or one from an .npz file by path.

    Raises:
        ValueError: the name is neither (the nearest built-in one is offered).
    """
    if str(name).endswith(".npz"):
        return load(name)
    return BUILT_IN[checks.nearest("task", name, BUILT_IN)](key=jax.random.key(seed))


__all__ = [
    "BUILT_IN",
    "Characters",
    "Examples",
    "Task",
    "arrays",
    "by_name",
    "glyphs",
    "hidden_markov_chain",
    "load",
    "omniglot",
    "one_shot",
]
