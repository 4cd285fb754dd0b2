"""Processes killed at random moments: what they had acknowledged is there, and what goes on after them ends as it would
have ended without."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from . import problem
from .outcomes import EQUAL, HANG, OUTSIDE, REFUSED, WRONG, Attack, Outcome, Place
from .processes import end, kill, run, spawn, start, until
from .worker import Worker

DRAWS, STEPS = 300, 60
_OWN = re.compile(r"\.(new|lock|journal|journal\.tmp)$")  # names beside a file that docs/files.md lists


def killed(command: tuple, ready, seconds: float, rng) -> tuple[bool, Outcome | None]:
    """Kill a command some time after it began to work: whether it was killed, and what it came to before that."""
    process = start(*command)
    if until(ready, process):
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.0, seconds))
    ended = process.poll() is not None
    kill(process)
    outcome = end(process)
    return not ended, outcome if ended and outcome.kind != EQUAL else None


def sampling(place: Place, trials: int, resumed: bool) -> Iterator[Outcome]:
    """``sample``, and ``resume`` after it, each killed; every file holds the first draws of a whole run."""
    made = place.fresh("made")
    wanted = problem.draws(problem.sampled(made, DRAWS))
    task, files = made / "own.npz", 0
    with Worker() as worker:
        for _ in range(trials):
            folder = place.folder / str(files)
            folder.mkdir(exist_ok=True)
            path = folder / "run.h5"
            if resumed and not path.exists():
                problem.done(*problem.sample(task, path, 3))
            command = ("resume", path, "--draws", DRAWS, "--quiet") if resumed else problem.sample(task, path, DRAWS)
            size = path.stat().st_size if resumed else 0
            ready = lambda p=path, n=size: p.exists() and p.stat().st_size != n  # noqa: E731
            was_killed, failed = killed(command, ready, 1.0, place.rng)
            outcome = failed or _whole(path, wanted, [path.name])
            if outcome.kind == EQUAL and (not resumed or not was_killed or place.rng.random() < 0.1):
                files += 1
                outcome = worker.ask("finish", path, DRAWS) if path.exists() else outcome
                fault = problem.compare(problem.draws(path), wanted) if outcome.kind == EQUAL and path.exists() else ""
                outcome = Outcome(WRONG, f"after the kill: {fault}") if fault else outcome
            yield outcome


def _whole(path: Path, wanted, left: list[str]) -> Outcome:
    """What the file of a killed process holds, read by us and then by others."""
    from gibbsformer import store

    if stray := [name for name in os.listdir(path.parent) if name not in left and not _OWN.search(name)]:
        return Outcome(OUTSIDE, f"left behind: {stray}")
    if not path.exists():
        return Outcome(EQUAL)
    try:
        store.verify(path)
    except ValueError as error:
        return Outcome(REFUSED, str(error))
    fault = problem.compare(problem.draws(path), wanted, whole=False)
    return Outcome(WRONG, fault) if fault else Outcome(EQUAL)


def copying(place: Place, trials: int, verb: str) -> Iterator[Outcome]:
    """``merge`` or ``export`` killed: the copy is whole or absent, and the next one leaves nothing else."""
    made = place.fresh("made")
    sources = [problem.sampled(made, DRAWS)]
    if verb == "merge":
        sources.append(made / "another.h5")
        with Worker() as worker:
            worker.ask("another", *sources)
    out = place.fresh("out") / "copy"
    command = (verb, *sources, "--out", out, "--overwrite")
    problem.done(*command)
    began = time.monotonic()
    problem.done(*command)
    seconds, wanted = time.monotonic() - began, problem.draws(out)
    for _ in range(trials):
        if place.rng.random() < 0.5:
            out.unlink(missing_ok=True)
        before = out.exists()
        was_killed, failed = killed(command, lambda: True, 1.1 * seconds, place.rng)
        outcome = failed or (_copied(out, wanted) if before or out.exists() or not was_killed else Outcome(EQUAL))
        if outcome.kind == EQUAL and place.rng.random() < 0.25:
            outcome = run(*command)
            outcome = _copied(out, wanted) if outcome.kind == EQUAL else outcome
            if outcome.kind == EQUAL and os.listdir(out.parent) != [out.name]:
                outcome = Outcome(OUTSIDE, f"left behind: {os.listdir(out.parent)}")
        yield outcome


def _copied(out: Path, wanted) -> Outcome:
    try:
        fault = problem.compare(problem.draws(out), wanted)
    except (OSError, KeyError) as error:
        fault = f"not whole: {error}"
    return Outcome(WRONG, fault) if fault else Outcome(EQUAL)


def sweeping(place: Place, trials: int) -> Iterator[Outcome]:
    """``sweep`` killed: finished points are kept, and the next one gives the same numbers."""
    made = place.fresh("made")
    weights = "theory = true\nweights = { chains = 2, warmup = 0, draws = 200 }"
    plan = problem.plan(made, problem.arrays(made), weights)
    problem.done("sweep", plan, "--out", made / "out", "--quiet")
    wanted, sweeps = problem.swept(made / "out"), 0
    for _ in range(trials):
        out = place.folder / str(sweeps)
        ready = lambda out=out: (out / "plan.json").exists()  # noqa: E731
        was_killed, failed = killed(("sweep", plan, "--out", out, "--quiet"), ready, 6.0, place.rng)
        outcome = failed or _points(out, wanted, len(wanted) if not was_killed else 0)
        if outcome.kind == EQUAL and (not was_killed or place.rng.random() < 0.2):
            outcome = _finished(plan, out, wanted)
            sweeps += 1
        yield outcome


def _points(out: Path, wanted, least: int) -> Outcome:
    found = problem.swept(out) if out.exists() else {}
    right = len(found) >= least and found.items() <= wanted.items()
    return Outcome(EQUAL) if right else Outcome(WRONG, f"{len(found)} points that differ from the whole sweep's")


def _finished(plan: Path, out: Path, wanted, *more) -> Outcome:
    outcome = run("sweep", plan, "--out", out, "--quiet", *more)
    outcome = _points(out, wanted, len(wanted)) if outcome.kind == EQUAL else outcome
    hidden = [str(path.relative_to(out)) for path in out.rglob("*.lock")]
    return Outcome(OUTSIDE, f"left behind: {hidden}") if outcome.kind == EQUAL and hidden else outcome


def training(place: Place, trials: int) -> Iterator[Outcome]:
    """``train`` killed between and in its checkpoints; ``train --resume`` ends with the same weights."""
    made = place.fresh("made")
    common = ("train", "--data", "glyphs", "--steps", STEPS, "--quiet", "--out")
    problem.done(*common, made / "net.safetensors")
    wanted, networks = problem.network(made / "net.safetensors"), 0
    for _ in range(trials):
        path = place.folder / str(networks) / "net.safetensors"
        path.parent.mkdir(exist_ok=True)
        before = path.stat().st_mtime_ns if path.exists() else 0
        more = ("--resume",) if before else ()
        ready = lambda p=path, b=before: p.exists() and p.stat().st_mtime_ns != b  # noqa: E731
        was_killed, failed = killed((*common, path, *more), ready, 2.0, place.rng)
        outcome = failed or Outcome(EQUAL)
        if outcome.kind == EQUAL and path.exists() and (not was_killed or place.rng.random() < 0.4):
            outcome = run(*common, path, "--resume")
            outcome = problem.same(problem.network(path), wanted, "network") if outcome.kind == EQUAL else outcome
            networks += 1
        yield outcome


def workers(place: Place, trials: int) -> Iterator[Outcome]:
    """Workers of a sweep killed while they write samples: others continue, with the same numbers."""
    made = place.fresh("made")
    plan = problem.plan(made, problem.arrays(made), "weights = { chains = 2, warmup = 0, draws = 400 }", seeds=(0,))
    problem.done("sweep", plan, "--out", made / "out", "--quiet")
    wanted = problem.swept(made / "out")
    for trial in range(trials):
        out = place.folder / str(trial)
        process = spawn("tests.attack.child", "sweep", plan, "--out", out, "--quiet", "--workers", 2)
        victims: set[int] = set()
        until(lambda o=out, v=victims: _kill_writer(o, v) and len(v) > 1, process)
        outcome = end(process)
        if outcome.kind == EQUAL:
            outcome = _points(out, wanted, len(wanted))
        elif not victims:
            outcome = Outcome(HANG, "no worker wrote anything")
        yield outcome


def _kill_writer(out: Path, victims: set[int]) -> bool:
    """Kill a process that writes samples, another than before."""
    for path in out.glob("samples/*.h5.lock"):
        with contextlib.suppress(OSError, TypeError):
            pid = int(re.search(r"process (\d+)", path.read_text())[1])
            if path.with_suffix("").exists() and pid not in victims:
                os.kill(pid, signal.SIGKILL)
                victims.add(pid)
    return bool(victims)


ENDS_AGAIN_AND_AGAIN = "import os, threading\nthreading.Timer({seconds}, os._exit, (1,)).start()\n"


def dying(place: Place, trials: int) -> Iterator[Outcome]:
    """Workers that all die, some seconds after each start: the sweep ends and lists its points and why."""
    made = place.fresh("made")
    plan = problem.plan(made, problem.arrays(made), "weights = { chains = 2, warmup = 0, draws = 1000000 }", seeds=(0,))
    for trial in range(trials):
        out = place.folder / str(trial)
        os.environ["ATTACK_WORKERS"] = ENDS_AGAIN_AND_AGAIN.format(seconds=place.rng.uniform(0.0, 3.0))
        try:
            process = spawn("tests.attack.child", "sweep", plan, "--out", out, "--quiet", "--workers", 2)
            outcome = end(process, 300.0)
        finally:
            del os.environ["ATTACK_WORKERS"]
        listed = []
        with contextlib.suppress(OSError, ValueError):
            listed = [entry.get("error") for entry in json.loads((out / "index.json").read_text())]
        started = "did not start" in outcome.said or (len(listed) == 2 and all(listed))
        shutil.rmtree(out, ignore_errors=True)
        yield (
            Outcome(REFUSED, outcome.said) if outcome.kind != HANG and "code 1" in outcome.said and started else outcome
        )


ATTACKS = (
    Attack("kill: sample", lambda place, n: sampling(place, n, False), may_refuse=False),
    Attack("kill: resume", lambda place, n: sampling(place, n, True), may_refuse=False),
    Attack("kill: merge", lambda place, n: copying(place, n, "merge"), share=5.0, may_refuse=False),
    Attack("kill: export", lambda place, n: copying(place, n, "export"), share=5.0, may_refuse=False),
    Attack("kill: sweep", sweeping, share=0.5, may_refuse=False),
    Attack("kill: train", training, share=0.5, may_refuse=False),
    Attack("kill: a worker", workers, share=0.1, may_refuse=False),
    Attack("kill: every worker", dying, share=0.1),
)
