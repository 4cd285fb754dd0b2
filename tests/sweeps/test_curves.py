"""Learning curves: the same numbers as one posterior at a time, on a teacher whose paths are known."""

import json

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.cli import parser
from gibbsformer.core.checks import InputError

KEY = jax.random.key(0)
SHAPE = {"heads": (2,), "input_width": 8, "length": 3}


@pytest.fixture(scope="module")
def task():
    return gf.tasks.teacher(KEY, examples=30, test_examples=50, **SHAPE)


@pytest.fixture(scope="module")
def data(task):
    return gf.learning_curve(task, [25, 3000], key=KEY, width=5)


def test_labels_are_those_of_the_teacher(task):
    """Least squares on many examples finds path weights of the chosen paths, and noise of its variance."""
    x, y = (np.concatenate(parts) for parts in zip(*task.batches(8000, size=3000), strict=True))
    xi = gf.contract(x, task.attention).flat.reshape(len(x), -1)
    B, residual, *_ = np.linalg.lstsq(xi, y)
    B = B.reshape(8, 2)
    assert residual[0] / (len(y) - 16) == pytest.approx(0.01, rel=5 * np.sqrt(2 / len(y)))  # of a chi^2
    error = np.sqrt(0.01 * np.diag(np.linalg.inv(xi.T @ xi))).reshape(8, 2)
    assert np.abs(B[:, 1] / error[:, 1]).max() < 4.5
    assert np.abs(B[:, 0] / error[:, 0]).max() > 100
    assert task.settings["paths"] == {"(1)": 2.0}
    assert (task.temperature, task.classes) == (0.01, ())


def test_an_example_is_the_same_however_it_is_drawn(task):
    pairs = list(task.batches(2100, start=1000, size=500))
    assert [len(y) for _, y in pairs] == [500, 500, 100]
    whole = task.draw(0, 2200)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in pairs]), whole.x[1000:2100])
    np.testing.assert_array_equal(np.concatenate([y for _, y in pairs]), whole.y[1000:2100])
    np.testing.assert_array_equal(task.train.y, whole.y[:30])
    more = gf.tasks.teacher(KEY, examples=40, test_examples=60, **SHAPE)
    np.testing.assert_array_equal(more.train.x[:30], task.train.x)
    np.testing.assert_array_equal(more.test.x[:50], task.test.x)
    assert not np.isin(task.test.y, whole.y).any()


def test_every_place_is_the_posterior_of_that_many_examples(task, data):
    for i, P in enumerate(data["examples"].values):
        examples = task.draw(0, int(P))
        posterior = gf.Posterior(
            gf.Network(8, (2,), (5, 5)), gf.contract(examples.x, task.attention), examples.y, 0.01, classes=()
        )
        theory = gf.theory.solve(posterior)
        np.testing.assert_allclose(data["U_1_theory"][i], theory.U[0], rtol=1e-6)  # the saddle is found to 1e-7
        prediction = gf.predict(theory, task.test_inputs)
        assert float(data["r_squared_theory"][i]) == pytest.approx(gf.score(prediction, task.test.y).value, rel=1e-6)
        error = gf.generalization_error(prediction, task.test.y)
        assert float(data["bias_theory"][i]) == pytest.approx(error.bias, rel=1e-6)
        assert float(data["variance_theory"][i]) == pytest.approx(error.variance, rel=1e-5)
        assert int(data["pseudo_examples"][i]) == 16
        found = task.posterior(5, examples=int(P))
        assert (found.examples, found.temperature) == (P, 0.01)
        np.testing.assert_allclose(gf.theory.solve(found).U[0], theory.U[0], rtol=1e-6)
    assert np.isfinite(data["log_evidence"][0])  # at N < N_0 and large P the posterior is no Gaussian: NaN says so


def test_order_parameters_concentrate_on_the_teachers_path(data):
    """With N < N_0 that of a path with B = 0 vanishes: N (u / U_a - log u) + N_0 log u has no minimum above 0."""
    U = np.einsum("pii->pi", data["U_1_theory"].values)
    assert U[0, 1] / U[0, 0] > 0.05
    assert U[-1, 1] / U[-1, 0] < 0.01
    assert (np.diff(data["bias_theory"]) < 0).all()
    assert float(data["bias_theory"][-1]) == pytest.approx(0.01, rel=5 * np.sqrt(2 / 50))  # the noise of 50 labels


def test_a_posterior_or_a_task_with_examples_of_its_own(task):
    """Nested examples in one random order; the last place is the posterior itself."""
    y = np.where(task.train.y > 0, "up", "down")
    own = gf.tasks.arrays(task.train.x, y, task.attention, task.test.x, np.where(task.test.y > 0, "up", "down"))
    posterior = own.posterior(5, 0.1)
    options = {"key": KEY, "log_evidence": False}
    found = gf.learning_curve(posterior, [6, 30], test=own.test_set, **options)
    theory = gf.theory.solve(posterior)
    np.testing.assert_allclose(found["U_1_theory"][-1], theory.U[0], rtol=1e-6)
    assert float(found["accuracy_theory"][-1]) == gf.accuracy(gf.predict(theory, own.test_inputs), own.test.y)
    assert "log_evidence" not in found
    same = gf.learning_curve(own, [6, 30], width=5, temperature=0.1, **options)
    np.testing.assert_allclose(same["U_1_theory"], found["U_1_theory"], rtol=1e-10)
    part = own.posterior(5, 0.1, examples=6, key=KEY)
    np.testing.assert_allclose(gf.theory.solve(part).U[0], found["U_1_theory"][0], rtol=1e-6)
    other = own.posterior(5, 0.1, examples=6, key=jax.random.key(1))
    assert not np.allclose(other.data.xi, part.data.xi)


def test_classes_keep_their_code(task):
    """Two outputs of one-hot signs: the last place of a curve is the posterior itself."""
    y = np.where(np.stack([task.train.y > 0, task.train.y <= 0], axis=1), 1.0, -1.0)
    data = gf.contract(task.train.x, task.attention, task.readout, tokens="columns")
    network = gf.Network(data.input_width, data.heads, (5, 5), outputs=2)
    posterior = gf.Posterior(network, data, y, 0.1)
    assert posterior.classes == (0, 1)
    found = gf.learning_curve(posterior, [10, len(y)], key=KEY, log_evidence=False)
    np.testing.assert_allclose(found["U_1_theory"][-1], gf.theory.solve(posterior).U[0], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_the_exact_posterior_agrees_with_samples_of_all_examples(task):
    found = gf.learning_curve(task, [40], ["theory", "collapsed"], key=KEY, width=5, draws=2000, log_evidence=False)
    examples = task.draw(0, 40)
    posterior = gf.Posterior(
        gf.Network(8, (2,), (5, 5)), gf.contract(examples.x, task.attention), examples.y, 0.01, classes=(), reduce=False
    )
    run = gf.sample(posterior, key=jax.random.key(5), chains=4, warmup=200, draws=2000, progress=False)
    U = run.order_parameters.U[0]
    error = np.hypot(found["U_1_mcse_exact"][0], U.std((0, 1)) / np.sqrt(400))  # ESS of at least 400
    assert (np.abs(found["U_1_exact"][0] - U.mean((0, 1))) < 4.5 * error).all()


@pytest.mark.slow
def test_one_command(tmp_path, capsys):
    words = ["curve", "--task", "teacher", "--width", "5", "--examples", "80", "100", "--what", "theory", "--quiet"]
    options = parser().parse_args([*words, "--json", "--out", str(tmp_path / "out")])
    assert options.run(options) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["examples"] == [80, 100]
    assert {"r_squared_theory", "bias_theory", "log_evidence", "U (1 1) theory"} <= found.keys()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["curve.nc", "curve.png", "curve.svg"]


def test_an_axis_of_a_sweep(tmp_path, own_arrays):
    axes = {"tasks": [own_arrays], "widths": [5], "temperatures": [0.5], "examples": [6]}
    found = gf.sweep({"axes": axes, "compute": {"theory": True}}, tmp_path, progress=False)
    assert not found.failed
    data = found.open()
    assert data["accuracy_theory"].dims == ("task", "seed", "examples", "paths", "width", "temperature")
    own = gf.tasks.load(own_arrays)
    expected = gf.theory.solve(own.posterior(5, 0.5)).U[0]
    np.testing.assert_allclose(data["U_1_theory"].sel(examples=6).squeeze(), expected, rtol=1e-6)
    gf.sweeps.lines(data, "bias", against="examples")
    beyond = gf.sweep({"axes": axes | {"examples": [7]}, "compute": {"theory": True}}, tmp_path / "b", progress=False)
    assert "examples=7, and the training set has 6" in beyond.failed[0]["error"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"examples": [10, 5]}, "examples=.* must be in ascending order"),
        ({"examples": [5, 5]}, "examples=.* must be in ascending order"),
        ({"examples": [0]}, r"examples\[0\]=0"),
        ({"examples": []}, "examples=.*is empty"),
        ({"what": "theroy"}, "did you mean 'theory'"),
        ({"width": None}, "width=None, and source is a task"),
        ({"test": ()}, "test is given, and source is a task"),
        ({"key": 3}, "key=3"),
        ({"source": 3}, "source is a int"),
    ],
)
def test_bad_input(task, options, said):
    asked = {"source": task, "examples": [5], "key": KEY, "width": 3} | options
    with pytest.raises(InputError, match=said):
        gf.learning_curve(asked.pop("source"), asked.pop("examples"), **asked)


def test_bad_input_of_posteriors_and_teachers(task):
    posterior = gf.Posterior(gf.Network(8, (2,), (3, 3)), task.train_inputs, task.train.y, 0.1)
    with pytest.raises(InputError, match=r"examples\[1\]=31: there are 30"):
        gf.learning_curve(posterior, [5, 31], key=KEY)
    with pytest.raises(InputError, match="width=3, and source is a posterior"):
        gf.learning_curve(posterior, [5], key=KEY, width=3)
    reduced = gf.Posterior(posterior.network, posterior.reduction, temperature=0.1)
    with pytest.raises(InputError, match="give a posterior of examples"):
        gf.learning_curve(reduced, [5], key=KEY)
    with pytest.raises(InputError, match=r"path='\(3\)' is not known"):
        gf.tasks.teacher(KEY, {"(3)": 1.0}, **SHAPE)
    with pytest.raises(InputError, match=r"paths\['\(1\)'\]=-1"):
        gf.tasks.teacher(KEY, {"(1)": -1}, **SHAPE)
    with pytest.raises(InputError, match="paths=3: give the strength"):
        gf.tasks.teacher(KEY, 3, **SHAPE)
    with pytest.raises(InputError, match="noise=0"):
        gf.tasks.teacher(KEY, noise=0, **SHAPE)
    own = gf.tasks.arrays(task.train.x, task.train.y, task.attention)
    with pytest.raises(InputError, match="draws no examples"):
        list(own.batches(5))
    with pytest.raises(InputError, match="key=None"):
        own.posterior(3, examples=5)
