"""Effective draws of U per second and per gradient: every kernel, beside NumPyro's NUTS on the token-level model.

Reference task of figure 2c (P=100, T=0.01). Each kernel runs for a time budget, warm-up of 100 transitions included
and compilation excluded, from exact starts (``init="collapsed"``), so that a short run measures mixing and not the
way there. ESS is the least bulk-ESS over entries of U_1; gradients are those after the warm-up, of all chains.
NumPyro's NUTS on the published model is timed for a few draws, a chain a core, at the step size that chees found for
all weights (both have the unit metric), and one effective draw counted per draw and chain: an UPPER bound.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
import warnings

import gradient
import harness
import jax
import jax.numpy as jnp
import numpy as np

import gibbsformer as gf

KERNELS = {
    "collapsed": (gf.Collapsed(), 1),
    "gibbs": (gf.Gibbs(), 1),
    "nuts": (gf.NUTS(), 1),
    "nuts, all weights": (gf.NUTS(space="weights"), 1),
    "hmc": (gf.HMC(integration_steps=16), 1),
    "chees": (gf.ChEES(), 1),
    "chees, all weights": (gf.ChEES(space="weights"), 1),
    "adjusted_mclmc": (gf.AdjustedMCLMC(), 1),
    "mala": (gf.MALA(), 16),
    "ghmc": (gf.GHMC(), 16),
    "mclmc (biased)": (gf.MCLMC(), 8),
    "sgld (biased)": (gf.SGLD(step_size=1e-6, batch_size=50), 64),
    "sghmc (biased)": (gf.SGHMC(step_size=1e-5), 16),
}
FOR_MANY_CHAINS = ("collapsed", "chees", "ghmc", "mclmc (biased)")
PATIENCE = {"nuts, all weights": 10}  # times the budget: its warm-up alone takes longer than the other runs
WARMUP = 100
TOKEN_LEVEL = "NumPyro nuts, token level (upper bound)"


def exact_start(posterior, chains) -> dict:
    """Exact weights [chains, ..] to start from."""
    run = gf.sample(
        posterior, key=jax.random.key(2), chains=chains, warmup=200, draws=1, progress=False, keep="weights"
    )
    return {name: np.asarray(w)[:, 0] for name, w in run.weights.items()}


def measure(posterior, name, chains, seconds, start) -> dict:
    """One row: a run of about ``seconds`` seconds."""
    kernel, thin = KERNELS[name]
    sample = functools.partial(
        gf.sample, posterior, kernel, key=jax.random.key(1), chains=chains, warmup=WARMUP, draws=20_000, thin=thin,
        keep="order_parameters", progress=False, precision="float64" if kernel.float64_only else "float32",
        init=None if name == "collapsed" else start,
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


def token_level(task, posterior, step_size, start, draws) -> dict:
    """NumPyro's NUTS on the published model: a few draws from exact starts at a given step size, a chain a core."""
    import numpyro

    chains = jax.local_device_count()

    log_density = gradient.token_level_log_density(task, posterior, "float32")

    def model():
        shapes = posterior.network.weight_shapes.items()
        flat = numpyro.distributions.ImproperUniform(numpyro.distributions.constraints.real, (), ())
        weights = {name: numpyro.sample(name, flat.expand(shape)) for name, shape in shapes}
        numpyro.factor("log_density", log_density(weights))  # prior included

    kernel = numpyro.infer.NUTS(model, step_size=step_size, adapt_step_size=False, adapt_mass_matrix=False)
    mcmc = numpyro.infer.MCMC(
        kernel, num_warmup=0, num_samples=draws, num_chains=chains, chain_method="parallel", progress_bar=False
    )
    params = {name: jnp.asarray(w[:chains], jnp.float32) for name, w in start.items()}
    mcmc.run(jax.random.PRNGKey(3), init_params=params)  # compiles
    begun = time.perf_counter()
    mcmc.run(jax.random.PRNGKey(4), init_params=params, extra_fields=("num_steps",))
    elapsed = time.perf_counter() - begun
    steps = np.asarray(mcmc.get_extra_fields()["num_steps"])
    return {
        "chains": chains, "kernel": TOKEN_LEVEL, "draws": draws, "seconds": elapsed, "ESS": float(draws * chains),
        "ESS/s": draws * chains / elapsed, "ESS per 1000 gradients": 1e3 * draws * chains / steps.sum(),
        "gradients per draw": float(steps.mean()),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--chains", type=int, nargs="+", default=[4, 64])
    parser.add_argument(
        "--seconds",
        type=float,
        default=12.0,
        help="time budget of one run, four times that for many chains (default %(default)s)",
    )
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    rows = []
    for N in options.widths:
        posterior = task.posterior(N)
        for chains in options.chains:
            start = exact_start(posterior, chains)
            for name in KERNELS if chains <= 16 else FOR_MANY_CHAINS:
                seconds = options.seconds * PATIENCE.get(name, 1 if chains <= 16 else 4)
                rows.append({"N": N, **measure(posterior, name, chains, seconds, start)})
                print(rows[-1], flush=True)
            if chains == min(options.chains):
                ours = next(r for r in rows if r["N"] == N and r["kernel"] == "chees, all weights")
                rows.append(
                    {"N": N, **token_level(task, posterior, ours["step size"], start, draws=8 if N == 10 else 2)}
                )
                print(rows[-1], flush=True)
    columns = {"N": "", "chains": "", "kernel": "", "draws": "", "ESS": ".0f", "ESS/s": ".3g"}
    columns |= {"ESS per 1000 gradients": ".3g", "gradients per draw": ".0f"}
    print(harness.table(rows, columns))
    print(harness.save("kernels", rows, seconds=options.seconds))


if __name__ == "__main__":
    main()
