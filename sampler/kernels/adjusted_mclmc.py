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
from . import window


@dataclass(frozen=True, kw_only=True)
class AdjustedMCLMC(window.AdaptedKernel):
    """Options of the adjusted microcanonical kernel.

    Args:
        length: mean trajectory length L in units of sqrt(D), D the number of coordinates.
        max_integration_steps: bound on the steps of one trajectory.
        space: ``"marginal"`` integrates V_0 out of the density and draws it exactly for each record (better conditioned
            at low temperature, a P x P factorisation a gradient); ``"weights"`` keeps all weights.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up, in units of sqrt(D) too.

    Raises:
        ValueError: an option out of range, or an unknown space.

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

    def init(self, setting, key, position):
        return window.start(self, setting, position)

    def step(self, setting, key, index, number, state, shared):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        key_length, key_move = jax.random.split(key)
        mean = self.length / state.step_size
        steps = jnp.ceil(2 * mean * jax.random.uniform(key_length, dtype=mean.dtype)).astype(jnp.int32)
        root = state.inverse_mass_matrix.size**0.5
        chain, info = blackjax.adjusted_mclmc.build_kernel()(
            key_move,
            state.chain,
            setting.log_density,
            state.step_size * root,
            (jnp.clip(steps, 1, self.max_integration_steps),),
            state.inverse_mass_matrix,
        )
        chain = window.like(state.chain, chain)
        stats = window.statistics(chain, info, state)
        stats = stats | {"n_steps": 2 * stats["n_steps"]}  # gradients: the integrator takes two a step
        return window.update(self, setting, state, chain, info.acceptance_rate, index, dense=False), stats, ()
