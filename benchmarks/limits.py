"""The machine's limits, and the share of them that gradients and exact draws of all weights reach

Rate of matrix products (size 2048; 8192 on a GPU, float32 in full precision) and bandwidth of passes over 256 MiB
(2 GiB on a GPU), read and written in place, measured in the same run. The least time of an operation is the larger of
its arithmetic at that rate and its traffic at that bandwidth; the share is that over the time measured. Weight
gradient: all weights are read twice and their gradient is written once, arithmetic as XLA counts it. Collapsed
gradient: P^3 for the Cholesky factor and the inverse of K + T I, and two passes over the packed path kernels with 2
operations per entry each. A Gibbs sweep and a lift draw as many normal numbers as there are weights, so the time of
drawing those is their limit (one chain, float64).

To take from it: small problems are overhead, and large ones reach a quarter to nearly all of what the machine can do.
Exact draws of all weights cost about two to four times as much as the normal numbers in them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import gibbsformer as gf

from ..core.numerics import numerics
from ..models import collapsed, lifting
from ..models.network import draw_prior
from ..models.path_kernel import block_bytes
from ..sampler.kernels.kernel import Setting
from . import harness
from .harness import Measured, Options, Table
from .scaling import Case, collapsed_gradient, weight_gradient

PRODUCT, COPY_MIB, PASSES = 2048, 256, 20
NOTE = "More than 100 % means that the operands stay in a cache, which is faster than the memory."


def machine_limits(quick: bool, dtypes: tuple[str, ...] = ("float32", "float64")) -> dict[str, float]:
    """Operations per second in each precision, and bytes per second."""
    gpu, found = jax.default_backend() != "cpu", {}
    size = PRODUCT * (4 if gpu else 1) // (4 if quick else 1)
    with numerics():
        for dtype in dtypes:
            matrix = harness.random_matrix((size, size), dtype)
            found[dtype] = 2 * size**3 / harness.timed(jax.jit(jnp.matmul), matrix, matrix)["median"]
        long = harness.random_matrix((COPY_MIB * (8 if gpu else 1) * 2**20 // 4,), jnp.float32)
        # in place: a fresh result would measure how fast the system hands out pages
        passes = jax.jit(lambda x: jax.lax.fori_loop(0, PASSES, lambda _, x: x + 1, x))
        found["bytes"] = PASSES * 2 * long.nbytes / harness.timed(passes, long)["median"]
    return found


def covariances(n: int, count: int, dtype) -> jax.Array:
    """Positive definite matrices [count, n, n]."""
    x = harness.random_matrix((count, n, 4), dtype)
    return x @ jnp.swapaxes(x, 1, 2) / n + jnp.eye(n, dtype=dtype)


def cholesky_rows(options: Options) -> list[dict]:
    """Milliseconds and rates of batched factorisations, float64 and float32."""
    sizes: dict = {100: (4096, 64, 16_384, 1024, 1), 600: (16, 256), 300: (1024,), 1000: (16,)}
    if options.quick or not options.on_gpu:
        sizes = {100: (1, 4, 64), 300: (1, 4), 600: (1, 4)}

    def row(case):
        (n, count), found = case, {"n": case[0], "matrices": case[1]}
        for dtype in ("float64", "float32"):
            seconds = harness.timed(factorise, covariances(n, count, dtype))["median"]
            found |= {f"{dtype} ms": 1e3 * seconds, f"{dtype} Gflop/s": count * n**3 / 3 / seconds / 1e9}
        return found

    with numerics():
        factorise = jax.jit(lambda A: jax.lax.linalg.cholesky(A, symmetrize_input=False))
        rows = options.each([(n, b) for n, counts in sizes.items() for b in counts], row)
    return sorted(rows, key=lambda r: (r["n"], r["matrices"]))


def weight_row(N: int, limits: dict) -> dict:
    """The weight-space gradient at one width, float32."""
    case = Case(N=N)
    call = weight_gradient(case)
    size = 4 * case.posterior().network.weight_count
    inner = 20 if N < 1000 or jax.default_backend() != "cpu" else 1
    return _row(f"weight gradient, N={N}", call, call.operations, 3 * size, "float32", limits, inner)


def collapsed_row(P: int, heads: tuple[int, int], limits: dict) -> dict:
    """The collapsed gradient of one chain, float64."""
    case = Case(P=P, N_0=64, heads=heads)
    H = int(np.prod(heads))
    entries = block_bytes((P, case.N_0, H)) // 8
    with numerics():
        call = collapsed_gradient(case)
        return _row(
            f"collapsed gradient, P={P}, {H} paths", call, P**3 + 4 * entries, 16 * entries, "float64", limits, 5
        )


def exact_draw_row(N: int) -> dict:
    """A Gibbs sweep and a lift of one chain, compared with drawing the normal numbers that either needs."""
    posterior = Case(N=N).posterior()
    network, kernel, key = posterior.network, gf.Gibbs(), jax.random.key(0)
    with numerics():
        data, density = posterior.weight_data(jnp.float64), posterior.collapsed_data()
        setting = Setting(posterior.target("weights"), data, warmup=0, chains=1)
        shape = collapsed.layout(network)
        calls = {
            "normals": (lambda key, weights: draw_prior(network, key)),
            "Gibbs sweep": (lambda key, weights: kernel.step(setting, key, jnp.int32(0), weights)[0]),
            "lift": (lambda key, weights: lifting.lift(network, shape, density, data.xi, key, jnp.zeros(shape.size))),
        }
        weights = draw_prior(network, key)
        seconds = {name: harness.timed(jax.jit(call), key, weights)["median"] for name, call in calls.items()}
    return {"N": N} | {f"{name} ms": 1e3 * found for name, found in seconds.items()} | {
        f"normals / {name}": seconds["normals"] / seconds[name] for name in ("Gibbs sweep", "lift")
    }  # fmt: skip


def _row(name: str, call, operations: float, traffic: float, dtype: str, limits: dict, inner: int) -> dict:
    seconds = harness.timed(call, inner=inner)["median"]
    arithmetic, memory = operations / limits[dtype], traffic / limits["bytes"]
    return {
        "operation": name, "ms": 1e3 * seconds,
        "least ms, arithmetic": 1e3 * arithmetic, "least ms, memory": 1e3 * memory,
        "share of the limit": max(arithmetic, memory) / seconds,
    }  # fmt: skip


def measure(options: Options) -> Measured:
    """Limits, then gradients and exact draws compared with them."""
    limits = machine_limits(options.quick)
    rates = [{"float32 Gflop/s": limits["float32"] / 1e9, "float64 Gflop/s": limits["float64"] / 1e9,
              "memory GB/s": limits["bytes"] / 1e9}]  # fmt: skip
    widths = (100,) if options.quick else (1000, 10_000, 100, 10) if options.on_gpu else (10, 100, 1000)
    rows = options.each(widths, lambda N: weight_row(N, limits))
    sizes = [(100, (2, 2))] if options.quick else [(100, (2, 2)), (100, (4, 4)), (600, (2, 2)), (600, (4, 4))]
    rows += options.each(sizes, lambda size: collapsed_row(size[0], size[1], limits))
    columns = {"operation": "", "ms": ".3g", "least ms, arithmetic": ".3g", "least ms, memory": ".3g",
               "share of the limit": ".0%"}  # fmt: skip
    draws = options.each((100,) if options.quick else (1000, 100, 10), exact_draw_row)[::-1]
    factored = cholesky_rows(options)
    ratios = {f"{r['operation']} / least": 1 / r["share of the limit"] for r in rows}
    ratios |= {f"{name} / normals, N={r['N']}": 1 / r[f"normals / {name}"]
               for r in draws for name in ("Gibbs sweep", "lift")}  # fmt: skip
    tables = [
        Table("Limits", rates, dict.fromkeys(rates[0], ".1f")),
        Table("Batched Cholesky factorisations", factored, {
            "n": "", "matrices": ",", "float64 ms": ".3g", "float64 Gflop/s": ".0f", "float32 ms": ".3g",
            "float32 Gflop/s": ".0f"}),
        Table("Share reached", rows, columns, note=NOTE),
        Table("One exact draw of all weights", draws, {
            "N": "", "normals ms": ".3g", "Gibbs sweep ms": ".3g", "lift ms": ".3g",
            "normals / Gibbs sweep": ".0%", "normals / lift": ".0%"}),
    ]  # fmt: skip
    headline = ", ".join(f"{name} {value:,.0f}" for name, value in rates[0].items())
    return Measured(tables, ratios, {}, headline)
