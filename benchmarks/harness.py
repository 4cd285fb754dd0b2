"""What every suite shares: timing, memory, the machine's description, tables, and the JSON record of a run.

Times are medians over repeats; compile time is reported apart. Compare ratios within one record, not times between
records: machines are shared and differ.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..core import checks, files
from ..core.text import dumps

RESULTS = Path(__file__).parent / "results"
_BEGAN = time.monotonic()  # of a suite's own process
DEVICES = ("cpu", "gpu")
_PACKAGES = ("gibbsformer", "jax", "jaxlib", "numpyro", "blackjax", "numpy")
_UNIT_SIZE = 1024


class _OutOfTime(BaseException):
    """A suite's time is over."""


class NothingMeasuredError(Exception):
    """Not even the first case was done in the time."""


def first_of(rows: list) -> Any:
    """The first row, or ``NothingMeasuredError``."""
    if not rows:
        raise NothingMeasuredError
    return rows[0]


def _out_of_time(*_):
    raise _OutOfTime


class Options(NamedTuple):
    """What a suite may be asked.

    Attributes:
        quick: small sizes, for a first look and for comparing ratios with an earlier record.
        data, network: images and trained network of the suites on one-shot images; None trains one.
        device: "cpu" or "gpu", where it is to run; None leaves it to JAX.
        seconds: what a suite may take, its start included; measurements that would exceed it are left out.
    """

    quick: bool = False
    data: str = "glyphs"
    network: str | None = None
    device: str | None = None
    seconds: float | None = None

    @property
    def on_gpu(self) -> bool:
        """Sizes are those for a GPU."""
        return self.device == "gpu"

    def left(self) -> float:
        """Seconds left."""
        return float("inf") if self.seconds is None else self.seconds - (time.monotonic() - _BEGAN)

    def each(self, cases: Iterable, function: Callable[[Any], Any]) -> list:
        """``function`` of cases, as far as the time goes; what is under way then is dropped.

        Args:
            cases: in order of worth.
            function: measures one.

        Returns:
            What it returned of each.
        """
        found: list = []
        with contextlib.suppress(_OutOfTime), self._alarm():
            for case in cases:
                found.append(function(case))
        return found

    @contextlib.contextmanager
    def _alarm(self) -> Iterator[None]:
        left = self.left()
        if left == float("inf") or signal.getitimer(signal.ITIMER_REAL)[0]:  # none, or set further up
            yield
            return
        if left <= 0:
            raise _OutOfTime
        before = signal.signal(signal.SIGALRM, _out_of_time)
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


class Table(NamedTuple):
    """Rows of one measurement.

    Attributes:
        title: what is measured, in a line.
        rows: a dict per row; a value None was not measured.
        columns: key -> format of its values; other keys of rows are recorded and not shown.
        plot: arguments of ``page.draw``, or None.
        note: a sentence on how to read it.
    """

    title: str
    rows: list[dict]
    columns: dict[str, str]
    plot: dict | None = None
    note: str = ""

    def render(self) -> str:
        """As a Markdown table."""
        lines = ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        for row in self.rows:
            cells = [
                "not measured" if row.get(key) is None else format(row[key], spec) for key, spec in self.columns.items()
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


class Measured(NamedTuple):
    """What a suite found.

    Attributes:
        tables: see ``Table``.
        ratios: name -> cost as a ratio to something timed in the same run; larger is slower.
        settings: plain values that made it.
        headline: the result in a few words.
    """

    tables: list[Table]
    ratios: dict[str, float]
    settings: dict[str, Any]
    headline: str = ""


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


def use(options: Options) -> None:
    """Run on the device asked for.

    Raises:
        ValueError: there is none; a quick run takes what there is, as a rehearsal.
    """
    if options.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif options.on_gpu and jax.default_backend() == "cpu" and not options.quick:
        raise checks.InputError(
            "device='gpu', but JAX finds no GPU: install gibbsformer[cuda], or add --quick to rehearse on the CPU"
        )


def unit() -> float:
    """Seconds of a float32 matrix product of size 1024, the yardstick of costs that have none of their own."""
    matrix = random_matrix((_UNIT_SIZE, _UNIT_SIZE), jnp.float32)
    return timed(jax.jit(jnp.matmul), matrix, matrix, repeats=15)["median"]


def random_matrix(shape: tuple[int, ...], dtype) -> jax.Array:
    """Normal numbers: products of ones or zeros may be faster than those of data."""
    return jax.random.normal(jax.random.key(0), shape, dtype)


def reset_peak_memory() -> None:
    """Forget the peak of the host's memory so far, where the system lets a process do so (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> dict[str, float | None]:
    """MiB of the peak of this process on the host, and of the device's memory where it keeps count."""
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        host = int(found[1]) / 1024
    else:  # bytes on macOS, kB elsewhere
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    device = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {"host": host, "device": None if device is None else device / 2**20}


def kind() -> str:
    """The kind of machine in a file name: records are compared within one kind."""
    device = jax.devices()[0]
    name = f"cpu_{os.cpu_count()}_cores" if device.platform == "cpu" else device.device_kind
    return re.sub(r"\W+", "_", name.lower())


def _commit() -> str:
    """Of the checkout, empty outside of one."""
    command = ["git", "-C", str(RESULTS), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:  # no git on this machine
        return ""


def machine() -> dict[str, Any]:
    """Device, driver, versions and commit of this run."""
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "driver": getattr(device.client, "platform_version", ""),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {name: version(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def record_path(folder: Path, suite: str, quick: bool, machine_kind: str) -> Path:
    """Where a record lies: one file per suite, size and kind of machine."""
    return folder / f"{suite}{'_quick' if quick else ''}.{machine_kind}.json"


def write(folder: Path, suite: str, options: Options, measured: Measured, seconds: float) -> Path:
    """Write the record of a run in place of the last of its kind."""
    record = {
        "suite": suite,
        "quick": options.quick,
        **machine(),
        "kind": kind(),
        "seconds": seconds,
        "peak MiB": peak_memory(),
        "settings": measured.settings,
        "headline": measured.headline,
        "ratios": measured.ratios,
        "tables": [table._asdict() for table in measured.tables],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = record_path(folder, suite, options.quick, record["kind"])
    files.write(path, dumps(record, indent=1) + "\n")
    return path


def read(path: Path) -> dict | None:
    """A record, or None where there is none."""
    return json.loads(path.read_text()) if path.is_file() else None
