"""What every benchmark shares: timing, the machine's description, a table on stdout and a JSON record.

Run the scripts from the repository root: ``python benchmarks/gradient.py``. Times are medians over repeats with the
range beside them; compile time is reported apart. Compare ratios within one record, not times between records.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import jax

RESULTS = Path(__file__).parent / "results"


def timed(function, *arguments, repeats: int = 7, inner: int = 1) -> dict[str, float]:
    """Seconds of ``function(*arguments)``: first call (compile and run), then median, least and largest of repeats."""
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    first = time.perf_counter() - start
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(inner):
            jax.block_until_ready(function(*arguments))
        seconds.append((time.perf_counter() - start) / inner)
    return {"first": first, "median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


def machine() -> dict:
    """Device, versions and commit of this run."""
    device = jax.devices()[0]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "platform": device.platform,
        "device": device.device_kind,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in ("gibbsformer", "jax", "numpyro", "blackjax", "numpy")},
        "commit": commit.stdout.strip(),
    }


def save(name: str, rows: list[dict], **settings) -> Path:
    """Write a record beside the earlier ones: one file per benchmark and kind of device."""
    about = machine()
    path = RESULTS / f"{name}_{about['platform']}.json"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps({"benchmark": name, **about, "settings": settings, "rows": rows}, indent=1) + "\n")
    return path


def table(rows: list[dict], columns: dict[str, str]) -> str:
    """Rows as a Markdown table; ``columns`` maps a key to its format."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [format(row[key], spec) if row[key] is not None else "not measured" for key, spec in columns.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
