"""A run in memory that is saved is the file that ``store=`` would have made, and continues as that does."""

import os

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core import checks

OPTIONS = {"chains": 2, "warmup": 6, "key": jax.random.key(2), "progress": False, "chunk": 4}

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


def same(one, other):
    assert {*one.variables, *one.stats} == {*other.variables, *other.stats}
    for name in (*one.variables, *one.stats):
        a, b = (np.asarray((dict(run.variables) | dict(run.stats))[name]) for run in (one, other))
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("kernel", ["gibbs", pytest.param("nuts", marks=pytest.mark.slow), "hmc"])
def test_a_saved_run_is_the_stored_one(small, tmp_path, kernel):
    memory = gf.sample(small.posterior, kernel, draws=10, test=small.test, about={"note": "x"}, **OPTIONS)
    stored = gf.sample(
        small.posterior, kernel, draws=10, test=small.test, about={"note": "x"}, store=tmp_path / "stored.h5", **OPTIONS
    )
    saved = memory.save(tmp_path / "saved.h5")
    assert saved.path == str(tmp_path / "saved.h5")
    same(memory, saved)
    same(stored, saved)
    assert gf.store.verify(saved.path).draws == 10
    own = {"uuid", "created", "report"}  # a report holds seconds
    assert saved.settings.keys() == stored.settings.keys()
    assert {n: v for n, v in saved.settings.items() if n not in own} == {
        n: v for n, v in stored.settings.items() if n not in own
    }
    same(gf.resume(saved, draws=17, progress=False, chunk=3), gf.resume(stored, draws=17, progress=False, chunk=4))
    same(gf.open(saved), gf.open(stored))
    same(gf.open(saved), gf.sample(small.posterior, kernel, draws=17, test=small.test, **OPTIONS))


def test_what_has_no_file(small, tmp_path):
    memory = gf.sample(small.posterior, "collapsed", draws=4, **OPTIONS)
    for use in (gf.open, gf.resume):
        with pytest.raises(checks.InputError, match=r"path is a run in memory: write it with run\.save\('run\.h5'\)"):
            use(memory)
        with pytest.raises(checks.InputError, match="path=7 is not a path: give a file name"):
            use(7)
    saved = memory.save(tmp_path / "run.h5")
    with pytest.raises(checks.InputError, match=r"is in .*copy that file"):
        saved.save(tmp_path / "again.h5")
    with pytest.raises(checks.InputError, match="exists"):
        memory.save(tmp_path / "run.h5")
    assert os.listdir(tmp_path) == ["run.h5"]
    lifted = gf.lift(memory, key=jax.random.key(0), draws=2, progress=False).save(tmp_path / "lifted.h5")
    assert lifted.draws == 2
    with pytest.raises(checks.InputError, match="was lifted from other draws"):
        gf.resume(lifted)
