"""Many chains: effective draws of U per second against the number of chains side by side

Reference task of figure 2c (P=100, T=0.01) at several widths, float64. `split` with two kicks moves all chains in
lockstep; `collapsed`, here with `move="nuts"`, has chains that wait for the longest tree. Each run draws for
some seconds, or so many draws where there are many chains on a CPU, 20 transitions of warm-up, running diagnostics and
the verdict at the end included, compilation excluded.
ESS is the least over entries of U_1; from 1,024 chains on it comes from the spread of the chains' means, and R-hat is
nested. The limit is the time of the Cholesky factorisations of a draw alone (P x P, one per evaluation), measured in
the same run.

To take from it: on two cores nothing is gained beyond tens of chains, and moves in lockstep gain more from them than
NUTS does. A GPU is for thousands. At N=10 two kicks are too few for many chains: one that stays in a tail spoils the
ESS of all. `move="auto"` kicks by a polynomial there (docs/samplers.md).
"""

from __future__ import annotations

import time
import warnings

import jax
import jax.numpy as jnp

import gibbsformer as gf

from ..core.numerics import numerics
from . import harness
from .harness import Measured, Options, Table
from .limits import covariances

KICKS, WARMUP = 2, 20
SPLIT, NUTS = "split", "collapsed"
KERNELS = {SPLIT: gf.SplitHMC(kicks=KICKS), NUTS: gf.Collapsed(move="nuts")}
FEW = 64  # chains up to which NUTS runs
DRAWS = 16  # of many chains on a CPU


def cholesky(P: int, chains: int) -> float:
    """Seconds of one factorisation for every chain."""
    with numerics():
        A = covariances(P, chains, jnp.float64)
        return harness.timed(jax.jit(lambda A: jax.lax.linalg.cholesky(A, symmetrize_input=False)), A)["median"]


def one_run(posterior, name: str, chains: int, seconds: float | None) -> dict:
    """A run of so many seconds, or of ``DRAWS`` draws."""
    sample = lambda until, draws: gf.sample(  # noqa: E731
        posterior, KERNELS[name], key=jax.random.key(1), chains=chains, warmup=WARMUP, draws=draws, until=until,
        progress=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.ConvergenceWarning)
        begun = time.perf_counter()
        sample(None, 8)  # compiles, and imports what diagnostics need
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        run = sample(gf.until(seconds=seconds), 2000) if seconds else sample(None, DRAWS)
        elapsed = time.perf_counter() - begun
    row = {"chains": chains, "N": posterior.network.widths[0], "kernel": name, "draws": run.draws, "seconds": elapsed}
    row |= {"first s": first, "ms per draw": None, "ESS": None, "R-hat": None}
    if run.draws:  # or the warm-up was not over
        row["ms per draw"] = 1e3 * elapsed / (run.draws + WARMUP)
    row |= {"ESS/s": None, "draws/s": chains * run.draws / elapsed}
    if run.draws >= 8:
        found = gf.diagnostics.moments(run.order_parameters.U[0])
        row |= {"ESS": float(found["ess_bulk"].min()), "R-hat": float(found["rhat"].max())}
        row["ESS/s"] = row["ESS"] / elapsed
    return row


def measure(options: Options) -> Measured:
    """The numbers of chains, what is worth most first, at each width."""
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    counts: tuple[int, ...]
    widths: tuple[int, ...]
    counts, widths, seconds = (16_384, 4096, 64, 1024, 4), (100, 1000, 10), 2.0
    if options.quick:
        counts, widths, seconds = (64, 1024), (100,), 2.0
    elif not options.on_gpu:
        counts, widths, seconds = (64, 1024, 4096, 4), (100, 10), 6.0
    limits: dict[int, float] = {}

    def row_of(case):
        chains, name, N = case
        limits.setdefault(chains, cholesky(len(task.train.y), chains))
        many = chains > FEW and not options.on_gpu
        return one_run(task.posterior(N), name, chains, None if many else seconds)

    cases = [(chains, name, N) for chains in counts for name in (SPLIT, NUTS)[: 1 + (chains <= FEW)] for N in widths]
    rows = options.each(cases, row_of)
    for row in rows:
        evaluations = KICKS + 1 if row["kernel"] == SPLIT else None
        took = row["ms per draw"]
        row["Cholesky share"] = evaluations and took and evaluations * 1e3 * limits[row["chains"]] / took
    rows.sort(key=lambda r: (r["N"], r["kernel"], r["chains"]))
    columns = {"N": "", "kernel": "", "chains": ",", "draws": "", "ms per draw": ".3g", "ESS": ",.0f", "R-hat": ".4f",
               "ESS/s": ",.0f", "Cholesky share": ".0%", "first s": ".1f"}  # fmt: skip
    plot = {"x": "chains", "y": ["ESS/s"], "where": {"N": widths[0], "kernel": SPLIT}, "label": "ESS/s"}
    seen = [r for r in rows if r["ESS/s"] and r["N"] == widths[0]]
    most = harness.first_of(sorted(seen, key=lambda r: -r["ESS/s"]))
    unit = harness.unit()
    ratios = {
        f"draw / unit, {r['kernel']}, N={r['N']}, {r['chains']} chains": r["ms per draw"] / 1e3 / unit
        for r in rows if r["ms per draw"]
    }  # fmt: skip
    table = Table("Effective draws per second", rows, columns, plot, note=f"Warm-up: {WARMUP} transitions.")
    headline = f"{most['ESS/s']:,.0f} effective draws of U_1 per second (N={most['N']}, {most['chains']:,} chains)"
    settings = {"seconds": seconds, "kicks": KICKS, "Cholesky seconds": {str(k): v for k, v in limits.items()}}
    return Measured([table], ratios, settings, headline)
