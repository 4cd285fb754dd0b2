"""Tasks: the hidden Markov chain and the one-shot images of the paper, and arrays of your own."""

from __future__ import annotations

import jax

from ..core import checks
from .arrays import arrays, load
from .characters import Characters
from .glyphs import glyphs
from .hidden_markov import hidden_markov_chain
from .omniglot import omniglot
from .one_shot import one_shot
from .task import Examples, Task

BUILT_IN = {"hmm": hidden_markov_chain}


def by_name(name: str, seed: int) -> Task:
    """A built-in task by name, or one from a file: what ``--task`` of the command line takes.

    Args:
        name: a name in ``BUILT_IN``, or the path of an .npz file as ``load`` takes it.
        seed: of a built-in task, whose key is ``jax.random.key(seed)``; a file has none.

    Returns:
        Task.

    Raises:
        ValueError: the name is neither (the nearest built-in one is offered).
    """
    if str(name).endswith(".npz"):
        return load(name)
    return BUILT_IN[checks.nearest("task", name, (*BUILT_IN, "FILE.npz"))](key=jax.random.key(seed))


def characters_by_name(name: str) -> Characters:
    """Character images by name: what ``--data`` of the command line takes.

    Args:
        name: ``"glyphs"``, ``"omniglot"`` (where GIBBSFORMER_OMNIGLOT says) or ``"omniglot=PATH"``.

    Returns:
        Characters.

    Raises:
        ValueError: another name (the nearest is offered), or no Omniglot there.
    """
    source, _, path = str(name).partition("=")
    checks.nearest("data", source, ("glyphs", "omniglot"))
    if source == "glyphs":
        if path:
            raise checks.InputError(f"data={name!r} has a path, but glyphs come with matplotlib: give data=glyphs")
        return glyphs()
    try:
        return omniglot(path or None)
    except checks.InputError as error:
        raise checks.InputError(f"data={name!r}: {error}") from None


__all__ = [
    "BUILT_IN",
    "Characters",
    "Examples",
    "Task",
    "arrays",
    "by_name",
    "characters_by_name",
    "glyphs",
    "hidden_markov_chain",
    "load",
    "omniglot",
    "one_shot",
]
