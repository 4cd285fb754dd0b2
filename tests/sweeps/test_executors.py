"""Executors: the same numbers on a Dask cluster as in this process, whatever dies on the way; batch job scripts."""

import contextlib
import importlib
import os
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import h5py
import jax
import pytest
import xarray as xr

import gibbsformer as gf
from gibbsformer import sweeps
from gibbsformer.sweeps import clusters

distributed = pytest.importorskip("distributed")
pytest.importorskip("cryptography")  # the keys of a cluster of our own
PAGES = ("status", "info/main/workers.html", "json/counts.json", "metrics", "health")


def nothing_is_served(cluster):
    """Dask's pages are not there, and their server listens to this machine alone."""
    server = cluster.scheduler.http_server
    assert server.address == "127.0.0.1"
    for page in PAGES:
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{page}")


def sampled_plan(make_plan, draws):
    """Two points of so many draws."""
    plan = make_plan(widths=[3], kernels=["gibbs"])
    plan["compute"] = {"weights": {"chains": 2, "warmup": 0, "draws": draws}}
    return plan


def test_strangers_reach_neither_scheduler_nor_pages():
    with sweeps.local_cluster(1) as cluster:
        address = cluster.scheduler_address
        with distributed.Client(cluster, set_as_default=False) as client:
            assert client.submit(max, 1, 2).result() == 2
            nodes = [address, *client.scheduler_info()["workers"]]
        assert all(node.startswith("tls://127.0.0.1:") for node in nodes)
        for node in nodes:
            for secret in (None, distributed.Security.temporary()):
                given = node if secret else node.replace("tls", "tcp")
                with pytest.raises(OSError):  # noqa: PT011, what it says is up to Dask
                    distributed.Client(given, security=secret, timeout=2, set_as_default=False)
        nothing_is_served(cluster)


# what a worker runs when it starts: the first start of each ends after a while, or every start does
ENDS_AT_ITS_SECOND_START = (
    "import os, pathlib, threading\n"
    "flag = pathlib.Path({folder!r}, 'flag')\n"
    "flag.exists() or flag.write_text(str(os.getpid()))\n"
    "flag.read_text() == str(os.getpid()) or os._exit(1)\n"
    "threading.Timer(2.0, os._exit, (1,)).start()\n"
)
ENDS_AGAIN_AND_AGAIN = "import os, threading\nthreading.Timer(1.0, os._exit, (1,)).start()\n"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (ENDS_AT_ITS_SECOND_START, "not computed: all workers ended, and none came back for 1 s"),
        pytest.param(ENDS_AGAIN_AND_AGAIN, "its workers died again and again", marks=pytest.mark.slow),
    ],
    ids=["none left", "again and again"],
)
def test_workers_that_die_end_the_sweep(code, said, make_plan, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_DEAF", code.format(folder=str(tmp_path)))
    monkeypatch.setattr(importlib.import_module("gibbsformer.sweeps.sweep"), "_PATIENCE", 1.0)
    make = clusters.local_cluster
    monkeypatch.setattr(clusters, "local_cluster", lambda workers, cache: make(1, cache))
    swept = gf.sweep(sampled_plan(make_plan, 10**6), tmp_path / "out", workers=2, progress=False)
    assert swept.computed == 0
    assert [said in entry["error"] for entry in swept.failed] == [True, True]
    assert said in swept.render()


def test_workers_that_do_not_start(make_plan, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_DEAF", "import os\nos._exit(1)\n")
    with pytest.raises(sweeps.SchedulerLost, match=r"workers=2 did not start \(.*\): use fewer") as raised:
        gf.sweep(make_plan(), tmp_path / "out", workers=2, progress=False)
    assert "\n" not in str(raised.value)
    assert len(gf.open_sweep(tmp_path / "out")) == 0


def first_killed(folder: Path, found: dict, stop: threading.Event) -> None:
    """Kill the process that writes a sample file, once draws are in it."""
    while not stop.wait(0.02):
        for file in folder.glob("samples/*.h5.lock"):
            try:
                if gf.open(str(file)[: -len(".lock")]).draws == 0:
                    continue
                pid = int(re.search(r"process (\d+)", file.read_text())[1])
                with h5py.File(str(file)[: -len(".lock")]) as samples:
                    found.update(pid=pid, file=samples.filename, uuid=samples.attrs["uuid"])
                os.kill(pid, signal.SIGKILL)
                return
            except (OSError, ValueError, TypeError):  # the file came or went in between
                continue


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(make_plan, tmp_path):
    cache = Path(jax.config.jax_compilation_cache_dir)
    plan = sampled_plan(make_plan, 4000)
    found, stop = {}, threading.Event()
    killer = threading.Thread(target=first_killed, args=(tmp_path / "dask", found, stop))
    killer.start()
    try:
        swept = gf.sweep(plan, tmp_path / "dask", workers=2, compilation_cache=cache, progress=False)
    finally:
        stop.set()
        killer.join()
    assert found["pid"] != os.getpid()
    assert (swept.computed, swept.failed) == (2, ())
    with h5py.File(found["file"]) as samples:
        assert samples.attrs["uuid"] == found["uuid"]  # continued, not made anew
    serial = gf.sweep(plan, tmp_path / "serial", progress=False)
    xr.testing.assert_equal(*(each.open().drop_vars("seconds_weights") for each in (swept, serial)))


def test_nobody_at_the_address(make_plan, tmp_path):
    with pytest.raises(ValueError, match="does not answer") as raised:
        gf.sweep(make_plan(), tmp_path, scheduler="nonsense://x", progress=False)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("system", "gpu"), [("slurm", "#SBATCH --gres=gpu:1"), ("pbs", "#PBS -l ngpus=1")])
def test_job_script(system, gpu, tmp_path):
    pytest.importorskip("dask_jobqueue")
    prologue = ["source /home/me/venv/bin/activate"]
    with sweeps.job_cluster(system, memory="8GB", cores=2, walltime="01:00:00", queue="gpu", account="abc",
                            cache=tmp_path, prologue=prologue, certificates=tmp_path / "keys") as cluster:  # fmt: skip
        lines = cluster.job_script().splitlines()
        assert cluster.scheduler_address.startswith("tls://")
        keys = list((tmp_path / "keys").iterdir())
        assert [key.stat().st_mode & 0o077 for key in keys] == [0, 0, 0]
        nothing_is_served(cluster)
    mark = {"slurm": "#SBATCH", "pbs": "#PBS"}[system]
    expected = {"slurm": ["-p gpu", "-A abc", "--cpus-per-task=2", "--mem=8G", "-t 01:00:00"],
                "pbs": ["-q gpu", "-A abc", "-l select=1:ncpus=2:mem=8GB", "-l walltime=01:00:00"]}[system]  # fmt: skip
    assert gpu in lines
    assert {f"{mark} {line}" for line in expected} <= set(lines)
    assert prologue[0] in lines
    assert f"export JAX_COMPILATION_CACHE_DIR='{tmp_path}'" in lines
    (worker,) = (line for line in lines if "distributed.cli.dask_worker" in line or "dask worker" in line)
    assert "--nthreads 1" in worker
    assert "--resources GPU=1" in worker
    assert " tls://" in worker
    assert all(str(key) in worker for key in keys)
    assert "--no-dashboard" in worker
    assert "--lifetime 3000s --lifetime-stagger 300s" in worker  # at most 55 of 60 minutes
    assert lines.index(prologue[0]) < lines.index(worker)


def test_job_script_of_a_cpu_worker(tmp_path):
    pytest.importorskip("dask_jobqueue")
    with sweeps.job_cluster("slurm", gpus=0, certificates=tmp_path) as cluster:
        text = cluster.job_script()
    assert "GPU" not in text
    assert "gres" not in text
    assert "export OMP_NUM_THREADS='1'" in text


@pytest.mark.slow
def test_a_job_reaches_its_scheduler(make_plan, tmp_path):
    """The script of a job, run by this machine: its worker has the keys that it needs."""
    pytest.importorskip("dask_jobqueue")
    with sweeps.job_cluster("slurm", gpus=0, certificates=tmp_path / "keys") as cluster:
        job = subprocess.Popen(["bash", "-c", cluster.job_script()], cwd=tmp_path, start_new_session=True)
        try:
            swept = gf.sweep(make_plan(), tmp_path / "out", scheduler=cluster, progress=False)
            killer = threading.Timer(4.0, os.killpg, (job.pid, signal.SIGKILL))
            killer.start()
            plan = sampled_plan(make_plan, 10**6)
            again = gf.sweep(plan, tmp_path / "again", scheduler=cluster, progress=False, worker_timeout=1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)
    assert (swept.computed, swept.failed) == (8, ())
    assert again.computed == 0
    assert {entry["error"] for entry in again.failed} == {"not computed: all workers ended, and none came back for 1 s"}


def test_bad_clusters():
    for call, said in (
        (lambda: sweeps.job_cluster("slrum"), "did you mean 'slurm'"),
        (lambda: sweeps.job_cluster("slurm", gpus=2), "gpus=2"),
        (lambda: sweeps.job_cluster("pbs", cores=0), "cores=0"),
        (lambda: sweeps.job_cluster("slurm", walltime="4 hours"), "walltime='4 hours'"),
        (lambda: sweeps.job_cluster("slurm", walltime="00:00:00"), "walltime='00:00:00'"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
