"""Sampling as a user calls it: arguments are checked, then the driver runs and draws go to memory or to a file."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from typing import Any

import jax

from ..core import checks, console
from ..core.numerics import numerics
from ..models import Model, Posterior
from ..models.target import Sampleable
from ..store import SampleFile
from ..store.reading import check_resumable
from . import driver, sink
from .convergence import MIN_DRAWS, ConvergenceWarning, convergence
from .job import Job, leaves, prepare
from .kernels import resolve_kernel
from .monitor import Monitor, Until
from .opening import file_of, in_memory, open, stored
from .progress import STYLES
from .run import Run
from .settings import GIVEN, RunSettings

_SMALL = 10**7  # chains P^3 below which two cores of a CPU were as fast as an H100 (docs/gpu.md)
_BLOCK = 4096  # stored draws read at a time


def sample(
    posterior: Posterior,
    kernel=None,
    *,
    key: jax.Array,
    target: str | None = None,
    chains: int = 4,
    warmup: int = 500,
    draws: int = 1000,
    thin: int = 1,
    until: Until | None = None,
    store: str | os.PathLike | None = None,
    keep: str | None = None,
    test: tuple[Any, Any] | None = None,
    precision: str = "auto",
    overwrite: bool = False,
    progress: bool | str = True,
    init: str | Mapping[str, Any] | None = None,
    chains_at_once: int | None = None,
    chunk: int | None = None,
    about: Mapping[str, Any] | None = None,
    distributed: bool = False,
) -> Run:
    """Draw from the posterior.

    Ctrl-C, SIGTERM and SIGHUP finish the current chunk, store it and return the draws so far; a second signal stops at
    once.

    Args:
        posterior: network, data, temperature; that of a ``gf.Model`` or a ``gf.LearnedAttention``; or a ``Sampleable``
            of your own.
        kernel: a name in ``gf.KERNELS`` or a kernel object such as ``gf.NUTS(max_doublings=8)``; default
            ``"collapsed"``, which chooses its move by a trial, or ``"nuts"`` for a posterior without order parameters.
        key: typed random key; chain c uses fold_in(key, c) whatever the number of chains or devices.
        target: space to sample in: ``"collapsed"`` (order parameters), ``"marginal"`` (weights, V_0 integrated out: far
            better conditioned at low temperature, one P x P factorisation a gradient) or ``"weights"`` (all weights);
            default: what the kernel can use, ``"marginal"`` if it can use several.
        chains: independent chains, advanced together and split over the devices of this host.
        warmup: transitions per chain before the draws, during which the kernel adapts.
        draws: draws per chain; with ``until``, the maximum.
        thin: transitions per draw after the warm-up; counts (n_steps) add up over them.
        until: from ``gf.until``: stop as soon as ESS and R-hat of the monitored variables are good, or time is over.
        store: sample file to write as the chains run; None keeps the draws in memory.
        keep: ``"weights"`` records order parameters and all weights, ``"order_parameters"`` leaves the weights out
            (predictions stay possible); default: weights, and order parameters for the collapsed target.
        test: (inputs, labels) of test examples; f on them is recorded for each draw.
        precision: of weights: ``"float32"``, ``"float64"``, or ``"auto"``: float32 on an accelerator, float64 on a
            CPU. Energies, which decide on acceptance, are always summed in float64.
        overwrite: replace an existing file.
        progress: a progress bar on stderr; ``"json"`` prints one JSON object per chunk instead.
        init: ``"collapsed"`` starts a target made of weights in equilibrium, at exact draws lifted from short collapsed
            chains; weights by name [chains, ..] start it there, of learned attention queries and keys by name; default
            the prior (weights, learned attention), or around the theory's saddle point (collapsed).
        chains_at_once: chains that one device advances together, the others in turn, which needs less memory; default
            as many as its memory holds (recorded in ``run.settings``).
        chunk: records per chunk; default about one second's worth. Draws do not depend on it.
        about: plain values recorded with the run.
        distributed: under ``jax.distributed``, this process draws its equal share of the chains, the same as a single
            process would draw, and returns them; process i of n writes run.{i}of{n}.h5, and ``store.merge`` joins the
            files. Every process makes the same call. Equal to the last bit only with a ``chains_at_once`` that divides
            the share and is smaller.

    Returns:
        Run; its arrays stay on disk when ``store`` is given. A warning reports what is wrong with the chains, if
        anything.

    Raises:
        ValueError: an argument is out of range, of the wrong type, or unknown; a file exists or cannot be
            written; chains or draws would not fit in memory or on disk. Nothing has been computed by then.
    """
    began = time.perf_counter()
    if not isinstance(posterior, Sampleable):
        raise checks.InputError(
            f"posterior is a {type(posterior).__name__}: give gf.Posterior(network, data, y, temperature) or "
            "gf.Model(..).posterior(..)"
        )
    if kernel is None:
        kernel = "collapsed" if any(posterior.target(name).guided for name in posterior.targets) else "nuts"
    kernel = resolve_kernel(kernel)
    settings = RunSettings.checked(
        posterior, kernel, key=key, target=target, keep=keep, chains=chains, warmup=warmup, draws=draws, thin=thin,
        until=until, precision=precision, init=init, chains_at_once=chains_at_once, about=about,
        distributed=distributed,
    )  # fmt: skip
    chunk = None if chunk is None else checks.count("chunk", chunk)
    _check_progress(progress)
    progress = progress if settings.share.process == 0 or progress == "json" else False  # one bar for all processes
    test = None if test is None else posterior.checked_test(test)
    path = None if store is None else settings.share.path(store, overwrite)
    with numerics():
        job = prepare(posterior, kernel, settings, test, key)
        sink.check_room(job.columns, settings.chains, settings.draws, path, report=progress is True)
        if progress is True:
            _advise(job)
        job = job.fitted(chunk)
        state = job.start(init)
        driver.compiled(job.problem, state, chunk)  # refuses what exceeds memory, before there is a file
        with job.sink(path, overwrite) as out:
            out.append(job.nothing(), leaves(state), 0, {})
            _drive(job, out, state, Monitor(settings.chains, until, began), 0, settings.draws, chunk, progress, path)
    return _judged(
        stored(out) if isinstance(out, SampleFile) else in_memory(out, posterior, test, job.records, job.settings)
    )


def resume(
    path: str | os.PathLike | Run,
    draws: int | None = None,
    *,
    until: Until | None = None,
    progress: bool | str = True,
    chunk: int | None = None,
    model: Model | None = None,
) -> Run:
    """Continue a stored run from its last commit, also in the middle of the warm-up.

    The draws are those that the run would have made without the interruption: bit for bit with the same versions on
    the same type and number of devices, equal in distribution otherwise.

    Args:
        path: sample file of ``sample(.., store=path)`` or ``run.save(path)``, or a run that has one.
        draws: draws per chain that the file is to hold in the end; default what the run was asked for.
        until, progress, chunk: as for ``sample``; the time budget starts again.
        model: as for ``gf.open``.

    Returns:
        Run with the old and the new draws.

    Raises:
        ValueError: the file cannot be resumed (missing, damaged, lifted or merged from others, being written by
            another process, of a kernel that cannot be imported), or already holds more draws.
    """
    began = time.perf_counter()
    path = file_of(path)
    run = open(path, model=model)
    settings = run.made
    draws = settings.draws if draws is None else checks.count("draws", draws)
    chunk = None if chunk is None else checks.count("chunk", chunk)
    if until is not None and not isinstance(until, Until):
        raise checks.InputError(f"until={checks.brief(until)} is a {type(until).__name__}: give gf.until(ess=400)")
    _check_progress(progress)
    check_resumable(path, run.settings)
    if draws < run.draws:
        raise checks.InputError(f"draws={draws} is less than the {run.draws} that {path} holds already: ask for more")
    kernel = settings.resolved_kernel()
    settings.share.check(kernel.mover(), until)
    with numerics():
        job = prepare(run.posterior, kernel, settings, run.test, settings.key())
        sink.check_room(job.columns, settings.chains, draws - run.draws, run.file)
        monitor = Monitor(settings.chains, until, began)
        _read_again(run, monitor)
        with SampleFile.resume(run.file, run.settings["uuid"]) as out:
            if out.state:
                state = driver.state_structure(job.problem).unflatten(out.state)
            elif settings.init == GIVEN:
                raise checks.InputError(f"{path} was stopped before its initial positions were stored: sample again")
            else:
                state = job.start(settings.init)
            if out.step < settings.warmup + draws and monitor.stop() is None:
                _drive(job, out, state, monitor, out.step, draws, chunk, progress, run.file)
    return _judged(stored(out))


def _advise(job: Job) -> None:
    """Say on stderr that a problem is too small for a GPU, or that devices have nothing to do."""
    used, devices = driver.devices_of(job.problem.plan)
    if used < devices:
        console.say(
            f"gibbsformer: chains={job.settings.chains} divide over {used} of {devices} devices: use a multiple of "
            f"{devices} to give all of them work"
        )
    found = getattr(job.posterior, "reduction", None)
    examples = 0 if found is None else len(found.y)
    factorises = job.problem.plan.target.lapack or job.problem.plan.kernel.lapack
    chains = job.settings.chains
    if factorises and examples and chains * examples**3 < _SMALL and jax.default_backend() != "cpu":
        console.say(
            f"gibbsformer: {chains} chains of {examples} examples run as fast on a CPU: set JAX_PLATFORMS=cpu, or use "
            "kernel 'split' with more chains"
        )


def _drive(job: Job, out, state, monitor, begin, draws, chunk, progress, path) -> None:
    ended = job.drive(out, state, monitor, begin, draws, chunk, progress)
    if ended == "interrupt":
        done = max(0, out.step - job.settings.warmup)
        where = "in memory" if path is None else f"in {path}; continue with gf.resume({str(path)!r})"
        warnings.warn(f"interrupted after {done} of {draws} draws: they are {where}", stacklevel=3)


def _read_again(run: Run, monitor: Monitor) -> None:
    """Show the monitor the draws that a file holds."""
    watched = {name: run.variables[name] for name in run.monitored}
    flags = {name: values for name, values in run.stats.items() if name == "diverging"}
    for begin in range(0, run.draws, _BLOCK):
        part = slice(begin, begin + _BLOCK)
        draws, stats = ({n: v[:, part] for n, v in each.items()} for each in (watched, flags))
        monitor.add(draws, stats, last=part.stop >= run.draws)


def _judged(run: Run) -> Run:
    """The run, with a warning if its chains are not fit for use."""
    if not run.draws:
        more = "raise seconds" if run.path is None else f"continue with gf.resume({str(run.path)!r}), or raise seconds"
        if run.settings.get("ended") == "time":
            warnings.warn(f"the time was over before the first draw: {more}", ConvergenceWarning, stacklevel=3)
    elif run.draws >= MIN_DRAWS:
        problems = convergence(run).problems
        if problems:
            warnings.warn("; ".join(problems), ConvergenceWarning, stacklevel=3)
    return run


def _check_progress(style) -> None:
    if style not in STYLES:
        raise checks.InputError(f"progress={checks.brief(style)} is unknown: give True, False or 'json'")
