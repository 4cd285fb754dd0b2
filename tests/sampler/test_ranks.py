"""Diagnostics of many entries at once are those of ArviZ, entry by entry."""

import arviz
import numpy as np
import pytest
import xarray as xr

from gibbsformer.sampler import ranks


def draws(shape, memory, seed=0):
    """Autoregressive chains, the first of them shifted, some draws equal."""
    x = np.random.default_rng(seed).standard_normal(shape)
    for t in range(1, shape[1]):
        x[:, t] += memory * x[:, t - 1]
    x[0] += 0.3
    x[..., -1] = np.round(x[..., -1])
    return x


@pytest.mark.parametrize("memory", [0.0, 0.9, -0.5])
@pytest.mark.parametrize("shape", [(4, 8, 3), (4, 9, 3), (4, 4, 2), (2, 100, 5), (1, 64, 3), (4, 301, 6)])
def test_as_arviz(shape, memory):
    x = draws(shape, memory)
    data = xr.Dataset({"x": (("chain", "draw", "entry"), x)})
    expected = {
        "mcse": arviz.mcse(data, method="mean"),
        "ess_bulk": arviz.ess(data, method="bulk"),
        "ess_tail": arviz.ess(data, method="tail"),
        "rhat": arviz.rhat(data),
    }
    found = ranks.all_of(x)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], np.asarray(values["x"]), rtol=1e-9, err_msg=name)
    rhat, ess = ranks.bulk(x)
    np.testing.assert_array_equal(rhat, found["rhat"])
    np.testing.assert_array_equal(ess, found["ess_bulk"])


def test_blocks_change_nothing(monkeypatch):
    x = draws((2, 30, 7), 0.5)
    whole = ranks.all_of(x)
    monkeypatch.setattr(ranks, "_BLOCK", 100)
    for name, values in ranks.all_of(x).items():
        np.testing.assert_array_equal(values, whole[name])


def test_entries_that_never_move_or_are_not_numbers():
    x = draws((2, 30, 3), 0.0)
    x[..., 0] = 1.0
    x[0, 3, 1] = np.nan
    found = ranks.all_of(x)
    assert np.isnan(found["rhat"][:2]).all()
    assert found["ess_bulk"][0] == 60
    assert np.isnan(found["ess_bulk"][1])
    assert np.isfinite(found["rhat"][2])


def test_independent_entries():
    x = np.arange(2 * 3 * 4.0).reshape(1, 6, 2, 2)
    assert ranks.independent(x).shape == (1, 6, 4)  # not symmetric
    np.testing.assert_array_equal(ranks.independent(x + x.swapaxes(2, 3))[0, 0], [0, 3, 6])
    assert ranks.independent(x[..., 0]).shape == (1, 6, 2)
    assert ranks.independent(x[..., 0, 0]).shape == (1, 6, 1)
