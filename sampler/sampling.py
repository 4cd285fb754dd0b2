"""Sampling as a user calls it: checks first, then the driver, with draws going to memory or to a sample file."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import store as _store
from ..core import checks
from ..core.numerics import numerics
from ..models import Network, PathInputs, Posterior
from . import driver, interrupt, processes, schema
from . import sink as records
from .convergence import MIN_DRAWS, ConvergenceWarning, convergence
from .kernels import resolve_kernel
from .monitor import Monitor, Until
from .progress import STYLES, Progress
from .run import Run

_PRECISIONS = ("auto", "float32", "float64")
_RECORDED = ("draws", "until", "report", "ended")  # attributes that commits write: they replace what settings say
_GIVEN = "given"  # init: positions by the user
_BLOCK = 4096  # stored draws read at a time
_PACKAGES = ("gibbsformer", "jax", "numpyro", "blackjax", "numpy", "h5py", "arviz")


def sample(
    posterior: Posterior,
    kernel="collapsed",
    *,
    key: jax.Array,
    chains: int = 4,
    warmup: int = 500,
    draws: int = 1000,
    thin: int = 1,
    until: Until | None = None,
    store: str | os.PathLike | None = None,
    keep: str | None = None,
    test: tuple[PathInputs, Any] | None = None,
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

    Ctrl-C finishes the chunk under way, stores it and returns what there is; a second Ctrl-C stops at once.

    Args:
        posterior: network, data, temperature.
        kernel: a name in ``gf.KERNELS`` or a kernel object such as ``gf.NUTS(max_doublings=8)``.
        key: typed random key; chain c uses fold_in(key, c) whatever the number of chains or devices.
        chains: independent chains, run side by side, split over the devices of this host.
        warmup: transitions per chain before the draws, during which the kernel adapts.
        draws: draws per chain; with ``until`` the most there will be.
        thin: transitions per draw after the warm-up; counts (n_steps) add up over them.
        until: from ``gf.until``: stop as soon as ESS and R-hat of U are good, or time is over.
        store: sample file to write as the chains run; None keeps the draws in memory.
        keep: ``"weights"`` records order parameters and all weights, ``"order_parameters"`` leaves the weights out
            (predictions stay possible); default: weights, for ``collapsed`` order parameters.
        test: (inputs, labels) of test examples; f on them is recorded for each draw.
        precision: of weights: ``"float32"``, ``"float64"``, or ``"auto"``: float32 on an accelerator, float64 on a
            CPU. Energies, which decide on acceptance, are summed in float64 always.
        overwrite: replace an existing file.
        progress: a live line on stderr; ``"json"`` prints one JSON object per chunk instead.
        init: ``"collapsed"`` starts a kernel over weights in equilibrium, at exact draws lifted from short collapsed
            chains; weights by name [chains, ..] start it there; default the prior (weights), or around the theory's
            saddle point (collapsed).
        chains_at_once: chains that one device moves side by side, the others waiting their turn: less memory.
        chunk: records per chunk; default about one second's worth. Draws do not depend on it.
        about: plain values recorded with the run.
        distributed: under ``jax.distributed``, this process draws its equal share of the chains, those that a single
            process would draw, and returns them; process i of n writes run.{i}of{n}.h5, and ``store.merge`` joins the
            files. All make the same call. Equal to the last bit only with a ``chains_at_once`` that divides the share
            and is below it.

    Returns:
        Run; its arrays stay on disk when ``store`` is given. A warning says what is wrong with the chains, if anything.

    Raises:
        ValueError: an argument is out of range, of the wrong kind, or unknown; a file exists or cannot be
            written; chains or draws would not fit in memory or on disk. Nothing has been computed then.
    """
    if not isinstance(posterior, Posterior):
        raise checks.InputError(
            f"posterior is a {type(posterior).__name__}: give gf.Posterior(network, data, y, temperature)"
        )
    kernel = resolve_kernel(kernel)
    checks.random_key("key", key)
    chains, draws = checks.count("chains", chains), checks.count("draws", draws)
    warmup, thin = checks.count("warmup", warmup, least=0), checks.count("thin", thin)
    if chains < kernel.least_chains:
        raise checks.InputError(
            f"chains={chains}: kernel {kernel.name!r} learns from the spread between chains, use {kernel.least_chains} "
            "or more"
        )
    kernel.check(posterior, chains, warmup)
    chunk = None if chunk is None else checks.count("chunk", chunk)
    chains_at_once = None if chains_at_once is None else checks.count("chains_at_once", chains_at_once)
    keep = checks.nearest("keep", keep or kernel.keep, (schema.WEIGHTS, schema.ORDER_PARAMETERS_ONLY))
    checks.nearest("precision", precision, _PRECISIONS)
    _check_until(until)
    share = processes.share(chains, distributed)
    share.check(kernel, until)
    chains = len(share.own)
    _check_progress(progress)
    progress = progress if share.process == 0 or progress == "json" else False  # one line for all processes
    test = _checked_test(posterior, test)
    if store is not None:
        store = share.path(store, overwrite)
    if precision == "auto":
        precision = "float64" if kernel.float64_only or jax.default_backend() == "cpu" else "float32"
    elif kernel.float64_only and precision != "float64":
        raise checks.InputError(f"precision={precision!r} is not enough for kernel {kernel.name!r}: leave it out")

    settings = {
        "kernel": kernel.name,
        "options": dataclasses.asdict(kernel),
        "network": dataclasses.asdict(posterior.network),
        "temperature": posterior.temperature,
        "chains": chains,
        "warmup": warmup,
        "draws": draws,
        "thin": thin,
        "until": until and until._asdict(),
        "keep": keep,
        "precision": precision,
        "init": init if init is None or isinstance(init, str) else _GIVEN,
        "chains_at_once": chains_at_once,
        "key_data": np.asarray(jax.random.key_data(key)).ravel().tolist(),
        "key_impl": str(jax.random.key_impl(key)),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": jax.local_devices()[0].device_kind,
        "versions": {name: version(name) for name in _PACKAGES},
        "about": dict(about or {}),
    } | share.settings
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise checks.InputError(f"about={checks.brief(about)} cannot be stored ({error}): give plain values") from None
    with numerics():
        job = _prepare(posterior, kernel, settings, test, key)
        records.check_room(job.columns, chains, draws, store, told=progress is True)
        state = driver.start_chains(job.problem, _initial_positions(init, job, posterior, key, share))
        driver.compiled(job.problem, state, chunk)  # refuses what does not fit, before there is a file
        sink = records.open_sink(store, job.columns, posterior, test, settings, share.own, draws, overwrite)
        with sink as out:
            out.append(_nothing(job), _leaves(state), 0, {})
            _drive(job, out, state, Monitor(chains, until), 0, warmup + draws, chunk, progress, store)
    return _finished(sink, store, posterior, settings, test)


def resume(
    path: str | os.PathLike,
    draws: int | None = None,
    *,
    until: Until | None = None,
    progress: bool | str = True,
    chunk: int | None = None,
) -> Run:
    """Continue a stored run from its last commit, also in the middle of the warm-up.

    The draws are those that the run would have made had it not been stopped: bit for bit with the same versions on
    the same kind and number of devices, equal in law otherwise.

    Args:
        path: sample file of ``sample(.., store=path)``.
        draws: draws per chain that the file is to hold in the end; default what the run was asked for.
        until, progress, chunk: as for ``sample``; the time budget starts anew.

    Returns:
        Run with the old and the new draws.

    Raises:
        ValueError: the file cannot be resumed (missing, damaged, lifted or merged from others, being written by
            another process), or already holds more draws.
    """
    run = open(path)
    settings = run.settings
    draws = settings["draws"] if draws is None else checks.count("draws", draws)
    chunk = None if chunk is None else checks.count("chunk", chunk)
    _check_until(until)
    _check_progress(progress)
    if "lifted_from_draws" in settings:
        raise checks.InputError(f"{path} was lifted from other draws and holds no sampler state: lift again instead")
    if draws < run.draws:
        raise checks.InputError(f"draws={draws} is less than the {run.draws} that {path} holds already: ask for more")
    kernel = resolve_kernel(settings["kernel"], settings["options"])
    share = processes.Share.of_settings(settings)
    share.check(kernel, until)
    key = jax.random.wrap_key_data(jax.numpy.asarray(settings["key_data"], "uint32"), impl=settings["key_impl"])
    with numerics():
        job = _prepare(run.posterior, kernel, settings, run.test, key)
        records.check_room(job.columns, settings["chains"], draws - run.draws, Path(path))
        monitor = Monitor(settings["chains"], until)
        for begin in range(0, run.draws, _BLOCK):
            read = lambda arrays, b=begin: {n: v[:, b : b + _BLOCK] for n, v in arrays.items()}  # noqa: E731
            watched = {n: v for n, v in run.variables.items() if n.startswith("U_")}
            monitor.add(read(watched), read({n: v for n, v in run.stats.items() if n == "diverging"}))
        with _store.SampleFile.resume(path) as out:
            if out.state:
                state = driver.state_structure(job.problem).unflatten(out.state)
            elif settings["init"] == _GIVEN:
                raise checks.InputError(f"{path} was stopped before it held its start: sample again")
            else:
                state = driver.start_chains(
                    job.problem, _initial_positions(settings["init"], job, run.posterior, key, share)
                )
            total = settings["warmup"] + draws
            if out.step < total and monitor.stop() is None:
                _drive(job, out, state, monitor, out.step, total, chunk, progress, path)
    return _finished(None, path, run.posterior, settings, run.test)


class _Job(NamedTuple):
    """What a run and its continuation have in common."""

    problem: driver.Problem
    columns: Mapping[str, Any]
    settings: dict[str, Any]


def _prepare(posterior, kernel, settings, test, key) -> _Job:
    """The problem that settings describe, on the device."""
    target = kernel.target(posterior.network, settings["keep"] == schema.WEIGHTS)
    dtype = settings["precision"]
    names = ("warmup", "chains", "thin", "chains_at_once")
    own = processes.Share.of_settings(settings).own
    problem = driver.Problem(
        plan=driver.Plan(kernel, target, **{name: settings[name] for name in names}, first_chain=own.start),
        data=target.data(posterior, dtype),
        test=None if test is None else jax.numpy.asarray(test[0].flat, dtype),
        keys=driver.chain_keys(key, len(own), own.start),
    )
    draws, stats = driver.record_shapes(problem)
    recorded = schema.kept(posterior.network, draws, settings["keep"])
    problem = problem._replace(plan=problem.plan._replace(record=recorded))
    return _Job(problem, records.columns(posterior.network, {n: draws[n] for n in recorded}, stats), settings)


def _drive(job: _Job, out, state, monitor: Monitor, start: int, stop: int, chunk, progress, path) -> None:
    """Run the chains from record ``start`` to ``stop``, or as far as the monitor and the user let them."""
    warmup = job.settings["warmup"]
    asked = monitor.until and monitor.until._asdict()
    with Progress(warmup, stop - warmup, progress, start) as bar, interrupt.deferred() as interrupted:
        for part in driver.run_chains(job.problem, state, start, stop, chunk):
            first = min(max(0, warmup - part.start), part.length)
            draws, stats = ({n: v[:, first:] for n, v in each.items()} for each in (part.draws, part.stats))
            done = part.start + part.length
            report = monitor.add(draws, stats, last=done == stop)
            ended = "interrupt" if interrupted() else monitor.stop()
            recorded = {"draws": stop - warmup, "until": asked, "report": report._asdict(), "ended": ended}
            out.append(draws | stats, _leaves(part.state), done, recorded)
            bar.update(part, report)
            if ended:
                break
    if ended == "interrupt":
        warnings.warn(_interruption(done - warmup, stop - warmup, path), stacklevel=4)


def _interruption(done, asked, path) -> str:
    where = "in memory" if path is None else f"in {path}; continue with gf.resume({str(path)!r})"
    return f"interrupted after {max(0, done)} of {asked} draws: they are {where}"


def _finished(sink, path, posterior, settings, test) -> Run:
    """The run as users get it, with a warning if its chains are not fit for use."""
    run = opened(sink, path, posterior, settings, test)
    if run.draws >= MIN_DRAWS:
        problems = convergence(run).problems
        if problems:
            warnings.warn("; ".join(problems), ConvergenceWarning, stacklevel=3)
    return run


def opened(sink, path, posterior, settings, test) -> Run:
    """The run of a sink that is complete."""
    if path is not None:
        return open(path)
    draws, stats = sink.split()
    return Run(posterior, draws, stats, settings, test)


def _initial_positions(init, job, posterior, key, share):
    """Positions [chains, ..] of this process's chains for ``init``, or None for the target's own start."""
    if init is None:
        return None
    target, dtype = job.problem.plan.target, job.settings["precision"]
    own = slice(share.own.start, share.own.stop)
    if target.from_weights is None:
        raise checks.InputError(
            f"init={checks.brief(init)} is for kernels over weights: leave it out, or choose such a kernel"
        )
    if not isinstance(init, Mapping):
        if not isinstance(init, str):
            raise checks.InputError(f"init is a {type(init).__name__}: give 'collapsed', or weights by name")
        checks.nearest("init", init, ("collapsed",))
        # a key that no chain of the run itself takes; all chains, since their number decides how sums are rounded
        run = sample(
            posterior, "collapsed", key=jax.random.fold_in(key, 2**31 - 1), chains=share.chains, warmup=200, draws=1,
            keep=schema.WEIGHTS, progress=False,
        )  # fmt: skip
        init = {name: w[:, 0] for name, w in run.weights.items()}
    shapes = {name: (share.chains, *shape) for name, shape in posterior.network.weight_shapes.items()}
    found = {name: np.shape(w) for name, w in init.items()}
    if found != shapes:
        raise checks.InputError(f"init has weights of shapes {found}: give {shapes}")
    for name in shapes:
        if not np.isfinite(init[name]).all():
            raise checks.InputError(f"init has NaN or infinity in {name!r}: give finite weights")
    return target.from_weights({name: jax.numpy.asarray(init[name], dtype)[own] for name in shapes})


def open(path: str | os.PathLike) -> Run:
    """Open a sample file; its draws are read from disk when indexed.

    Args:
        path: sample file of ``sample``, ``lift`` or ``merge``, also while it is written.

    Returns:
        Run as of the file's last commit.

    Raises:
        ValueError: the file is missing, not HDF5, damaged, not a sample file, or of a newer schema.
    """
    contents = _store.read(path)
    constants, names = contents.constants, contents.path_names
    recorded = {name: contents.attributes[name] for name in _RECORDED if name in contents.attributes}
    settings = contents.settings | recorded | {"records": contents.step}
    shape = settings["network"]
    network = Network(shape["input_width"], *(tuple(shape[name]) for name in ("heads", "widths", "variances")))
    posterior = Posterior(network, PathInputs(constants["xi"], names), constants["y"], settings["temperature"])
    test = None
    if "xi_test" in constants:
        test = (PathInputs(constants["xi_test"], names), constants["y_test"])
    return Run(posterior, contents.draws, contents.stats, settings, test, str(path))


def _check_until(asked) -> None:
    if asked is not None and not isinstance(asked, Until):
        raise checks.InputError(f"until={checks.brief(asked)} is a {type(asked).__name__}: give gf.until(ess=400)")


def _check_progress(style) -> None:
    if style not in STYLES:
        raise checks.InputError(f"progress={checks.brief(style)} is unknown: give True, False or 'json'")


def _checked_test(posterior, test):
    if test is None:
        return None
    if not (isinstance(test, tuple) and len(test) == 2 and isinstance(test[0], PathInputs)):
        raise checks.InputError(f"test is a {type(test).__name__}: give (inputs, labels), inputs from gf.contract")
    inputs, labels = test[0], checks.array("test labels", test[1], "Q")
    if inputs.xi.shape[1:] != posterior.data.xi.shape[1:]:
        raise checks.InputError(
            f"test inputs have shape {inputs.xi.shape} and the training inputs {posterior.data.xi.shape}: "
            "make all axes but the first the same"
        )
    if len(labels) != len(inputs):
        raise checks.InputError(f"test has {len(labels)} labels and {len(inputs)} inputs: give one label each")
    return inputs, labels


def _nothing(job: _Job) -> dict[str, np.ndarray]:
    """No draws of any column."""
    return {name: np.empty((job.settings["chains"], 0, *c.shape), c.dtype) for name, c in job.columns.items()}


def _leaves(state) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
