"""Residual networks where they must be something simpler, at large width, by two ways to the evidence, and resumed."""

import jax
import numpy as np
import pytest
from scipy import stats

import gibbsformer as gf
from gibbsformer.core.checks import InputError
from gibbsformer.sampler.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning", "ignore::gibbsformer.EvidenceWarning")
KEY = jax.random.key(0)
SIZES = {"heads": (1, 2), "widths": (8, 8, 8)}


class StoppedError(Exception):
    pass


@pytest.mark.slow
def test_weak_skip_connections_are_todays_network(make_small):
    """g -> 0: the paths through heads have the same law, and the others no input."""
    weak, none = (make_small(**SIZES, residual=g).posterior for g in ((1e-7, 1e-7), False))
    heads = np.array([name.count("skip") == 0 for name in weak.data.path_names])
    one, other = gf.theory.solve(weak), gf.theory.solve(none)
    np.testing.assert_allclose(one.U[0][np.ix_(heads, heads)], other.U[0], rtol=1e-5)
    np.testing.assert_allclose(one.U_a, other.U_a, rtol=1e-5)
    options = {"key": KEY, "particles": 64, "repeats": 2}
    one, other = gf.evidence(weak, **options), gf.evidence(none, **options)
    assert abs(one.log_evidence - other.log_evidence) < 4 * np.hypot(one.error, other.error)
    assert np.hypot(one.error, other.error) < 0.3


@pytest.mark.slow
def test_without_attention_it_is_linear_regression_on_the_readout_token():
    """Patterns of zeros: f = beta . x(t*), beta ~ N(0, sigma_0^2 U_a prod_l g_l^2 / N_0), N U_a ~ sigma_a^2 chi^2_N."""
    rng, (P, N_0, S, N), T = np.random.default_rng(1), (9, 3, 4, 5), 0.2
    x, y, x_test = rng.standard_normal((P, N_0, S)), rng.standard_normal(P), rng.standard_normal((4, N_0, S))
    residual, (sigma2, *_, sigma2_a) = (0.6, 1.5), (0.8, 1.0, 1.0, 1.2)

    def inputs(x):
        patterns = [np.zeros((len(x), H, S, S)) for H in (1, 2)]
        return gf.contract(x, gf.Attention.given(patterns, normalised=False), residual=residual)

    network = gf.Network(N_0, (1, 2), (N, N, N), (sigma2, 1.0, 1.0, sigma2_a), residual=residual)
    posterior = gf.Posterior(network, inputs(x), y, T, ())
    read, read_test = x[:, :, -1], x_test[:, :, -1]

    def of(U_a):
        """(density of U_a and y, mean of f on the test inputs), by the normal equations."""
        prior = sigma2 * U_a * 0.9**2 / N_0
        precision = read.T @ read / T + np.eye(N_0) / prior
        mean = read_test @ np.linalg.solve(precision, read.T @ y / T)
        likelihood = stats.multivariate_normal(cov=prior * read @ read.T + T * np.eye(P)).pdf(y)
        return likelihood * stats.chi2(N, scale=sigma2_a / N).pdf(U_a), mean

    grid = np.exp(np.linspace(-12, 4, 801))  # of U_a; the trapezoidal rule in log U_a
    found = [of(U_a) for U_a in grid]
    density = np.array([density for density, _ in found]) * grid * np.log(grid[1] / grid[0])
    moments = np.array([[U_a, *mean] for U_a, (_, mean) in zip(grid, found, strict=True)])
    exact = density @ moments / density.sum()
    run = gf.sample(posterior, key=KEY, warmup=100, draws=500, progress=False)
    U_a = run.order_parameters.U_a
    error = float(gf.diagnostics.moments(U_a)["mcse"])
    assert error < 0.05
    assert abs(U_a.mean() - exact[0]) < 4 * error
    prediction = gf.predict(run, inputs(x_test))
    errors = prediction.blocks.std(0, ddof=1) / np.sqrt(len(prediction.blocks))
    assert np.all(np.abs(prediction.mean - exact[1:]) < 5 * errors + 1e-4)
    evidence = gf.evidence(posterior, key=KEY, particles=64, repeats=2)
    assert abs(evidence.log_evidence - np.log(density.sum())) < 4 * evidence.error


@pytest.mark.slow
def test_evidence_by_importance_and_by_smc(make_small):
    posterior = make_small(**SIZES, residual=(0.7, 1.3)).posterior
    one, other = (
        gf.evidence(posterior, key=KEY, particles=512, repeats=2, method=method) for method in ("importance", "smc")
    )
    assert (one.method, other.method) == ("importance", "smc")
    assert abs(one.log_evidence - other.log_evidence) < 4 * np.hypot(one.error, other.error)
    assert np.hypot(one.error, other.error) < 0.3


@pytest.mark.slow
def test_theory_is_the_limit_of_the_exact_posterior():
    """|E U_1 - U*| / |U*| is of order 1/N, here with P fixed."""
    task = gf.tasks.hidden_markov_chain(key=KEY, examples=40, test_examples=2, residual=True)
    found = []
    for N in (10, 100, 1000):
        run = gf.sample(task.posterior(N), key=KEY, warmup=100, draws=1000, progress=False)
        found.append(gf.finite_width(run, gf.theory.solve(task.posterior(N))))
    sizes = [f.correction for f in found]
    for small, large in ((0, 1), (1, 2)):
        assert sizes[large] < sizes[small] / 4 + 3 * found[large].correction_error
    assert sizes[2] < 0.02


def test_resumed_run_is_bit_for_bit_the_uninterrupted_one(make_small, tmp_path, monkeypatch):
    posterior = make_small(**SIZES, residual=(0.7, 1.3)).posterior
    test = posterior.data.like(posterior.data.xi[:3]), np.ones(3)

    def sample(path):
        gf.sample(posterior, gf.Gibbs(), key=KEY, warmup=4, draws=18, chunk=5, test=test, store=path, progress=False)

    sample(tmp_path / "whole.h5")
    left = [3]

    def update(self, chunk, report):
        left[0] -= 1
        if not left[0]:
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "update", update)
        with pytest.raises(StoppedError):
            sample(tmp_path / "part.h5")
    whole, part = gf.open(tmp_path / "whole.h5"), gf.resume(tmp_path / "part.h5", progress=False)
    assert part.posterior.network == posterior.network
    assert part.posterior.data.path_names == posterior.data.path_names
    assert (part.draws, part.posterior.data.residual) == (18, (0.7, 1.3))
    for name in whole.variables:
        np.testing.assert_array_equal(np.asarray(whole.variables[name]), np.asarray(part.variables[name]), name)


X = np.ones((2, 3, 3))
PATTERN = np.ones((2, 1, 3, 3))  # columns sum to 3


def _one_layer():
    data = gf.contract(X, gf.Attention.given([PATTERN / 3]), tokens="columns", residual=True)
    return gf.Posterior(gf.Network(3, (1,), (4, 4), residual=True), data, [1.0, 2.0], 1.0, ())


def _contract(pattern, **options):
    return gf.contract(X, gf.Attention.given([pattern]), tokens="columns", **options)


BAD = {
    "widths that differ": (lambda: gf.Network(3, (1,), (4, 5), residual=True), "N_1=4 and N_2=5: make them equal"),
    "negative g": (lambda: gf.Network(3, (1,), (4, 4), residual=(-1.0,)), r"residual\[0\]=-1"),
    "negative g of inputs": (lambda: _contract(PATTERN / 3, residual=(-0.5,)), r"residual\[0\]=-0.5"),
    "another network": (
        lambda: gf.Posterior(
            gf.Network(3, (2,), (4, 4), residual=True), gf.PathInputs(np.ones((2, 3, 3))), [1, 2], 0.1
        ),
        r"contracted with residual=\(0.0,\) and network has residual=\(1.0,\): make them the same",
    ),
    "another length": (
        lambda: gf.Network(3, (1, 1), (4, 4, 4), residual=(1.0,)),
        "has length 1 and the number of layers is 2: give",
    ),
    "no such path": (lambda: _contract(PATTERN / 3).select(["(skip)"]), r"'\(skip\)' is not known"),
    "columns that do not sum to 1": (lambda: _contract(PATTERN), "normalised=False"),
    "no head left": (lambda: _one_layer().select(["(skip)"]), "leave no head in layer 1: keep one"),
    "a network without it": (
        lambda: gf.Posterior(gf.Network(3, (2,), (4, 4)), _one_layer().data, [1.0, 2.0], 1.0, ()),
        r"data was contracted with residual=\(1.0,\) and network has residual=\(0.0,\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    call, message = BAD[case]
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
