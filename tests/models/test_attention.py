"""Attention patterns against loops over heads and tokens, and what a user may give in their place."""

from itertools import product

import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models.attention import COLUMN_SUM_TOLERANCE

pytestmark = pytest.mark.usefixtures("x64")

RELATIVE = 1e-12  # float64 rounding of sums of tens of terms and one exponential
P, N_0, S, H, G = 4, 6, 5, 3, 2


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((P, N_0, S))


@pytest.fixture
def weights():
    return np.random.default_rng(1).standard_normal((H, N_0, N_0))


@pytest.fixture
def query_key():
    rng = np.random.default_rng(2)
    return rng.standard_normal((H, G, N_0)), rng.standard_normal((H, G, N_0))


def loop(x, score, hardmax=False):
    """A[mu, h, s, t] over source tokens s for each target t, from score(h, source token, target token)."""
    A = np.zeros((len(x), H, S, S))
    for mu, h, t in product(range(len(x)), range(H), range(S)):
        scores = np.array([score(h, x[mu, :, s], x[mu, :, t]) for s in range(S)])
        if hardmax:
            A[mu, h, np.argmax(scores), t] = 1.0
        else:
            A[mu, h, :, t] = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    return A


@pytest.mark.parametrize("hardmax", [False, True])
def test_bilinear(x, weights, hardmax):
    (ours,) = gf.Attention([weights], hardmax=hardmax)(x)
    naive = loop(x, lambda h, source, target: source @ weights[h] @ target, hardmax)  # key left, query right
    np.testing.assert_allclose(ours, naive, rtol=RELATIVE)


@pytest.mark.parametrize("hardmax", [False, True])
def test_query_key(x, query_key, hardmax):
    Q, K = query_key
    (ours,) = gf.Attention([(Q, K)], hardmax=hardmax)(x)
    naive = loop(x, lambda h, source, target: (K[h] @ source) @ (Q[h] @ target) / np.sqrt(G), hardmax)
    np.testing.assert_allclose(ours, naive, rtol=RELATIVE)


def test_query_key_is_bilinear_with_their_product(x, query_key):
    Q, K = query_key
    W = np.einsum("hga,hgb->hab", K, Q) / np.sqrt(G)
    np.testing.assert_allclose(gf.Attention([(Q, K)])(x)[0], gf.Attention([W])(x)[0], rtol=RELATIVE)


def test_hardmax_is_the_sharp_limit_of_softmax(x, weights):
    (hard,) = gf.Attention([weights], hardmax=True)(x)
    (sharp,) = gf.Attention([1e6 * weights])(x)  # gaps between scores are above 1e-4: exp(-100) is left
    assert set(np.unique(hard)) == {0.0, 1.0}
    np.testing.assert_allclose(hard, sharp, atol=1e-12)


def test_columns_sum_to_one_over_source_tokens(x, weights, query_key):
    for a in gf.Attention([weights, query_key])(x):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(np.sum(a, axis=-2), 1.0, rtol=RELATIVE)


def test_given_arrays_are_used_as_they_are(x, weights):
    attention = gf.Attention([weights, weights[:2]])
    patterns = [np.asarray(a) for a in attention(x)]
    given = gf.Attention.given(patterns, path_names=tuple("abcdef"))
    for ours, theirs in zip(given(x), patterns, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(given(x, slice(1, 3)), patterns, strict=True):
        np.testing.assert_array_equal(ours, theirs[1:3])
    found = gf.contract(x, given)
    np.testing.assert_allclose(found.xi, gf.contract(x, attention).xi, rtol=RELATIVE)
    assert found.path_names == tuple("abcdef")


def test_given_arrays_beyond_one_batch():
    """Contraction goes in batches of examples: given patterns must be cut the same way."""
    rng = np.random.default_rng(3)
    many = rng.standard_normal((300, 2, 3))
    W = rng.standard_normal((2, 2, 2))
    patterns = [np.asarray(a) for a in gf.Attention([W])(many)]
    whole = gf.contract(many, gf.Attention([W])).xi
    np.testing.assert_allclose(gf.contract(many, gf.Attention.given(patterns)).xi, whole, rtol=RELATIVE, atol=1e-15)


@pytest.mark.parametrize("library", [np, jnp])
def test_function_of_the_user(x, weights, library):
    """Uniform attention over the past, mixed with a layer given by weights."""

    def causal(inputs):
        past = library.triu(library.ones((S, S)))
        A = past / past.sum(0)
        return library.broadcast_to(A, (len(inputs), 1, S, S))

    first, second = gf.Attention([causal, weights])(x)
    for t in range(S):
        np.testing.assert_allclose(first[0, 0, :, t], [1 / (t + 1) if s <= t else 0 for s in range(S)])
    np.testing.assert_allclose(second, gf.Attention([weights])(x)[0])
    data = gf.contract(x, gf.Attention([causal, weights]))
    assert data.heads == (1, H)


def test_single_precision_columns_are_accepted(x, weights):
    patterns = np.asarray(gf.Attention([weights])(x)[0]).astype(np.float32)
    assert np.abs(patterns.sum(-2) - 1).max() < COLUMN_SUM_TOLERANCE
    gf.Attention.given([patterns])(x)
