"""A sweep in one process and on two workers of this machine

7 widths x 5 temperatures x 3 seeds, theory and collapsed draws, task of figure 2c. Both sweeps start without compiled
programs, each in a process of its own, one after the other; their numbers must be equal to the last bit. Costs per
point are medians of what result files record; sizes are those of the files.

To take from it: two workers on two cores are worth it for sweeps of more than some tens of points.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

import gibbsformer as gf

from .harness import Measured, Options, Table

WIDTHS, TEMPERATURES, SEEDS = (10, 30, 50, 100, 300, 500, 1000), (0.01, 0.03, 0.1, 0.3, 1.0), (0, 1, 2)
CHAINS, WARMUP, DRAWS = 4, 100, 500


def plan_text(quick: bool) -> str:
    """The plan as TOML."""
    widths, temperatures, seeds = (WIDTHS[::6], TEMPERATURES[:1], SEEDS[:1]) if quick else (WIDTHS, TEMPERATURES, SEEDS)
    return (
        f"[axes]\nwidths = {list(widths)}\ntemperatures = {list(temperatures)}\nseeds = {list(seeds)}\n"
        f"[compute]\ntheory = true\n[compute.collapsed]\nchains = {CHAINS}\nwarmup = {WARMUP}\ndraws = {DRAWS}\n"
    )


def seconds(plan: Path, out: Path, workers: int) -> float:
    """Wall time of the command line, start of Python and compilation included."""
    command = [sys.executable, "-m", "gibbsformer", "sweep", str(plan), "--out", str(out), "--workers", str(workers)]
    start = time.perf_counter()
    subprocess.run([*command, "--quiet"], check=True)
    return time.perf_counter() - start


def row(out: Path, workers: int, wall: float) -> dict:
    """Times and sizes of a finished sweep."""
    data = gf.open_sweep(out)
    size = lambda part: float(np.median([f.stat().st_size for f in (out / part).glob("*.h5")])) / 1024  # noqa: E731
    return {
        "workers": workers,
        "points": data.attrs["finished"],
        "wall seconds": wall,
        "theory seconds": float(data["seconds_theory"].median()),
        "collapsed seconds": float(data["seconds_exact"].median()),
        "slowest seconds": float(max(data["seconds_theory"].max(), data["seconds_exact"].max())),
        "result KiB": size("points"),
        "samples KiB": size("samples"),
        "index bytes per point": (out / "index.json").stat().st_size / data.attrs["points"],
    }


def measure(options: Options) -> Measured:
    """Wall time, cost per point and sizes of both."""
    rows, found = [], []
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "plan.toml")
        plan.write_text(plan_text(options.quick))
        for workers in (1, 2):
            out = Path(folder, f"workers_{workers}")
            rows.append(row(out, workers, seconds(plan, out, workers)))
            found.append(gf.open_sweep(out).drop_vars(["seconds_theory", "seconds_exact"]).load())
    xr.testing.assert_identical(*found)
    ratio = rows[1]["wall seconds"] / rows[0]["wall seconds"]
    note = f"Two workers take {ratio:.2f} of the time of one; their numbers are equal to the last bit."
    table = Table("Wall time and costs", rows, dict.fromkeys(rows[0], ".4g"), note=note)
    return Measured([table], {"two workers / one": ratio}, {"draws": DRAWS, "chains": CHAINS})
