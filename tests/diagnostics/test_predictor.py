"""Predictions and accuracies: the theory's against Gaussian-process regression in NumPy, a run's against averages over
lifted weights, the error bar of an accuracy against a case done by hand and against repeated predictors."""

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.diagnostics import Prediction

STANDARD_ERRORS = 4  # of a Monte Carlo mean: 6e-5 of normal draws are farther out; seeds are fixed
MIN_ESS = 400
OPTIONS = {"heads": (2,), "widths": (12, 9), "variances": (0.7, 1.3, 0.9), "N_0": 4, "P": 6, "temperature": 0.1}


@pytest.fixture(scope="module")
def problem(make_small):
    """(posterior, test inputs, test labels)."""
    other = make_small(**OPTIONS, seed=1).posterior
    return make_small(**OPTIONS).posterior, other.data, np.sign(other.y)


@pytest.fixture(scope="module")
def runs(problem):
    """(collapsed run, the same draws with weights)."""
    posterior, *test = problem
    run = gf.sample(posterior, key=jax.random.key(0), warmup=300, draws=2048, test=tuple(test), progress=False)
    return run, gf.lift(run, key=jax.random.key(1), progress=False)


def estimate(samples):
    """(mean, standard error) of samples [chain, draw, ..], once the effective sample size will do."""
    found = gf.diagnostics.moments(samples)
    assert np.min(samples.var((0, 1)) / found["mcse"] ** 2) >= MIN_ESS
    return found["mean"], found["mcse"]


def regression(posterior, U_1, test):
    """Mean and variance of f given U_1: section 3, with the path sum written out."""
    paths, s = posterior.network.paths, posterior.network.variances[0]

    def kernel(a, b):
        pairs = [(p, q) for p in range(paths) for q in range(paths)]
        return s * sum(U_1[p, q] * a[:, :, p] @ b[:, :, q].T for p, q in pairs)

    train, test = posterior.data.flat, test.flat
    k = kernel(test, train)
    gain = np.linalg.solve(kernel(train, train) + posterior.temperature * np.eye(len(train)), k.T).T
    return gain @ posterior.y, np.diag(kernel(test, test)) - np.sum(gain * k, axis=1)


def test_prediction_of_a_theory_is_gaussian_process_regression(problem):
    posterior, test, _ = problem
    for theory in (gf.theory.solve(posterior), gf.theory.gp(posterior)):
        mean, variance = regression(posterior, theory.U[0], test)
        prediction = gf.predict(theory, test)
        # float64 rounding, times a condition number of K + T I of about 100
        np.testing.assert_allclose(prediction.mean, mean, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(prediction.variance, variance, rtol=1e-10)
        assert prediction.blocks is None


def test_prediction_of_a_theory_with_some_paths(problem):
    """Path p alone: its own number of paths in place of H in xi, so xi times sqrt(2)."""
    posterior, test, _ = problem
    theory = gf.theory.gp(posterior, paths=["(2)"])
    train, inputs = (np.sqrt(2) * data.flat[:, :, 1] for data in (posterior.data, test))
    scale = 0.7 * 1.3 * 0.9
    k = scale * inputs @ train.T
    expected = k @ np.linalg.solve(scale * train @ train.T + 0.1 * np.eye(6), posterior.y)
    np.testing.assert_allclose(gf.predict(theory, test).mean, expected, rtol=1e-10, atol=1e-12)


def test_rao_blackwell_is_the_mean_over_lifted_draws_with_less_noise(problem, runs):
    _, test, _ = problem
    run, lifted = runs
    mean, error = estimate(lifted.variables["f"])
    ours, our_error = estimate(run.variables["f_mean"])
    prediction = gf.predict(run, test)
    np.testing.assert_allclose(prediction.mean, ours, rtol=1e-10)
    # both average over the same order parameters: their difference is the mean of f - E[f | U_1]
    difference, difference_error = estimate(lifted.variables["f"] - run.variables["f_mean"])
    assert np.all(np.abs(difference) < STANDARD_ERRORS * difference_error)
    assert np.all(np.abs(mean - ours) < STANDARD_ERRORS * np.hypot(error, our_error))
    # The part of the variance of f that is conditional on U_1 (two thirds and more here) is gone: errors shrink by the
    # root of the ratio of variances, up to the effective sample sizes, which lie within a factor of 2.
    ratio = error / our_error
    shrinkage = np.sqrt(lifted.variables["f"].var((0, 1)) / run.variables["f_mean"].var((0, 1)))
    assert np.all(ratio > shrinkage / np.sqrt(2))
    assert np.median(ratio) > 2
    np.testing.assert_allclose(gf.predict(_without_theta(lifted), test).mean, mean, rtol=1e-10)


def test_variance_obeys_the_law_of_total_variance(problem, runs):
    """Var f = Var E[f | U_1] + E Var[f | U_1]; against the variance of f over lifted weights."""
    posterior, test, _ = problem
    run, lifted = runs
    prediction = gf.predict(run, test)
    f = lifted.variables["f"]
    variance, error = estimate((f - f.mean((0, 1))) ** 2)

    U_1 = run.order_parameters.U[0]
    spaced = [regression(posterior, U_1[c, d], test) for c in range(run.chains) for d in range(0, run.draws, 16)]
    conditional = np.array([v for _, v in spaced])
    f_mean = run.variables["f_mean"]
    between, between_error = estimate((f_mean - f_mean.mean((0, 1))) ** 2)
    # predict averages the conditional variance over 256 spaced draws
    within_error = conditional.std(0) / np.sqrt(256)
    ours_error = np.hypot(between_error, within_error)
    assert np.all(np.abs(prediction.variance - variance) < STANDARD_ERRORS * np.hypot(error, ours_error))
    two_parts = between + conditional.mean(0)
    allowed = STANDARD_ERRORS * np.sqrt(2) * within_error  # two sets of spaced draws, the same draws between
    assert np.all(np.abs(prediction.variance - two_parts) < allowed)
    assert np.all(between < conditional.mean(0))
    by_weights = gf.predict(_without_theta(lifted), test)
    np.testing.assert_allclose(by_weights.variance, f.var((0, 1)), rtol=1e-10)


def _without_theta(run):
    """The run as a kernel over weights would have left it."""
    variables = {name: values for name, values in run.variables.items() if name != "theta"}
    return gf.Run(run.posterior, variables, run.stats, run.settings, run.test)


def test_blocks_average_to_the_mean_and_spread_as_its_error(problem, runs):
    _, test, _ = problem
    run, lifted = runs
    for source, draws in ((run, run.variables["f_mean"]), (_without_theta(lifted), lifted.variables["f"])):
        prediction = gf.predict(source, test)
        assert prediction.blocks.shape == (4 * 8, len(test))
        np.testing.assert_allclose(prediction.blocks.mean(0), prediction.mean, rtol=1e-10, atol=1e-12)
        by_blocks = prediction.blocks.std(0, ddof=1) / np.sqrt(32)
        # the standard deviation of 32 numbers is known to 1/sqrt(62) = 13 %
        np.testing.assert_allclose(by_blocks / estimate(draws)[1], 1.0, atol=STANDARD_ERRORS * 0.13)


def test_accuracy_counts_signs():
    prediction = Prediction(np.array([0.5, -2.0, 0.1, -0.3]), np.ones(4))
    assert gf.accuracy(prediction, [1, -1, 1, 1]) == 0.75
    assert gf.accuracy(prediction, [1.0, -1.0, 1.0, -1.0]) == 1.0
    assert gf.accuracy_error(prediction, [1, -1, 1, 1]) == 0.0  # no blocks: nothing was sampled


def test_accuracy_error_is_the_bootstrap():
    # Two blocks, 1 and -2, resampled: means -2, -1/2, 1 with probabilities 1/4, 1/2, 1/4. The first example is right
    # with probability p = 1/4 and the second always, so the accuracy (hits / 2) has spread sqrt(p (1 - p)) / 2.
    blocks = np.array([[1.0, 1.0], [-2.0, 1.0]])
    prediction = Prediction(blocks.mean(0), np.ones(2), blocks)
    p, resamples = 0.25, 400
    p_error = np.sqrt(p * (1 - p) / resamples)
    error = abs(1 - 2 * p) / (2 * np.sqrt(p * (1 - p))) * p_error / 2  # of sqrt(p (1 - p)) / 2, to first order
    found = gf.accuracy_error(prediction, [1, 1])
    assert abs(found - np.sqrt(p * (1 - p)) / 2) < STANDARD_ERRORS * error
    assert gf.accuracy_error(prediction, [1, 1]) == found
    # a predictor far from zero has no error, whichever sign is right
    assert gf.accuracy_error(prediction._replace(blocks=np.abs(blocks)), [1, -1]) == 0.0


def test_accuracy_error_covers_the_spread_of_accuracies():
    """Accuracy over many noisy predictors: the mean squared error bar against the variance between predictors."""
    rng = np.random.default_rng(0)
    truth, labels, B, repeats = 0.3 * rng.standard_normal(300), np.ones(300), 32, 200
    accuracies, variances = [], []
    for _ in range(repeats):
        blocks = truth + 0.5 * rng.standard_normal((B, 300))
        prediction = Prediction(blocks.mean(0), np.ones(300), blocks)
        accuracies.append(gf.accuracy(prediction, labels))
        variances.append(gf.accuracy_error(prediction, labels) ** 2)
    spread = np.var(accuracies, ddof=1)
    # A bootstrap of signs is right to leading order only: within a factor of 2 in variance (a factor of B = 32 is the
    # slip to find), where the spread itself is known to sqrt(2/200) = 10 %.
    assert 0.5 < np.mean(variances) / spread < 2


def test_what_does_not_fit_is_refused(problem, runs):
    posterior, test, labels = problem
    run, _ = runs
    with pytest.raises(ValueError, match=r"data_test has shape \(6, 4, 1\)"):
        gf.predict(run, gf.PathInputs(test.xi[:, :, :1]))
    with pytest.raises(ValueError, match="data_test has shape"):
        gf.predict(run, test.flat)
    with pytest.raises(ValueError, match="y_test has 5 labels and the prediction 6"):
        gf.accuracy(gf.predict(gf.theory.gp(posterior), test), labels[:5])
