"""Scaling: how costs grow, with fitted exponents beside the expected ones

Milliseconds of single operations on random inputs: the weight-space gradient (float32, contracted over paths), the
collapsed gradient (float64) and the contraction of inputs over attention paths, against the width N, examples P, tokens
S, attention paths, chains side by side, and devices. Unless stated otherwise: N=100, P=100, N_0=100, 30 tokens, two
layers of two heads, one chain. An exponent is the slope of log time against log size over the three largest sizes:
small ones are overhead. At the end: chains whose weights, gradients and work space fit in the memory of the machine.

To take from it: the collapsed gradient does not depend on N, and most costs grow more slowly up to these sizes than
counting operations suggests; the weight gradient grows faster where its matrices leave the caches. Chains cost in
proportion to their number once the cores are busy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gibbsformer as gf

from ..core import checks
from ..core.numerics import numerics
from ..models import collapsed
from ..models.network import draw_prior
from . import harness
from .harness import Measured, Options, Table

FITTED = 3  # the largest sizes, over which exponents are fitted
LIMIT = 1.0  # seconds of one call, after which larger sizes are left out
ROOM = 0.5  # share of the memory that a call may take: the rest holds its arguments


class Case(NamedTuple):
    """Sizes of one measurement."""

    N: int = 100
    P: int = 100
    S: int = 30
    heads: tuple[int, ...] = (2, 2)
    N_0: int = 100
    chains: int = 1

    def posterior(self) -> gf.Posterior:
        """A posterior of these sizes with random inputs."""
        rng = np.random.default_rng(0)
        scale = math.sqrt(self.N_0 * math.prod(self.heads))
        data = gf.PathInputs(rng.standard_normal((self.P, self.N_0, *self.heads)) / scale)
        widths = (self.N,) * (len(self.heads) + 1)
        return gf.Posterior(gf.Network(self.N_0, self.heads, widths), data, rng.choice([-1.0, 1.0], self.P), 0.1)


def weight_gradient(case: Case) -> Any:
    """The gradient of the log-density of all weights, of all chains."""
    posterior = case.posterior()
    with jax.enable_x64(False):
        gradient = jax.jit(jax.vmap(jax.grad(posterior.log_density)))
        keys = jax.random.split(jax.random.key(0), case.chains)
        weights = jax.vmap(lambda key: draw_prior(posterior.network, key, jnp.float32))(keys)
        compiled = gradient.lower(weights).compile()
    call: Any = lambda: compiled(weights)  # noqa: E731
    call.memory, call.operations = compiled.memory_analysis(), (compiled.cost_analysis() or {}).get("flops", 0.0)
    return call


def collapsed_gradient(case: Case) -> Any:
    """The gradient of the collapsed log-density, of all chains."""
    posterior = case.posterior()
    with numerics():
        shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
        gradient = jax.grad(lambda data, theta: collapsed.log_density(shape, data, theta), argnums=1)
        theta = 0.01 * jax.random.normal(jax.random.key(0), (case.chains, shape.size), jnp.float64)
        compiled = jax.jit(jax.vmap(gradient, (None, 0))).lower(data, theta).compile()
    call: Any = lambda: compiled(data, theta)  # noqa: E731
    call.memory = compiled.memory_analysis()
    return call


def contraction(case: Case) -> Callable:
    """``gf.contract`` of all examples."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.P, case.N_0, case.S))
    attention = gf.Attention(tuple(rng.standard_normal((H, case.N_0, case.N_0)) / case.N_0 for H in case.heads))
    return lambda: gf.contract(x, attention, readout="last").xi


OPERATIONS = {"weight gradient": weight_gradient, "collapsed gradient": collapsed_gradient, "contraction": contraction}


class Axis(NamedTuple):
    """A size that is varied.

    Attributes:
        name: heading of its column.
        sizes, quick: values.
        case: value -> sizes of the measurement.
        expected: operation -> exponent.
    """

    name: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    case: Callable[[int], Case]
    expected: dict[str, float]


AXES = (
    Axis("N", (10, 30, 100, 300, 1000, 3000, 10_000), (10, 100, 300), lambda n: Case(N=n),
         {"weight gradient": 2, "collapsed gradient": 0}),
    Axis("P", (50, 100, 200, 500, 1000, 2000), (50, 100, 200), lambda n: Case(P=n),
         {"weight gradient": 1, "collapsed gradient": 3, "contraction": 1}),
    Axis("S", (10, 30, 100, 300), (10, 30, 100), lambda n: Case(S=n), {"contraction": 2}),
    Axis("paths", (1, 4, 16, 64), (1, 4, 16), lambda n: Case(heads=(math.isqrt(n),) * 2),
         {"weight gradient": 1, "collapsed gradient": 2, "contraction": 1}),
    Axis("chains", (1, 4, 16, 64, 256, 1024, 4096), (1, 4, 16), lambda n: Case(N=10, chains=n),
         {"weight gradient": 1, "collapsed gradient": 1}),
)  # fmt: skip


def cost(axis: Axis, sizes: Iterable[int], repeats: int) -> list[dict]:
    """A row per size: milliseconds of each operation, as far as time and memory go."""
    left, rows = set(axis.expected), []
    for size in sizes:
        row = {axis.name: size} | dict.fromkeys(f"{name} ms" for name in axis.expected)
        for name in sorted(left):
            try:
                call = OPERATIONS[name](axis.case(size))
                if needed(call) > ROOM * _memory():
                    left.discard(name)
                    continue
                with numerics():
                    seconds = harness.timed(call, repeats=repeats)
            except (jax.errors.JaxRuntimeError, MemoryError):
                left.discard(name)
                continue
            row[f"{name} ms"] = 1e3 * seconds["median"]
            if seconds["median"] > LIMIT:
                left.discard(name)
        rows.append(row)
    return rows


def exponents(axis: Axis, rows: list[dict]) -> list[dict]:
    """Fitted and expected exponents of each operation."""
    found = []
    for name, expected in axis.expected.items():
        points = [(r[axis.name], r[f"{name} ms"]) for r in rows if r[f"{name} ms"] is not None][-FITTED:]
        x, y = np.log(np.array(points)).T
        found.append(
            {
                "operation": name, "against": axis.name, "from": points[0][0], "to": points[-1][0],
                "fitted": float(np.polyfit(x, y, 1)[0]), "expected": expected,
            }
        )  # fmt: skip
    return found


def over_devices(quick: bool) -> list[dict]:
    """Milliseconds of 64 chains' weight gradients split over 1, 2, .. devices of the host."""
    posterior, rows = Case().posterior(), []
    chains, steps = 64, 20 if quick else 200
    keys = jax.random.split(jax.random.key(0), chains)
    count = jax.local_device_count()
    for used in itertools.takewhile(lambda n: n <= count, (2**i for i in itertools.count())):
        mesh = jax.sharding.Mesh(np.array(jax.local_devices()[:used]), ("chains",))
        split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("chains"))
        with jax.enable_x64(False):
            weights = jax.vmap(lambda key: draw_prior(posterior.network, key, jnp.float32))(keys)
            weights = jax.device_put(weights, split)

            def descend(weights):
                gradient = jax.vmap(jax.grad(posterior.log_density))
                step = lambda _, w: jax.tree.map(lambda x, g: x + 1e-8 * g, w, gradient(w))  # noqa: E731
                return jax.lax.fori_loop(0, steps, step, weights)

            seconds = harness.timed(jax.jit(descend, in_shardings=(split,), out_shardings=split), weights, repeats=3)
        rows.append({"devices": used, "weight gradient ms": 1e3 * seconds["median"] / steps})
    for row in rows:
        row["speedup"] = rows[0]["weight gradient ms"] / row["weight gradient ms"]
    return rows


def memory_end(quick: bool) -> list[dict]:
    """MiB per chain of both gradients, and how many chains the machine's memory holds."""
    rows = []
    cases = {
        "weight gradient, N=10": (weight_gradient, Case(N=10)),
        "weight gradient, N=100": (weight_gradient, Case()),
    }
    if not quick:
        cases["weight gradient, N=1000"] = (weight_gradient, Case(N=1000))
    cases["collapsed gradient, P=100, 4 paths"] = (collapsed_gradient, Case())
    if not quick:
        cases["collapsed gradient, P=600, 16 paths"] = (collapsed_gradient, Case(P=600, N_0=64, heads=(4, 4)))
    for name, (operation, case) in cases.items():
        few, many = (needed(operation(case._replace(chains=n))) for n in (2, 4))
        each = (many - few) / 2
        rows.append({"operation": name, "MiB of a chain": each / 2**20, "MiB of all": (few - 2 * each) / 2**20,
                     "chains that fit": int((_memory() - few + 2 * each) / each)})  # fmt: skip
    return rows


def needed(call) -> int:
    """Bytes of a compiled call: arguments, results, work space."""
    needs = getattr(call, "memory", None)
    if needs is None:
        return 0
    return needs.temp_size_in_bytes + needs.output_size_in_bytes + needs.argument_size_in_bytes


def _memory() -> float:
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return float(limit or checks.available_memory())


def measure(options: Options) -> Measured:
    """A table per axis, exponents, devices and memory."""
    quick = options.quick
    tables, fits = [], []
    for axis in AXES:
        rows = cost(axis, axis.quick if quick else axis.sizes, 3 if quick else 7)
        shown = [f"{name} ms" for name in axis.expected]
        plot = {"x": axis.name, "y": shown, "label": "ms"}
        tables.append(Table(f"Against {axis.name}", rows, {axis.name: "", **dict.fromkeys(shown, ".3g")}, plot))
        fits += exponents(axis, rows)
    columns = {"operation": "", "against": "", "from": "", "to": "", "fitted": ".2f", "expected": ""}
    devices, ends = over_devices(quick), memory_end(quick)
    tables.insert(0, Table("Exponents", fits, columns))
    tables.append(Table("64 chains over the devices of the host, N=100", devices,
                        {"devices": "", "weight gradient ms": ".3g", "speedup": ".2f"}))  # fmt: skip
    columns = {"operation": "", "MiB of a chain": ".2f", "MiB of all": ".1f", "chains that fit": ","}
    tables.append(Table(f"Where memory ends ({_memory() / 2**30:.0f} GiB)", ends, columns))
    unit = harness.unit()
    ratios = {
        f"{name}, {axis.name}={axis.quick[-1]} / unit": value / 1e3 / unit
        for axis, table in zip(AXES, tables[1:], strict=False)
        for row in table.rows if row[axis.name] == axis.quick[-1]
        for name, value in row.items() if name != axis.name and value is not None
    }  # fmt: skip
    return Measured(tables, ratios, {"repeats": 3 if quick else 7, "fitted over": FITTED})
