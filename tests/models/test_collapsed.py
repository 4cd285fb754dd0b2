"""The exact law of the order parameters: the hand-written density against NumPyro's, against Wishart densities, against
quadrature, and against order parameters of weights drawn from the prior."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
import scipy.integrate
import scipy.stats
from numpyro.infer.util import potential_energy

import gibbsformer as gf
from gibbsformer.models import collapsed
from gibbsformer.models.network import draw_prior

pytestmark = pytest.mark.usefixtures("x64")

RELATIVE = 1e-10  # float64 rounding, with room for the Cholesky factor of a well-conditioned 7 x 7 matrix
STANDARD_ERRORS = 4  # of a Monte Carlo mean: 6e-5 of normal draws are farther out

SHAPES = {
    "small, singular layer 1": {},
    "all layers singular": {"heads": (2, 3), "widths": (2, 1, 3)},
    "regular": {"heads": (2, 2), "widths": (6, 4, 3)},
    "one layer": {"heads": (3,), "widths": (4, 2), "variances": (0.7, 1.3, 0.9)},
    "three layers": {"heads": (2, 1, 3), "widths": (7, 3, 4, 2), "variances": (0.7, 1.3, 0.9, 1.1, 0.6)},
    "one head": {"heads": (1, 1), "widths": (1, 2, 1)},
    "outputs": {"heads": (2, 1), "widths": (6, 4, 2), "outputs": 3},  # U_a is singular
    "skips and outputs": {"heads": (2, 1), "widths": (5, 5, 5), "outputs": 2, "residual": (0.7, 1.3)},
}


QUICK = ("small, singular layer 1", "regular", "outputs", "skips and outputs")


@pytest.fixture(params=[pytest.param(s, marks=[pytest.mark.slow] * (s not in QUICK)) for s in SHAPES])
def problem(request, make_small):
    return make_small(**SHAPES[request.param])


def random_theta(problem, seed):
    size = collapsed.layout(problem.network).size
    return jnp.asarray(0.5 * np.random.default_rng(seed).standard_normal(size))


def numpyro_sites(network, shape, theta):
    """theta -> unconstrained NumPyro sites: log c = log N + 2 log M_ii, A_ij = sqrt(N) M_ij; log |d sites/d theta|."""
    sites, log_jacobian, start = {}, 0.0, 0
    for l, layer in enumerate(shape.layers):
        name = "a" if l == 0 else str(network.depth + 1 - l)
        N = network.widths[-1 - l]
        diagonal, below, X = jnp.split(theta[start : start + layer.size], (layer.rank, layer.rank + layer.below))
        sites[f"c_{name}"] = np.log(N) + 2 * diagonal
        if layer.below:
            sites[f"A_{name}"] = np.sqrt(N) * below
        if layer.skip:
            sites[f"X_{name}"] = np.sqrt(N) * X.reshape(layer.rows, layer.above)
        log_jacobian += len(diagonal) * np.log(2) + (len(below) + len(X)) * np.log(N) / 2
        start += layer.size
    return sites, log_jacobian


def test_log_density_and_gradient_equal_numpyro_model(problem):
    shape, data = collapsed.layout(problem.network), problem.posterior.collapsed_data()

    @jax.jit
    @jax.value_and_grad
    def theirs(theta):
        sites, log_jacobian = numpyro_sites(problem.network, shape, theta)
        return log_jacobian - potential_energy(problem.posterior.collapsed_model, (), {}, sites)

    ours = jax.jit(jax.value_and_grad(partial(collapsed.log_density, shape, data)))
    for seed in range(4):
        theta = random_theta(problem, seed)
        value, gradient = ours(theta)
        expected, expected_gradient = theirs(theta)
        np.testing.assert_allclose(value, expected, rtol=RELATIVE)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-8, atol=1e-8)  # theirs: through a Cholesky


def test_numpyro_model_has_the_order_parameters(problem):
    shape = collapsed.layout(problem.network)
    theta = random_theta(problem, 0)

    @jax.jit
    def theirs(theta):
        sites, _ = numpyro_sites(problem.network, shape, theta)
        values = {name: jnp.exp(u) if name.startswith("c_") else u for name, u in sites.items()}
        model = numpyro.handlers.substitute(problem.posterior.collapsed_model, values)
        trace = numpyro.handlers.trace(model).get_trace()
        return {name: site["value"] for name, site in trace.items() if name.startswith("U_")}

    expected = theirs(theta)
    U_a, U = collapsed.order_parameters(shape, jnp.asarray(problem.network.variances), theta)
    np.testing.assert_allclose(np.atleast_2d(U_a), expected["U_a"], rtol=RELATIVE, atol=1e-14)
    for l, u in enumerate(U, start=1):
        np.testing.assert_allclose(u, expected[f"U_{l}"], rtol=RELATIVE, atol=1e-14)


@pytest.mark.parametrize(
    "name", ["regular", "one layer", pytest.param("three layers", marks=pytest.mark.slow), "one head"]
)
def test_prior_is_the_chain_of_wishart_laws(make_small, name):
    """log p(theta) = sum over layers of SciPy's Wishart log-densities of N_l U_l given U_{l+1}, and log |dU/dtheta|."""
    problem = make_small(**SHAPES[name])
    network, shape = problem.network, collapsed.layout(problem.network)
    variances = jnp.asarray(network.variances)

    @jax.jit
    @jax.jacfwd
    def jacobian(theta):
        U_a, U = collapsed.order_parameters(shape, variances, theta)
        return jnp.concatenate([u[jnp.triu_indices(len(u))] for u in (U_a[None, None], *U[::-1])])

    theta = random_theta(problem, 0)
    U_a, U = collapsed.order_parameters(shape, variances, theta)
    N = network.widths
    expected = scipy.stats.chi2.logpdf(N[-1] * U_a / network.variances[-1], N[-1])
    expected += np.log(N[-1] / network.variances[-1])
    above = np.array([[U_a]])
    for l in range(network.depth, 0, -1):
        scale = network.variances[l] * np.kron(np.eye(network.heads[l - 1]), above)
        above = np.asarray(U[l - 1])
        expected += scipy.stats.wishart.logpdf(above, df=N[l - 1], scale=scale / N[l - 1])
    expected += np.linalg.slogdet(jacobian(theta))[1]
    np.testing.assert_allclose(collapsed.log_prior(shape, jnp.asarray(N, float), theta), expected, rtol=1e-9)


@pytest.mark.parametrize("N", [1, 3, 50])
def test_prior_of_one_number_integrates_to_one(N):
    shape = collapsed.Layout((collapsed.Layer(1, 1, 1),))  # U_a alone
    density = jax.jit(lambda t: jnp.exp(collapsed.log_prior(shape, jnp.array([float(N)]), t[None])))
    # below -40/N the density is under exp(-40), above 2 under exp(-N e^4 / 2)
    total, error = scipy.integrate.quad(density, -40.0, 2.0, points=[0.0], epsabs=1e-10, limit=200)
    assert error < 1e-8
    np.testing.assert_allclose(total, 1.0, rtol=1e-8)  # the integrator's own error bound


def test_log_density_integrates_to_the_evidence(make_small):
    """One head, one layer: the integral of p(theta, y) over theta is that of N(y; 0, K + T) over two chi^2 laws."""
    problem = make_small(heads=(1,), widths=(4, 3), variances=(0.7, 1.3, 0.9), P=3)
    shape, data = collapsed.layout(problem.network), problem.posterior.collapsed_data()
    # the trapezoidal rule is exact to rounding for smooth densities that vanish at both ends
    grid = jnp.linspace(-9.0, 2.0, 400)
    log_density = jax.jit(jax.vmap(jax.vmap(partial(collapsed.log_density, shape, data))))
    values = log_density(jnp.stack(jnp.meshgrid(grid, grid), axis=-1))
    evidence = np.exp(values).sum() * (grid[1] - grid[0]) ** 2

    xi, y = problem.posterior.data.flat[:, :, 0], problem.posterior.y
    eigenvalues, vectors = np.linalg.eigh(0.7 * xi @ xi.T)
    z = vectors.T @ y

    def integrand(log_c, log_d):
        c, d = np.exp(log_c), np.exp(log_d)
        scale = eigenvalues * (0.9 * c / 3) * (1.3 * d / 4) + problem.posterior.temperature
        data_term = np.exp(-0.5 * np.sum(z**2 / scale + np.log(2 * np.pi * scale)))
        return data_term * scipy.stats.chi2.pdf(c, 3) * c * scipy.stats.chi2.pdf(d, 4) * d

    nodes = np.linspace(-16.0, 5.5, 100)
    expected = sum(integrand(u, v) for u in nodes for v in nodes) * (nodes[1] - nodes[0]) ** 2
    np.testing.assert_allclose(evidence, expected, rtol=1e-6)  # left of the grids: e^{-3 * 9} and e^{-1.5 * 16}


def bartlett_draws(network, shape, rng, draws):
    """theta [draws, D] under the prior by section 4: A_ii ~ chi(N - i + 1), A_ij ~ N(0, 1), M = A / sqrt(N)."""
    parts = []
    for layer, N in zip(shape.layers, network.widths[::-1], strict=True):
        squared = rng.chisquare(N - layer.above * layer.skip - np.arange(layer.rank), (draws, layer.rank))
        normals = rng.standard_normal((draws, layer.size - layer.rank))
        parts += [0.5 * np.log(squared / N), normals / np.sqrt(N)]
    return jnp.asarray(np.concatenate(parts, axis=1))


@pytest.mark.parametrize(
    "name", ["small, singular layer 1", "all layers singular", pytest.param("one layer", marks=pytest.mark.slow)]
)
def test_order_parameters_of_prior_weights_follow_the_law(make_small, name):
    """Means and second moments of U_a and every U_l: weights drawn from the prior against Bartlett factors."""
    network = make_small(**SHAPES[name]).network
    shape, draws = collapsed.layout(network), 20_000
    keys = jax.random.split(jax.random.key(0), draws)
    from_weights = jax.jit(jax.vmap(lambda key: gf.models.order_parameters(draw_prior(network, key))))(keys)
    theta = bartlett_draws(network, shape, np.random.default_rng(0), draws)
    variances = jnp.asarray(network.variances)
    from_law = jax.jit(jax.vmap(lambda t: collapsed.order_parameters(shape, variances, t)))(theta)

    scale = np.cumprod(network.variances[::-1])  # sigma_a^2, sigma_a^2 sigma_L^2, ..
    expected_means = [scale[0], *(s * np.eye(k) for s, k in zip(scale[-2:0:-1], network.path_counts, strict=True))]
    pairs = zip((from_weights.U_a, *from_weights.U), (from_law.U_a, *from_law.U), expected_means, strict=True)
    for ours, law, mean in pairs:
        for sample in (ours, law):
            error = np.std(sample, axis=0) / np.sqrt(draws)
            assert np.all(np.abs(np.mean(sample, axis=0) - mean) < STANDARD_ERRORS * error)
        second, law_second = np.square(ours), np.square(law)
        error = np.hypot(np.std(second, axis=0), np.std(law_second, axis=0)) / np.sqrt(draws)
        assert np.all(np.abs(np.mean(second, axis=0) - np.mean(law_second, axis=0)) < STANDARD_ERRORS * error)


def test_square_roots_and_factors(problem):
    shape, network = collapsed.layout(problem.network), problem.network
    theta = random_theta(problem, 1)
    above = 1  # (I (x) C_{l+1}) M_l: as many rows as C_{l+1} has columns, once per head
    heads, skips = (network.outputs, *network.heads[::-1]), (False, *network.skips[::-1])
    for layer, H, skip, N in zip(shape.layers, heads, skips, network.widths[::-1], strict=True):
        assert (layer.rows, layer.rank) == (H * above, min(H * above, N - above * skip))
        above = layer.rank + above * skip
    factors = collapsed.bartlett_factors(shape, theta)
    for M, log_diagonal, _ in factors:
        np.testing.assert_allclose(np.diagonal(M), np.exp(log_diagonal))
        np.testing.assert_array_equal(np.triu(M, 1), 0.0)
    np.testing.assert_allclose(collapsed.flatten_factors(factors), theta)
    C = collapsed.square_roots(shape, jnp.asarray(network.variances), theta)
    U_a, U = collapsed.order_parameters(shape, jnp.asarray(network.variances), theta)
    for root, u in zip(C, (jnp.atleast_2d(U_a), *U[::-1]), strict=True):
        np.testing.assert_allclose(root @ root.T, u, rtol=RELATIVE, atol=1e-14)


def test_layout_size_is_the_dimension_of_the_collapsed_posterior(reference_posterior):
    """14 numbers for two layers of two heads, whatever N is (section 4)."""
    assert {collapsed.layout(reference_posterior(N).network).size for N in (10, 100, 1000)} == {14}
    network = gf.Network(6, (2, 3), (4, 3, 5))
    assert collapsed.layout(network).size == 1 + 6 + (6 * 7 // 2 - 2 * 3 // 2)  # U_1 of rank 4 lacks a triangle
    assert collapsed.layout(network, singular=False).size == 1 + 6 + 21
