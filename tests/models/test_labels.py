"""Labels of two classes are fitted as -1 and +1 whatever they are called; real values are not classes."""

import warnings

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core.checks import InputError

_rng = np.random.default_rng(0)
X = _rng.standard_normal((36, 4, 6))
S = X.sum((1, 2))
W = _rng.standard_normal((2, 2, 4, 4))
CLASSES = {
    "signs": np.sign(S),
    "whole numbers": (S > 0).astype(int),
    "from one": 1.0 + (S > 0),
    "booleans": S > 0,
    "objects": (S > 0).astype(object),
    "names": np.where(S > 0, "spam", "ham"),
    "a list of names": ["yes" if s > 0 else "no" for s in S],
    "on a device": jax.numpy.asarray(S > 0),
}


def task_of(y, **options):
    return gf.tasks.arrays(X[:24], y[:24], gf.Attention([W[0], W[1]]), X[24:], y[24:], readout="mean", **options)


def posterior_of(task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.InputWarning)
        return task.posterior(6, 0.1)


def score_of(task):
    return gf.score(gf.predict(gf.theory.solve(posterior_of(task)), task.test_inputs), task.test.y)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_score_as_signs_do(name):
    expected, found = score_of(task_of(CLASSES["signs"])), score_of(task_of(CLASSES[name]))
    assert found == expected
    assert found.value > 0.8  # 0.25 where labels 0 and 1 are taken for signs
    assert found.name == "accuracy"


def test_real_labels_are_scored_by_r_squared():
    task = task_of(S)
    prediction = gf.predict(gf.theory.solve(posterior_of(task)), task.test_inputs)
    found = gf.score(prediction, S[24:])
    assert found.name == "r_squared"
    error = gf.generalization_error(prediction, S[24:])
    np.testing.assert_allclose(found.value, 1 - error.bias / S[24:].var(), rtol=1e-12)
    with pytest.raises(InputError, match=r"real values.*gf.score"):
        gf.accuracy(prediction, S[24:])


@pytest.mark.parametrize("name", [pytest.param("names", marks=pytest.mark.slow), "whole numbers"])
def test_the_file_keeps_the_classes(name, tmp_path):
    task = task_of(CLASSES[name])
    posterior = posterior_of(task)
    run = gf.sample(
        posterior, "gibbs", key=jax.random.key(0), chains=2, warmup=20, draws=20, progress=False, test=task.test_set,
        store=tmp_path / "run.h5",
    )  # fmt: skip
    opened = gf.open(tmp_path / "run.h5")
    assert opened.posterior.classes == posterior.classes
    np.testing.assert_array_equal(opened.test[1], task.test.y)
    score = gf.score(gf.predict(run, opened.test[0]), opened.test[1])
    assert 0.5 < score.value <= 1


def test_a_file_that_fitted_other_numbers_is_read_as_it_was():
    posterior = posterior_of(task_of((S > 0).astype(float), classes=()))
    settings, arrays = posterior.stored(None)
    del settings["classes"]
    flat = {name: values for group in arrays.values() for name, (_, values) in group.items()}
    restored, _ = gf.Posterior.restored(settings, flat, {"path_1": np.array(posterior.data.path_names)})
    np.testing.assert_array_equal(restored.y, posterior.y)
    assert restored.classes == ()


def test_what_surprises_is_said():
    with pytest.warns(gf.InputWarning, match=r"0 and 1 alone.*classes=\(0, 1\)"):
        task_of((S > 0).astype(int)).posterior(6)
    with pytest.warns(gf.InputWarning, match="all 24 examples"):
        task_of(np.zeros(36)).posterior(6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task_of((S > 0).astype(int), classes=(0, 1)).posterior(6)
        task_of(np.sign(S)).posterior(6)
        task_of(S > 0).posterior(6)
    assert "'ham', 'spam'" in repr(posterior_of(task_of(CLASSES["names"])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.where(np.arange(36) < 24, y, y > 0), r"y_test is 0.0 at index 0.*-1 and 1: give"),
        (lambda y: np.where(np.arange(36) == 30, 0.5, y), r"y_test is 0.5 at index 6"),
        (lambda y: np.array(["a", "b", "c"] * 8 + ["d"] * 12), r"y_test is 'd' at index 0.*\('a', 'b', 'c'\): give"),
        (lambda y: np.array(["a"] * 36), r"y holds 1 classes"),
        (lambda y: [["a"], ["b"]] * 18, r"y has shape \(24, 1\): give"),
        (lambda y: [True, "a"] * 18, r"y=\[True, 'a'.* is not real numbers: give"),
        (lambda y: np.where(y > 0, b"x", b"y"), r"y=array\(\[b.* is not real numbers: give"),
    ],
)
def test_labels_of_other_classes_are_one_line(change, message):
    with pytest.raises(InputError, match=message):
        task_of(change(np.sign(S)))


@pytest.mark.parametrize("classes", [(1,), (1, 1), "ab", 3, (0, 1, 2), ("ham", 1)])
def test_classes_that_are_not_two(classes):
    with pytest.raises(InputError, match=r"classes=|y is"):
        task_of(np.sign(S), classes=classes)


def test_scores_of_the_same_examples_differ_by_those_they_disagree_on():
    from gibbsformer.diagnostics import Prediction

    y = np.array([1.0, 1, 1, -1, -1, -1, 1, -1])
    one, other = y * [1, 1, 1, 1, 1, 1, -1, 1], y * [1, 1, 1, 1, 1, -1, -1, -1]
    found = gf.score_difference(Prediction(one, one * 0), Prediction(other, one * 0), y)
    assert found.value == 2 / 8
    assert found.monte_carlo == 0
    np.testing.assert_allclose(found.test_set, np.std([0, 0, 0, 0, 0, 1, 0, 1], ddof=1) / np.sqrt(8))
    same = gf.score_difference(Prediction(one, one * 0), Prediction(one, one * 0), y)
    assert same == (0, 0, 0)


def test_labels_whose_squares_overflow():
    with pytest.raises(InputError, match=r"y reaches \d.*, whose square overflows float64: use labels of order 1"):
        task_of(S * 1e200).posterior(6)
