"""Workers of a Dask cluster share the batches: the same reduction as in one process, also when one of them dies."""

import os
import signal
import sys
import time

import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models.reduction import labelled

distributed = pytest.importorskip("distributed")

P, N_0, S = 203, 3, 5
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((P, N_0, S)), RNG.standard_normal(P)
ATTENTION = gf.Attention([RNG.standard_normal((2, N_0, N_0))])
ONE = gf.reduce((X, Y), ATTENTION)


def same(found, one=ONE):
    """Equal Gram matrices of [Xi | y], which say everything, and equal numbers."""
    assert (found.examples, len(found.y), found.classes) == (one.examples, len(one.y), one.classes)
    gram, expected = (rows.T @ rows for rows in (labelled(r.data.xi, r.y) for r in (found, one)))
    np.testing.assert_allclose(found.residual, one.residual, rtol=1e-10)
    np.testing.assert_allclose(gram, expected, atol=1e-10 * np.abs(expected).max())


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as found,
    ):
        yield found


def mapped(folder):
    """Slices of mapped files, of which one begins inside its file."""
    np.save(folder / "x.npy", np.concatenate([X[:7], X]))
    np.save(folder / "y.npy", Y)
    return np.load(folder / "x.npy", mmap_mode="r")[7:], np.load(folder / "y.npy", mmap_mode="r")


def directory(folder):
    for i in range(0, P, 20):
        np.savez(folder / f"part_{i:03}.npz", x=X[i : i + 20], y=Y[i : i + 20])
    return folder


def dask_arrays(folder):
    import dask.array as da

    return da.from_array(X, chunks=(50, N_0, 2)), da.from_array(Y, chunks=30)


def delayed(folder):
    import dask

    return [dask.delayed(lambda i: (X[i : i + 20], Y[i : i + 20]))(i) for i in range(0, P, 20)]


FORMS = {
    "pairs": lambda folder: ((X[i : i + 20], Y[i : i + 20]) for i in range(0, P, 20)),
    "one": lambda folder: [(X, Y)],
    "mapped": mapped,
    "directory": directory,
    "Dask arrays": dask_arrays,
    "delayed": delayed,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_batches(client, form, tmp_path):
    same(gf.reduce(FORMS[form](tmp_path), ATTENTION, client=client, batch=20))


@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([], "batches is empty"),
        ([(X, np.append(Y[1:], np.nan))], r"y of batches\[0\] is nan"),
        ([(X, Y)] * 7 + [(X, Y[1:])], r"y of batches\[7\] has 202 labels"),
        ([(X, Y), (X[:, :, 1:], Y)], r"x of batches\[1\] has shape \(203, 3, 4\)"),
        ([(X, np.sign(Y)), (X, Y)], r"y of batches\[1\] is .* at index 0"),
    ],
)
def test_bad_batches_are_named(client, batches, said):
    with pytest.raises(ValueError, match=said):
        gf.reduce(batches, ATTENTION, client=client)


def slow_batch(i, folder):
    """A batch that takes long, and says which process made it."""
    (folder / f"{i}-{os.getpid()}").touch()
    time.sleep(0.5)
    return X[i : i + 20], Y[i : i + 20]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_batches_of_a_killed_worker_are_done_again(tmp_path):
    import threading

    import cloudpickle
    import dask

    pytest.importorskip("cryptography")
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with gf.sweeps.local_cluster(2) as cluster, distributed.Client(cluster, set_as_default=False) as client:
        killed: list[int] = []

        def kill_one():
            while len(list(tmp_path.iterdir())) < 5:
                time.sleep(0.05)
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one)
        killer.start()
        batches = [dask.delayed(slow_batch)(i, tmp_path) for i in range(0, P, 20)]
        found = gf.reduce(batches, ATTENTION, client=client)
        killer.join()
        same(found)
        made = [path.name.split("-") for path in tmp_path.iterdir()]
        assert len({i for i, _ in made}) == 11
        assert len(made) > 11, "the worker died before it had made anything"
