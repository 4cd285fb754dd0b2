r"""The posterior over all weights (docs/model.md, section 1), twice: as a NumPyro model to read and modify,
and as the hand-written log-density that the samplers differentiate; tests hold them equal.

    log p(Theta, y) = sum log N(Theta; 0, sigma^2) - sum_mu (f(x_mu) - y_mu)^2 / 2T - P/2 log(2 pi T)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from .network import Network, Weights, forward, path_weights


class WeightData(NamedTuple):
    """What the weight-space density needs of the data, as arrays that may be traced."""

    xi: Float[Array, "P N_0 H"]
    y: Float[Array, " P"]
    temperature: Float[Array, ""]


def model(network: Network, data: WeightData) -> None:
    """NumPyro model of the weights, with the likelihood at site ``y`` and the output at site ``f``."""
    weights = {
        name: numpyro.sample(name, dist.Normal(0.0, math.sqrt(variance)).expand(shape).to_event(len(shape)))
        for (name, shape), variance in zip(network.weight_shapes.items(), network.variances, strict=True)
    }
    f = numpyro.deterministic("f", forward(path_weights(weights), data.xi))
    numpyro.sample("y", dist.Normal(f, jnp.sqrt(data.temperature)).to_event(1), obs=data.y)


def log_density(network: Network, data: WeightData, weights: Weights) -> Float[Array, ""]:
    """log p(weights, y), natural logarithm, normalising constants included."""
    log_prior = sum(
        -0.5 * jnp.sum(weights[name] ** 2) / variance - 0.5 * math.prod(shape) * math.log(2 * math.pi * variance)
        for (name, shape), variance in zip(network.weight_shapes.items(), network.variances, strict=True)
    )
    residual = forward(path_weights(weights), data.xi) - data.y
    T = data.temperature
    return log_prior - 0.5 * jnp.sum(residual**2) / T - 0.5 * data.y.shape[0] * jnp.log(2 * math.pi * T)
