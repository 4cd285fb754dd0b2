"""Tasks: the hidden Markov chain and the one-shot images of the paper, digits, and arrays of your own."""

from .arrays import arrays, load
from .characters import Characters
from .digits import digits
from .glyphs import glyphs
from .hidden_markov import hidden_markov_chain
from .named import BUILT_IN, by_name, characters_by_name
from .omniglot import omniglot
from .one_shot import one_shot
from .task import Examples, Task
from .teacher import teacher

__all__ = [
    "BUILT_IN",
    "Characters",
    "Examples",
    "Task",
    "arrays",
    "by_name",
    "characters_by_name",
    "digits",
    "glyphs",
    "hidden_markov_chain",
    "load",
    "omniglot",
    "one_shot",
    "teacher",
]
