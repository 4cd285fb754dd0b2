"""What tempered sequential Monte Carlo integrates: a prior to draw from and a likelihood, over flat vectors theta [D].

A problem is what programs are compiled for; arrays that may change without a compilation are its data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..core import checks
from ..models import LearnedPosterior, Model, ModelPosterior, Posterior, collapsed, learned_space, own_space
from ..models.collapsed import Layout
from ..models.learned_space import Form

_ACTIVATIONS = 64  # numbers that a forward pass of a user's own is taken to hold for each label


class Problem(Protocol):
    """Hashable; ``data`` is whatever ``problem_of`` gave beside it."""

    def refuse(self, data) -> None:
        """Say what is wrong where the likelihood is not finite at a draw of the prior."""

    def draw_prior(self, data, rng: np.random.Generator, draws: int) -> Any:
        """Exact draws [draws, D] of the prior."""

    def log_prior(self, data, theta):
        """Its log-density at theta [D], up to a constant."""

    def log_likelihood(self, data, theta):
        """log p(y | theta), all constants kept."""


class Bound(NamedTuple):
    """A problem with its data, and the rows of a square matrix as large as what its likelihood needs at a time."""

    problem: Problem
    data: Any
    rows: int


@singledispatch
def problem_of(posterior) -> Bound:
    """The problem whose evidence is that of a posterior; it belongs inside ``core.numerics.numerics()``."""
    raise TypeError(type(posterior).__name__)


@dataclass(frozen=True)
class OrderParameters:
    """theta of ``models.collapsed``: one program for all widths, temperatures and variances."""

    shape: Layout

    def refuse(self, data):
        raise checks.InputError(
            f"temperature={float(data.temperature):g} leaves K + T I not positive definite in float64 at some draws of "
            "the prior: raise it"
        )

    def draw_prior(self, data, rng, draws):
        return collapsed.draw_prior(self.shape, data.widths, rng, draws)

    def log_prior(self, data, theta):
        return collapsed.log_prior(self.shape, data.widths, theta)

    def log_likelihood(self, data, theta):
        U_1 = collapsed.order_parameters(self.shape, data.variances, theta).U[0]
        return data.term.log_likelihood(U_1)


@problem_of.register
def _(posterior: Posterior) -> Bound:
    shape = collapsed.layout(posterior.network)
    return Bound(OrderParameters(shape), posterior.collapsed_data(), posterior.reduction.y.size)


@dataclass(frozen=True)
class Learned:
    """Queries and keys in units of their prior, then theta: all value weights integrated out."""

    form: Form

    @property
    def shape(self) -> Layout:
        """Of theta."""
        return collapsed.layout(self.form.network)

    def refuse(self, data):
        OrderParameters(self.shape).refuse(data)

    def draw_prior(self, data, rng, draws):
        heads = sum(mean.size for mean in data.means.values())
        theta = collapsed.draw_prior(self.shape, data.widths, rng, draws)
        return np.concatenate([rng.standard_normal((draws, heads)), theta], axis=1)

    def log_prior(self, data, theta):
        z, theta = self._split(data, theta)
        return learned_space.log_prior(data, z) + collapsed.log_prior(self.shape, data.widths, theta)

    def log_likelihood(self, data, theta):
        z, theta = self._split(data, theta)
        xi = self.form.xi(data.inputs, learned_space.heads_at(data, z))
        given = learned_space.density_data(self.form, data, xi)
        return given.term.log_likelihood(collapsed.order_parameters(self.shape, data.variances, theta).U[0])

    def _split(self, data, theta):
        heads, unravel = ravel_pytree(data.means)
        return unravel(theta[: len(heads)]), theta[len(heads) :]


@problem_of.register
def _(posterior: LearnedPosterior) -> Bound:
    P, _, S = posterior.x.x.shape
    rows = max(posterior.y.size, math.isqrt(P * S**2 * sum(posterior.network.heads)))
    return Bound(Learned(posterior.form), posterior.device_data("float64"), rows)


@dataclass(frozen=True)
class ModelWeights:
    """All weights of a ``gf.Model``, one after another."""

    model: Model

    def refuse(self, data):
        raise checks.InputError(
            "forward leaves the likelihood not finite at some draws of the prior: make it finite there, perhaps by "
            "smaller variances"
        )

    def draw_prior(self, data, rng, draws):
        keys = jax.random.split(jax.random.key(rng.integers(2**31)), draws)
        drawn = jax.vmap(lambda key: ravel_pytree(self.model.draw(key, data.y.dtype))[0])(keys)
        if np.any(np.all(np.asarray(drawn) == np.asarray(drawn[0]), axis=0)):
            raise checks.InputError(
                "draw_prior gives some entries the same value at every key: make it draw all of them from log_prior"
            )
        return drawn

    def log_prior(self, data, theta):
        return self.model.prior_density(self._weights(theta))

    def log_likelihood(self, data, theta):
        return own_space.log_likelihood(self.model, data, self._weights(theta))

    def _weights(self, theta):
        zeros = {name: jnp.zeros(shape, theta.dtype) for name, shape in self.model.shapes.items()}
        return ravel_pytree(zeros)[1](theta)


@problem_of.register
def _(posterior: ModelPosterior) -> Bound:
    rows = math.isqrt(_ACTIVATIONS * posterior.y.size)
    return Bound(ModelWeights(posterior.model), posterior.weight_data("float64"), rows)
