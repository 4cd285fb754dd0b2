"""Sample files: throughput, and what they cost a run

Atomic commits against plain h5py append and flush, and against one big `np.save`. All HDF5 variants write the same
float32 weights in the same chunks. `atomic` is `SampleFile.append` with one draw's weights as sampler state: durable
when it returns, checksums, journal. `plain` only flushes to the operating system, `plain, fsync` waits for the disk
as a commit does, `plain, checksums` adds HDF5's Fletcher-32. Repeats alternate, with the disk idle before each. The
folder is the system's for temporary files (TMPDIR). Whole runs are timed in memory, with a file, and with a file that
another process opens with h5py during the run and keeps open; each repeat does all three.

To take from it: durable commits are slower than plain appends, but runs of more than a few seconds hardly notice, and a
reader beside them costs a few per cent.
"""

from __future__ import annotations

import contextlib
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
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


READER = (  # a stock HDF5 program that opens a file once draws are in it, and keeps it open
    "import sys, time, h5py, pathlib\n"
    "path = pathlib.Path(sys.argv[1])\n"
    "while True:\n"
    "    try:\n"
    "        file = h5py.File(path)\n"
    "        if len(file['posterior/draw']):\n"
    "            break\n"
    "        file.close()\n"
    "    except (OSError, KeyError):\n"
    "        pass\n"
    "    time.sleep(0.01)\n"
    "print(len(file['posterior/draw']), flush=True)\n"
    "sys.stdin.read()\n"
)
KINDS = ("in memory", "file", "file and reader")


@contextlib.contextmanager
def reader(path: Path) -> Iterator[list[int]]:
    """A process that opens the file during what is done here, and closes it afterwards; the draws that it found."""
    pipe, found = subprocess.PIPE, []
    with subprocess.Popen([sys.executable, "-c", READER, str(path)], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield found
        finally:
            assert process.stdout is not None
            if select.select([process.stdout.fileno()], [], [], 0.0)[0]:
                found.append(int(process.stdout.readline()))
            process.kill()


def spent() -> dict[str, float]:
    """Wall and CPU seconds, and MB that this process has written so far, where the system says so."""
    found = {"seconds": time.perf_counter(), "CPU seconds": time.process_time()}
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/io").read_text().splitlines()
        found["MB written"] = int(next(line for line in lines if line.startswith("wchar")).split()[1]) / 1e6
    return found


def overhead(folder: Path, repeats: int, fewer: int) -> list[dict]:
    """What real sampling runs cost in memory, with a file, and with a file that a stock reader has open; alternating.

    Draws are divided by ``fewer``.
    """
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    cases = {
        "collapsed, N=100, order parameters": (100, "collapsed", {"draws": 1000 // fewer}),
        "hmc, N=100, all weights": (100, gf.HMC(integration_steps=16), {"draws": 250 // fewer, "init": "collapsed"}),
    }
    rows = []
    for name, (N, kernel, options) in cases.items():
        posterior, path = task.posterior(N), folder / "overhead.h5"
        found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
        opened: list[int] = []
        for repeat in range(1 + repeats):
            for kind in KINDS:
                path.unlink(missing_ok=True)
                with contextlib.ExitStack() as stack:
                    if kind == "file and reader":
                        opened = stack.enter_context(reader(path))
                    stack.enter_context(warnings.catch_warnings())
                    warnings.simplefilter("ignore", gf.ConvergenceWarning)
                    before = spent()
                    gf.sample(
                        posterior, kernel, key=jax.random.key(1), warmup=50, progress=False,
                        store=None if kind == "in memory" else path, **options,
                    )  # fmt: skip
                    for unit, value in spent().items() if repeat else ():  # the first compiles
                        found[kind].setdefault(unit, []).append(value - before[unit])
        medians = {kind: {u: statistics.median(v) for u, v in units.items()} for kind, units in found.items()}
        begun = time.perf_counter()
        SampleFile.resume(path).close()
        row = {"run": name, "file MB": path.stat().st_size / 1e6, "check to resume, s": time.perf_counter() - begun}
        row["draws when the reader opened it"] = opened[0] if opened else None
        row |= {f"{unit}, {kind}": value for kind, units in medians.items() for unit, value in units.items()}
        for kind in KINDS[1:]:
            row |= {f"{unit}, {kind} / in memory": medians[kind][unit] / medians["in memory"][unit]
                    for unit in ("seconds", "CPU seconds")}  # fmt: skip
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
    """MB/s of commits of three sizes, and what whole runs cost in memory, with a file, and with a reader."""
    repeats = 2 if options.quick else REPEATS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = overhead(folder, repeats, 4 if options.quick else 1)
        rows = throughput(folder, TOTAL // 4 if options.quick else TOTAL, repeats, COMMITS)
        stat = subprocess.run(["stat", "-f", "-c", "%T", name], capture_output=True, text=True, check=False)
    formats = {"commit MB": ".1f", "commits": "d", **dict.fromkeys(VARIANTS, ".0f"), "atomic / plain": ".2f",
               "atomic / both": ".2f"}  # fmt: skip
    ratios = {f"both / atomic, {r['commit MB']:.0f} MB": 1 / r["atomic / both"] for r in rows}
    ratios |= {f"{r['run']}: {kind} / in memory": r[f"CPU seconds, {kind} / in memory"]
               for r in runs for kind in KINDS[1:]}  # fmt: skip
    shown = {f"{unit}, {kind}": ".1f" for unit in ("seconds", "CPU seconds") for kind in KINDS}
    shown |= {f"CPU seconds, {kind} / in memory": ".2f" for kind in KINDS[1:]}
    shown |= {f"MB written, {kind}": ".0f" for kind in KINDS[1:]}
    return Measured(
        [
            Table("MB/s of float32 weights, four chains, against the size of a commit", rows, formats),
            Table("Whole sampling runs in memory, with a file, and with a file that a stock reader keeps open", runs,
                  {"run": "", "file MB": ".1f", **shown, "check to resume, s": ".2f",
                   "draws when the reader opened it": "d"},
                  note="CPU seconds are of all threads of this process, and are compared; goal at most 1.1."),
        ],
        ratios,
        {"repeats": repeats, "file system": stat.stdout.strip()},
    )  # fmt: skip
