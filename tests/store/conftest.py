"""The modules of this folder as fixtures, as tests imported by path cannot import their neighbours."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _load(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def toy():
    return _load("toy")


@pytest.fixture(scope="session")
def crash():
    return _load("crash")
