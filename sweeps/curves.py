"""Learning curves: what theory and exact posterior say as training examples are added.

Examples of one order are added, so that a curve is of one growing training set. Each part of it is read, contracted and
factorised once and joined to the reduction of what came before: P examples cost the same whatever the number of places.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import xarray as xr

from ..core import checks, console
from ..evidence import EvidenceWarning, evidence
from ..models import Network, Posterior, Reduction, labels, reduce
from ..sampler import sample
from ..sampler.weights import PARETO_LIMIT
from ..tasks import Task
from ..tasks.task import order
from .compute import run_values, theory_values

WHAT = {"theory": "theory", "collapsed": "exact"}  # what is computed -> suffix of its variables
_SHOWN = 8  # paths in a table
_PROPOSALS: dict[str, Any] = {"particles": 64, "repeats": 2}  # of the evidence: 2048 evaluations of the density


class _Stream(NamedTuple):
    """Training examples by their numbers, and what is learned from them."""

    network: Network
    temperature: float
    part: Callable[[int, int], Reduction]
    available: int | None
    test: Any


def learning_curve(
    source: Posterior | Task,
    examples: Sequence[int],
    what: str | Sequence[str] = "theory",
    *,
    key: jax.Array,
    width=None,
    temperature: float | None = None,
    test=None,
    chains: int = 4,
    warmup: int = 200,
    draws: int = 500,
    log_evidence: bool = True,
    progress: bool = False,
) -> xr.Dataset:
    """Accuracy, bias, variance, evidence and order parameters against the number of training examples P.

    Args:
        source: a posterior, whose training examples are taken, or a task; one that draws its examples
            (``gf.tasks.teacher``) gives any number of them, which are never in memory together.
        examples: numbers P of training examples; places of one training set that grows.
        what: ``"theory"``, ``"collapsed"`` (the exact posterior), or both in a list.
        key: typed random key; draws the order of the examples, chains and proposals.
        width: N or (N_1, .., N_{L+1}) of a task's network.
        temperature: T of a task; default its own.
        test: (inputs, labels [Q]) of a posterior; a task has its own.
        chains, warmup, draws: of the collapsed sampler at each P.
        log_evidence: estimate log p(y) too, by importance weights.
        progress: show a bar on stderr.

    Returns:
        Dataset over ``examples``, variables with the suffix of where they come from, ``theory`` or ``exact``:
        accuracy (r_squared where labels are real) and its error, bias and variance of the test error, U_1 [.., path,
        path_prime], U_a, converged, ess, seconds; and log_evidence with its error, NaN where importance weights are
        not to be believed (``gf.evidence`` finds it by other means), and pseudo_examples.

    Raises:
        ValueError: more examples than there are, a source of another kind or without its examples, a width that is
            missing or one too many.

    Source: docs/model.md, sections 4, 6 and 10.
    """
    checks.random_key("key", key)
    places = checks.counts("examples", np.atleast_1d(np.asarray(examples, dtype=object)).tolist())
    if list(places) != sorted(set(places)):
        raise checks.InputError(f"examples={checks.brief(places)} must be in ascending order, each once")
    chosen = [checks.nearest("what", word, WHAT) for word in ((what,) if isinstance(what, str) else tuple(what))]
    stream = _stream(source, key, width, temperature, test)
    if stream.available is not None and places[-1] > stream.available:
        raise checks.InputError(
            f"examples[{len(places) - 1}]={places[-1]}: there are {stream.available}, use at most that"
        )
    options: dict[str, Any] = {"chains": chains, "warmup": warmup, "draws": draws, "progress": False}
    found: list[dict[str, Any]] = []
    before, first = stream.part(0, places[0]), 0
    with console.bar(total=places[-1], unit="example", desc="learn", disable=not progress) as bar:
        for P in places:
            before = before.merge(stream.part(first, P)) if first else before
            posterior = Posterior(stream.network, before, temperature=stream.temperature)  # type: ignore[arg-type]
            values = _at(posterior, stream.test, chosen, jax.random.fold_in(key, P), options, log_evidence)
            found.append(values | {"pseudo_examples": len(before.y)})
            bar.update(P - first)
            first = P
    return _dataset(places, found, stream)


def _stream(source, key, width, temperature, test) -> _Stream:
    if isinstance(source, Task):
        if width is None:
            raise checks.InputError("width=None, and source is a task: give the width N of its network")
        if test is not None:
            raise checks.InputError("test is given, and source is a task, which has its own: leave test out")
        posterior, test = source.posterior(width, temperature), source.test_set
        if source.draw is not None:
            return _Stream(posterior.network, posterior.temperature, _drawn(source), None, test)
    elif isinstance(source, Posterior):
        for name, value in (("width", width), ("temperature", temperature)):
            if value is not None:
                raise checks.InputError(
                    f"{name}={value}, and source is a posterior, which has its own: leave {name} out"
                )
        source.check_examples("source", "give a posterior of examples, or a task")
        posterior, test = source, None if test is None else source.checked_test(test)
    else:
        raise checks.InputError(f"source is a {type(source).__name__}: give a gf.Posterior or a task")
    return _Stream(posterior.network, posterior.temperature, _kept(posterior, key), len(posterior.data), test)


def _drawn(task: Task) -> Callable[[int, int], Reduction]:
    options: dict[str, Any] = {
        "readout": task.readout,
        "tokens": "columns",
        "classes": task.classes,
        "residual": task.residual,
    }
    return lambda start, stop: reduce(task.batches(stop, start), task.attention, **options)


def _kept(posterior: Posterior, key) -> Callable[[int, int], Reduction]:
    data, classes = posterior.data, posterior.classes or ()
    places, y = order(len(data), key), labels.decoded(posterior.y, classes)
    names: dict[str, Any] = {"path_names": data.path_names, "residual": data.residual, "classes": classes}

    def part(start: int, stop: int) -> Reduction:
        index = places[start:stop]
        return reduce([(data.xi[index], y[index])], None, **names)

    return part


def _at(posterior: Posterior, test, what, key, options, log_evidence: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word in what:
        began = time.perf_counter()
        if word == "theory":
            values = theory_values(posterior, test)
        else:
            values = run_values(sample(posterior, key=key, **options), test)
        values["seconds"] = time.perf_counter() - began
        found["paths"] = values.pop("paths")
        found |= {f"{name}_{WHAT[word]}": value for name, value in values.items()}
    if log_evidence:
        found |= dict(zip(("log_evidence", "log_evidence_error"), _evidence(posterior, key), strict=True))
    return found


def _evidence(posterior: Posterior, key) -> tuple[float, float]:
    """(log evidence, error), NaN where importance weights are not to be believed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvidenceWarning)
        try:
            found = evidence(posterior, key=jax.random.fold_in(key, 1), method="importance", **_PROPOSALS)
        except checks.InputError:  # widths that leave no mode to propose from
            return np.nan, np.nan
    return (found.log_evidence, found.error) if found.pareto_k <= PARETO_LIMIT else (np.nan, np.nan)


def _dataset(places, found: list[dict[str, Any]], stream: _Stream) -> xr.Dataset:
    arrays, names = {}, found[0]["paths"]
    for name in dict.fromkeys(name for values in found for name in values if name != "paths"):
        values = [np.asarray(at[name], float) for at in found]
        arrays[name] = (("examples", *(("path", "path_prime") if values[0].ndim else ())), np.stack(values))
    coordinates = {"examples": list(places), "path": list(names), "path_prime": list(names)}
    about = {"widths": stream.network.widths, "temperature": stream.temperature}
    return xr.Dataset(arrays, coords=coordinates, attrs=about)


def table(data: xr.Dataset) -> pd.DataFrame:
    """The numbers of a learning curve, a row per number of examples, without what tells nothing but numerics.

    The diagonal of U_1 has a column for each path, up to eight of them.
    """
    hidden = ("action", "gradient_norm", "rhat", "divergences", "draws", "U_a_mcse", "U_1")
    frame = data[[name for name in data if not str(name).startswith(hidden)]].to_dataframe()
    for suffix in WHAT.values():
        if f"U_1_{suffix}" in data:
            for i, path in enumerate(data["path"].values[:_SHOWN]):
                frame[f"U {path} {suffix}"] = data[f"U_1_{suffix}"].values[:, i, i]
    return frame
