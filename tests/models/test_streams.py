"""Reductions of batches, wherever they come from, are those of all examples; bad batches are named."""

import numpy as np
import pytest

import gibbsformer as gf

P, N_0, S = 203, 3, 5
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((P, N_0, S)), RNG.standard_normal(P)
ATTENTION = gf.Attention([RNG.standard_normal((2, N_0, N_0)), (RNG.standard_normal((2, 4, N_0)),) * 2])
NETWORK = gf.Network(N_0, (2, 2), (5, 6, 7))
DATA = gf.contract(X, ATTENTION)


def same(found: gf.Reduction, y=Y, data=DATA):
    """The same law of the labels as that of all examples at once."""
    expected = gf.Posterior(NETWORK, data, y, 0.1)
    assert found.examples == len(data)
    assert len(found.y) == len(expected.reduction.y)
    np.testing.assert_allclose(found.residual, expected.reduction.residual, rtol=1e-10, atol=1e-20)
    U = np.eye(4) + 0.3 * RNG.standard_normal((4, 4))
    given = gf.Posterior(NETWORK, found, temperature=0.1)
    one, other = (law(p, U @ U.T) for p in (given, expected))
    np.testing.assert_allclose(one, other, rtol=1e-10)


def law(posterior, U):
    """log N(y; 0, K(U) + T I) of all examples."""
    found, T = posterior.reduction, posterior.temperature
    xi = found.data.flat
    values, vectors = np.linalg.eigh(np.einsum("pnh,hg,qng->pq", xi, U, xi))
    alpha = vectors.T @ found.y
    left_out, rho = found.constants
    return -0.5 * (np.sum(alpha**2 / (values + T)) + np.sum(np.log(values + T)) + left_out * np.log(T) + rho / T)


def pairs(x=X, y=Y, sizes=(1, 50, 2, 100, 50)):
    ends = np.cumsum(sizes)
    return [(x[end - size : end], y[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def saved(folder, x=X, y=Y, **more):
    for i, (part, labels) in enumerate(pairs(x, y)):
        np.savez(folder / f"part_{i}.npz", x=part, y=labels, **more)
    return folder


def mapped(folder):
    np.save(folder / "x.npy", X), np.save(folder / "y.npy", Y)
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xy")


def hdf5(folder):
    h5py = pytest.importorskip("h5py")
    file = h5py.File(folder / "data.h5", "w")
    return file.create_dataset("x", data=X), file.create_dataset("y", data=Y)


def dask_arrays(folder):
    array = pytest.importorskip("dask.array")
    return array.from_array(X, chunks=(64, 2, 5)), array.from_array(Y, chunks=50)


def delayed(folder):
    dask = pytest.importorskip("dask")
    return [dask.delayed(pair) for pair in pairs()]


FORMS = {
    "pairs": lambda folder: pairs(),
    "generator": lambda folder: iter(pairs()),
    "arrays": lambda folder: (X, Y),
    "mapped": mapped,
    "HDF5": hdf5,
    "directory": saved,
    "name of a directory": lambda folder: str(saved(folder)),
    "Dask arrays": dask_arrays,
    "delayed": delayed,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_batches(form, tmp_path):
    same(gf.reduce(FORMS[form](tmp_path), ATTENTION, batch=64))


def test_contracted_inputs_readouts_tokens_and_own_attention():
    same(gf.reduce(pairs(DATA.xi)))
    names = ("a", "b", "c", "d")
    assert gf.reduce(pairs(DATA.xi), path_names=names).data.path_names == names
    same(gf.reduce(pairs(X.swapaxes(1, 2)), ATTENTION, "mean", tokens="rows"), data=gf.contract(X, ATTENTION, "mean"))
    own = gf.Attention([lambda x: np.full((len(x), 2, S, S), 1 / S), lambda x: np.full((len(x), 2, S, S), 1 / S)])
    same(gf.reduce(pairs(), own), data=gf.contract(X, own))
    hard = gf.Attention(ATTENTION.layers, hardmax=True)
    same(gf.reduce(pairs(), hard), data=gf.contract(X, hard))


@pytest.mark.parametrize("kind", ["duplicated", "one direction", "fewer than inputs", "scaled"])
def test_rank_is_found_as_in_one_piece(kind):
    xi = RNG.standard_normal((40, N_0, 2, 2))
    if kind == "duplicated":
        xi[8:] = xi[np.arange(32) % 8]
    if kind == "one direction":
        xi[:, 1:] = 0
    xi = xi[:9] if kind == "fewer than inputs" else xi
    xi = xi * 1e-6 if kind == "scaled" else xi
    sizes = (5,) * (len(xi) // 5) + (len(xi) % 5,) * (len(xi) % 5 > 0)
    same(gf.reduce(pairs(xi, Y[: len(xi)], sizes)), Y[: len(xi)], gf.PathInputs(xi))


def test_merged_reductions_are_that_of_all_examples():
    parts = [gf.reduce([pair], ATTENTION) for pair in pairs()]
    same(parts[0].merge(parts[1]).merge(parts[2].merge(parts[3].merge(parts[4]))))
    half = gf.Posterior(NETWORK, gf.PathInputs(DATA.xi[:100]), Y[:100], 0.1).reduction
    same(half.merge(gf.reduce((X[100:], Y[100:]), ATTENTION)))


def test_float32_inputs_stay_so_until_they_are_contracted(monkeypatch):
    """No copy of a batch in float64 is made, and each number counts as it is."""
    from gibbsformer.models import streams

    seen = []
    whole = streams.contract_batch
    monkeypatch.setattr(
        streams, "contract_batch", lambda given, *more: seen.append(given.x.dtype) or whole(given, *more)
    )
    x = X.astype(np.float32)
    same(gf.reduce((x, Y), ATTENTION, batch=64), data=gf.contract(x, ATTENTION))
    assert set(seen) == {np.dtype(np.float32)}


def test_classes_are_found_in_the_first_batch():
    y = np.where(Y > 0, "dog", "cat")
    found = gf.reduce(pairs(y=y, sizes=(103, 100)), ATTENTION)
    assert found.classes == ("cat", "dog")
    same(found, y)
    given = gf.reduce(pairs(y=np.zeros(P)), ATTENTION, classes=(0, 1))
    assert given.classes == (0, 1)
    assert gf.reduce(pairs(y=np.zeros(P)), ATTENTION, classes=()).classes == ()


def test_parts_are_padded_and_cut(monkeypatch):
    monkeypatch.setattr("gibbsformer.models.contraction._PART_BYTES", 8 * S * (N_0 + 8 * S) * 20)
    same(gf.reduce((X, Y), ATTENTION, batch=P))


def with_value(batch, row, value, array=0):
    """Batches of 11 examples, one of which has a bad entry in its inputs (array 0) or labels (1)."""
    found = [[x.copy(), y.copy()] for x, y in pairs(sizes=(11,) * 18)]
    found[batch][array][row] = value
    return found


def other_class():
    found = [(x, np.sign(y)) for x, y in pairs()]
    return [*found[:3], (found[3][0], np.append(found[3][1][:-1], 2.0)), found[4]]


CASES = {
    "NaN": (lambda t: with_value(17, 3, np.nan), r"x of batches\[17\] holds nan in row 3"),
    "infinity": (lambda t: with_value(2, 10, -np.inf), r"x of batches\[2\] holds -inf in row 10"),
    "NaN label": (lambda t: with_value(17, 4, np.nan, 1), r"y of batches\[17\] is nan at index \(4,\)"),
    "NaN in arrays": (lambda t: (np.where(np.arange(P)[:, None, None] == 130, np.nan, X), Y),
                      r"x of batches\[2\] \(examples from 128\) holds nan in row 2"),
    "other shape": (lambda t: [*pairs(), (X[:4, :, :4], Y[:4])], r"x of batches\[5\] has shape \(4, 3, 4\).*\(3, 5\)"),
    "other rank": (lambda t: [*pairs(), (X[:4, 0], Y[:4])], r"x of batches\[5\] has shape \(4, 5\)"),
    "lengths": (lambda t: [(X[:5], Y[:4])], r"y of batches\[0\] has 4 labels and x has 5"),
    "lengths of arrays": (lambda t: (X, Y[:-1]), r"x of shape \(203, 3, 5\) and y of shape \(202,\)"),
    "no batches": (lambda t: iter(()), "batches is empty"),
    "empty batch": (lambda t: [(X[:0], Y[:0])], r"x of batches\[0\] has shape \(0, 3, 5\), which is empty"),
    "empty arrays": (lambda t: (X[:0], Y[:0]), "batches is empty"),
    "no pair": (lambda t: [X], r"batches\[0\] is a ndarray: give pairs"),
    "triples": (lambda t: [(X, Y, Y)], r"batches\[0\] is a tuple of 3: give pairs"),
    "one array": (lambda t: X, "batches is a ndarray: give pairs"),
    "number": (lambda t: 3, "batches is a int: give pairs"),
    "no directory": (lambda t: t / "none", "none' is not a directory"),
    "empty directory": (lambda t: t, "holds no .npz files"),
    "file without x": (lambda t: np.savez(t / "a.npz", z=X) or t, r"batches\[0\] \(a.npz\) holds 'z': it must"),
    "damaged file": (lambda t: (t / "a.npz").write_text("?") and t, r"batches\[0\] \(a.npz\).*not a zip archive"),
    "class": (lambda t: other_class(), r"y of batches\[3\] is 2.0 at index 99"),
    "one class": (lambda t: pairs(y=np.zeros(P)), r"y of batches\[0\] is 0 for all.*give classes"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_batches_are_named_in_one_line(case, tmp_path):
    make, said = CASES[case]
    with pytest.raises(ValueError, match=said) as error:
        gf.reduce(make(tmp_path), ATTENTION, batch=64)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attention": ATTENTION.layers}, "attention is a tuple: give"),
        ({"attention": gf.Attention.given([np.full((P, 1, S, S), 1 / S)])}, "attention holds patterns.*give the xi"),
        ({"attention": ATTENTION, "readout": "lst"}, "readout='lst'"),
        ({"attention": ATTENTION, "tokens": "row"}, "tokens='row'"),
        ({"attention": ATTENTION, "path_names": ("a",)}, "path_names=.*give them to"),
        ({"attention": ATTENTION, "batch": 0}, "batch=0"),
        ({"attention": ATTENTION, "classes": (0, 1, 1)}, r"classes=\(0, 1, 1\)"),
        ({"attention": None, "path_names": ("a",)}, r"path_names=\('a',\) must be 5"),
    ],
)
def test_bad_options_are_refused_before_anything_is_read(options, said):
    reading = iter([(X, Y), "never read"])
    with pytest.raises(ValueError, match=said):
        gf.reduce(reading, **options)
    assert next(reading) is not None


def test_progress(capsys):
    gf.reduce(pairs(), ATTENTION, progress=True)
    gf.reduce(iter(pairs()), ATTENTION, progress=True)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "reduce: 5/5 chunks", "reduce: 5 chunks",
    ]  # fmt: skip
    gf.reduce(pairs(), ATTENTION)
    assert capsys.readouterr().err == ""
