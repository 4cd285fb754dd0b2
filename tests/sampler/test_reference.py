"""The exact posterior of the reference task at N = 10, 100, 1000 against the reference's own sampler."""

import jax
import numpy as np
import pytest

import gibbsformer as gf

WIDTHS = (10, 100, 1000)
MIN_ESS = 2000
# The reference's standard errors of U_1 stand for 7,700 to 17,000 effective draws. It gives none for U_2 and U_a, and
# mixes slower in them the nearer they are to the top: 2,000 effective draws are assumed there.
REFERENCE_ESS = 2000


@pytest.mark.parametrize("N", [pytest.param(N, marks=[pytest.mark.slow] * (N == 100)) for N in WIDTHS])
def test_collapsed_sampler(reference, reference_posterior, reference_test, optimised, estimate, assert_within, N):
    """Posterior means of U_1, U_2 and U_a, and the accuracy of the Rao-Blackwell predictor, from one run."""
    with optimised():
        run = gf.sample(reference_posterior(N), key=jax.random.key(0), warmup=100, draws=2000, progress=False)
    U_a, (U_1, U_2) = run.order_parameters
    expected = {name: reference[f"posterior/N{N}/{name}"] for name in ("U_1_mean", "U_1_mcse", "U_2_mean", "U_a_mean")}
    ours = estimate(U_1)
    assert ours.ess.min() >= MIN_ESS
    z = (ours.mean - expected["U_1_mean"].ravel()) / np.hypot(ours.error, expected["U_1_mcse"].ravel())
    assert_within(z, "U_1 entry ")
    for name, samples in (("U_2", U_2), ("U_a", U_a)):
        ours = estimate(samples)
        assert ours.ess.min() >= MIN_ESS
        reference_error = samples.std((0, 1)).ravel() / np.sqrt(REFERENCE_ESS)
        z = (ours.mean - np.ravel(expected[f"{name}_mean"])) / np.hypot(ours.error, reference_error)
        assert_within(z, f"{name} entry ")

    inputs, y = reference_test
    prediction = gf.predict(run, inputs)
    blocks = prediction.blocks
    error = np.sqrt(2) * blocks.std(0, ddof=1) / np.sqrt(len(blocks))  # of the difference of two such predictors
    # only examples whose mean predictor is within 4 standard errors of zero may fall on different sides
    undecided = np.mean(np.abs(prediction.mean) < 4 * error)
    assert undecided < 0.02
    assert abs(gf.accuracy(prediction, y) - reference[f"posterior/N{N}/test_accuracy"]) <= undecided + 1e-12


@pytest.mark.slow
def test_nuts_over_the_weights(reference, reference_posterior, optimised, estimate, assert_within):
    """Weight-space NUTS knows nothing of the law of the order parameters; 2,530 weights at N = 10."""
    with optimised():
        run = gf.sample(
            reference_posterior(10), "nuts", key=jax.random.key(0), chains=2, warmup=300, draws=400,
            keep="order_parameters", progress=False,
        )  # fmt: skip
    ours = estimate(run.order_parameters.U[0])
    assert ours.ess.min() >= 200
    reference_mean, reference_error = (reference[f"posterior/N10/U_1_{name}"].ravel() for name in ("mean", "mcse"))
    assert_within((ours.mean - reference_mean) / np.hypot(ours.error, reference_error), "U_1 entry ")
