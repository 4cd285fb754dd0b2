"""The theory: seconds of its saddle points

The seven widths of figure 2c, and a grid of widths and temperatures: first call, compilation included, and warm.

To take from it: after compilation, the theory of a whole figure takes a fraction of a second, so it can be had for
every point of a sweep.
"""

from __future__ import annotations

import jax
import numpy as np

import gibbsformer as gf

from ..figures.hidden_markov import WIDTHS
from . import harness
from .harness import Measured, Options, Table

SIDE = 20


def measure(options: Options) -> Measured:
    """Seconds of both cases."""
    posterior = gf.tasks.hidden_markov_chain(key=jax.random.key(0)).posterior(10)
    side = 4 if options.quick else SIDE
    cases = {
        "figure 2c's widths, T=0.01": (WIDTHS, (0.01,), 5),
        f"{side} x {side} grid, N=10..1000, T=0.01..1": (
            np.geomspace(10, 1000, side).astype(int), np.geomspace(0.01, 1, side), 1,
        ),
    }  # fmt: skip
    rows = []
    for name, (widths, temperatures, repeats) in cases.items():
        found = []
        solve = lambda w=widths, t=temperatures, found=found: found.append(gf.theory.grid(posterior, w, t))  # noqa: E731
        seconds = harness.timed(solve, repeats=repeats)
        theories = [theory for row in found[-1].theories for theory in row]
        rows.append({
            "what": name, "first": seconds["first"], "seconds": seconds["median"],
            "converged": f"{sum(t.converged for t in theories)} of {len(theories)}",
            "most Newton steps": max(t.iterations for t in theories),
        })  # fmt: skip
    unit = harness.unit()
    columns = {"what": "", "first": ".2f", "seconds": ".2f", "converged": "", "most Newton steps": "d"}
    return Measured(
        [Table("Saddle points", rows, columns)], {f"{r['what']} / unit": r["seconds"] / unit for r in rows}, {}
    )
