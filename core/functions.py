"""Functions by the name under which they can be imported: how a file refers to code that it does not hold.

A function at the top level of a module has such a name, and so has a ``functools.partial`` of one whose keyword
arguments are plain values. A lambda has none, nor has a function made inside another one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from . import checks, classes
from .text import plain

_MOST_CHARACTERS = 10_000  # of keyword arguments: larger ones are arrays, which do not belong in a file's settings
_LIBRARY = sys.stdlib_module_names - {"__main__"}  # no forward pass is there, but much that a crafted file could call


def identity(function: Any) -> Any:
    """Something hashable that is equal for functions that compute the same: a partial is what it was made of."""
    if not isinstance(function, partial):
        return function
    arguments = (*enumerate(function.args), *sorted(function.keywords.items()))
    return identity(function.func), tuple((name, _hashable(value)) for name, value in arguments)


def _hashable(value: Any) -> Any:
    """A plain value as it is; of anything else, which object it is."""
    if isinstance(value, str | int | float | bool | type(None)):
        return type(value), value
    if isinstance(value, tuple | list):
        return tuple(_hashable(each) for each in value)
    return id(value)


def stored(function: Callable) -> dict[str, Any]:
    """Plain values from which ``restored`` finds a function again, or that say what it was.

    Args:
        function: any callable.

    Returns:
        {"function": ``module:name``, "options": keyword arguments}; {"lost": text} of one without such a name.
    """
    base, options = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
    name = f"{getattr(base, '__module__', None)}:{getattr(base, '__qualname__', None)}"
    try:
        found = classes.imported("function", name)
        large = len(json.dumps(plain(options))) > _MOST_CHARACTERS
    except (checks.InputError, TypeError, ValueError):
        found, large = None, False
    if found is not base or large or (isinstance(function, partial) and function.args):
        return {"lost": described(function)}
    return {"function": name, "options": plain(options)}


def restored(argument: str, value: dict[str, Any]) -> Callable:
    """The function that ``stored`` described.

    Args:
        argument: what the user called it, for messages.
        value: from ``stored``.

    Returns:
        The function.

    Raises:
        ValueError: it has no name, or cannot be imported.
    """
    if "function" not in value:
        raise checks.InputError(f"{argument} is {value.get('lost')}, which a file cannot hold: give model=")
    package = str(value["function"]).partition(":")[0].partition(".")[0]
    try:
        found = None if package in _LIBRARY else classes.imported(argument, value["function"])
    except checks.InputError as error:
        raise checks.InputError(f"{error}, or give model=") from None
    if not callable(found):
        raise checks.InputError(f"{argument}={value['function']!r} is not a function: give model=")
    return partial(found, **value["options"]) if value["options"] else found


def described(function: Any) -> str:
    """A function in words, for messages: its name and where it is written."""
    if isinstance(function, partial):
        return f"a partial of {described(function.func)}"
    code = getattr(function, "__code__", None)
    if code is None:
        return f"a {type(function).__name__}"
    kind = "a lambda" if function.__name__ == "<lambda>" else f"the function {function.__qualname__}"
    return f"{kind} (line {code.co_firstlineno} of {function.__module__})"
