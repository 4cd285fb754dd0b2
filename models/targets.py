"""The targets of a network's posterior: all weights, all but V_0, and the order parameters alone.

``"weights"`` and ``"marginal"`` are spaces of weights by name; V_0 is integrated out of the second, which is far better
conditioned at low temperature, and drawn exactly for each record. ``"collapsed"`` is the space of Bartlett coordinates
theta [D] (``models.collapsed``); where weights are kept, they are lifted from each draw.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp

from . import blocks, collapsed, marginal, weight_space
from .collapsed import CollapsedData, Layout
from .lifting import lift
from .network import Network, draw_prior, forward, path_weights, summarise
from .records import describe
from .target import ORDER_PARAMETERS, Guide, Target


@lru_cache
def weights(network: Network) -> Target:
    """All weights; a chain starts from the prior."""

    def minibatch_gradient(data, position, indices):
        return jax.grad(lambda w: weight_space.estimate(network, data, w, indices))(position)

    return Target(
        name="weights",
        data=lambda posterior, dtype: posterior.weight_data(dtype),
        initial=lambda data, key: draw_prior(network, key, data.y.dtype),
        log_density=lambda data, position: weight_space.log_density(network, data, position),
        observe=lambda data, test, position, key: _record_of_weights(network, position, test),
        describe=describe,
        from_weights=lambda w: w,
        minibatch_gradient=minibatch_gradient,
        redraw_blocks=lambda data, key, position: blocks.redraw(network, data, key, position),
    )


@lru_cache
def without_first_layer(network: Network) -> Target:
    """All weights but V_0, which is integrated out and drawn from its exact conditional for each record."""

    def from_weights(w):
        return {name: value for name, value in w.items() if name != "V_0"}

    def observe(data, test, position, key):
        V_0 = marginal.draw_first_layer(network, data, key, position)
        return _record_of_weights(network, {"V_0": V_0} | position, test)

    return Target(
        name="marginal",
        data=lambda posterior, dtype: posterior.marginal_data(dtype),
        initial=lambda data, key: from_weights(draw_prior(network, key, data.dtype)),
        log_density=lambda data, position: marginal.log_density(network, data, position),
        observe=observe,
        describe=describe,
        from_weights=from_weights,
        lapack=True,
    )


class CollapsedTargetData(NamedTuple):
    """Data of the collapsed density, the inputs that lifting needs, and the Gaussian that chains start from."""

    density: CollapsedData
    xi: jax.Array
    guide: Guide | None = None


@lru_cache
def order_parameters(shape: Layout) -> Target:
    """The order parameters in Bartlett coordinates: the same for all widths, so that one compilation serves them."""

    def initial(data, key):
        return data.guide.position(jax.random.normal(key, (shape.size,)))

    def observe(data, test, position, key):
        U = collapsed.order_parameters(shape, data.density.variances, position)
        record = record_of_order_parameters(U) | {"theta": position}
        if test is None:
            return record
        B = data.density.term.mean_path_weights(U.U[0], data.xi)
        return record | {"f_mean": forward(B, test)}

    return _with_straight(
        shape,
        Target(
            name="collapsed",
            data=lambda posterior, dtype: CollapsedTargetData(
                posterior.collapsed_data(), jnp.asarray(posterior.reduction.data.flat)
            ),
            initial=initial,
            log_density=lambda data, position: collapsed.log_density(shape, data.density, position),
            observe=observe,
            describe=describe,
            keep=ORDER_PARAMETERS,
            from_recorded=lambda data, recorded: recorded["theta"],
            guided=True,
            metric_known=not shape.singular,
            float64_only=True,
            lapack=True,
        ),
    )


def _with_straight(shape: Layout, target: Target) -> Target:
    """A target over theta, with the same over s (``collapsed.straightened``), where there always is a mode."""

    def initial(data, key):
        s = target.initial(data, key)
        return jnp.where(collapsed.is_diagonal(shape), jnp.abs(s), s)

    def log_density(data, s):
        return collapsed.straight_log_density(shape, lambda theta: target.log_density(data, theta), s)

    def observe(data, test, s, key):
        return target.observe(data, test, collapsed.unstraightened(shape, s), key)

    return target._replace(straight=target._replace(initial=initial, log_density=log_density, observe=observe))


@lru_cache
def lifted(network: Network) -> Target:
    """The order parameters, with all weights lifted from each draw."""
    shape = collapsed.layout(network)
    lean = order_parameters(shape)

    def observe(data, test, position, key):
        record = lean.observe(data, test, position, key)
        found = lift(network, shape, data.density, data.xi, key, position)
        B = path_weights(found, network.residual)
        record |= found | {"path_weights": B}
        return record if test is None else record | {"f": forward(B, test)}

    return _with_straight(shape, lean._replace(observe=observe))


def _record_of_weights(network, w, test) -> dict:
    """Order parameters, path weights, all weights, and f on test inputs of one set of weights."""
    U, B = summarise(w, network.residual)
    record = record_of_order_parameters(U) | {"path_weights": B} | w
    return record if test is None else record | {"f": forward(B, test)}


def record_of_order_parameters(U) -> dict:
    """U_a and U_1 .. U_L by name."""
    return {"U_a": U.U_a} | {f"U_{l}": u for l, u in enumerate(U.U, start=1)}
