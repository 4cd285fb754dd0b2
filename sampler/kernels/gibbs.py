"""Exact blocked Gibbs sweeps: every block of weights redrawn from its Gaussian conditional (``models.blocks``).

No step size, no rejection, no warm-up beyond forgetting the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class Gibbs(Kernel):
    """The blocked Gibbs kernel; it has no options.

    Choose it to check another sampler by independent means, or where exact weights are wanted at small width with
    many paths. It mixes slowly at small width and low temperature: ``collapsed`` is faster there.

    Source: docs/model.md, section 5.
    """

    name: ClassVar[str] = "gibbs"
    needs: ClassVar[tuple[str, ...]] = ("redraw_blocks",)
    float64_only: ClassVar[bool] = True
    lapack: ClassVar[bool] = True

    def init(self, setting, key, position):
        return position

    def step(self, setting, key, index, state):
        state = setting.target.redraw_blocks(setting.data, key, state)
        return state, {"lp": setting.log_density(state)}

    def position(self, state):
        return state
