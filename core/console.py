"""What is said on stderr while something runs: a bar on a terminal, one plain line a minute in a file or a pipe."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tqdm import tqdm

_SECONDS = 60.0  # between lines


def say(text: str) -> None:
    """Print a line on stderr; where nobody reads it any more, what is said goes nowhere and work goes on."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # a closed pipe, or a terminal that is gone
        silence(sys.stderr)


def silence(stream: TextIO) -> None:
    """Let all that is still written to a closed pipe go nowhere, so that the process ends without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def bar(*, total: int | None, unit: str, desc: str, initial: int = 0, disable: bool = False) -> tqdm | Lines:
    """Progress of something: as ``tqdm`` takes it; in a notebook with ipywidgets, a widget.

    Args:
        total: number of units in the end, None if nobody knows.
        unit: name of one.
        desc: what is going on.
        initial: units done before.
        disable: show nothing.
    """
    if not disable and _in_notebook():
        from tqdm.auto import tqdm as widget  # not above: it looks for a notebook when it is imported

        return widget(total=total, initial=initial, unit=unit, desc=desc)
    if disable or sys.stderr.isatty():
        return tqdm(
            total=total, initial=initial, unit=unit, desc=desc, disable=disable, file=sys.stderr, dynamic_ncols=True
        )
    return Lines(total, unit, desc, initial)


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook that can show widgets."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ()) and importlib.util.find_spec("ipywidgets") is not None


class Lines:
    """What ``bar`` shows without a terminal, with the methods of ``tqdm`` that we use."""

    def __init__(self, total: int | None, unit: str, desc: str, initial: int):
        self.n, self.total, self._unit, self._desc, self._first = initial, total, unit, desc, initial
        self._shown: Mapping[str, Any] = {}
        self._began = self._last = time.monotonic()
        self._said: int | None = None

    def update(self, n: int = 1) -> None:
        """Count so many units as done."""
        self.n += n
        if time.monotonic() - self._last >= _SECONDS:
            self._say()

    def set_description(self, desc: str, refresh: bool = True) -> None:
        """Say what is going on."""
        self._desc = desc

    def set_postfix(self, shown: Mapping[str, Any], refresh: bool = True) -> None:
        """Say something at the end of the line."""
        self._shown = shown

    def refresh(self) -> None:
        """Nothing: a line is said when its time has come."""

    def close(self) -> None:
        """Say how far it came."""
        if self._said != self.n and self.n > self._first:
            self._say()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _say(self) -> None:
        self._last, self._said = time.monotonic(), self.n
        seconds = self._last - self._began
        of = "" if self.total is None else f"/{self.total}"
        parts = [f"{self._desc}: {self.n}{of} {self._unit}s", f"{tqdm.format_interval(seconds)} so far"]
        if self.total is not None and self._first < self.n < self.total:
            parts.append(f"{tqdm.format_interval(seconds / (self.n - self._first) * (self.total - self.n))} left")
        say(", ".join([*parts, *(f"{name} {value}" for name, value in self._shown.items())]))
