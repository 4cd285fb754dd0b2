"""Benchmarks behind ``gibbsformer bench``: one module per suite, records in ``results``, a page made from them.

A suite is a module with a docstring (title, then how it measures: the page prints both) and ``measure(options)``, which
returns ``harness.Measured``. To add one, write the module and name it in ``SUITES``.
"""

from .harness import Measured, Options, Table
from .suite import SUITES, bench

__all__ = ["SUITES", "Measured", "Options", "Table", "bench"]
