"""The evidence against quadrature, against mean likelihoods over weights drawn from the prior, and against the Gaussian
process at large width; its standard errors against the spread of many repetitions."""

import warnings
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import scipy.stats

import gibbsformer as gf
from gibbsformer.core.numerics import numerics
from gibbsformer.evidence import estimate, importance, tempering
from gibbsformer.evidence.selection import evidence_findings
from gibbsformer.models import collapsed
from gibbsformer.reports.text import render_evidence

STANDARD_ERRORS = 4  # of a Monte Carlo mean: 6e-5 of normal draws are farther out; seeds are fixed
KEY = jax.random.key(0)
PARTICLES = 64  # the same in most tests: each number of particles is a program of its own
ONE_HEAD = {"heads": (1,), "widths": (4, 3), "variances": (0.7, 1.3, 0.9), "N_0": 3, "P": 6, "temperature": 0.1}


def log_normal(y, covariances):
    """log N(y; 0, covariance) for stacks of covariances, through their eigenvalues."""
    values, vectors = np.linalg.eigh(covariances)
    z = np.einsum("...ji,j->...i", vectors, y)
    return -0.5 * np.sum(z**2 / values + np.log(2 * np.pi * values), axis=-1)


def log_chi2_grid(N):
    """(log c, log of density times spacing) on a grid where the trapezoidal rule is exact to rounding."""
    log_c = np.linspace(-50.0, 5.5, 801)
    return log_c, scipy.stats.chi2.logpdf(np.exp(log_c), N) + log_c + np.log(log_c[1] - log_c[0])


def kernels(posterior):
    """Path kernels times sigma_0^2 [H, H, P, P]."""
    xi = posterior.data.flat
    return posterior.network.variances[0] * np.einsum("pnh,qng->hgpq", xi, xi)


@pytest.fixture(scope="module")
def one_head(make_small):
    """(posterior, log evidence): U_1 = s_1 s_a c d / (N_1 N_2), c ~ chi^2(N_2), d ~ chi^2(N_1)."""
    posterior = make_small(**ONE_HEAD).posterior
    (N_1, N_2), (_, s_1, s_a) = posterior.network.widths, posterior.network.variances
    (log_c, weight_c), (log_d, weight_d) = log_chi2_grid(N_2), log_chi2_grid(N_1)
    # c and d enter through their product alone: log_c + log_d takes 2 * 801 - 1 values
    U_1 = s_1 * s_a / (N_1 * N_2) * np.exp(np.linspace(2 * log_c[0], 2 * log_c[-1], 2 * len(log_c) - 1))
    identity = posterior.temperature * np.eye(len(posterior.y))
    values = log_normal(posterior.y, U_1[:, None, None] * kernels(posterior)[0, 0] + identity)
    index = np.add.outer(np.arange(len(log_c)), np.arange(len(log_d)))
    return posterior, float(np.log(np.sum(np.exp(values[index] + weight_c[:, None] + weight_d))))


@pytest.fixture(scope="module")
def rank_one(make_small):
    """(posterior, log evidence) of two heads with N_1 = 1: W_1 [2, 1] given U_a has the density N(0, s_1 U_a I), so
    U_1 = s_1 s_a c r^2 / N_2 times the projection on a direction, uniform; c ~ chi^2(N_2), r^2 ~ chi^2(2)."""
    options = {"heads": (2,), "widths": (1, 3), "variances": (0.7, 1.3, 0.9), "N_0": 3, "P": 5, "temperature": 0.1}
    posterior = make_small(**options).posterior
    assert gf.models.collapsed.layout(posterior.network).singular
    (log_c, weight_c), (log_r, weight_r) = log_chi2_grid(3), log_chi2_grid(2)
    scale = 1.3 * 0.9 / 3 * np.exp(np.linspace(2 * log_c[0], 2 * log_c[-1], 2 * len(log_c) - 1))
    angles = np.pi * np.arange(64) / 64  # periodic and smooth: the mean over them is exact to rounding
    u = np.stack([np.cos(angles), np.sin(angles)])
    projected = np.einsum("ha,ga,hgpq->apq", u, u, kernels(posterior))
    covariances = scale[:, None, None, None] * projected + posterior.temperature * np.eye(5)
    likelihood = np.exp(log_normal(posterior.y, covariances)).mean(1)
    index = np.add.outer(np.arange(len(log_c)), np.arange(len(log_r)))
    return posterior, float(np.log(np.sum(likelihood[index] * np.exp(weight_c[:, None] + weight_r))))


@pytest.mark.parametrize(
    ("case", "particles", "repeats", "error"), [("one_head", PARTICLES, 64, 0.03), ("rank_one", 128, 32, 0.1)]
)
def test_evidence_is_that_of_quadrature(case, particles, repeats, error, request):
    posterior, expected = request.getfixturevalue(case)
    found = gf.evidence(posterior, method="smc", key=KEY, particles=particles, repeats=repeats)
    assert found.error < error
    assert found.thermodynamic_error < error
    assert abs(found.log_evidence - expected) < STANDARD_ERRORS * found.error
    assert abs(found.thermodynamic - expected) < STANDARD_ERRORS * found.thermodynamic_error
    assert found.agrees
    assert found.betas[0] == 0
    assert found.betas[-1] == 1
    assert len(found.ess) == len(found.acceptance) == len(found.betas) - 1
    # E_beta rises with beta: its derivative is a variance
    assert np.all(np.diff(found.mean_log_likelihood) > 0)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="singular", marks=pytest.mark.slow),
        pytest.param({"heads": (2, 2), "widths": (6, 4, 3), "temperature": 0.5}, id="regular"),
    ],
)
@pytest.mark.slow
def test_evidence_is_the_mean_likelihood_over_weights_from_the_prior(make_small, options):
    """Nothing shared with the law of the order parameters: V_l and a in NumPy, W_1 by products, the mean of N(y; K)."""
    posterior = make_small(**options).posterior
    (_, N_1, N_2, N_3), (_, s_1, s_2, s_a) = (6, *posterior.network.widths), posterior.network.variances
    H_1, H_2 = posterior.network.heads
    rng, draws = np.random.default_rng(3), 50_000
    a = np.sqrt(s_a / N_3) * rng.standard_normal((draws, N_3))
    W_2 = np.einsum("di,dhij->dhj", a, np.sqrt(s_2 / N_2) * rng.standard_normal((draws, H_2, N_3, N_2)))
    V_1 = np.sqrt(s_1 / N_1) * rng.standard_normal((draws, H_1, N_2, N_1))
    W_1 = np.einsum("dqi,dhij->dhqj", W_2, V_1).reshape(draws, H_1 * H_2, N_1)
    U_1 = W_1 @ W_1.transpose(0, 2, 1)
    P = len(posterior.y)
    K = (U_1.reshape(draws, -1) @ kernels(posterior).reshape((H_1 * H_2) ** 2, -1)).reshape(draws, P, P)
    likelihood = np.exp(log_normal(posterior.y, K + posterior.temperature * np.eye(P)))
    expected, error = np.log(likelihood.mean()), likelihood.std() / likelihood.mean() / np.sqrt(draws)
    assert error < 0.02

    found = gf.evidence(posterior, method="smc", key=KEY, particles=1024)
    assert found.error < 0.05
    assert abs(found.log_evidence - expected) < STANDARD_ERRORS * np.hypot(found.error, error)
    assert abs(found.thermodynamic - expected) < STANDARD_ERRORS * np.hypot(found.thermodynamic_error, error)


def gp_evidence(posterior, temperature):
    scale = np.prod(posterior.network.variances[1:])
    K = scale * np.einsum("hhpq->pq", kernels(posterior))
    return float(log_normal(posterior.y, K + temperature * np.eye(len(K))))


@pytest.mark.slow
def test_large_width_is_the_gaussian_process_and_so_is_its_best_temperature(reference_posterior):
    posterior = reference_posterior(10)
    temperatures = (0.01, 0.03, 0.1, 0.3, 1.0)
    expected = [gp_evidence(posterior, T) for T in temperatures]
    network = gf.Network(231, (2, 2), (10**7,) * 3)
    evidences = {
        T: gf.evidence(
            gf.Posterior(network, posterior.data, posterior.y, T), method="smc", key=KEY, particles=PARTICLES, repeats=2
        )
        for T in temperatures
    }
    for T, value in zip(temperatures, expected, strict=True):
        found = evidences[T]
        # 1/N times a sum over P examples of squared terms of order 1 / T at most: the first-order correction
        correction = 100 / T / 10**7
        assert abs(found.log_evidence - value) < STANDARD_ERRORS * found.error + correction
        assert abs(found.thermodynamic - value) < STANDARD_ERRORS * found.thermodynamic_error + correction
    assert gf.select(evidences).index[0] == temperatures[np.argmax(expected)]


@pytest.mark.slow
def test_both_estimators_agree_on_the_reference_task(reference_posterior):
    found = gf.evidence(reference_posterior(10), method="smc", key=KEY, particles=PARTICLES, repeats=4)
    assert found.error < 0.4
    assert found.agrees
    # their errors come from the same particles, mostly with the same sign: the difference has less than both together
    error = np.hypot(found.error, found.thermodynamic_error)
    assert abs(found.log_evidence - found.thermodynamic) < STANDARD_ERRORS * error


def z_scores(values, errors, expected):
    return (np.asarray(values) - expected) / np.asarray(errors)


PASSES = 200


@pytest.fixture(scope="module")
def two_heads(make_small):
    """(posterior with labels larger than the prior expects, None)."""
    small = make_small(heads=(2,), widths=(5, 4), variances=(0.7, 1.3, 0.9), N_0=3, P=6, temperature=0.1).posterior
    return gf.Posterior(small.network, small.data, 3 * small.y, 0.1), None


@pytest.mark.parametrize(
    ("case", "factor"),
    [
        ("two_heads", 1),
        pytest.param("rank_one", 1, marks=pytest.mark.slow),
        pytest.param("rank_one", 1 / 3, marks=pytest.mark.slow),
    ],
)
def test_standard_errors_are_honest(case, factor, request):
    """z-scores of many passes have variance 1, known to sqrt(2 / 200), through changes of beta with a likelihood that
    is far from Gaussian; also where moves are a third as long, so that lineages stay alike: the errors know of it."""
    posterior, expected = request.getfixturevalue(case)
    with numerics():
        program = tempering._Program.of(posterior, 128)
        path = [s._replace(step_size=factor * s.step_size) for s in program.explore(KEY)]
        passes = [program.follow(jax.random.fold_in(KEY, r), path) for r in range(1, PASSES + 1)]
    betas = np.array([0.0, *(s.beta for s in path)])
    assert len(path) >= 3
    for estimator in (tempering.log_mean_weights, tempering.thermodynamic_integral):
        values, errors = np.array([estimator(betas, p) for p in passes]).T
        variance = np.var((values - values.mean()) / errors)
        assert abs(variance - 1) < STANDARD_ERRORS * np.sqrt(2 / PASSES)
        if expected is not None and estimator is tempering.log_mean_weights:
            ratio = np.exp(values - expected)  # unbiased, whatever the moves
            assert abs(ratio.mean() - 1) < STANDARD_ERRORS * ratio.std() / np.sqrt(PASSES)


def test_result_follows_from_the_key_and_widths_share_a_program(make_small):
    posterior = make_small(**ONE_HEAD).posterior
    before = tempering._advance._cache_size()
    first, again = (gf.evidence(posterior, method="smc", key=KEY, particles=PARTICLES, repeats=2) for _ in range(2))
    assert first.log_evidence == again.log_evidence
    assert first.thermodynamic_error == again.thermodynamic_error
    other = gf.evidence(posterior, method="smc", key=jax.random.key(1), particles=PARTICLES, repeats=2)
    assert other.log_evidence != first.log_evidence
    assert len(set(first.repeats)) == 2

    programs = tempering._advance._cache_size()
    assert programs <= before + 1
    wider = make_small(**(ONE_HEAD | {"widths": (40, 30), "temperature": 0.2, "variances": (1.0, 1.0, 1.0)})).posterior
    gf.evidence(wider, method="smc", key=KEY, particles=PARTICLES, repeats=1)
    assert tempering._advance._cache_size() == programs


def test_heads_are_chosen_through_sub_networks(make_small):
    posterior = make_small(**(ONE_HEAD | {"heads": (2,)})).posterior
    part = posterior.select(["(1)"])
    found = gf.evidence(part, method="smc", key=KEY, particles=PARTICLES, repeats=1)
    assert found.posterior is part
    assert found.agreement == 1.0
    data = gf.PathInputs(np.sqrt(2) * posterior.data.xi[..., :1])  # one path in place of two
    network = gf.Network(3, (1,), posterior.network.widths, posterior.network.variances)
    alone = gf.Posterior(network, data, posterior.y, posterior.temperature)
    again = gf.evidence(alone, method="smc", key=KEY, particles=PARTICLES, repeats=1)
    assert again.log_evidence == pytest.approx(found.log_evidence)  # rounding


def test_labels_that_theta_does_not_reach(make_small):
    """No inputs, no dependence on theta: N(y; 0, T I) without error."""
    network = make_small(**ONE_HEAD).network
    y = np.array([1.0, -2.0, 0.0, 0.0, 1.0, 0.0])
    posterior = gf.Posterior(network, gf.PathInputs(np.zeros((6, 3, 1))), y, 0.5)
    found = gf.evidence(posterior, method="smc", key=KEY, particles=PARTICLES)
    assert found.log_evidence == pytest.approx(-0.5 * 6 / 0.5 - 3 * np.log(2 * np.pi * 0.5))
    assert found.error == pytest.approx(0, abs=1e-12)
    assert list(found.betas) == [0, 1]


def test_passes_that_differ_are_warned_of(one_head):
    posterior, _ = one_head
    rng = np.random.default_rng(0)
    family = np.tile(np.arange(64), (2, 1))
    passes = [tempering.Pass(shift + 0.1 * rng.standard_normal((2, 64)), family, np.ones(1)) for shift in (0, 1)]
    betas = np.array([0.0, 1.0])
    with pytest.warns(gf.EvidenceWarning, match="differ by more than their errors say, use more particles"):
        found = estimate._of_passes(posterior, betas, passes, np.nan)
    assert not found.agrees
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert estimate._of_passes(posterior, betas, passes[:1], np.nan).agrees


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"posterior": 3}, r"posterior is a int: give gf\.Posterior"),
        ({"key": 0}, "key=0 is a int, not a random key: make one"),
        ({"particles": 1}, "particles=1 must be a whole number, 32 or more"),
        ({"particles": 64.5}, r"particles=64\.5 must be a whole number"),
        ({"repeats": 0}, "repeats=0 must be a whole number, 1 or more"),
    ],
)
def test_bad_input(make_small, change, message):
    arguments = {"posterior": make_small(**ONE_HEAD).posterior, "key": KEY} | change
    with pytest.raises(ValueError, match=message):
        gf.evidence(arguments.pop("posterior"), **arguments)


def test_importance_weights_give_the_integral(one_head):
    """Two coordinates: the evidence is a two-dimensional integral."""
    posterior, expected = one_head
    wide = gf.Posterior(gf.Network(3, (1,), (40, 30), posterior.network.variances), posterior.data, posterior.y, 0.5)
    found = gf.evidence(wide, key=KEY, particles=PARTICLES)
    assert found.method == "importance"
    assert found.pareto_k < 0.7
    other = gf.evidence(wide, key=KEY, particles=PARTICLES, repeats=8, method="smc")
    assert found.error < 0.02
    assert abs(found.log_evidence - other.log_evidence) < STANDARD_ERRORS * np.hypot(found.error, other.error)
    narrow = gf.evidence(posterior, key=KEY, particles=PARTICLES)  # the weights may or may not be believed
    assert abs(narrow.log_evidence - expected) < STANDARD_ERRORS * narrow.error
    text = render_evidence(evidence_findings(found, None))
    assert "importance weights, Pareto k" in text
    assert "thermodynamic" not in text


def test_importance_weights_at_large_width_are_the_gaussian_process(reference_posterior):
    posterior = reference_posterior(10)
    for width, correction in ((10**4, 0.5), (10**7, 1e-3)):
        wide = gf.Posterior(gf.Network(231, (2, 2), (width,) * 3), posterior.data, posterior.y, 0.1)
        found = gf.evidence(wide, key=KEY)
        assert found.method == "importance"
        assert found.error < 1e-3
        assert abs(found.log_evidence - gp_evidence(posterior, 0.1)) < correction


@pytest.mark.parametrize(
    ("found", "parts"),
    [
        ([(0.5, 0.01)], 1),  # 256 weights tell where k is below 0.585,
        ([(0.6, 0.01), (0.6, 0.01)], 2),  # 1,024 below 0.668,
        ([(0.68, 0.01), (0.68, 0.01), (0.68, 0.01)], 3),  # and no number beyond 0.7
        ([(0.1, 0.1), (0.1, 0.1), (0.1, 0.1), (0.1, 0.1)], 4),  # not precise enough, and no more are made
        ([(0.75, 0.01), (0.75, 0.01), (0.75, 0.01), (0.75, 0.01)], 4),
    ],
)
def test_weights_stop_where_their_number_tells(make_small, monkeypatch, found, parts):
    sizes = []

    def weights(shape, repeats, few, data, guide, keys):
        k, error = found[len(sizes)]
        sizes.append(len(keys))
        log_weights = np.zeros((repeats, few * len(keys)))
        return SimpleNamespace(pareto_k=k, errors=np.full(repeats, 2 * error), log_weights=log_weights), None

    monkeypatch.setattr(importance, "_weights", weights)
    monkeypatch.setattr(importance, "_moved", lambda guide, found, z: guide)
    with numerics():
        importance.importance_weights(make_small(**ONE_HEAD).posterior, KEY, 4096, 4)
    assert sizes == [1, 4, 16, 64][:parts]


def test_weights_with_a_heavy_tail_are_not_believed(reference_posterior):
    posterior = reference_posterior(4)
    found = gf.evidence(posterior, key=KEY, particles=PARTICLES, repeats=1)
    assert found.method == "smc"
    assert found.pareto_k > 0.7
    with pytest.warns(gf.EvidenceWarning, match=r"Pareto k = \d\.\d\d \(limit 0.7\).*use method='smc'"):
        gf.evidence(posterior, key=KEY, particles=PARTICLES, method="importance")


def test_methods_that_do_not_fit(make_small):
    posterior = make_small(heads=(3, 2), widths=(5, 4, 3)).posterior
    with pytest.raises(ValueError, match="method='is' is not known"):
        gf.evidence(posterior, key=KEY, method="is")


@pytest.mark.slow
def test_a_jacobian_that_is_missing_is_noticed(reference_posterior, monkeypatch):
    posterior = reference_posterior(100)
    whole = gf.evidence(posterior, key=KEY, particles=PARTICLES, method="importance")

    def without(shape, log_density, s):
        return log_density(collapsed.unstraightened(shape, s))

    monkeypatch.setattr(collapsed, "straight_log_density", without)
    jax.clear_caches()
    wrong = gf.evidence(posterior, key=KEY, particles=PARTICLES, method="importance")
    jax.clear_caches()
    assert abs(wrong.log_evidence - whole.log_evidence) > 100 * whole.error
