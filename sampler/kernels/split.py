"""Split HMC: the Gaussian part of the posterior is followed exactly, and only what is left of it is integrated.

Every transition costs the same few gradients in every chain, so none waits for another. It needs a good Gaussian
approximation, which the collapsed target has at all but the smallest widths; ``collapsed`` chooses by itself whether
and how to move this way.

In the coordinates s = c + L z of the guide, log p(z) = -|z|^2 / 2 + r(z). A trajectory is a rotation of (z, p) by a
quarter turn, which the Gaussian alone would make an independent draw, with n kicks p += (pi / 2n) grad r(z) in the
middle of n equal arcs. Both are reversible and preserve volume, so that Metropolis' test makes the kernel exact.
Without kicks the proposal is an independent draw from the Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ...core import checks
from ...models.collapsed import layout
from ...models.network import Network
from .kernel import Kernel

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
        kicks: number n of kicks, and of gradients, in a transition; with 0 the Gaussian proposes independent draws.

    Raises:
        ValueError: an option out of range.

    Source: Shahbaba, Lan, Johnson and Neal 2014; Neal 2011, section 5.5.1.
    """

    kicks: int = 2
    name: ClassVar[str] = "split"
    needs: ClassVar[tuple[str, ...]] = ("differentiable", "guided", "metric_known")
    straight: ClassVar[bool] = True

    def __post_init__(self):
        checks.count("kicks", self.kicks, least=0)

    def check(self, posterior):
        network = getattr(posterior, "network", None)
        if isinstance(network, Network) and layout(network).singular:
            raise checks.InputError(
                f"widths={network.widths}: kernel {self.name!r} moves around a mode, for which N_l must be at least "
                f"H_l .. H_L = {network.path_counts}: use gf.Collapsed(move='nuts'), or larger widths"
            )

    def init(self, setting, key, position):
        return SplitState(Place(position, setting.log_density(position)))

    def step(self, setting, key, index, state):
        guide, old = setting.data.guide, state.chain
        key_momentum, key_accept = jax.random.split(key)
        z = jax.scipy.linalg.solve_triangular(guide.spread, old.position - guide.centre, lower=True)
        momentum = jax.random.normal(key_momentum, z.shape, z.dtype)

        def log_density(z):
            return setting.log_density(guide.centre + guide.spread @ z)

        def arc(_, at):
            z, p = _rotated(at[0], at[1], angle / 2)
            p = p + angle * (jax.grad(log_density)(z) + z)
            return _rotated(z, p, angle / 2)

        if self.kicks:
            angle = math.pi / 2 / self.kicks
            proposal, p = jax.lax.fori_loop(0, self.kicks, arc, (z, momentum))
        else:
            proposal, p = momentum, -z
        logdensity = log_density(proposal)
        energy = 0.5 * momentum @ momentum - old.logdensity
        error = 0.5 * p @ p - logdensity - energy
        error = jnp.where(jnp.isnan(error), jnp.inf, error)
        rate = jnp.exp(jnp.minimum(0.0, -error))
        accepted = jax.random.uniform(key_accept, dtype=rate.dtype) < rate
        new = Place(guide.centre + guide.spread @ proposal, logdensity)
        chain = jax.tree.map(lambda x, y: jnp.where(accepted, x, y), new, old)
        return SplitState(chain), {
            "lp": chain.logdensity,
            "energy": energy + jnp.where(accepted, error, 0.0),
            "acceptance_rate": rate,
            "n_steps": jnp.asarray(self.kicks),
            "diverging": error > _DIVERGED,
        }


def _rotated(z, p, angle):
    """(z, p) after the harmonic oscillator has turned by an angle."""
    c, s = math.cos(angle), math.sin(angle)
    return c * z + s * p, c * p - s * z
