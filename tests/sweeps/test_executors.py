"""Executors: the same numbers on a Dask cluster as in this process, whatever dies on the way; batch job scripts."""

import os
import re
import signal
import threading
from pathlib import Path

import h5py
import jax
import pytest
import xarray as xr

import gibbsformer as gf
from gibbsformer import sweeps

pytest.importorskip("distributed")


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
    plan = make_plan(widths=[3], kernels=["gibbs"])
    plan["compute"] = {"weights": {"chains": 2, "warmup": 0, "draws": 4000}}
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
                            cache=tmp_path, prologue=prologue) as cluster:  # fmt: skip
        lines = cluster.job_script().splitlines()
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
    assert lines.index(prologue[0]) < lines.index(worker)


def test_job_script_of_a_cpu_worker():
    pytest.importorskip("dask_jobqueue")
    with sweeps.job_cluster("slurm", gpus=0) as cluster:
        text = cluster.job_script()
    assert "GPU" not in text
    assert "gres" not in text
    assert "export OMP_NUM_THREADS='1'" in text


def test_bad_clusters():
    for call, said in (
        (lambda: sweeps.job_cluster("slrum"), "did you mean 'slurm'"),
        (lambda: sweeps.job_cluster("slurm", gpus=2), "gpus=2"),
        (lambda: sweeps.job_cluster("pbs", cores=0), "cores=0"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
