"""One gradient of the weight-space log-density

Token by token as published, and contracted over attention paths. The token-level density forms z_l(t) [P, S, N_l] for
every example; the contracted one (`models/network.py`) goes from the readout down and forms no activation of any
example. Reference task: P=100, 31 tokens, N_0=231, two layers of two heads.

To take from it: on a CPU, contraction is worth a factor of tens to hundreds, so that no kernel of this package forms
activations of tokens unless the network makes it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import gibbsformer as gf

from ..core.numerics import full_precision
from ..models.network import draw_prior
from . import harness
from .harness import Measured, Options, Table

WIDTHS = (10, 100, 1000)


def token_level_log_density(task, posterior, dtype):
    """The published way: attention applied to activations of every token, heads summed layer by layer."""
    x = jnp.asarray(task.train.x, dtype)
    with jax.enable_x64(True):
        patterns = [np.asarray(a) for a in task.attention(task.train.x)]
    patterns = [jnp.asarray(a, dtype) for a in patterns]
    y, T, variances = jnp.asarray(posterior.y, dtype), posterior.temperature, posterior.network.variances

    @full_precision()
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


def row(task, dtype: str, N: int) -> dict:
    """Both gradients at one width and precision."""
    posterior = task.posterior(N)
    with jax.enable_x64(dtype == "float64"):
        weights = draw_prior(posterior.network, jax.random.key(1), jnp.dtype(dtype))
        tokens = jax.jit(jax.grad(token_level_log_density(task, posterior, dtype)))
        paths = jax.jit(jax.grad(posterior.log_density))
        seconds = {
            "token_level": harness.timed(tokens, weights, inner=20 if N < 1000 else 2),
            "contracted": harness.timed(paths, weights, inner=20 if N < 10_000 else 2),
        }
        one, other = tokens(weights), paths(weights)
        error = max(float(jnp.abs(one[k] - other[k]).max() / jnp.abs(one[k]).max()) for k in weights)
    medians = {name: s["median"] for name, s in seconds.items()}
    return {
        "precision": dtype,
        "N": N,
        "token-level ms": 1e3 * medians["token_level"],
        "contracted ms": 1e3 * medians["contracted"],
        "ratio": medians["token_level"] / medians["contracted"],
        "relative difference": error,
        "compile s": seconds["contracted"]["first"],
        "seconds": seconds,
    }


def measure(options: Options) -> Measured:
    """Milliseconds of both gradients at each width and precision."""
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    widths = WIDTHS[:2] if options.quick else WIDTHS
    if options.on_gpu and not options.quick:
        widths = (1000, 10_000, 100, 10)
    cases = [(dtype, N) for dtype in (("float32",) if options.quick else ("float32", "float64")) for N in widths]
    rows = options.each(cases, lambda case: row(task, *case))
    rows.sort(key=lambda r: (r["precision"], r["N"]))
    columns = {
        "precision": "", "N": "", "token-level ms": ".3f", "contracted ms": ".3f", "ratio": ".1f",
        "relative difference": ".1e", "compile s": ".2f",
    }  # fmt: skip
    plot = {"x": "N", "y": ["token-level ms", "contracted ms"], "where": {"precision": "float32"}, "label": "ms"}
    ratios = {f"contracted / token-level, N={r['N']}, {r['precision']}": 1 / r["ratio"] for r in rows}
    most = harness.first_of(sorted(rows, key=lambda r: -r["ratio"]))
    headline = f"contracted {most['ratio']:.0f} times faster at N={most['N']:,}, {most['precision']}"
    return Measured([Table("Milliseconds of one gradient, against width", rows, columns, plot)], ratios, {}, headline)
