"""Correctness: theory, exact draws and evidence on this device against independent results

Float64. Theory and posterior means of U_1 against the reference results of figure 2c's task (an independent
implementation, `tests/data`), the log-density at the saddle point against NumPy, the evidence of one layer of one head
against a two-dimensional integral. Numbers without noise are compared by their relative difference, draws by the
largest difference in standard errors, over all entries of U_1 (10 different ones).

To take from it: every quantity passes on both kinds of device.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

import gibbsformer as gf

from ..core import checks
from ..core.numerics import numerics
from ..models import collapsed
from ..theory import saddle
from .harness import Measured, Options, Table

FILE = "tests/data/reference_hmm_extract.h5"
WIDTHS = (100, 10, 1000)
ROUNDING, ERRORS = 1e-10, 4.0  # what passes: relative difference, standard errors
REFERENCE = 1e-3  # relative, to which the reference's optimiser found the saddle point


def read() -> dict[str, np.ndarray]:
    """The reference results of this checkout, or of the directory that the command runs in."""
    path = next((p for p in (Path(__file__).resolve().parents[1] / FILE, Path(FILE)) if p.is_file()), None)
    if path is None:
        raise checks.InputError(f"suite 'reference' compares with {FILE}, which is not here: run it in a checkout")
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        arrays["T"] = file.attrs["temperature"]
    return arrays


def posterior_of(found: dict, N: int) -> gf.Posterior:
    """The reference posterior at one width."""
    xi = found["train/xi"].reshape(*found["train/xi"].shape[:2], 2, 2)
    return gf.Posterior(gf.Network(xi.shape[1], (2, 2), (N,) * 3), gf.PathInputs(xi), found["train/y"], found["T"])


def noiseless(quantity: str, value, reference, limit: float = ROUNDING) -> dict:
    """A row for numbers without noise."""
    value, reference = np.asarray(value), np.asarray(reference)
    difference = float(np.abs(value - reference).max() / np.abs(reference).max())
    return {"quantity": quantity, "difference": difference, "in": "relative", "passes": difference < limit}


def noisy(quantity: str, value, error, reference) -> dict:
    """A row for averages of draws."""
    off = float(np.max(np.abs(np.asarray(value) - reference) / error))
    return {"quantity": quantity, "difference": off, "in": "standard errors", "passes": off < ERRORS}


def log_density(posterior, theta) -> tuple[float, float]:
    """(ours, NumPy's) log-density of the order parameters at theta."""
    with numerics():
        shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
        ours = float(collapsed.log_density(shape, data, jnp.asarray(theta)))
        prior = float(collapsed.log_prior(shape, data.widths, jnp.asarray(theta)))
        U = np.asarray(collapsed.order_parameters(shape, data.variances, jnp.asarray(theta)).U[0])
    xi = posterior.data.flat
    A = np.einsum("pnh,hg,qng->pq", xi, U, xi) + posterior.temperature * np.eye(len(xi))
    return ours, prior + scipy.stats.multivariate_normal.logpdf(posterior.y, np.zeros(len(A)), A)


def actions(theory) -> tuple[np.ndarray, np.ndarray]:
    """(on the device, on the host) the action and its gradient at half the saddle point's theta."""
    found = []
    for place in (contextlib.nullcontext(), jax.default_device(jax.local_devices(backend="cpu")[0])):
        with numerics(), place:
            problem = saddle.prepare(theory.posterior, None)
            value, gradient = saddle._action(problem.shape, problem.data, jnp.asarray(theory.theta / 2))
            found.append(np.append(np.asarray(gradient), float(value)))
    return found[0], found[1]


def one_path() -> gf.Posterior:
    """A posterior over two numbers, U_a and U_1."""
    rng = np.random.default_rng(0)
    data = gf.PathInputs(rng.standard_normal((6, 3, 1)) / np.sqrt(3))
    return gf.Posterior(gf.Network(3, (1,), (4, 3), (0.7, 1.3, 0.9)), data, rng.standard_normal(6), 0.1)


def log_evidence(posterior) -> float:
    """Its evidence by the trapezoidal rule: U_a = s_a c / N_2, U_1 = s_1 U_a d / N_1, c and d chi^2."""
    (N_1, N_2), (s_0, s_1, s_a), T = posterior.network.widths, posterior.network.variances, posterior.temperature
    log_c, log_d = np.linspace(-22.0, 5.5, 221), np.linspace(-18.0, 5.5, 221)
    c, d = np.meshgrid(np.exp(log_c), np.exp(log_d), indexing="ij")
    xi = posterior.data.flat[:, :, 0]
    eigenvalues, vectors = np.linalg.eigh(s_0 * xi @ xi.T)
    scale = eigenvalues * (s_1 * s_a * c * d / N_1 / N_2)[..., None] + T
    likelihood = np.exp(-0.5 * np.sum((vectors.T @ posterior.y) ** 2 / scale + np.log(2 * np.pi * scale), axis=-1))
    weight = likelihood * scipy.stats.chi2.pdf(c, N_2) * c * scipy.stats.chi2.pdf(d, N_1) * d
    return float(np.log(weight.sum() * (log_c[1] - log_c[0]) * (log_d[1] - log_d[0])))


def measure(options: Options) -> Measured:
    """A row per quantity."""
    found, rows = read(), []
    widths = WIDTHS[:1] if options.quick else WIDTHS
    for N in widths:
        theory = gf.theory.solve(posterior_of(found, N))
        rows.append(noiseless(f"theory U_1, N={N}", theory.U[0], found[f"theory/N{N}/U_1"], REFERENCE))
        if N == 100:
            rows.append(noiseless("action and its gradient at half of it, N=100", *actions(theory)))
            rows.append(
                noiseless("log-density at the saddle point, N=100", *log_density(theory.posterior, theory.theta))
            )
    single = gf.evidence(one_path(), key=jax.random.key(0), method="smc")
    rows.append(noisy("log evidence, one path", single.log_evidence, single.error, log_evidence(one_path())))
    kernels = {
        "split": (gf.SplitHMC(kicks=3), 2048, 60),
        "collapsed": (gf.Collapsed(move="nuts", max_doublings=4), 64, 100),
    }

    def row(case):
        name, N = case
        kernel, chains, draws = kernels[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", gf.ConvergenceWarning)
            run = gf.sample(posterior_of(found, N), kernel, key=jax.random.key(1), chains=chains // 8 if options.quick
                            else chains, warmup=60, draws=draws, progress=False)  # fmt: skip
        U_1 = gf.diagnostics.moments(run.order_parameters.U[0])
        error = np.hypot(U_1["mcse"], found[f"posterior/N{N}/U_1_mcse"])
        seen = noisy(f"U_1, {name}, N={N}", U_1["mean"], error, found[f"posterior/N{N}/U_1_mean"])
        return seen | {"ESS": float(U_1["ess_bulk"].min()), "R-hat": float(U_1["rhat"].max())}

    rows += options.each([(name, N) for name in kernels for N in widths], row)
    columns = {"quantity": "", "difference": ".2g", "in": "", "passes": "", "ESS": ",.0f", "R-hat": ".4f"}
    rows = [{"ESS": None, "R-hat": None} | row for row in rows]
    passed = sum(row["passes"] for row in rows)
    note = (
        f"Limits: {REFERENCE:g} for the theory, to which the reference is known, {ROUNDING:g} for the log-density, and "
    )
    note += f"{ERRORS:g} standard errors. ESS and R-hat are those of the draws."
    table = Table("Against independent results", rows, columns, note=note)
    return Measured([table], {}, {}, f"{passed} of {len(rows)} agree")
