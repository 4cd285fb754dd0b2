r"""MCLMC: microcanonical Langevin dynamics, unadjusted: every proposal is taken, at the price of a bias.

Choose it at very large width, where accept/reject forces small steps: its bias is set by the energy error per
dimension, not by the dimension (docs/samplers.md has a measured table). Two gradients a transition: use ``thin=``.

Warm-up, one transition at a time: step size from the energy error E by inverting Var E ~ step^6 with a decaying
average (all of it); variances of the coordinates over its middle third, then preconditioned by them with L = sqrt(D).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ...core import checks
from .adaptation import as_type, like
from .kernel import Kernel

_TRUST = 1.5  # width, in logarithms of step^6, over which an energy error says something about the best step
_MEMORY = 149 / 151  # decay of that average: about 150 effective samples
_SHRINK = 0.8  # after a step that left the finite numbers


class MCLMCState(NamedTuple):
    """State of one chain: dynamics, tuning, and the running averages behind the tuning."""

    chain: Any
    step_size: jax.Array
    length: jax.Array  # L, over which the direction decoheres
    inverse_mass_matrix: jax.Array
    weight: jax.Array
    average: jax.Array  # of E^2 / (D v step^6)
    largest: jax.Array  # step below the last one that failed
    moments: Any  # Welford's state


@dataclass(frozen=True, kw_only=True)
class MCLMC(Kernel):
    """Options of the microcanonical Langevin kernel.

    Args:
        energy_variance: variance of the energy error per dimension that the warm-up tunes the step size to;
            smaller is less biased and slower.
        step_size: fixed step size instead of a tuned one, in units of the warm-up's scales.

    Raises:
        ValueError: an option out of range.

    Source: Robnik, De Luca, Silverstein and Seljak 2023, arXiv:2212.08549; BlackJAX ``mclmc``.
    """

    energy_variance: float = 5e-4
    step_size: float | None = None
    name: ClassVar[str] = "mclmc"

    def __post_init__(self):
        checks.positive("energy_variance", self.energy_variance)
        if self.step_size is not None:
            checks.positive("step_size", self.step_size)

    def init(self, setting, key, position):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen
        from blackjax.adaptation.mass_matrix import welford_algorithm

        chain = blackjax.mclmc.init(position, setting.log_density, key)
        flat = ravel_pytree(position)[0]
        number = lambda x: jnp.asarray(x, flat.dtype)  # noqa: E731
        root = number(flat.size**0.5)
        step = root / 4 if self.step_size is None else number(self.step_size)
        moments = jax.tree.map(lambda x: as_type(flat.dtype, x), welford_algorithm(True)[0](flat.size))
        return MCLMCState(chain, step, root, jnp.ones_like(flat), number(0), number(0), number(jnp.inf), moments)

    def step(self, setting, key, index, state):
        import blackjax  # not above: its import starts XLA, after which devices cannot be chosen

        chain, info = blackjax.mclmc.build_kernel()(
            key, state.chain, setting.log_density, state.inverse_mass_matrix, state.length, state.step_size
        )
        chain = like(state.chain, chain)
        stats = {
            "lp": chain.logdensity,
            "energy_error": info.energy_change,
            "n_steps": jnp.int32(2),
            "diverging": ~info.nonans,
            "step_size": state.step_size,
        }
        adapted = jax.lax.cond(
            index < setting.warmup, lambda: self._adapt(setting, index, state, chain, info), lambda: state
        )
        return adapted._replace(chain=chain), stats

    def _adapt(self, setting, index, state, chain, info):
        from blackjax.adaptation.mass_matrix import welford_algorithm

        _, add, finish = welford_algorithm(True)
        D = state.inverse_mass_matrix.size
        fine = info.nonans & jnp.isfinite(info.energy_change)
        error = jnp.where(fine, info.energy_change, 0.0)
        xi = error**2 / (D * self.energy_variance) + 1e-8
        weight = fine * jnp.exp(-0.5 * (jnp.log(xi) / (6 * _TRUST)) ** 2)
        total = _MEMORY * state.weight + weight
        average = _MEMORY * state.average + weight * xi / state.step_size**6
        largest = jnp.where(fine, state.largest, _SHRINK * state.step_size)
        step = jnp.where(total > 0, (average / jnp.maximum(total, 1e-30)) ** (-1 / 6), state.step_size)
        step = jnp.minimum(step, largest)

        first, last = setting.warmup // 3, 2 * setting.warmup // 3
        flat = ravel_pytree(chain.position)[0]
        moments = jax.lax.cond(
            (index >= first) & (index < last),
            lambda: like(state.moments, add(state.moments, flat)),
            lambda: state.moments,
        )
        ready = (index == last - 1) & (last - first >= 10)
        variances = finish(moments)[0]
        scale = jnp.where(ready, jnp.sqrt(jnp.mean(variances)), 1.0)  # a step in the old units, in the new ones
        new = state._replace(
            step_size=step / scale,
            inverse_mass_matrix=jnp.where(ready, variances, state.inverse_mass_matrix),
            weight=jnp.where(ready, 0.0, total),
            average=jnp.where(ready, 0.0, average),
            largest=jnp.where(ready, jnp.inf, largest),
            moments=moments,
        )
        if self.step_size is not None:
            new = new._replace(step_size=state.step_size)
        return like(state, new._replace(chain=state.chain))
