"""Tasks from the user's own arrays and .npz files."""

import numpy as np
import pytest

import gibbsformer as gf

pytestmark = pytest.mark.usefixtures("x64")

P, N_0, S = 4, 3, 5


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal((P, N_0, S)),
        "y": rng.choice([-1.0, 1.0], P),
        "x_test": rng.standard_normal((2, N_0, S)),
        "y_test": rng.choice([-1.0, 1.0], 2),
        "W_1": rng.standard_normal((2, N_0, N_0)),
        "Q_2": rng.standard_normal((1, 4, N_0)),
        "K_2": rng.standard_normal((1, 4, N_0)),
    }


def attention(arrays):
    return gf.Attention([arrays["W_1"], (arrays["Q_2"], arrays["K_2"])])


def test_arrays_in_python(arrays):
    task = gf.tasks.arrays(
        arrays["x"], arrays["y"], attention(arrays), arrays["x_test"], arrays["y_test"], readout="mean", name="mine"
    )
    assert (task.name, task.readout) == ("mine", "mean")
    expected = gf.contract(arrays["x"], attention(arrays), "mean")
    np.testing.assert_array_equal(task.train_inputs.xi, expected.xi)
    assert task.test_inputs.xi.shape == (2, N_0, 2, 1)
    posterior = task.posterior((3, 4, 5), temperature=0.2, variances=(1.0, 2.0, 3.0, 4.0))
    assert posterior.network == gf.Network(N_0, (2, 1), (3, 4, 5), (1.0, 2.0, 3.0, 4.0))
    assert posterior.temperature == 0.2


def test_without_test_set(arrays):
    task = gf.tasks.arrays(arrays["x"], arrays["y"], attention(arrays))
    assert task.test is None
    assert task.train_inputs.heads == (2, 1)


def test_file_gives_the_same_task(arrays, tmp_path):
    np.savez(tmp_path / "task.npz", **arrays)
    task = gf.tasks.load(tmp_path / "task.npz", readout="first")
    np.testing.assert_array_equal(task.train_inputs.xi, gf.contract(arrays["x"], attention(arrays), "first").xi)
    np.testing.assert_array_equal(task.test_inputs.xi, gf.contract(arrays["x_test"], attention(arrays), "first").xi)
    np.testing.assert_array_equal(task.test.y, arrays["y_test"])
    assert task.settings == {"file": "task.npz", "readout": "first"}
    by_name = gf.tasks.by_name(str(tmp_path / "task.npz"), 0)
    np.testing.assert_array_equal(by_name.train.x, arrays["x"])


def test_query_is_not_mistaken_for_key(arrays, tmp_path):
    np.savez(tmp_path / "task.npz", **{name: arrays[name] for name in ("x", "y")}, Q_1=arrays["Q_2"], K_1=arrays["K_2"])
    task = gf.tasks.load(tmp_path / "task.npz")
    direct = gf.Attention([(arrays["Q_2"], arrays["K_2"])])(arrays["x"])[0]
    swapped = gf.Attention([(arrays["K_2"], arrays["Q_2"])])(arrays["x"])[0]
    np.testing.assert_array_equal(task.attention(arrays["x"])[0], direct)
    assert np.abs(direct - swapped).max() > 0.1
