"""Running suites: one in this process, several one after the other in processes of their own, each beside its past.

A process per suite gives each its own peak of memory, and lets a budget of minutes stop it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ..core import checks, files
from . import harness
from .harness import RESULTS, Options

# in the order in which a run of all of them goes: what settles most comes first
SUITES = (
    "gradient", "limits", "scaling", "chains", "moves", "peers", "exact", "kernels", "theory", "oneshot", "store",
    "evidence", "bias", "training", "sweep", "large", "examples", "reference", "own", "costs",
)  # fmt: skip
# what a GPU is to be measured by, what is worth most first, with shares of the time; what one leaves is the next ones'
ON_GPU = {
    "reference": 60, "limits": 40, "gradient": 40, "chains": 110, "large": 45, "peers": 90, "kernels": 70,
    "oneshot": 45, "training": 30,
}  # fmt: skip
_GRACE = 25.0  # seconds beyond its time after which a suite is stopped
DEFAULT = Options()
_REFUSED = 2  # exit code of a command that was given something wrong
SLOWER = 1.5  # a ratio this many times the recorded one is called slower: machines are noisy


def bench(
    suites: Sequence[str] = (), out: str | os.PathLike = "bench", *, minutes: float | None = None,
    options: Options = DEFAULT,
) -> list[dict]:  # fmt: skip
    """Run suites and write a record of each.

    Args:
        suites: names; none for all, or those of ``ON_GPU`` in that order where ``options.device`` is "gpu".
        out: folder of records; an earlier one of the same suite, size and kind of machine is replaced.
        minutes: time for all. On a GPU every suite has its share; otherwise the one that exceeds it is stopped, and
            those after it are not run.
        options: sizes, and data of suites on images.

    Returns:
        Of each suite a dict: suite, record (path, or None where it did not finish), tables (Markdown), slower (see
        ``compared``), problem (None, or why there is no record), headline, seconds.

    Raises:
        ValueError: an unknown suite or device, minutes out of range, a file in place of the folder, or data or a
            network that suite oneshot cannot read.
    """
    if options.device is not None:
        checks.nearest("device", options.device, harness.DEVICES)
    names = [checks.nearest("suite", name, SUITES) for name in suites] or list(ON_GPU if options.on_gpu else SUITES)
    if "oneshot" in names:  # its turn may be half an hour away
        _check_images(options)
    folder = files.output_folder("out", out)
    if len(names) == 1 and minutes is None:
        return [_here(names[0], folder, options)]
    end = None if minutes is None else time.monotonic() + 60 * checks.positive("minutes", minutes)
    found: list[dict] = []
    for i, name in enumerate(names):
        if found and found[-1].get("exit code") == _REFUSED:  # as the others would be
            break
        shares = [ON_GPU.get(each, 60) for each in names[i:]]
        share = shares[0] / sum(shares) if options.on_gpu else None
        found.append(_apart(name, folder, options, end, share))
    return found


def _check_images(options: Options) -> None:
    import gibbsformer as gf

    if options.data != DEFAULT.data:
        gf.tasks.characters_by_name(options.data)
    if options.network is not None:
        gf.training.load(options.network, "network")


def _here(name: str, folder: Path, options: Options) -> dict:
    harness.use(options)
    module = import_module(f"{__package__}.{name}")
    harness.reset_peak_memory()
    start = time.perf_counter()
    try:
        measured = module.measure(options)
    except harness.NothingMeasuredError:
        return _failed(name, "nothing was measured in its time")
    seconds = time.perf_counter() - start
    before = _last(folder, name, options.quick)
    path = harness.write(folder, name, options, measured, seconds)
    shown = [f"{table.title}\n\n{table.render()}" for table in measured.tables]
    slower = compared(before, measured.ratios)
    return {
        "suite": name, "record": str(path), "tables": shown, "slower": slower, "problem": None, "exit code": 0,
        "headline": measured.headline, "seconds": seconds,
    }  # fmt: skip


def _apart(name: str, folder: Path, options: Options, end: float | None, share: float | None) -> dict:
    """A suite in a process of its own, with a share of the time left; its messages pass through to stderr."""
    command = [
        sys.executable,
        "-m",
        "gibbsformer",
        "bench",
        name,
        "--out",
        str(folder),
        "--data",
        options.data,
        "--json",
    ]
    command += ["--quick"] * options.quick
    for option in ("network", "device"):
        command += [f"--{option}", value] if (value := getattr(options, option)) else []
    print(f"bench: {name}", file=sys.stderr, flush=True)
    left = None if end is None else end - time.monotonic()
    if left is not None and left <= 0:
        return _failed(name, "not run: no time left")
    if left is not None and share is not None:
        command += ["--seconds", f"{share * left:.0f}"]
        left = min(left, share * left + _GRACE)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=left, check=False)
    except subprocess.TimeoutExpired:
        return _failed(name, "stopped: no time left")
    if not done.stdout:
        return _failed(name, f"failed with exit code {done.returncode}, see the messages above", done.returncode)
    return json.loads(done.stdout)[0]


def _failed(name: str, problem: str, code: int = 1) -> dict:
    return {
        "suite": name, "record": None, "tables": [], "slower": {}, "problem": problem, "exit code": code,
        "headline": "", "seconds": 0.0,
    }  # fmt: skip


def _last(folder: Path, name: str, quick: bool) -> dict | None:
    """The record that a new one is compared with: the folder's own, else the one that comes with the package."""
    paths = (harness.record_path(f, name, quick, harness.kind()) for f in (folder, RESULTS))
    return next((record for path in paths if (record := harness.read(path))), None)


def compared(before: dict | None, ratios: dict[str, float]) -> dict[str, float] | None:
    """Ratio -> how many times what it was, for those that got slower; None where there is nothing to compare with."""
    if before is None:
        return None
    changes = {name: ratios[name] / old for name, old in before["ratios"].items() if name in ratios}
    return {name: change for name, change in changes.items() if change > SLOWER}


def render(found: dict) -> str:
    """What ``bench`` found in one suite, as text."""
    if found["problem"]:
        return f"{found['suite']}: {found['problem']}"
    slower = found["slower"]
    if slower is None:
        verdict = "no earlier record of this kind of machine to compare ratios with"
    elif slower:
        verdict = "SLOWER than the last record: " + ", ".join(f"{name} {by:.1f} x" for name, by in slower.items())
    else:
        verdict = f"no ratio is {SLOWER} times that of the last record"
    return "\n\n".join([*found["tables"], f"{found['suite']}: {verdict}; record: {found['record']}"])


def summary(found: list[dict]) -> str:
    """Of several suites what came out, a line each."""
    lines = [f"{each['suite']:<10} {each['seconds']:5.0f} s  {each['problem'] or each['headline']}" for each in found]
    return "\n".join(lines)
