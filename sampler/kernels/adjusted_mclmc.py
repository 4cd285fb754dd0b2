"""Adjusted MCLMC: microcanonical trajectories with a Metropolis test, Stan's warm-up for step size and metric.

Choose it as an exact alternative to ``hmc``: the momentum has unit length, so that high-dimensional targets are
crossed in fewer gradients. Trajectories have length L = sqrt(D) in the metric's units on average, jittered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ...core import checks
from .adaptation import AdaptedKernel


@dataclass(frozen=True, kw_only=True)
class AdjustedMCLMC(AdaptedKernel):
    """Options of the adjusted microcanonical kernel.

    Args:
        length: mean trajectory length L in units of sqrt(D), D the number of coordinates.
        max_integration_steps: bound on the steps of one trajectory.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up, in units of sqrt(D) too.

    Raises:
        ValueError: an option out of range.

    Source: Robnik, Cohn-Gordon and Seljak 2025, arXiv:2503.01707; BlackJAX ``adjusted_mclmc``.
    """

    target_acceptance: float = 0.9
    length: float = 1.0
    max_integration_steps: int = 1000
    name: ClassVar[str] = "adjusted_mclmc"

    def __post_init__(self):
        super().__post_init__()
        checks.positive("length", self.length)
        checks.count("max_integration_steps", self.max_integration_steps)

    def move(self, setting, key, chain, step_size, inverse_mass_matrix):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        key_length, key_move = jax.random.split(key)
        mean = self.length / step_size
        steps = jnp.ceil(2 * mean * jax.random.uniform(key_length, dtype=mean.dtype)).astype(jnp.int32)
        chain, info = blackjax.adjusted_mclmc.build_kernel()(
            key_move,
            chain,
            setting.log_density,
            step_size * inverse_mass_matrix.size**0.5,
            (jnp.clip(steps, 1, self.max_integration_steps),),
            inverse_mass_matrix,
        )
        return chain, info, {"n_steps": 2 * info.num_integration_steps}  # gradients: two for each step
