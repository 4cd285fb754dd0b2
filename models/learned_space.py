r"""The targets of a network with learned attention: queries and keys with order parameters, or with weights.

    log p(z, theta, y) = log N(z; 0, 1) + log p(theta) + log N(y; 0, sigma_0^2 K(U_1(theta), xi(Q, K)) + T I)

with Q, K = mean + sd z (docs/model.md, section 13). The gradient in xi is that of ``gaussian.log_likelihood``, in
closed form, and goes on through contraction and softmax. ``"marginal"`` and ``"weights"`` have the densities of
``models.marginal`` and ``models.weight_space`` with xi(Q, K) for their inputs. Positions are in units of prior standard
deviations: z of queries and keys, and sqrt(N_l) theta of layer l.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
from jaxtyping import Array, Float

from . import collapsed, marginal, records, weight_space
from .collapsed import CollapsedData
from .contraction import contract_patterns
from .learned import PATTERNS
from .lifting import lift
from .network import Network, draw_prior, forward, path_weights, summarise
from .own_space import shown
from .path_kernel import PathKernel
from .target import MONITORED, ORDER_PARAMETERS, STATE, Records, Target, Variable
from .targets import record_of_order_parameters


class Inputs(NamedTuple):
    """Sequences on the device.

    Attributes:
        x: [P, N_0, S].
        mask: [P, S], True for tokens; None without padding.
        read: weights of the tokens that are read [P, S], where they differ between sequences; else None.
    """

    x: Array
    mask: Array | None
    read: Array | None

    def of(self, examples) -> Inputs:
        """Some of the examples."""
        mask, read = (None if part is None else part[examples] for part in self[1:])
        return Inputs(self.x[examples], mask, read)


class LearnedData(NamedTuple):
    """What the densities need, as arrays that may be traced.

    Attributes:
        inputs: sequences of the training set.
        y: labels [P] or [P, m].
        temperature: T.
        widths: N_1, .., N_{L+1}.
        variances: sigma_0^2, .., sigma_L^2, sigma_a^2.
        means: prior means of queries and keys [H_l, G, N_0] by name.
        deviations: their prior standard deviations.
    """

    inputs: Inputs
    y: Array
    temperature: Array
    widths: Array
    variances: Array
    means: dict[str, Array]
    deviations: dict[str, Array]

    @property
    def batched(self) -> tuple[Inputs, Array]:
        """Inputs and labels that batches are drawn from."""
        return self.inputs, self.y


class Form(NamedTuple):
    """What a program is compiled for, besides the shapes of arrays: network, patterns, and readout."""

    network: Network
    kind: str
    causal: bool
    readout: str

    @property
    def names(self) -> list[str]:
        """Names of queries and keys."""
        return [f"{name}_{l}" for l in range(1, self.network.depth + 1) for name in "QK"]

    def patterns(self, inputs: Inputs, heads: dict[str, Array]) -> list[Float[Array, "P H S S"]]:
        """Attention of every layer, bottom layer first."""
        pattern = PATTERNS[self.kind]
        return [
            pattern(inputs.x, heads[f"Q_{l}"], heads[f"K_{l}"], causal=self.causal, mask=inputs.mask)
            for l in range(1, self.network.depth + 1)
        ]

    def contracted(self, inputs: Inputs, patterns) -> Float[Array, "P N_0 paths"]:
        """xi under these patterns."""
        xi = contract_patterns(inputs.x, patterns, self.readout, self.network.residual, inputs.read)
        return xi.reshape(*xi.shape[:2], -1)

    def xi(self, inputs: Inputs, heads: dict[str, Array]) -> Float[Array, "P N_0 paths"]:
        """xi(Q, K)."""
        return self.contracted(inputs, self.patterns(inputs, heads))


def heads_at(data: LearnedData, z: dict[str, Array]) -> dict[str, Array]:
    """Queries and keys by name at z, which may have leading axes."""
    return {name: mean + data.deviations[name] * z[name] for name, mean in data.means.items()}


def whitened(data: LearnedData, heads: dict[str, Array]) -> dict[str, Array]:
    """z at queries and keys: the inverse of ``heads_at``."""
    return {name: (heads[name] - mean) / data.deviations[name] for name, mean in data.means.items()}


def density_data(form: Form, data: LearnedData, xi) -> CollapsedData:
    """Data of the collapsed density given xi."""
    P, _, H = xi.shape
    kernel = PathKernel(None, xi, P, H, form.network.outputs)
    return CollapsedData(kernel, data.y, data.temperature, data.widths, data.variances, jnp.zeros(2))


def log_prior(data: LearnedData, z: dict[str, Array]) -> Float[Array, ""]:
    """log N(z; 0, 1), of queries and keys."""
    wide = jax.dtypes.canonicalize_dtype(jnp.float64)
    return sum(-0.5 * jnp.sum(z[n] ** 2, dtype=wide) - 0.5 * z[n].size * math.log(2 * math.pi) for n in data.means)  # type: ignore[return-value]


def scales(shape: collapsed.Layout, widths: Float[Array, " layers"]) -> Float[Array, " D"]:
    """1 / sqrt(N) of each coordinate: theta in units of which a position is."""
    sizes = np.array([layer.size for layer in shape.layers])
    return jnp.repeat(1 / jnp.sqrt(widths[::-1]), sizes, total_repeat_length=shape.size)


@partial(jax.jit, static_argnums=0)
def predictor(form: Form, data: LearnedData, test: Inputs, recorded: dict[str, Array]):
    """(mean, variance) [n, Q] or [n, Q, m] of f on test inputs given each of n draws, U_1 or path weights known."""

    def one(recorded):
        heads = {name: recorded[name] for name in form.names}
        xi_test = form.xi(test, heads)
        if "path_weights" in recorded:
            f = forward(recorded["path_weights"], xi_test)
            return f, jnp.zeros_like(f)
        xi = form.xi(data.inputs, heads)
        mean, covariance = density_data(form, data, xi).term.predictor(recorded["U_1"], xi, xi_test)
        return mean, covariance if mean.ndim == 1 else jnp.diagonal(covariance, axis1=1, axis2=2)

    return jax.lax.map(one, recorded)


@lru_cache
def order_parameters(form: Form, with_weights: bool) -> Target:
    """Queries, keys and order parameters, all value weights integrated out; lifted where weights are kept."""
    shape = collapsed.layout(form.network)

    def theta_of(data, position):
        return scales(shape, data.widths) * position["theta"]

    def initial(data, key):
        key_theta, key_heads = jax.random.split(key)
        # near the prior: the logarithm of a chi variable of N degrees of freedom has a variance of about 1 / 2N
        spread = jnp.where(collapsed.is_diagonal(shape), math.sqrt(0.5), 1.0)
        theta = spread * jax.random.normal(key_theta, (shape.size,), data.y.dtype)
        return _draw_heads(data, key_heads) | {"theta": theta}

    def log_density(data, position):
        term = density_data(form, data, form.xi(data.inputs, heads_at(data, position)))
        jacobian = jnp.sum(jnp.log(scales(shape, data.widths)))
        return log_prior(data, position) + jacobian + collapsed.log_density(shape, term, theta_of(data, position))

    def observe(data, test, position, key):
        heads, theta = heads_at(data, position), theta_of(data, position)
        record, xi = _record_of_heads(form, data, heads)
        density = density_data(form, data, xi)
        U = collapsed.order_parameters(shape, data.variances, theta)
        mean = density.term.mean_path_weights(U.U[0], xi)
        record |= record_of_order_parameters(U) | {"theta": theta}
        record["f_train_mean"] = forward(mean, xi[shown(len(xi))])
        outputs = {"f_mean": mean}
        if with_weights:
            found = lift(form.network, shape, density, xi, key, theta)
            outputs["f"] = path_weights(found, form.network.residual)
            record |= found | {"path_weights": outputs["f"]}
        if test is None:
            return record
        xi_test = form.xi(test, heads)
        return record | {name: forward(B, xi_test) for name, B in outputs.items()}

    def from_state(data, recorded):
        z = whitened(data, recorded)
        first = next(iter(z.values()))
        theta = recorded.get("theta", jnp.zeros((*first.shape[:-3], shape.size), first.dtype))
        return z | {"theta": theta / scales(shape, data.widths)}

    return Target(
        name="collapsed",
        data=lambda posterior, dtype: posterior.device_data("float64"),
        initial=initial,
        log_density=log_density,
        observe=observe,
        describe=describe,
        keep=ORDER_PARAMETERS,
        from_recorded=from_state,
        starts=tuple(form.names),
        float64_only=True,
        lapack=True,
    )


@lru_cache
def with_weights(form: Form, marginalised: bool) -> Target:
    """Queries, keys and all weights; or all but V_0, which is then drawn from its conditional for each record."""
    network = form.network
    own = [name for name in network.weight_shapes if not (marginalised and name == "V_0")]

    def marginal_data(data, xi):
        return marginal.MarginalData(density_data(form, data, xi), xi, data.y.dtype)

    def initial(data, key):
        key_weights, key_heads = jax.random.split(key)
        weights = draw_prior(network, key_weights, data.y.dtype)
        return _draw_heads(data, key_heads) | {name: weights[name] for name in own}

    def density(data, position):
        weights = {name: position[name] for name in own}
        xi = form.xi(data.inputs, heads_at(data, position))
        if marginalised:
            return log_prior(data, position) + marginal.log_density(network, marginal_data(data, xi), weights)
        given = weight_space.WeightData(xi, data.y, data.temperature, jnp.zeros(2, data.y.dtype))
        return log_prior(data, position) + weight_space.log_density(network, given, weights)

    def observe(data, test, position, key):
        heads = heads_at(data, position)
        record, xi = _record_of_heads(form, data, heads)
        weights = {name: position[name] for name in own}
        if marginalised:
            weights["V_0"] = marginal.draw_first_layer(network, marginal_data(data, xi), key, weights)
        U, B = summarise(weights, network.residual)
        record |= record_of_order_parameters(U) | {"path_weights": B} | weights
        record["f_train"] = forward(B, xi[shown(len(xi))])
        return record if test is None else record | {"f": forward(B, form.xi(test, heads))}

    def minibatch_gradient(data, position, indices):
        batch = data._replace(inputs=data.inputs.of(indices), y=data.y[indices])

        def estimate(position):
            weights = {name: position[name] for name in own}
            prior = log_prior(data, position) + weight_space.log_prior(network, weights)
            xi = form.xi(batch.inputs, heads_at(data, position))
            given = weight_space.WeightData(xi, batch.y, data.temperature, jnp.zeros(2, data.y.dtype))
            return prior + len(data.y) / len(indices) * weight_space.log_likelihood(network, given, weights)

        return jax.grad(estimate)(position)

    return Target(
        name="marginal" if marginalised else "weights",
        data=lambda posterior, dtype: posterior.device_data("float64" if marginalised else dtype),
        initial=initial,
        log_density=density,
        observe=observe,
        describe=describe,
        from_recorded=lambda data, recorded: whitened(data, recorded) | {name: recorded[name] for name in own},
        starts=(*form.names, *own),
        minibatch_gradient=None if marginalised else minibatch_gradient,
        float64_only=marginalised,
        lapack=marginalised,
    )


def _draw_heads(data: LearnedData, key) -> dict[str, Array]:
    """z of the prior."""
    names = sorted(data.means)  # the order that a dictionary has inside compiled functions
    keys = jax.random.split(key, len(names))
    return {n: jax.random.normal(k, data.means[n].shape, data.y.dtype) for k, n in zip(keys, names, strict=True)}


def _record_of_heads(form: Form, data: LearnedData, heads) -> tuple[dict[str, Array], Array]:
    """Queries, keys and the entropies of their patterns; and xi of the training set."""
    patterns = form.patterns(data.inputs, heads)
    record = dict(heads)
    if form.kind == "softmax":
        for l, a in enumerate(patterns, start=1):
            record[f"entropy_{l}"] = entropy(form, data.inputs, a, top=l == form.network.depth)
    return record, form.contracted(data.inputs, patterns)


def entropy(form: Form, inputs: Inputs, a: Float[Array, "P H S S"], top: bool) -> Float[Array, " H"]:
    """Entropy of each head in nats, mean over examples and target tokens, in the top layer over those that are read."""
    P, _, S, _ = a.shape
    if top and inputs.read is not None:
        weights = inputs.read
    elif top and form.readout != "mean":
        weights = jnp.zeros((P, S)).at[:, -1 if form.readout == "last" else 0].set(1.0)
    else:
        tokens = jnp.ones((P, S)) if inputs.mask is None else inputs.mask
        weights = tokens / tokens.sum(1, keepdims=True)
    return jnp.einsum("pht,pt->h", special.entr(a).sum(2), weights.astype(a.dtype)) / P


def describe(posterior, test_examples: int) -> Records:
    """Records of every target, statistics of the kernel aside."""
    network, attention, classes = posterior.network, posterior.attention, posterior.classes or ()
    described = records.variables(network)
    labels = records.labels(network, posterior.path_names, test_examples, classes)
    output = ("output",) if network.outputs > 1 else ()
    for l in range(1, network.depth + 1):
        described |= {f"{name}_{l}": Variable("posterior", (f"head_{l}", "query", "input"), STATE) for name in "QK"}
        described[f"entropy_{l}"] = Variable("posterior", (f"head_{l}",), MONITORED)
    for name in ("f_train", "f_train_mean"):
        described[name] = Variable("posterior", ("train_example", *output), MONITORED)
    labels |= {"query": np.arange(attention.width), "train_example": shown(posterior.examples)}
    return Records(described, labels)
