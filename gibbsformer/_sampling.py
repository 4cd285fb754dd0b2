"""Sampling as a user calls it: checks first, then the driver, with draws going to memory or to a sample file."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import store as _store
from .models import Network, PathInputs, Posterior, checks
from .sampler import Run, driver, resolve_kernel, schema
from .sampler.progress import Progress

_PRECISIONS = ("auto", "float32", "float64")
_PACKAGES = ("gibbsformer", "jax", "numpyro", "blackjax", "numpy", "h5py", "arviz")


def sample(
    posterior: Posterior,
    kernel="nuts",
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
            (predictions stay possible); default: weights.
        test: (inputs, labels) of test examples; f on them is recorded for each draw.
        precision: ``"float32"``, ``"float64"``, or ``"auto"``: float32 on an accelerator, float64 on a CPU.
        overwrite: replace an existing file.
        progress: a live line on stderr.
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
    keep = checks.nearest("keep", keep or schema.WEIGHTS, (schema.WEIGHTS, schema.ORDER_PARAMETERS_ONLY))
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
    # the precision of this run alone, whatever the global flag says
    with jax.enable_x64(precision == "float64"):
        target = kernel.target(posterior.network)
        problem = driver.Problem(
            kernel=kernel,
            target=target,
            data=target.data(posterior, precision),
            test=None if test is None else jax.numpy.asarray(test[0].flat, precision),
            warmup=warmup,
            record=(),
        )
        shapes = driver.record_shapes(problem)
        record = schema.kept(posterior.network, shapes, keep)
        problem = problem._replace(record=record)
        columns = _columns(posterior.network, {name: shapes[name] for name in record}, problem, chains)
        _check_room(columns, chains, draws, store)
        sink = _open_sink(store, columns, posterior, test, settings, chains, draws, overwrite)
        chain_keys, state = driver.start_chains(problem, key, chains)
        with sink as out, Progress(warmup, draws, progress) as bar:
            for part in driver.run_chains(problem, chain_keys, state, 0, warmup + draws, chunk):
                first = max(0, warmup - part.start)
                values = {name: array[:, first:] for name, array in (part.draws | part.stats).items()}
                out.append(values, _leaves(part.state), part.start + part.length)
                bar.update(part)
    if isinstance(sink, _Memory):
        variables = {name: sink.arrays[name] for name in record}
        return Run(posterior, variables, {n: a for n, a in sink.arrays.items() if n not in variables}, settings, test)
    return open(store)


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


def _columns(network, shapes, problem, chains) -> dict[str, _store.Column]:
    table = schema.variables(network)
    columns = {
        name: _store.Column(table[name].group, table[name].dims, spec.shape, spec.dtype)
        for name, spec in shapes.items()
    }
    stats = driver.statistics_shapes(problem)
    return columns | {name: _store.Column("sample_stats", (), (), spec.dtype) for name, spec in stats.items()}


def _check_room(columns, chains, draws, store) -> None:
    """Refuse before the start what would not fit at the end."""
    needed = chains * draws * sum(int(np.prod(c.shape)) * np.dtype(c.dtype).itemsize for c in columns.values())
    if store is None:
        available, place = _available_memory(), "memory"
        remedy = "keep='order_parameters', fewer draws, or store='run.h5'"
    else:
        usage = os.statvfs(Path(store).parent)
        available, place = usage.f_bavail * usage.f_frsize, f"room in {str(Path(store).parent)!r}"
        remedy = "keep='order_parameters' or fewer draws"
    if needed > available:
        raise checks.InputError(
            f"draws={draws} x chains={chains} need {needed / 2**30:.1f} GiB of {place} and "
            f"{available / 2**30:.1f} GiB is free: use {remedy}"
        )


def _available_memory() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _open_sink(store, columns, posterior, test, settings, chains, draws, overwrite):
    if store is None:
        return _Memory(columns, chains, draws)
    path_axes = ("example", "input", *(f"head_{l}" for l in range(1, posterior.network.depth + 1)))
    constants: dict[str, dict] = {
        "constant_data": {"xi": (path_axes, posterior.data.xi)},
        "observed_data": {"y": (("example",), posterior.y)},
    }
    if test is not None:
        constants["constant_data"]["xi_test"] = (("test_example", *path_axes[1:]), test[0].xi)
        constants["observed_data"]["y_test"] = (("test_example",), test[1])
    labels = schema.coordinates(posterior.network, posterior.data.path_names, 0 if test is None else len(test[1]))
    return _store.SampleFile.create(store, columns, labels, constants, settings, chains, overwrite)


def _leaves(state) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


class _Memory:
    """Draws in preallocated arrays: the sink used where no file is asked for."""

    def __init__(self, columns: Mapping[str, _store.Column], chains: int, draws: int):
        self.arrays = {name: np.empty((chains, draws, *c.shape), c.dtype) for name, c in columns.items()}
        self._length = 0

    def append(self, values, state, step) -> None:
        count = next(iter(values.values())).shape[1]
        for name, array in self.arrays.items():
            array[:, self._length : self._length + count] = values[name]
        self._length += count

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass
