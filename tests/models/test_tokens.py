"""Padded sequences against the same sequences without padding, causal masks, and outputs of every token."""

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core.checks import InputError, InputWarning
from gibbsformer.models.attention import bilinear_attention
from gibbsformer.models.reduction import labelled

pytestmark = pytest.mark.usefixtures("x64")

RELATIVE = 1e-10  # float64 rounding of sums of up to a few hundred terms
P, N_0, S = 5, 3, 6
RNG = np.random.default_rng(0)
X = RNG.standard_normal((P, N_0, S))
W, QK = RNG.standard_normal((2, N_0, N_0)), tuple(RNG.standard_normal((2, 2, 4, N_0)))
ATTENTION = gf.Attention([W, QK])
MASK = RNG.random((P, S)) < 0.6  # padding anywhere, also between tokens and before them
MASK[:, 2] = True
MASK[0] = True
LENGTHS = np.array([6, 1, 4, 3, 6])
BY_LENGTH = np.arange(S) < LENGTHS[:, None]
KINDS = {"softmax": {}, "causal": {"causal": True}, "both": {"hardmax": True, "causal": True}}


def alone(x, attention, mask, readout, **options):
    """xi of each sequence without its padding."""
    return [
        gf.contract(one[None][:, :, real], attention, readout, tokens="columns", **options).xi
        for one, real in zip(x, mask, strict=True)
    ]


@pytest.mark.parametrize(("kind", "residual"), [("softmax", ()), ("causal", (0.5, 2.0)), ("both", ())])
@pytest.mark.parametrize("readout", ["last", "first", "mean", "all"])
def test_padding_is_as_if_it_were_not_there(kind, readout, residual):
    attention = gf.Attention(ATTENTION.layers, **KINDS[kind])
    for mask in (MASK, BY_LENGTH):
        x = np.where(mask[:, None], X, np.nan)  # whatever it holds
        found = gf.contract(x, attention, readout, mask=mask, residual=residual)
        expected = np.concatenate(alone(X, attention, mask, readout, residual=residual))
        np.testing.assert_allclose(found.xi, expected, rtol=RELATIVE, atol=1e-14)


def test_padding_neither_attends_nor_is_attended_to():
    for a in ATTENTION(X, mask=MASK):
        pairs = MASK[:, None, :, None] & MASK[:, None, None, :]
        assert not np.any(np.where(pairs, 0, a))
        np.testing.assert_allclose(np.sum(a, 2), np.broadcast_to(MASK[:, None], (P, 2, S)), rtol=RELATIVE)


def test_gradients_do_not_see_padding():
    """The column of a target that is padding has no source to attend to, which leaves no NaN behind."""
    mask = np.arange(S) >= np.array([3, 0, 5, 1, 2])[:, None]

    def value(weights):
        return (bilinear_attention(X, weights, causal=True, mask=mask) ** 2).sum()

    slope = jax.grad(value)(W)
    step = np.zeros_like(W)
    step[0, 1, 2] = 1e-5
    difference = (value(W + step) - value(W - step)) / 2e-5
    np.testing.assert_allclose(slope[0, 1, 2], difference, rtol=1e-6)  # of the central difference, 1e-10 of it


def test_lengths_lists_and_masks_are_the_same():
    expected = gf.contract(X, ATTENTION, mask=BY_LENGTH).xi
    np.testing.assert_array_equal(gf.contract(X, ATTENTION, lengths=LENGTHS).xi, expected)
    ragged = [x[:, :n] for x, n in zip(X, LENGTHS, strict=True)]
    np.testing.assert_array_equal(gf.contract(ragged, ATTENTION).xi, expected)
    np.testing.assert_array_equal(gf.contract([x.T for x in ragged], ATTENTION, tokens="rows").xi, expected)
    np.testing.assert_array_equal(gf.contract(X, ATTENTION, mask=BY_LENGTH.astype(int)).xi, expected)
    whole = gf.contract(X, ATTENTION).xi
    np.testing.assert_array_equal(gf.contract(X, ATTENTION, mask=np.ones((P, S))).xi, whole)
    np.testing.assert_array_equal(gf.contract(list(X), ATTENTION).xi, whole)


def test_causal_patterns_against_a_loop():
    causal = gf.Attention(ATTENTION.layers, causal=True)
    for a, whole in zip(causal(X), ATTENTION(X), strict=True):
        for t in range(S):
            past = np.asarray(whole)[:, :, : t + 1, t]  # of a softmax over all tokens, those so far
            np.testing.assert_allclose(a[:, :, : t + 1, t], past / past.sum(2, keepdims=True), rtol=RELATIVE)
            assert not np.any(a[:, :, t + 1 :, t])
    assert repr(causal) == "Attention(2 layers, causal)"


def test_functions_and_given_patterns_that_are_not_causal_are_refused():
    own = gf.Attention([W, lambda x: np.full((len(x), 1, x.shape[2], x.shape[2]), 1 / x.shape[2])], causal=True)
    with pytest.raises(InputError, match=r"attention of layer 2 has weights of later tokens.*causal=True"):
        gf.contract(X, own)
    past = np.triu(np.ones((S, S)))
    fine = gf.Attention([W, lambda x: np.broadcast_to(past / past.sum(0), (len(x), 1, S, S))], causal=True)
    gf.contract(X, fine)


def test_an_index_per_sequence():
    index = np.array([0, 5, 2, 3, 1])
    found = gf.contract(X, ATTENTION, index, residual=True)
    for mu, t in enumerate(index):
        permuted = np.concatenate([np.delete(X[mu], t, 1), X[mu][:, [t]]], 1)  # softmax does not see the order
        last = gf.contract(permuted[None], ATTENTION, "last", residual=True)
        np.testing.assert_allclose(found.xi[mu], last.xi[0], rtol=RELATIVE, atol=1e-14)


def test_all_is_every_index_one_after_another():
    found = gf.contract(X, ATTENTION, "all", residual=(1, 0.5), mask=MASK)
    assert (len(found), found.heads) == (MASK.sum(), (3, 3))
    np.testing.assert_array_equal(found.tokens, MASK)
    rows = iter(found.xi)
    for mu, t in zip(*np.nonzero(MASK), strict=True):
        one = gf.contract(X[[mu]], ATTENTION, [t], residual=(1, 0.5), mask=MASK[[mu]])
        np.testing.assert_allclose(next(rows), one.xi[0], rtol=RELATIVE, atol=1e-14)


def test_labels_of_tokens():
    y = RNG.standard_normal((P, S))
    network = gf.Network(N_0, (2, 2), (4, 4, 4))
    for mask in (None, MASK):
        data = gf.contract(X, ATTENTION, "all", mask=mask)
        real = np.ones((P, S), bool) if mask is None else mask
        given = np.where(real, y, np.nan)
        flat = y[real]
        ragged = [row[keep] for row, keep in zip(y, real, strict=True)]
        for form in (given, flat, ragged, given.tolist()):
            posterior = gf.Posterior(network, data, form, 0.1, reduce=False)
            np.testing.assert_array_equal(posterior.y, flat)
        np.testing.assert_array_equal(data.by_token(flat), given)
        _, seen = gf.Posterior(network, data, flat, 0.1).checked_test((data, given))
        np.testing.assert_array_equal(seen, flat)
        some = data.select(["(1 1)", "(1 2)"])
        np.testing.assert_array_equal(some.labels(given), flat)
    with pytest.raises(InputError, match="y has 5 labels and data has 19"):
        gf.Posterior(network, data, y[:, :2], 0.1)
    with pytest.raises(InputError, match="values has shape"):
        data.by_token(y)
    one = gf.contract(X, ATTENTION)
    np.testing.assert_array_equal(one.by_token(y[:, 0]), y[:, 0])
    assert one.labels(y) is y


def test_functions_see_the_mask_if_they_ask_for_it():
    seen = []

    def uniform(x, mask=None):
        seen.append(mask)
        real = np.ones((len(x), x.shape[2])) if mask is None else np.asarray(mask, float)
        return np.broadcast_to((real / real.sum(1, keepdims=True))[:, None, :, None], (len(real), 1, S, S))

    own = gf.Attention([uniform])
    found = gf.contract(X, own, "mean", mask=MASK)
    expected = np.concatenate(alone(X, gf.Attention([np.zeros((1, N_0, N_0))]), MASK, "mean"))
    np.testing.assert_allclose(found.xi, expected, rtol=RELATIVE, atol=1e-14)
    np.testing.assert_array_equal(seen[0], MASK)

    unaware = gf.Attention([lambda x: np.full((len(x), 1, S, S), 1 / S)])
    with pytest.raises(InputError, match="source tokens s that are not padding"):
        gf.contract(X, unaware, mask=MASK)
    patterns = np.asarray(ATTENTION(X, mask=MASK)[0])
    some = np.where(MASK[:, None, None, :], patterns, 1 / S)  # columns of padding hold anything
    given = gf.Attention.given([some])
    direct = gf.contract(X, gf.Attention([W]), mask=MASK)
    np.testing.assert_allclose(gf.contract(X, given, mask=MASK).xi, direct.xi, rtol=RELATIVE, atol=1e-14)


def test_parts_are_cut_and_padded_alike(monkeypatch):
    """Every array that goes with the sequences is cut as they are."""
    options = {"mask": MASK, "residual": (1, 0.5)}
    whole = {readout: gf.contract(X, ATTENTION, readout, **options).xi for readout in ("last", "all")}
    functions = gf.Attention(
        [lambda x, mask, l=l: gf.Attention([ATTENTION.layers[l]])(x, mask=mask)[0] for l in (0, 1)]
    )
    monkeypatch.setattr("gibbsformer.models.contraction._PART_BYTES", 1)
    for attention in (ATTENTION, functions, gf.Attention.given(ATTENTION(X, mask=MASK))):
        for readout, xi in whole.items():
            np.testing.assert_allclose(gf.contract(X, attention, readout, **options).xi, xi, rtol=RELATIVE, atol=1e-14)
    index = gf.contract(X, ATTENTION, [0, 1, 2, 3, 4]).xi
    monkeypatch.undo()
    np.testing.assert_allclose(index, gf.contract(X, ATTENTION, [0, 1, 2, 3, 4]).xi, rtol=RELATIVE, atol=1e-14)


MANY = RNG.standard_normal((90, N_0, S))
MANY_MASK = RNG.random((90, S)) < 0.5
MANY_MASK[:, 0] = True
Y, Y_TOKENS = RNG.standard_normal(90), RNG.standard_normal((90, S))


def gram(data, y):
    rows = np.column_stack([data.flat.reshape(len(data), -1), y])
    return rows.T @ rows


def reduced(found, data, y):
    """The reduction has the Gram matrix of [Xi | y] of all rows."""
    assert found.examples == len(data)
    rows = labelled(found.data.xi, found.y)
    expected = gram(data, y)
    expected[-1, -1] -= found.residual
    np.testing.assert_allclose(rows.T @ rows, expected, rtol=1e-9, atol=1e-9)


def files(folder, **arrays):
    for i in range(0, 90, 30):
        np.savez(folder / f"{i:02}.npz", **{name: array[i : i + 30] for name, array in arrays.items()})
    return folder


def test_reductions_of_padded_sequences(tmp_path):
    data = gf.contract(MANY, ATTENTION, "mean", mask=MANY_MASK)
    arrays = {"x": np.where(MANY_MASK[:, None], MANY, np.nan), "y": Y, "mask": MANY_MASK}
    reduced(gf.reduce(arrays, ATTENTION, "mean", batch=40), data, Y)
    reduced(gf.reduce(files(tmp_path, **arrays), ATTENTION, "mean"), data, Y)
    each = [{name: array[i : i + 20] for name, array in arrays.items()} for i in range(0, 90, 20)]
    reduced(gf.reduce(iter(each), ATTENTION, "mean"), data, Y)


def test_reductions_of_ragged_batches_of_different_lengths():
    lengths = RNG.integers(1, S + 1, 90)
    ragged = [x[:, :n] for x, n in zip(MANY, lengths, strict=True)]
    data = gf.contract(ragged, ATTENTION)
    reduced(gf.reduce((ragged, Y), ATTENTION, batch=40), data, Y)
    reduced(gf.reduce([(ragged[i : i + 7], Y[i : i + 7]) for i in range(0, 90, 7)], ATTENTION), data, Y)
    reduced(gf.reduce({"x": MANY, "y": Y, "lengths": lengths}, ATTENTION, batch=40), data, Y)


def test_reductions_of_every_token_and_of_an_index(tmp_path):
    every = gf.contract(MANY, ATTENTION, "all", mask=MANY_MASK)
    arrays = {"x": MANY, "y": Y_TOKENS, "mask": MANY_MASK}
    reduced(gf.reduce(arrays, ATTENTION, "all", batch=40), every, Y_TOKENS[MANY_MASK])
    whole = gf.contract(MANY, ATTENTION, "all")
    reduced(gf.reduce((MANY, Y_TOKENS), ATTENTION, "all", batch=40), whole, Y_TOKENS.ravel())
    index = RNG.integers(0, S, 90)
    some = gf.contract(MANY, ATTENTION, index)
    reduced(gf.reduce({"x": MANY, "y": Y, "readout": index}, ATTENTION, batch=40), some, Y)
    reduced(gf.reduce(files(tmp_path, x=MANY, y=Y, readout=index), ATTENTION), some, Y)


def test_tasks_from_arrays_and_files(tmp_path):
    y, y_test = np.sign(Y[:P]), np.sign(Y[P : 2 * P])
    options = {"mask": MASK, "lengths_test": LENGTHS}
    task = gf.tasks.arrays(X, y, ATTENTION, 2 * X, y_test, "mean", **options)
    np.testing.assert_array_equal(task.train_inputs.xi, gf.contract(X, ATTENTION, "mean", mask=MASK).xi)
    np.testing.assert_array_equal(task.test_inputs.xi, gf.contract(2 * X, ATTENTION, "mean", lengths=LENGTHS).xi)
    arrays = {"x": X, "y": y, "x_test": 2 * X, "y_test": y_test, "W_1": W, "Q_2": QK[0], "K_2": QK[1]}
    np.savez(tmp_path / "own.npz", **arrays, **options, readout="mean")
    loaded = gf.tasks.load(tmp_path / "own.npz")
    np.testing.assert_array_equal(loaded.train_inputs.xi, task.train_inputs.xi)
    np.testing.assert_array_equal(loaded.test_inputs.xi, task.test_inputs.xi)
    assert loaded.readout == loaded.settings["readout"] == "mean"
    index = {"readout": [0, 1, 2, 3, 4], "readout_test": [4, 3, 2, 1, 0]}
    np.savez(tmp_path / "index.npz", **arrays, **index, causal=True)
    loaded, causal = gf.tasks.load(tmp_path / "index.npz"), gf.Attention(ATTENTION.layers, causal=True)
    np.testing.assert_array_equal(loaded.train_inputs.xi, gf.contract(X, causal, index["readout"]).xi)
    np.testing.assert_array_equal(loaded.test_inputs.xi, gf.contract(2 * X, causal, index["readout_test"]).xi)
    every = gf.tasks.arrays(X, Y_TOKENS[:P], ATTENTION, readout="all", mask=MASK)
    assert len(every.posterior(4).y) == MASK.sum()
    ragged = gf.tasks.arrays([x[:, :n] for x, n in zip(X, LENGTHS, strict=True)], y, ATTENTION)
    np.testing.assert_array_equal(ragged.train_inputs.xi, gf.contract(X, ATTENTION, lengths=LENGTHS).xi)
    np.testing.assert_array_equal(ragged.train.mask, BY_LENGTH)


def test_a_task_does_not_see_later_changes_of_its_arrays():
    x = X.copy()
    task = gf.tasks.arrays(x, np.sign(Y[:P]), ATTENTION)
    x[:] = 0
    np.testing.assert_array_equal(task.train.x, X)


def test_float32_sequences_stay_so_and_count_as_they_are():
    x = X.astype(np.float32)
    task = gf.tasks.arrays(x, np.sign(Y[:P]), ATTENTION)
    assert task.train.x.dtype == np.float32
    np.testing.assert_array_equal(task.train_inputs.xi, gf.contract(x.astype(float), ATTENTION).xi)
    functions = gf.Attention([lambda x: gf.Attention([W])(x)[0]])
    np.testing.assert_allclose(
        gf.contract(x, functions).xi, gf.contract(x.astype(float), gf.Attention([W])).xi, rtol=RELATIVE
    )


def test_contracted_inputs_are_not_copied_unless_they_may_change():
    data = gf.contract(X, ATTENTION)
    assert gf.PathInputs(data.xi).xi is data.xi
    own = np.array(data.xi)
    kept = gf.PathInputs(own)
    own[:] = 0
    np.testing.assert_array_equal(kept.xi, data.xi)


EMPTY = np.where(np.arange(P)[:, None] == 3, False, MASK)
CASES = {
    "mask shape": ({"mask": MASK[:, 1:]}, r"mask has shape \(5, 5\): give \[P, S\] = \(5, 6\)"),
    "mask rank": ({"mask": MASK[0]}, r"mask has shape \(6,\)"),
    "mask values": ({"mask": 2 * MASK}, "mask holds 2: give True"),
    "mask with an empty sequence": ({"mask": EMPTY}, "mask leaves no token of sequence 3"),
    "lengths zero": ({"lengths": [6, 1, 0, 3, 6]}, r"lengths\[2\]=0 must be"),
    "lengths too long": ({"lengths": [6, 1, 2, 3, 7]}, r"lengths\[4\]=7 must be a whole number of tokens, 1 to 6"),
    "lengths not whole": ({"lengths": [6, 1.5, 2, 3, 7]}, r"lengths\[1\]=1.5"),
    "lengths of fewer": ({"lengths": [6, 1]}, "lengths has 2 entries and there are 5"),
    "both": ({"lengths": LENGTHS, "mask": MASK}, "mask and lengths say the same"),
    "index out of range": ({"readout": [0, 1, 2, 3, 6]}, r"readout\[4\]=6 must be the index of a token, 0 to 5"),
    "index negative": ({"readout": [0, 1, -1, 3, 5]}, r"readout\[2\]=-1"),
    "index not whole": ({"readout": [0, 1, 0.5, 3, 5]}, r"readout\[2\]=0.5"),
    "index of padding": ({"readout": [0, 1, 3, 3, 5], "lengths": LENGTHS}, r"readout\[1\]=1 is padding"),
    "index of fewer": ({"readout": [0, 1]}, "readout has 2 entries and there are 5"),
    "readout number": ({"readout": 2}, "readout=2 is not known"),
    "readout unknown": ({"readout": "alle"}, "did you mean 'all'"),
    "nan": ({"x": np.where(np.arange(S) == 1, np.nan, X), "lengths": LENGTHS}, "x holds nan in row 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line(case):
    options, said = CASES[case]
    options = {"x": X} | options
    with pytest.raises(InputError, match=said) as error:
        gf.contract(options.pop("x"), ATTENTION, **options)
    assert "\n" not in str(error.value)


def test_bad_lists_batches_and_files(tmp_path):
    ragged = [x[:, :n] for x, n in zip(X, LENGTHS, strict=True)]
    with pytest.raises(InputError, match="mask is given, but x is a list of sequences"):
        gf.contract(ragged, ATTENTION, mask=MASK)
    with pytest.raises(InputError, match=r"x\[1\] has input width 2 and x\[0\] has 3"):
        gf.contract([X[0], X[1][:2]], ATTENTION)
    with pytest.raises(InputError, match=r"mask of batches\[1\] leaves no token of sequence 3"):
        gf.reduce([{"x": X, "y": Y[:P], "mask": m} for m in (MASK, EMPTY)], ATTENTION)
    with pytest.raises(InputError, match=r"y of batches\[0\].*has 5 labels and x has 30 tokens that are not padding"):
        gf.reduce((X, Y[:P]), ATTENTION, "all")
    with pytest.raises(InputError, match="give each batch its own"):
        gf.reduce((X, Y[:P]), ATTENTION, [0, 1, 2, 3, 4])
    with pytest.raises(InputError, match=r"batches has x of shape \(5, 3, 6\) and y of shape \(5,\) and mask of"):
        gf.reduce({"x": X, "y": Y[:P], "mask": MASK[:4]}, ATTENTION)
    with pytest.raises(InputError, match=r"batches\[0\] holds 'y': it must hold x and y"):
        gf.reduce([{"y": Y}], ATTENTION)
    with pytest.raises(InputError, match="batches has nothing of this kind"):
        gf.reduce({}, ATTENTION)
    with pytest.raises(InputError, match="mask_test leaves no token of sequence 3"):
        gf.tasks.arrays(X, Y[:P], ATTENTION, X, Y[:P], mask_test=EMPTY)
    with pytest.raises(InputError, match="readout_test=None"):
        gf.tasks.arrays(X, Y[:P], ATTENTION, X, Y[:P], [0, 1, 2, 3, 4])
    with pytest.raises(InputError, match=r"readout_test=\[0\]"):
        gf.tasks.arrays(X, Y[:P], ATTENTION, X, Y[:P], "last", readout_test=[0])
    with pytest.raises(InputError, match="y has 5 labels and x has 30 tokens"):
        gf.tasks.arrays(X, Y[:P], ATTENTION, readout="all")
    with pytest.raises(InputError, match="causal='yes' must be True or False"):
        gf.Attention([W], causal="yes")
    with pytest.raises(InputError, match=f"tokens marks {MASK.sum()} tokens and xi has 2 rows"):
        gf.PathInputs(np.ones((2, 3, 2)), tokens=MASK)


def test_square_sequences_still_ask_where_tokens_are():
    with pytest.warns(InputWarning, match="tokens='columns'"):
        gf.contract(X[:, :, :3], ATTENTION, "all")


def test_memory_is_counted_before_rows_are_made(monkeypatch):
    monkeypatch.setattr("gibbsformer.core.checks.available_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"gf\.reduce, which holds one batch"):
        gf.contract(X, ATTENTION, "all")


def test_keys_of_jax_arrays():
    found = gf.contract(jax.numpy.asarray(X), ATTENTION, "mean", mask=jax.numpy.asarray(MASK))
    np.testing.assert_array_equal(found.xi, gf.contract(X, ATTENTION, "mean", mask=MASK).xi)
