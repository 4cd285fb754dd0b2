"""Progress on stderr while chains run: a bar or lines for people, or one JSON object per line for programs."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from ..core import console
from ..core.text import dumps
from .driver import Chunk

STYLES = (True, False, "json")


class Progress:
    """Phase, records done, time left, leapfrog steps per draw, divergences, running R-hat and ESS of U.

    Args:
        warmup, draws: records of either kind.
        style: True for a bar (a line a minute without a terminal), ``"json"`` for JSON lines, False for nothing.
        done: records of an earlier run that this one continues.
    """

    def __init__(self, warmup: int, draws: int, style: bool | str, done: int = 0):
        self._warmup, self._total, self._style = warmup, warmup + draws, style
        self._first, self._began = done, time.perf_counter()
        self._bar = console.bar(total=self._total, initial=done, disable=style is not True, unit="draw", desc="compile")

    def update(self, chunk: Chunk, report) -> None:
        """Show a finished chunk and the running diagnostics after it."""
        done = chunk.start + chunk.length
        phase = "warm-up" if done <= self._warmup else "sample"
        shown: dict[str, Any] = {}
        if "n_steps" in chunk.stats:
            shown["steps/draw"] = round(float(np.mean(chunk.stats["n_steps"])), 1)
        if report.draws:
            shown |= {"divergences": report.divergences, "rhat": report.rhat, "ess": report.ess}
            shown = {k: v for k, v in shown.items() if not (isinstance(v, float) and math.isnan(v))}
        if self._style == "json":
            elapsed = time.perf_counter() - self._began
            left = elapsed / max(1, done - self._first) * (self._total - done)
            line = {"phase": phase, "done": done, "total": self._total, "seconds": elapsed, "seconds_left": left}
            console.say(dumps(line | shown))
            return
        text = {k: f"{v:.3f}" if k == "rhat" else f"{v:.0f}" for k, v in shown.items()}
        self._bar.set_description(phase, refresh=False)
        self._bar.set_postfix(text, refresh=False)
        self._bar.update(chunk.length)

    def __enter__(self) -> Progress:
        self._bar.refresh()
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()
