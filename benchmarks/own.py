"""A network of the user's own, against NumPyro and BlackJAX on the same density

A multilayer perceptron, 8 inputs, 16 tanh units, 144 weights, Gaussian prior, P=100 noisy labels, T=0.1, float64, 4
chains side by side, 300 transitions of warm-up and as many draws for all, compilation excluded. Effective draws are
those of the worst of the outputs for 50 test inputs (bulk), per second of warm-up and draws together; for gibbsformer
that includes what it records, watches and judges of each draw.

- `gibbsformer nuts`: `gf.sample(model.posterior(..), "nuts")`.
- `NumPyro nuts`: NumPyro's on `posterior.numpyro_model`, its chains vectorised.
- `BlackJAX nuts, bare`: BlackJAX's NUTS and window adaptation on `posterior.log_density`, without our driver.

z: largest difference of the mean outputs from gibbsformer's, in both Monte Carlo errors together, of 50.

To take from it: the driver costs nothing. All three take about as many gradients a draw, but chains of the other two
move in lockstep and wait for the longest tree, where ours run side by side.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro

import gibbsformer as gf

from ..core.numerics import numerics
from . import harness
from .harness import Measured, Options, Table

CHAINS, WARMUP, P, INPUTS, UNITS, TEST, TEMPERATURE = 4, 300, 100, 8, 16, 50, 0.1
OURS = "gibbsformer nuts"


def perceptron(w, x):
    """f [P] of inputs x [P, 8]."""
    return jnp.tanh(x @ w["W"].T) @ w["a"]


def problem():
    """(posterior, test inputs [50, 8])."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((P + TEST, INPUTS))
    y = np.tanh(2 * x[:, 0] * x[:, 1]) + np.sqrt(TEMPERATURE) * rng.standard_normal(P + TEST)
    model = gf.Model(
        shapes={"W": (UNITS, INPUTS), "a": (UNITS,)},
        variances={"W": 1 / INPUTS, "a": 1 / UNITS},
        forward=perceptron,
    )
    return model.posterior(x[:P], y[:P], TEMPERATURE), x[P:]


def ours(posterior, x_test, draws: int) -> Callable:
    """Key -> (f [chain, draw, 50], gradients per draw)."""

    def run(key):
        found = gf.sample(
            posterior, "nuts", key=key, chains=CHAINS, warmup=WARMUP, draws=draws, progress=False,
            test=(x_test, np.zeros(len(x_test))),
        )  # fmt: skip
        return np.asarray(found.variables["f"]), float(np.asarray(found.stats["n_steps"]).mean())

    return run


def of_numpyro(posterior, x_test, draws: int) -> Callable:
    """As ``ours``."""
    kernel = numpyro.infer.NUTS(posterior.numpyro_model)
    mcmc = numpyro.infer.MCMC(
        kernel, num_warmup=WARMUP, num_samples=draws, num_chains=CHAINS, chain_method="vectorized", progress_bar=False
    )
    outputs = jax.jit(jax.vmap(jax.vmap(lambda w: perceptron(w, x_test))))

    def run(key):
        mcmc.run(jax.random.key_data(key), extra_fields=("num_steps",))
        weights = {name: each for name, each in mcmc.get_samples(group_by_chain=True).items() if name != "f"}
        return np.asarray(outputs(weights)), float(mcmc.get_extra_fields()["num_steps"].mean())

    return run


def of_blackjax(posterior, x_test, draws: int) -> Callable:
    """As ``ours``."""
    adaptation = blackjax.window_adaptation(blackjax.nuts, posterior.log_density, initial_step_size=0.1)
    kernel = blackjax.nuts.build_kernel()

    def chain(key):
        start, warm, move = jax.random.split(key, 3)
        (state, parameters), _ = adaptation.run(warm, posterior.model.draw(start), num_steps=WARMUP)

        def step(state, key):
            state, info = kernel(key, state, posterior.log_density, **parameters)
            return state, (perceptron(state.position, x_test), info.num_integration_steps)

        return jax.lax.scan(step, state, jax.random.split(move, draws))[1]

    chains = jax.jit(jax.vmap(chain))

    def run(key):
        f, steps = jax.block_until_ready(chains(jax.random.split(key, CHAINS)))
        return np.asarray(f), float(steps.mean())

    return run


def row(name: str, run: Callable, repeats: int, expected) -> tuple[dict, dict]:
    """Effective draws per second, of the best of some repeats after one that compiles, and moments of f."""
    with numerics():
        run(jax.random.key(0))
        rates = []
        for i in range(repeats):
            begun = time.perf_counter()
            f, steps = run(jax.random.key(1 + i))
            rates.append((time.perf_counter() - begun, f))
    seconds, f = min(rates, key=lambda each: each[0])
    found = gf.diagnostics.moments(f)
    ess = float(found["ess_bulk"].min())
    off = 0.0 if expected is None else np.abs(found["mean"] - expected["mean"])
    z = 0.0 if expected is None else float(np.max(off / np.hypot(found["mcse"], expected["mcse"])))
    values = {"sampler": name, "draws": f.shape[1], "seconds": seconds, "ESS of f": ess, "f /s": ess / seconds}
    return values | {"gradients per draw": steps, "z": z}, found


def measure(options: Options) -> Measured:
    """All three samplers in turn."""
    posterior, x_test = problem()
    draws, repeats = (300, 1) if options.quick else (1000, 3)
    rows, expected = [], None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, make in ((OURS, ours), ("NumPyro nuts", of_numpyro), ("BlackJAX nuts, bare", of_blackjax)):
            found, moments = row(name, partial(make, posterior, x_test)(draws), repeats, expected)
            expected = moments if expected is None else expected
            rows.append(found)
    best = harness.first_of(rows)
    for each in rows:
        each["against it"] = best["f /s"] / each["f /s"]
    columns = {
        "sampler": "", "draws": "", "seconds": ".2f", "ESS of f": ".0f", "f /s": ".3g", "gradients per draw": ".0f",
        "against it": ".2f", "z": ".1f",
    }  # fmt: skip
    ratios = {f"{each['sampler']} / ours": 1 / each["against it"] for each in rows[1:]}
    headline = ", ".join(f"{each['against it']:.2f} x {each['sampler']}" for each in rows[1:])
    return Measured(
        [Table("Effective draws of f", rows, columns)], ratios, {"chains": CHAINS, "warmup": WARMUP}, headline
    )
