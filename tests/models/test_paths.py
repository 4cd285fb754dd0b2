"""Path contraction against an explicit sum over all token tuples, sub-networks, path kernels and their gradient."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import gibbsformer as gf
from gibbsformer.models import gaussian
from gibbsformer.models import path_kernel as kernels

pytestmark = pytest.mark.usefixtures("x64")

RELATIVE = 1e-10  # float64 rounding of sums of up to a few thousand terms, with room for cancellation


def path_input(x, patterns, path, readout, paths):
    """xi^pi(x) of one example by the sum over all (s_1, .., s_L) of section 2, prefactor 1/sqrt(N_0 paths)."""
    N_0, S = x.shape
    targets = {"last": [S - 1], "first": [0], "mean": range(S)}[readout]
    result = np.zeros(N_0)
    for tokens in product(range(S), repeat=len(path)):
        for target in targets:
            chain = (*tokens, target)
            weight = np.prod([patterns[l][h, chain[l], chain[l + 1]] for l, h in enumerate(path)])
            result += x[:, tokens[0]] * weight / len(targets)
    return result / np.sqrt(N_0 * paths)


@pytest.mark.parametrize("heads", [(3,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("readout", ["last", "first", "mean"])
def test_contraction_is_the_sum_over_token_tuples(make_small, heads, readout):
    L = len(heads)
    problem = make_small(heads=heads, widths=(2,) * (L + 1), variances=(), P=3, readout=readout)
    xi = problem.posterior.data.xi
    assert xi.shape == (3, 6, *heads)
    assert xi.dtype == np.float64
    patterns = [np.asarray(a) for a in problem.attention(problem.x)]
    for mu, path in product(range(3), product(*(range(H) for H in heads))):
        naive = path_input(problem.x[mu], [a[mu] for a in patterns], path, readout, int(np.prod(heads)))
        np.testing.assert_allclose(xi[(mu, slice(None), *path)], naive, rtol=RELATIVE, atol=1e-14)


def test_attention_and_path_inputs_of_the_reference(reference):
    """Values of an independent implementation on the reference task, to rounding."""
    x, example = reference["few/x"], reference["few/example"]
    attention = gf.Attention([reference["attention/W_1"], reference["attention/W_2"]])
    A_1, A_2 = attention(x)
    np.testing.assert_allclose(A_1, reference["few/A_1"], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(A_2[..., -1], reference["few/A_2_readout"], rtol=1e-10, atol=1e-10)
    xi = gf.contract(x, attention).flat
    np.testing.assert_allclose(xi, reference["train/xi"][example], rtol=1e-10, atol=1e-10)


def test_contraction_does_not_depend_on_batches():
    rng = np.random.default_rng(0)
    x, W = rng.standard_normal((300, 3, 4)), rng.standard_normal((2, 2, 3, 3))
    attention = gf.Attention(list(W))
    whole = gf.contract(x, attention).xi
    for some in (slice(120, 140), slice(280, 300)):
        np.testing.assert_allclose(gf.contract(x[some], attention).xi, whole[some], rtol=1e-12, atol=1e-15)


def test_path_names_are_in_c_order(small):
    data = small.posterior.data
    assert data.path_names == ("(1 1)", "(1 2)", "(1 3)", "(2 1)", "(2 2)", "(2 3)")
    np.testing.assert_array_equal(data.flat[:, :, 4], data.xi[:, :, 1, 1])
    assert (data.paths, data.heads, data.input_width, len(data)) == (6, (2, 3), 6, 7)


@pytest.mark.parametrize(
    ("first", "second"), [([0], [0, 1, 2]), ([0, 1], [1]), ([0, 1], [0, 2]), ([1], [2]), ([0, 1], [0, 1, 2])]
)
def test_product_subset_is_the_network_with_those_heads(small, first, second):
    """Heads removed from the attention itself give the same inputs, own number of paths in the prefactor."""
    names = [f"({i + 1} {j + 1})" for i in first for j in second]
    chosen = small.posterior.data.select(names)
    direct = gf.contract(small.x, gf.Attention([small.layers[0][first], small.layers[1][second]]))
    assert chosen.heads == (len(first), len(second))
    assert chosen.path_names == tuple(names)
    np.testing.assert_allclose(chosen.xi, direct.xi, rtol=RELATIVE, atol=1e-14)
    network = small.posterior.select(names).network
    assert network.heads == chosen.heads
    assert (network.widths, network.variances) == (small.network.widths, small.network.variances)


def test_arbitrary_subset_is_one_axis_of_paths(small):
    chosen = small.posterior.data.select(["(2 2)", 0, "(1 3)"])
    assert chosen.path_names == ("(1 1)", "(1 3)", "(2 2)")
    assert chosen.heads == (3,)
    patterns = [np.asarray(a) for a in small.attention(small.x)]
    for mu, (i, path) in product(range(2), enumerate([(0, 0), (0, 2), (1, 1)])):
        naive = path_input(small.x[mu], [a[mu] for a in patterns], path, "last", paths=3)
        np.testing.assert_allclose(chosen.xi[mu, :, i], naive, rtol=RELATIVE, atol=1e-14)
    with pytest.raises(ValueError, match=r"not a network of finite width"):
        small.posterior.select(["(1 1)", "(1 3)", "(2 2)"])


def stored(xi):
    """The same path kernels stored as blocks and as inputs."""
    P, _, H = xi.shape
    return {
        "blocks": kernels.PathKernel(kernels.symmetric_blocks(jnp.asarray(xi), packed=True), None, P, H),
        "inputs": kernels.PathKernel(None, jnp.asarray(xi), P, H),
    }


@pytest.fixture
def storages(small):
    return stored(small.posterior.data.flat)


def symmetric(rng, n):
    A = rng.standard_normal((n, n))
    return A + A.T


@pytest.mark.parametrize("storage", ["blocks", "inputs"])
def test_combine_and_project_against_loops(small, storages, storage):
    xi, kernel = small.posterior.data.flat, storages[storage]
    P, _, H = xi.shape
    rng = np.random.default_rng(0)
    U, G = symmetric(rng, H), symmetric(rng, P)
    K, projected = np.zeros((P, P)), np.zeros((H, H))
    for p, q, h, g in product(range(P), range(P), range(H), range(H)):
        C = xi[p, :, h] @ xi[q, :, g]
        K[p, q] += U[h, g] * C
        projected[h, g] += G[p, q] * C
    np.testing.assert_allclose(kernels.combine(kernel, jnp.asarray(U)), K, rtol=RELATIVE, atol=1e-13)
    packed = kernels.pack(jnp.asarray(G))
    np.testing.assert_allclose(kernels.project(kernel, packed), projected, rtol=RELATIVE, atol=1e-13)


def test_storage_goes_by_size(small, monkeypatch):
    xi = small.posterior.data.flat
    assert kernels.path_kernel(xi).xi is None
    assert kernels.path_kernel(xi).blocks.nbytes == kernels.block_bytes(xi.shape)
    monkeypatch.setattr(kernels, "BLOCK_BYTES", 0)
    monkeypatch.setattr(kernels, "_MOST_BYTES", 0)
    wide = np.tile(xi, (1, 20, 1))
    assert kernels.path_kernel(wide).xi is None  # blocks smaller than these inputs
    assert kernels.path_kernel(xi).blocks is None  # and larger than these


@pytest.mark.parametrize(("P", "share"), [(63, 1), (64, 3 / 4), (100, 2 / 3), (256, 9 / 16)])
def test_packed_matrices_of_several_panels(P, share):
    """k equal panels hold (k + 1) / 2 k of the entries; edges that are rounded add less than 0.01."""
    rng = np.random.default_rng(P)
    xi, y = rng.standard_normal((P, 5, 3)), rng.standard_normal(P)
    U, G = symmetric(rng, 3), symmetric(rng, P)
    for kernel in stored(xi).values():
        K = np.einsum("pnh,hg,qng->pq", xi, U, xi)
        np.testing.assert_allclose(jax.jit(kernels.combine)(kernel, jnp.asarray(U)), K, rtol=1e-10, atol=1e-10)
        projected = np.einsum("pnh,pq,qng->hg", xi, G, xi)
        packed = jax.jit(kernels.pack)(jnp.asarray(G))
        np.testing.assert_allclose(jax.jit(kernels.project)(kernel, packed), projected, rtol=1e-10, atol=1e-8)
    assert share <= stored(xi)["blocks"].blocks.nbytes / (8 * 6 * P**2) < share + 0.01

    def value(U, kernel):
        return gaussian.log_likelihood(U, kernel, jnp.asarray(y), 0.3, 0.7)

    U = U @ U
    A = 0.7 * np.einsum("pnh,hg,qng->pq", xi, U, xi) + 0.3 * np.eye(P)
    inverse = np.linalg.inv(A)
    alpha = inverse @ y
    expected = -0.5 * y @ alpha - 0.5 * np.linalg.slogdet(2 * np.pi * A)[1]
    gradient = 0.35 * np.einsum("pnh,pq,qng->hg", xi, np.outer(alpha, alpha) - inverse, xi)
    for kernel in stored(xi).values():
        found, slope = jax.jit(jax.value_and_grad(value))(jnp.asarray(U), kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        np.testing.assert_allclose(jax.jit(value)(jnp.asarray(U), kernel), expected, rtol=1e-10)  # the value alone
        np.testing.assert_allclose(slope, gradient, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("storage", ["blocks", "inputs"])
def test_log_likelihood_value_and_gradient(small, storages, storage):
    kernel, y, T, variance = storages[storage], small.posterior.y, 0.3, 0.7
    rng = np.random.default_rng(0)
    root = rng.standard_normal((6, 6))
    U = root @ root.T / 6
    K = variance * np.einsum("hg,pnh,qng->pq", U, small.posterior.data.flat, small.posterior.data.flat)
    expected = scipy.stats.multivariate_normal.logpdf(y, np.zeros(7), K + T * np.eye(7))

    @jax.jit
    def value(U):
        return gaussian.log_likelihood(jnp.asarray(U), kernel, jnp.asarray(y), jnp.asarray(T), jnp.asarray(variance))

    np.testing.assert_allclose(value(U), expected, rtol=RELATIVE)
    gradient = jax.jit(jax.grad(value))(jnp.asarray(U))
    np.testing.assert_allclose(gradient, gradient.T, rtol=1e-12, atol=1e-14)
    step = 1e-5
    for _ in range(4):
        D = symmetric(rng, 6)  # U is symmetric, so are its variations
        difference = (value(U + step * D) - value(U - step * D)) / (2 * step)
        # central difference: step^2 f''' ~ 1e-10 * 1e2, rounding 1e-16 * 10 / step ~ 1e-10
        np.testing.assert_allclose(np.sum(gradient * D), difference, rtol=1e-6, atol=1e-7)
