"""The spaces that kernels over weights explore, each a ``Target`` built once per network."""

from __future__ import annotations

from functools import lru_cache

import jax

from ..core import checks
from ..models import Network, marginal, weight_space
from ..models.network import draw_prior, forward, summarise
from .kernels.kernel import Target

SPACES = ("marginal", "weights")


def of_weights(network: Network, space: str) -> Target:
    """The target of a gradient-based kernel: ``"weights"``, or ``"marginal"`` with V_0 integrated out."""
    return {"weights": weights, "marginal": without_first_layer}[checks.nearest("space", space, SPACES)](network)


@lru_cache
def weights(network: Network) -> Target:
    """All weights; a chain starts from the prior."""

    def minibatch_gradient(data, position, indices):
        return jax.grad(lambda w: weight_space.estimate(network, data, w, indices))(position)

    return Target(
        name="weights",
        network=network,
        data=lambda posterior, dtype: posterior.weight_data(dtype),
        initial=lambda data, key: draw_prior(network, key, data.y.dtype),
        log_density=lambda data, position: weight_space.log_density(network, data, position),
        observe=lambda data, test, position, key: record_of_weights(position, test),
        from_weights=lambda w: w,
        minibatch_gradient=minibatch_gradient,
    )


@lru_cache
def without_first_layer(network: Network) -> Target:
    """All weights but V_0, which is integrated out and drawn from its exact conditional for each record."""

    def from_weights(w):
        return {name: value for name, value in w.items() if name != "V_0"}

    def observe(data, test, position, key):
        V_0 = marginal.draw_first_layer(network, data, key, position)
        return record_of_weights({"V_0": V_0} | position, test)

    return Target(
        name="marginal",
        network=network,
        data=lambda posterior, dtype: posterior.marginal_data(dtype),
        initial=lambda data, key: from_weights(draw_prior(network, key, data.dtype)),
        log_density=lambda data, position: marginal.log_density(network, data, position),
        observe=observe,
        from_weights=from_weights,
        lapack=True,
    )


def record_of_weights(w, test) -> dict:
    """Order parameters, path weights, all weights, and f on test inputs of one set of weights."""
    U, B = summarise(w)
    record = record_of_order_parameters(U) | {"path_weights": B} | w
    return record if test is None else record | {"f": forward(B, test)}


def record_of_order_parameters(U) -> dict:
    """U_a and U_1 .. U_L by name."""
    return {"U_a": U.U_a} | {f"U_{l}": u for l, u in enumerate(U.U, start=1)}
