"""One gradient of the weight-space log-density: token by token as published, and contracted over attention paths.

The token-level density forms z_l(t) [P, S, N_l] for every example; the contracted one (models/network.py) goes from the
readout down and forms no activation of any example. Reference task: P=100, 31 tokens, N_0=231, two layers of two heads.
"""

from __future__ import annotations

import argparse

import harness
import jax
import jax.numpy as jnp
import numpy as np

import gibbsformer as gf
from gibbsformer.models.network import draw_prior


def token_level_log_density(task, posterior, dtype):
    """The published way: attention applied to activations of every token, heads summed layer by layer."""
    x = jnp.asarray(task.train.x, dtype)
    with jax.enable_x64(True):
        patterns = [np.asarray(a) for a in task.attention(task.train.x)]
    patterns = [jnp.asarray(a, dtype) for a in patterns]
    y, T, variances = jnp.asarray(posterior.y, dtype), posterior.temperature, posterior.network.variances

    def log_density(weights):
        z = jnp.einsum("jn,pnt->pjt", weights["V_0"], x) / float(np.sqrt(x.shape[1]))
        for l, a in enumerate(patterns, start=1):
            V = weights[f"V_{l}"]
            mixed = jnp.einsum("hij,pjs->phis", V, z)
            z = jnp.einsum("phis,phst->pit", mixed, a) / float(np.sqrt(V.shape[0] * V.shape[2]))
        f = z[:, :, -1] @ weights["a"] / float(np.sqrt(z.shape[1]))
        prior = sum(-0.5 * jnp.sum(w**2) / s for w, s in zip(weights.values(), variances, strict=True))
        return prior - 0.5 * jnp.sum((f - y) ** 2) / T

    return log_density


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    rows = []
    for dtype in ("float32", "float64"):
        for N in options.widths:
            posterior = task.posterior(N)
            with jax.enable_x64(dtype == "float64"):
                weights = draw_prior(posterior.network, jax.random.key(1), jnp.dtype(dtype))
                tokens = jax.jit(jax.grad(token_level_log_density(task, posterior, dtype)))
                paths = jax.jit(jax.grad(posterior.log_density))
                one, other = tokens(weights), paths(weights)
                error = max(float(jnp.abs(one[k] - other[k]).max() / jnp.abs(one[k]).max()) for k in weights)
                inner = 20 if N < 1000 else 2
                measured = {
                    "token_level": harness.timed(tokens, weights, repeats=options.repeats, inner=inner),
                    "contracted": harness.timed(paths, weights, repeats=options.repeats, inner=20),
                }
            rows.append(
                {
                    "dtype": dtype,
                    "N": N,
                    "token-level ms": 1e3 * measured["token_level"]["median"],
                    "contracted ms": 1e3 * measured["contracted"]["median"],
                    "ratio": measured["token_level"]["median"] / measured["contracted"]["median"],
                    "relative difference": error,
                    "seconds": measured,
                }
            )
    print(
        harness.table(
            rows,
            {"dtype": "", "N": "", "token-level ms": ".3f", "contracted ms": ".3f", "ratio": ".1f",
             "relative difference": ".1e"},
        )
    )  # fmt: skip
    print(harness.save("gradient", rows, repeats=options.repeats))


if __name__ == "__main__":
    main()
