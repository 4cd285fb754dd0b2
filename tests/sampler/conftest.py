"""What the statistical tests of the samplers share: z-scores of two runs, and the joint-distribution test.

The joint-distribution test (Geweke 2004) starts many chains at exact draws of (unknowns, y) from prior and likelihood
and alternates a transition of the kernel under test given y with a new y given the unknowns. Both leave the joint
law alone, so at every step the unknowns have the prior's moments, which are known in closed form. Chains are
independent: the standard error of a mean over time and chains comes from its spread between chains.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import gibbsformer as gf
from gibbsformer.models import collapsed, learned_space, lifting
from gibbsformer.models.network import forward, order_parameters, path_weights
from gibbsformer.models.target import Guide
from gibbsformer.models.targets import CollapsedTargetData
from gibbsformer.sampler.kernels.kernel import Setting
from gibbsformer.sampler.surrogate import Surrogate

STANDARD_ERRORS = 4  # of a Monte Carlo mean: 6e-5 of normal draws are farther out; seeds are fixed
VARIANCES = (0.7, 1.3, 0.9, 1.1)
CASES = {
    "one layer": {"heads": (2,), "widths": (4, 3), "variances": VARIANCES[:3]},
    "two layers": {"heads": (2, 3), "widths": (7, 4, 5), "variances": VARIANCES},
    "three layers": {"heads": (2, 1, 2), "widths": (5, 3, 4, 3), "variances": (*VARIANCES, 0.8)},
    "singular": {"heads": (2, 3), "widths": (3, 2, 4), "variances": VARIANCES},  # both widths below the paths
    "outputs": {"heads": (2, 1), "widths": (9, 4, 5), "variances": VARIANCES, "outputs": 2},
    "outputs, singular": {"heads": (2, 3), "widths": (3, 2, 1), "variances": VARIANCES, "outputs": 2},
    "skip below": {"heads": (2, 1), "widths": (5, 5, 3), "variances": VARIANCES, "residual": (0.8, 0)},
    "skip above": {"heads": (1, 2), "widths": (3, 4, 4), "variances": VARIANCES, "residual": (0, 1.2)},
    "skips": {"heads": (2, 1), "widths": (8, 8, 8), "variances": VARIANCES, "residual": (0.8, 1.2)},
    "skip, three layers": {
        "heads": (1, 1, 2), "widths": (4, 4, 4, 2), "variances": (*VARIANCES, 0.8), "residual": (1, 1, 0),
    },
    "skip, N - r = 0": {"heads": (2,), "widths": (1, 1), "variances": VARIANCES[:3], "residual": True},
    "skip, N - r = 1": {"heads": (2,), "widths": (2, 2), "variances": VARIANCES[:3], "residual": True},
    "skip, outputs": {"heads": (1,), "widths": (3, 3), "variances": VARIANCES[:3], "residual": True, "outputs": 2},
}  # fmt: skip


class Estimate(NamedTuple):
    """Means, their Monte Carlo standard errors and effective sample sizes, by entry of a flat array."""

    mean: np.ndarray
    error: np.ndarray
    ess: np.ndarray


@pytest.fixture(scope="session")
def estimate() -> Callable[[np.ndarray], Estimate]:
    """samples [chain, draw, ..] -> Estimate. The ESS is that of the mean: variance over squared standard error."""

    def estimate(samples):
        samples = np.asarray(samples, np.float64).reshape(*np.shape(samples)[:2], -1)
        found = gf.diagnostics.moments(samples)
        return Estimate(found["mean"], found["mcse"], samples.var((0, 1)) / found["mcse"] ** 2)

    return estimate


@pytest.fixture(scope="session")
def assert_within() -> Callable[..., None]:
    """(z, limit, what) -> None: every |z| lies below the limit, or the message says which do not."""

    def assert_within(z, what, limit=STANDARD_ERRORS):
        z = np.asarray(z)
        worst = np.unravel_index(np.argmax(np.abs(z)), z.shape)
        message = f"{what}{list(map(int, worst))} is {z[worst]:.1f} standard errors off, the limit being {limit}"
        assert np.all(np.abs(z) < limit), message

    return assert_within


# --- the joint-distribution test ---


def prior_moments(network):
    """Exact prior (E U_l, E U_l^2 by entry) for (U_a, U_1, .., U_L), from the moments of Wishart matrices.

    U | S = Wishart(N, S)/N:  E U_ij^2 = S_ij^2 + (S_ij^2 + S_ii S_jj)/N,  E U_ii U_jj = S_ii S_jj + 2 S_ij^2 / N,
    applied from the top down with S = sigma^2 (I (x) U_{l+1}). The rows of a skip connection are those of U_{l+1}, and
    W_l^h W_{l+1}^T / N, given W_{l+1}, is a matrix of normals of variances sigma^2 U_ii U_jj / N.
    """
    N, variances = network.widths, network.variances
    unit = np.eye(network.outputs)
    mean = variances[-1] * unit
    squares = variances[-1] ** 2 * (unit + (unit + 1) / N[-1])
    products = variances[-1] ** 2 * (1 + 2 * unit / N[-1])
    result = [(mean, squares)]
    for l in range(network.depth, 0, -1):
        H, n, variance = network.heads[l - 1], N[l - 1], variances[l]
        same, every = np.kron(np.eye(H), squares), np.kron(np.ones((H, H)), products)
        through = variance**2 * (same * (1 + 1 / n) + every / n), variance**2 * (every + 2 * same / n)
        if network.skips[l - 1]:
            across = np.kron(np.ones((1, H)), variance * products)
            squares = np.block([[squares, across / n], [across.T / n, through[0]]])
            products = np.block([[products, across], [across.T, through[1]]])
            mean = scipy.linalg.block_diag(mean, variance * np.kron(np.eye(H), mean))
        else:
            squares, products = through
            mean = variance * np.kron(np.eye(H), mean)
        result.append((mean, squares))
    return [result[0], *result[:0:-1]]


def prior_variances(network, xi):
    """E f^2 = sigma_0^2 sum_pi E U_1^{pi pi} |xi^pi|^2 under the prior, like y: [P], or [P, m]."""
    per_path = np.diag(prior_moments(network)[1][0]).reshape(-1, network.outputs)
    found = network.variances[0] * np.sum(xi**2, axis=1) @ per_path
    return found[:, 0] if network.outputs == 1 else found


def kernel_of(network, xi, U_1):
    """K [P m, P m] of docs/model.md, section 7, written out."""
    H, m = xi.shape[2], network.outputs
    U = U_1.reshape(H, m, H, m)
    return network.variances[0] * jnp.einsum("pnh,hagb,qng->paqb", xi, U, xi).reshape(len(xi) * m, -1)


def _flat(parts, xp):
    return xp.concatenate([xp.ravel(part) for part in parts])


def _order_parameter_statistics(U):
    U = (jnp.atleast_2d(U.U_a), *U.U)
    return _flat(list(U) + [u**2 for u in U], jnp)


def _order_parameter_expectations(network):
    pairs = prior_moments(network)
    return _flat([first for first, _ in pairs] + [second for _, second in pairs], np)


def weight_statistics(problem, with_U=True):
    """(statistics of (weights, y), their exact expectations under prior and likelihood).

    Squared norm of each block, standardised, and its square; U_a, U_l and their squares; residuals f - y, which
    are N(0, T), their squares, f y and f^2. U_a, U_l and their squares are left out unless ``with_U``.
    """
    network, posterior = problem.network, problem.posterior
    xi, T = posterior.data.flat, posterior.temperature
    variance_of = dict(zip(network.weight_shapes, network.variances, strict=True))

    def statistics(weights, y):
        norms = jnp.stack(
            [
                (jnp.sum(weights[name] ** 2) / variance_of[name] - math.prod(shape)) / math.sqrt(2 * math.prod(shape))
                for name, shape in network.weight_shapes.items()
            ]
        )
        f = forward(path_weights(weights, network.residual), jnp.asarray(xi))
        U = [_order_parameter_statistics(order_parameters(weights, network.residual))] * with_U
        return _flat([norms, norms**2, *U, (f - y) / np.sqrt(T), (f - y) ** 2 / T, f * y, f**2], jnp)

    blocks, P = len(network.weight_shapes), posterior.y.size
    prior_variance = prior_variances(network, xi)
    expected = [np.zeros(blocks), np.ones(blocks), *[_order_parameter_expectations(network)] * with_U]
    expected += [np.zeros(P), np.ones(P), prior_variance, prior_variance]
    return statistics, _flat(expected, np)


def theta_statistics(problem):
    """(statistics of (theta, y), their exact expectations).

    Every Bartlett entry standardised, A_ii^2 ~ chi^2(d) and A_ij, X_ij ~ N(0, 1), and all their products; U_a, U_l and
    their squares; y^T (K + T I)^{-1} y, which is chi^2(P) given theta, and y^2.
    """
    network, posterior = problem.network, problem.posterior
    shape, xi, T = collapsed.layout(network), posterior.data.flat, posterior.temperature
    upper = np.triu_indices(shape.size)

    def statistics(theta, y):
        A = []
        for layer, (M, _, X), N in zip(
            shape.layers, collapsed.bartlett_factors(shape, theta), network.widths[::-1], strict=True
        ):
            d = degrees_of_freedom(layer, N)
            A += [
                (N * jnp.diagonal(M) ** 2 - d) / np.sqrt(2 * d),
                np.sqrt(N) * M[np.tril_indices(layer.rows, -1, layer.rank)],
            ]
            A += [] if X is None else [np.sqrt(N) * X.ravel()]
        A = jnp.concatenate(A)
        U = collapsed.order_parameters(shape, jnp.asarray(network.variances), theta)
        flat = y.reshape(-1)
        q = flat @ jnp.linalg.solve(kernel_of(network, xi, U.U[0]) + T * jnp.eye(len(flat)), flat)
        P = y.size
        q = (q - P) / np.sqrt(2 * P)
        return _flat([A, jnp.outer(A, A)[upper], _order_parameter_statistics(U), q, q**2, y**2], jnp)

    prior_variance = prior_variances(network, xi)
    expected = [np.zeros(shape.size), np.eye(shape.size)[upper], _order_parameter_expectations(network)]
    return statistics, _flat([*expected, 0.0, 1.0, prior_variance + T], np)


def prior_weights(network, rng, draws):
    """Weights from the prior [draws, ..], by NumPy."""
    return {
        name: np.sqrt(variance) * rng.standard_normal((draws, *shape))
        for (name, shape), variance in zip(network.weight_shapes.items(), network.variances, strict=True)
    }


def degrees_of_freedom(layer, N):
    """Of A_ii^2, i from 1: N - i + 1; below a skip connection N - r - i + 1, r the rank of the layer above."""
    return N - np.arange(layer.rank) - (layer.above if layer.skip else 0)


def prior_theta(network, rng, draws):
    """theta from the prior [draws, D]: A_ii ~ chi(N - i + 1), A_ij ~ N(0, 1), M = A / sqrt(N), and so X."""
    parts = []
    for layer, N in zip(collapsed.layout(network).layers, network.widths[::-1], strict=True):
        squared = rng.chisquare(degrees_of_freedom(layer, N), (draws, layer.rank))
        normals = rng.standard_normal((draws, layer.size - layer.rank))
        parts += [0.5 * np.log(squared / N), normals / np.sqrt(N)]
    return np.concatenate(parts, axis=1)


def _draw_y_given_theta(problem):
    network, posterior = problem.network, problem.posterior
    shape, xi = collapsed.layout(network), posterior.data.flat

    def draw(key, theta):
        U_1 = collapsed.order_parameters(shape, jnp.asarray(network.variances), theta).U[0]
        covariance = kernel_of(network, xi, U_1) + posterior.temperature * jnp.eye(posterior.y.size)
        return (jnp.linalg.cholesky(covariance) @ jax.random.normal(key, (posterior.y.size,))).reshape(
            posterior.y.shape
        )

    return draw


def _draw_y_given_weights(problem):
    posterior = problem.posterior
    xi, T = posterior.data.flat, posterior.temperature

    def draw(key, weights):
        f = forward(path_weights(weights, posterior.network.residual), jnp.asarray(xi))
        return f + np.sqrt(T) * jax.random.normal(key, f.shape)

    return draw


def in_batches(function, arguments):
    """Vectorised over the leading axis in batches small enough for XLA to run each factorisation on one thread.

    Factorisations of large batches that do not depend on each other can wait for each other's threads for ever (seen
    with jaxlib 0.10 on two cores).
    """
    return jax.jit(lambda a: jax.lax.map(function, a, batch_size=200))(arguments)


def z_scores(samples, expected):
    """(mean - expected) / standard error for independent rows [n, ..] of samples."""
    return (samples.mean(0) - expected) / (samples.std(0) / np.sqrt(len(samples)))


def one_transition(kernel, target, data, key, position):
    """State after a single transition of one chain that has nothing to adapt."""
    setting = Setting(target, data, warmup=0, chains=1)
    state = kernel.init(setting, key, position)
    return kernel.step(setting, key, jnp.int32(0), state)[0]


def _successive_conditional(transition, draw_y, statistics, positions, key, rounds):
    """Statistics [chain, ..] averaged over rounds of a transition given y, then a new y."""

    @jax.jit
    @jax.vmap
    def run(key, position):
        key_y, key = jax.random.split(key)

        def one_round(carry, key):
            position, y = carry
            key_step, key_y = jax.random.split(key)
            position = transition(key_step, position, y)
            return (position, draw_y(key_y, position)), statistics(position, y)

        start = (position, draw_y(key_y, position))
        return jax.lax.scan(one_round, start, jax.random.split(key, rounds))[1].mean(0)

    chains = len(jax.tree.leaves(positions)[0])
    return np.asarray(run(jax.random.split(key, chains), jax.tree.map(jnp.asarray, positions)))


def weight_space_z(problem, kernel, chains, rounds, seed=0, target="weights"):
    """z-scores of the joint-distribution test of a kernel over weights, untuned (step size of its options)."""
    network, posterior = problem.network, problem.posterior
    with jax.enable_x64(True):
        target = posterior.target(target)
        data = target.data(posterior, jnp.float64)

        def transition(key, weights, y):
            if target.name == "marginal":
                given = dataclasses.replace(data, density=data.density._replace(y=y))
            else:
                given = data._replace(y=y)
            key_step, key_observe = jax.random.split(key)
            state = one_transition(kernel, target, given, key_step, target.from_weights(weights))
            record = target.observe(given, None, kernel.position(state), key_observe)
            return {name: record[name] for name in weights}

        statistics, expected = weight_statistics(problem)
        positions = prior_weights(network, np.random.default_rng(seed), chains)
        key, draw_y = jax.random.key(seed), _draw_y_given_weights(problem)
        return z_scores(_successive_conditional(transition, draw_y, statistics, positions, key, rounds), expected)


_BY_NUTS = gf.Collapsed(move="nuts", max_doublings=5).mover()


def learned_z(posterior, kernel, chains, rounds, name, seed=0):
    """z-scores of the joint-distribution test of a kernel on learned attention, untuned.

    Statistics: every standardised query and key and its square; the Bartlett entries, standardised, and their squares,
    or squared norms of weights; y^T A^{-1} y, which is chi^2(P m) given (Q, K, U), or (f - y)^2 / T, and its square.
    """
    network, T, rng = posterior.network, posterior.temperature, np.random.default_rng(seed)
    shape, size = collapsed.layout(network), posterior.y.size
    with jax.enable_x64(True):
        target, form, data = posterior.target(name), posterior.form, posterior.device_data("float64")
        widths = jnp.asarray(network.widths, float)
        unit = learned_space.scales(shape, widths)
        start = {n: rng.standard_normal((chains, *mean.shape)) for n, mean in data.means.items()}
        if name == "collapsed":
            start["theta"] = prior_theta(network, rng, chains) / np.asarray(unit)
        else:
            start |= prior_weights(network, rng, chains)
            start = {n: w for n, w in start.items() if name == "weights" or n != "V_0"}

        def factor(position):
            xi = form.xi(data.inputs, learned_space.heads_at(data, position))
            if name == "collapsed":
                U = collapsed.order_parameters(shape, data.variances, unit * position["theta"])
            else:
                U = order_parameters(position, network.residual)
            return jnp.linalg.cholesky(kernel_of(network, xi, U.U[0]) + T * jnp.eye(size))

        def draw_y(key, position):
            if name != "weights":
                return (factor(position) @ jax.random.normal(key, (size,))).reshape(data.y.shape)
            f = forward(
                path_weights(position, network.residual), form.xi(data.inputs, learned_space.heads_at(data, position))
            )
            return f + np.sqrt(T) * jax.random.normal(key, f.shape)

        def transition(key, position, y):
            return kernel.position(one_transition(kernel, target, data._replace(y=y), key, position))

        def statistics(position, y):
            z = _flat([position[n] for n in data.means], jnp)
            if name == "weights":
                xi = form.xi(data.inputs, learned_space.heads_at(data, position))
                q = jnp.sum((forward(path_weights(position, network.residual), xi) - y) ** 2) / T
            else:
                q = jnp.sum(jax.scipy.linalg.solve_triangular(factor(position), y.reshape(-1), lower=True) ** 2)
            q = (q - size) / np.sqrt(2 * size)
            return _flat([z, z**2, _standard(network, position, unit), q, q**2], jnp)

        found = _successive_conditional(transition, draw_y, statistics, start, jax.random.key(seed), rounds)
        n = sum(mean.size for mean in data.means.values())
        rest = found.shape[1] - 2 * n - 2
        return z_scores(found, np.concatenate([np.zeros(n), np.ones(n), np.zeros(rest), [0.0, 1.0]]))


def _standard(network, position, unit):
    """What has mean 0 under the prior: Bartlett entries and their squares, or squared norms of weights."""
    if "theta" not in position:
        variance_of = dict(zip(network.weight_shapes, network.variances, strict=True))
        norms = [jnp.mean(position[n] ** 2) / variance_of[n] - 1 for n in network.weight_shapes if n in position]
        return jnp.stack(norms)
    shape, parts = collapsed.layout(network), []
    factors = collapsed.bartlett_factors(shape, unit * position["theta"])
    for layer, (M, _, X), N in zip(shape.layers, factors, network.widths[::-1], strict=True):
        normals = [np.sqrt(N) * M[np.tril_indices(layer.rows, -1, layer.rank)]]
        normals += [] if X is None else [np.sqrt(N) * X.ravel()]
        squares = (N * jnp.diagonal(M) ** 2) / degrees_of_freedom(layer, N) - 1
        parts += [squares, *normals, *(each**2 - 1 for each in normals)]
    return jnp.concatenate(parts)


def any_field(D):
    """Polynomials of degree 2 that have nothing to do with a posterior, and are no gradient."""
    coefficients = 0.2 * np.random.default_rng(3).standard_normal((1 + D + D * (D + 1) // 2, D)) / D
    return Surrogate(jnp.zeros(D), jnp.asarray(coefficients), jnp.zeros(()))


def collapsed_z(problem, chains, rounds, seed=0, kernel=_BY_NUTS):
    """z-scores of the joint-distribution test of the collapsed kernel, untuned, with the prior's own metric."""
    network, posterior = problem.network, problem.posterior
    shape = collapsed.layout(network)
    with jax.enable_x64(True):
        target = posterior.target("collapsed")
        scales = [np.full(layer.size, 1 / N) for layer, N in zip(shape.layers, network.widths[::-1], strict=True)]
        scales, diagonal, to, back = np.concatenate(scales), collapsed.is_diagonal(shape), lambda t: t, lambda s: s
        if kernel.straight:
            target, scales = target.straight, np.where(diagonal, 2 / 9 * scales, scales)
            to, back = partial(collapsed.straightened, shape), partial(collapsed.unstraightened, shape)
        covariance = jnp.diag(jnp.asarray(scales))
        guide = Guide(to(jnp.zeros(shape.size)), covariance, jnp.sqrt(covariance), any_field(shape.size))
        problem_data = CollapsedTargetData(posterior.collapsed_data(), jnp.asarray(posterior.data.flat), guide)

        def transition(key, theta, y):
            given = problem_data._replace(density=problem_data.density._replace(y=y))
            state = one_transition(kernel, target, given, key, to(theta))
            return back(kernel.position(state))

        statistics, expected = theta_statistics(problem)
        positions = prior_theta(network, np.random.default_rng(seed), chains)
        key, draw_y = jax.random.key(seed), _draw_y_given_theta(problem)
        return z_scores(_successive_conditional(transition, draw_y, statistics, positions, key, rounds), expected)


def lifting_z(problem, draws, seed=0, with_U=True):
    """z-scores of weights lifted from exact joint draws of (theta, y), which must follow prior and likelihood.

    Two arrays: ``weight_statistics`` and the mean of every weight; the second moments of all pairs of weights.
    """
    network, posterior = problem.network, problem.posterior
    shape = collapsed.layout(network)
    upper = np.triu_indices(network.weight_count)
    with jax.enable_x64(True):
        data, xi = posterior.collapsed_data(), jnp.asarray(posterior.data.flat)
        draw_y = _draw_y_given_theta(problem)
        statistics, expected = weight_statistics(problem, with_U)

        def one(arguments):
            key, theta = arguments
            key_y, key_lift = jax.random.split(key)
            y = draw_y(key_y, theta)
            weights = lifting.lift(network, shape, data._replace(y=y), xi, key_lift, theta)
            standard = _flat([w / np.sqrt(v) for w, v in zip(weights.values(), network.variances, strict=True)], jnp)
            return statistics(weights, y), standard

        theta = prior_theta(network, np.random.default_rng(seed), draws)
        keys = jax.random.split(jax.random.key(seed), draws)
        found, standard = map(np.asarray, in_batches(one, (keys, jnp.asarray(theta))))
    second = standard.T @ standard / draws
    # of independent standard normals: a product has variance 1, a square 2
    errors = np.sqrt((1 + np.eye(len(second))) / draws)
    z_second = ((second - np.eye(len(second))) / errors)[upper]
    return np.concatenate([z_scores(found, expected), standard.mean(0) * np.sqrt(draws)]), z_second


@pytest.fixture(scope="session")
def geweke(make_small):
    """The joint-distribution tests by sampler, and the small problems they run on by name."""

    def problem(name):
        return make_small(**CASES[name], N_0=3, P=4, temperature=0.3)

    return SimpleNamespace(
        problem=problem, collapsed_z=collapsed_z, learned_z=learned_z, lifting_z=lifting_z,
        weight_space_z=weight_space_z,
    )  # fmt: skip


@pytest.fixture(scope="session")
def batched():
    """function, arguments -> the function over the leading axis of all arguments, in small batches."""
    return in_batches
