"""Runs shared by several processes: the chains of one process bit for bit, a file each, and the merged file of all."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer import _distributed
from gibbsformer.__main__ import main
from gibbsformer.sampler.progress import Progress
from gibbsformer.store.reading import reading

KEY = jax.random.key(5)
OPTIONS = {"chains": 4, "warmup": 12, "draws": 10, "chunk": 5, "progress": False}
OPTIONS |= {"chains_at_once": 2}  # how many are side by side decides how sums are rounded

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


def parts(as_process, small, kernel, path, processes=2, **options):
    """Draw the shares one after the other; their files."""
    files = []
    for process in range(processes):
        as_process(process, processes)
        files.append(sample(small, kernel, store=path, distributed=True, **options).path)
    return files


def assert_equal(one, other, chains=slice(None)):
    """The run ``other`` holds these chains of ``one``, to the last bit."""
    for name in (*one.variables, *one.stats):
        a, b = (np.asarray({**run.variables, **run.stats}[name]) for run in (one, other))
        np.testing.assert_array_equal(a[chains], b, err_msg=name)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [("collapsed", {}), (gf.NUTS(max_doublings=3), {"init": "collapsed"}), ("gibbs", {"thin": 2})],
)
def test_shares_are_chains_of_the_whole_run(small, as_process, tmp_path, kernel, options):
    whole = sample(small, kernel, store=tmp_path / "whole.h5", **options)
    files = parts(as_process, small, kernel, tmp_path / "run.h5", **options)
    assert files == [str(tmp_path / f"run.{i}of2.h5") for i in range(2)]
    for i, file in enumerate(files):
        part = gf.open(file)
        assert part.settings["distributed"] == {"chains": 4, "process": i, "processes": 2}
        assert_equal(whole, part, slice(2 * i, 2 * i + 2))
        assert part.datasets()["posterior"]["chain"].values.tolist() == [2 * i, 2 * i + 1]
    gf.store.merge(files[::-1], tmp_path / "run.h5")
    merged = gf.open(tmp_path / "run.h5")
    assert_equal(whole, merged)
    with reading(tmp_path / "run.h5") as file:
        assert file["posterior/chain"][()].tolist() == [0, 1, 2, 3]
        settings = json.loads(file.attrs["settings"])
    assert [part["file"] for part in settings.pop("merged_from")] == ["run.0of2.h5", "run.1of2.h5"]
    with reading(tmp_path / "whole.h5") as file:
        alone = json.loads(file.attrs["settings"])
    assert settings | {"created": None} == alone | {"created": None}
    whole.datasets()["posterior"].identical(merged.datasets()["posterior"])


def test_given_start_is_shared_out(small, as_process):
    start = {name: np.broadcast_to(np.asarray(w), (4, *w.shape)).copy() for name, w in small.weights.items()}
    start["a"] *= np.arange(1, 5)[:, None]
    options = {"init": start, "warmup": 0, "draws": 2}
    whole = sample(small, "gibbs", **options)
    as_process(1)
    assert_equal(whole, sample(small, "gibbs", distributed=True, **options), slice(2, 4))


def test_a_part_is_resumed_alone(small, as_process, tmp_path, monkeypatch):
    whole = sample(small, "gibbs")
    as_process(1)

    def stop(self, chunk, report):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", stop)
        with pytest.raises(KeyboardInterrupt):
            sample(small, "gibbs", store=tmp_path / "run.h5", distributed=True)
    as_process(0, 1)  # wherever it is resumed
    assert_equal(whole, gf.resume(tmp_path / "run.1of2.h5", progress=False, chunk=5), slice(2, 4))
    with pytest.raises(ValueError, match="sees its own chains only"):
        gf.resume(tmp_path / "run.1of2.h5", draws=100, until=gf.until(ess=10))


def test_merge_wants_all_parts_of_one_run(small, as_process, tmp_path):
    options = {"warmup": 0, "draws": 2, "chunk": 2, "chains_at_once": 1}
    first = parts(as_process, small, "gibbs", tmp_path / "a.h5", **options)
    other = parts(as_process, small, "gibbs", tmp_path / "b.h5", key=jax.random.key(6), **options)
    four = parts(as_process, small, "gibbs", tmp_path / "c.h5", processes=4, **options)
    alone = sample(small, "gibbs", store=tmp_path / "alone.h5", key=jax.random.key(7), **options).path
    lifted = []
    for i, file in enumerate(parts(as_process, small, "collapsed", tmp_path / "d.h5", **options)):
        lifted.append(str(tmp_path / f"lifted.{i}.h5"))
        gf.lift(gf.open(file), key=KEY, store=lifted[-1], progress=False)
    for files, said in (
        (four[:3], "lack part 3 of 4"),
        (four[1:], "lack part 0 of 4"),
        ([first[0], first[0]], "lack part 1 of 2"),
        ([*first, first[0]], "both hold chain 0 of the same key"),
        ([first[0], other[1]], r"cannot be merged: key is \[0, 5\] in the first and \[0, 6\]"),
        ([first[0], four[1]], "cannot be merged: parts is 2 in the first and 4"),
        ([first[0], alone], "cannot be merged: parts is 2 in the first and None"),
        (lifted, "merge the parts, lift then"),
    ):
        with pytest.raises(ValueError, match=said) as refused:
            gf.store.merge(files, tmp_path / "out.h5")
        assert "\n" not in str(refused.value)
    gf.store.merge(four, tmp_path / "out.h5")
    assert gf.open(tmp_path / "out.h5").chains == 4


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
        ((1, 2), {"store": 3}, "store=3 is no path"),
        ((1, 2), {"store": "."}, "is a folder"),
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


def test_seconds_may_stop_a_part(small, as_process):
    as_process(0)
    run = sample(small, "gibbs", draws=10**6, store=None, keep="order_parameters", distributed=True,
                 until=gf.until(seconds=0.01))  # fmt: skip
    assert run.settings["until"]["seconds"] == 0.01
    assert run.draws < 10**6


def test_part_names_sort(tmp_path):
    names = [_distributed.Share(24, i, 12).path(tmp_path / "x.y.h5", False).name for i in range(12)]
    assert names[:2] == ["x.y.00of12.h5", "x.y.01of12.h5"]
    assert names == sorted(names)
    assert [list(_distributed.Share(6, i, 3).own) for i in range(3)] == [[0, 1], [2, 3], [4, 5]]


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


def test_processes_that_do_not_meet_are_told_so(monkeypatch):
    def fail(*_):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out.\nTasks: 1")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ValueError, match=r"did not find each other \(DEADLINE_EXCEEDED: Barrier timed out. Tasks: 1\)"):
        _distributed.join("localhost:1", 0, 2)


def test_two_processes_draw_what_one_draws(tmp_path, monkeypatch):
    """One told by SLURM's variables, the other by options: the same run as in a single process, by the command line."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((8, 4, 5))
    np.savez(tmp_path / "own.npz", x=x, y=np.sign(x[:, 0].sum(1)), W_1=rng.standard_normal((2, 4, 4)))
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    command = [
        sys.executable,
        "-m",
        "gibbsformer",
        "sample",
        "--task",
        "own.npz",
        "--width",
        "3",
        "--temperature",
        "0.5",
    ]
    command += ["--kernel", "hmc", "--chains", "4", "--warmup", "10", "--draws", "8", "--seed", "1", "--quiet"]
    command += ["--chains-at-once", "2", "--out"]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
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
