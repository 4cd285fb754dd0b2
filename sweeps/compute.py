"""One point: built from its settings alone, computed, written; the same numbers wherever and whenever it runs."""

from __future__ import annotations

import datetime
import json
import socket
import time
import warnings
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import tasks, theory
from ..core import checks, files
from ..diagnostics import ConvergenceWarning, convergence, generalization_error, moments, predict, score
from ..evidence import EvidenceWarning, evidence
from ..models.records import entry_labels
from ..sampler import open as open_run
from ..sampler import resolve_kernel, resume, sample
from ..theory import TheoryWarning
from . import result
from .plan import Point, canonical, digest

_RUN_OPTIONS = ("chains", "warmup", "draws", "thin", "keep", "precision")


class Outcome(NamedTuple):
    """How a point ended: ``error`` is None where its result is on disk."""

    id: str
    error: str | None
    seconds: float


def compute(point: Point, folder: str, keep_samples: bool) -> Outcome:
    """Compute a point and write its result; what goes wrong is the outcome, not an exception.

    Args:
        point: what to compute.
        folder: of the sweep, on a file system that this process and the sweep's share.
        keep_samples: leave the sample file of a sampled point in the folder.

    Raises:
        KeyboardInterrupt: the user stopped it; draws so far are in the sample file.
        OSError: the disk is full.
    """
    began = time.perf_counter()
    samples = Path(folder, "samples", f"{point.id}.h5")
    try:
        with warnings.catch_warnings():
            for category in (ConvergenceWarning, EvidenceWarning, TheoryWarning):
                warnings.simplefilter("ignore", category)  # what they say is among the values
            values = _values(point, samples)
        seconds = time.perf_counter() - began
        about = {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": seconds,
            "host": socket.gethostname(),
            "device": jax.devices()[0].device_kind,
            "versions": {name: version(name) for name in ("gibbsformer", "jax", "numpy")},
        }
        result.write(Path(folder, "points", f"{point.id}.h5"), point.settings, about, values)
        if not keep_samples:
            samples.unlink(missing_ok=True)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in files.FULL:
            raise  # nor can any other point be written
        text = " ".join(str(error).split()) or "no message"
        if not isinstance(error, checks.InputError):
            text = f"{type(error).__name__}: {text}"
        return Outcome(point.id, text[:1000], time.perf_counter() - began)
    return Outcome(point.id, None, seconds)


def _values(point: Point, samples: Path) -> dict[str, Any]:
    settings = point.settings
    task = _task(canonical(settings["task"]), settings["seed"], point.file)
    chosen = (
        {"examples": settings["examples"], "key": jax.random.key(settings["seed"])} if "examples" in settings else {}
    )
    posterior = task.posterior(_tuple(settings["width"]), settings["temperature"], **chosen)
    test = task.test_set
    names = _path_names(posterior, settings["paths"])
    if names is not None:
        posterior = posterior.select(names)
        test = None if test is None else (test[0].select(names), test[1])
    # two words of the identity: chains of different points share no key
    words = (int(point.id[i : i + 8], 16) for i in (0, 8))
    key = jax.random.key(settings["seed"])
    for word in words:
        key = jax.random.fold_in(key, np.uint32(word))
    if settings["compute"] == "theory":
        return theory_values(posterior, test)
    if settings["compute"] == "evidence":
        return _evidence(posterior, key, settings["options"])
    return _sampled(posterior, test, key, settings, samples)


@lru_cache(maxsize=2)  # a task is contracted once for all points of it that one process computes in a row
def _task(settings: str, seed: int, file: str | None):
    found = json.loads(settings)
    source = file or found["options"].get("network")
    _check_content(source, found)
    task = tasks.load(file) if file else tasks.BUILT_IN[found["name"]](key=jax.random.key(seed), **found["options"])
    _check_content(source, found)  # what was read is what the point is named after
    return task


def _check_content(source: str | None, found: Mapping[str, Any]) -> None:
    if source is not None and "sha256" in found and digest(source) != found["sha256"]:
        raise checks.InputError(f"task={source!r} has changed since the sweep began: run it again for the new file")


def _tuple(width):
    return tuple(width) if isinstance(width, list) else width


def _path_names(posterior, paths):
    """Names of the paths that a plan's entry keeps, None for all."""
    if paths == "all":
        return None
    if isinstance(paths, list):
        return paths
    network, kept = posterior.network, paths["heads"]
    heads = network.heads
    if len(kept) != len(heads):
        raise checks.InputError(f"paths.heads={kept} has {len(kept)} layers: give one list for each of {len(heads)}")
    for l, (layer, H) in enumerate(zip(kept, heads, strict=True)):
        if max(layer) > H:
            raise checks.InputError(f"paths.heads[{l}]={layer}: that layer has {H} heads, use numbers from 1 to {H}")
    grid = np.arange(posterior.data.paths).reshape(network.branches)
    branches = ([*range(skip), *(h - 1 + skip for h in layer)] for layer, skip in zip(kept, network.skips, strict=True))
    picked = grid[np.ix_(*branches)].ravel()
    return [posterior.data.path_names[i] for i in picked]


def theory_values(posterior, test) -> dict[str, Any]:
    """Numbers of a theory by name; test examples or None."""
    solved = theory.solve(posterior)
    values = {
        "U_1": solved.U[0], "U_a": np.mean(np.diag(np.atleast_2d(solved.U_a))), "paths": _entries(posterior),
        "action": solved.action,
        "converged": solved.converged, "gradient_norm": solved.gradient_norm,
    }  # fmt: skip
    if test is not None:
        prediction = predict(solved, test[0])
        found = score(prediction, test[1])
        values[found.name] = found.value
        values["bias"], values["variance"], _ = generalization_error(prediction, test[1])
        values[f"{found.name}_gp"] = score(predict(theory.gp(posterior), test[0]), test[1]).value
    return values


def _entries(posterior) -> tuple[str, ...]:
    """Names of the rows of U_1."""
    return entry_labels(posterior.network, posterior.data.path_names, posterior.classes or ())[0]


def _evidence(posterior, key, options) -> dict[str, Any]:
    found = evidence(posterior, key=key, **options)
    return {
        "log_evidence": found.log_evidence, "log_evidence_error": found.error, "thermodynamic": found.thermodynamic,
        "agrees": found.agrees,
    }  # fmt: skip


def _sampled(posterior, test, key, settings: Mapping[str, Any], samples: Path) -> dict[str, Any]:
    run = _run(posterior, key, settings, samples)
    if run.settings.get("ended") == "interrupt":
        raise KeyboardInterrupt
    return run_values(run, test)


def run_values(run, test) -> dict[str, Any]:
    """Numbers of a run by name; test examples or None."""
    verdict = convergence(run)
    U_a, (U_1, *_) = run.order_parameters
    if U_a.ndim > 2:  # of several outputs: the mean of its diagonal
        U_a = np.trace(U_a, axis1=2, axis2=3) / U_a.shape[2]
    found = {name: moments(draws) for name, draws in (("U_1", U_1), ("U_a", U_a))}
    values = {
        **{name: each["mean"] for name, each in found.items()},
        **{f"{name}_mcse": each["mcse"] for name, each in found.items()},
        "paths": _entries(run.posterior),
        "rhat": verdict.rhat, "ess": verdict.ess_bulk, "divergences": verdict.divergences,
        "converged": verdict.converged, "draws": run.draws,
    }  # fmt: skip
    if test is not None:
        prediction = predict(run, test[0])
        name, values[name], values[f"{name}_error"] = score(prediction, test[1])
        values["bias"], values["variance"], _ = generalization_error(prediction, test[1])
    return values


def _run(posterior, key, settings, samples: Path):
    """The chains of a point: those of its sample file, continued where they were stopped, or new ones."""
    if samples.exists():
        try:
            open_run(samples)
        except checks.InputError:
            pass  # not a readable run: the name is the sweep's own, so replace it
        else:
            return resume(samples, progress=False)
    kernel = settings.get("kernel", {"name": "collapsed", "options": {}})
    options = settings["options"]
    return sample(
        posterior, resolve_kernel(kernel["name"], kernel["options"]), key=key, store=samples, overwrite=True,
        progress=False, init="collapsed" if options.get("init") == "collapsed" else None, target=kernel.get("target"),
        about={"point": settings}, **{name: options[name] for name in _RUN_OPTIONS if name in options},
    )  # fmt: skip
