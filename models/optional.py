"""Libraries that only pretrained models need, imported when one is read."""

from __future__ import annotations

import importlib

from ..core import checks


def library(name: str):
    """A library that only pretrained models need.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise checks.InputError(f"model needs {name}: install it with pip install 'gibbsformer[pretrained]'") from None
