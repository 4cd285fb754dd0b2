"""A run of several outputs from end to end: files, resume, lifting, predictions, comparison, report, evidence."""

import warnings

import arviz
import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.diagnostics.findings import theory_findings
from gibbsformer.reports.text import render_theory

NAMES = np.array(["ant", "bee", "cat"])


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 4, 3))
    y = NAMES[np.argmax(x.sum(2)[:, :3], axis=1)]
    W = rng.standard_normal((2, 4, 4)) / 2
    return gf.tasks.arrays(x[:28], y[:28], gf.Attention([W]), x[28:], y[28:], readout="mean", residual=True)


@pytest.fixture(scope="module")
def posterior(task):
    return task.posterior(20, 0.05)


@pytest.fixture(scope="module")
def theory(posterior):
    return gf.theory.solve(posterior)


def test_a_file_of_classes_from_start_to_report(task, posterior, theory, tmp_path):
    """Three classes and a skip connection: stored, resumed bit for bit, opened by ArviZ, merged, reported."""
    assert posterior.classes == ("ant", "bee", "cat")
    options = {"key": jax.random.key(0), "chains": 2, "warmup": 50, "test": task.test_set, "progress": False}
    kernel = gf.Collapsed(move="independent")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.ConvergenceWarning)
        whole = gf.sample(posterior, kernel, draws=24, **options)
        gf.sample(posterior, kernel, draws=12, store=tmp_path / "run.h5", **options)
        run = gf.resume(tmp_path / "run.h5", draws=24, progress=False)
        np.testing.assert_array_equal(run.order_parameters.U[0], whole.order_parameters.U[0])
        opened = gf.open(tmp_path / "run.h5")
        np.testing.assert_array_equal(opened.posterior.y, posterior.y)
        assert opened.posterior.classes == posterior.classes
        assert opened.posterior.data.path_names == posterior.data.path_names
        assert opened.posterior.network == posterior.network
        np.testing.assert_array_equal(opened.test[1], whole.test[1])
        prediction = gf.predict(opened, task.test_inputs)
        assert prediction.mean.shape == (12, 3)
        assert gf.accuracy(prediction, task.test.y) > 0.5
        table = gf.compare(opened, theory)
        assert "U_1[skip, ant, 1, bee]" in [e.replace("(", "").replace(")", "") for e in table.index]
        lifted = gf.lift(opened, key=jax.random.key(1), draws=3, store=tmp_path / "lifted.h5", progress=False)
        assert lifted.weights["a"].shape == (2, 3, 3, 20)
        assert lifted.variables["f"].shape == (2, 3, 12, 3)
        f = gf.theory.outputs(np.asarray(lifted.variables["path_weights"]), task.test_inputs)
        np.testing.assert_allclose(lifted.variables["f"], f, atol=1e-9)
        page = gf.report(opened, tmp_path / "page.html")
    assert "cat" in page.read_text()
    data = arviz.from_netcdf(tmp_path / "run.h5")
    assert list(data.posterior["U_a"].coords["output"].values) == ["ant", "bee", "cat"]


def test_evidence_by_importance_weights_and_by_tempering(posterior):
    found = [
        gf.evidence(posterior, key=jax.random.key(2), method=method, **options)
        for method, options in (("importance", {}), ("smc", {"particles": 256, "repeats": 2}))
    ]
    error = np.hypot(*(e.error for e in found))
    assert abs(found[0].log_evidence - found[1].log_evidence) < 4 * error


@pytest.mark.slow
def test_digits():
    pytest.importorskip("sklearn")
    task = gf.tasks.digits(jax.random.key(0))
    posterior = task.posterior(30)
    accuracy = {
        name: gf.accuracy(gf.predict(solved, task.test_inputs), task.test.y)
        for name, solved in (("theory", gf.theory.solve(posterior)), ("gp", gf.theory.gp(posterior)))
    }
    assert accuracy["theory"] > accuracy["gp"] > 0.75  # random attention: 0.1 is chance


def test_digits_are_ten_classes_of_short_sequences():
    pytest.importorskip("sklearn")
    for cut, shape in (("rows", (30, 16, 8)), ("patches", (30, 20, 4))):
        task = gf.tasks.digits(jax.random.key(0), examples=30, test_examples=10, cut=cut)
        assert task.train.x.shape == shape
        assert task.outputs == 10
    with pytest.raises(gf.core.checks.InputError, match="are more than 1797 images: use fewer"):
        gf.tasks.digits(jax.random.key(0), examples=1797)


def test_text_of_a_theory_averages_over_outputs_and_names_the_largest_of_many_paths(theory):
    gp = gf.theory.gp(theory.posterior)
    text = render_theory(theory_findings(theory, gp))
    assert "mean over 3 outputs" in text
    averaged = np.mean([theory.U[0][a::3, a::3] for a in range(3)], axis=0)
    assert f"{averaged[0, 1]:.4f}" in text
    many = theory_findings(theory, gp) | {"paths": [f"p{i}" for i in range(20)], "U_1": np.diag(np.arange(20.0))}
    assert render_theory(many).splitlines()[4].split() == ["p19,", "p19", "19.0000"]
