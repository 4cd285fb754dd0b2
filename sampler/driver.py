"""The one driver loop: every kernel, every store, every progress display goes through ``run_chains``.

A chunk is a jitted scan of up to ``capacity`` transitions, of which the first ``count`` are taken: one compilation
serves warm-up, draws and the last short chunk. Transition i of a chain uses fold_in(chain key, i) and chain c the
key fold_in(key, c), so draws do not depend on the chunks, the devices, or how many chains run beside. While a
chunk runs on the device the previous one is handed to the sink; neither device nor driver holds more than two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from .kernel import Kernel, Target

_SECONDS_PER_CHUNK = 1.0  # aim of the chunk length: how often progress shows and the store is written
_CHUNK_BYTES = 64 * 2**20  # bounds the record buffers of one chunk on the device
_MAX_CAPACITY = 256


class Problem(NamedTuple):
    """What is sampled: static parts hashable, ``data`` and ``test`` device arrays, ``record`` the names kept."""

    kernel: Kernel
    target: Target
    data: Any
    test: jax.Array | None
    warmup: int
    record: tuple[str, ...]


class Chunk(NamedTuple):
    """Transitions [start, start + length) of all chains, as host arrays [chain, length, ..], and the state after."""

    start: int
    length: int
    draws: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    state: Any  # device pytree with leading chain axis


def start_chains(problem: Problem, key: jax.Array, chains: int, positions=None):
    """(chain keys [chains], state [chains, ..]) before the first transition, at given positions or the target's own."""
    chain_keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(chains))
    if positions is None:
        # the transitions fold in 0, 1, ..: the start takes a number they never reach
        start_keys = jax.vmap(jax.random.fold_in, (0, None))(chain_keys, 2**31 - 1)
        positions = jax.vmap(problem.target.initial, (None, 0))(problem.data, start_keys)
    return chain_keys, _start(problem.kernel, problem.target, problem.warmup, problem.data, positions)


def record_shapes(problem: Problem) -> tuple[dict, dict]:
    """(draws, statistics): name -> shape and dtype of everything one transition could record, without computing it."""
    kernel, target, data = problem.kernel, problem.target, problem.data

    def record(key):
        state = kernel.init(target, data, problem.warmup, target.initial(data, key))
        state, stats = kernel.step(target, data, problem.warmup, key, jnp.int32(0), state)
        return target.observe(data, problem.test, kernel.position(state), key), stats

    return jax.eval_shape(record, jax.random.key(0))


def run_chains(
    problem: Problem, chain_keys: jax.Array, state, start: int, stop: int, chunk: int | None = None
) -> Iterator[Chunk]:
    """Take transitions start .. stop - 1 of all chains, yielding finished chunks in order.

    Args:
        problem: kernel, target and data.
        chain_keys, state: from ``start_chains``, or the state after transition start - 1.
        start, stop: transition numbers, warm-up included.
        chunk: transitions per chunk; default about one second's worth. Draws do not depend on it.
    """
    chains = len(chain_keys)
    capacity = chunk or capacity_of(record_bytes(problem) * chains)
    mesh = _mesh(problem.kernel, chains)
    count = capacity if chunk else 1
    pending: Chunk | None = None
    clock = time.perf_counter()
    while start < stop or pending is not None:
        launched = None
        if start < stop:
            count = min(count, stop - start)
            state, (draws, stats) = _advance(
                problem.kernel, problem.target, problem.warmup, problem.record, capacity, mesh,
                problem.data, problem.test, chain_keys, state, start, count,
            )  # fmt: skip
            launched = Chunk(start, count, draws, stats, state)
            start += count
        if pending is not None:
            yield _to_host(pending)
            elapsed, clock = time.perf_counter() - clock, time.perf_counter()
            if not chunk:
                rate = pending.length / max(elapsed, 1e-6)
                count = int(np.clip(_SECONDS_PER_CHUNK * rate, 1, min(2 * count, capacity)))
        pending = launched


def record_bytes(problem: Problem) -> int:
    """Bytes of what one draw of one chain records."""
    shapes, _ = record_shapes(problem)
    return sum(math.prod(shapes[name].shape) * shapes[name].dtype.itemsize for name in problem.record)


def capacity_of(bytes_each: int) -> int:
    """How many things of a size to hold on the device at once."""
    return int(np.clip(_CHUNK_BYTES // max(1, bytes_each), 1, _MAX_CAPACITY))


def _mesh(kernel: Kernel, chains: int) -> Mesh:
    """As many of the host's devices as divide the chains evenly.

    One only for factorising kernels on a CPU: LAPACK calls of several CPU devices wait for each other's threads
    and can hang (seen with jaxlib 0.10; each call uses all cores anyway).
    """
    devices = jax.local_devices()
    if kernel.lapack and devices[0].platform == "cpu":
        devices = devices[:1]
    used = max(n for n in range(1, len(devices) + 1) if chains % n == 0)
    return Mesh(np.array(devices[:used]), ("chains",))


def _to_host(chunk: Chunk) -> Chunk:
    take = lambda x: np.asarray(x)[:, : chunk.length]  # noqa: E731
    return chunk._replace(draws=jax.tree.map(take, chunk.draws), stats=jax.tree.map(take, chunk.stats))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _start(kernel, target, warmup, data, positions):
    return jax.vmap(lambda position: kernel.init(target, data, warmup, position))(positions)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4, 5))
def _advance(kernel, target, warmup, record, capacity, mesh, data, test, chain_keys, state, start, count):
    def one_chain(data, test, start, count, key, state):
        def transition(state, index):
            key_step, key_observe = jax.random.split(jax.random.fold_in(key, index))
            state, stats = kernel.step(target, data, warmup, key_step, index, state)
            observed = target.observe(data, test, kernel.position(state), key_observe)
            return state, ({name: observed[name] for name in record}, stats)

        def body(state, offset):
            index = start + offset
            skipped = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(transition, state, index)[1])
            return jax.lax.cond(offset < count, transition, lambda state, _: (state, skipped), state, index)

        return jax.lax.scan(body, state, jnp.arange(capacity, dtype=jnp.int32))

    batched = jax.vmap(one_chain, (None, None, None, None, 0, 0))
    split, whole = PartitionSpec("chains"), PartitionSpec()
    sharded = jax.shard_map(
        batched, mesh=mesh, in_specs=(whole, whole, whole, whole, split, split), out_specs=split, check_vma=False
    )
    return sharded(data, test, jnp.int32(start), jnp.int32(count), chain_keys, state)
