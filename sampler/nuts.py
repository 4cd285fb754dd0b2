"""NUTS in weight space: BlackJAX's No-U-Turn sampler with Stan's warm-up.

Choose it as the independent check of the exact samplers at small width. At low temperature the posterior is
badly conditioned (T=0.01 at the reference task spends the whole tree, 1,023 leapfrog steps a draw).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..models import Network, checks
from . import schema, targets, window
from .kernel import Target


@dataclass(frozen=True)
class NUTS:
    """Options of the No-U-Turn kernel.

    Args:
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        max_doublings: the trajectory has at most 2^max_doublings - 1 leapfrog steps.
        initial_step_size: step size at the first transition of the warm-up.

    Source: Hoffman and Gelman 2014; BlackJAX ``nuts``.
    """

    target_acceptance: float = 0.8
    max_doublings: int = 10
    initial_step_size: float = 0.1
    name: ClassVar[str] = "nuts"
    keep: ClassVar[str] = schema.WEIGHTS
    float64_only: ClassVar[bool] = False
    lapack: ClassVar[bool] = False

    def __post_init__(self):
        window.check_options(self)
        checks.count("max_doublings", self.max_doublings)

    def target(self, network: Network, weights: bool) -> Target:
        return targets.weights(network)

    def init(self, target, data, warmup, position):
        return window.start(self, target, data, position)

    def step(self, target, data, warmup, key, index, state):
        return transition(self, target, data, warmup, key, index, state, dense=False)

    def position(self, state):
        return state.chain.position


def transition(kernel, target, data, warmup, key, index, state, dense: bool, adapt_metric: bool = True):
    """One NUTS transition on any target, adapted while index < warmup."""
    import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

    chain, info = blackjax.nuts.build_kernel()(
        key,
        state.chain,
        lambda position: target.log_density(data, position),
        state.step_size,
        state.inverse_mass_matrix,
        kernel.max_doublings,
    )
    stats = window.statistics(chain, info, state) | {"tree_depth": info.num_trajectory_expansions}
    return window.update(kernel, state, chain, info.acceptance_rate, index, warmup, dense, adapt_metric), stats
