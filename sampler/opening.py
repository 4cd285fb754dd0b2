"""Runs from where their draws are: a sample file, or memory."""

from __future__ import annotations

import os
from typing import Any

import jax

from .. import store
from ..core import checks, classes
from ..models import Model, ModelPosterior, Posterior
from ..models.target import Records, Variable
from ..store import SampleFile
from . import sink
from .run import Run
from .settings import RunSettings
from .sink import Memory

_RECORDED = ("draws", "until", "report", "ended")  # attributes that commits write: they replace what settings say


def open(path: str | os.PathLike | Run, *, model: Model | None = None) -> Run:
    """Open a sample file; its draws are read from disk when indexed.

    Args:
        path: sample file of ``sample``, ``lift`` or ``merge``, also while it is written; or a run that has one.
        model: the ``gf.Model`` that was sampled, of a file that cannot say where its functions are, such as lambdas.
            Without it draws can be read all the same.

    Returns:
        Run as of the file's last commit.

    Raises:
        ValueError: the file is missing, not HDF5, damaged, not a sample file, of a newer schema, or of a posterior
            whose class cannot be imported; the run is in memory; or ``model`` is not the one that was sampled.
    """
    contents = store.read(file_of(path))
    recorded = {name: contents.attributes[name] for name in _RECORDED if name in contents.attributes}
    settings = contents.settings | recorded | {"records": contents.step, "uuid": contents.attributes["uuid"]}
    kind: Any = Posterior
    if "posterior" in settings:
        kind = classes.load("posterior", settings["posterior"], lambda found: hasattr(found, "restored"))
    given = {} if model is None else {"model": model}
    if given and not issubclass(kind, ModelPosterior):
        raise checks.InputError(f"model is given, and {contents.path} is of a {kind.__name__}: leave it out")
    try:
        posterior, test = kind.restored(settings, contents.constants, contents.labels, **given)
    except KeyError as missing:
        raise checks.InputError(f"{contents.path} is damaged ({missing} missing): use a copy of the file") from None
    run = Run(posterior, contents.draws, contents.stats, settings, test, contents.path)
    known = run.records.variables  # gives the order, and the roles that files of schema 1 lack
    described = {
        name: Variable(column.group, column.dims, column.role or (known[name].role if name in known else ""))
        for name in (*known, *sorted(contents.draws.keys() - known.keys()))
        if (column := contents.columns.get(name)) is not None
    }
    return Run(
        posterior, contents.draws, contents.stats, settings, test, contents.path, Records(described, contents.labels)
    )


def file_of(path: str | os.PathLike | Run) -> str | os.PathLike:
    """The sample file that is meant, of a run its own."""
    if not isinstance(path, Run):
        return path
    if path.path is None:
        raise checks.InputError("path is a run in memory: write it with run.save('run.h5'), and give that file")
    return path.path


def save(run: Run, store: str | os.PathLike, overwrite: bool) -> Run:
    """``Run.save``."""
    if run.path is not None:
        raise checks.InputError(f"this run is in {run.path}: copy that file, or use gibbsformer export")
    settings = run.made
    path = settings.share.path(store, overwrite)
    arrays = dict(run.variables), dict(run.stats)
    shapes = [{n: jax.ShapeDtypeStruct(a.shape[2:], a.dtype) for n, a in each.items()} for each in arrays]
    columns = sink.columns(run.records, *shapes)
    sink.check_room(columns, run.chains, run.draws, path)
    recorded = {n: run.settings[n] for n in _RECORDED if n in run.settings} if "report" in run.settings else {}
    with sink.open_sink(path, columns, run.posterior, run.test, run.records, settings, overwrite) as out:
        out.append(arrays[0] | arrays[1], list(run.state), run.settings["records"], recorded)
    return stored(out)


def stored(out: SampleFile) -> Run:
    """The run that a sample file took, which is closed by now.

    Raises:
        ValueError: another file has its name.
    """
    run = open(out.path) if out.path.exists() else None
    if run is None or run.settings["uuid"] != out.uuid:
        raise checks.InputError(
            f"{out.path} was moved, removed or replaced as its run ended: look for it elsewhere, or sample again"
        )
    return run


def in_memory(out: Memory, posterior, test, records: Records, settings: RunSettings) -> Run:
    """The run whose draws are in memory."""
    draws, statistics = out.split()
    described, _ = posterior.stored(None)
    recorded = out.attributes | {"records": out.step}
    return Run(
        posterior, draws, statistics, settings.stored() | described | recorded, test, None, records, tuple(out.state)
    )
