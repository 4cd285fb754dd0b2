"""Runs from where their draws are: a sample file, or memory."""

from __future__ import annotations

import os
from typing import Any

from .. import store
from ..core import checks, classes
from ..models import Posterior
from ..models.target import Records, Variable
from ..store import SampleFile
from .run import Run
from .settings import RunSettings
from .sink import Memory

_RECORDED = ("draws", "until", "report", "ended")  # attributes that commits write: they replace what settings say


def open(path: str | os.PathLike) -> Run:
    """Open a sample file; its draws are read from disk when indexed.

    Args:
        path: sample file of ``sample``, ``lift`` or ``merge``, also while it is written.

    Returns:
        Run as of the file's last commit.

    Raises:
        ValueError: the file is missing, not HDF5, damaged, not a sample file, of a newer schema, or of a posterior
            whose class cannot be imported.
    """
    contents = store.read(path)
    recorded = {name: contents.attributes[name] for name in _RECORDED if name in contents.attributes}
    settings = contents.settings | recorded | {"records": contents.step, "uuid": contents.attributes["uuid"]}
    kind: Any = Posterior
    if "posterior" in settings:
        kind = classes.load("posterior", settings["posterior"], lambda found: hasattr(found, "restored"))
    try:
        posterior, test = kind.restored(settings, contents.constants, contents.labels)
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
    return Run(posterior, draws, statistics, settings.stored() | described | recorded, test, None, records)
