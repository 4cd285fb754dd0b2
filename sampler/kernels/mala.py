"""MALA: the Metropolis-adjusted Langevin algorithm, preconditioned: BlackJAX's HMC with one leapfrog step.

Choose it as the simplest exact Langevin sampler: one gradient a transition, so record with ``thin=``. It diffuses
where Hamiltonian kernels travel, so ``hmc`` and ``nuts`` mix faster per gradient on targets of unequal scales.

With momentum p ~ N(0, M) one leapfrog step of size e is the Langevin proposal with drift (e^2 / 2) M^{-1} grad log p
and noise of covariance e^2 M^{-1}; M is the diagonal metric of Stan's warm-up, e is tuned to an acceptance of 0.574.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .adaptation import AdaptedKernel, metric


@dataclass(frozen=True, kw_only=True)
class MALA(AdaptedKernel):
    """Options of the Langevin kernel.

    Args:
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: leapfrog step e at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range.

    Source: Roberts and Rosenthal 1998 (acceptance 0.574); Neal 2011, section 5.5.2 (one leapfrog step).
    """

    target_acceptance: float = 0.574
    name: ClassVar[str] = "mala"

    def move(self, setting, key, chain, step_size, inverse_mass_matrix):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        kernel = blackjax.hmc.build_kernel()
        return *kernel(key, chain, setting.log_density, step_size, metric(inverse_mass_matrix), 1), {}
