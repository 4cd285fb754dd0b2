"""Bias of the unadjusted kernels against the exact answer

Three step sizes each. A small network of one layer (P=5, N=(4, 3), T=0.2) where exact sampling is cheap. Chains start
at exact draws and run on; the bias is that of the mean log-density (all weights, or V_0 integrated out for `mclmc`),
beside its standard error from the spread between chains. Expected orders: step for `sgld` and `sghmc`, step^2 for
`mclmc`.

To take from it: at half the step size the bias of `sgld` and `sghmc` is half or less, and it is never known without an
exact answer to compare with. That of `mclmc` is within the error at its smallest step.
"""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np

import gibbsformer as gf

from ..core.numerics import numerics
from .harness import Measured, Options, Table

CHAINS, SPREAD = 512, 48
QUICK_CHAINS = 128
STEPS = {
    "sgld": [("weights", gf.SGLD(step_size=e), 2 * round(0.2 / e)) for e in (0.005, 0.01, 0.02)],
    "sgld, batch of 2": [
        ("weights", gf.SGLD(step_size=e, batch_size=2), 2 * round(0.2 / e)) for e in (0.0025, 0.005, 0.01)
    ],
    "sghmc": [("weights", gf.SGHMC(step_size=e, integration_steps=round(0.2 / e)), 6) for e in (0.005, 0.01, 0.02)],
    "mclmc": [("marginal", gf.MCLMC(step_size=e), round(24 / e)) for e in (2.0, 4.0, 6.0)],
}


def problem() -> gf.Posterior:
    """The small posterior."""
    rng = np.random.default_rng(0)
    data = gf.PathInputs(rng.standard_normal((5, 4, 2)) / np.sqrt(8))
    return gf.Posterior(gf.Network(4, (2,), (4, 3), (0.7, 1.3, 0.9)), data, rng.standard_normal(5), 0.2)


def exact(posterior, chains):
    """(weights to start from [chains, ..], space -> mean log-density and its standard error)."""
    run = gf.sample(
        posterior, key=jax.random.key(9), chains=SPREAD, warmup=100, draws=4096, keep="weights", progress=False
    )
    flat = {name: np.reshape(np.asarray(w), (-1, *w.shape[2:])) for name, w in run.weights.items()}
    found = {}
    for space in ("weights", "marginal"):
        target = posterior.target(space)
        with numerics():
            data = target.data(posterior, "float64")
            one = lambda w, t=target, d=data: t.log_density(d, t.from_weights(w))  # noqa: E731
            lp = np.asarray(jax.jit(lambda w, f=one: jax.lax.map(f, w, batch_size=200))(flat)).reshape(SPREAD, -1)
        found[space] = (lp.mean(), lp.mean(1).std() / np.sqrt(SPREAD))
    step = len(flat["a"]) // chains
    return {name: jnp.asarray(w[::step][:chains]) for name, w in flat.items()}, found


def measure(options: Options) -> Measured:
    """Bias of every kernel at its step sizes; when quick the largest only, of fewer chains."""
    posterior = problem()
    chains = QUICK_CHAINS if options.quick else CHAINS
    start, truth = exact(posterior, chains)
    rows = []
    for name, cases in STEPS.items():
        for space, kernel, thin in cases[-1:] if options.quick else cases:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", gf.ConvergenceWarning)
                run = gf.sample(
                    posterior, kernel, target=space, key=jax.random.key(3), chains=chains,
                    warmup=20, draws=300, thin=thin,
                    init=start, progress=False, keep="order_parameters",
                )  # fmt: skip
            lp = np.asarray(run.stats["lp"])[:, 50:].mean(1)  # the first draws still come from the exact start
            mean, error = truth[space]
            rows.append(
                {"kernel": name, "step size": kernel.step_size, "bias of log density": float(lp.mean() - mean),
                 "standard error": float(np.hypot(lp.std() / np.sqrt(chains), error))}
            )  # fmt: skip
    columns = {"kernel": "", "step size": "g", "bias of log density": ".3f", "standard error": ".3f"}
    return Measured([Table("Bias of the mean log-density", rows, columns)], {}, {"chains": chains})
