"""NUTS: BlackJAX's No-U-Turn sampler with Stan's warm-up.

Choose it as the independent check of the exact samplers: there is no trajectory length to set. Over all weights at low
temperature it exhausts its tree (T=0.01 at the reference task: 1,023 leapfrog steps a draw).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...core import checks
from .adaptation import AdaptedKernel, metric


@dataclass(frozen=True, kw_only=True)
class NUTS(AdaptedKernel):
    """Options of the No-U-Turn kernel.

    Args:
        max_doublings: the trajectory has at most 2^max_doublings - 1 leapfrog steps.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range.

    Source: Hoffman and Gelman 2014; BlackJAX ``nuts``.
    """

    max_doublings: int = 10
    name: ClassVar[str] = "nuts"

    def __post_init__(self):
        super().__post_init__()
        checks.count("max_doublings", self.max_doublings)

    def move(self, setting, key, chain, step_size, inverse_mass_matrix):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        chain, info = blackjax.nuts.build_kernel()(
            key, chain, setting.log_density, step_size, metric(inverse_mass_matrix), self.max_doublings
        )
        return chain, info, {"tree_depth": info.num_trajectory_expansions}
