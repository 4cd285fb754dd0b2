"""Text as it leaves the program: JSON that every parser reads, names that steer neither terminals nor typesetting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np


def plain(value: Any) -> Any:
    """The value with scalars and arrays of NumPy and JAX as Python's own, tuples as lists, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic) or (isinstance(value, (np.ndarray, jax.Array)) and value.ndim == 0):
        value = value.item()
    elif isinstance(value, (np.ndarray, jax.Array)):
        return plain(np.asarray(value).tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def visible(text: str) -> str:
    """The text with characters that steer a terminal or cannot be seen as escapes, such as ``\\x1b``; lines stay."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )


def literal(text: str) -> str:
    """The text for matplotlib, which otherwise takes what stands between two dollar signs for a formula."""
    return visible(text).replace("$", r"\$")


def dumps(value: Any, **options: Any) -> str:
    """As JSON: NaN and infinity are null, and numbers of NumPy and JAX are plain ones.

    Args:
        value: plain values, or what ``plain`` makes plain.
        options: of ``json.dumps``.

    Raises:
        TypeError, ValueError: it holds something else.
    """
    return json.dumps(plain(value), allow_nan=False, **options)
