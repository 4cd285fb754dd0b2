"""A posterior of a reduction is that of its examples; what needs each of them is refused in one line."""

import dataclasses

import h5py
import jax
import numpy as np
import pytest

import gibbsformer as gf

KEY = jax.random.key(3)
OPTIONS = {"key": KEY, "chains": 2, "warmup": 20, "draws": 10, "progress": False}
NETWORK = gf.Network(3, (2, 2), (6, 7, 5))


@pytest.fixture(scope="module")
def pair():
    """A posterior of 100 examples of two named classes, that of their reduction, and a test set."""
    rng = np.random.default_rng(0)
    data, y = gf.PathInputs(rng.standard_normal((100, 3, 2, 2))), rng.choice(["cat", "dog"], 100)
    whole = gf.Posterior(NETWORK, data, y, 0.1)
    test = (gf.PathInputs(rng.standard_normal((6, 3, 2, 2))), rng.choice(["cat", "dog"], 6))
    return whole, gf.Posterior(NETWORK, whole.reduction, temperature=0.1), test


def test_it_is_what_it_stands_for(pair):
    whole, reduced, _ = pair
    assert (reduced.examples, len(reduced.y), len(reduced.data)) == (100, 12, 12)
    assert reduced.classes == whole.classes == ("cat", "dog")
    assert not reduced.has_examples
    again = dataclasses.replace(reduced, temperature=0.3)
    assert (again.examples, again.reduction) == (100, reduced.reduction)
    assert "P=100" in repr(again)


@pytest.mark.slow
def test_theory_sub_network_predictor_and_evidence(pair):
    whole, reduced, (inputs, y) = pair
    for paths in (None, [0, 1]):
        one, other = (gf.theory.solve(p, paths) for p in (reduced, whole))
        np.testing.assert_allclose(one.action, other.action, rtol=1e-10)
        np.testing.assert_allclose(gf.predict(one, inputs).mean, gf.predict(other, inputs).mean, rtol=1e-6, atol=1e-8)
    assert gf.score(gf.predict(one, inputs), y) == gf.score(gf.predict(other, inputs), y)
    assert len(reduced.select([0, 1]).reduction.y) == 6  # of the kept paths alone
    grid, single = gf.theory.grid(reduced, (6,), (0.3,)), gf.Network(3, (2, 2), (6, 6, 6))
    expected = gf.theory.solve(gf.Posterior(single, whole.reduction, temperature=0.3))
    np.testing.assert_allclose(grid[0, 0].action, expected.action, rtol=1e-10)
    found = {name: gf.evidence(p, key=KEY, particles=64, repeats=2) for name, p in (("a", reduced), ("b", whole))}
    np.testing.assert_allclose(*gf.select(found)["log_evidence"], rtol=1e-10)


@pytest.mark.parametrize(
    "kernel", ["independent", *(pytest.param(k, marks=pytest.mark.slow) for k in ("collapsed", "gibbs", "nuts"))]
)
def test_draws_and_files(pair, kernel, tmp_path):
    """The same draws, which a file of the reduction gives back and continues."""
    whole, reduced, test = pair
    kernel = gf.Collapsed(move="independent") if kernel == "independent" else kernel
    run = gf.sample(reduced, kernel, test=test, store=tmp_path / "run.h5", **OPTIONS)
    other = gf.sample(whole, kernel, test=test, **OPTIONS)
    np.testing.assert_array_equal(run.order_parameters.U[0], other.order_parameters.U[0])
    opened = gf.open(tmp_path / "run.h5")
    assert opened.posterior.reduction.digest == reduced.reduction.digest
    assert (opened.posterior.examples, opened.posterior.classes) == (100, ("cat", "dog"))
    if kernel not in ("gibbs", "nuts"):
        gf.resume(tmp_path / "run.h5", draws=20, progress=False)
        straight = gf.sample(reduced, kernel, test=test, **OPTIONS | {"draws": 20})
        resumed = gf.open(tmp_path / "run.h5")
        np.testing.assert_array_equal(resumed.order_parameters.U[0][:], straight.order_parameters.U[0])
        gf.report([resumed], tmp_path / "report.html")
        assert "P = 100 as 12 pseudo-examples" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_a_changed_file_is_refused(pair, tmp_path):
    gf.sample(pair[1], store=tmp_path / "run.h5", **OPTIONS)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        file["observed_data/y"][3] += 1e-12
    with pytest.raises(ValueError, match=r"checksum mismatch"):
        gf.open(tmp_path / "run.h5")


def test_batches_are_refused_or_of_pseudo_examples(pair):
    _, reduced, _ = pair
    small = gf.SGLD(batch_size=5)
    with pytest.raises(ValueError, match=r"the 100 training examples.*reduce='batches'"):
        gf.sample(reduced, small, **OPTIONS)
    allowed = dataclasses.replace(reduced, reduce="batches")
    assert gf.sample(allowed, small, **OPTIONS | {"warmup": 0}).draws == 10
    with pytest.raises(ValueError, match="more than the 12 examples"):
        gf.sample(allowed, gf.SGLD(batch_size=20), **OPTIONS)
    of_examples = dataclasses.replace(pair[0], y=np.where(pair[0].y > 0, "dog", "cat"), reduce="batches")
    assert len(of_examples.weight_data(float).batched[1]) == 12


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p, r: gf.alignment(gf.theory.gp(p)), "alignment needs the 100 training examples.*give"),
        (lambda p, r: gf.renormalized_kernel(gf.theory.gp(p)), "left=None needs the 100 training examples.*give left"),
        (lambda p, r: gf.Posterior(NETWORK, r, np.ones(100), 0.1), "y=.*leave y out"),
        (lambda p, r: gf.Posterior(NETWORK, r, temperature=0.1, classes=(0, 1)), r"classes=\(0, 1\).*leave"),
        (lambda p, r: gf.Posterior(NETWORK, r), "temperature=None.*give a number"),
        (lambda p, r: gf.Posterior(NETWORK, r.data), "y=None: give labels"),
        (lambda p, r: gf.Posterior(gf.Network(3, (4,), (6, 7)), r, temperature=0.1), r"heads \(2, 2\).*make them"),
        (lambda p, r: gf.Posterior(NETWORK, r, temperature=0.1, reduce="no"), "reduce='no' must be"),
        (lambda p, r: dataclasses.replace(p, y=np.ones(12)), "data and y.*make another"),
        (lambda p, r: r.merge(r.data), "other is a PathInputs: give"),
        (lambda p, r: r.merge(dataclasses.replace(r, classes=())), r"other has classes \(\).*make them the same"),
        (lambda p, r: r.merge(r.select([0, 1])), r"other has inputs.*make them the same"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_line(pair, call, said):
    reduced = pair[1]
    with pytest.raises(ValueError, match=said) as error:
        call(reduced, reduced.reduction)
    assert "\n" not in str(error.value)
