"""An opened run is what its file held then: growth is not seen, a replaced file is refused, at every entrance."""

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core import checks
from gibbsformer.store import SampleFile, read
from gibbsformer.store.reading import _within

OPTIONS = {"chains": 2, "warmup": 5, "key": jax.random.key(0), "progress": False}


@pytest.fixture
def path(small, tmp_path):
    path = tmp_path / "run.h5"
    gf.sample(small.posterior, "gibbs", draws=10, store=path, keep="order_parameters", **OPTIONS)
    return path


def test_a_file_that_grows(path):
    old = gf.open(path)
    before = np.asarray(old.variables["U_1"])
    new = gf.resume(path, draws=14, progress=False)
    assert (old.draws, new.draws) == (10, 14)
    np.testing.assert_array_equal(old.variables["U_1"], before)
    np.testing.assert_array_equal(new.variables["U_1"][:, :10], before)
    assert len(old.summary()) == len(new.summary())
    assert {n: d.sizes["draw"] for n, d in old.datasets().items()}.popitem()[1] == 10
    now = old.refresh()
    assert now.draws == 14
    np.testing.assert_array_equal(now.variables["U_1"], new.variables["U_1"])


@pytest.fixture(scope="module")
def grown(small, tmp_path_factory):
    """(U_1 of a run as of its opening, what it was then), after its file took more draws."""
    path = tmp_path_factory.mktemp("grown") / "run.h5"
    gf.sample(small.posterior, "gibbs", draws=10, store=path, keep="order_parameters", **OPTIONS)
    U_1 = gf.open(path).variables["U_1"]
    before = np.asarray(U_1)
    gf.resume(path, draws=12, progress=False)
    return U_1, before


@pytest.mark.parametrize(
    "index",
    [
        np.s_[...], np.s_[:], np.s_[:, -1], np.s_[:, -3:], np.s_[0, 2:9:3], np.s_[..., 0], np.s_[:, 3, ..., 1],
        np.s_[1, :, 0, 0], np.s_[:, [0, 4, 9]], np.s_[:, np.arange(10) > 6], np.s_[:, :-2, 1], np.s_[-1], np.s_[:, 2:2],
    ],
    ids=str,
)  # fmt: skip
def test_indices_of_a_file_that_grew(grown, index):
    U_1, before = grown
    np.testing.assert_array_equal(U_1[index], before[index])


def test_beyond_the_end():
    assert _within(np.s_[:, 9], (2, 10, 3)) == (slice(None), 9, slice(None))
    with pytest.raises(IndexError):
        _within(np.s_[:, 10], (2, 10, 3))


def test_a_file_that_is_replaced(small, path):
    old = gf.open(path)
    gf.sample(small.posterior, "gibbs", draws=10, store=path, overwrite=True, **OPTIONS)
    for use in (
        lambda: np.asarray(old.variables["U_1"]), old.summary, old.datasets, old.to_arviz,
        lambda: gf.predict(old, small.test[0]), lambda: gf.diagnostics.convergence(old),
    ):  # fmt: skip
        with pytest.raises(checks.InputError, match=r"run\.h5 was replaced by another run since it was opened"):
            use()


def test_a_file_swapped_under_resume(small, path, monkeypatch):
    from gibbsformer.sampler import sampling

    def read_then_swap(run, monitor, original=sampling._read_again):
        original(run, monitor)
        gf.sample(small.posterior, "gibbs", draws=10, store=path, overwrite=True, **OPTIONS)

    monkeypatch.setattr(sampling, "_read_again", read_then_swap)
    with pytest.raises(checks.InputError, match="was replaced by another run"):
        gf.resume(path, draws=12, progress=False)
    assert gf.open(path).draws == 10


@pytest.mark.parametrize("change", ["removed", "replaced"])
@pytest.mark.parametrize("verb", ["sample", "resume"])
def test_a_file_that_goes_as_its_run_ends(small, path, monkeypatch, change, verb):
    other = path.with_name("other.h5")
    gf.sample(small.posterior, "gibbs", draws=10, store=other, **OPTIONS)

    def close(file, original=SampleFile.close):
        original(file)
        path.unlink() if change == "removed" else other.replace(path)

    monkeypatch.setattr(SampleFile, "close", close)
    run = {
        "sample": lambda: gf.sample(small.posterior, "gibbs", draws=4, store=path, overwrite=True, **OPTIONS),
        "resume": lambda: gf.resume(path, draws=14, progress=False),
    }[verb]
    with pytest.raises(checks.InputError, match="was moved, removed or replaced as its run ended"):
        run()


def test_a_file_without_draws_yet(toy, tmp_path):
    """As others see a run in its warm-up; V_0 has checksums of its own."""
    with toy.create(tmp_path / "run.h5"):
        for name, values in read(tmp_path / "run.h5").draws.items():
            assert np.asarray(values).shape == values[:].shape == (toy.CHAINS, 0, *toy.COLUMNS[name].shape)


def test_a_run_in_memory_has_nothing_to_refresh(small):
    with pytest.raises(ValueError, match="this run is in memory"):
        gf.sample(small.posterior, "gibbs", draws=2, **OPTIONS).refresh()
