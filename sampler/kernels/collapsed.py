"""The collapsed sampler: NUTS on the exact law of the order parameters. The default, at any width.

A few numbers (14 for two layers of two heads) stand for all weights, so the cost per draw does not depend on N
or N_0. Chains start around the theory's saddle point, with the inverse Hessian there as dense metric; both only
shorten the warm-up, the draws are exact. Weights are lifted from each draw where they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ... import theory
from ...core import checks
from ...models import Network, Posterior, collapsed
from ...models.collapsed import CollapsedData, Layout
from ...models.lifting import lift
from ...models.network import forward, path_weights
from ...models.path_kernel import mean_path_weights
from ...theory.energy import derivative_data, hessian
from .. import schema
from ..targets import record_of_order_parameters
from . import window
from .kernel import Kernel, Target
from .nuts import transition


class CollapsedProblem(NamedTuple):
    """Data of the density, the inputs that lifting needs, and where chains start."""

    density: CollapsedData
    xi: jax.Array
    centre: jax.Array  # theta [D] at the saddle point
    covariance: jax.Array  # [D, D], inverse Hessian of -log density there
    spread: jax.Array  # [D, D], lower Cholesky factor of the covariance


@lru_cache
def _lifting_target(network: Network) -> Target:
    """The order parameters, with all weights lifted from each draw."""
    shape = collapsed.layout(network)
    lean = _lean_target(shape)

    def observe(data, test, position, key):
        record = lean.observe(data, test, position, key)
        weights = lift(network, shape, data.density, data.xi, key, position)
        B = path_weights(weights)
        record |= weights | {"path_weights": B}
        return record if test is None else record | {"f": forward(B, test)}

    return lean._replace(network=network, observe=observe)


@lru_cache
def _lean_target(shape: Layout) -> Target:
    """The order parameters in Bartlett coordinates: the same for all widths, so one compilation serves them all."""

    def observe(data, test, position, key):
        U = collapsed.order_parameters(shape, data.density.variances, position)
        record = record_of_order_parameters(U) | {"theta": position}
        if test is None:
            return record
        d = data.density
        B = mean_path_weights(U.U[0], d.kernel, data.xi, d.y, d.temperature, d.variances[0])
        return record | {"f_mean": forward(B, test)}

    return Target(
        name="order_parameters",
        network=None,
        data=lambda posterior, dtype: _problem(shape, posterior),
        initial=lambda data, key: data.centre + data.spread @ jax.random.normal(key, data.centre.shape),
        log_density=lambda data, position: collapsed.log_density(shape, data.density, position),
        observe=observe,
        lapack=True,
        metric_known=not shape.singular,
    )


def _problem(shape: Layout, posterior: Posterior) -> CollapsedProblem:
    density = posterior.collapsed_data()
    if shape.singular:  # no saddle point: start around M = I and let the warm-up find the metric
        centre = jnp.zeros(shape.size)
        covariance = np.eye(shape.size) / min(posterior.network.widths)
    else:
        centre = jnp.asarray(theory.solve(posterior).theta)
        parts = derivative_data(posterior.data.flat)
        values, vectors = np.linalg.eigh(np.asarray(_hessian(shape, density, parts, centre)))
        covariance = (vectors / np.abs(values)) @ vectors.T
    return CollapsedProblem(
        density, jnp.asarray(posterior.data.flat), centre, jnp.asarray(covariance), jnp.linalg.cholesky(covariance)
    )


@partial(jax.jit, static_argnums=0)
def _hessian(shape, density, parts, theta):
    """Of -log density."""
    return 0.5 * hessian(shape, density, parts, lambda t: -2 * collapsed.log_prior(shape, density.widths, t), theta)


@dataclass(frozen=True, kw_only=True)
class Collapsed(Kernel):
    """Options of the collapsed kernel.

    Args:
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        max_doublings: a trajectory has at most 2^max_doublings - 1 leapfrog steps.
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range.

    Source: docs/model.md, section 4; Hoffman and Gelman 2014 (NUTS).
    """

    target_acceptance: float = 0.75
    max_doublings: int = 8
    initial_step_size: float = 0.5
    name: ClassVar[str] = "collapsed"
    keep: ClassVar[str] = schema.ORDER_PARAMETERS_ONLY
    float64_only: ClassVar[bool] = True

    def __post_init__(self):
        window.check_adaptation(self)
        checks.count("max_doublings", self.max_doublings)

    def target(self, network: Network, weights: bool) -> Target:
        return _lifting_target(network) if weights else _lean_target(collapsed.layout(network))

    def init(self, setting, key, position):
        return window.start(self, setting, position, dense=True, inverse_mass_matrix=setting.data.covariance)

    def step(self, setting, key, index, number, state, shared):
        adapt_metric = not setting.target.metric_known
        return (*transition(self, setting, key, index, state, dense=True, adapt_metric=adapt_metric), ())
