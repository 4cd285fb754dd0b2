"""The live line on stderr while chains run."""

from __future__ import annotations

import sys

import numpy as np
from tqdm import tqdm

from .driver import Chunk


class Progress:
    """A tqdm bar over transitions: phase, speed, time left, leapfrog steps per draw, divergences after warm-up."""

    def __init__(self, warmup: int, draws: int, shown: bool):
        self._warmup = warmup
        self._divergences = 0
        self._bar = tqdm(
            total=warmup + draws, disable=not shown, file=sys.stderr, unit="draw", desc="compile", dynamic_ncols=True
        )

    def update(self, chunk: Chunk) -> None:
        """Show a finished chunk."""
        done = chunk.start + chunk.length
        self._bar.set_description("warm-up" if done <= self._warmup else "sample", refresh=False)
        shown = {}
        if "n_steps" in chunk.stats:
            shown["steps/draw"] = f"{chunk.stats['n_steps'].mean():.0f}"
        if "diverging" in chunk.stats:
            first = max(0, self._warmup - chunk.start)
            self._divergences += int(np.sum(chunk.stats["diverging"][:, first:]))
            shown["divergences"] = str(self._divergences)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(chunk.length)

    def __enter__(self) -> Progress:
        self._bar.refresh()
        return self

    def __exit__(self, *_) -> None:
        self._bar.close()
