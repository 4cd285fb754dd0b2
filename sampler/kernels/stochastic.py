r"""Stochastic-gradient Langevin dynamics and HMC: mini-batches of examples, no accept/reject.

Choose them only to study them: both are biased at any fixed step size (docs/samplers.md has a measured table), and
at low temperature the stable step, below 2 / (largest curvature) ~ T, makes them slow. The prior enters every
gradient whole, the likelihood of a batch of B examples times P / B, so gradients are unbiased. Steps may decay:

    step(i) = step_size (1 + i / decay_transitions)^{-decay_power}
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ...core import checks
from .adaptation import like
from .kernel import Kernel


class StochasticState(NamedTuple):
    """State of one chain."""

    position: dict


@dataclass(frozen=True, kw_only=True)
class _Stochastic(Kernel):
    needs: ClassVar[tuple[str, ...]] = ("minibatch_gradient",)

    step_size: float
    batch_size: int | None = None
    decay_power: float = 0.0
    decay_transitions: int = 1000

    def __post_init__(self):
        checks.positive("step_size", self.step_size)
        checks.count("decay_transitions", self.decay_transitions)
        if self.decay_power:
            checks.positive("decay_power", self.decay_power)
        if self.batch_size is not None:
            checks.count("batch_size", self.batch_size)

    def check(self, posterior):
        P = posterior.batched if hasattr(type(posterior), "batched") else len(posterior.y)
        if self.batch_size is not None and self.batch_size > P:
            raise checks.InputError(f"batch_size={self.batch_size} is more than the {P} examples: use {P} or fewer")

    def init(self, setting, key, position):
        return StochasticState(position)

    def step(self, setting, key, index, state):
        key_batch, key_move = jax.random.split(key)
        P = len(setting.data.batched[1])
        indices = jnp.arange(P)
        if self.batch_size is not None and self.batch_size < P:
            indices = jax.random.choice(key_batch, P, (self.batch_size,), replace=False)
        dtype = setting.data.y.dtype
        step_size = self.step_size * (1 + index.astype(dtype) / self.decay_transitions) ** (-self.decay_power)

        def gradient(position, batch):  # BlackJAX moves in float64, gradients take the precision of the run
            return setting.target.minibatch_gradient(setting.data, like(state.position, position), batch)

        position = jax.tree.map(lambda x: x.astype(jnp.float64), state.position)
        position = like(state.position, self._move(key_move, position, gradient, indices, step_size))
        lp = setting.log_density(position)
        stats = {
            "lp": lp,
            "n_steps": jnp.int32(self._gradients),
            "diverging": ~jnp.isfinite(lp),
            "step_size": step_size,
        }
        return StochasticState(position), stats

    def position(self, state):
        return state.position

    @property
    def _gradients(self) -> int:
        return 1

    @abc.abstractmethod
    def _move(self, key, position, gradient, batch, step_size):
        """Position after one transition."""


@dataclass(frozen=True, kw_only=True)
class SGLD(_Stochastic):
    """Options of stochastic-gradient Langevin dynamics: drift step_size, noise of variance 2 step_size.

    Args:
        step_size: at first; above 2 / (largest curvature of -log density) it diverges.
        batch_size: examples per gradient, drawn without replacement; None takes all.
        decay_power, decay_transitions: transition i has the step step_size (1 + i / decay_transitions)^-decay_power;
            power 0 keeps it, 1/3 is best for SGLD.

    Raises:
        ValueError: an option out of range; when sampling, a batch larger than the training set.

    Source: Welling and Teh 2011; Teh, Thiery and Vollmer 2016; BlackJAX ``sgld``.
    """

    step_size: float = 1e-6
    name: ClassVar[str] = "sgld"

    def _move(self, key, position, gradient, batch, step_size):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        return blackjax.sgld.build_kernel()(key, position, gradient, batch, step_size)


@dataclass(frozen=True, kw_only=True)
class SGHMC(_Stochastic):
    """Options of stochastic-gradient HMC: trajectories with friction, momentum resampled for each.

    Args:
        step_size: leapfrog-like step; above 2 / sqrt(largest curvature of -log density) it diverges.
        integration_steps: steps a trajectory; one batch serves it whole.
        friction: rate alpha at which momentum is lost and noise added.
        batch_size, decay_power, decay_transitions: as for ``SGLD``.

    Raises:
        ValueError: as ``SGLD``.

    Source: Chen, Fox and Guestrin 2014; BlackJAX ``sghmc``.
    """

    step_size: float = 1e-3
    integration_steps: int = 10
    friction: float = 1.0
    name: ClassVar[str] = "sghmc"

    def __post_init__(self):
        super().__post_init__()
        checks.count("integration_steps", self.integration_steps)
        checks.positive("friction", self.friction)

    @property
    def _gradients(self) -> int:
        return self.integration_steps

    def _move(self, key, position, gradient, batch, step_size):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        kernel = blackjax.sghmc.build_kernel(alpha=self.friction)
        return kernel(key, position, gradient, batch, step_size, self.integration_steps)
