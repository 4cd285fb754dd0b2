"""HMC: BlackJAX's Hamiltonian Monte Carlo, random trajectory length, Stan's warm-up.

Choose it over ``nuts`` where a good trajectory length is known: all chains then take about the same time per draw.
The number of leapfrog steps is drawn anew each transition (1 .. 2 n - 1, mean n), since a fixed length
resonates with Gaussian directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from ...core import checks
from . import window


@dataclass(frozen=True, kw_only=True)
class HMC(window.AdaptedKernel):
    """Options of the HMC kernel.

    Args:
        integration_steps: mean number n of leapfrog steps; each transition takes 1 .. 2 n - 1, uniformly.
        space: ``"marginal"`` integrates V_0 out of the density and draws it exactly for each record (better conditioned
            at low temperature, a P x P factorisation a gradient); ``"weights"`` keeps all weights.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range, or an unknown space.

    Source: Neal 2011, section 5.3.2 (random lengths); BlackJAX ``hmc``.
    """

    integration_steps: int = 32
    name: ClassVar[str] = "hmc"

    def __post_init__(self):
        super().__post_init__()
        checks.count("integration_steps", self.integration_steps)

    def init(self, setting, key, position):
        return window.start(self, setting, position)

    def step(self, setting, key, index, number, state, shared):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        key_length, key_move = jax.random.split(key)
        chain, info = blackjax.hmc.build_kernel()(
            key_move,
            state.chain,
            setting.log_density,
            state.step_size,
            window.metric(state.inverse_mass_matrix),
            jax.random.randint(key_length, (), 1, 2 * self.integration_steps),
        )
        stats = window.statistics(chain, info, state)
        return window.update(self, setting, state, chain, info.acceptance_rate, index, dense=False), stats, ()
