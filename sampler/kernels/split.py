"""Split HMC: the Gaussian part of the posterior is followed exactly, and only what is left of it is integrated.

Every transition costs the same few gradients in every chain, so none waits for another. It needs a good Gaussian
approximation, which the collapsed target has at most widths; ``collapsed`` chooses by itself whether
and how to move this way.

In the coordinates s = c + L z of the guide, log p(z) = -|z|^2 / 2 + r(z). A trajectory is a rotation of (z, p) by an
angle a, with n kicks p += (a / n) grad r(z) in the middle of n equal arcs. Both are reversible and preserve volume, so
that Metropolis' test makes the kernel exact. That holds for kicks by any other field too: with ``surrogate`` they come
from polynomials close to grad r (``sampler.surrogate``), and a transition costs one density and no gradient.

By a quarter turn the Gaussian alone makes an independent draw; by more, a draw that lies on the other side of the mode
rather than on this one, so that means are known better than from as many independent draws. Without kicks, a quarter
turn proposes independent draws from the Gaussian, and the statistic ``log_weight`` is log p - log q of what was
proposed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ...core import checks
from .kernel import LAST, Kernel

TURN, QUARTER = 110.0, 90.0  # degrees: the means of U were known best at 110 (docs/samplers.md)
_DIVERGED = 1000.0  # error in energy, as in Stan


class Place(NamedTuple):
    """Where a chain is, and its log-density."""

    position: jax.Array
    logdensity: jax.Array


class SplitState(NamedTuple):
    """State of one chain."""

    chain: Any


@dataclass(frozen=True, kw_only=True)
class SplitHMC(Kernel):
    """Options of the split HMC kernel.

    Args:
        kicks: number n of kicks, and of gradients, in a transition; with 0 the Gaussian alone proposes.
        turn: angle of the rotation in degrees, above 0 and below 180; 90 makes draws of the Gaussian independent.
        surrogate: kicks come from a polynomial that is fitted before the run, and cost no gradients.

    Raises:
        ValueError: an option out of range.

    Source: Shahbaba, Lan, Johnson and Neal 2014; Neal 2011, section 5.5.1.
    """

    kicks: int = 2
    turn: float = TURN
    surrogate: bool = False  # type: ignore[misc]
    name: ClassVar[str] = "split"
    statistics: ClassVar[Mapping[str, str]] = {"log_weight": LAST}
    needs: ClassVar[tuple[str, ...]] = ("differentiable", "guided", "straight")
    straight: ClassVar[bool] = True

    def __post_init__(self):
        checks.count("kicks", self.kicks, least=0)
        if not checks.positive("turn", self.turn) < 180:
            raise checks.InputError(f"turn={self.turn} is out of range: choose degrees in (0, 180), such as {TURN:g}")
        if not isinstance(self.surrogate, bool):
            raise checks.InputError(f"surrogate={checks.brief(self.surrogate)} must be True or False")

    def init(self, setting, key, position):
        return SplitState(Place(position, setting.log_density(position)))

    def step(self, setting, key, index, state):
        guide, old = setting.data.guide, state.chain
        key_momentum, key_accept = jax.random.split(key)
        z = guide.whitened(old.position)
        momentum = jax.random.normal(key_momentum, z.shape, z.dtype)

        def log_density(z):
            return setting.log_density(guide.position(z))

        def arc(_, at):
            z, p = _rotated(at[0], at[1], angle / 2)
            p = p + angle * (guide.surrogate.slope(z) if self.surrogate else jax.grad(log_density)(z) + z)
            return _rotated(z, p, angle / 2)

        turn = math.radians(self.turn)
        angle = turn / max(1, self.kicks)
        if self.kicks:
            proposal, p = jax.lax.fori_loop(0, self.kicks, arc, (z, momentum))
        else:
            proposal, p = (momentum, -z) if self.turn == QUARTER else _rotated(z, momentum, turn)
        logdensity = log_density(proposal)
        energy = 0.5 * momentum @ momentum - old.logdensity
        error = 0.5 * p @ p - logdensity - energy
        error = jnp.where(jnp.isnan(error), jnp.inf, error)
        rate = jnp.exp(jnp.minimum(0.0, -error))
        accepted = jax.random.uniform(key_accept, dtype=rate.dtype) < rate
        new = Place(guide.position(proposal), logdensity)
        chain = jax.tree.map(lambda x, y: jnp.where(accepted, x, y), new, old)
        stats = {
            "lp": chain.logdensity,
            "energy": energy + jnp.where(accepted, error, 0.0),
            "acceptance_rate": rate,
            "n_steps": jnp.asarray(self.kicks),
            "diverging": error > _DIVERGED,
        }
        if not self.kicks and self.turn == QUARTER:
            weight = logdensity + 0.5 * proposal @ proposal + guide.log_volume
            stats["log_weight"] = jnp.where(jnp.isnan(weight), -jnp.inf, weight)
        return SplitState(chain), stats


def _rotated(z, p, angle):
    """(z, p) after the harmonic oscillator has turned by an angle."""
    c, s = math.cos(angle), math.sin(angle)
    return c * z + s * p, c * p - s * z
