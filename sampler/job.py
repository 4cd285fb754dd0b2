"""A run in progress: settings and arrays made into a program, its start, and its records handed to a sink."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

from ..core import checks
from ..models.target import MONITORED, WEIGHT, WEIGHTS, Records
from ..store import Column
from . import driver, interrupt, many, sink, surrogate
from .guide import laplace
from .kernels import Collapsed, Kernel
from .kernels.kernel import Setting
from .monitor import Monitor
from .progress import Progress
from .settings import RunSettings

_EQUILIBRIUM = "collapsed"  # value of ``init``
_EQUILIBRIUM_WARMUP = 200
_EQUILIBRIUM_FOLD = 2**31 - 1  # folded into the key: no chain of the run itself takes this number
_TRIAL_FOLD, _FIT_FOLD = 2**31 - 2, 2**31 - 3  # nor these


class Job(NamedTuple):
    """What a run and its continuation have in common; it belongs inside ``core.numerics.numerics()``."""

    problem: driver.Problem
    columns: Mapping[str, Column]
    records: Records
    settings: RunSettings
    posterior: Any
    test: Any

    @property
    def monitored(self) -> tuple[str, ...]:
        """Names of the variables on which convergence is judged."""
        return tuple(name for name, column in self.columns.items() if column.role == MONITORED)

    def fitted(self, chunk: int | None) -> Job:
        """The same job with as many chains side by side as the memory holds; processes that share a run must agree."""
        if self.settings.share.processes > 1:
            return self
        problem = driver.fitted(self.problem, chunk)
        settings = dataclasses.replace(self.settings, chains_at_once=problem.plan.chains_at_once)
        return self._replace(problem=problem, settings=settings)

    def sink(self, path, overwrite: bool = False):
        """Where its draws go: a sample file, or memory without a path."""
        return sink.open_sink(path, self.columns, self.posterior, self.test, self.records, self.settings, overwrite)

    def start(self, init: str | Mapping[str, Any] | None):
        """State of the chains before the first transition."""
        return driver.start_chains(self.problem, _initial_positions(init, self))

    def nothing(self) -> dict[str, np.ndarray]:
        """No draws of any column."""
        return {name: np.empty((self.settings.chains, 0, *c.shape), c.dtype) for name, c in self.columns.items()}

    def drive(self, out, state, monitor: Monitor, begin: int, draws: int, chunk, progress) -> str | None:
        """Run the chains from record ``begin`` until there are ``draws`` draws, or until the monitor or the user stops
        them; returns why they stopped early, or None."""
        warmup, ended = self.settings.warmup, None
        asked = monitor.until and monitor.until._asdict()
        stop = warmup + draws
        look = lambda done: warmup + (monitor.next_look(max(0, done - warmup)) or draws)  # noqa: E731
        with Progress(warmup, draws, progress, begin) as bar, interrupt.deferred() as interrupted:
            for part in driver.run_chains(self.problem, state, begin, stop, chunk, look):
                first = min(max(0, warmup - part.start), part.length)
                kept, stats = ({n: v[:, first:] for n, v in each.items()} for each in (part.draws, part.stats))
                done = part.start + part.length
                report = monitor.add({n: kept[n] for n in self.monitored}, stats, last=done == stop)
                ended = "interrupt" if interrupted() else monitor.stop()
                recorded = {"draws": draws, "until": asked, "report": report._asdict(), "ended": ended}
                out.append(kept | stats, leaves(part.state), done, recorded)
                bar.update(part, report)
                if ended:
                    break
        return ended


def prepare(posterior, kernel: Kernel, settings: RunSettings, test, key: jax.Array) -> Job:
    """The job that settings describe, its arrays on the device, with all decided that the kernel leaves open."""
    setting_of = _settings(posterior, settings, jax.random.fold_in(key, _FIT_FOLD))
    kernel = kernel.decided(setting_of, jax.random.fold_in(key, _TRIAL_FOLD))
    settings = dataclasses.replace(settings, options=dataclasses.asdict(kernel))
    kernel = kernel.mover()
    target, data, *_ = setting_of(kernel)
    own = np.arange(settings.share.own.start, settings.share.own.stop)
    plan = driver.Plan(
        kernel, target, settings.warmup, settings.chains, thin=settings.thin,
        chains_at_once=settings.chains_at_once,
    )  # fmt: skip
    problem = driver.Problem(
        plan=plan,
        data=data,
        test=None if test is None else posterior.test_array(test[0], settings.precision),
        keys=driver.chain_keys(key, own),
        starts=driver.chain_keys(key, many.superchain(own)) if settings.share.chains >= many.MANY else None,
    )
    observed, statistics = driver.record_shapes(problem)
    records = target.describe(posterior, 0 if test is None else len(test[1]))
    columns = sink.columns(records, observed, statistics)
    if settings.keep != WEIGHTS:
        columns = {name: column for name, column in columns.items() if column.role != WEIGHT}
    problem = problem._replace(plan=plan._replace(record=tuple(name for name in observed if name in columns)))
    return Job(problem, columns, records, settings, posterior, test)


def _settings(posterior, settings: RunSettings, key: jax.Array) -> Callable[[Kernel], Setting]:
    """Where a kernel works: its target, and the data with what guides it, made once for all kernels that share it."""

    @cache
    def in_coordinates(straight: bool) -> Setting:
        target = posterior.target(settings.target, settings.keep)
        data = target.data(posterior, settings.precision)
        straight = straight and target.straight is not None
        if target.guided:
            data = data._replace(guide=laplace(posterior, straight))
        return Setting(target.straight if straight else target, data, settings.warmup, settings.share.chains)

    @cache
    def with_surrogate() -> Setting:
        setting = in_coordinates(True)
        guide = surrogate.fitted(posterior, setting, key)
        return setting._replace(data=setting.data._replace(guide=guide))

    return lambda kernel: with_surrogate() if kernel.surrogate else in_coordinates(kernel.straight)


def leaves(state) -> list[np.ndarray]:
    """Arrays of a sampler state, in the order of its structure."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def _initial_positions(init, job: Job):
    """Positions [chains, ..] of this process's chains for ``init``, or None for the target's own start."""
    if init is None:
        return None
    target, settings = job.problem.plan.target, job.settings
    if target.from_weights is None and not target.starts:
        raise checks.InputError(
            f"init={checks.brief(init)} is for targets made of weights: leave it out, or choose target='marginal'"
        )
    if not isinstance(init, Mapping):
        if not isinstance(init, str):
            raise checks.InputError(f"init is a {type(init).__name__}: give 'collapsed', or weights by name")
        checks.nearest("init", init, (_EQUILIBRIUM,))
        if target.from_weights is None:
            raise checks.InputError(
                f"init={init!r} needs the frozen attention of a gf.Posterior: give {', '.join(target.starts)} by name"
            )
        init = _equilibrium_weights(job)
    observed, _ = driver.record_shapes(job.problem)
    names = target.starts or [name for name, variable in job.records.variables.items() if variable.role == WEIGHT]
    shapes = {name: (settings.share.chains, *observed[name].shape) for name in names if name in observed}
    found = {name: np.shape(w) for name, w in init.items()}
    if found != shapes:
        raise checks.InputError(f"init has weights of shapes {found}: give {shapes}")
    for name in shapes:
        if not np.isfinite(init[name]).all():
            raise checks.InputError(f"init has NaN or infinity in {name!r}: give finite weights")
    own = slice(settings.share.own.start, settings.share.own.stop)
    given = {name: jax.numpy.asarray(init[name], settings.precision)[own] for name in shapes}
    if target.from_weights is None:
        return target.from_recorded(job.problem.data, given)  # type: ignore[misc]  # a target with ``starts`` has it
    return target.from_weights(given)


def _equilibrium_weights(job: Job) -> dict[str, np.ndarray]:
    """Weights [chains, ..] at exact draws, lifted from short collapsed chains.

    Of all chains of the run, whichever process this is: their number decides how sums are rounded.
    """
    key = jax.random.fold_in(job.settings.key(), _EQUILIBRIUM_FOLD)
    kernel = Collapsed(move="nuts")
    settings = RunSettings.checked(
        job.posterior, kernel, key=key, target="collapsed", keep=WEIGHTS, chains=job.settings.share.chains,
        warmup=_EQUILIBRIUM_WARMUP, draws=1, thin=1, until=None, precision="auto", init=None, chains_at_once=None,
        about=None, distributed=False,
    )  # fmt: skip
    start = prepare(job.posterior, kernel, settings, None, key)
    with start.sink(None) as out:
        start.drive(out, start.start(None), Monitor(settings.chains), 0, settings.draws, None, False)
    draws, _ = out.split()
    return {name: draws[name][:, 0] for name in job.posterior.network.weight_shapes}
