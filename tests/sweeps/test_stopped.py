"""Sweeps that are stopped from outside: Ctrl-C in a terminal, a scheduler that is killed. Nothing finished is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gibbsformer as gf

pytest.importorskip("distributed")
pytest.importorskip("cryptography")
pytestmark = pytest.mark.slow
PATIENCE = 120


@pytest.fixture
def plan(own_arrays, tmp_path):
    """A plan file: theory, and six sampled points of some seconds each."""
    path = tmp_path / "plan.toml"
    path.write_text(
        f"[axes]\ntasks = [{json.dumps(own_arrays)}]\nwidths = [3]\ntemperatures = [0.5]\nseeds = [0, 1, 2, 3, 4, 5]\n"
        'kernels = ["gibbs"]\n[compute]\ntheory = true\nweights = { chains = 2, warmup = 0, draws = 20000 }\n'
    )
    return path


@pytest.fixture
def started():
    """Start a process in a group of its own, as a terminal would; what is left of it is killed in the end."""
    processes = []

    def start(*arguments):
        command = [sys.executable, "-m", *map(str, arguments)]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(condition, process):
    """Until a condition holds while a process runs."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def underway(out: Path) -> bool:
    """A sampled point is finished and another is being written."""
    return len(list(out.glob("points/*.h5"))) > 6 and any(out.glob("samples/*.h5.lock"))


def finished_and_completed(out: Path, plan: Path):
    """Points that the stopped sweep left, after the same sweep in this process has completed it."""
    left = {path.name: path.stat().st_mtime_ns for path in out.glob("points/*.h5")}
    assert 6 < len(left) < 12
    again = gf.sweep(plan, out, progress=False)
    assert again.failed == ()
    assert again.computed == 12 - len(left)
    assert {name: (out / "points" / name).stat().st_mtime_ns for name in left} == left  # none computed twice


def test_ctrl_c_in_a_terminal(plan, started, tmp_path):
    out = tmp_path / "out"
    process = started("gibbsformer", "sweep", plan, "--out", out, "--workers", 2, "--quiet")
    wait_for(lambda: underway(out), process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == "gibbsformer: interrupted\n"
    finished_and_completed(out, plan)


def test_a_scheduler_is_killed(plan, started, tmp_path):
    out, found = tmp_path / "out", tmp_path / "scheduler.json"
    scheduler = started(
        "distributed.cli.dask_scheduler",
        "--port",
        0,
        "--no-dashboard",
        "--host",
        "127.0.0.1",
        "--scheduler-file",
        found,
    )
    wait_for(found.exists, scheduler)
    worker = started("distributed.cli.dask_worker", "--scheduler-file", found, "--nthreads", 1, "--no-dashboard")
    address = json.loads(found.read_text())["address"]
    process = started("gibbsformer", "sweep", plan, "--out", out, "--scheduler", address, "--quiet")
    wait_for(lambda: underway(out), process)
    os.killpg(scheduler.pid, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    (line,) = (line for line in said.splitlines() if line.startswith("gibbsformer:"))
    assert "went away" in line
    os.killpg(worker.pid, signal.SIGKILL)  # it would go on with its point, whose file is its own for so long
    worker.wait()
    finished_and_completed(out, plan)
