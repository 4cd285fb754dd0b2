"""What a run costs

Seconds and memory, from nothing to 4 chains of 500 exact draws after 100 of warm-up with the default kernel: random
inputs, N_0=100, T=0.1. Theory and run include compilation, in a process of its own for each row; "draws" is the time of
the same run again, without compilation.

To take from it: compilation takes most of the time of a small run, and is kept on disk for the next one. The width
hardly matters, since all weights are integrated out; the paths and the examples do. Take the columns as orders of
magnitude for a run of your own size.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import jax

import gibbsformer as gf

from . import harness
from .harness import Measured, Options, Table
from .scaling import Case

CASES = (  # heads, P, N
    ((2, 2), 100, 10), ((2, 2), 100, 1000), ((4, 4), 100, 100), ((2, 2), 300, 100), ((2, 2), 1000, 100),
    ((4, 4), 600, 100),
)  # fmt: skip
CHAINS, WARMUP, DRAWS = 4, 100, 500
_LONGEST = 600  # seconds of one case


def measure(options: Options) -> Measured:
    """All cases, each in a process of its own."""
    rows = options.each(CASES[:2] if options.quick else CASES, _apart)
    columns = {
        "paths": "d", "P": "d", "N": "d", "theory s": ".1f", "run s": ".1f", "draws s": ".1f", "ESS": ".0f",
        "MiB": ".0f",
    }  # fmt: skip
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    note = (
        f"Memory is the peak of the process, libraries and compiler included. Load of the machine at the start: {load}."
    )
    note += " Where the load is above the number of cores, an idle machine is faster by about their ratio."
    return Measured([Table("Seconds and memory of a run", rows, columns, note=note)], {}, {})


def _apart(case) -> dict[str, Any]:
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    command = [sys.executable, "-W", "ignore", "-m", "gibbsformer.benchmarks.costs", json.dumps(case)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=_LONGEST)
    return json.loads(found.stdout.splitlines()[-1])


def one(heads, P: int, N: int) -> dict[str, Any]:
    """Seconds, effective draws and memory of one case, in this process."""
    posterior = Case(N=N, P=P, heads=tuple(heads)).posterior()
    began = time.perf_counter()
    gf.theory.solve(posterior)
    solved = time.perf_counter()
    options: dict[str, Any] = {"chains": CHAINS, "key": jax.random.key(0), "progress": False}
    run = gf.sample(posterior, warmup=WARMUP, draws=DRAWS, **options)
    sampled = time.perf_counter()
    gf.sample(posterior, warmup=WARMUP, draws=DRAWS, **options)
    again = time.perf_counter() - sampled
    return {
        "paths": posterior.network.paths, "P": P, "N": N, "theory s": solved - began, "run s": sampled - solved,
        "draws s": again, "ESS": gf.diagnostics.convergence(run).ess_bulk, "MiB": harness.peak_memory()["host"],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(one(*json.loads(sys.argv[1]))))
