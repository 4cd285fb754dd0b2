"""Any number of examples: one pass over them, draws after it, and exact Gaussian processes elsewhere

Sequences of 8 tokens, N_0=64, four paths, labels of a teacher with noise, T=0.1, N=100. The pass is `gf.reduce` over a
memory-mapped float32 file. Its limit is the larger of reading the file and of its arithmetic, the QR factorisation of
as many batches and the products W x of the attention scores, both alone and in memory. Draws are `split` with two
kicks, four chains, the pass and compilation not included. The comparison is the log marginal likelihood of the GP limit
and its gradient in the prior variance of the readout and in T: here after the reduction, which is included, and with
GPyTorch on the kernel of all examples, by Cholesky factors and by its conjugate gradients (float64, all cores).
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gibbsformer as gf

from ..core.numerics import numerics
from ..models.reduction import constant, joined, reduction
from . import harness
from .harness import Measured, Options, Table

N_0, TOKENS, HEADS, WIDTH, TEMPERATURE, BATCH = 64, 8, (2, 2), 100, 0.1, 4096
COLUMNS = N_0 * 4
LARGEST_CHOLESKY = 10_000  # examples of which GPyTorch's kernel, factor and their derivatives fit in 16 GiB
FEW = 256  # examples that a draw is compared with
NOTE = "GPyTorch is not a dependency: install gpytorch to measure it."


def write_examples(folder: Path, P: int, attention: gf.Attention) -> tuple[np.ndarray, np.ndarray]:
    """Sequences and labels in files of the folder, mapped into memory."""
    rng = np.random.default_rng(0)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (P, N_0, TOKENS))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.float64, (P,))
    teacher = rng.standard_normal(COLUMNS) / np.sqrt(COLUMNS)
    for start in range(0, P, BATCH):
        part = slice(start, start + BATCH)
        x[part] = rng.standard_normal(x[part].shape)
        xi = gf.contract(x[part], attention, "mean").xi.reshape(-1, COLUMNS)
        y[part] = xi @ teacher / xi.std() + 0.3 * rng.standard_normal(len(xi))
    x.flush()
    y.flush()
    return np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")


def factorised(P: int) -> float:
    """Seconds of the QR factorisations of P examples that are in memory."""
    rows = np.random.default_rng(1).standard_normal((BATCH, COLUMNS + 1))
    R = joined(None, rows)
    start = time.perf_counter()
    for _ in range(repeats := 8):
        R = joined(R, rows)
    return (time.perf_counter() - start) / repeats * P / BATCH


def multiplied(P: int) -> float:
    """Seconds of the products W x of P examples alone, which are most of the contraction's arithmetic."""
    with numerics():
        x = harness.random_matrix((BATCH * TOKENS, N_0), jnp.float64)
        W = harness.random_matrix((N_0, sum(HEADS) * N_0), jnp.float64)
        return harness.timed(jax.jit(jnp.matmul), x, W)["median"] * P / BATCH


def read(x: np.ndarray) -> float:
    """Seconds of reading a file, which the system may have in memory."""
    start = time.perf_counter()
    for i in range(0, len(x), BATCH):
        np.array(x[i : i + BATCH]).sum()
    return time.perf_counter() - start


@contextlib.contextmanager
def watched() -> Iterator[list[float]]:
    """MiB of this process's memory during what is done here, without the pages of mapped files (Linux)."""
    seen, over = [], threading.Event()

    def look():
        while not over.wait(0.02):
            seen.append(int(re.findall(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def one_pass(x: np.ndarray, y: np.ndarray, attention: gf.Attention) -> tuple[Any, dict]:
    """The reduction, and what it took."""
    gf.reduce((x[: 2 * BATCH], y[: 2 * BATCH]), attention, "mean", batch=BATCH)  # compiles
    with watched() as memory:
        start, cpu = time.perf_counter(), time.process_time()
        found = gf.reduce((x, y), attention, "mean", batch=BATCH)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    limit = {"QR alone, s": factorised(len(x)), "W x alone, s": multiplied(len(x)), "reading alone, s": read(x)}
    arithmetic = limit["QR alone, s"] + limit["W x alone, s"]
    return found, {
        "P": len(x), "file GB": x.nbytes / 1e9, "seconds": seconds, "CPU seconds": cpu, **limit,
        "share of the limit": max(arithmetic, limit["reading alone, s"]) / seconds,
        "MiB beyond the start": max(memory) - memory[0],
        "batch MiB": BATCH * (COLUMNS + 1) * 8 / 2**20,
    }  # fmt: skip


def drawn(posterior: gf.Posterior, draws: int) -> dict:
    """Milliseconds of a draw, and seconds of the theory."""
    for _ in range(2):  # the first compiles
        start = time.perf_counter()
        gf.theory.solve(posterior)
        theory = time.perf_counter() - start
    seconds = {}
    for number in (draws, 5 * draws):  # the difference leaves out compilation and warm-up
        for _ in range(2):
            start = time.perf_counter()
            gf.sample(posterior, gf.SplitHMC(kicks=2), key=jax.random.key(0), warmup=10, draws=number, progress=False)
            seconds[number] = time.perf_counter() - start
    return {"ms per draw": 1e3 * (seconds[5 * draws] - seconds[draws]) / (4 * draws), "theory, s": theory}


def ours(xi: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Seconds and value of the GP limit's log-likelihood with its gradient, by way of the reduction."""

    def log_likelihood(hyper, features, labels, constants):
        variance, T = hyper
        factor = jnp.linalg.cholesky(variance * features @ features.T + T * jnp.eye(len(labels)))
        residual = jax.scipy.linalg.solve_triangular(factor, labels, lower=True)
        found = -0.5 * residual @ residual - jnp.sum(jnp.log(jnp.diag(factor)))
        return found - 0.5 * len(labels) * np.log(2 * np.pi) + constant(constants, T)

    with numerics():
        evaluate = jax.jit(jax.value_and_grad(log_likelihood))
        hyper = jnp.asarray([1.0, TEMPERATURE])
        for _ in range(2):  # the first compiles
            start = time.perf_counter()
            found = reduction(gf.PathInputs(xi), y)
            value, slope = evaluate(hyper, found.data.flat.reshape(len(found.y), -1), found.y, found.constants)
            jax.block_until_ready(slope)
            seconds = time.perf_counter() - start
    return seconds, float(value)


def gpytorch(xi: np.ndarray, y: np.ndarray, cholesky: bool) -> tuple[float, float] | None:
    """The same by GPyTorch on the kernel of all examples, or None where it is not installed."""
    try:
        import gpytorch as gpt
        import torch
    except ImportError:
        return None
    features, labels = (torch.tensor(v) for v in (xi.reshape(len(xi), -1), y))

    class Model(gpt.models.ExactGP):
        def __init__(self):
            super().__init__(features, labels, gpt.likelihoods.GaussianLikelihood())
            self.mean, self.kernel = gpt.means.ZeroMean(), gpt.kernels.LinearKernel()

        def forward(self, x):
            return gpt.distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    model = Model().double()
    model.kernel.variance, model.likelihood.noise = 1.0, TEMPERATURE
    model.train()
    marginal = gpt.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    torch.manual_seed(0)
    limit = 10**9 if cholesky else 0
    with gpt.settings.max_cholesky_size(limit), gpt.settings.fast_computations(*3 * (not cholesky,)):
        start = time.perf_counter()
        value = len(y) * marginal(model(features), labels)
        value.backward()
        return time.perf_counter() - start, float(value.detach())


def compared(x: np.ndarray, y: np.ndarray, attention: gf.Attention, P: int) -> dict:
    """One number of examples: seconds, and the log-likelihood per example."""
    xi, y = gf.contract(x[:P], attention, "mean").xi, np.array(y[:P])
    found: dict[str, Any] = {"P": P}
    for name, call in {
        "here": lambda: ours(xi, y),
        "GPyTorch, Cholesky": lambda: gpytorch(xi, y, True) if P <= LARGEST_CHOLESKY else None,
        "GPyTorch, CG": lambda: gpytorch(xi, y, False),
    }.items():
        seconds, value = call() or (None, None)
        found |= {f"{name}, s": seconds, f"{name}, log-likelihood / P": value and value / P}
    return found


def measure(options: Options) -> Measured:
    """A pass over all examples, draws after it, and the comparison."""
    P = 20_000 if options.quick else 1_000_000
    rng = np.random.default_rng(2)
    attention = gf.Attention([rng.standard_normal((H, N_0, N_0)) / 8 for H in HEADS])
    with tempfile.TemporaryDirectory() as name:
        x, y = write_examples(Path(name), P, attention)
        found, row = one_pass(x, y, attention)
        few = gf.contract(x[:FEW], attention, "mean")
        network = gf.Network(N_0, HEADS, (WIDTH,) * 3)
        after = [
            {"P": n, "pseudo-examples": min(n, COLUMNS), **drawn(posterior, 10 if options.quick else 50)}
            for n, posterior in (
                (FEW, gf.Posterior(network, few, np.array(y[:FEW]), TEMPERATURE)),
                (P, gf.Posterior(network, found, temperature=TEMPERATURE)),
            )
        ]
        sizes = (500,) if options.quick else (2000, 5000, 10_000, 20_000)
        rows = options.each(sizes, lambda n: compared(x, y, attention, n))
    peers = ("here", "GPyTorch, Cholesky", "GPyTorch, CG")
    formats = {
        "P": ",", "file GB": ".2f", "seconds": ".1f", "CPU seconds": ".1f", "QR alone, s": ".1f",
        "W x alone, s": ".1f",
        "reading alone, s": ".1f", "share of the limit": ".0%", "MiB beyond the start": ",.0f", "batch MiB": ".0f",
    }  # fmt: skip
    slower = after[1]["ms per draw"] / after[0]["ms per draw"]
    return Measured(
        [
            Table("One pass over all examples", [row], formats),
            Table("Draws after it", after, {"P": ",", "pseudo-examples": "", "ms per draw": ".2f", "theory, s": ".2f"}),
            Table("Log marginal likelihood of the GP limit, with its gradient", rows,
                  {"P": ",", **{f"{name}, s": ".3g" for name in peers},
                   **{f"{name}, log-likelihood / P": ".5f" for name in peers}}, note=NOTE),
        ],
        {"pass / limit": 1 / row["share of the limit"], f"draw at P={P} / at P={FEW}": slower},
        {"N_0": N_0, "tokens": TOKENS, "paths": 4, "batch": BATCH, "T": TEMPERATURE, "N": WIDTH},
        f"P={P:,} in {row['seconds']:.0f} s, {row['share of the limit']:.0%} of the limit; "
        f"then a draw costs {slower:.2f} times one at P={FEW}",
    )  # fmt: skip
