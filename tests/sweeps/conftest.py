"""A tiny task and sweeps of it."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def own_arrays(tmp_path_factory):
    """A task of one layer of two heads in a file: 6 training and 20 test sequences of 4 tokens, N_0 = 3."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("task") / "own.npz"
    x = rng.standard_normal((26, 3, 4))
    y = np.sign(x[:, 0].sum(1))
    np.savez(path, W_1=rng.standard_normal((2, 3, 3)), x=x[:6], y=y[:6], x_test=x[6:], y_test=y[6:])
    return str(path)


@pytest.fixture(scope="session")
def make_plan(own_arrays):
    """Factory of plans of the tiny task: theory and collapsed at N = 3, 30 unless told otherwise."""

    def make(draws=20, theory=True, **axes):
        return {
            "axes": {"tasks": [own_arrays], "widths": [3, 30], "temperatures": [0.5], "seeds": [0, 1]} | axes,
            "compute": {"theory": theory, "collapsed": {"chains": 2, "warmup": 10, "draws": draws}},
        }

    return make
