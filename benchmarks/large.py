"""Many examples and many paths: one collapsed gradient of one chain

Random inputs, N_0=64, float64. Memory is what XLA says the compiled gradient takes, arguments included, beside the peak
that the device counted. The limit is arithmetic: P^3 operations, a third each for the factor, its inverse and the
derivative in the kernel, at the rate of float64 products of the same run.

To take from it: at thousands of examples one gradient takes seconds on two cores; a GPU is over 40 times as fast.
"""

from __future__ import annotations

import sys

import jax

from ..core import checks
from . import harness
from .harness import Measured, Options, Table
from .limits import machine_limits
from .scaling import Case, collapsed_gradient, needed


def row(P: int, heads: int, limit: float) -> dict:
    """One size; without a time where it does not fit."""
    found: dict = {
        "P": P,
        "paths": heads**2,
        "ms": None,
        "memory GiB": None,
        "peak GiB": None,
        "share of the limit": None,
    }
    try:
        call = collapsed_gradient(Case(P=P, N_0=64, heads=(heads, heads)))
        found["memory GiB"] = needed(call) / 2**30
        seconds = harness.timed(call, repeats=3)["median"]
        peak = harness.peak_memory()["device"]
        found |= {"ms": 1e3 * seconds, "peak GiB": peak and peak / 2**10}
        found["share of the limit"] = P**3 / limit / seconds
    except (jax.errors.JaxRuntimeError, MemoryError, checks.InputError) as error:
        print(f"P={P}, {heads**2} paths: {str(error)[:200]}", file=sys.stderr, flush=True)
    return found


def measure(options: Options) -> Measured:
    """The cases, what is worth most first."""
    cases = [(1000, 2), (5000, 2), (20_000, 2), (1000, 8), (1000, 4), (5000, 4)]
    if options.quick:
        cases = [(200, 2), (200, 4)]
    elif not options.on_gpu:
        cases = [(1000, 2), (1000, 4), (1000, 8), (5000, 2)]
    limit = machine_limits(options.quick, ("float64",))["float64"]
    rows = options.each(cases, lambda case: row(case[0], case[1], limit))
    rows.sort(key=lambda r: (r["paths"], r["P"]))
    columns = {"P": ",", "paths": "", "ms": ",.4g", "memory GiB": ".2f", "peak GiB": ".2f", "share of the limit": ".0%"}
    plot = {"x": "P", "y": ["ms"], "where": {"paths": 4}, "label": "ms"}
    unit = harness.unit()
    ratios = {f"gradient, P={r['P']}, {r['paths']} paths / unit": r["ms"] / 1e3 / unit for r in rows if r["ms"]}
    largest = harness.first_of(sorted((r for r in rows if r["ms"]), key=lambda r: (-r["P"], -r["paths"])))
    headline = f"gradient at P={largest['P']:,}, {largest['paths']} paths: {largest['ms']:,.0f} ms"
    table = Table("One gradient", rows, columns, plot)
    return Measured([table], ratios, {"float64 Gflop/s": limit / 1e9, "N_0": 64}, headline)
