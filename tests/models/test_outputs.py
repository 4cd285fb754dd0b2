"""Several outputs: the data term against a dense normal law, the theory, and labels of all kinds."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import gibbsformer as gf
from gibbsformer.core.checks import InputError
from gibbsformer.models import labels
from gibbsformer.models.path_kernel import PathKernel, path_kernel
from gibbsformer.theory.energy import derivative_data, derivatives, energy

H, M, P, N_0 = 3, 2, 9, 4
RNG = np.random.default_rng(0)
XI = RNG.standard_normal((P, N_0, H)) / 2
Y = RNG.standard_normal((P, M))
NETWORK = gf.Network(N_0, (H,), (9, 7), (0.7, 1.3, 0.9), outputs=M)
NAMES = np.array(["ant", "bee", "cat"])[RNG.permutation(np.arange(12) % 3)]


def posterior_of(y=Y, network=NETWORK, temperature=0.3, **options):
    return gf.Posterior(network, gf.PathInputs(XI), y, temperature, **options)


def covariance(U, variance=0.7, T=0.3):
    """K [P m, P m] and T I, element by element of docs/model.md, section 7."""
    K = np.zeros((P, M, P, M))
    for pi in range(H):
        for rho in range(H):
            C = XI[:, :, pi] @ XI[:, :, rho].T
            for a in range(M):
                for b in range(M):
                    K[:, a, :, b] += variance * U[pi * M + a, rho * M + b] * C
    return K.reshape(P * M, P * M) + T * np.eye(P * M)


@pytest.fixture
def U():
    root = RNG.standard_normal((H * M, H * M))
    return root @ root.T / (H * M)


@pytest.mark.parametrize("stored", ["blocks", "inputs"])
def test_data_term(U, stored, x64):
    term = posterior_of(reduce=False).collapsed_data().term
    kernel = path_kernel(XI, M) if stored == "blocks" else PathKernel(None, jnp.asarray(XI), P, H, M)
    assert (kernel.blocks is None) == (stored == "inputs")
    term = term._replace(kernel=kernel)
    expected = scipy.stats.multivariate_normal.logpdf(Y.ravel(), np.zeros(P * M), covariance(U))
    np.testing.assert_allclose(jax.jit(term.log_likelihood)(jnp.asarray(U)), expected, rtol=1e-12)
    gradient = np.asarray(jax.jit(jax.grad(lambda u: term.log_likelihood(u)))(jnp.asarray(U)))
    A = np.linalg.inv(covariance(U))
    alpha = A @ Y.ravel()
    G = ((np.outer(alpha, alpha) - A) / 2).reshape(P, M, P, M)
    by_hand = 0.7 * np.einsum("paqb,pnh,qng->hagb", G, XI, XI).reshape(H * M, H * M)
    np.testing.assert_allclose(gradient, by_hand, rtol=1e-10, atol=1e-12)
    if stored == "inputs":
        value = jax.jit(lambda x: term._replace(kernel=dataclasses.replace(kernel, xi=x)).log_likelihood(U))
        step = 1e-6 * RNG.standard_normal(XI.shape)
        difference = (value(XI + step) - value(XI - step)) / 2
        np.testing.assert_allclose(np.sum(jax.jit(jax.grad(value))(XI) * step), difference, rtol=1e-5)


def test_packed_panels(U, x64):
    """Of many examples a packed kernel has several panels: the same value and gradient as from the inputs."""
    many = 100
    xi, y = RNG.standard_normal((many, N_0, H)) / 2, RNG.standard_normal((many, M))
    posterior = gf.Posterior(NETWORK, gf.PathInputs(xi), y, 0.3, reduce=False)
    packed = posterior.collapsed_data().term
    assert len(packed.kernel.panels) == 3
    whole = packed._replace(kernel=PathKernel(None, jnp.asarray(xi), many, H, M))
    for function in (lambda t, u: t.log_likelihood(u), lambda t, u: jax.grad(lambda v: t.log_likelihood(v))(u)):
        found, expected = (jax.jit(function)(t, jnp.asarray(U)) for t in (packed, whole))
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    covariance = jax.jit(lambda t: t.covariance(U))
    np.testing.assert_allclose(covariance(packed), covariance(whole), atol=1e-12)


def test_expanded_inputs_give_the_same_kernel(U, x64):
    """xi'^{(pi, alpha)}(mu, beta) = delta_{alpha beta} xi^pi(mu) for code that expects one output."""
    expanded = np.einsum("pnh,ab->panhb", XI, np.eye(M)).reshape(P * M, N_0, H * M)
    several = posterior_of(reduce=False).collapsed_data().term
    one = several._replace(kernel=path_kernel(expanded), y=jnp.asarray(Y.ravel()))
    for function in (lambda t: t.log_likelihood(jnp.asarray(U)), lambda t: t.covariance(jnp.asarray(U))):
        np.testing.assert_allclose(jax.jit(function)(several), jax.jit(function)(one), rtol=1e-12)


def test_derivatives_of_the_action(U, x64):
    data = posterior_of(reduce=False).collapsed_data()
    upper = np.triu_indices(H * M)

    def action(entries):
        whole = jnp.zeros((H * M, H * M)).at[upper].set(entries)
        return energy(data, whole + whole.T - jnp.diag(jnp.diag(whole)))

    gradient, curvature = derivatives(data, derivative_data(XI, M), jnp.asarray(U))
    slope = jax.grad(action)
    np.testing.assert_allclose(gradient, jax.jit(slope)(U[upper]), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(curvature, jax.jit(jax.jacfwd(slope))(U[upper]), rtol=1e-7, atol=1e-7)


def test_saddle_point_of_a_deep_linear_network():
    """One token, one head: the action of docs/model.md, section 6, written in U itself and minimised without it."""
    x = RNG.standard_normal((12, N_0))
    target = x @ RNG.standard_normal((N_0, M)) / 2
    network = gf.Network(N_0, (1,), (20, 30), (1.0, 1.2, 0.8), outputs=M)
    data = gf.PathInputs(x[:, :, None] / np.sqrt(N_0))
    theory = gf.theory.solve(gf.Posterior(network, data, target, 0.1, ()))
    assert theory.converged
    C = x @ x.T / N_0

    def action(parameters):
        roots = [np.zeros((M, M)), np.zeros((M, M))]
        for root, part in zip(roots, np.split(parameters, 2), strict=True):
            root[np.tril_indices(M)] = part
        U_a, U_1 = (root @ root.T for root in roots)
        logdet = lambda A: np.linalg.slogdet(A)[1]  # noqa: E731
        A = np.kron(C, U_1) + 0.1 * np.eye(len(x) * M)
        value = 30 * (np.trace(U_a) / 0.8 - logdet(U_a))
        value += 20 * (np.trace(np.linalg.solve(U_a, U_1)) / 1.2 - logdet(U_1) + logdet(U_a))
        return value + logdet(A) + target.ravel() @ np.linalg.solve(A, target.ravel())

    start = np.tile(np.eye(M)[np.tril_indices(M)], 2)
    found = scipy.optimize.minimize(action, start, method="BFGS", options={"gtol": 1e-6})
    root_a, root_1 = (np.zeros((M, M)) for _ in range(2))
    root_a[np.tril_indices(M)], root_1[np.tril_indices(M)] = np.split(found.x, 2)
    np.testing.assert_allclose(theory.U_a, root_a @ root_a.T, atol=1e-5)  # numerical gradients of BFGS
    np.testing.assert_allclose(theory.U[0], root_1 @ root_1.T, atol=1e-5)


def test_permuted_outputs_permute_the_theory():
    theory, other = (gf.theory.solve(posterior_of(y)) for y in (Y, Y[:, ::-1]))
    swapped = np.arange(H * M).reshape(H, M)[:, ::-1].ravel()
    np.testing.assert_allclose(other.U[0], theory.U[0][np.ix_(swapped, swapped)], atol=1e-6)
    np.testing.assert_allclose(other.U_a, theory.U_a[::-1, ::-1], atol=1e-6)
    data = gf.PathInputs(XI[:4] / 2)
    mean, prediction = (gf.predict(t, data) for t in (theory, other))
    np.testing.assert_allclose(prediction.mean, mean.mean[:, ::-1], atol=1e-6)


def test_outputs_without_labels_stay_at_zero():
    y = Y * [1, 0]
    prediction = gf.predict(gf.theory.solve(posterior_of(y)), gf.PathInputs(XI))
    assert np.abs(prediction.mean[:, 0]).max() > 0.1
    np.testing.assert_allclose(prediction.mean[:, 1], 0, atol=1e-9)
    assert prediction.covariance.shape == (P, M, M)
    np.testing.assert_array_equal(prediction.variance, np.diagonal(prediction.covariance, axis1=1, axis2=2))


def test_prediction_is_conditioning_written_out():
    """Mean and covariance of all outputs of a test input: k^T A^{-1} y, k(x, x) - k^T A^{-1} k."""
    theory, test = gf.theory.solve(posterior_of(Y)), RNG.standard_normal((3, N_0, H))
    U = theory.U[0].reshape(H, M, H, M)
    A = covariance(theory.U[0])
    k = 0.7 * np.einsum("pnh,hagb,qng->paqb", XI, U, test).reshape(P * M, 3, M)
    own = 0.7 * np.einsum("qnh,hagb,qng->qab", test, U, test)
    found = gf.predict(theory, gf.PathInputs(test))
    np.testing.assert_allclose(found.mean, np.einsum("iqa,i->qa", k, np.linalg.solve(A, Y.ravel())), atol=1e-10)
    solved = np.linalg.solve(A, k.reshape(P * M, -1)).reshape(k.shape)
    np.testing.assert_allclose(found.covariance, own - np.einsum("iqa,iqb->qab", k, solved), atol=1e-10)
    error = gf.generalization_error(found, np.ones((3, M)))
    np.testing.assert_allclose(error.bias, np.mean(np.sum((found.mean - 1) ** 2, axis=1)))
    np.testing.assert_allclose(error.variance, np.mean(np.trace(found.covariance, axis1=1, axis2=2)))


def test_prediction_of_a_run_has_the_moments_of_its_draws():
    posterior, test = posterior_of(Y), (gf.PathInputs(XI[:4] / 2), Y[:4])
    run = gf.sample(posterior, "gibbs", key=jax.random.key(0), chains=2, warmup=2, draws=9, test=test, progress=False)
    found = gf.predict(run, test[0])
    f = np.asarray(run.variables["f"]).reshape(18, 4, M)
    np.testing.assert_allclose(found.mean, f.mean(0), rtol=1e-9)
    centred = f - f.mean(0)
    np.testing.assert_allclose(found.covariance, np.einsum("dqa,dqb->qab", centred, centred) / 18, rtol=1e-8)
    squared = np.mean(np.sum((f - Y[:4]) ** 2, axis=2))
    np.testing.assert_allclose(gf.generalization_error(found, Y[:4]).total, squared, rtol=1e-9)


def test_gp_limit_of_some_paths_keeps_their_rows():
    """With a skip connection paths differ in variance: sigma_a^2 past the heads, and times sigma_1^2 through one."""
    network = gf.Network(N_0, (H - 1,), (9, 9), (0.7, 1.3, 0.9), outputs=M, residual=True)
    posterior = gf.Posterior(network, gf.PathInputs(XI, residual=(1.0,)), Y, 0.3)
    variances = np.repeat([0.9, 0.9 * 1.3, 0.9 * 1.3], M)
    np.testing.assert_allclose(gf.theory.gp(posterior).U[0], np.diag(variances), rtol=1e-12)
    np.testing.assert_allclose(gf.theory.gp(posterior, paths=[1, 2]).U[0], np.diag(variances[M:]), rtol=1e-12)
    np.testing.assert_allclose(gf.theory.gp(posterior, paths=[0]).U[0], np.diag(variances[:M]), rtol=1e-12)


CLASSES = {
    "names": (NAMES, ("ant", "bee", "cat")),
    "whole numbers": (np.searchsorted(["ant", "bee", "cat"], NAMES), (0, 1, 2)),
    "one-hot": (gf.one_hot(NAMES), (0, 1, 2)),
    "one-hot of signs": (2 * gf.one_hot(NAMES) - 1, (0, 1, 2)),
}


@pytest.mark.parametrize("name", CLASSES)
def test_classes(name):
    """Labels of three classes in every form: the same accuracy, kept by sub-networks."""
    y, classes = CLASSES[name]
    inputs = gf.PathInputs(RNG.standard_normal((12, N_0, 2)) / 2)
    network = gf.Network(N_0, (2,), (20, 20), outputs=3)
    posterior = gf.Posterior(network, inputs, y, 0.01)
    assert posterior.classes == classes
    assert posterior.y.shape == (12, 3)
    theory = gf.theory.solve(posterior)
    prediction = gf.predict(theory, inputs)
    hits = np.argmax(prediction.mean, 1) == np.argmax(gf.one_hot(NAMES), 1)
    assert gf.accuracy(prediction, y) == hits.mean() > 0.4
    settings, arrays = posterior.stored((inputs, y))
    flat = {n: array for group in arrays.values() for n, (_, array) in group.items()}
    again, (_, y_test) = gf.Posterior.restored(settings, flat, {})
    assert again.classes == classes
    np.testing.assert_array_equal(again.y, posterior.y)
    np.testing.assert_array_equal(y_test, np.array(classes)[np.argmax(posterior.y, axis=1)])
    assert posterior.select([0]).classes == classes
    np.testing.assert_array_equal(posterior.select([0]).y, posterior.y)


def test_real_labels_have_r_squared():
    prediction = gf.predict(gf.theory.solve(posterior_of(Y)), gf.PathInputs(XI))
    found = gf.score(prediction, Y)
    assert found.name == "r_squared"
    np.testing.assert_allclose(found.value, 1 - np.sum((prediction.mean - Y) ** 2) / np.sum((Y - Y.mean(0)) ** 2))


def test_one_hot():
    np.testing.assert_array_equal(gf.one_hot([2, 0, 2], classes=(0, 1, 2)), [[0, 0, 1], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(gf.one_hot([True, False]), [[0, 1], [1, 0]])
    assert labels.classes_of("y", labels.array("y", [3, 1, 2, 2])) == (1, 2, 3)  # of an integer type: classes
    assert labels.classes_of("y", labels.array("y", [3.0, 1.0, 2.0])) == ()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda: posterior_of(Y[:, 0]), r"y \(9,\) holds real values.*outputs=2: give"),
        (lambda: posterior_of(np.column_stack([Y, Y])), r"y has labels of shape \(9, 4\).*outputs=2: make"),
        (lambda: posterior_of(Y, gf.Network(N_0, (H,), (9, 7))), r"of 2 outputs, and network has outputs=1: make"),
        (lambda: posterior_of(NAMES[:P]), r"holds 3 classes.*outputs=2: give"),
        (lambda: posterior_of(np.arange(P) % 2, classes=(0, 1, 2)), r"classes=\(0, 1, 2\) must be two different"),
        (lambda: posterior_of(Y, classes=(0, 1, 2)), r"classes=\(0, 1, 2\) must be two different"),
        (lambda: posterior_of(np.where(np.eye(P, M) == 1, np.nan, Y)), r"y is nan at index \(0, 0\)"),
        (lambda: posterior_of([[1, 2], [3]] * 4 + [[1, 2]]), r"y is a list of entries of different lengths: give"),
        (lambda: gf.Network(3, (1,), (2, 2), outputs=0), r"outputs=0 must be"),
        (lambda: gf.one_hot(["a", "a"]), r"classes=\('a',\) must be two"),
        (lambda: gf.diagnostics.alignment(gf.theory.solve(posterior_of(Y))), r"output=None.*has 2: give one"),
    ],
)
def test_bad_input(fault, said):
    with pytest.raises(InputError, match=said):
        fault()


def test_a_class_without_examples_is_said():
    with pytest.warns(gf.InputWarning, match=r"no example of classes \['c'\]: give some"):
        posterior_of(np.array(["a", "b", "a"] * 3), dataclasses.replace(NETWORK, outputs=3), classes=("a", "b", "c"))
