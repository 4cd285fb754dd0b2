"""Runs shared by several processes: the chains of one process bit for bit, a file each, and the merged file of all."""

import json
import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.__main__ import main
from gibbsformer.sampler import processes
from gibbsformer.sampler.progress import Progress
from gibbsformer.store.reading import reading

KEY = jax.random.key(5)
OPTIONS = {"chains": 4, "warmup": 12, "draws": 10, "chunk": 5, "progress": False}
OPTIONS |= {"chains_at_once": 1}  # how many are side by side decides how sums are rounded

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


@pytest.fixture
def as_process(monkeypatch):
    """Make this process look like one of several to ``gf.sample``."""

    def become(process, processes=2):
        monkeypatch.setattr(jax, "process_index", lambda: process)
        monkeypatch.setattr(jax, "process_count", lambda: processes)

    return become


def sample(small, kernel, **options):
    return gf.sample(small.posterior, kernel, **({"key": KEY, "test": small.test} | OPTIONS | options))


def assert_equal(one, other, chains=slice(None)):
    """The run ``other`` holds these chains of ``one``, to the last bit."""
    for name in (*one.variables, *one.stats):
        a, b = (np.asarray({**run.variables, **run.stats}[name]) for run in (one, other))
        np.testing.assert_array_equal(a[chains], b, err_msg=name)


def start_of(small):
    """Given weights of four chains, all different."""
    start = {name: np.broadcast_to(np.asarray(w), (4, *w.shape)).copy() for name, w in small.weights.items()}
    start["a"] *= np.arange(1, 5)[:, None]
    return start


@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ("gibbs", {"thin": 2, "init": start_of}),
        pytest.param("collapsed", {}, marks=pytest.mark.slow),
        pytest.param(gf.NUTS(max_doublings=3), {"init": "collapsed"}, marks=pytest.mark.slow),
    ],
)
def test_shares_are_chains_of_the_whole_run(small, as_process, monkeypatch, tmp_path, kernel, options):
    """Also those of a process that was stopped and is resumed on its own; merged, they are the whole run's file."""
    options = {name: value(small) if callable(value) else value for name, value in options.items()}
    whole = sample(small, kernel, store=tmp_path / "whole.h5", **options)
    files = [tmp_path / f"run.{process}of2.h5" for process in range(2)]
    as_process(0)
    first = sample(small, kernel, store=tmp_path / "run.h5", distributed=True, **options)
    assert first.path == str(files[0])
    as_process(1)
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", stop_after_twelve)
        with pytest.raises(StoppedError):
            sample(small, kernel, store=tmp_path / "run.h5", distributed=True, **options)
    as_process(0, 1)  # wherever it goes on
    second = gf.resume(files[1], progress=False, chunk=OPTIONS["chunk"])
    for process, part in enumerate((first, second)):
        assert part.settings["distributed"] == {"chains": 4, "process": process, "processes": 2}
        assert_equal(whole, part, slice(2 * process, 2 * process + 2))
        assert part.datasets()["posterior"]["chain"].values.tolist() == [2 * process, 2 * process + 1]

    gf.store.merge(files[::-1], tmp_path / "run.h5")
    merged = gf.open(tmp_path / "run.h5")
    assert_equal(whole, merged)
    assert whole.datasets()["posterior"].identical(merged.datasets()["posterior"])
    kept = {"created": None, "merged_from": None}  # all else is as in the file of one process
    assert store_settings(tmp_path / "run.h5") | kept == store_settings(tmp_path / "whole.h5") | kept


class StoppedError(Exception):
    pass


def stop_after_twelve(self, chunk, report):
    """Of the run itself: the short one behind init="collapsed" has another warm-up."""
    if self._warmup == OPTIONS["warmup"] and chunk.start + chunk.length > 12:
        raise StoppedError


def store_settings(path):
    """Settings as the file holds them."""
    with reading(path) as file:
        return json.loads(file.attrs["settings"])


@pytest.mark.parametrize(
    ("process", "options", "said"),
    [
        ((0, 1), {}, "distributed=True in a process that is alone: call jax.distributed.initialize"),
        ((1, 3), {}, "chains=4 do not divide over 3 processes: give a multiple of 3"),
        ((1, 2), {"distributed": "yes"}, "distributed='yes' is unknown: give True or False"),
        ((1, 2), {"kernel": "chees"}, "kernel 'chees' learns from all chains together"),
        ((1, 2), {"kernel": "ghmc"}, "choose 'collapsed', 'nuts' or another"),
        ((1, 2), {"until": gf.until(rhat=1.01)}, "give draws=, or gf.until"),
        ((1, 2), {"until": gf.until(ess=100, seconds=1)}, "sees its own chains only"),
        ((1, 2), {"store": "no/such/run.h5"}, "create it first"),
        ((1, 2), {"store": 3}, "store=3 is not a path"),
        ((1, 2), {"store": "."}, "is a directory"),
        ((1, 2), {"store": "taken.h5"}, r"taken.1of2.h5' exists"),
    ],
)
def test_bad_input_is_one_line(small, as_process, monkeypatch, tmp_path, process, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.1of2.h5").touch()
    as_process(*process)
    with pytest.raises(ValueError, match=said) as refused:
        sample(small, **({"kernel": "gibbs", "distributed": True} | options))
    assert "\n" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.1of2.h5"]


def test_what_each_process_may_judge_alone():
    share = processes.Share(4, 1, 2)
    share.check(gf.Gibbs(), gf.until(seconds=1))
    share.check(gf.Gibbs(), None)
    processes.Share(4).check(gf.ChEES(), gf.until(ess=10))  # one process sees all chains


def test_part_names_sort(tmp_path):
    names = [processes.Share(24, i, 12).path(tmp_path / "x.y.h5", False).name for i in range(12)]
    assert names[:2] == ["x.y.00of12.h5", "x.y.01of12.h5"]
    assert names == sorted(names)
    assert [list(processes.Share(6, i, 3).own) for i in range(3)] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--process", "0"], "--process 0 is for --distributed"),
        (["--coordinator", "localhost:1"], "--coordinator localhost:1 is for --distributed"),
        (["--distributed", "--coordinator", "localhost"], "coordinator='localhost' has no port"),
        (["--distributed", "--process", "2", "--processes", "2"], "process=2 of 2: processes are counted from 0"),
        (["--distributed", "--processes", "0"], "processes=0"),
        (["--distributed"], "give --coordinator HOST:PORT --process I --processes N"),
        (["--distributed", "--coordinator", "h:1", "--process", "0"], "--processes N"),
    ],
)
def test_command_line_refuses_in_one_line(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    # XLA has started in this process; what is missing is said before that is found out
    monkeypatch.setattr(jax._src.xla_bridge, "backends_are_initialized", lambda: False)
    assert main(["sample", "--out", str(tmp_path / "run.h5"), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1, error
    assert not list(tmp_path.iterdir())


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def test_a_process_without_the_others_gives_up():
    script = f"from gibbsformer.sampler import processes as d; d._WAIT = 1; d.join('localhost:{free_port()}', 1, 2)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "did not find each other within 1 s: check that all run" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_processes_are_on_their_own_once_they_know_who_they_are():
    """One that is killed takes no other with it, and SIGTERM still ends the other: JAX would change both."""
    script = """
import os, signal, sys, time
from gibbsformer.sampler import processes
process = int(sys.argv[2])
processes.join(sys.argv[1], process, 2)
if process == 0:
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(3)
print(processes.share(4, True).own, flush=True)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(3)
"""
    address = f"localhost:{free_port()}"
    started = [
        subprocess.Popen([sys.executable, "-c", script, address, str(i)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        for i in range(2)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
    assert started[0].returncode == -signal.SIGKILL, said[0]
    assert started[1].returncode == -signal.SIGTERM, said[1]
    assert said[1][0] == "range(2, 4)\n"


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(tmp_path, monkeypatch):
    """One told by SLURM's variables, the other by options: the same run as in a single process, by the command line."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((8, 4, 5))
    np.savez(tmp_path / "own.npz", x=x, y=np.sign(x[:, 0].sum(1)), W_1=rng.standard_normal((2, 4, 4)))
    port = str(free_port())
    how = "--task own.npz --width 3 --temperature 0.5 --chains 4 --warmup 10 --draws 8 --chains-at-once 1 --quiet --out"
    command = [sys.executable, "-m", "gibbsformer", "sample", *how.split()]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    slurm = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "NTASKS": "2", "PROCID": "0", "LOCALID": "0"}
    slurm = {f"SLURM_{name}": value for name, value in slurm.items()} | {"JAX_COORDINATOR_PORT": port}
    options = ["--coordinator", f"localhost:{port}", "--process", "1", "--processes", "2"]
    started = [
        subprocess.Popen([*command, out, *how], cwd=tmp_path, env=environment | more, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
        for out, how, more in (("run.h5", ["--distributed"], slurm), ("run.h5", ["--distributed", *options], {}),
                               ("alone.h5", [], {}))
    ]  # fmt: skip
    try:
        errors = [process.communicate(timeout=120)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0, 0], errors
    assert {path.name for path in tmp_path.glob("*.h5")} == {"run.0of2.h5", "run.1of2.h5", "alone.h5"}
    monkeypatch.setenv("XLA_FLAGS", environment["XLA_FLAGS"])
    files = [str(tmp_path / f"run.{i}of2.h5") for i in (1, 0)]
    assert main(["merge", *files, "--out", str(tmp_path / "run.h5")]) == 0
    assert_equal(gf.open(tmp_path / "alone.h5"), gf.open(tmp_path / "run.h5"))
