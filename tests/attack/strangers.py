"""Files made to do harm, and names beside a file that lead elsewhere: one line, and nothing else is read or written."""

import importlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

from . import problem
from .flips import MORE, SMALL, asked, references
from .outcomes import EQUAL, HANG, OUTSIDE, WRONG, Attack, Outcome, Place, worst
from .processes import run
from .worker import Worker

_CONTENT = b"precious" * 100


def _victims(place: Place) -> Path:
    folder = place.fresh("victims")
    (folder / "keep.txt").write_bytes(_CONTENT)
    (folder / "empty.txt").touch()
    return folder


def _untouched(folder: Path, before: dict[str, bytes], outcome: Outcome, what: str) -> Outcome:
    if {name: problem.snapshot(folder).get(name) for name in before} != before:
        return Outcome(OUTSIDE, what)
    return outcome


def samples(place: Place, trials: int) -> Iterator[Outcome]:
    """Sample files with data elsewhere, odd attributes and absurd shapes, those of ``tests/store``."""
    faults = importlib.import_module("tests.store.test_strangers").FAULTS
    victims = _victims(place)
    source = problem.sampled(place.fresh("source"), SMALL)
    attributes = [(name, value) for name in ("settings", "schema", "schema_version", "uuid") for value in _ODD]
    with Worker() as worker:
        for trial in range(trials):
            path = place.fresh(str(trial)) / "run.h5"
            shutil.copy(source, path)
            victim, before = victims / "keep.txt", problem.snapshot(victims)
            with h5py.File(path, "r+") as file:
                number = trial % (len(faults) + len(attributes))
                if number < len(faults):
                    faults[number](file, victim)
                    what = faults[number].__name__
                else:
                    name, file.attrs[name] = attributes[number - len(faults)][0], attributes[number - len(faults)][1]
                    what = f"attribute {name}"
            outcomes = []
            for request in (("open", path), ("verify", path), ("resume", path, SMALL + MORE), ("export", path)):
                outcome = worker.ask(*request)
                right = outcome.kind != EQUAL or (what.startswith("attribute") and request[0] in ("verify", "export"))
                outcome = outcome if right else Outcome(WRONG, f"{request[0]} of a file with {what}")
                outcomes.append(_untouched(victims, before, outcome, what))
            yield worst(outcomes)


_ODD = ("[]", "{", 7, "text", np.arange(3), "\x1b[2J", -1)


def points(place: Place, trials: int) -> Iterator[Outcome]:
    """Results of points with data elsewhere or absurd shapes, without and with a checksum that is right."""
    import zlib

    made, victims = place.fresh("made"), _victims(place)
    plan = problem.plan(made, problem.arrays(made), "theory = true", seeds=(0,))
    problem.done("sweep", plan, "--out", made / "out", "--quiet")
    name = sorted((made / "out" / "points").iterdir())[0].name
    before, victim = problem.snapshot(victims), victims / "keep.txt"
    changes = {
        "external link": lambda file: file.__setitem__("U_1", h5py.ExternalLink(str(victim), "U_1")),
        "external storage": lambda file: file.create_dataset("U_1", (2, 2), "f8", external=[(str(victim), 0, 32)]),
        "huge": lambda file: file.create_dataset("U_1", (10**5, 10**5), "f8", chunks=(1000, 1000)),
        "group": lambda file: file.create_group("U_1/deeper"),
    }
    with Worker() as worker:
        wanted = references(worker, [("open sweep", made / "out")])
        wanted["sweep"] = wanted["open sweep"]
        for trial in range(trials):
            folder = place.folder / str(trial)
            shutil.copytree(made / "out", folder)
            path, kind = folder / "points" / name, list(changes)[trial % len(changes)]
            content, seal, _ = path.read_bytes().rpartition(b"\ngibbsformer-point ")
            path.write_bytes(content)
            with h5py.File(path, "r+") as file:
                del file["U_1"]
                changes[kind](file)
            if trial // len(changes) % 2:
                body = path.read_bytes() + seal + f"{path.stem} crc32 ".encode()
                path.write_bytes(body + f"{zlib.crc32(body):08x}\n".encode())
            outcome = asked(worker, [("open sweep", folder), ("sweep", folder, plan)], wanted, kind)
            yield _untouched(victims, before, outcome, kind)


def archives(place: Place, trials: int) -> Iterator[Outcome]:
    """Arrays that are bombs, links, pickles or absurd; networks of odd content."""
    made = place.fresh("made")
    task = problem.arrays(made)
    problem.done("train", "--data", "glyphs", "--steps", 6, "--out", made / "net.safetensors", "--quiet")
    kinds = (_bomb, _pickle, _header, _cut, _weights, _metadata)
    with Worker() as worker:
        wanted = references(worker, [("task", task), ("layers", task)])
        for trial in range(trials):
            folder, kind = place.fresh(str(trial)), kinds[trial % len(kinds)]
            path = kind(folder, made, place.rng)
            requests = [("task", path), ("layers", path)] + [("network", path)] * (path.suffix == ".safetensors")
            outcomes = []
            for request in requests:
                outcome = worker.ask(*request)
                if outcome.kind == EQUAL and outcome.said != wanted.get(request[0]):
                    outcome = Outcome(WRONG, f"{request[0]} of {kind.__name__}")
                outcomes.append(outcome)
            yield worst(outcomes)


def _bomb(folder: Path, made: Path, rng) -> Path:
    """An archive of kilobytes that says it holds a hundred gigabytes, and one that holds more than it says."""
    path = folder / "own.npz"
    shutil.copy(made / "own.npz", path)
    shape = (1, int(rng.integers(10**5, 10**6)), 10**5)
    header = str({"descr": "<f8", "fortran_order": False, "shape": shape}).encode()
    header = header.ljust(118 - 1) + b"\n"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W_2.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(10**6))
    return path


def _pickle(folder: Path, made: Path, rng) -> Path:
    """An array of objects that are made when it is read."""
    path = folder / "own.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object), y=np.ones(1), W_1=np.ones((1, 4, 4)))
    return path


def _header(folder: Path, made: Path, rng) -> Path:
    """A header of safetensors longer than the file, or nested without end."""
    path = folder / "net.safetensors"
    length = int(rng.choice([2**63, 2**31, 10**8 + 1, 50]))
    path.write_bytes(length.to_bytes(8, "little") + b"[" * 10**5)
    return path


def _cut(folder: Path, made: Path, rng) -> Path:
    """A part of an archive."""
    path = folder / "own.npz"
    content = (made / "own.npz").read_bytes()
    path.write_bytes(content[: int(rng.integers(len(content) - 22))])
    return path


def _weights(folder: Path, made: Path, rng) -> Path:
    """A network with an array that is missing or of another shape."""
    path = folder / "net.safetensors"
    arrays = load_file(made / "net.safetensors")
    name = str(rng.choice([name for name in sorted(arrays) if name[:2] in ("Q_", "K_")]))
    if rng.random() < 0.5:
        del arrays[name]
    else:
        arrays[name] = arrays[name].ravel()
    save_file(arrays, path, {"format": "gibbsformer network 1"})
    return path


def _metadata(folder: Path, made: Path, rng) -> Path:
    """A network that says something odd of itself; its layers are as good as any."""
    path = folder / "net.safetensors"
    odd = [json.dumps(each) if not isinstance(each, np.ndarray) else "[0, 1]" for each in _ODD]
    about = {name: str(rng.choice(odd)) for name in ("settings", "history", "accuracy")}
    arrays = load_file(made / "net.safetensors")
    save_file(
        {n: v for n, v in arrays.items() if n[:2] not in ("Q_", "K_")},
        path,
        {"format": "gibbsformer network 2"} | about,
    )
    return path


SUFFIXES = (".lock", ".journal", ".journal.tmp", ".new", ".partial", ".tmp")


def links(place: Place, trials: int) -> Iterator[Outcome]:
    """Symbolic and hard links, pipes and directories under the names that a command uses beside its file."""
    made, victims = place.fresh("made"), _victims(place)
    run_file = problem.sampled(made, SMALL)
    plan = problem.plan(made, made / "own.npz", "theory = true", seeds=(0,))
    before = problem.snapshot(victims)
    for trial in range(trials):
        folder = place.fresh(str(trial))
        path, target = folder / "file.h5", victims / ("keep.txt" if place.rng.random() < 0.7 else "empty.txt")
        suffix = str(place.rng.choice(SUFFIXES))
        commands = {
            "inspect": ("inspect", path, "--verify"), "resume": ("resume", path, "--draws", SMALL, "--quiet"),
            "export": ("export", run_file, "--out", path, "--overwrite"),
            "sweep": ("sweep", plan, "--out", folder, "--quiet"),
        }  # fmt: skip
        verb = str(place.rng.choice(sorted(commands)))
        beside = folder / (f"plan.json{suffix}" if verb == "sweep" else path.name + suffix)
        shutil.copy(run_file, path)
        kind = str(place.rng.choice(["symbolic", "hard", "pipe", "directory"]))
        {
            "symbolic": lambda b=beside, t=target: b.symlink_to(t), "hard": lambda b=beside, t=target: os.link(t, b),
            "pipe": lambda b=beside: os.mkfifo(b), "directory": lambda b=beside: b.mkdir(),
        }[kind]()  # fmt: skip
        what = f"{verb}, {kind} link at {beside.name}"
        outcome = run(*commands[verb])
        outcome = Outcome(HANG, what) if outcome.kind == HANG else Outcome(outcome.kind, f"{what}: {outcome.said}")
        yield _untouched(victims, before, outcome, what)


ATTACKS = (
    Attack("crafted: sample file", samples, share=2.0),
    Attack("crafted: result of a point", points),
    Attack("crafted: arrays and networks", archives, share=2.0),
    Attack("links beside a file", links, share=2.0),
)
