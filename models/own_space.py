r"""The target of a model of the user's own (``gf.Model``): all of its weights, with what is recorded of each draw.

    log p(w, y) = log prior(w) - sum_mu |f(x_mu; w) - y_mu|^2 / 2T - P m/2 log(2 pi T)

As for the weight space of a network, sums run in float64 where that is enabled, whatever the precision of the weights.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .own import Model, Weights, axes
from .target import MONITORED, PREDICTION, WEIGHT, Records, Target, Variable

_SHOWN = 8  # training examples whose f is recorded
_AT_ONCE = 4  # draws whose outputs are computed side by side
_FACTORISATION = re.compile(r"= (cholesky|lu|eigh?|geqrf|householder_product|schur|svd|triangular_solve)\b")


class OwnData(NamedTuple):
    """What the density of a model needs of the data.

    Attributes:
        x: inputs [P, ..].
        y: labels [P] or [P, m], as the model sees them.
        temperature: T.
    """

    x: Array
    y: Array
    temperature: Float[Array, ""]

    @property
    def batched(self) -> tuple[Array, Array]:
        """Inputs and labels that batches are drawn from."""
        return self.x, self.y


def log_density(model: Model, data: OwnData, weights: Weights) -> Float[Array, ""]:
    """log p(weights, y), natural logarithm; normalised where the prior is."""
    return model.prior_density(weights) + log_likelihood(model, data, weights)


def log_likelihood(model: Model, data: OwnData, weights: Weights) -> Float[Array, ""]:
    """log N(y; f, T I)."""
    T = data.temperature
    misfit = jnp.sum((model.outputs(weights, data.x) - data.y) ** 2, dtype=jax.dtypes.canonicalize_dtype(jnp.float64))
    return -0.5 * misfit / T - 0.5 * data.y.size * jnp.log(2 * jnp.pi * T)


def estimate(model: Model, data: OwnData, weights: Weights, indices: Array) -> Float[Array, ""]:
    """Unbiased estimate of ``log_density`` from a batch of examples: the whole prior, P / B times their likelihood."""
    batch = OwnData(data.x[indices], data.y[indices], data.temperature)
    return model.prior_density(weights) + len(data.y) / len(indices) * log_likelihood(model, batch, weights)


@lru_cache
def space(model: Model, lapack: bool) -> Target:
    """All weights of a model; a chain starts from the prior."""

    def observe(data, test, position, key):
        f = model.outputs(position, data.x)
        record = dict(position) | {"training_error": jnp.mean((f - data.y) ** 2), "f_train": f[shown(len(data.y))]}
        if model.observables is not None:
            record |= {name: jnp.asarray(each) for name, each in model.observables(position).items()}
        return record if test is None else record | {"f": model.outputs(position, test)}

    return Target(
        name="weights",
        data=lambda posterior, dtype: posterior.weight_data(dtype),
        initial=lambda data, key: model.draw(key, data.y.dtype),
        log_density=partial(log_density, model),
        observe=observe,
        describe=describe,
        from_weights=lambda w: w,
        minibatch_gradient=lambda data, w, indices: jax.grad(lambda w: estimate(model, data, w, indices))(w),
        lapack=lapack,
    )


def shown(examples: int) -> np.ndarray:
    """Training examples whose f is recorded: at most ``_SHOWN``, evenly spaced."""
    return np.linspace(0, examples - 1, min(examples, _SHOWN)).round().astype(int)


def describe(posterior, test_examples: int) -> Records:
    """Records of the target of a model's posterior, statistics of the kernel aside."""
    model, outputs = posterior.model, posterior.y.shape[1:]
    each = ("output",) * len(outputs)
    described, lengths = {}, dict[str, int]()
    for role, shapes in ((MONITORED, model.observable_shapes), (WEIGHT, model.shapes)):
        for name, shape in shapes.items():
            described[name] = Variable("posterior", axes(name, shape), role)
            lengths |= dict(zip(axes(name, shape), shape, strict=True))
    described["training_error"] = Variable("posterior", (), MONITORED)
    described["f_train"] = Variable("posterior", ("train_example", *each), MONITORED)
    described["f"] = Variable("posterior_predictive", ("test_example", *each), PREDICTION)
    labels = {name: np.arange(n) for name, n in lengths.items()} | {"test_example": np.arange(test_examples)}
    labels |= {"train_example": shown(len(posterior.y)), "output": np.arange(*outputs or (0,))}
    return Records(described, labels)


@partial(jax.jit, static_argnums=0)
def value_and_gradient(model: Model, data: OwnData, weights: Weights):
    """(f, log-density, its gradient by name) at one set of weights."""
    value, gradient = jax.value_and_grad(lambda w: log_density(model, data, w))(weights)
    return model.outputs(weights, data.x), value, gradient


@partial(jax.jit, static_argnums=0)
def outputs(model: Model, x, weights: Weights):
    """f [n, P] or [n, P, m] of many sets of weights [n, ..]."""
    return jax.lax.map(lambda w: model.outputs(w, x), weights, batch_size=_AT_ONCE)


def factorises(model: Model, data: OwnData) -> bool:
    """Whether the density factorises matrices, as far as can be told from its operations."""
    found = jax.make_jaxpr(partial(log_density, model))(data, model.abstract(data.y.dtype))
    return _FACTORISATION.search(str(found)) is not None
