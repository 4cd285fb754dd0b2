"""Lifting: the weights reproduce the order parameters they came from, the directions that these leave open are Haar or
follow the prior, and the user's ``lift`` keeps draws, shapes and files in order."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import gibbsformer as gf
from gibbsformer.models import collapsed, lifting
from gibbsformer.models.network import effective_weights, order_parameters, path_weights

RELATIVE = 1e-10  # float64 rounding
# Kolmogorov-Smirnov p-values are uniform; there are a dozen, and the seed is fixed.
P_VALUE = 1e-4
SHAPES = {
    "one layer": {"heads": (3,), "widths": (5, 2), "variances": (0.7, 1.3, 0.9)},
    "two layers": {"heads": (2, 2), "widths": (6, 4, 3)},
    "three layers": {"heads": (2, 1, 2), "widths": (5, 3, 4, 3), "variances": (0.7, 1.3, 0.9, 1.1, 0.6)},
    "singular": {"heads": (2, 3), "widths": (4, 2, 3)},
    "width one": {"heads": (2, 3), "widths": (1, 1, 1)},
    "outputs": {"heads": (2, 1), "widths": (5, 4, 2), "outputs": 3},
    "skips": {"heads": (2, 1), "widths": (4, 4, 4), "outputs": 2, "residual": True},
}
DRAWS = 10_000
KERNEL = gf.Collapsed(move="independent")  # compiles fast


QUICK = ("two layers", "singular", "outputs", "skips")


@pytest.fixture(params=[pytest.param(s, marks=[pytest.mark.slow] * (s not in QUICK)) for s in SHAPES])
def problem(request, make_small):
    return make_small(**SHAPES[request.param], N_0=4, P=5)


def random_theta(problem):
    size = collapsed.layout(problem.network).size
    return jnp.asarray(0.5 * np.random.default_rng(0).standard_normal(size))


@pytest.fixture
def lift_many(batched):
    """(problem, theta, function) -> function of each of DRAWS independently lifted sets of weights."""

    def lift_many(problem, theta, function=lambda weights: weights):
        data, xi = problem.posterior.collapsed_data(), jnp.asarray(problem.posterior.data.flat)
        shape = collapsed.layout(problem.network)
        lift = lambda key: function(lifting.lift(problem.network, shape, data, xi, key, theta))  # noqa: E731
        return jax.tree.map(np.asarray, batched(lift, jax.random.split(jax.random.key(0), DRAWS)))

    return lift_many


def test_weights_reproduce_the_order_parameters(problem, x64):
    shape = collapsed.layout(problem.network)
    data, xi = problem.posterior.collapsed_data(), jnp.asarray(problem.posterior.data.flat)
    theta = random_theta(problem)

    @jax.jit
    def both(key):
        weights = lifting.lift(problem.network, shape, data, xi, key, theta)
        return (
            weights,
            order_parameters(weights, problem.network.residual),
            collapsed.order_parameters(shape, data.variances, theta),
        )

    weights, found, expected = both(jax.random.key(0))
    assert {name: w.shape for name, w in weights.items()} == problem.network.weight_shapes
    np.testing.assert_allclose(found.U_a, expected.U_a, rtol=RELATIVE)
    for ours, theirs in zip(found.U, expected.U, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=RELATIVE * np.abs(theirs).max())


@pytest.mark.parametrize(("rank", "width"), [(1, 1), (1, 4), (3, 5), (4, 4)])
def test_rows_are_haar(batched, assert_within, rank, width, x64):
    keys = jax.random.split(jax.random.key(0), DRAWS)
    Q = np.asarray(batched(lambda key: lifting._haar(key, rank, width, jnp.float64), keys))
    np.testing.assert_allclose(Q @ Q.transpose(0, 2, 1), np.broadcast_to(np.eye(rank), (DRAWS, rank, rank)), atol=1e-13)
    flat = Q.reshape(DRAWS, -1)
    # E Q = 0; E Q_ri Q_sj = delta delta / N; E Q_ri^4 = 3 / (N (N + 2))
    assert_within(flat.mean(0) / (flat.std(0) / np.sqrt(DRAWS)), "mean ")
    products = (flat[:, :, None] * flat[:, None, :])[:, *np.triu_indices(rank * width, 1)]
    if rank * width > 1:
        assert_within(products.mean(0) / (products.std(0) / np.sqrt(DRAWS)), "product ")
    if width > 1:
        for power, moment in ((2, 1 / width), (4, 3 / (width * (width + 2)))):
            values = flat**power
            assert_within((values.mean(0) - moment) / (values.std(0) / np.sqrt(DRAWS)), f"power {power} ")


def test_readout_is_uniform_on_its_sphere(make_small, lift_many, assert_within, x64):
    problem = make_small(**SHAPES["two layers"], N_0=4, P=5)
    a = lift_many(problem, random_theta(problem), lambda weights: weights["a"])
    np.testing.assert_allclose(np.sum(a**2, axis=1), np.sum(a[0] ** 2), rtol=1e-12)
    u = a / np.linalg.norm(a, axis=1, keepdims=True)
    # every coordinate of a uniform point on the sphere in 3 dimensions is uniform (Archimedes)
    for coordinate in u.T:
        assert scipy.stats.kstest(coordinate, scipy.stats.uniform(-1, 2).cdf).pvalue > P_VALUE


def test_directions_free_of_the_order_parameters_follow_the_prior(problem, lift_many, x64):
    """(1 - W^+ W) V_l^h with W = W_{l+1}, and likewise V_0 with W_1, is Gaussian noise of the prior's variance: its
    squared norm is sigma^2 chi^2 of (rows beyond the rank of W) x (columns) x (heads) degrees of freedom."""
    network = problem.network
    names = [name for name in network.weight_shapes if name != "a"]
    ranks = {f"V_{network.depth - i}": layer.columns for i, layer in enumerate(collapsed.layout(network).layers)}

    def free_norms(weights):
        effective = effective_weights(weights, network.residual)
        result = {}
        for l, name in enumerate(names):
            W, V = effective[l], weights[name]
            V = V if V.ndim == 3 else V[None]
            # an orthonormal basis of the rows of W: its right singular vectors up to its rank
            basis = jnp.linalg.svd(W, full_matrices=False)[2][: ranks[name]]
            result[name] = jnp.sum((V - basis.T @ (basis @ V)) ** 2)
        return result

    found = lift_many(problem, random_theta(problem), free_norms)
    for l, name in enumerate(names):
        H, rows, columns = (1, *network.weight_shapes[name])[-3:]
        degrees = H * (rows - ranks[name]) * columns
        scaled = found[name] / network.variances[l]
        if degrees == 0:
            assert np.all(scaled < 1e-20)
        else:
            assert scipy.stats.kstest(scaled, scipy.stats.chi2(degrees).cdf).pvalue > P_VALUE, name


def test_value_weights_have_the_conditional_covariance(make_small, batched, assert_within, x64):
    """V_1 given the effective weights: with one readout direction W_2 = a^T, its entries along a are pinned and those
    across are the prior's. Averaged over directions u = a/|a|: E V V^T = s N_1 (1 - u u^T) + (pinned) u u^T."""
    problem = make_small(heads=(1,), widths=(3, 4), variances=(0.7, 1.3, 0.9), N_0=4, P=5)
    theta = random_theta(problem)
    data, xi = problem.posterior.collapsed_data(), jnp.asarray(problem.posterior.reduction.data.flat)
    shape, network = collapsed.layout(problem.network), problem.network

    def rotated(key):
        """V_1 in a basis whose first axis is a: one row pinned in norm, the others free, none correlated."""
        weights = lifting.lift(network, shape, data, xi, key, theta)
        a = weights["a"]
        basis = jnp.linalg.qr(jnp.column_stack([a, jnp.eye(4)[:, :3]]))[0]
        return basis.T @ weights["V_1"][0]

    V = np.asarray(batched(rotated, jax.random.split(jax.random.key(0), DRAWS)))
    U_a, (U_1,) = collapsed.order_parameters(shape, data.variances, theta)
    pinned = U_1[0, 0] * 3 / U_a  # |u^T V|^2 = N_2 N_1 U_1 / |a|^2
    np.testing.assert_allclose(np.sum(V[:, 0] ** 2, axis=1), pinned, rtol=RELATIVE)
    flat = V.reshape(DRAWS, -1)
    products = flat[:, :, None] * flat[:, None, :]
    expected = np.diag([pinned / 3] * 3 + [1.3] * 9)
    assert_within((products.mean(0) - expected) / (products.std(0) / np.sqrt(DRAWS)), "product ")


def test_path_weights_have_the_posterior_mean_and_covariance(make_small, lift_many, assert_within, x64):
    """B = W_1 V_0 / sqrt(N_1) given U_1 and y is Gaussian: prior s_0 U_1 (x) 1, f = B . xi, noise T."""
    problem = make_small(**SHAPES["singular"], N_0=4, P=5)
    theta = random_theta(problem)
    B = lift_many(problem, theta, path_weights).reshape(DRAWS, -1)
    data = problem.posterior.collapsed_data()
    U_1 = np.asarray(collapsed.order_parameters(collapsed.layout(problem.network), data.variances, theta).U[0])
    prior = 0.7 * np.kron(U_1, np.eye(4))
    X = problem.posterior.data.flat.transpose(0, 2, 1).reshape(5, -1)
    gain = np.linalg.solve(X @ prior @ X.T + problem.posterior.temperature * np.eye(5), X @ prior).T
    mean, covariance = gain @ problem.posterior.y, prior - gain @ X @ prior
    scale = np.diag(covariance)
    assert_within((B.mean(0) - mean) / np.sqrt(scale / DRAWS), "mean ")
    errors = np.sqrt((np.outer(scale, scale) + covariance**2) / DRAWS)  # Gaussian: var x_i x_j = S_ii S_jj + S_ij^2
    assert_within(((B - mean).T @ (B - mean) / DRAWS - covariance) / errors, "covariance ")


# --- gf.lift ---


@pytest.fixture(scope="module")
def tiny(make_small):
    """A posterior and a collapsed run of it: 2 chains of 6 draws."""
    posterior = make_small(heads=(2,), widths=(4, 3), variances=(0.7, 1.3, 0.9), N_0=3, P=4).posterior
    test = (posterior.data, posterior.y)
    return posterior, gf.sample(
        posterior, KERNEL, key=jax.random.key(0), chains=2, warmup=20, draws=6, test=test, progress=False
    )


def assert_consistent(run):
    """U_l, path weights and f belong to the weights beside them."""
    with jax.enable_x64(True):
        every = jax.vmap(jax.vmap(lambda w: (order_parameters(w), path_weights(w))))
        expected, B = every({name: jnp.asarray(np.asarray(w)) for name, w in run.weights.items()})
    np.testing.assert_allclose(run.order_parameters.U_a, expected.U_a, rtol=RELATIVE)
    for ours, theirs in zip(run.order_parameters.U, expected.U, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=RELATIVE, atol=1e-12)
    np.testing.assert_allclose(run.variables["path_weights"], B, rtol=RELATIVE, atol=1e-12)
    f = np.einsum("cdhn,pnh->cdp", B, run.test[0].flat)
    np.testing.assert_allclose(run.variables["f"], f, rtol=RELATIVE, atol=1e-12)


def test_lift_keeps_the_draws_it_came_from(tiny):
    posterior, run = tiny
    lifted = gf.lift(run, key=jax.random.key(1), progress=False)
    assert (lifted.chains, lifted.draws) == (2, 6)
    assert {name: w.shape[2:] for name, w in lifted.weights.items()} == posterior.network.weight_shapes
    np.testing.assert_array_equal(lifted.variables["theta"], run.variables["theta"])
    np.testing.assert_array_equal(lifted.stats["lp"], run.stats["lp"])
    assert_consistent(lifted)
    other = gf.lift(run, key=jax.random.key(2), progress=False)
    assert np.all(other.variables["V_0"] != lifted.variables["V_0"])


def test_lift_spreads_fewer_draws_evenly_and_stores_the_weights(tiny, tmp_path):
    posterior, run = tiny
    path = tmp_path / "lifted.h5"
    lifted = gf.lift(run, key=jax.random.key(1), draws=3, store=path, progress=False)
    assert (lifted.chains, lifted.draws) == (2, 3)
    np.testing.assert_array_equal(lifted.variables["theta"][...], run.variables["theta"][:, [0, 2, 5]])
    assert lifted.settings["draws"] == 3
    assert lifted.settings["lifted_from_draws"] == 6
    with h5py.File(path) as file:
        for name, shape in posterior.network.weight_shapes.items():
            assert file[f"posterior/{name}"].shape == (2, 3, *shape)
            np.testing.assert_array_equal(file[f"posterior/{name}"][()], lifted.weights[name][...])
    assert_consistent(gf.open(path))
    memory = gf.lift(run, key=jax.random.key(1), draws=3, progress=False)
    np.testing.assert_array_equal(memory.weights["V_1"], lifted.weights["V_1"][...])


@pytest.mark.slow
def test_collapsed_sampling_that_keeps_weights(tiny, tmp_path):
    posterior, run = tiny
    path = tmp_path / "kept.h5"
    kept = gf.sample(
        posterior, KERNEL, key=jax.random.key(0), chains=2, warmup=20, draws=6, keep="weights", store=path,
        test=run.test, progress=False,
    )  # fmt: skip
    assert {name: w.shape for name, w in kept.weights.items()} == {
        name: (2, 6, *shape) for name, shape in posterior.network.weight_shapes.items()
    }
    assert_consistent(kept)
    # the same key gives the same chain, to the rounding of another compilation, whether or not weights are lifted
    np.testing.assert_allclose(kept.variables["theta"][...], run.variables["theta"], rtol=1e-6, atol=1e-6)


def test_lift_refuses_what_it_cannot_lift(tiny, tmp_path):
    posterior, run = tiny
    key = jax.random.key(0)
    sampled = gf.sample(posterior, "gibbs", key=key, chains=1, warmup=1, draws=2, progress=False)
    with pytest.raises(ValueError, match=r"kernel 'gibbs'.*only a collapsed run can be lifted"):
        gf.lift(sampled, key=key)
    with pytest.raises(ValueError, match=r"draws=7 is more than the 6"):
        gf.lift(run, key=key, draws=7)
    with pytest.raises(ValueError, match="draws"):
        gf.lift(run, key=key, draws=0)
    with pytest.raises(ValueError, match="init='collapsed' is for targets made of weights"):
        gf.sample(posterior, "collapsed", key=key, init="collapsed")
    with pytest.raises(ValueError, match="key"):
        gf.lift(run, key=0)
    taken = tmp_path / "taken.h5"
    taken.touch()
    with pytest.raises(ValueError, match="exists"):
        gf.lift(run, key=key, store=taken)
    assert taken.read_bytes() == b""
    with pytest.raises(ValueError, match="keep='weights'"):
        run.weights  # noqa: B018
