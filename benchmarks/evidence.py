"""Evidence over temperatures, widths and sets of heads, beside the test accuracy of the theory

Task of figure 2c (`hidden_markov_chain` of key 0: P=100, four paths): log evidence by tempered sequential Monte Carlo
at N = 10, 100, 1000 and a grid of temperatures, then every set of heads at the temperature of largest evidence for
N = 10, then temperatures for the fixed draw that the tests keep. Seconds are of one evidence, compilation excluded.

To take from it: without a test set, the evidence chooses the best set of heads, and temperatures whose accuracy is
within 0.06 of the best.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import h5py
import jax
import numpy as np

import gibbsformer as gf

from ..evidence.selection import theory_score
from . import harness
from .harness import Measured, Options, Table

TEMPERATURES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0)
WIDTHS = (10, 100, 1000)
KEY = jax.random.key(1)
EXTRACT = Path(__file__).parents[1] / "tests" / "data" / "reference_hmm_extract.h5"


def row(posterior, test, **options) -> dict:
    """Evidence, its error, the second estimator, the time, and the theory's accuracy."""
    start = time.perf_counter()
    found = gf.evidence(posterior, key=KEY, method="smc", **options)
    return {
        "log evidence": found.log_evidence,
        "error": found.error,
        "thermodynamic": found.thermodynamic,
        "its error": found.thermodynamic_error,
        "agreement of passes": found.agreement,
        "changes of beta": len(found.ess),
        "least acceptance": float(found.acceptance.min()),
        "seconds": time.perf_counter() - start,
        "test accuracy": theory_score(posterior, test).value,
    }


def over_temperatures(task, widths, temperatures, **options) -> list[dict]:
    """A row per width and temperature; the first is computed twice, for compilation."""
    gf.evidence(task.posterior(widths[0], temperatures[0]), key=KEY, method="smc", **options)
    rows = []
    for N, T in itertools.product(widths, temperatures):
        rows.append({"N": N, "T": T, **row(task.posterior(N, T), task.test_set, **options)})
    return rows


def over_heads(task, N, T, **options) -> list[dict]:
    """A row per choice of heads of the two layers, at one width and temperature."""
    posterior, rows = task.posterior(N, T), []
    grid = np.arange(4).reshape(2, 2)
    choices = ([0], [1], [0, 1])
    for first, second in itertools.product(choices, choices):
        paths = grid[np.ix_(first, second)].ravel().tolist()
        part = posterior.select(paths)
        gf.evidence(
            part, key=KEY, method="smc", particles=options["particles"], repeats=1
        )  # another program: compiled first
        names = ", ".join(part.data.path_names)
        rows.append({"heads": names, "N": N, "T": T, **row(part, task.test_set, **options)})
    return rows


class Reference:
    """The fixed draw that the tests keep, as far as a task is needed here."""

    def __init__(self):
        with h5py.File(EXTRACT) as file:
            inputs = [gf.PathInputs(self._four_paths(file[f"{part}/xi"][()])) for part in ("train", "test")]
            self._train, self._y, self.test_set = inputs[0], file["train/y"][()], (inputs[1], file["test/y"][()])

    def posterior(self, N: int, T: float) -> gf.Posterior:
        return gf.Posterior(gf.Network(self._train.input_width, (2, 2), (N, N, N)), self._train, self._y, T)

    @staticmethod
    def _four_paths(xi):
        return xi.astype(float).reshape(*xi.shape[:2], 2, 2)


COLUMNS = {
    "log evidence": ".2f", "error": ".2f", "thermodynamic": ".2f", "its error": ".2f", "test accuracy": ".3f",
    "seconds": ".1f",
}  # fmt: skip


def measure(options: Options) -> Measured:
    """Evidence of all models; the fixed draw only where the checkout has it."""
    quick = options.quick
    passes = {"particles": 64 if quick else 256, "repeats": 2 if quick else 4}
    temperatures = (0.01, 0.3) if quick else TEMPERATURES
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    grid = over_temperatures(task, WIDTHS, temperatures, **passes)
    best = max((r for r in grid if r["N"] == 10), key=lambda r: r["log evidence"])
    tables = [
        Table("Temperatures", grid, {"N": "", "T": "g", **COLUMNS}, note=chosen(grid)),
        Table("Sets of heads", over_heads(task, 10, best["T"], **passes), {"heads": "", **COLUMNS}),
    ]
    if EXTRACT.is_file() and not quick:
        fixed = over_temperatures(Reference(), WIDTHS, temperatures, **passes)
        tables.append(Table("Temperatures, fixed draw", fixed, {"N": "", "T": "g", **COLUMNS}, note=chosen(fixed)))
    unit = harness.unit()
    ratios = {f"evidence, N={r['N']}, T={r['T']:g} / unit": r["seconds"] / unit for r in grid}
    return Measured(tables, ratios, passes)


def chosen(grid: list[dict]) -> str:
    """Which temperature evidence chooses at each width, and which accuracy."""
    found = []
    for N in sorted({r["N"] for r in grid}):
        of_width = [r for r in grid if r["N"] == N]
        by_evidence, by_accuracy = (max(of_width, key=lambda r, c=c: r[c]) for c in ("log evidence", "test accuracy"))
        found.append(
            f"N={N}: evidence chooses T={by_evidence['T']:g} (accuracy {by_evidence['test accuracy']:.3f}), "
            f"accuracy T={by_accuracy['T']:g} ({by_accuracy['test accuracy']:.3f})"
        )
    return "; ".join(found) + "."
