"""Disks that are full, and readers beside a writer."""

import contextlib
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py

from . import problem
from .kills import DRAWS
from .outcomes import EQUAL, REFUSED, WRONG, Attack, Outcome, Place
from .processes import end, run, start
from .worker import Worker

VERBS = ("sample", "resume", "merge", "export", "sweep", "train", "report")


@contextlib.contextmanager
def small(folder: Path, KiB: int) -> Iterator[tuple[Callable | None, Callable[[], None]]]:
    """A folder with room for so much: (limit of processes, what makes it large).

    A file system in memory where one can be mounted; elsewhere no file may grow beyond that.
    """
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={KiB}k", "none", folder]
    mounted = shutil.which("mount") and subprocess.run(["mount", *options], capture_output=True, check=False)
    if not mounted or mounted.returncode:
        bytes_left = KiB * 2**10
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, bytes_left)), lambda: None
        return
    try:
        yield None, lambda: subprocess.run(["mount", "-o", "remount,size=100m", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def full(place: Place, trials: int) -> Iterator[Outcome]:
    """Every verb that writes, on a disk with too little room: one line, and the same result once there is more."""
    made = place.fresh("made")
    source = problem.sampled(made, DRAWS)
    another = made / "another.h5"
    with Worker() as worker:
        worker.ask("another", source, another)
    short = problem.sampled(place.fresh("short"), 6)
    plan = problem.plan(made, made / "own.npz", "theory = true\nweights = { chains = 2, warmup = 0, draws = 60 }", (0,))
    results: dict[str, object] = {}
    for trial in range(trials):
        verb = VERBS[trial % len(VERBS)]
        command = _command(verb, made, another, plan)
        if verb not in results:
            whole = place.fresh(f"whole {verb}")
            if verb == "resume":
                shutil.copy(short, whole / "run.h5")
            problem.done(*command(whole))
            results[verb] = _result(verb, whole), sum(map(len, problem.snapshot(whole).values()))
        wanted, size = results[verb]
        first = short.stat().st_size if verb == "resume" else 0
        KiB = int(place.rng.integers(first // 1024 + 8, max(first // 1024 + 16, 1.2 * size // 1024)))
        with small(place.folder / str(trial), KiB) as (limit, enlarge):
            folder = place.folder / str(trial)
            if verb == "resume":
                shutil.copy(short, folder / "run.h5")
            outcome = run(*command(folder), limit=limit)
            if outcome.kind in (EQUAL, REFUSED):
                enlarge()
                again = _resumed(verb, folder, command) if outcome.kind == REFUSED else outcome
                right = again.kind == EQUAL and _result(verb, folder) == wanted
                fault = Outcome(WRONG, f"{verb}, {KiB} KiB, once there was room: {again.said}")
                outcome = outcome if right else again if again.kind not in (EQUAL, REFUSED) else fault
        yield outcome


def _command(verb: str, made: Path, another: Path, plan: Path) -> Callable[[Path], tuple]:
    source = made / "run.h5"
    return {
        "sample": lambda folder: problem.sample(made / "own.npz", folder / "run.h5", DRAWS),
        "resume": lambda folder: ("resume", folder / "run.h5", "--draws", DRAWS, "--quiet"),
        "merge": lambda folder: ("merge", source, another, "--out", folder / "all.h5"),
        "export": lambda folder: ("export", source, "--out", folder / "part.nc"),
        "sweep": lambda folder: ("sweep", plan, "--out", folder / "out", "--quiet"),
        "train": lambda folder: (
            "train",
            "--data",
            "glyphs",
            "--steps",
            20,
            "--out",
            folder / "net.safetensors",
            "--quiet",
        ),
        "report": lambda folder: ("report", source, "--out", folder / "page.html"),
    }[verb]


def _resumed(verb: str, folder: Path, command) -> Outcome:
    """The command again, as its line says."""
    if verb == "sample" and (folder / "run.h5").exists():
        return run("resume", folder / "run.h5", "--draws", DRAWS, "--quiet")
    if verb == "train" and (folder / "net.safetensors").exists():
        return run(*command(folder), "--resume")
    return run(*command(folder))


def _result(verb: str, folder: Path):
    """What must be equal; of a page that it is whole."""
    if verb == "sweep":
        return problem.swept(folder / "out")
    if verb == "train":
        return problem.network(folder / "net.safetensors")
    if verb == "report":
        return (folder / "page.html").read_text().rstrip().endswith("</html>")
    name = {"merge": "all.h5", "export": "part.nc"}.get(verb, "run.h5")
    return {key: values.tobytes() for key, values in problem.draws(folder / name).items()}


def readers(place: Place, trials: int) -> Iterator[Outcome]:
    """``gf.open`` and stock HDF5 beside a run that commits: each opening sees the first draws of the whole run."""
    made = place.fresh("made")
    wanted = problem.draws(problem.sampled(made, DRAWS))
    left, number = trials, 0
    while left > 0:
        path = place.fresh(str(number)) / "run.h5"
        number += 1
        process = start(*problem.sample(made / "own.npz", path, DRAWS))
        while process.poll() is None and left > 0:
            if not path.exists():
                time.sleep(0.002)
                continue
            left -= 1
            yield _seen(path, wanted, place.rng)
        outcome = end(process)
        fault = problem.compare(problem.draws(path), wanted) if outcome.kind == EQUAL else ""
        yield Outcome(WRONG, f"the run beside readers: {fault}") if fault else outcome


def _seen(path: Path, wanted, rng) -> Outcome:
    """What a reader finds that keeps the file open for a while."""
    import numpy as np

    import gibbsformer as gf

    try:
        if rng.random() < 0.5:
            run = gf.open(path)
            time.sleep(rng.uniform(0.0, 0.05))
            arrays = {**run.variables, **run.stats}
            found = {full: np.asarray(arrays[full.rpartition("/")[2]]) for full in wanted}
        else:
            with h5py.File(path) as file:
                found = {}
                for name in wanted:
                    found[name] = file[name][()]
                    time.sleep(rng.uniform(0.0, 0.02))
    except gf.core.checks.InputError as error:
        return Outcome(REFUSED, str(error))
    except OSError as error:  # a stock reader in the milliseconds of a commit
        return Outcome(REFUSED if "lock" in str(error) else WRONG, f"stock reader: {error}")
    fault = problem.compare(found, wanted, whole=False)
    return Outcome(WRONG, f"reader: {fault}") if fault else Outcome(EQUAL)


ATTACKS = (
    Attack("full disk", full, may_refuse=True),
    Attack("readers beside a run", readers, share=5.0),
)
