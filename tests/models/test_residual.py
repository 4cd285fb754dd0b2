"""Paths through skip connections against explicit sums over tokens and against an independent program."""

import pickle
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core.checks import InputError

pytestmark = pytest.mark.usefixtures("x64")

RELATIVE = 1e-10  # float64 rounding of sums of up to a few thousand terms, with room for cancellation
REFERENCE = Path(__file__).parents[1] / "data" / "residual.npz"
P, N_0, S, HEADS = 3, 4, 3, (2, 3)
RNG = np.random.default_rng(0)
X = RNG.standard_normal((P, N_0, S))
LAYERS = [RNG.standard_normal((H, N_0, N_0)) for H in HEADS]
ATTENTION = gf.Attention(LAYERS)


def naive(x, patterns, residual, readout):
    """xi [N_0, G_1, .., G_L] of one example by the sum over all (s_1, .., s_L), one branch after another."""
    width, tokens = x.shape
    branches = []
    for a, g in zip(patterns, residual, strict=True):
        heads = [(pattern, 1 / np.sqrt(len(a))) for pattern in a]
        branches.append([(np.eye(tokens), g), *heads] if g else heads)
    targets = {"last": [tokens - 1], "first": [0], "mean": range(tokens)}[readout]
    result = np.zeros((width, *map(len, branches)))
    for path in product(*(range(len(layer)) for layer in branches)):
        chosen = [layer[i] for layer, i in zip(branches, path, strict=True)]
        for chain in product(range(tokens), repeat=len(path)):
            for target in targets:
                ends = (*chain, target)
                weight = np.prod([c * a[ends[l], ends[l + 1]] for l, (a, c) in enumerate(chosen)])
                result[(slice(None), *path)] += x[:, chain[0]] * weight / len(targets) / np.sqrt(width)
    return result


@pytest.mark.parametrize("residual", [(1.0, 0.5), (0.0, 2.0), (0.7, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("readout", ["last", "first", "mean"])
def test_two_layers_against_a_loop(residual, readout):
    found = gf.contract(X, ATTENTION, readout, residual=residual)
    patterns = [np.asarray(a) for a in ATTENTION(X)]
    for mu in range(P):
        expected = naive(X[mu], [a[mu] for a in patterns], residual, readout)
        np.testing.assert_allclose(found.xi[mu], expected, rtol=RELATIVE, atol=1e-14)
    assert found.residual == residual
    assert found.heads == tuple(H + (g > 0) for H, g in zip(HEADS, residual, strict=True))


@pytest.mark.parametrize(("heads", "residual"), [((2,), (3.0,)), ((2, 1, 2), (0.5, 0.0, 2.0)), ((1, 1, 2), (1, 1, 1))])
@pytest.mark.parametrize("readout", ["last", "mean"])
def test_one_and_three_layers_against_a_loop(heads, residual, readout):
    attention = gf.Attention([RNG.standard_normal((H, N_0, N_0)) for H in heads])
    found = gf.contract(X, attention, readout, residual=residual)
    patterns = [np.asarray(a) for a in attention(X)]
    expected = naive(X[0], [a[0] for a in patterns], residual, readout)
    np.testing.assert_allclose(found.xi[0], expected, rtol=RELATIVE, atol=1e-14)


def test_an_independent_program():
    with np.load(REFERENCE) as file:
        attention = gf.Attention.given([file["A1"], file["A2"]])
        found = gf.contract(file["x"], attention, residual=True)
        np.testing.assert_allclose(found.flat, file["xi"], rtol=RELATIVE, atol=1e-14)
    assert found.residual == (1.0, 1.0)


def test_no_residual_is_todays_network_exactly():
    np.testing.assert_array_equal(gf.contract(X, ATTENTION, residual=False).xi, gf.contract(X, ATTENTION).xi)
    assert gf.contract(X, ATTENTION).residual == (0.0, 0.0)
    assert gf.PathInputs(np.ones((2, 3, 4))).residual == (0.0,)


def test_names():
    data = gf.contract(X, ATTENTION, residual=(0, 1))
    assert data.path_names == ("(1 skip)", "(1 1)", "(1 2)", "(1 3)", "(2 skip)", "(2 1)", "(2 2)", "(2 3)")
    assert gf.contract(X, ATTENTION, residual=(1, 0)).path_names[:4] == ("(skip 1)", "(skip 2)", "(skip 3)", "(1 1)")
    assert gf.contract(X, ATTENTION, residual=True).path_names[0] == "(skip skip)"
    assert repr(data) == "PathInputs(P=3, N_0=4, heads=(2, 4), residual=(0.0, 1.0))"


def test_names_of_the_user_are_those_of_paths_without_a_skip():
    named = gf.Attention(LAYERS, path_names=tuple("abcdef"))
    data = gf.contract(X, named, residual=(1, 0))
    assert data.path_names == ("(skip 1)", "(skip 2)", "(skip 3)", *"abcdef")
    every = gf.Attention(LAYERS, path_names=tuple("abcdefghi"))
    assert gf.contract(X, every, residual=(1, 0)).path_names == tuple("abcdefghi")
    task = gf.tasks.hidden_markov_chain(_key(), examples=2, test_examples=2, features=4, length=3, residual=True)
    assert task.train_inputs.path_names[4:6] == ("good", "same-token/random")
    assert task.train_inputs.path_names[:4] == ("(skip skip)", "(skip 1)", "(skip 2)", "(1 skip)")
    assert task.settings["residual"] == [1.0, 1.0]
    assert task.test_inputs.residual == (1.0, 1.0)


@pytest.mark.parametrize(
    ("first", "second"), [([1], [0, 2, 3]), ([0, 1, 2], [1]), ([0, 2], [0, 1, 3]), ([0], [0]), ([0], [2]), ([1], [0])]
)
def test_subsets_of_branches_are_the_network_with_those(first, second):
    """Branch 0 is the skip connection: it keeps g_l, and heads have 1/sqrt(their number that is left)."""
    residual = (0.5, 2.0)
    data = gf.contract(X, ATTENTION, residual=residual)
    chosen = data.select([i * 4 + j for i in first for j in second])
    assert chosen.heads == (len(first), len(second))
    assert chosen.residual == tuple(g if 0 in kept else 0.0 for g, kept in zip(residual, (first, second), strict=True))
    patterns = [np.asarray(a)[0] for a in ATTENTION(X)]
    left = [a[[i - 1 for i in kept if i]] for a, kept in zip(patterns, (first, second), strict=True)]
    expected = naive(X[0], left, chosen.residual, "last")
    np.testing.assert_allclose(chosen.xi[0], expected, rtol=RELATIVE, atol=1e-14)
    assert chosen.path_names == tuple(data.path_names[i * 4 + j] for i in first for j in second)


def test_any_subset_in_one_step_or_two():
    data = gf.contract(X, ATTENTION, residual=(1, 1))
    names = ["(skip skip)", "(skip 1)", "(1 1)", "(1 2)", "(2 3)", "(2 skip)"]
    some = data.select(names)
    assert (some.heads, some.residual) == ((6,), (0.0,))
    again = some.select(["(1 1)", "(skip 1)", "(2 skip)"])
    once = data.select(["(1 1)", "(skip 1)", "(2 skip)"])
    np.testing.assert_allclose(again.xi, once.xi, rtol=1e-13)
    # one of six paths without a skip, one of three that skip the first layer, one of two that skip the second
    scale = once.flat / data.flat[:, :, [data.path_names.index(name) for name in once.path_names]]
    np.testing.assert_allclose(scale[0, 0], np.sqrt([3, 2, 6])[[0, 2, 1]], rtol=1e-12)


def test_pruned_inputs_follow_the_same_rule():
    data = gf.contract(X, ATTENTION, residual=(0.5, 2.0))
    kept = ["(skip skip)", "(skip 2)", "(1 skip)", "(1 2)"]
    gone = [name for name in data.path_names if name not in kept]
    pruned, chosen = gf.prune(data, paths=gone), data.select(kept)
    assert pruned.residual == data.residual
    places = [data.path_names.index(name) for name in kept]
    np.testing.assert_allclose(pruned.flat[:, :, places], chosen.flat, rtol=1e-13)
    assert np.count_nonzero(np.abs(pruned.flat).sum((0, 1))) == 4


def test_what_is_kept_of_it():
    data = gf.contract(X, ATTENTION, residual=(0.5, 2.0))
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.residual, copy.path_names, copy.heads) == (data.residual, data.path_names, data.heads)
    again = gf.PathInputs(data.xi, residual=(0.5, 2))
    assert (again.residual, again.path_names) == (data.residual, data.path_names)
    assert gf.PathInputs(data.xi, residual=True).residual == (1.0, 1.0)
    assert data.like(data.xi[:1]).residual == data.residual


@pytest.mark.parametrize("attention", [ATTENTION, gf.Attention([*ATTENTION._patterns])], ids=["weights", "functions"])
def test_reductions(attention):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((100, N_0, S)), rng.standard_normal(100)
    found = gf.reduce([(x[:30], y[:30]), (x[30:], y[30:])], attention, residual=(1, 0.5))
    data = gf.contract(x, attention, residual=(1, 0.5))
    assert (found.data.residual, found.data.path_names) == (data.residual, data.path_names)
    expected = np.einsum("pnh,pmg->nhmg", data.flat, data.flat)
    np.testing.assert_allclose(np.einsum("pnh,pmg->nhmg", found.data.flat, found.data.flat), expected, atol=1e-12)
    contracted = gf.reduce([(data.xi, y)], residual=(1, 0.5))
    assert contracted.data.path_names == data.path_names
    joined = gf.reduce([(x[:30], y[:30])], attention, residual=(1, 0.5)).merge(contracted)
    assert joined.data.residual == data.residual
    with pytest.raises(InputError, match="other has residual"):
        gf.reduce([(data.xi, y)], residual=(1, 1)).merge(contracted)
    fewer = found.select(["(skip skip)", "(1 skip)"])
    assert fewer.data.residual == (1.0, 0.5)
    alone = data.select(["(skip skip)", "(1 skip)"]).flat
    expected = np.einsum("pnh,pmg->nhmg", alone, alone)
    np.testing.assert_allclose(np.einsum("pnh,pmg->nhmg", fewer.data.flat, fewer.data.flat), expected, atol=1e-12)


def test_tasks_from_arrays_and_files(tmp_path):
    y = np.array([1.0, -1, 1])
    task = gf.tasks.arrays(X, y, ATTENTION, residual=(0.5, 1))
    np.testing.assert_array_equal(task.train_inputs.xi, gf.contract(X, ATTENTION, residual=(0.5, 1)).xi)
    np.savez(tmp_path / "own.npz", x=X, y=y, W_1=LAYERS[0], W_2=LAYERS[1], residual=[0.5, 1])
    np.testing.assert_array_equal(gf.tasks.load(tmp_path / "own.npz").train_inputs.xi, task.train_inputs.xi)


def test_columns_that_need_not_sum_to_one():
    """Linear attention: scores without a softmax, given or by a function."""
    scores = np.einsum("pas,hab,pbt->phst", X, LAYERS[0], X)
    with pytest.raises(InputError, match="normalised=False"):
        gf.contract(X, gf.Attention.given([scores]))
    found = gf.contract(X, gf.Attention.given([scores], normalised=False), residual=(1,))
    np.testing.assert_allclose(found.xi[0], naive(X[0], [scores[0]], (1.0,), "last"), rtol=RELATIVE, atol=1e-14)
    tested = gf.Attention.given([scores], test=[scores[:1]], normalised=False).of_test()
    np.testing.assert_array_equal(gf.contract(X[:1], tested, residual=(1,)).xi, found.xi[:1])

    def linear(x):
        return np.einsum("pas,hab,pbt->phst", x, LAYERS[0], x)

    own = gf.Attention([linear], normalised=False)
    np.testing.assert_allclose(gf.contract(X, own, residual=(1,)).xi, found.xi, rtol=RELATIVE)


@pytest.mark.parametrize(
    ("residual", "said"),
    [
        ((1.0, -0.5), r"residual\[1\]=-0.5"),
        ((1.0,), "has length 1 and the number of layers is 2"),
        ((1.0, np.nan), r"residual\[1\]=nan"),
        ((np.inf, 1.0), r"residual\[0\]=inf"),
        (0.5, "residual=0.5"),
        ("yes", "residual='yes'"),
        ((True, 1.0), r"residual\[0\]=True"),
        (None, "residual=None"),
    ],
)
def test_bad_strengths(residual, said):
    calls = [
        lambda: gf.contract(X, ATTENTION, residual=residual),
        lambda: gf.PathInputs(np.ones((2, 3, 2, 2)), residual=residual),
        lambda: gf.reduce([(X, np.ones(P))], ATTENTION, residual=residual),
        lambda: gf.tasks.arrays(X, np.ones(P), ATTENTION, residual=residual),
    ]
    for call in calls:
        with pytest.raises(InputError, match=said):
            call()


def test_a_skip_path_that_does_not_exist():
    with pytest.raises(InputError, match=r"'\(skip 1\)' is not known"):
        gf.contract(X, ATTENTION, residual=(0, 1)).select(["(skip 1)"])


def _key():
    import jax

    return jax.random.key(0)
