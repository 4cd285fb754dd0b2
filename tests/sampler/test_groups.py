"""ArviZ groups on request: log-likelihoods and drawn labels against closed forms and naive loops, and what ArviZ makes
of them."""

import dataclasses
import shutil
import types
from pathlib import Path

import arviz
import jax
import numpy as np
import pytest
import scipy.stats

import gibbsformer as gf
from gibbsformer.sampler import groups

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning", "ignore::FutureWarning")
DATA = Path(__file__).parents[1] / "data" / "schema_1.h5"
KEY = jax.random.key(3)
DRAWS = 2000  # of an output


def kernel(posterior, U):
    """A(U) = sigma_0^2 K + T I [P m, P m], by loops over pairs of examples."""
    xi, m = posterior.data.flat, posterior.network.outputs
    A = np.zeros((len(xi), m, len(xi), m))
    blocks = U.reshape(xi.shape[2], m, xi.shape[2], m)
    for i, a in enumerate(xi):
        for j, b in enumerate(xi):
            A[i, :, j] = posterior.network.variances[0] * np.einsum("nh,hagb,ng->ab", a, blocks, b)
    n = len(xi) * m
    return A.reshape(n, n) + posterior.temperature * np.eye(n)


def left_out(posterior, U):
    """log p(y_i | y_-i, U) by deleting the rows of each example."""
    A, y, m = kernel(posterior, U), posterior.y.reshape(-1), posterior.network.outputs
    found = []
    for i in range(len(posterior.y)):
        one, rest = np.arange(len(y)) // m == i, np.arange(len(y)) // m != i
        gain = A[np.ix_(one, rest)] @ np.linalg.inv(A[np.ix_(rest, rest)])
        law = scipy.stats.multivariate_normal(gain @ y[rest], A[np.ix_(one, one)] - gain @ A[np.ix_(rest, one)])
        found.append(law.logpdf(y[one]))
    return np.array(found)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A run by its order parameters alone: what ``groups`` needs of one."""

    posterior: gf.Posterior
    order_parameters: gf.OrderParameters
    test = None

    @property
    def chains(self):
        return len(self.order_parameters.U[0])

    @property
    def draws(self):
        return self.order_parameters.U[0].shape[1]

    @property
    def index(self):
        return {"chain": np.arange(self.chains), "draw": np.arange(self.draws)}

    def names(self, role):
        return ("theta",) if role == "state" else ()


@pytest.fixture(scope="module")
def drawn(make_small):
    """Factory of order parameters of a small problem: m outputs, P examples of which N_0 H directions are seen."""

    def make(outputs=1, P=7, reduce=True):
        small = make_small(heads=(1, 2), N_0=3, widths=(4, 4, 4), P=P, outputs=outputs)
        posterior = dataclasses.replace(small.posterior, reduce=reduce)
        prior = gf.prior(posterior.network, draws=6, key=KEY)
        U = tuple(each.reshape(2, 3, *each.shape[1:]) for each in prior.order_parameters.U)
        return Drawn(posterior, gf.OrderParameters(prior.order_parameters.U_a, U))

    return make


@pytest.mark.parametrize(("outputs", "P"), [(1, 5), (1, 9), (2, 5), (2, 9)])  # 9 examples in 6 directions
def test_density_of_each_label_given_the_others(drawn, outputs, P):
    run = drawn(outputs, P)
    assert (len(run.posterior.reduction.y) < P) == (P == 9)
    found = groups.log_likelihood(run, True, None)["y"]
    assert found.dims == ("chain", "draw", "example")
    expected = [[left_out(run.posterior, U) for U in chain] for chain in run.order_parameters.U[0]]
    np.testing.assert_allclose(found, expected, rtol=1e-7)  # two orders of inversion


def test_outputs_have_the_law_of_the_conditional(drawn):
    """Mean and covariance of f given U and y, in units of their Monte Carlo errors."""
    run = drawn(P=9)
    U = np.broadcast_to(run.order_parameters.U[0][0, 0], (1, DRAWS, 2, 2))
    run = dataclasses.replace(run, order_parameters=gf.OrderParameters(None, (U,)))
    (f,) = groups.outputs_of(run, KEY)
    A, T = kernel(run.posterior, U[0, 0]), run.posterior.temperature
    K = A - T * np.eye(9)
    mean, covariance = K @ np.linalg.solve(A, run.posterior.y), K - K @ np.linalg.solve(A, K)
    z = (f[0].mean(0) - mean) / np.sqrt(np.diag(covariance) / DRAWS)
    variances = np.diag(covariance)
    spread = np.sqrt((np.outer(variances, variances) + covariance**2) / DRAWS)
    z_covariance = (np.cov(f[0].T) - covariance) / spread
    assert np.abs(z).max() < 4
    assert np.abs(z_covariance).max() < 4.5  # of 45 entries
    given_f = groups.log_likelihood(run, "f", KEY)["y"].values[0]
    np.testing.assert_allclose(given_f, scipy.stats.norm(f[0], np.sqrt(T)).logpdf(run.posterior.y), rtol=1e-9)


@pytest.mark.parametrize("residual", [False, True])
def test_prior_has_its_law(make_small, residual):
    """E U_1 is the GP limit at any width; outputs and labels are Gaussian given U, of covariance E K (+ T)."""
    small = make_small(heads=(2,), widths=(6, 6), variances=(0.7, 1.3, 0.9), N_0=3, residual=residual)
    prior = gf.prior(small.posterior, draws=DRAWS, key=KEY)
    U_a, (U_1,) = prior.order_parameters
    expected = gf.theory.gp(small.posterior).U[0]
    z = (U_1.mean(0) - expected) / (U_1.std(0) / np.sqrt(DRAWS) + 1e-12)
    assert np.abs(z).max() < 4
    chi2 = scipy.stats.kstest(6 * U_a / 0.9, scipy.stats.chi2(6).cdf)
    assert chi2.pvalue > 1e-3
    A = kernel(small.posterior, expected)
    for values, variance in ((prior.f, np.diag(A) - 0.3), (prior.y, np.diag(A))):
        error = (values**2).std(0) / np.sqrt(DRAWS)
        assert np.abs(((values**2).mean(0) - variance) / error).max() < 4


def groups_of(data):
    """Names of the groups, of an InferenceData or a DataTree."""
    return {name.strip("/") for name in data.groups} - {""} if hasattr(data, "children") else set(data.groups())


@pytest.mark.filterwarnings("ignore")  # an old file, of few draws
def test_arviz_takes_all_groups(tmp_path):
    """In memory and from a file: loo, plots of labels, before and after they were seen."""
    stored = gf.open(shutil.copy(DATA, tmp_path))
    held = {name: np.asarray(values) for name, values in stored.variables.items()}
    posterior, draws, P, Q = stored.posterior, stored.draws, len(stored.posterior.y), len(stored.test[1])
    prior = gf.prior(posterior, draws=50, key=KEY)
    for run in (stored, dataclasses.replace(stored, path=None, variables=held)):
        data = run.to_arviz(log_likelihood=True, posterior_predictive=True, prior=prior, key=KEY)
        log_density = np.array([left_out(posterior, U) for U in run.order_parameters.U[0].reshape(-1, 2, 2)])
        exact = -np.log(np.mean(np.exp(-log_density), axis=0))  # importance weights that are not smoothed
        found = arviz.loo(data, pointwise=True)
        np.testing.assert_allclose(found.loo_i if hasattr(found, "loo_i") else found.elpd_i, exact, atol=0.1)
        assert groups_of(data) >= {"posterior", "observed_data", "prior", "prior_predictive", "log_likelihood"}
        assert data["posterior_predictive"]["y"].shape == (2, draws, P)
        assert data["posterior_predictive"]["y_test"].shape == (2, draws, Q)
        assert data["prior_predictive"]["y"].shape == (1, 50, P)
        for group in ("posterior", "prior"):
            if hasattr(arviz, "plot_ppc"):
                assert arviz.plot_ppc(data, group=group, var_names=["y"], num_pp_samples=10, show=False) is not None
            else:  # its name since ArviZ 1
                assert arviz.plot_ppc_dist(data, group=f"{group}_predictive", var_names=["y"], num_samples=10)
    assert groups_of(stored.to_arviz()) == groups_of(arviz.from_netcdf(stored.path))


def test_a_prior_of_another_kind_is_refused(small):
    run = gf.sample(small.posterior, "gibbs", key=KEY, chains=2, warmup=5, draws=5, progress=False)
    with pytest.raises(ValueError, match=r"prior is a int: give gf.prior"):
        run.to_arviz(prior=3)


def test_bad_requests(small, drawn):
    run = drawn()
    with pytest.raises(ValueError, match="log_likelihood='loo'"):
        groups.log_likelihood(run, "loo", None)
    with pytest.raises(ValueError, match="key"):
        groups.log_likelihood(run, "f", None)
    reduced = gf.Posterior(small.network, small.posterior.reduction, temperature=0.3)
    with pytest.raises(ValueError, match="Reduction"):
        gf.prior(reduced, key=KEY)
    with pytest.raises(ValueError, match="solvable"):
        gf.prior("network", key=KEY)


def test_a_law_of_f_is_not_taken_for_draws(drawn):
    """Of learned attention: mean and variance of f given U, until path weights are lifted."""

    class Learned:
        x = np.ones((3, 2))
        variance = 1.0

        def predicts_from(self, recorded):
            return ("U_1",)

        def predictions(self, recorded, x):
            return np.ones((2, len(x))), self.variance * np.ones((2, len(x)))

    run = types.SimpleNamespace(
        posterior=Learned(),
        chains=1,
        draws=2,
        test=None,
        variables={"U_1": np.ones((1, 2, 1, 1))},
        names=lambda _: ("Q",),
    )
    with pytest.raises(ValueError, match="lift"):
        groups.outputs_of(run, KEY)
    Learned.variance = 0.0
    assert groups.outputs_of(run, KEY)[0].shape == (1, 2, 3)
