"""Sample files of schema 1, written by version 0.1.0, open, verify, resume, merge, lift and report as they did."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import gibbsformer as gf

DATA = Path(__file__).parent / "data"
FILES = ("schema_1", "schema_1_nuts")  # collapsed; nuts over all weights, thin=2
DRAWS = 20  # in the files; ``*_resumed.npz`` holds 40, by the code that wrote them
# Versions and processors round differently and trajectories amplify it, so only the first resumed draws are compared;
# with the versions of the file they are equal bit for bit.
COMPARED, RELATIVE = 2, 1e-6

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


@pytest.fixture(params=FILES)
def old(request, tmp_path):
    """(a copy of the file, arrays after the old code resumed it)."""
    path = Path(shutil.copy(DATA / f"{request.param}.h5", tmp_path))
    with np.load(DATA / f"{request.param}_resumed.npz") as arrays:
        return path, dict(arrays)


def test_opens_and_verifies(old):
    path, expected = old
    run = gf.open(path)
    assert run.draws == gf.store.verify(path).draws == DRAWS
    np.testing.assert_array_equal(run.order_parameters.U[0], expected["U_1"][:, :DRAWS])
    assert set(run.monitored) == {"U_a", "U_1"}
    assert run.made.target == {"collapsed": "collapsed", "nuts": "weights"}[run.made.kernel]
    assert "space" not in run.made.options
    assert len(run.summary()) == 5


@pytest.mark.parametrize("old", ["schema_1", pytest.param("schema_1_nuts", marks=pytest.mark.slow)], indirect=True)
def test_resumes_with_the_draws_of_the_old_code(old):
    path, expected = old
    run = gf.resume(path, DRAWS + 4, progress=False)
    found = {name: np.asarray(run.variables[name]) for name in ("U_a", "U_1")} | {"lp": np.asarray(run.stats["lp"])}
    for name, values in found.items():
        np.testing.assert_array_equal(values[:, :DRAWS], expected[name][:, :DRAWS], err_msg=name)
        new = slice(DRAWS, DRAWS + COMPARED)
        np.testing.assert_allclose(values[:, new], expected[name][:, new], rtol=RELATIVE, err_msg=name)


@pytest.mark.slow
def test_merges_and_reports(tmp_path):
    path = Path(shutil.copy(DATA / "schema_1.h5", tmp_path))
    new = gf.open(path)
    other = tmp_path / "other.h5"
    gf.sample(new.posterior, chains=2, warmup=30, draws=DRAWS, key=_key(9), store=other, test=new.test, progress=False)
    with pytest.raises(ValueError, match="cannot be merged: schema_version is 1 in the first and 2 in the second"):
        gf.store.merge([path, other], tmp_path / "both.h5")
    again = Path(shutil.copy(path, tmp_path / "again.h5"))
    with pytest.raises(ValueError, match="both hold chain 0 of the same key"):  # they agree in everything else
        gf.store.merge([path, again], tmp_path / "both.h5")
    assert gf.report(path, tmp_path / "report.html").read_text().count("U_1") > 4
    merged = gf.open(both(path, again, tmp_path / "both.h5"))
    assert (merged.chains, merged.draws) == (4, DRAWS)
    np.testing.assert_array_equal(merged.variables["U_1"][2:], new.variables["U_1"])
    assert merged.monitored == new.monitored == ("U_a", "U_1")
    with pytest.raises(ValueError, match="was merged and holds no sampler state"):
        gf.resume(tmp_path / "both.h5", DRAWS + 1, progress=False)
    lifted = gf.lift(new, key=_key(1), draws=3, progress=False)
    assert lifted.weights["V_0"].shape == (2, 3, *new.posterior.network.weight_shapes["V_0"])


def both(path, other, out):
    """Merge the file with a copy that is told to have another key."""
    with h5py.File(other, "r+") as file:
        file.attrs["settings"] = json.dumps(json.loads(file.attrs["settings"]) | {"key_data": [0, 99]})
    gf.store.merge([path, other], out)
    return out


def _key(seed):
    import jax

    return jax.random.key(seed)
