r"""The posterior over all weights (docs/model.md, section 1), twice: as a NumPyro model to read and modify,
and as the hand-written log-density that the samplers differentiate; tests hold them equal.

    log p(Theta, y) = sum log N(Theta; 0, sigma^2) - sum_mu |f(x_mu) - y_mu|^2 / 2T - P m/2 log(2 pi T)

Sums run in float64 where that is enabled, whatever the precision of the weights: the difference of two log-densities
decides whether a proposal is accepted, and at a million weights float32 leaves it an error of order one tenth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .network import Network, Weights, forward, path_weights
from .reduction import constant


class WeightData(NamedTuple):
    """What the weight-space density needs of the data, as arrays that may be traced.

    Attributes:
        xi, y: inputs and labels, of pseudo-examples where the data are reduced (``models.reduction``).
        temperature: T.
        constants: of the reduction.
        examples: (inputs, labels) of the examples themselves, from which batches are drawn; None: ``xi`` and ``y``.
    """

    xi: Float[Array, "r N_0 H"]
    y: Float[Array, "r ..."]
    temperature: Float[Array, ""]
    constants: Float[Array, " 2"]
    examples: tuple[Float[Array, "P N_0 H"], Float[Array, "P ..."]] | None = None

    @property
    def batched(self) -> tuple[Float[Array, "P N_0 H"], Float[Array, "P ..."]]:
        """Inputs and labels that batches are drawn from."""
        return (self.xi, self.y) if self.examples is None else self.examples


def model(network: Network, data: WeightData) -> None:
    """NumPyro model of the weights, with the likelihood at site ``y`` and the output at site ``f``."""
    import numpyro  # not above: only this function needs it, and its import is slow
    import numpyro.distributions as dist

    weights = {
        name: numpyro.sample(name, dist.Normal(0.0, math.sqrt(variance)).expand(shape).to_event(len(shape)))
        for (name, shape), variance in zip(network.weight_shapes.items(), network.variances, strict=True)
    }
    f = numpyro.deterministic("f", forward(path_weights(weights, network.residual), data.xi))
    numpyro.sample("y", dist.Normal(f, jnp.sqrt(data.temperature)).to_event(f.ndim), obs=data.y)
    numpyro.factor("reduction", constant(data.constants, data.temperature))


def log_density(network: Network, data: WeightData, weights: Weights) -> Float[Array, ""]:
    """log p(weights, y), natural logarithm, normalising constants included."""
    return log_prior(network, weights) + log_likelihood(network, data, weights)


def estimate(network: Network, data: WeightData, weights: Weights, indices: Array) -> Float[Array, ""]:
    """Unbiased estimate of ``log_density`` from a batch of examples: the whole prior, P / B times their likelihood.

    Args:
        network, data, weights: as for ``log_density``.
        indices: examples of the batch [B], drawn uniformly.
    """
    xi, y = data.batched
    batch = WeightData(xi[indices], y[indices], data.temperature, jnp.zeros(2, y.dtype))
    return log_prior(network, weights) + len(y) / len(indices) * log_likelihood(network, batch, weights)


def log_prior(network: Network, weights: Weights) -> Float[Array, ""]:
    """log N(weights; 0, sigma^2) of the weights given, by name: any subset of the network's."""
    return sum(
        -0.5 * _square(weights[name]) / variance - 0.5 * math.prod(shape) * math.log(2 * math.pi * variance)
        for (name, shape), variance in zip(network.weight_shapes.items(), network.variances, strict=True)
        if name in weights
    )


def log_likelihood(network: Network, data: WeightData, weights: Weights) -> Float[Array, ""]:
    """log N(y; f, T I)."""
    residual = forward(path_weights(weights, network.residual), data.xi) - data.y
    T = data.temperature
    fit = -0.5 * _square(residual) / T - 0.5 * data.y.size * jnp.log(2 * math.pi * T)
    return fit + constant(data.constants, T)


def _square(x):
    """Sum of squares in the widest precision enabled."""
    return jnp.sum(x**2, dtype=jax.dtypes.canonicalize_dtype(jnp.float64))
