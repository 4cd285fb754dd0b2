"""The large-N theory: reference saddle points, the action and its derivatives, and the law it predicts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models import collapsed
from gibbsformer.theory import energy, saddle

WIDTHS = (10, 100, 1000)
ACCURACY = {10: 0.964, 100: 0.911, 1000: 0.834}
GP_ACCURACY = 0.826

# The reference stopped at |d action/d theta| < 1e-5; curvatures start at 0.015, so theta is within 1e-5/0.015 < 1e-3.
REFERENCE_U = 1e-3
# Its own note puts U within 1e-4 relative, and a predictor of size 1 moves by as much.
REFERENCE_PREDICTOR = 1e-4
# The action is off by gradient^2 / curvature < 1e-8, plus whatever the reference left of rounding.
REFERENCE_ACTION = 1e-6


@pytest.mark.parametrize("N", WIDTHS)
def test_reference_saddle_point(reference, reference_theory, N):
    theory = reference_theory(N)
    for ours, name in [(theory.U_a, "U_a"), (theory.U[1], "U_2"), (theory.U[0], "U_1")]:
        expected = reference[f"theory/N{N}/{name}"]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=REFERENCE_U * np.max(np.abs(expected)))
    np.testing.assert_allclose(theory.action, reference[f"theory/N{N}/action_over_N"], rtol=0, atol=REFERENCE_ACTION)
    assert theory.converged
    assert theory.gradient_norm < saddle.GRADIENT_TOLERANCE
    assert theory.hessian_min > 0
    assert theory.iterations < 20


@pytest.mark.parametrize("N", WIDTHS)
def test_reference_predictor_and_accuracy(reference, reference_theory, reference_test, N):
    inputs, y = reference_test
    prediction = gf.predict(reference_theory(N), inputs)
    assert gf.accuracy(prediction, y) == ACCURACY[N]
    assert reference[f"theory/N{N}/test_accuracy"] == ACCURACY[N]
    np.testing.assert_allclose(prediction.mean, reference[f"theory/N{N}/test_mean"], atol=REFERENCE_PREDICTOR)
    np.testing.assert_allclose(prediction.variance, reference[f"theory/N{N}/test_variance"], atol=REFERENCE_PREDICTOR)
    assert gf.accuracy_error(prediction, y) == 0.0


def test_reference_gp_limit(reference, reference_posterior, reference_test):
    inputs, y = reference_test
    theory = gf.theory.gp(reference_posterior(10))
    prediction = gf.predict(theory, inputs)
    assert gf.accuracy(prediction, y) == GP_ACCURACY == reference["gp/test_accuracy"]
    # the extract keeps test inputs in single precision: 6e-8 relative, times weights alpha of size 10
    np.testing.assert_allclose(prediction.mean, reference["gp/test_mean"], atol=1e-6)
    assert theory.converged
    np.testing.assert_array_equal(theory.U[0], np.eye(4))


def test_lowest_temperatures_are_the_interpolating_limit(reference_posterior):
    posterior = reference_posterior(10)  # its kernel has the condition number 5e2: 1e-12 is lost beside no eigenvalue
    cold, colder = (gf.theory.solve(dataclasses.replace(posterior, temperature=T)) for T in (1e-9, 1e-12))
    assert cold.converged
    assert colder.converged
    np.testing.assert_allclose(
        colder.U[0], cold.U[0], rtol=0, atol=1e-7 * cold.U[0].max()
    )  # as GRADIENT_TOLERANCE says
    # y - mean = T (K + T I)^{-1} y, at most T |y| / 0.1, and rounding of the solution
    np.testing.assert_allclose(gf.predict(colder, posterior.data).mean, posterior.y, rtol=0, atol=1e-10)


def test_gp_limit_has_the_product_of_variances(small):
    theory = gf.theory.gp(small.posterior)  # variances sigma_0^2, sigma_1^2, sigma_2^2, sigma_a^2
    assert theory.U_a == 1.1
    np.testing.assert_allclose(theory.U[1], 1.1 * 0.9 * np.eye(3))
    np.testing.assert_allclose(theory.U[0], 1.1 * 0.9 * 1.3 * np.eye(6))
    part = gf.theory.gp(small.posterior, paths=["(1 1)", "(2 3)", "(1 2)"])
    np.testing.assert_allclose(part.U[0], 1.1 * 0.9 * 1.3 * np.eye(3))
    assert part.paths == ("(1 1)", "(1 2)", "(2 3)")


@pytest.mark.slow
def test_saddle_approaches_the_gp_limit(make_small):
    """At N >> P the order parameters differ from the GP limit by O(P/N)."""
    distances = []
    for N in (10**4, 10**5):
        posterior = make_small(widths=(N, N, N)).posterior
        theory, gp = gf.theory.solve(posterior), gf.theory.gp(posterior)
        distances.append(np.abs(theory.U[0] - gp.U[0]).max())
    assert distances[0] < 10 * 7 / 10**4
    np.testing.assert_allclose(distances[0] / distances[1], 10.0, rtol=0.02)  # next order: P/N = 7e-4 times constants


def model_action(posterior, U_a, U):
    """S / max N of section 6 in plain NumPy, in the order parameters themselves."""
    network, y, xi = posterior.network, posterior.y, posterior.data.flat
    N, sigma = network.widths, network.variances
    action = N[-1] * (U_a / sigma[-1] - np.log(U_a))
    above = np.array([[U_a]])
    for l in range(network.depth, 0, -1):
        H, u = network.heads[l - 1], U[l - 1]
        scale = np.kron(np.eye(H), above)
        entropy = np.trace(np.linalg.solve(scale, u)) / sigma[l]
        action += N[l - 1] * (entropy - np.linalg.slogdet(u)[1] + H * np.linalg.slogdet(above)[1])
        above = u
    K = sigma[0] * np.einsum("hg,pnh,qng->pq", U[0], xi, xi) + posterior.temperature * np.eye(len(y))
    return (action + np.linalg.slogdet(K)[1] + y @ np.linalg.solve(K, y)) / max(N)


def in_entries(posterior):
    """(pack, action) in the independent entries (U_a, upper triangles of U_L, .., U_1)."""
    sizes = posterior.network.path_counts[::-1]

    def pack(U_a, U):
        return np.concatenate([[U_a], *(u[np.triu_indices(len(u))] for u in U[::-1])])

    def action(entries):
        U, start = [], 1
        for k in sizes:
            u = np.zeros((k, k))
            u[np.triu_indices(k)] = entries[start : start + k * (k + 1) // 2]
            U.append(u + np.triu(u, 1).T)
            start += k * (k + 1) // 2
        return model_action(posterior, entries[0], U[::-1])

    return pack, action


CASES = {
    "two layers": {},
    "one layer": {"heads": (2,), "widths": (4, 6), "variances": (0.7, 1.3, 0.9)},
    "three layers": {"heads": (2, 1, 2), "widths": (9, 3, 5, 4), "variances": (0.7, 1.3, 0.9, 1.1, 0.6)},
    "one head": {"heads": (1, 1), "widths": (3, 2, 4)},
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c not in ("two layers", "one layer"))) for c in CASES]
)
def test_action_and_stationarity_by_the_model_document(make_small, case):
    """Action, vanishing gradient and smallest Hessian eigenvalue, all from section 6 written a second time."""
    posterior = make_small(**CASES[case]).posterior
    theory = gf.theory.solve(posterior)
    assert theory.converged
    np.testing.assert_allclose(theory.action, model_action(posterior, theory.U_a, theory.U), rtol=1e-10)  # rounding

    pack, action = in_entries(posterior)
    entries = pack(theory.U_a, theory.U)
    n, step = len(entries), 1e-4
    unit = step * np.eye(n)
    gradient = [(action(entries + e) - action(entries - e)) / (2 * step) for e in unit]
    # central difference: step^2 f''' / 6 with f''' up to 1e2 here
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)

    hessian = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            corners = [action(entries + s * unit[i] + t * unit[j]) * s * t for s in (1, -1) for t in (1, -1)]
            hessian[i, j] = hessian[j, i] = sum(corners) / (4 * step**2)
    # second differences: step^2 f'''' ~ 1e-8 * 1e3, rounding 1e-16 * 10 / step^2 ~ 1e-7
    np.testing.assert_allclose(theory.hessian_min, np.linalg.eigvalsh(hessian)[0], rtol=1e-4, atol=1e-6)
    assert theory.hessian_min > 0


@pytest.mark.parametrize("case", ["two layers", pytest.param("one layer", marks=pytest.mark.slow)])
def test_hessian_in_bartlett_coordinates(make_small, case):
    posterior = make_small(**CASES[case]).posterior
    shape = collapsed.layout(posterior.network, singular=False)
    with jax.enable_x64(True):
        data = posterior.collapsed_data()
        theta = jnp.asarray(0.3 * np.random.default_rng(0).standard_normal(shape.size))
        parts = energy.derivative_data(posterior.data.flat)
        hessian = np.asarray(saddle._action_hessian(shape, data, parts, theta))
        np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
        # JAX's own second derivative of the action: the same up to rounding
        automatic = jax.jit(jax.jacfwd(lambda t: saddle._action(shape, data, t)[1]))(theta)
        np.testing.assert_allclose(hessian, automatic, rtol=1e-9, atol=1e-10)
        step = 1e-5
        for i in range(shape.size):
            unit = step * np.eye(shape.size)[i]
            plus, minus = (saddle._action(shape, data, theta + sign * unit)[1] for sign in (1, -1))
            # central difference: step^2 g''' ~ 1e-10 * 1e3, rounding 1e-15 / step ~ 1e-10
            np.testing.assert_allclose(hessian[i], (plus - minus) / (2 * step), rtol=1e-6, atol=1e-6)


def test_gradient_of_the_action(small):
    shape = collapsed.layout(small.network, singular=False)
    with jax.enable_x64(True):
        data = small.posterior.collapsed_data()
        theta = jnp.asarray(0.3 * np.random.default_rng(1).standard_normal(shape.size))
        value, gradient = saddle._action(shape, data, theta)
        U_a, U = collapsed.order_parameters(shape, data.variances, theta)
        np.testing.assert_allclose(value, model_action(small.posterior, float(U_a), [np.asarray(u) for u in U]))
        step = 1e-5
        for i in range(shape.size):
            unit = step * np.eye(shape.size)[i]
            plus, minus = (float(saddle._action(shape, data, theta + sign * unit)[0]) for sign in (1, -1))
            np.testing.assert_allclose(gradient[i], (plus - minus) / (2 * step), rtol=1e-6, atol=1e-6)  # as above


def test_action_is_the_exponent_of_the_exact_density(make_small):
    """-2 log p(theta, y) = max N S(theta) + 2 sum over layers and i of (i - 1) log M_ii + constant: the chi^2 law of
    the i-th diagonal entry has N - i + 1 degrees of freedom, of which the large-N action keeps N."""
    posterior = make_small(widths=(9, 3, 5)).posterior
    shape = collapsed.layout(posterior.network)
    remainders = []
    with jax.enable_x64(True):
        data = posterior.collapsed_data()
        for seed in range(3):
            theta = jnp.asarray(0.3 * np.random.default_rng(seed).standard_normal(shape.size))
            lost = sum(np.sum(np.arange(len(d)) * d) for _, d, _ in collapsed.bartlett_factors(shape, theta))
            action = 9 * saddle._action(shape, data, theta)[0]
            remainders.append(-2 * collapsed.log_density(shape, data, theta) - action - 2 * lost)
    np.testing.assert_allclose(remainders, remainders[0], rtol=1e-10)  # rounding


def test_subset_of_paths_is_the_theory_of_the_subnetwork(small):
    names = ["(1 2)", "(1 3)", "(2 2)", "(2 3)"]
    part = gf.theory.solve(small.posterior, paths=names)
    alone = gf.theory.solve(small.posterior.select(names))
    assert part.paths == tuple(names)
    assert part.converged
    np.testing.assert_allclose(part.U[0], alone.U[0], rtol=1e-9)
    whole = gf.predict(part, small.posterior.data)
    direct = gf.predict(alone, small.posterior.data.select(names))
    np.testing.assert_allclose(whole.mean, direct.mean, rtol=1e-9)
    with pytest.raises(ValueError, match=r"theory\.gp\(posterior, paths=\.\.\), which takes any set"):
        gf.theory.solve(small.posterior, paths=["(1 1)", "(1 2)", "(2 3)"])


def test_theory_needs_no_global_precision_flag(small):
    assert not jax.config.jax_enable_x64
    theory = gf.theory.solve(small.posterior)
    assert theory.U[0].dtype == np.float64
    assert theory.gradient_norm < saddle.GRADIENT_TOLERANCE
    assert not jax.config.jax_enable_x64


def test_predictor_by_the_textbook_formula(small):
    """Mean k^T (K+T)^-1 y and variance k(x,x) - k^T (K+T)^-1 k (section 3), many U_1 at once and across batches."""
    rng = np.random.default_rng(0)
    roots = rng.standard_normal((70, 6, 6))
    U = roots @ roots.transpose(0, 2, 1)
    train, variance, T = small.posterior.data, 0.7, 0.3
    test = gf.PathInputs(rng.standard_normal((5, 6, 2, 3)))
    means, variances = gf.theory.conditional_predictor(U, train, small.posterior.y, T, variance, test)
    assert means.shape == variances.shape == (70, 5)
    kernel = lambda u, a, b: variance * np.einsum("hg,pnh,qng->pq", u, a.flat, b.flat)  # noqa: E731
    for d in (0, 63, 64, 69):
        K, k = kernel(U[d], train, train) + T * np.eye(7), kernel(U[d], test, train)
        np.testing.assert_allclose(means[d], k @ np.linalg.solve(K, small.posterior.y), rtol=1e-9)  # cond(K) ~ 1e3
        expected = np.diag(kernel(U[d], test, test)) - np.sum(k * np.linalg.solve(K, k.T).T, axis=1)
        np.testing.assert_allclose(variances[d], expected, rtol=1e-9)


def test_finite_width_beats_the_gp_limit_on_fresh_tasks():
    """Figure 2c on five fresh draws of the task at N=10: theory above 0.92 on average, and 0.08 above the GP limit."""
    accuracies = []
    for seed in range(5):
        task = gf.tasks.hidden_markov_chain(key=jax.random.key(seed), test_examples=400)
        posterior = task.posterior(10)
        theories = [gf.theory.solve(posterior), gf.theory.gp(posterior)]
        assert theories[0].converged
        accuracies.append([gf.accuracy(gf.predict(t, task.test_inputs), task.test.y) for t in theories])
    theory, gp = np.mean(accuracies, axis=0)
    assert theory > 0.92
    assert theory - gp > 0.08
