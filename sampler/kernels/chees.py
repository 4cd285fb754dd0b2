"""ChEES-HMC: many chains that learn one step size and one trajectory length together, with jittered lengths.

Choose it on an accelerator with tens of chains or more: all chains take the same number of leapfrog steps, so none
waits for another as in ``nuts``. The length maximises the change in the estimated expected square (ChEES).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ...core import checks
from .adaptation import AcceptanceOptions, like, metric, statistics
from .kernel import EnsembleKernel

_HALTON_BITS = 16  # the quasi-random sequence of lengths repeats after 2^16 transitions
_LEARNING_RATE = 0.025  # of Adam on log length, as in Hoffman et al. 2021


class ChEESState(NamedTuple):
    """State of one chain."""

    chain: Any


@dataclass(frozen=True, kw_only=True)
class ChEES(AcceptanceOptions, EnsembleKernel):
    """Options of the ChEES-HMC kernel.

    Args:
        max_leapfrog_steps: bound on the tuned trajectory length.
        target_acceptance: harmonic mean over chains of the acceptance that the step size is tuned to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range.

    Source: Hoffman, Radul and Sountsov 2021; BlackJAX ``chees_adaptation``.
    """

    target_acceptance: float = 0.651
    max_leapfrog_steps: int = 1000
    name: ClassVar[str] = "chees"

    def __post_init__(self):
        super().__post_init__()
        checks.count("max_leapfrog_steps", self.max_leapfrog_steps)

    def init(self, setting, key, position):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        return ChEESState(blackjax.hmc.init(position, setting.log_density))

    def share(self, setting, states):
        return self._adaptation()[0](0, jnp.asarray(self.initial_step_size))

    def step(self, setting, key, index, state, number, shared):  # type: ignore[override]  # of an ensemble
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        dtype, size = _kind(state.chain.position)
        adapting = index < setting.warmup
        final_step = jnp.exp(shared.log_step_size_moving_average)
        final_length = jnp.exp(shared.log_trajectory_length_moving_average)
        step_size = jnp.where(adapting, shared.step_size, final_step)
        length = jnp.where(adapting, shared.trajectory_length, final_length)
        if setting.warmup == 0:
            step_size, length = shared.step_size, shared.trajectory_length
        chain, info = blackjax.hmc.build_kernel()(
            key,
            state.chain,
            setting.log_density,
            step_size.astype(dtype),
            metric(jnp.ones(size, dtype)),
            jnp.ceil(_jitter(index) * length / step_size).astype(jnp.int32),
        )
        stats = statistics(chain, info, step_size)
        flat = [ravel_pytree(x)[0] for x in (info.proposal.position, info.proposal.momentum, state.chain.position)]
        news = (*flat, info.acceptance_rate, info.is_divergent)
        return ChEESState(chain), stats, news

    def pool(self, setting, index, shared, news):
        return like(shared, self._adaptation()[1](shared, *news, jnp.ones(news[0].shape[1])))

    def _adaptation(self):
        """BlackJAX's (init, update) of step size and trajectory length."""
        import optax
        from blackjax.adaptation import chees_adaptation

        return chees_adaptation.base(
            _jitter,
            lambda i: i + 1,
            optax.adam(_LEARNING_RATE),
            self.target_acceptance,
            decay_rate=0.5,
            max_leapfrog_steps=self.max_leapfrog_steps,
        )


def _jitter(index):
    """Share of the trajectory length at transition ``index``, in (0, 1): the same for all chains."""
    from blackjax.mcmc.dynamic_hmc import halton_sequence

    return halton_sequence(jnp.asarray(index, jnp.int32), _HALTON_BITS)


def _kind(position):
    flat = ravel_pytree(position)[0]
    return flat.dtype, flat.size
