"""The exact posterior of the reference task at N = 10, 100, 1000 against the reference's own sampler."""

from pathlib import Path

import jax
import numpy as np
import pytest

import gibbsformer as gf

DATA = Path(__file__).parents[1] / "data"
WIDTHS = (10, 100, 1000)
MIN_ESS = 2000
# The reference's standard errors of U_1 stand for 7,700 to 17,000 effective draws. It gives none for U_2 and U_a, and
# mixes slower in them the nearer they are to the top: 2,000 effective draws are assumed there.
REFERENCE_ESS = 2000


@pytest.mark.parametrize("N", [pytest.param(N, marks=[pytest.mark.slow] * (N != 10)) for N in WIDTHS])
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


# --- several outputs, and skip connections: an independent program's posteriors (docs/model.md, sections 7 and 12) ---


def general_problem(name):
    """(posterior, test inputs, arrays of the file) of two_outputs.npz or residual.npz."""
    given = dict(np.load(DATA / f"{name}.npz"))
    P, N, m = (int(given[n]) for n in ("P", "N", "m"))
    residual = tuple(float(s) for s in given["skip"])
    parts = []
    for part in (slice(P), slice(P, None)):
        attention = gf.Attention.given([given["A1"][part], given["A2"][part]])
        parts.append(gf.contract(given["x"][part], attention, residual=residual))
        expected = given["xi"][part]
        np.testing.assert_allclose(parts[-1].flat, expected.reshape(len(expected), 6, -1), atol=1e-12)
    network = gf.Network(6, (2, 2), (N, N, N), outputs=m, residual=residual)
    y = given["y"][:P].reshape((P, m) if m > 1 else P)
    return gf.Posterior(network, parts[0], y, float(given["T"]), ()), parts[1], given


def _slow(name, sampler):
    return pytest.param(name, sampler, marks=pytest.mark.slow)


SAMPLERS = {
    "collapsed": (gf.Collapsed(), None, 100, 1500),
    "gibbs": (gf.Gibbs(), None, 100, 3000),
    "nuts": (gf.NUTS(), "marginal", 300, 1500),
    "nuts, all weights": (gf.NUTS(), "weights", 300, 1500),
}


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("two_outputs", "gibbs"), _slow("residual", "collapsed"),
        _slow("two_outputs", "collapsed"), _slow("residual", "gibbs"),
        *(_slow(name, sampler) for name in ("two_outputs", "residual") for sampler in ("nuts", "nuts, all weights")),
    ],
)  # fmt: skip
def test_several_outputs_and_skip_connections(optimised, estimate, assert_within, name, sampler):
    posterior, test, given = general_problem(name)
    kernel, target, warmup, draws = SAMPLERS[sampler]
    with optimised():
        run = gf.sample(
            posterior, kernel, target=target, key=jax.random.key(0), warmup=warmup, draws=draws, progress=False
        )
    ours = estimate(run.order_parameters.U[0])
    assert ours.ess.min() >= 1000
    assert_within((ours.mean - given["U_mean"].ravel()) / np.hypot(ours.error, given["U_mcse"].ravel()), "U_1 entry ")
    prediction = gf.predict(run, test)
    blocks = prediction.blocks
    error = blocks.std(0, ddof=1) / np.sqrt(len(blocks))
    # the file gives no errors of f: those of as many effective draws as of U_1 are assumed
    spread = np.sqrt(prediction.variance / 3000)
    assert_within(
        (prediction.mean.ravel() - given["f_mean"].ravel()) / np.hypot(error, spread).ravel(), "f of test input "
    )
