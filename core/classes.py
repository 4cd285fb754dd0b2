"""Classes by the name under which they can be imported: how a file refers to code that it does not hold."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from . import checks


def name_of(kind: type) -> str:
    """``module:Class`` of a class."""
    return f"{kind.__module__}:{kind.__qualname__}"


def imported(argument: str, name: str):
    """What has a name such as ``module:Class``, whose module is imported.

    Args:
        argument: what the user called it, for messages.
        name: ``module:Class`` or ``module:function``.

    Returns:
        The object.

    Raises:
        ValueError: it cannot be imported.
    """
    module, _, path = str(name).partition(":")
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise checks.InputError(
            f"{argument}={name!r} cannot be imported ({error}): put it in a module on the Python path"
        ) from None
    return found


def load(argument: str, name: str, fits: Callable[[type], bool]) -> type:
    """The class of a name from ``name_of``, whose module is imported.

    Args:
        argument: what the user called it, for messages.
        name: ``module:Class``.
        fits: whether a class is of the kind that is wanted.

    Returns:
        The class.

    Raises:
        ValueError: it cannot be imported, or is something else.
    """
    found = imported(argument, name)
    if not (isinstance(found, type) and fits(found)):
        raise checks.InputError(f"{argument}={name!r} is not a {argument} class: use a file written by gibbsformer")
    return found
