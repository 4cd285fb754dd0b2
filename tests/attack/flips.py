"""One bit of a file changed: open, read, verify and continue give what the whole file gives, or one line."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from . import problem
from .outcomes import EQUAL, REFUSED, WRONG, Attack, Outcome, Place, worst
from .processes import end, spawn
from .worker import Worker

SMALL, MORE = 6, 4  # draws of the file that is attacked, and of its continuation
_MENDS = ("sweep",)  # uses that compute again what is damaged
_HEAD = 16 * 2**10  # where HDF5's metadata and heaps begin


def flipped(path: Path, whole: bytes, rng: np.random.Generator) -> str:
    """Change a bit of a file anywhere, or half of the time near its start; says where."""
    place = int(rng.integers(min(len(whole), _HEAD) if rng.random() < 0.5 else len(whole)))
    bit = int(rng.integers(8))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    return f"bit {bit} of byte {place} of {path.name}"


def asked(worker: Worker, requests: list[tuple], wanted: dict, what: str) -> Outcome:
    """The worst outcome of several uses, each of which gives what it gave for the whole file, or refuses."""
    outcomes = []
    for request in requests:
        outcome = worker.ask(*request)
        if outcome.kind == EQUAL and outcome.said != wanted[request[0]]:
            outcome = Outcome(WRONG, "another result")
        if outcome.kind == REFUSED and request[0] in _MENDS:
            outcome = Outcome(WRONG, f"not mended: {outcome.said}")
        outcomes.append(Outcome(outcome.kind, f"{what}, {request[0]}: {outcome.said}"))
    return worst(outcomes)


def references(worker: Worker, requests: list[tuple]) -> dict[str, str]:
    """What the whole file gives."""
    found = {request[0]: worker.ask(*request) for request in requests}
    if bad := [outcome.said for outcome in found.values() if outcome.kind != EQUAL]:
        raise RuntimeError(f"nothing to attack: {bad}")
    return {name: outcome.said for name, outcome in found.items()}


def attacked(source: Path, folder: Path, target: str, requests, place: Place, trials: int) -> Iterator[Outcome]:
    """Flip bits of one file of a folder, in a copy of all of it."""
    whole = (source / target).read_bytes()
    with Worker() as worker:
        shutil.copytree(source, folder)
        wanted = references(worker, requests(folder))
        for _ in range(trials):
            shutil.rmtree(folder)
            shutil.copytree(source, folder)
            what = flipped(folder / target, whole, place.rng)
            yield asked(worker, requests(folder), wanted, what)


def samples(place: Place, trials: int) -> Iterator[Outcome]:
    """Of a sample file."""
    source = problem.sampled(place.fresh("source"), SMALL).parent

    def requests(folder):
        path = folder / "run.h5"
        return [("open", path), ("verify", path), ("export", path), ("resume", path, SMALL + MORE), ("open", path)]

    return attacked(source, place.folder / "attacked", "run.h5", requests, place, trials)


def journals(place: Place, trials: int) -> Iterator[Outcome]:
    """Of the journal of a sample file; what was committed is there, or the file is refused."""
    source = problem.journaled(problem.sampled(place.fresh("made"), SMALL), place.folder).parent

    def requests(folder):
        path = folder / "run.h5"
        return [("resume", path, SMALL + 3 + MORE), ("verify", path), ("open", path)]

    return attacked(source, place.folder / "attacked", "run.h5.journal", requests, place, trials)


def points(place: Place, trials: int) -> Iterator[Outcome]:
    """Of a result of a sweep, which the next sweep computes again."""
    made = place.fresh("made")
    plan = problem.plan(made, problem.arrays(made), "theory = true", seeds=(0,))
    source = made / "out"
    problem.done("sweep", plan, "--out", source, "--quiet")
    target = sorted((source / "points").iterdir())[0].relative_to(source)

    def requests(folder):
        return [("open sweep", folder), ("sweep", folder, plan)]

    return attacked(source, place.folder / "attacked", str(target), requests, place, trials)


def networks(place: Place, trials: int) -> Iterator[Outcome]:
    """Of a trained network."""
    source = place.fresh("source")
    problem.done("train", "--data", "glyphs", "--steps", 6, "--out", source / "net.safetensors", "--quiet")

    def requests(folder):
        path = folder / "net.safetensors"
        return [("network", path), ("layers", path)]

    return attacked(source, place.folder / "attacked", "net.safetensors", requests, place, trials)


def programs(place: Place, trials: int) -> Iterator[Outcome]:
    """Of a compiled program in the cache: it is compiled again."""
    cache, made, copy = place.folder / "cache", place.fresh("made"), place.folder / "attacked"
    task = problem.arrays(made)

    def sampled(out: Path, cache: Path) -> Outcome:
        command = ("tests.attack.child", *problem.sample(task, out, SMALL))
        return end(spawn(*command, env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}))

    sampled(made / "run.h5", cache)
    wanted = problem.draws(made / "run.h5")
    for trial in range(trials):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(cache, copy)
        path = place.rng.choice(sorted(path for path in copy.iterdir() if path.name.endswith("-cache")))
        flipped(path, path.read_bytes(), place.rng)
        out = place.folder / f"{trial}.h5"
        outcome = sampled(out, copy)
        if outcome.kind == EQUAL and (fault := problem.compare(problem.draws(out), wanted)):
            outcome = Outcome(WRONG, fault)
        yield outcome


ATTACKS = (
    Attack("flip: sample file", samples),
    Attack("flip: journal", journals),
    Attack("flip: result of a point", points),
    Attack("flip: network", networks),
    Attack("flip: compiled programs", programs, share=0.1, may_refuse=False),
)
