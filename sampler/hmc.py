"""HMC in weight space: BlackJAX's Hamiltonian Monte Carlo, random trajectory length, Stan's warm-up.

Choose it over ``nuts`` where a good trajectory length is known: all chains then take about the same time per draw.
The number of leapfrog steps is drawn anew each transition (1 .. 2 n - 1, mean n), since a fixed length
resonates with Gaussian directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from ..models import Network, checks
from . import schema, targets, window
from .kernel import Target


@dataclass(frozen=True)
class HMC:
    """Options of the HMC kernel.

    Args:
        integration_steps: mean number n of leapfrog steps; each transition takes 1 .. 2 n - 1, uniformly.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Source: Neal 2011, section 5.3.2 (random lengths); BlackJAX ``hmc``.
    """

    integration_steps: int = 128
    target_acceptance: float = 0.8
    initial_step_size: float = 0.1
    name: ClassVar[str] = "hmc"
    keep: ClassVar[str] = schema.WEIGHTS
    float64_only: ClassVar[bool] = False
    lapack: ClassVar[bool] = False

    def __post_init__(self):
        window.check_options(self)
        checks.count("integration_steps", self.integration_steps)

    def target(self, network: Network, weights: bool) -> Target:
        return targets.weights(network)

    def init(self, target, data, warmup, position):
        return window.start(self, target, data, position)

    def step(self, target, data, warmup, key, index, state):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        key_length, key_move = jax.random.split(key)
        chain, info = blackjax.hmc.build_kernel()(
            key_move,
            state.chain,
            lambda position: target.log_density(data, position),
            state.step_size,
            state.inverse_mass_matrix,
            jax.random.randint(key_length, (), 1, 2 * self.integration_steps),
        )
        stats = window.statistics(chain, info, state)
        return window.update(self, state, chain, info.acceptance_rate, index, warmup, dense=False), stats

    def position(self, state):
        return state.chain.position
