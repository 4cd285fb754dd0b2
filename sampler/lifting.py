"""Lifting as a user calls it: exact weights for the order parameters of a collapsed run, to memory or to a file."""

from __future__ import annotations

import dataclasses
import os

import jax
import numpy as np

from ..core import checks, console, files
from ..core.numerics import numerics
from ..models.solvable import check_solvable
from ..models.target import STATE, WEIGHTS
from ..store import SampleFile
from . import driver, sink
from .opening import in_memory, stored
from .run import Run


def lift(
    run: Run,
    *,
    key: jax.Array,
    draws: int | None = None,
    store: str | os.PathLike | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Run:
    """Exact weight samples from a collapsed run: each order parameter draw becomes a joint draw of all weights.

    Args:
        run: from ``sample(kernel="collapsed")``.
        key: typed random key.
        draws: evenly spaced draws per chain to lift; default all.
        store: sample file to write; None keeps the weights in memory. Either way only one batch is on the device.
        overwrite: replace an existing file.
        progress: a live line on stderr.

    Returns:
        Run with weights, path weights and (where the run had test inputs) f, with the draws they came from.

    Raises:
        ValueError: the run is not collapsed, more draws are asked for than it has, or the weights would not fit.

    Source: docs/model.md, section 4, "lifting".
    """
    checks.random_key("key", key)
    if "collapsed" not in getattr(type(run.posterior), "targets", ()):
        check_solvable("lifting", run.posterior)
    if run.made.target != "collapsed" or not run.names(STATE):
        raise checks.InputError(
            f"run has kernel {run.made.kernel!r}: only a collapsed run can be lifted, sample with kernel 'collapsed'"
        )
    draws = run.draws if draws is None else checks.count("draws", draws)
    if draws > run.draws:
        raise checks.InputError(
            f"draws={draws} is more than the {run.draws} that the run has per chain: give {run.draws} or fewer"
        )
    path = None if store is None else files.output_file("store", store, overwrite)
    picked = np.linspace(0, run.draws - 1, draws).round().astype(int)
    posterior = run.posterior
    settings = dataclasses.replace(run.made, keep=WEIGHTS, draws=draws, lifted_from_draws=run.draws)
    recorded = {name: np.asarray(run.variables[name])[:, picked] for name in run.names(STATE)}
    stats = {name: np.asarray(values)[:, picked] for name, values in run.stats.items()}
    with numerics():
        target = posterior.target("collapsed", WEIGHTS)
        data = target.data(posterior, "float64")
        test = None if run.test is None else posterior.test_array(run.test[0], "float64")
        positions = target.from_recorded(data, recorded)
        keys = jax.random.split(key, (run.chains, draws))
        observe = _observer(target)
        shapes = jax.eval_shape(target.observe, data, test, jax.tree.map(lambda a: a[0, 0], positions), keys[0, 0])
        records = target.describe(posterior, 0 if run.test is None else len(run.test[1]))
        columns = sink.columns(records, shapes, {n: s[0, 0] for n, s in stats.items()})
        batch = driver.capacity_of(posterior.network.weight_count * 8 * run.chains)
        sink.check_room(columns, run.chains, draws, path, report=progress)
        made = sink.open_sink(path, columns, posterior, run.test, records, settings, overwrite)
        with made as out, console.bar(total=draws, disable=not progress, unit="draw", desc="lift") as bar:
            for start in range(0, draws, batch):
                part = slice(start, start + batch)
                lifted = observe(data, test, jax.tree.map(lambda a, p=part: a[:, p], positions), keys[:, part])
                values = {n: np.asarray(v) for n, v in lifted.items()} | {n: s[:, part] for n, s in stats.items()}
                out.append(values, [], min(part.stop, draws), {})
                bar.update(min(batch, draws - start))
    return stored(out) if isinstance(out, SampleFile) else in_memory(out, posterior, run.test, records, settings)


def _observer(target):
    """``target.observe`` over [chain, draw]: vectorised on an accelerator, one draw after the other on a CPU.

    On a CPU, independent factorisations of a large batch can deadlock on each other's threads (seen with jaxlib 0.10
    on two cores).
    """

    @jax.jit
    def observe(data, test, positions, keys):
        one = lambda position_key: target.observe(data, test, *position_key)  # noqa: E731
        if jax.default_backend() != "cpu":
            return jax.vmap(jax.vmap(one))((positions, keys))
        flat = jax.lax.map(one, jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), (positions, keys)))
        return {name: values.reshape(*keys.shape, *values.shape[1:]) for name, values in flat.items()}

    return observe
