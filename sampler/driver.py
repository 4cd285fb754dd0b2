"""The one driver loop: every kernel, every store, every progress display goes through ``run_chains``.

A chunk is a compiled scan over up to ``capacity`` records, of which the first ``count`` are taken: one compilation
serves warm-up, draws and the last short chunk. Record r is one transition during the warm-up and ``thin`` of them
afterwards. Chain c has the key fold_in(key, c), and folds in 2 i for transition i and 2 i + 1 for the record after it,
so draws depend neither on the chunks nor on the devices nor on how many other chains run. Chains are split over the
devices of the host; each device advances its own without waiting, except for what ensemble kernels learn together in
their warm-up. Chunks are double-buffered: while one runs on the device, the previous one is handed to the sink.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ..core import checks
from ..models.target import Target
from .kernels.kernel import ANY, LAST, MAXIMUM, STATISTICS, SUM, EnsembleKernel, Kernel, Setting

_SECONDS_PER_CHUNK = 1.0  # aim of the chunk length: how often progress shows and the store is written
_SINK_SHARE = 1 / 20  # a sink slower than this share of the time gets longer chunks
_CHUNK_BYTES = 64 * 2**20  # bounds the record buffers of one chunk on the device
_MAX_CAPACITY = 256
_ALL, _SPLIT = PartitionSpec(), PartitionSpec("chains")


class Plan(NamedTuple):
    """What is run: everything that a compiled program depends on but the arrays.

    Attributes:
        kernel, target, warmup, chains: see ``Setting``; chains of this process, where several share a run.
        record: names kept of what the target observes.
        thin: transitions per draw after the warm-up.
        chains_at_once: chains that one device moves side by side, the others waiting; None for all.
    """

    kernel: Kernel
    target: Target
    warmup: int
    chains: int
    record: tuple[str, ...] = ()
    thin: int = 1
    chains_at_once: int | None = None


class Problem(NamedTuple):
    """A plan and its arrays: the target's data, test inputs or None, the chains' keys [chains].

    Chains with the same entry of ``starts`` [chains], a key of theirs, start at the same position; None: all apart.
    """

    plan: Plan
    data: Any
    test: jax.Array | None
    keys: jax.Array
    starts: jax.Array | None = None


class Chunk(NamedTuple):
    """Records [start, start + length) of all chains, as host arrays [chain, length, ..], and the state after."""

    start: int
    length: int
    draws: dict[str, np.ndarray]
    stats: dict[str, np.ndarray]
    state: Any  # device pytree: (states with leading chain axis, what the chains share)


def chain_keys(key: jax.Array, chains) -> jax.Array:
    """Keys of chains by number [chains]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(chains))


def start_chains(problem: Problem, positions=None):
    """State before the first transition, at given positions [chains, ..] or the target's own."""
    starts = problem.keys if problem.starts is None else problem.starts
    start = _program(_start, problem.plan, 0, _shapes((problem.data, problem.keys, starts, positions)))
    return start(problem.data, problem.keys, starts, positions)


def state_structure(problem: Problem):
    """The tree that ``start_chains`` returns, to rebuild a state from its leaves."""
    return _program(_start, problem.plan, 0, _shapes((problem.data, problem.keys, problem.keys, None))).out_tree


def record_shapes(problem: Problem) -> tuple[dict, dict]:
    """(draws, statistics): name -> shape and dtype of everything one record could hold, without computing it."""
    return _record_shapes(problem.plan._replace(record=()), _shapes((problem.data, problem.test)))


def run_chains(
    problem: Problem, state, start: int, stop: int, chunk: int | None = None, pause: Callable[[int], int] | None = None
) -> Iterator[Chunk]:
    """Take records start .. stop - 1 of all chains, yielding finished chunks in order.

    Args:
        problem: plan, data and keys.
        state: from ``start_chains``, or the state after record start - 1.
        start, stop: record numbers, warm-up included.
        chunk: records per chunk; default about one second's worth. Draws do not depend on it.
        pause: (records so far) -> record at which the chunk that follows must end at the latest.
    """
    capacity, advance = compiled(problem, state, chunk)
    arrays = (problem.data, problem.test, problem.keys)
    count = capacity if chunk else 1
    pending: Chunk | None = None
    clock, in_sink = time.perf_counter(), 0.0
    while start < stop or pending is not None:
        launched = None
        if start < stop:
            length = min(count, (stop if pause is None else min(stop, pause(start))) - start)
            state, draws, stats = advance(*arrays, state, jnp.int32(start), jnp.int32(length))
            launched = Chunk(start, length, draws, stats, state)
            start += length
        if pending is not None:
            done = _to_host(pending)
            handed = time.perf_counter()
            yield done
            in_sink = time.perf_counter() - handed
            elapsed, clock = time.perf_counter() - clock, time.perf_counter()
            if not chunk:
                aim = max(_SECONDS_PER_CHUNK, in_sink / _SINK_SHARE)
                count = int(np.clip(aim * pending.length / max(elapsed, 1e-6), 1, min(2 * count, capacity)))
        pending = launched


def compiled(problem: Problem, state, chunk: int | None = None):
    """(capacity of a chunk, program that advances the chains by up to so many records).

    Raises:
        ValueError: the chains do not fit in the device's memory.
    """
    capacity = chunk or capacity_of(record_bytes(problem) * problem.plan.chains)
    shapes = _shapes((problem.data, problem.test, problem.keys, state, jnp.int32(0), jnp.int32(0)))
    advance = _program(_advance, problem.plan, capacity, shapes)
    _check_memory(problem.plan, advance)
    return capacity, advance


def fitted(problem: Problem, chunk: int | None = None) -> Problem:
    """The problem with as many chains side by side as the memory holds: all where they fit, or the number asked for."""
    plan = problem.plan
    if plan.chains_at_once is not None:
        return problem
    starts = problem.keys if problem.starts is None else problem.starts
    state = _state_shapes(plan, _shapes((problem.data, problem.keys, starts, None)))
    side_by_side = plan.chains
    while side_by_side > 1:
        capacity = chunk or capacity_of(record_bytes(problem) * plan.chains)
        shapes = _shapes((problem.data, problem.test, problem.keys, state, jnp.int32(0), jnp.int32(0)))
        needed, limit = _memory(_program(_advance, problem.plan, capacity, shapes))
        if needed <= limit:
            break
        # what all chains keep is counted too, so this may be too few, and is seldom too many
        side_by_side = min(side_by_side // 2, 2 ** int(math.log2(max(1.0, side_by_side * limit / needed))))
        problem = problem._replace(plan=plan._replace(chains_at_once=side_by_side))
    return problem


def record_bytes(problem: Problem) -> int:
    """Bytes of what one record of one chain keeps."""
    shapes, _ = record_shapes(problem)
    return sum(math.prod(shapes[name].shape) * shapes[name].dtype.itemsize for name in problem.plan.record)


def capacity_of(bytes_each: int) -> int:
    """How many things of a size to hold on the device at once."""
    return int(np.clip(_CHUNK_BYTES // max(1, bytes_each), 1, _MAX_CAPACITY))


def devices_of(plan: Plan) -> tuple[int, int]:
    """(devices of this host that share the chains evenly, devices that could).

    Only one could where matrices are factorised on a CPU: LAPACK calls of several CPU devices wait for each other's
    threads and can hang (seen with jaxlib 0.10; each call uses all cores anyway).
    """
    devices = jax.local_devices()
    alone = (plan.target.lapack or plan.kernel.lapack) and devices[0].platform == "cpu"
    could = 1 if alone else len(devices)
    return max(n for n in range(1, could + 1) if plan.chains % n == 0), could


def _mesh(plan: Plan) -> Mesh:
    used, _ = devices_of(plan)
    return Mesh(np.array(jax.local_devices()[:used]), ("chains",))


def _to_host(chunk: Chunk) -> Chunk:
    take = lambda x: np.asarray(x)[:, : chunk.length]  # noqa: E731
    return chunk._replace(draws=jax.tree.map(take, chunk.draws), stats=jax.tree.map(take, chunk.stats))


# --- compilation: once per plan and shapes, also across runs ---


class _Shapes(NamedTuple):
    leaves: tuple
    tree: Any


def _shapes(arrays) -> _Shapes:
    leaves, tree = jax.tree.flatten(arrays)
    return _Shapes(tuple((jnp.shape(x), jnp.result_type(x)) for x in leaves), tree)


def _abstract(shapes: _Shapes):
    return shapes.tree.unflatten([jax.ShapeDtypeStruct(*leaf) for leaf in shapes.leaves])


@lru_cache(maxsize=32)
def _program(function, plan: Plan, capacity: int, shapes: _Shapes):
    """``function`` compiled for a plan."""
    return jitted(function, plan, capacity).lower(*_abstract(shapes)).compile()


@lru_cache(maxsize=32)
def _state_shapes(plan: Plan, shapes: _Shapes):
    return jax.eval_shape(jitted(_start, plan, 0), *_abstract(shapes))


def jitted(function, plan: Plan, capacity: int):
    """``function`` for a plan as a ``jax.jit``, its chains split over the devices.

    The state is not donated: the sink reads that of one chunk while the next is under way.
    """
    local, in_specs, out_specs = function(plan, capacity)
    mesh = _mesh(plan)
    sharded = jax.shard_map(local, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    place = lambda specs: jax.tree.map(  # noqa: E731
        lambda spec: jax.sharding.NamedSharding(mesh, spec), specs, is_leaf=lambda x: isinstance(x, PartitionSpec)
    )
    return jax.jit(sharded, in_shardings=place(in_specs), out_shardings=place(out_specs))


@lru_cache(maxsize=32)
def _record_shapes(plan: Plan, shapes: _Shapes):
    data, test = _abstract(shapes)

    def record(data, test, key):
        setting = _setting(plan, data)
        state = plan.kernel.init(setting, key, plan.target.initial(data, key))
        shared = _share(plan.kernel, setting, jax.tree.map(lambda x: jnp.stack([x] * plan.chains), state))
        state, stats, _ = _step(plan.kernel, setting, key, jnp.int32(0), jnp.int32(0), state, shared)
        return plan.target.observe(data, test, plan.kernel.position(state), key), stats

    draws, stats = jax.eval_shape(record, data, test, jax.random.key(0))
    undeclared = sorted(stats.keys() - STATISTICS.keys() - plan.kernel.statistics.keys())
    if undeclared:
        raise checks.InputError(
            f"kernel {plan.kernel.name!r} returns the statistic {undeclared[0]!r}, which it does not declare: add "
            f"{undeclared[0]!r}: 'last', 'sum', 'any' or 'maximum' to its class attribute `statistics`"
        )
    return draws, stats


def _memory(program) -> tuple[float, float]:
    """Bytes that a program needs on the device, with two chunks under way, and bytes that there are."""
    needs = program.memory_analysis()
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit is None:
        limit = checks.available_memory()
    if needs is None:  # a backend that does not say
        return 0, limit
    return needs.temp_size_in_bytes + 2 * needs.output_size_in_bytes + needs.argument_size_in_bytes, limit


def _check_memory(plan: Plan, program) -> None:
    """Refuse to start what the device cannot hold."""
    needed, limit = _memory(program)
    if needed > limit:
        fit = max(1, int((plan.chains_at_once or plan.chains) * limit / needed))
        remedy = f"about {fit} fit, use chains_at_once={max(1, fit // 2)} or fewer chains"
        if plan.chains_at_once == 1:
            remedy = "not even one at a time fits, use fewer chains"
        if plan.chains == 1:
            remedy = "one chain does not fit, use fewer paths or examples"
        raise checks.InputError(
            f"chains={plan.chains} need {needed / 2**30:.1f} GiB of memory on a "
            f"{jax.local_devices()[0].device_kind} with {limit / 2**30:.1f} GiB: {remedy}"
        )


# --- what runs on one device: its share of the chains ---


def _setting(plan: Plan, data) -> Setting:
    return Setting(plan.target, data, plan.warmup, plan.chains)


def _share(kernel: Kernel, setting: Setting, states):
    """What the chains share: nothing, unless they are an ensemble."""
    return kernel.share(setting, states) if isinstance(kernel, EnsembleKernel) else ()


def _step(kernel: Kernel, setting: Setting, key, index, number, state, shared):
    """(state, statistics, news) of one transition of one chain."""
    if isinstance(kernel, EnsembleKernel):
        return kernel.step(setting, key, index, state, number, shared)
    return *kernel.step(setting, key, index, state), ()


def _each(plan: Plan, function, *chains):
    """``function`` of every chain: all side by side, or some at a time."""
    if plan.chains_at_once is None:
        return jax.vmap(function)(*chains)
    return jax.lax.map(lambda one: function(*one), chains, batch_size=plan.chains_at_once)


def _gather(tree):
    """Arrays of all chains, from every device."""
    return jax.tree.map(lambda x: jax.lax.all_gather(x, "chains", tiled=True), tree)


def _start(plan: Plan, capacity: int):
    kernel, target = plan.kernel, plan.target

    def local(data, keys, starts, positions):
        setting = _setting(plan, data)

        def start(key, start_key, position):
            # transitions fold in 0, 1, ..: the start takes a number they never reach
            key_position, _ = jax.random.split(jax.random.fold_in(start_key, 2**31 - 1))
            _, key_state = jax.random.split(jax.random.fold_in(key, 2**31 - 1))
            position = target.initial(data, key_position) if position is None else position
            return kernel.init(setting, key_state, position)

        states = _each(plan, start, keys, starts, positions)
        return states, _share(kernel, setting, _gather(states) if isinstance(kernel, EnsembleKernel) else states)

    return local, (_ALL, _SPLIT, _SPLIT, _SPLIT), (_SPLIT, _ALL)


def _advance(plan: Plan, capacity: int):
    kernel, target = plan.kernel, plan.target

    def local(data, test, keys, state, start, count):
        setting = _setting(plan, data)
        numbers = jax.lax.axis_index("chains") * len(keys) + jnp.arange(len(keys), dtype=jnp.int32)

        def transition(states, shared, index):
            def one(key, number, state):
                return _step(kernel, setting, jax.random.fold_in(key, 2 * index), index, number, state, shared)

            states, stats, news = _each(plan, one, keys, numbers, states)
            if isinstance(kernel, EnsembleKernel) and plan.warmup:
                shared = jax.lax.cond(
                    index < plan.warmup, lambda: kernel.pool(setting, index, shared, _gather(news)), lambda: shared
                )
            return states, shared, stats

        def observe(states, index):
            def one(key, state):
                key = jax.random.fold_in(key, 2 * index + 1)
                observed = target.observe(data, test, kernel.position(state), key)
                return {name: observed[name] for name in plan.record}

            return _each(plan, one, keys, states)

        def record(state, r):
            drawing = r >= plan.warmup
            index = jnp.where(drawing, plan.warmup + (r - plan.warmup) * plan.thin, r)
            states, shared, stats = transition(state[0], state[1], index)
            if plan.thin > 1:
                states, shared, stats = jax.lax.fori_loop(
                    1,
                    jnp.where(drawing, plan.thin, 1),
                    lambda j, s: _accumulate(kernel, s[2], transition(s[0], s[1], index + j)),
                    (states, shared, stats),
                )
            index = index + jnp.where(drawing, plan.thin - 1, 0)
            # nothing is kept of the warm-up, and an observation may cost a factorisation
            draws = jax.lax.cond(drawing, observe, lambda *_: _zeros(observe, states, index), states, index)
            return (states, shared), (draws, stats)

        def body(state, offset):
            r = start + offset
            skip = lambda state, r: (state, _zeros(record, state, r, part=1))  # noqa: E731
            return jax.lax.cond(offset < count, record, skip, state, r)

        state, records = jax.lax.scan(body, state, jnp.arange(capacity, dtype=jnp.int32))
        draws, stats = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), records)
        return state, draws, stats

    state = (_SPLIT, _ALL)
    return local, (_ALL, _ALL, _SPLIT, state, _ALL, _ALL), (state, _SPLIT, _SPLIT)


def _zeros(function, *arguments, part=None):
    shapes = jax.eval_shape(function, *arguments)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes if part is None else shapes[part])


def _accumulate(kernel: Kernel, before, after):
    """A transition's (states, shared, statistics), its statistics accumulated with those of earlier transitions."""
    rules = STATISTICS | dict(kernel.statistics)
    combine: dict[str, Any] = {LAST: lambda old, new: new, SUM: jnp.add, ANY: jnp.logical_or, MAXIMUM: jnp.maximum}
    return *after[:2], {name: combine[rules[name]](before[name], new) for name, new in after[2].items()}
