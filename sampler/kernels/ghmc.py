"""GHMC: underdamped Langevin with a persistent momentum and a non-reversible accept/reject, tuned by MEADS.

Choose it on an accelerator with many chains (64 or more): one gradient a transition, no chain waits for another, and
step size, damping and scales come from the spread between chains. Record with ``thin=``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ...core import checks
from .adaptation import like, metric
from .kernel import EnsembleKernel

_FOLDS = 4  # as in Hoffman and Sountsov 2022
_MIN_CHAINS_PER_FOLD = 4
_MIN_SCALE = 1e-6  # of a coordinate, relative to the mean: chains that start together have no spread


class GHMCState(NamedTuple):
    """State of one chain."""

    chain: Any


@dataclass(frozen=True, kw_only=True)
class GHMC(EnsembleKernel):
    """Options of the underdamped Langevin kernel.

    Args:
        step_size_multiplier: share of the largest stable step, in (0, 1]: smaller is accepted more often.
        damping_slowdown: larger damps more strongly early in the warm-up.

    Raises:
        ValueError: an option out of range.

    Source: Hoffman and Sountsov 2022 (MEADS); BlackJAX ``ghmc``, ``meads_adaptation``.
    """

    step_size_multiplier: float = 0.5
    damping_slowdown: float = 1.0
    name: ClassVar[str] = "ghmc"
    minimum_chains: ClassVar[int] = 4

    def __post_init__(self):
        checks.positive("step_size_multiplier", self.step_size_multiplier)
        checks.positive("damping_slowdown", self.damping_slowdown)

    def init(self, setting, key, position):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        chain = blackjax.ghmc.init(position, setting.log_density, key)
        return GHMCState(chain._replace(momentum=like(position, chain.momentum)))

    def share(self, setting, states):
        state = self._adaptation(setting)[0](*_spread(states.chain.position, states.chain.logdensity_grad))
        return _of_one_type(state, states.chain.position)

    def step(self, setting, key, index, state, number, shared):  # type: ignore[override]  # of an ensemble
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        folds = _folds(setting.chains)
        own = number // (setting.chains // folds)
        adapting = index < setting.warmup
        pick = lambda x: jnp.where(adapting, x[own], x.mean(0))  # noqa: E731
        scale = ravel_pytree(jax.tree.map(pick, shared.position_sigma))[0]
        before = state.chain.logdensity
        chain, info = blackjax.ghmc.build_kernel()(
            key,
            state.chain,
            setting.log_density,
            pick(shared.step_size),
            metric(scale**2),
            pick(shared.alpha),
            pick(shared.delta),
        )
        chain = like(state.chain, chain)
        stats = {
            "lp": chain.logdensity,
            "acceptance_rate": (chain.logdensity != before).astype(jnp.float64),  # moved or not: no rate is known
            "n_steps": jnp.int32(1),
            "diverging": info.is_divergent,
            "step_size": pick(shared.step_size),
        }
        return GHMCState(chain), stats, (chain.position, chain.logdensity_grad)

    def pool(self, setting, index, shared, news):
        folds = _folds(setting.chains)
        source = index % folds  # its statistics set the parameters of the next fold
        of_source = jax.tree.map(lambda x: x.reshape(folds, -1, *x.shape[1:])[source], news)
        return _of_one_type(self._adaptation(setting)[1](shared, *_spread(*of_source), source), news[0])

    def _adaptation(self, setting):
        from blackjax.adaptation import meads_adaptation

        return meads_adaptation.base(_folds(setting.chains), self.step_size_multiplier, self.damping_slowdown)


def _folds(chains):
    return _FOLDS if chains % _FOLDS == 0 and chains >= _FOLDS * _MIN_CHAINS_PER_FOLD else 1


def _spread(positions, gradients):
    """Positions with a little spread added to coordinates that have none, so that no scale is zero."""

    def spread(x):
        missing = _MIN_SCALE * (1 + jnp.abs(x.mean(0))) * (x.std(0) == 0)
        sign = (-1.0) ** jnp.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
        return (x + missing * sign).astype(x.dtype)

    return jax.tree.map(spread, positions), gradients


def _of_one_type(state, positions):
    dtype = ravel_pytree(positions)[0].dtype
    as_type = lambda x: jnp.asarray(x, dtype)  # noqa: E731
    return jax.tree.map(as_type, state)._replace(current_iteration=jnp.asarray(state.current_iteration, jnp.int32))
