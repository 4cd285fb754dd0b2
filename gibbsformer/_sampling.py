"""Sampling as a user calls it: checks first, then the driver, with draws going to memory or to a sample file."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from . import _records as records
from . import store as _store
from .models import Network, PathInputs, Posterior, checks
from .models.numerics import numerics
from .sampler import Collapsed, Run, driver, resolve_kernel, schema
from .sampler.progress import Progress

_PRECISIONS = ("auto", "float32", "float64")
_PACKAGES = ("gibbsformer", "jax", "numpyro", "blackjax", "numpy", "h5py", "arviz")


def sample(
    posterior: Posterior,
    kernel="collapsed",
    *,
    key: jax.Array,
    chains: int = 4,
    warmup: int = 500,
    draws: int = 1000,
    store: str | os.PathLike | None = None,
    keep: str | None = None,
    test: tuple[PathInputs, Any] | None = None,
    precision: str = "auto",
    overwrite: bool = False,
    progress: bool = True,
    init: str | None = None,
    chunk: int | None = None,
    about: Mapping[str, Any] | None = None,
) -> Run:
    """Draw from the posterior.

    Args:
        posterior: network, data, temperature.
        kernel: a name in ``gf.KERNELS`` or a kernel object such as ``gf.NUTS(max_doublings=8)``.
        key: typed random key; chain c uses fold_in(key, c) whatever the number of chains or devices.
        chains: independent chains, run side by side.
        warmup: transitions per chain before the draws, during which the kernel adapts.
        draws: draws per chain.
        store: sample file to write as the chains run; None keeps the draws in memory.
        keep: ``"weights"`` records order parameters and all weights, ``"order_parameters"`` leaves the weights out
            (predictions stay possible); default: weights, for ``collapsed`` order parameters.
        test: (inputs, labels) of test examples; f on them is recorded for each draw.
        precision: ``"float32"``, ``"float64"``, or ``"auto"``: float32 on an accelerator, float64 on a CPU.
        overwrite: replace an existing file.
        progress: a live line on stderr.
        init: ``"collapsed"`` starts a kernel over weights in equilibrium, at exact draws lifted from short collapsed
            chains; default the prior (weights), or around the theory's saddle point (collapsed).
        chunk: transitions per chunk; default about one second's worth. Draws do not depend on it.
        about: plain values recorded with the run.

    Returns:
        Run; its arrays stay on disk when ``store`` is given.

    Raises:
        ValueError: an argument is out of range, of the wrong kind, or unknown; a file exists or cannot be
            written; the draws would not fit in memory or on disk. Nothing has been computed then.
    """
    if not isinstance(posterior, Posterior):
        raise checks.InputError(
            f"posterior is a {type(posterior).__name__}: give gf.Posterior(network, data, y, temperature)"
        )
    kernel = resolve_kernel(kernel)
    checks.random_key("key", key)
    chains, draws = checks.count("chains", chains), checks.count("draws", draws)
    warmup = checks.count("warmup", warmup, least=0)
    chunk = None if chunk is None else checks.count("chunk", chunk)
    keep = checks.nearest("keep", keep or kernel.keep, (schema.WEIGHTS, schema.ORDER_PARAMETERS_ONLY))
    checks.nearest("precision", precision, _PRECISIONS)
    test = _checked_test(posterior, test)
    if store is not None:
        store = _store.checked_path(store, overwrite)
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
        "keep": keep,
        "precision": precision,
        "key_data": np.asarray(jax.random.key_data(key)).ravel().tolist(),
        "key_impl": str(jax.random.key_impl(key)),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": jax.devices()[0].device_kind,
        "versions": {name: version(name) for name in _PACKAGES},
        "about": dict(about or {}),
    }
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        raise checks.InputError(f"about={checks.brief(about)} cannot be stored ({error}): give plain values") from None
    # the precision of this run alone, whatever the global flag says
    with numerics(precision):
        target = kernel.target(posterior.network, keep == schema.WEIGHTS)
        problem = driver.Problem(
            kernel=kernel,
            target=target,
            data=target.data(posterior, precision),
            test=None if test is None else jax.numpy.asarray(test[0].flat, precision),
            warmup=warmup,
            record=(),
        )
        draw_shapes, stat_shapes = driver.record_shapes(problem)
        problem = problem._replace(record=schema.kept(posterior.network, draw_shapes, keep))
        columns = records.columns(posterior.network, {n: draw_shapes[n] for n in problem.record}, stat_shapes)
        sink = records.open_sink(store, columns, posterior, test, settings, chains, draws, overwrite)
        positions = _initial_positions(init, target, posterior, key, chains, precision)
        chain_keys, state = driver.start_chains(problem, key, chains, positions)
        with sink as out, Progress(warmup, draws, progress) as bar:
            for part in driver.run_chains(problem, chain_keys, state, 0, warmup + draws, chunk):
                first = max(0, warmup - part.start)
                values = {name: array[:, first:] for name, array in (part.draws | part.stats).items()}
                out.append(values, _leaves(part.state), part.start + part.length)
                bar.update(part)
    return _finished(sink, store, posterior, settings, test)


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
        Run with weights, path weights and (where the run had test inputs) f, beside the draws they came from.

    Raises:
        ValueError: the run is not collapsed, more draws are asked for than it has, or the weights would not fit.

    Source: docs/model.md, section 4, "lifting".
    """
    checks.random_key("key", key)
    if "theta" not in run.variables:
        raise checks.InputError(f"run has kernel {run.settings['kernel']!r}: only a collapsed run can be lifted")
    draws = run.draws if draws is None else checks.count("draws", draws)
    if draws > run.draws:
        raise checks.InputError(f"draws={draws} is more than the {run.draws} that the run has per chain")
    path = None if store is None else _store.checked_path(store, overwrite)
    picked = np.linspace(0, run.draws - 1, draws).round().astype(int)
    settings = run.settings | {"keep": schema.WEIGHTS, "draws": draws, "lifted_from_draws": run.draws}
    posterior = run.posterior
    theta = np.asarray(run.variables["theta"])[:, picked]
    stats = {name: np.asarray(values)[:, picked] for name, values in run.stats.items()}
    with numerics():
        target = Collapsed().target(posterior.network, weights=True)
        data = target.data(posterior, "float64")
        test_xi = None if run.test is None else jax.numpy.asarray(run.test[0].flat)
        keys = jax.random.split(key, theta.shape[:2])
        observe = _observer(target)
        shapes = jax.eval_shape(target.observe, data, test_xi, theta[0, 0], keys[0, 0])
        columns = records.columns(posterior.network, shapes, {n: s[0, 0] for n, s in stats.items()})
        batch = driver.capacity_of(posterior.network.weight_count * 8 * run.chains)
        sink = records.open_sink(path, columns, posterior, run.test, settings, run.chains, draws, overwrite)
        with sink as out, tqdm(total=draws, disable=not progress, unit="draw", desc="lift") as bar:
            for start in range(0, draws, batch):
                part = slice(start, start + batch)
                lifted = observe(data, test_xi, theta[:, part], keys[:, part])
                values = {n: np.asarray(v) for n, v in lifted.items()} | {n: s[:, part] for n, s in stats.items()}
                out.append(values, [], min(part.stop, draws))
                bar.update(min(batch, draws - start))
    return _finished(sink, path, posterior, settings, run.test)


def _observer(target):
    """``target.observe`` over [chain, draw]: all at once on an accelerator, one after the other on a CPU.

    On a CPU the factorisations of a large batch that do not depend on each other can wait for each other's threads
    for ever (seen with jaxlib 0.10 on two cores).
    """

    @jax.jit
    def observe(data, test, theta, keys):
        one = lambda position_key: target.observe(data, test, *position_key)  # noqa: E731
        if jax.default_backend() != "cpu":
            return jax.vmap(jax.vmap(one))((theta, keys))
        flat = jax.lax.map(one, (theta.reshape(-1, theta.shape[-1]), keys.reshape(-1)))
        return {name: values.reshape(*keys.shape, *values.shape[1:]) for name, values in flat.items()}

    return observe


def _finished(sink, path, posterior, settings, test) -> Run:
    if path is not None:
        return open(path)
    draws, stats = sink.split()
    return Run(posterior, draws, stats, settings, test)


def _initial_positions(init, target, posterior, key, chains, precision):
    """Positions [chains, ..] for ``init``, or None for the target's own start."""
    if init is None:
        return None
    checks.nearest("init", init, ("collapsed",))
    if target.name != "weights":
        raise checks.InputError(f"init={init!r} is for kernels over weights: leave it out, or choose such a kernel")
    # a key that no chain of the run itself takes
    run = sample(
        posterior, "collapsed", key=jax.random.fold_in(key, 2**31 - 1), chains=chains, warmup=200, draws=1,
        keep=schema.WEIGHTS, progress=False,
    )  # fmt: skip
    return {name: jax.numpy.asarray(w[:, 0], precision) for name, w in run.weights.items()}


def open(path: str | os.PathLike) -> Run:
    """Open a sample file; its draws are read from disk when indexed.

    Raises:
        ValueError: the file is missing, not HDF5, damaged, not a sample file, or of a newer schema.
    """
    contents = _store.read(path)
    settings, constants, names = contents.settings, contents.constants, contents.path_names
    shape = settings["network"]
    network = Network(shape["input_width"], *(tuple(shape[name]) for name in ("heads", "widths", "variances")))
    posterior = Posterior(network, PathInputs(constants["xi"], names), constants["y"], settings["temperature"])
    test = None
    if "xi_test" in constants:
        test = (PathInputs(constants["xi_test"], names), constants["y_test"])
    return Run(posterior, contents.draws, contents.stats, settings, test, str(path))


def _checked_test(posterior, test):
    if test is None:
        return None
    if not (isinstance(test, tuple) and len(test) == 2 and isinstance(test[0], PathInputs)):
        raise checks.InputError(f"test is a {type(test).__name__}: give (inputs, labels), inputs from gf.contract")
    inputs, labels = test[0], checks.array("test labels", test[1], "Q")
    if inputs.xi.shape[1:] != posterior.data.xi.shape[1:]:
        raise checks.InputError(
            f"test inputs have shape {inputs.xi.shape} and the training inputs {posterior.data.xi.shape}: "
            "all axes but the first must agree"
        )
    if len(labels) != len(inputs):
        raise checks.InputError(f"test has {len(labels)} labels and {len(inputs)} inputs: give one label each")
    return inputs, labels


def _leaves(state) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
