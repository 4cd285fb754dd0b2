"""How the collapsed kernel moves, and the evidence that its Gaussian gives

Reference task of figure 2c (P=100, T=0.01), float64, 4 chains. Effective draws of the worst entry of U_1 per second,
warm-up, trial, set-up and verdict included, compilation excluded; ESS is bulk, the tail ESS is next to it. NUTS has 100
transitions of warm-up, the other moves, which adapt nothing, 20. Then 16 paths (random inputs, T=0.1, 1,000 draws; NUTS
100 after 10 of warm-up, the share of whole runs). Then the log evidence on a grid of widths and temperatures, by
importance weights and by tempered sequential Monte Carlo, in turn.

To take from it: kicks by a polynomial are best where the posterior is far from a Gaussian (N=10, or 16 paths), and
from N=30 on four paths need none. The two evidences agree where Pareto k is up to 0.7, and importance weights are
faster and more precise.
"""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

import jax
import numpy as np

import gibbsformer as gf

from . import harness, scaling
from .harness import Measured, Options, Table

AUTO, NUTS, GIBBS = "auto", "nuts", "gibbs"
KICKS = (0, 1, 2, 3, 4)
PATHS = ((10, 100), (30, 100), (100, 600))  # N and P of 16 paths
KEY = jax.random.key(1)


def one_run(posterior, name: str, kernel, draws: int, warmup: int, compiling: int | None = None) -> dict:
    """A run of a kind, the second of two: the first compiles, with so many draws, or as many."""
    options: dict[str, Any] = {"key": KEY, "warmup": warmup, "draws": draws, "progress": False}
    options["keep"] = "order_parameters"
    gf.sample(posterior, kernel, **options | {"draws": compiling or draws})
    begun = time.perf_counter()
    run = gf.sample(posterior, kernel, **options)
    seconds = time.perf_counter() - begun
    found = gf.diagnostics.moments(run.order_parameters.U[0])
    chosen = run.settings["options"]
    total = run.chains * run.draws
    return {
        "N": posterior.network.widths[0],
        "P": len(posterior.y),
        "move": name if name != AUTO else f"auto: {chosen['move']}{'' if chosen['kicks'] is None else chosen['kicks']}",
        "asked": name,
        "acceptance": float(np.mean(run.stats["acceptance_rate"])) if "acceptance_rate" in run.stats else None,
        "ESS per draw": float(found["ess_bulk"].min()) / total,
        "tail ESS per draw": float(found["ess_tail"].min()) / total,
        "seconds": seconds,
        "ESS/s": float(found["ess_bulk"].min()) / seconds,
    }


def sixteen_paths(N: int, P: int, name: str, short: bool) -> dict:
    """A run of two layers of four heads."""
    posterior = scaling.Case(N=N, P=P, heads=(4, 4)).posterior()
    kernel = {AUTO: gf.Collapsed(), NUTS: gf.Collapsed(move=NUTS), GIBBS: gf.Gibbs()}[name]
    draws, warmup = (100, 10) if name == NUTS else (1000, 100 if name == GIBBS else 20)
    return one_run(posterior, name, kernel, draws // 10 if short else draws, warmup, compiling=10)


def _against_nuts(rows: list[dict]) -> None:
    """ESS/s of each row over that of NUTS on the same problem."""
    nuts = {(r["N"], r["P"]): r["ESS/s"] for r in rows if r["asked"] == NUTS}
    for row in rows:
        of_nuts = nuts.get((row["N"], row["P"]))
        row["against NUTS"] = None if of_nuts is None else row["ESS/s"] / of_nuts


def one_evidence(posterior) -> dict:
    """Both estimates of one evidence."""
    row: dict = {"N": posterior.network.widths[0], "T": posterior.temperature}
    for method in ("importance", "smc"):
        begun = time.perf_counter()
        found = gf.evidence(posterior, key=KEY, method=method)
        row |= {f"{method} s": time.perf_counter() - begun, method: found.log_evidence, f"{method} error": found.error}
        row |= {"Pareto k": found.pareto_k} if method == "importance" else {}
    off = row["importance"] - row["smc"]
    row["z"] = off / math.hypot(row["importance error"], row["smc error"])
    return row


def _gain(row: dict) -> float:
    """Time of SMC over that of importance weights, for the same standard error."""
    cost = {method: row[f"{method} s"] * row[f"{method} error"] ** 2 for method in ("importance", "smc")}
    return cost["smc"] / cost["importance"]


def measure(options: Options) -> Measured:
    """Moves at each width, then the grid of evidences."""
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    widths: tuple[int, ...] = (10, 30, 100, 1000)
    draws, grid = 2000, [float(x) for x in np.geomspace(0.01, 3.0, 10)]
    if options.quick:
        widths, draws, grid = (10, 100), 500, [0.01, 1.0]
    kernels = {AUTO: gf.Collapsed(), NUTS: gf.Collapsed(move=NUTS), "independent": gf.Collapsed(move="independent")}
    kernels["surrogate"] = gf.Collapsed(move="surrogate")
    kernels |= {f"split, {n} kicks": gf.Collapsed(move="split", kicks=n) for n in KICKS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [(N, name) for N in widths for name in kernels]
        rows = options.each(
            cases,
            lambda case: one_run(
                task.posterior(case[0]), case[1], kernels[case[1]], draws, 100 if case[1] == NUTS else 20
            ),
        )
        paths = PATHS[1:2] if options.quick else PATHS
        many = [(N, P, name) for N, P in paths for name in (AUTO, NUTS, *([GIBBS] if N == 10 else []))]
        wide = options.each(many, lambda case: sixteen_paths(case[0], case[1], case[2], short=options.quick))
        sizes = (10, 100) if options.quick else (8, 10, 14, 20, 30, 50, 100, 200, 400, 1000)
        one_evidence(task.posterior(10, 1.0))  # compiles
        evidences = options.each(
            [(N, T) for N in sizes for T in grid], lambda case: one_evidence(task.posterior(case[0], case[1]))
        )
    _against_nuts(rows)
    _against_nuts(wide)
    believed = [r for r in evidences if r["Pareto k"] <= 0.7]
    gains = sorted(_gain(r) for r in believed)
    note = (
        f"{len(believed)} of {len(evidences)} have Pareto k up to 0.7; of these the largest |z| is "
        f"{max(abs(r['z']) for r in believed):.1f}, and importance weights took "
        f"{sum(r['smc s'] for r in believed) / sum(r['importance s'] for r in believed):.0f} times less time; for the "
        f"same standard error, which falls as one over the root of the time, {gains[0]:,.0f} times less at the least "
        f"favourable point and {gains[len(gains) // 2]:,.0f} at the median."
    )
    best = harness.first_of([r for r in rows if r["asked"] == AUTO])
    headline = f"{best['against NUTS'] or 0:.1f} x NUTS at N={best['N']} ({best['move']})"
    unit = harness.unit()
    ratios = {f"1 / (ESS/s unit), {r['asked']}, N={r['N']}": 1 / r["ESS/s"] / unit for r in rows}
    columns = {"N": "", "move": "", "acceptance": ".3f", "ESS per draw": ".3f", "tail ESS per draw": ".3f",
               "seconds": ".2f", "ESS/s": ",.0f", "against NUTS": ".1f"}  # fmt: skip
    tables = [
        Table("Moves", rows, columns),
        Table("Moves, 16 paths", wide, {"N": "", "P": ""} | columns),
        Table("Evidence", evidences, {"N": "", "T": ".3g", "Pareto k": ".2f", "importance": ".3f",
              "importance error": ".3f", "importance s": ".2f", "smc": ".3f", "smc error": ".3f", "smc s": ".1f",
              "z": ".1f"}, note=note),
    ]  # fmt: skip
    return Measured(tables, ratios, {"draws": draws}, headline)
