"""HMC: BlackJAX's Hamiltonian Monte Carlo, random trajectory length, Stan's warm-up.

Choose it over ``nuts`` where a good trajectory length is known: all chains then take about the same time per draw.
The number of leapfrog steps is drawn at each transition (1 .. 2 n - 1, mean n), since a fixed length resonates with
Gaussian directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax

from ...core import checks
from .adaptation import AdaptedKernel, metric


@dataclass(frozen=True, kw_only=True)
class HMC(AdaptedKernel):
    """Options of the HMC kernel.

    Args:
        integration_steps: mean number n of leapfrog steps; each transition takes 1 .. 2 n - 1, uniformly.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range.

    Source: Neal 2011, section 5.3.2 (random lengths); BlackJAX ``hmc``.
    """

    integration_steps: int = 32
    name: ClassVar[str] = "hmc"

    def __post_init__(self):
        super().__post_init__()
        checks.count("integration_steps", self.integration_steps)

    def move(self, setting, key, chain, step_size, inverse_mass_matrix):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        key_length, key_move = jax.random.split(key)
        steps = jax.random.randint(key_length, (), 1, 2 * self.integration_steps)
        kernel = blackjax.hmc.build_kernel()
        return *kernel(key_move, chain, setting.log_density, step_size, metric(inverse_mass_matrix), steps), {}
