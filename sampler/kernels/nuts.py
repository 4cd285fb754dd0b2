"""NUTS: BlackJAX's No-U-Turn sampler with Stan's warm-up.

Choose it as the independent check of the exact samplers: no trajectory length to set. Over all weights at low
temperature it spends its whole tree (T=0.01 at the reference task: 1,023 leapfrog steps a draw).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...core import checks
from . import window


@dataclass(frozen=True, kw_only=True)
class NUTS(window.AdaptedKernel):
    """Options of the No-U-Turn kernel.

    Args:
        max_doublings: the trajectory has at most 2^max_doublings - 1 leapfrog steps.
        space: ``"marginal"`` integrates V_0 out of the density and draws it exactly for each record (better conditioned
            at low temperature, a P x P factorisation a gradient); ``"weights"`` keeps all weights.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range, or an unknown space.

    Source: Hoffman and Gelman 2014; BlackJAX ``nuts``.
    """

    max_doublings: int = 10
    name: ClassVar[str] = "nuts"

    def __post_init__(self):
        super().__post_init__()
        checks.count("max_doublings", self.max_doublings)

    def init(self, setting, key, position):
        return window.start(self, setting, position)

    def step(self, setting, key, index, number, state, shared):
        return (*transition(self, setting, key, index, state, dense=False), ())


def transition(kernel, setting, key, index, state, dense: bool, adapt_metric: bool = True):
    """One NUTS transition on any target, adapted during the warm-up: (state, statistics)."""
    import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

    chain, info = blackjax.nuts.build_kernel()(
        key,
        state.chain,
        setting.log_density,
        state.step_size,
        window.metric(state.inverse_mass_matrix),
        kernel.max_doublings,
    )
    stats = window.statistics(chain, info, state) | {"tree_depth": info.num_trajectory_expansions}
    return window.update(kernel, setting, state, chain, info.acceptance_rate, index, dense, adapt_metric), stats
