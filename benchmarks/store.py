"""Sample files: throughput, and what they cost a run

Atomic commits against plain h5py append and flush, and against one big `np.save`. All HDF5 variants write the same
float32 weights in the same chunks. `atomic` is `SampleFile.append` with one draw's weights as sampler state: durable
when it returns, checksums, journal. `plain` only flushes to the operating system, `plain, fsync` waits for the disk
as a commit does, `plain, checksums` adds HDF5's Fletcher-32. Repeats alternate, with the disk idle before each. The
folder is the system's for temporary files (TMPDIR).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

import h5py
import jax
import numpy as np

import gibbsformer as gf

from ..store import Column, SampleFile
from .harness import Measured, Options, Table

CHAINS, WEIGHTS = 4, (2, 250, 250)
COLUMNS = {"U_1": Column("posterior", ("path_1", "path_1_prime"), (4, 4), np.float32),
           "V_1": Column("posterior", ("head_1", "width_2", "width_1"), WEIGHTS, np.float32)}  # fmt: skip
LABELS = {dim: np.arange(n) for column in COLUMNS.values() for dim, n in zip(column.dims, column.shape, strict=True)}
CONSTANTS = {"constant_data": {"xi": (("example", "input"), np.zeros((1, 1)))},
             "observed_data": {"y": (("example",), np.zeros(1))}}  # fmt: skip
TOTAL, REPEATS = 192 * 2**20, 5
COMMITS = (2 * 2**20, 16 * 2**20, 64 * 2**20)


def atomic(path: Path, values: dict[str, np.ndarray], commits: int) -> None:
    state = [values["V_1"][:, -1]]
    with SampleFile.create(path, COLUMNS, LABELS, CONSTANTS, {}, CHAINS) as file:
        for step in range(commits):
            file.append(values, state, step)


def plain(path: Path, values: dict[str, np.ndarray], commits: int, fsync=False, checksums=False) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    with h5py.File(path, "w", libver=("v108", "v110")) as file:
        for name, column in COLUMNS.items():
            file.create_dataset(name, (CHAINS, 0, *column.shape), np.float32, maxshape=(CHAINS, None, *column.shape),
                                chunks=(1, 1, *column.shape), fillvalue=np.nan, fletcher32=checksums)  # fmt: skip
        file["state"] = values["V_1"][:, -1]
        for _ in range(commits):
            for name, part in values.items():
                start = file[name].shape[1]
                file[name].resize(start + part.shape[1], axis=1)
                file[name][:, start:] = part
            file["state"][...] = values["V_1"][:, -1]
            file.flush()
            if fsync:
                os.fsync(fd)
    os.close(fd)


def one_array(path: Path, values: dict[str, np.ndarray], commits: int) -> float:
    """Seconds of the writing alone."""
    whole = np.concatenate([values["V_1"]] * commits, axis=1)
    start = time.perf_counter()
    with open(path, "wb") as file:
        np.save(file, whole)
    return time.perf_counter() - start


VARIANTS = {
    "atomic": atomic,
    "plain": plain,
    "plain, fsync": lambda *a: plain(*a, fsync=True),
    "plain, checksums": lambda *a: plain(*a, checksums=True),
    "plain, both": lambda *a: plain(*a, fsync=True, checksums=True),
    "np.save": one_array,
}


def overhead(folder: Path, repeats: int, fewer: int) -> list[dict]:
    """Seconds of real sampling runs with a file and without, alternating: what the store costs a user.

    Draws are divided by ``fewer``.
    """
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    cases = {
        "collapsed, N=100, order parameters": (100, "collapsed", {"draws": 1000 // fewer}),
        "hmc, N=100, all weights": (100, gf.HMC(integration_steps=16), {"draws": 250 // fewer, "init": "collapsed"}),
    }
    rows = []
    for name, (N, kernel, options) in cases.items():
        posterior, seconds, cpu = task.posterior(N), {True: [], False: []}, {True: [], False: []}
        path = folder / "overhead.h5"
        for repeat in range(1 + repeats):
            for stored in (True, False):
                start, used = time.perf_counter(), time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", gf.ConvergenceWarning)
                    gf.sample(
                        posterior, kernel, key=jax.random.key(1), warmup=50, progress=False, overwrite=True,
                        store=path if stored else None, **options,
                    )  # fmt: skip
                if repeat:  # the first compiles
                    seconds[stored].append(time.perf_counter() - start)
                    cpu[stored].append(time.process_time() - used)
        row = {"run": name, "file MB": path.stat().st_size / 1e6}
        for unit, spent in (("seconds", seconds), ("CPU seconds", cpu)):
            with_file, without = statistics.median(spent[True]), statistics.median(spent[False])
            row |= {f"{unit} with file": with_file, f"{unit} in memory": without,
                    f"overhead in {unit} %": 100 * (with_file / without - 1)}  # fmt: skip
        rows.append(row)
    return rows


def throughput(folder: Path, total: int, repeats: int, commit_sizes) -> list[dict]:
    """MB/s of each variant at each size of a commit."""
    rng = np.random.default_rng(0)
    rows = []
    for size in commit_sizes:
        count = max(1, size // (CHAINS * int(np.prod(WEIGHTS)) * 4))
        values = {n: rng.normal(size=(CHAINS, count, *c.shape)).astype(np.float32) for n, c in COLUMNS.items()}
        written, commits = sum(v.nbytes for v in values.values()), max(2, total // size)
        speeds: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(repeats):
            for name, write in VARIANTS.items():
                path = folder / "benchmark.h5"
                os.sync()
                start = time.perf_counter()
                own = write(path, values, commits)
                seconds = own or time.perf_counter() - start
                speeds[name].append(written * commits / seconds / 1e6)
                path.unlink()
        medians = {name: statistics.median(s) for name, s in speeds.items()}
        rows.append({"commit MB": written / 1e6, "commits": commits, **medians,
                     "atomic / plain": medians["atomic"] / medians["plain"],
                     "atomic / both": medians["atomic"] / medians["plain, both"], "all": speeds})  # fmt: skip
    return rows


def measure(options: Options) -> Measured:
    """MB/s of commits of three sizes, and seconds of whole runs with a file and in memory."""
    repeats = 2 if options.quick else REPEATS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = overhead(folder, repeats, 4 if options.quick else 1)
        rows = throughput(folder, TOTAL // 4 if options.quick else TOTAL, repeats, COMMITS)
        stat = subprocess.run(["stat", "-f", "-c", "%T", name], capture_output=True, text=True, check=False)
    formats = {"commit MB": ".1f", "commits": "d", **dict.fromkeys(VARIANTS, ".0f"), "atomic / plain": ".2f",
               "atomic / both": ".2f"}  # fmt: skip
    ratios = {f"both / atomic, {r['commit MB']:.0f} MB": 1 / r["atomic / both"] for r in rows}
    ratios |= {f"{r['run']}: with file / in memory": r["CPU seconds with file"] / r["CPU seconds in memory"]
               for r in runs}  # fmt: skip
    return Measured(
        [
            Table("MB/s of float32 weights, four chains, against the size of a commit", rows, formats),
            Table("Whole sampling runs with a file and in memory", runs,
                  {"run": "", **dict.fromkeys(list(runs[0])[1:], ".1f")}),
        ],
        ratios,
        {"repeats": repeats, "file system": stat.stdout.strip()},
    )  # fmt: skip
