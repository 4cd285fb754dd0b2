"""Exact samplers: effective draws per second, and how their cost grows

Reference task of figure 2c (P=100, T=0.01), 4 chains, beside our NUTS over all weights (contracted over paths, float32,
its chains on one XLA device per core); the exact samplers run in float64. ESS is the least bulk-ESS over entries of
U_1; seconds include warm-up but not compilation. NUTS cannot converge within a benchmark at N >= 100: there a few draws
are timed at a step size that works, and one effective draw per draw and chain is counted, an upper bound.

To take from it: what `collapsed` costs does not depend on the width, where NUTS over the weights ends at N=100.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

import gibbsformer as gf

from ..core.numerics import numerics
from ..models import collapsed
from . import harness
from .harness import Measured, Options, Table

CHAINS = 4


def effective(run) -> float:
    """Least bulk-ESS over entries of U_1."""
    return float(gf.diagnostics.moments(run.order_parameters.U[0])["ess_bulk"].min())


def timed_run(posterior, kernel, **options):
    """(run, seconds) after a short run that compiles the same program (it does not depend on the draws)."""
    call = lambda **changes: gf.sample(  # noqa: E731
        posterior, kernel, key=jax.random.key(1), chains=CHAINS, keep="order_parameters", progress=False,
        **(options | changes),
    )  # fmt: skip
    call(draws=2)
    start = time.perf_counter()
    run = call()
    return run, time.perf_counter() - start


def against_nuts(task, widths, fewer) -> list[dict]:
    """ESS per second of each kernel at each width; draws of collapsed, and NUTS at N=10, are divided by ``fewer``."""
    rows = []
    step_size = 0.1
    for N in widths:
        posterior = task.posterior(N)
        plans = {
            "collapsed": ("collapsed", {"warmup": 100, "draws": 4000 // fewer}),
            "gibbs": ("gibbs", {"warmup": 50 if N < 1000 else 5, "draws": {10: 1000, 100: 200}.get(N, 20)}),
        }
        for name, (kernel, options) in plans.items():
            run, seconds = timed_run(posterior, kernel, **options)
            rows.append({"N": N, "kernel": name, "ESS": effective(run), "seconds": seconds, "note": ""})
        if N == 10:
            nuts, options, note = gf.NUTS(), {"warmup": 200 // fewer, "draws": 250 // fewer}, ""
        elif N <= 100:
            nuts, options, note = (
                gf.NUTS(initial_step_size=step_size),
                {"warmup": 20, "draws": 5},
                "upper bound",
            )
        else:
            nuts, options, note = (
                gf.NUTS(initial_step_size=step_size),
                {"warmup": 0, "draws": 1},
                "upper bound",
            )
        start = time.perf_counter()
        run = gf.sample(
            posterior, nuts, key=jax.random.key(1), target="weights", chains=CHAINS, keep="order_parameters",
            progress=False,
            precision="float32", init=None if N == 10 else "collapsed", chunk=1 if N > 10 else None, **options,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        ess = effective(run) if N == 10 else float(CHAINS * run.draws)
        step_size = float(np.median(np.asarray(run.stats["step_size"])))
        steps = float(np.mean(np.asarray(run.stats["n_steps"])))
        rows.append({"N": N, "kernel": "nuts", "ESS": ess, "seconds": seconds, "note": note, "leapfrog steps": steps})
        print(f"N={N} done", flush=True)
    for row in rows:
        row["ESS/s"] = row["ESS"] / row["seconds"]
        reference = next(r for r in rows if r["N"] == row["N"] and r["kernel"] == "nuts")
        row["times NUTS"] = row["ESS/s"] / (reference["ESS"] / reference["seconds"])
    return rows


def cost_against_width(task, widths) -> list[dict]:
    """Milliseconds per draw of all chains at each width (the program is compiled once for all)."""
    rows = []
    for N in widths:
        run, seconds = timed_run(task.posterior(N), "collapsed", warmup=100, draws=400)
        steps = float(np.mean(np.asarray(run.stats["n_steps"])))
        rows.append({"N": N, "ms per draw of 4 chains": 1e3 * seconds / 500, "leapfrog steps": steps})
    return rows


def gradient_cost(sizes) -> list[dict]:
    """Milliseconds per collapsed gradient of 4 chains at each (P, heads of two layers), random inputs, N_0 = 100."""
    rows = []
    for P, heads in sizes:
        rng = np.random.default_rng(0)
        data = gf.PathInputs(rng.standard_normal((P, 100, *heads)) / np.sqrt(100 * np.prod(heads)))
        posterior = gf.Posterior(gf.Network(100, heads, (200, 200, 200)), data, rng.choice([-1.0, 1.0], P), 0.1)
        with numerics():
            shape = collapsed.layout(posterior.network)
            density = posterior.collapsed_data()
            gradient = jax.jit(
                jax.vmap(jax.grad(lambda d, t, s=shape: collapsed.log_density(s, d, t), argnums=1), (None, 0))
            )
            theta = 0.01 * jax.random.normal(jax.random.key(0), (CHAINS, shape.size), jnp.float64)
            seconds = harness.timed(gradient, density, theta, repeats=3)
            stored = "blocks" if density.kernel.blocks is not None else "inputs"
            size = sum(x.nbytes for x in jax.tree.leaves(density.kernel)) / 2**20
        rows.append(
            {"P": P, "paths": int(np.prod(heads)), "coordinates": shape.size, "path kernels": stored, "MiB": size,
             "ms per gradient of 4 chains": 1e3 * seconds["median"], "seconds": seconds}
        )  # fmt: skip
    return rows


def lifting(task, N, draws) -> list[dict]:
    """Seconds to lift weight draws, compilation included."""
    run = gf.sample(task.posterior(N), key=jax.random.key(2), chains=1, warmup=50, draws=draws, progress=False)
    start = time.perf_counter()
    gf.lift(run, key=jax.random.key(3), progress=False)
    return [{"N": N, "draws": draws, "seconds": time.perf_counter() - start}]


def measure(options: Options) -> Measured:
    """Effective draws against NUTS, cost against width, one gradient against sizes, and lifting."""
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    quick = options.quick
    against = against_nuts(task, (10,) if quick else (10, 100, 1000), 2 if quick else 1)
    widths = cost_against_width(task, (10, 1000) if quick else (10, 100, 1000, 10_000, 100_000))
    gradients = gradient_cost(
        [(100, (2, 2))]
        if quick
        else [(P, (2, 2)) for P in (100, 200, 500, 1000, 2000)]
        + [(100, heads) for heads in ((1, 1), (2, 4), (4, 4), (4, 8), (8, 8))]
    )
    lifted = lifting(task, 100 if quick else 1000, 10 if quick else 100)
    unit = harness.unit()
    ratios = {f"gradient of 4 chains, P={r['P']}, {r['paths']} paths / unit": r["seconds"]["median"] / unit
              for r in gradients}  # fmt: skip
    ratios |= {f"{r['kernel']} / nuts, N={r['N']}": 1 / r["times NUTS"] for r in against if r["kernel"] != "nuts"}
    return Measured(
        [
            Table("Effective draws of U", against, {"N": "", "kernel": "", "ESS": ".0f", "seconds": ".1f",
                  "ESS/s": ".3g", "times NUTS": ".3g", "note": ""}),
            Table("The collapsed sampler against width", widths, dict.fromkeys(widths[0], ".4g"),
                  note="One compiled program serves all widths."),
            Table("One gradient of the collapsed log-density for 4 chains, against examples and paths", gradients,
                  {"P": "", "paths": "", "coordinates": "", "path kernels": "", "MiB": ".1f",
                   "ms per gradient of 4 chains": ".3g"}),
            Table("Lifting weights, compilation included", lifted, {"N": "", "draws": "", "seconds": ".2f"}),
        ],
        ratios,
        {"chains": CHAINS},
    )  # fmt: skip
