"""The network in weight space against a naive one: loops over examples, layers, heads and tokens, written from
section 1 of the model alone, and never through attention paths."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density as numpyro_log_density

import gibbsformer as gf
from gibbsformer.models.network import draw_prior, forward, path_weights

pytestmark = pytest.mark.usefixtures("x64")

RELATIVE = 1e-10  # float64 rounding (1e-16) of sums of a few thousand terms, with room for cancellation

SHAPES = {
    1: {"heads": (3,), "widths": (4, 2), "variances": (0.7, 1.3, 0.9)},
    2: {},
    3: {"heads": (2, 1, 3), "widths": (4, 2, 5, 3), "variances": (0.7, 1.3, 0.9, 1.1, 0.6)},
}
READOUTS = ("last", "first", "mean")
CASES = [(L, readout) for L in SHAPES for readout in READOUTS]


def softmax_patterns(x, layers):
    """A_l^h(x)[s, t] = softmax over s of x(s)^T W x(t), one example x [N_0, S]; a list of arrays [H, S, S]."""
    S = x.shape[1]
    result = []
    for W in layers:
        A = np.zeros((len(W), S, S))
        for h, t in product(range(len(W)), range(S)):
            scores = np.array([x[:, s] @ W[h] @ x[:, t] for s in range(S)])
            A[h, :, t] = np.exp(scores) / np.sum(np.exp(scores))
        result.append(A)
    return result


def token_output(weights, x, patterns, readout, xp=np):
    """f(x) of one example, token by token (section 1)."""
    L, (N_0, S) = len(patterns), x.shape
    z = [weights["V_0"] @ x[:, t] / np.sqrt(N_0) for t in range(S)]
    for l in range(1, L + 1):
        V, A = weights[f"V_{l}"], patterns[l - 1]
        H, N_l = V.shape[0], V.shape[2]
        above = []
        for t in range(S):
            total = xp.zeros(V.shape[1])
            for h in range(H):
                for s in range(S):
                    total = total + V[h] @ z[s] * A[h, s, t]
            above.append(total / np.sqrt(H * N_l))
        z = above
    out = [weights["a"] @ z[t] / np.sqrt(len(weights["a"])) for t in range(S)]
    return {"last": out[-1], "first": out[0], "mean": sum(out) / S}[readout]


def token_log_density(problem, readout):
    """weights -> log p(weights, y) from the token-level network; jax.numpy, so that it has a gradient."""
    network, y, T = problem.network, problem.posterior.y, problem.posterior.temperature
    patterns = [np.stack(a) for a in zip(*(softmax_patterns(x, problem.layers) for x in problem.x), strict=True)]

    def log_density(weights):
        total = 0.0
        for name, variance in zip(network.weight_shapes, network.variances, strict=True):
            total += jax.scipy.stats.norm.logpdf(weights[name], 0.0, np.sqrt(variance)).sum()
        f = jax.vmap(lambda x, A: token_output(weights, x, A, readout, jnp))(problem.x, patterns)
        return total + jax.scipy.stats.norm.logpdf(y, f, np.sqrt(T)).sum()

    return log_density


@pytest.mark.parametrize(("L", "readout"), CASES)
def test_output_equals_token_level_network(make_small, L, readout):
    problem = make_small(**SHAPES[L], readout=readout, P=3)
    naive = [token_output(problem.host_weights, x, softmax_patterns(x, problem.layers), readout) for x in problem.x]
    ours = forward(path_weights(problem.weights), jnp.asarray(problem.posterior.data.flat))
    np.testing.assert_allclose(ours, naive, rtol=RELATIVE)


@pytest.mark.parametrize(("L", "readout"), [(1, "last"), (2, "last"), (3, "mean")])
def test_log_density_and_gradient_equal_token_level(make_small, L, readout):
    problem = make_small(**SHAPES[L], readout=readout, P=3)
    weights = problem.weights
    value, gradient = jax.jit(jax.value_and_grad(problem.posterior.log_density))(weights)
    naive_value, naive_gradient = jax.jit(jax.value_and_grad(token_log_density(problem, readout)))(weights)
    np.testing.assert_allclose(value, naive_value, rtol=RELATIVE)
    for name in weights:
        np.testing.assert_allclose(gradient[name], naive_gradient[name], rtol=RELATIVE, atol=RELATIVE)


@pytest.mark.parametrize("L", SHAPES)
def test_log_density_and_gradient_equal_numpyro_model(make_small, L):
    problem = make_small(**SHAPES[L], P=3)
    weights = problem.weights
    value, gradient = jax.jit(jax.value_and_grad(problem.posterior.log_density))(weights)
    # every site is a real-valued normal, so the unconstrained space is the space of weights itself
    theirs, their_gradient = jax.jit(
        jax.value_and_grad(lambda w: numpyro_log_density(problem.posterior.model, (), {}, w)[0])
    )(weights)
    np.testing.assert_allclose(value, theirs, rtol=RELATIVE)
    for name in weights:
        np.testing.assert_allclose(gradient[name], their_gradient[name], rtol=RELATIVE, atol=RELATIVE)


def test_gradient_against_finite_differences(small):
    weights = small.weights
    value = jax.jit(small.posterior.log_density)
    gradient = jax.jit(jax.grad(value))(weights)
    rng = np.random.default_rng(1)
    step = 1e-5
    for _ in range(3):
        direction = {name: rng.standard_normal(w.shape) for name, w in weights.items()}
        moved = [{n: w + sign * step * direction[n] for n, w in weights.items()} for sign in (1, -1)]
        difference = (value(moved[0]) - value(moved[1])) / (2 * step)
        # error of a central difference: step^2 f''' ~ 1e-10 * 1e2, and rounding 1e-16 * 1e2 / step ~ 1e-9
        np.testing.assert_allclose(
            sum(np.sum(gradient[n] * direction[n]) for n in weights), difference, rtol=1e-6, atol=1e-6
        )


def test_log_density_is_summed_in_float64_and_its_gradient_keeps_the_precision_of_the_weights(small):
    single = {name: jnp.asarray(w, jnp.float32) for name, w in small.weights.items()}
    log_density = jax.jit(small.posterior.log_density)
    value, gradient = jax.jit(jax.value_and_grad(log_density))(single)
    assert value.dtype == jnp.float64
    assert {g.dtype for g in gradient.values()} == {jnp.dtype("float32")}
    # float32 rounding of the weights and of f, not of the sums
    np.testing.assert_allclose(value, log_density(small.weights), rtol=1e-5)
    with jax.enable_x64(False):
        assert log_density(single).dtype == jnp.float32


def effective_weight(weights, heads, L):
    """w_l^{(h_l..h_L)} of section 3 by its recursion, one path at a time, for heads = (h_l, .., h_L)."""
    if not heads:
        return weights["a"]
    above = effective_weight(weights, heads[1:], L)
    V = weights[f"V_{L - len(heads) + 1}"][heads[0]]
    result = np.zeros(V.shape[1])
    for i, j in product(range(V.shape[0]), range(V.shape[1])):
        result[j] += above[i] * V[i, j] / np.sqrt(V.shape[0])
    return result


@pytest.mark.parametrize("L", SHAPES)
def test_order_parameters_against_recursion(make_small, L):
    problem = make_small(**SHAPES[L], P=3)
    weights, heads, widths = problem.host_weights, problem.network.heads, problem.network.widths
    U_a, U = gf.models.order_parameters(problem.weights)
    np.testing.assert_allclose(U_a, np.sum(weights["a"] ** 2) / widths[-1], rtol=RELATIVE)
    assert len(U) == L
    for l in range(1, L + 1):
        paths = list(product(*(range(H) for H in heads[l - 1 :])))  # C order, h_l slowest
        expected = np.zeros((len(paths), len(paths)))
        for (i, first), (j, second) in product(enumerate(paths), enumerate(paths)):
            expected[i, j] = effective_weight(weights, first, L) @ effective_weight(weights, second, L) / widths[l - 1]
        np.testing.assert_allclose(U[l - 1], expected, rtol=RELATIVE, atol=1e-15)


@pytest.mark.parametrize("L", SHAPES)
def test_path_weights_against_matrix_products(make_small, L):
    problem = make_small(**SHAPES[L], P=3)
    weights, heads, widths = problem.host_weights, problem.network.heads, problem.network.widths
    expected = []
    for path in product(*(range(H) for H in heads)):
        row = weights["a"] / np.sqrt(widths[-1])  # w^pi of section 2: one 1/sqrt for every width N_1 .. N_{L+1}
        for l in range(L, 0, -1):
            row = row @ weights[f"V_{l}"][path[l - 1]] / np.sqrt(widths[l - 1])
        expected.append(row @ weights["V_0"])
    np.testing.assert_allclose(path_weights(problem.weights), expected, rtol=RELATIVE, atol=1e-15)


def test_renormalized_kernel_is_the_covariance_over_V_0(small):
    """Given the weights above V_0, Cov f(x) f(x') over V_0 ~ N(0, sigma_0^2) is sigma_0^2 sum U_1 C (section 3)."""
    U_1 = np.asarray(gf.models.order_parameters(small.weights).U[0])
    xi, variance = small.posterior.data.flat, small.network.variances[0]
    expected = variance * np.einsum("hg,pnh,qng->pq", U_1, xi, xi)
    # f is linear in V_0: its covariance is sigma_0^2 J J^T with J the derivative, taken column by column
    columns = []
    for index in np.ndindex(small.weights["V_0"].shape):
        unit = np.zeros(small.weights["V_0"].shape)
        unit[index] = 1.0
        weights = small.host_weights | {"V_0": unit}
        columns.append([token_output(weights, x, softmax_patterns(x, small.layers), "last") for x in small.x])
    J = np.array(columns).T
    np.testing.assert_allclose(expected, variance * J @ J.T, rtol=RELATIVE, atol=1e-14)


def test_prior_has_the_variances_asked_for():
    network = gf.Network(50, (2, 2), (40, 60, 500), (0.5, 2.0, 1.5, 3.0))
    weights = draw_prior(network, jax.random.key(0))
    assert {name: w.shape for name, w in weights.items()} == network.weight_shapes
    assert network.weight_count == sum(w.size for w in weights.values())
    for (name, w), variance in zip(weights.items(), network.variances, strict=True):
        # the sample variance of n normals has standard error variance * sqrt(2/n)
        assert abs(np.mean(w**2) - variance) < 4 * variance * np.sqrt(2 / w.size), name


def test_network_shapes():
    network = gf.Network(6, (2, 3), (4, 3, 5))
    assert (network.depth, network.paths, network.path_counts) == (2, 6, (6, 3))
    assert network.variances == (1.0, 1.0, 1.0, 1.0)
    assert network.weight_shapes == {"V_0": (4, 6), "V_1": (2, 3, 4), "V_2": (3, 5, 3), "a": (5,)}
