"""Shares of paths of each length: exact decompositions, networks of some paths, and the skip-only posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import gibbsformer as gf
from gibbsformer.core.checks import InputError
from gibbsformer.heads.path_lengths import of_paths

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning", "ignore::gibbsformer.EvidenceWarning")


@pytest.fixture(scope="module")
def problem(make_small):
    return make_small(heads=(1, 2), widths=(8, 8, 8), residual=(0.7, 1.3))


@pytest.fixture(scope="module")
def solved(problem):
    return gf.theory.solve(problem.posterior)


@pytest.fixture(scope="module")
def test_set(problem):
    rng = np.random.default_rng(9)
    x = rng.standard_normal((5, *problem.x.shape[1:]))
    return gf.contract(x, problem.attention, residual=(0.7, 1.3)), rng.standard_normal(5)


LENGTHS = [0, 1, 1, 1, 2, 2]  # of (skip skip), (skip 1), (skip 2), (1 skip), (1 1), (1 2)


def test_shares_by_loops(problem, solved, test_set):
    found = gf.path_lengths(solved, test_set)
    data, U = problem.posterior.data, solved.U[0]
    assert data.lengths.tolist() == LENGTHS
    assert data.select([1, 3]).lengths.tolist() == [1, 1]
    assert found.table["paths"].tolist() == [1, 3, 2]
    U_blocks, traces = np.zeros((3, 3)), np.zeros((3, 3))
    for i, l in enumerate(LENGTHS):
        for j, k in enumerate(LENGTHS):
            U_blocks[l, k] += abs(U[i, j])
            traces[l, k] += U[i, j] * np.sum(data.flat[:, :, i] * data.flat[:, :, j])
    np.testing.assert_allclose(found.U, U_blocks / U_blocks.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.kernel, traces / traces.sum(), rtol=1e-10)
    trace = 0.7 * traces.sum()  # sigma_0^2
    np.testing.assert_allclose(np.trace(gf.renormalized_kernel(solved)), trace, rtol=1e-10)
    np.testing.assert_allclose(found.table["kernel"], traces.sum(1) / traces.sum(), rtol=1e-10)


def test_terms_of_the_predictor(solved, test_set):
    found, (inputs, y) = gf.path_lengths(solved, test_set), test_set
    whole = gf.predict(solved, inputs)
    np.testing.assert_allclose(found.f.sum("length"), whole.mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.table["prediction"].sum(), 1, rtol=1e-8)
    skip = np.where(np.array(LENGTHS) == 0, 1.0, 0.0).reshape(inputs.heads)
    alone = gf.predict(solved, inputs.like(inputs.xi * skip))
    np.testing.assert_allclose(found.f.sel(length=0), alone.mean, rtol=1e-10)
    np.testing.assert_allclose(found.table.loc[0, "r_squared_alone"], gf.score(alone, y).value, rtol=1e-10)
    rest = whole._replace(mean=whole.mean - alone.mean)
    np.testing.assert_allclose(found.table.loc[0, "r_squared_without"], gf.score(rest, y).value, rtol=1e-8)
    assert found.table.loc[0, "r_squared_alone_error"] == 0
    centred = y - y.mean()
    np.testing.assert_allclose(found.table["label"].sum(), whole.mean @ centred / (centred @ centred), rtol=1e-8)


def test_of_a_run(problem, test_set):
    run = gf.sample(problem.posterior, key=jax.random.key(0), warmup=20, draws=30, progress=False)
    found = gf.path_lengths(run, test_set)
    np.testing.assert_allclose(found.f.sum("length"), gf.predict(run, test_set[0]).mean, rtol=1e-6, atol=1e-8)
    assert (found.table[["r_squared_alone_error", "r_squared_without_error"]] > 0).all(axis=None)
    assert "prediction" in repr(found)
    assert repr(found).count("\n") == 4
    assert gf.path_lengths(run).table.columns.tolist() == ["paths", "U", "kernel", "prediction"]


def test_several_outputs(make_small):
    small = make_small(heads=(1,), widths=(6, 6), variances=(1, 1, 1), outputs=2, residual=True)
    found = gf.path_lengths(gf.theory.solve(small.posterior))
    assert found.f.dims == ("length", "example", "output")
    np.testing.assert_allclose(found.kernel.sum(), 1, rtol=1e-12)
    U, flat = gf.theory.solve(small.posterior).U[0], small.posterior.data.flat
    skip = (U[0, 0] + U[1, 1]) * np.sum(flat[:, :, 0] ** 2)
    whole = sum(
        (U[2 * i, 2 * j] + U[2 * i + 1, 2 * j + 1]) * np.sum(flat[:, :, i] * flat[:, :, j])
        for i in (0, 1)
        for j in (0, 1)
    )
    np.testing.assert_allclose(found.kernel[0, 0], skip / whole, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_networks_of_some_paths_are_those_of_select(problem):
    """log p(y | U) of the larger network with masked inputs is that of the smaller network at its rows of U."""
    posterior = problem.posterior
    kept = [4, 5]  # no skip connection
    A = np.random.default_rng(0).standard_normal((6, 6))
    U = jnp.asarray(A @ A.T)
    larger = of_paths(posterior, kept).collapsed_data().term.log_likelihood(U)
    smaller = posterior.select(kept).collapsed_data().term.log_likelihood(U[4:, 4:])
    np.testing.assert_allclose(larger, smaller, rtol=1e-10)
    assert of_paths(posterior, range(6)) is posterior


def test_evidence_of_the_skip_connections_alone(problem):
    """One integral over U_a: y | U_a ~ N(0, sigma_0^2 U_a C + T I), N U_a ~ sigma_a^2 chi^2_N."""
    posterior = problem.posterior
    xi, (sigma2, *_, sigma2_a), N = posterior.data.flat[:, :, 0], posterior.network.variances, 8
    C, T = sigma2 * xi @ xi.T, posterior.temperature * np.eye(len(xi))

    def density(U_a):
        likelihood = stats.multivariate_normal(cov=U_a * C + T).pdf(posterior.y)
        return likelihood * stats.chi2(N, scale=sigma2_a / N).pdf(U_a)

    exact = np.log(integrate.quad(density, 0, 20)[0])
    found = gf.path_lengths(gf.theory.gp(posterior), key=jax.random.key(1), particles=64, repeats=2)
    row, whole = found.table.loc[0], gf.evidence(posterior, key=jax.random.key(1), particles=64, repeats=2)
    assert abs(row["evidence_alone"] + whole.log_evidence - exact) < 4 * row["evidence_alone_error"] + 1e-6
    assert (found.table[["evidence_alone_error", "evidence_lost_error"]] < 0.3).all(axis=None)


def test_what_has_no_lengths(small, problem, solved, test_set):
    with pytest.raises(ValueError, match="no skip connections, so all of its paths have one length"):
        gf.path_lengths(gf.theory.gp(small.posterior))
    with pytest.raises(ValueError, match="source is a int: give a theory or a run"):
        gf.path_lengths(3)
    with pytest.raises(ValueError, match="theory of the paths"):
        gf.path_lengths(gf.theory.gp(problem.posterior, [0, 1]))
    with pytest.raises(InputError, match=r"test is a PathInputs: give \(inputs, labels\)"):
        gf.path_lengths(solved, test_set[0])
