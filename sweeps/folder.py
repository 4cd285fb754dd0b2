"""The folder of a sweep: plan.json, index.json, points/<id>.h5 and samples/<id>.h5.

A point is finished where its result file exists, which appears whole. The index says it in one place, with errors and
times, for people and programs; after a kill it is rebuilt from the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import checks, files, lock
from . import plan as plans
from . import result
from .compute import Outcome
from .plan import Point

PLAN, INDEX = "plan.json", "index.json"
_SECONDS = 10.0  # between writings of the index: it holds a line per point


class Folder:
    """A sweep's folder, held by one process.

    Attributes:
        path: absolute.
        outcomes: id -> Outcome of finished and failed points of the plan.
        damaged: what is wrong with results that are there but cannot be used, a line each; they are computed again.
    """

    def __init__(self, path: Path, points: Sequence[Point]):
        self.path, self._points = path, points
        known = {entry["id"]: entry for entry in _index(path)}
        done = finished(path)
        faults = {point.id: result.fault(result_file(path, point)) for point in points if point.id in done}
        self.damaged = tuple(fault for fault in faults.values() if fault)
        self.outcomes = {
            id: Outcome(id, None, known.get(id, {}).get("seconds") or 0.0) for id, fault in faults.items() if not fault
        }
        self._written = -_SECONDS

    @property
    def missing(self) -> list[Point]:
        """Points without a result, failed ones of earlier runs among them."""
        return [point for point in self._points if point.id not in self.outcomes]

    def note(self, outcome: Outcome) -> None:
        """Take in how a point ended; the index follows within seconds."""
        self.outcomes[outcome.id] = outcome
        if time.monotonic() - self._written > _SECONDS:
            self.write_index()

    def write_index(self) -> None:
        """Write the index."""
        entries = []
        for point in self._points:
            outcome = self.outcomes.get(point.id)
            status = "missing" if outcome is None else "finished" if outcome.error is None else "failed"
            entry: dict[str, Any] = {"id": point.id, "status": status, "settings": point.settings}
            if outcome is not None:
                entry |= {"seconds": outcome.seconds, "error": outcome.error}
            entries.append(entry)
        files.write(self.path / INDEX, "[\n" + ",\n".join(map(plans.canonical, entries)) + "\n]\n")
        self._written = time.monotonic()


@contextlib.contextmanager
def held(out: str | os.PathLike, normal: Mapping[str, Any], points: Sequence[Point]) -> Iterator[Folder]:
    """The directory of a sweep, created if needed, locked while this runs.

    Raises:
        ValueError: it cannot be a folder, another process sweeps in it, or it holds the sweep of another plan, one
            that shares no point with this one.
    """
    path = files.output_folder("out", out, "points", "samples")
    try:
        descriptor = lock.take(path / PLAN)
    except lock.Busy as holder:
        raise checks.InputError(
            f"out={str(out)!r} is in use by {holder}: wait for it, or choose another folder"
        ) from None
    try:
        _tidy(path)
        _check_plan(out, path, points)
        files.write(path / PLAN, json.dumps(normal, indent=1) + "\n")
        folder = Folder(path, points)
        try:
            yield folder
        finally:
            folder.write_index()
    finally:
        _tidy(path)
        lock.release(path / PLAN, descriptor)


def result_file(path: Path, point: Point) -> Path:
    """The file of a point's result."""
    return path / "points" / f"{point.id}.h5"


def finished(path: Path) -> set[str]:
    """Ids of the points whose results are in a folder."""
    return {file.stem for file in (path / "points").glob("[!.]*.h5")}


def stored_plan(folder: str | os.PathLike) -> dict[str, Any]:
    """The plan last run in a folder.

    Args:
        folder: ``out`` of a sweep.

    Returns:
        The plan in normal form: "axes" and "compute" as in the TOML file, with every default written out.

    Raises:
        ValueError: the folder holds no sweep.
    """
    try:
        normal = json.loads(Path(folder, PLAN).read_text(encoding="utf-8"))
        plans.check_normal(normal)
        return normal
    except FileNotFoundError:
        raise checks.InputError(
            f"folder={checks.brief(str(folder))} holds no sweep (no {PLAN}): give the folder of a sweep"
        ) from None
    except (TypeError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise checks.InputError(f"folder={checks.brief(str(folder))} has a damaged {PLAN} ({reason}): "
                                "run the sweep with its plan, which writes it again") from None  # fmt: skip


def failures(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """Points that failed the last time they were computed, from the index; none without an index.

    Args:
        folder: ``out`` of a sweep.

    Returns:
        A dict each: id, status, settings, error, seconds.
    """
    return [entry for entry in _index(Path(folder)) if entry["status"] == "failed"]


def _tidy(path: Path) -> None:
    """Remove what killed processes left: temporary files, and locks that nobody holds."""
    for part in (path, path / "points"):
        files.remove_leftovers(part)
    for file in (path / "samples").glob("*.h5.lock"):
        samples = file.with_suffix("")
        if not file.is_symlink():
            with contextlib.suppress(lock.Busy, OSError):
                lock.release(samples, lock.take(samples))


def _check_plan(out, path: Path, points: Sequence[Point]) -> None:
    if not (path / PLAN).exists():
        return
    try:
        before = {point.id for point in plans.points(stored_plan(path))}
    except checks.InputError:  # damaged, while this plan is at hand: what is there says whether it is the same sweep
        before = finished(path) | {entry["id"] for entry in _index(path)}
    if before and before.isdisjoint(point.id for point in points):
        raise checks.InputError(
            f"out={str(out)!r} holds the sweep of another plan, no point of which is in this one: choose another folder"
        )


def _index(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads((path / INDEX).read_text(encoding="utf-8"))
        return [entry for entry in entries if {"id", "status", "settings"} <= entry.keys()]
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or damaged: results say what is finished
        return []
