"""Evidence of learned attention and of one's own models: against closed forms and mean likelihoods under the prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import gibbsformer as gf
from gibbsformer.core.numerics import numerics
from gibbsformer.evidence import tempering
from gibbsformer.evidence.problems import problem_of
from gibbsformer.evidence.tempering import _Program

STANDARD_ERRORS = 4
KEY = jax.random.key(0)
rng = np.random.default_rng(5)
N_0, S, P, G, T = 3, 4, 6, 2, 0.3
X, Y = rng.standard_normal((P, N_0, S)), rng.standard_normal(P)
NETWORK = gf.Network(N_0, (2,), (6, 5), (0.9, 1.1, 1.0))
HEADS = [tuple(rng.standard_normal((2, 2, G, N_0)))]


def learned(variances=0.4, layers=HEADS, **options):
    return gf.LearnedAttention(layers, G, variances, **options).posterior(NETWORK, X, Y, T)


def linear(w, x):
    return x @ w["b"] + w["c"]


def regression(weights):
    """(posterior, log evidence) of Bayesian linear regression on so many inputs."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((10, weights)), rng.standard_normal(10)
    variances = {"b": 2 / weights, "c": 0.5}
    model = gf.Model(shapes={"b": (weights,), "c": ()}, variances=variances, forward=linear)
    covariance = 2 / weights * x @ x.T + 0.5 + T * np.eye(10)
    return model.posterior(x, y, T), scipy.stats.multivariate_normal.logpdf(y, np.zeros(10), covariance)


def agrees(found, expected, error=0.0):
    assert found.method == "smc"
    assert abs(found.log_evidence - expected) < STANDARD_ERRORS * np.hypot(found.error, error)
    assert abs(found.thermodynamic - expected) < STANDARD_ERRORS * np.hypot(found.thermodynamic_error, error)


@pytest.mark.parametrize("weights", [4, 90])
def test_linear_regression_is_in_closed_form(weights):
    """Also with more coordinates than particles."""
    posterior, expected = regression(weights)
    found = gf.evidence(posterior, key=KEY, particles=64)
    assert found.error < 0.2
    agrees(found, expected)


def test_a_prior_of_ones_own_may_lack_its_constant():
    posterior, expected = regression(4)
    scales = {"b": np.sqrt(0.5), "c": np.sqrt(0.5)}

    def draw(key):
        keys = dict(zip(scales, jax.random.split(key), strict=True))
        return {name: s * jax.random.normal(keys[name], (4,) * (name == "b")) for name, s in scales.items()}

    model = gf.Model(
        shapes=posterior.model.shapes,
        forward=linear,
        log_prior=lambda w: 7 - sum(jnp.sum(w[name] ** 2) / (2 * s**2) for name, s in scales.items()),
        draw_prior=draw,
    )
    agrees(gf.evidence(model.posterior(posterior.x, posterior.y, T), key=KEY, particles=64), expected)


@pytest.mark.parametrize("kind", ["softmax", pytest.param("linear", marks=pytest.mark.slow)])
def test_learned_attention_is_the_mean_likelihood_under_the_prior(kind):
    """Nothing shared: queries, keys and weights from their priors, attention, kernel and likelihood in NumPy."""
    rng, draws = np.random.default_rng(3), 40_000
    q, k = (HEADS[0][i] + np.sqrt(0.4) * rng.standard_normal((draws, 2, G, N_0)) for i in range(2))
    scores = np.einsum("dhgn,pns,dhgm,pm->dphs", k, X, q, X[:, :, -1]) / np.sqrt(G)
    A = scores / S if kind == "linear" else np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    xi = np.einsum("pns,dphs->dphn", X, A) / np.sqrt(2 * N_0)
    (N_1, N_2), (s_0, s_1, s_a) = NETWORK.widths, NETWORK.variances
    a = np.sqrt(s_a) * rng.standard_normal((draws, N_2))
    W = np.einsum("di,dhij->dhj", a, np.sqrt(s_1) * rng.standard_normal((draws, 2, N_2, N_1))) / np.sqrt(N_2)
    U = np.einsum("dhj,dgj->dhg", W, W) / N_1
    K = s_0 * np.einsum("dphn,dqgn,dhg->dpq", xi, xi, U) + T * np.eye(P)
    sign, log_determinant = np.linalg.slogdet(K)
    assert (sign > 0).all()
    misfit = np.einsum("p,dp->d", Y, np.linalg.solve(K, np.broadcast_to(Y[:, None], (draws, P, 1)))[..., 0])
    likelihood = np.exp(-0.5 * (misfit + log_determinant + P * np.log(2 * np.pi)))
    error = likelihood.std() / likelihood.mean() / np.sqrt(draws)
    assert error < 0.01
    found = gf.evidence(learned(kind=kind), key=KEY, particles=128)
    assert found.error < 0.1
    agrees(found, np.log(likelihood.mean()), error)


def test_a_narrow_prior_has_the_evidence_of_frozen_attention():
    narrow = learned(variances=1e-16)
    frozen = narrow.frozen(dict(zip(("Q_1", "K_1"), HEADS[0], strict=True)))
    expected = gf.evidence(frozen, key=KEY)
    found = gf.evidence(narrow, key=KEY, particles=128)
    agrees(found, expected.log_evidence, expected.error)
    table = gf.select({"frozen": expected, "learned": found})
    assert table["behind"].abs().max() < STANDARD_ERRORS * np.hypot(found.error, expected.error)
    assert "LearnedPosterior" in repr(found)
    assert "LearnedPosterior" in found._repr_html_()


@pytest.mark.parametrize(
    ("posterior", "message"),
    [
        (learned(), r"method='importance' needs the solvable network .* freeze its attention"),
        (regression(4)[0], r"method='importance' needs the solvable network .* sample it by a gradient"),
    ],
)
def test_importance_weights_need_the_mode(posterior, message):
    with pytest.raises(ValueError, match=message):
        gf.evidence(posterior, key=KEY, method="importance")


def test_outputs_that_are_not_finite_under_the_prior():
    x, y = np.ones((4, 1)), np.ones(4)
    model = gf.Model(shapes={"a": (1,)}, variances={"a": 1.0}, forward=lambda w, x: jnp.sqrt(1.8 + w["a"]) * x[:, 0])
    with pytest.raises(
        ValueError, match="forward leaves the likelihood not finite at some draws of the prior: make it"
    ):
        gf.evidence(model.posterior(x, y, T), key=KEY, particles=64)


@pytest.mark.parametrize("posterior", [learned(variances=[[0.4, 2.0, 0.1]]), regression(4)[0], learned().frozen(
    dict(zip(("Q_1", "K_1"), HEADS[0], strict=True)))], ids=["learned", "model", "network"])  # fmt: skip
def test_draws_of_the_prior_have_its_density(posterior):
    """E[theta d log p / d theta] = -1 for every coordinate, by parts."""
    with numerics():
        problem, data, _ = problem_of(posterior)
        theta = jnp.asarray(problem.draw_prior(data, np.random.default_rng(0), 4000))
        each = np.asarray(theta * jax.vmap(jax.grad(lambda t: problem.log_prior(data, t)))(theta))
    error = each.std(0) / np.sqrt(len(each))
    assert np.all(np.abs(each.mean(0) + 1) < STANDARD_ERRORS * error)
    assert error.max() < 0.1


@pytest.mark.parametrize("weights", [4, 90])
def test_particles_know_their_likelihood_and_its_gradient(weights):
    """Moves carry both along instead of computing them again, with a dense metric and with a diagonal one."""
    with numerics():
        program = _Program.of(regression(weights)[0], 32)
        step = program.explore(KEY)[0]
        assert step.root.ndim == (2 if weights == 4 else 1)
        moved, _, _ = program._move(KEY, 0, program._start(KEY), step)
        value, gradient = tempering._evaluate(program.problem, program.batch, program.data, moved.theta)
    np.testing.assert_allclose(moved.log_likelihood, value, rtol=1e-9)
    np.testing.assert_allclose(moved.gradient, gradient, rtol=1e-6, atol=1e-8)  # rounding of the prior's, over beta


def test_correlation_of_more_coordinates_than_particles_is_their_mean():
    rng = np.random.default_rng(0)
    before, other = (jnp.asarray(rng.standard_normal((20, 200))) for _ in range(2))
    values, others = (jnp.asarray(rng.standard_normal(20)) for _ in range(2))
    cloud = lambda theta, value: tempering.Cloud(theta, value, theta, jnp.arange(20))  # noqa: E731
    same = tempering._autocorrelation(cloud(before, values), cloud(before, others))
    assert same == pytest.approx(1, abs=1e-5)
    assert tempering._autocorrelation(cloud(before, values), cloud(other, values)) == pytest.approx(1, abs=1e-5)
    assert abs(tempering._autocorrelation(cloud(before, values), cloud(other, others))) < 0.5  # the largest is 0.7


def test_a_prior_without_spread():
    model = gf.Model(
        shapes={"a": (2,)},
        forward=lambda w, x: x @ w["a"],
        log_prior=lambda w: -jnp.sum(w["a"] ** 2) / 2,
        draw_prior=lambda key: {"a": jnp.array([jax.random.normal(key), 0.0])},
    )
    posterior = model.posterior(np.eye(4)[:, :2], np.arange(4.0), T)
    with pytest.raises(ValueError, match="draw_prior gives some entries the same value at every key: make it draw"):
        gf.evidence(posterior, key=KEY, particles=32, repeats=1)


def test_a_test_score_needs_a_theory():
    """Evidences of all posteriors compare; accuracies of the theory are those of networks alone."""
    posterior, _ = regression(4)
    found = gf.evidence(posterior, key=KEY, particles=32, repeats=1)
    assert list(gf.select({"regression": found}).columns) == ["log_evidence", "error", "behind"]
    with pytest.raises(ValueError, match="the test score of the theory needs the solvable network"):
        gf.select({"regression": found}, (posterior.x, posterior.y))
