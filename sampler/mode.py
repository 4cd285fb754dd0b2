r"""The mode of the collapsed density: one compiled program for all widths and temperatures.

In the coordinates s of ``models.collapsed.straightened`` and in units of the prior's standard deviations, Newton steps
are taken from the prior mean M = I, with a multiple of the identity added to the Hessian while a step does not lead
uphill (Levenberg 1944).
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..models import collapsed
from ..models.collapsed import CollapsedData, Layout
from ..theory.energy import derivatives

_STEPS = 200
_DECREMENT = 1e-16  # of the log-density still to be gained, relative to one: the mode is then known to 1e-8 deviations
_ROUNDING = 1e-12  # relative, of the log-density


class Mode(NamedTuple):
    """The mode, and what is known there.

    Attributes:
        s: coordinates [D].
        precision: Hessian of -log density [D, D].
        found: whether the search came to an end.
    """

    s: Array
    precision: Array
    found: Array


class _Place(NamedTuple):
    t: Array
    value: Array
    gradient: Array
    hessian: Array
    damping: Array
    step: Array
    done: Array


def log_density(shape: Layout, data: CollapsedData, s: Float[Array, " D"]) -> Float[Array, ""]:
    """Log-density of s."""
    return collapsed.straight_log_density(shape, partial(collapsed.log_density, shape, data), s)


@partial(jax.jit, static_argnums=0)
def mode(shape: Layout, data: CollapsedData, parts) -> Mode:
    """The mode of the collapsed density in s; ``parts`` from ``theory.energy.derivative_data``."""
    scales = prior_scales(shape, data.widths)
    centre = collapsed.straightened(shape, jnp.zeros(shape.size))
    at = lambda t: centre + scales * t  # noqa: E731
    value = lambda t: -log_density(shape, data, at(t))  # noqa: E731

    def step(place: _Place) -> _Place:
        matrix = place.hessian + place.damping * jnp.eye(shape.size)
        move = -jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(matrix), True), place.gradient)
        trial = place.t + move
        found = value(trial)
        better = found < place.value
        gain = -0.5 * place.gradient @ move
        small = _ROUNDING * (1 + jnp.abs(place.value))
        done = (place.step > 0) & ((gain < _DECREMENT) | (~better & (jnp.abs(gain) < small)))
        damping = jnp.where(better, jnp.where(place.damping > 1e-3, place.damping / 10, 0.0), 10 * place.damping + 0.1)
        gradient, hessian = jax.lax.cond(
            better, lambda: slopes(shape, data, parts, at, trial), lambda: (place.gradient, place.hessian)
        )
        t, least = jnp.where(better, trial, place.t), jnp.where(better, found, place.value)
        return _Place(t, least, gradient, hessian, damping, place.step + 1, done)

    zero, unit = jnp.zeros(shape.size), jnp.eye(shape.size)  # the first step is none: it compiles ``slopes`` once only
    first = _Place(zero, jnp.array(jnp.inf), zero, unit, jnp.zeros(()), jnp.array(0), jnp.array(False))
    last = jax.lax.while_loop(lambda p: ~p.done & (p.step < _STEPS), step, first)
    return Mode(at(last.t), last.hessian / scales / scales[:, None], last.done)


def prior_scales(shape: Layout, widths: Float[Array, " layers"]) -> Float[Array, " D"]:
    """Standard deviations of s under the prior, to leading order in the widths."""
    sizes = np.array([layer.size for layer in shape.layers])
    each = jnp.repeat(1 / widths[::-1], sizes, total_repeat_length=shape.size)
    return jnp.sqrt(jnp.where(collapsed.is_diagonal(shape), 2 / 9, 1.0) * each)


def slopes(shape: Layout, data: CollapsedData, parts, at, t: Float[Array, " D"]) -> tuple[Array, Array]:
    """Gradient [D] and Hessian [D, D] of -log density of s = at(t) in t, with a single factorisation."""

    def U_1(t):
        theta = collapsed.unstraightened(shape, at(t))
        return collapsed.order_parameters(shape, data.variances, theta).U[0]

    def upper(t):
        found = U_1(t)
        return found[np.triu_indices(len(found))]

    def prior(t):
        return -collapsed.straight_log_density(shape, partial(collapsed.log_prior, shape, data.widths), at(t))

    slope, curvature = derivatives(data, parts, U_1(t))
    rest = lambda t: prior(t) + 0.5 * slope @ upper(t)  # noqa: E731
    J = jax.jacfwd(upper)(t)
    return jax.grad(rest)(t), 0.5 * J.T @ curvature @ J + jax.hessian(rest)(t)
