"""All kernels: effective draws of U per second and per gradient

Reference task of figure 2c (P=100, T=0.01). Each kernel runs for a time budget, warm-up of 100 transitions included
and compilation excluded, from exact starts (`init="collapsed"`), so that a short run measures mixing and not the way
there. Gradient-based kernels work in marginal weight space in float32 with the Gaussian in float64, "all weights"
without integrating V_0 out. ESS is the least bulk-ESS over entries of U_1; gradients are those after the warm-up, of
all chains. Chains that did not finish their warm-up within the budget say "not measured". The ESS of `sgld` and
`sghmc`, which have hardly left their start at a stable step size, is that of a trend.

To take from it: `collapsed` is ahead, by more the wider the network. Among kernels that move weights, integrating V_0
out gains a factor of ten to a hundred.
"""

from __future__ import annotations

import functools
import time
import warnings

import jax
import numpy as np

import gibbsformer as gf

from . import harness
from .harness import Measured, Options, Table

ALL = "all weights"
FLOAT64 = ("collapsed", "split", "gibbs")
KERNELS = {  # kernel, transitions per draw; a name that ends in ALL samples all weights
    "collapsed": (gf.Collapsed(), 1),
    "split": (gf.SplitHMC(), 1),
    "gibbs": (gf.Gibbs(), 1),
    "nuts": (gf.NUTS(), 1),
    "nuts, all weights": (gf.NUTS(), 1),
    "hmc": (gf.HMC(integration_steps=16), 1),
    "chees": (gf.ChEES(), 1),
    "chees, all weights": (gf.ChEES(), 1),
    "adjusted_mclmc": (gf.AdjustedMCLMC(), 1),
    "mala": (gf.MALA(), 16),
    "ghmc": (gf.GHMC(), 16),
    "mclmc (biased)": (gf.MCLMC(), 8),
    "sgld (biased)": (gf.SGLD(step_size=1e-6, batch_size=50), 64),
    "sghmc (biased)": (gf.SGHMC(step_size=1e-5), 16),
}
FOR_MANY_CHAINS = ("collapsed", "split", "chees", "ghmc", "mclmc (biased)")
PATIENCE = {"nuts": 4, "nuts, all weights": 10}  # times the budget: a warm-up takes longer than the other runs
ON_GPU = ("split", "chees", "mclmc (biased)", "ghmc", "chees, all weights")
QUICK = ("collapsed", "gibbs", "hmc", "mala", "mclmc (biased)")
FEW = 16  # chains up to which every kernel runs
WARMUP = 100


def exact_start(posterior, chains) -> dict:
    """Exact weights [chains, ..] to start from."""
    kernel = gf.SplitHMC(kicks=4) if min(posterior.network.widths) >= posterior.network.paths else "collapsed"
    run = gf.sample(
        posterior, kernel, key=jax.random.key(2), chains=chains, warmup=200, draws=1, progress=False, keep="weights"
    )
    return {name: np.asarray(w)[:, 0] for name, w in run.weights.items()}


def one_run(posterior, name, chains, seconds, start) -> dict:
    """One row: a run of about ``seconds`` seconds."""
    kernel, thin = KERNELS[name]
    sample = functools.partial(
        gf.sample, posterior, kernel, key=jax.random.key(1), chains=chains, warmup=WARMUP, draws=20_000, thin=thin,
        keep="order_parameters", progress=False, precision="float64" if name in FLOAT64 else "float32",
        init=None if name in ("collapsed", "split") else start, target="weights" if name.endswith(ALL) else None,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.ConvergenceWarning)
        sample(until=gf.until(seconds=1e-3))  # compiles
        begun = time.perf_counter()
        run = sample(until=gf.until(seconds=seconds))
        elapsed = time.perf_counter() - begun
    row = {"chains": chains, "kernel": name, "draws": run.draws, "seconds": elapsed, "ESS": None, "ESS/s": None}
    row |= {"ESS per 1000 gradients": None, "gradients per draw": None}
    if run.draws >= 8:
        ess = float(gf.diagnostics.moments(run.order_parameters.U[0])["ess_bulk"].min())
        row |= {"ESS": ess, "ESS/s": ess / elapsed}
        if "n_steps" in run.stats:
            steps = np.asarray(run.stats["n_steps"])
            row |= {"ESS per 1000 gradients": 1e3 * ess / steps.sum(), "gradients per draw": float(steps.mean())}
        if "step_size" in run.stats:
            row["step size"] = float(np.median(np.asarray(run.stats["step_size"])))
    return row


def measure(options: Options) -> Measured:
    """Every kernel at each width and number of chains."""
    widths, chain_counts, seconds = ((10,), (4,), 4.0) if options.quick else ((10, 100), (4, 64), 10.0)
    cases = [(N, chains) for N in widths for chains in chain_counts]
    if options.on_gpu and not options.quick:
        cases, seconds = [(100, 64), (100, 1024), (1000, 64), (100, 4), (1000, 4)], 4.0
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    starts: dict[tuple[int, int], dict] = {}

    def row(case):
        N, chains, name = case
        posterior = task.posterior(N)
        if (N, chains) not in starts:
            starts[N, chains] = exact_start(posterior, chains)
        budget = seconds * PATIENCE.get(name, 1 if chains <= FEW or options.on_gpu else 3)
        return {"N": N, **one_run(posterior, name, chains, budget, starts[N, chains])}

    def names(chains):
        return ON_GPU if options.on_gpu else QUICK if options.quick else KERNELS if chains <= FEW else FOR_MANY_CHAINS

    rows = options.each([(N, chains, name) for N, chains in cases for name in names(chains)], row)
    columns = {"N": "", "chains": "", "kernel": "", "draws": "", "ESS": ".0f", "ESS/s": ".3g",
               "ESS per 1000 gradients": ".3g", "gradients per draw": ".0f"}  # fmt: skip
    N, chains = cases[0]
    first = {r["kernel"]: r["ESS/s"] for r in rows if (r["N"], r["chains"]) == (N, chains)}
    leader, best = harness.first_of(list(first.items()))
    ratios = {f"{name} / {leader}, N={N}": best / found for name, found in list(first.items())[1:] if found and best}
    title = "Effective draws of U, all kernels"
    plot = {"x": "kernel", "y": ["ESS/s"], "where": {"N": N, "chains": chains}, "label": "ESS/s"}
    headline = ", ".join(f"{name} {found:,.0f}" for name, found in first.items() if found)
    headline = f"ESS/s at N={N}, {chains} chains: {headline}"
    return Measured([Table(title, rows, columns, plot)], ratios, {"seconds": seconds, "warmup": WARMUP}, headline)
