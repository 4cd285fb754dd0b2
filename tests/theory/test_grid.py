"""Many saddle points at once, several starts, the Gaussian approximation around one, and the deep linear network."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.optimize

import gibbsformer as gf
from gibbsformer.theory import TheoryWarning, saddle


def test_grid_holds_what_solve_finds(small):
    grid = gf.theory.grid(small.posterior, (5, (40, 20, 10)), (2.0, 0.3))
    assert grid.converged.all()
    for i, widths in enumerate(((5, 5, 5), (40, 20, 10))):
        for j, T in enumerate((2.0, 0.3)):
            network = dataclasses.replace(small.network, widths=widths)
            alone = gf.theory.solve(dataclasses.replace(small.posterior, network=network, temperature=T))
            assert grid[i, j].posterior.network.widths == widths
            assert grid[i, j].posterior.temperature == T
            # both stop at gradients below 1e-8, curvatures are of order one
            np.testing.assert_allclose(grid[i, j].U[0], alone.U[0], rtol=0, atol=1e-6 * np.abs(alone.U[0]).max())


def test_grid_of_a_subnetwork(reference_posterior):
    paths = ("good", "denoising")
    grid = gf.theory.grid(reference_posterior(10), (10,), (0.01,), paths=paths)
    np.testing.assert_allclose(
        grid[0, 0].U[0], gf.theory.solve(reference_posterior(10), paths).U[0], rtol=1e-6, atol=1e-6
    )
    assert grid[0, 0].train.path_names == paths


def test_what_does_not_converge_is_named_and_the_rest_returned(small, monkeypatch):
    monkeypatch.setattr(saddle, "_MAX_ITERATIONS", 1)
    monkeypatch.setattr(saddle, "_polish", lambda shape, data, parts, theta: (theta, *saddle._host(
        saddle._action(shape, data, theta))))  # fmt: skip
    with pytest.warns(TheoryWarning, match=r"N=3, T=0.3: gradient .* after 1 Newton steps: start from a neighbouring"):
        grid = gf.theory.grid(small.posterior, (3, 10**9), (0.3,))
    assert grid.converged.tolist() == [[False], [True]]
    assert grid[1, 0].problem is None


def test_bad_grids(small, make_small):
    for arguments, message in [
        (((0,), (0.1,)), r"widths\[0\]=0 must be a whole number"),
        ((5, (0.1,)), "widths=5 must list"),
        (((5,), ()), r"temperatures=\(\) must list"),
        (((5,), (0.1, -1.0)), "temperature=-1.0 must be a finite number above 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            gf.theory.grid(small.posterior, *arguments)
    with pytest.raises(ValueError, match="temperature=1e-30 leaves"):  # the lowest, before anything is solved
        gf.theory.grid(make_small(P=60).posterior, (5,), (1e-30, 0.1))
    with pytest.raises(ValueError, match="not a random key"):
        gf.theory.solve(small.posterior, starts=3)


def test_several_starts_agree_where_the_minimum_is_one(small):
    one, many = gf.theory.solve(small.posterior), gf.theory.solve(small.posterior, starts=4, key=jax.random.key(0))
    assert many.converged
    assert many.others == ()
    np.testing.assert_allclose(many.action, one.action, rtol=1e-12)


def test_other_solutions_are_reported(small, monkeypatch):
    real, calls = saddle.minimise, []

    def solve(problem, start):
        found = real(problem, start)
        calls.append(start)
        shifted = dataclasses.replace(found, U=tuple(2 * u for u in found.U), action=found.action + 1)
        return found if len(calls) == 2 else shifted

    monkeypatch.setattr(saddle, "minimise", solve)
    with pytest.warns(TheoryWarning, match="1 other stationary point"):
        best = gf.theory.solve(small.posterior, starts=3, key=jax.random.key(0))
    assert len(best.others) == 1
    np.testing.assert_allclose(best.others[0].action, best.action + 1, rtol=1e-12)


def test_covariance_is_that_of_the_prior_where_data_say_nothing(make_small):
    """At infinite T and one head U_1 = U_a Q, N U_a and N Q both chi^2(N): variance 4/N to leading order."""
    small = make_small(heads=(1,), widths=(400, 400), variances=(1.0, 1.0, 1.0))
    theory = gf.theory.solve(dataclasses.replace(small.posterior, temperature=1e9))
    np.testing.assert_allclose(theory.covariance, [[4 / 400]], rtol=1e-4)


@pytest.mark.parametrize("N", [3, 30])
def test_deep_linear_network(N):
    """One token, one head per layer: all Q_l = U_l / U_{l+1} are equal and N (1 - Q) = U_1 E'(U_1), U_1 = Q^(L+1)."""
    rng = np.random.default_rng(1)
    x, L, T = rng.standard_normal((12, 6)), 3, 0.1
    y = np.sign(x @ rng.standard_normal(6))
    data = gf.PathInputs((x / np.sqrt(6)).reshape(12, 6, *(1,) * L))
    theory = gf.theory.solve(gf.Posterior(gf.Network(6, (1,) * L, (N,) * (L + 1)), data, y, T))
    eigenvalues, vectors = np.linalg.eigh(x @ x.T / 6)
    projected = (vectors.T @ y) ** 2

    def equation(log_q):
        U = np.exp(log_q * (L + 1))
        inverse = 1 / (U * eigenvalues + T)
        slope = np.sum(eigenvalues * inverse) - np.sum(projected * eigenvalues * inverse**2)
        return N * (1 - np.exp(log_q)) - U * slope

    Q = np.exp(scipy.optimize.brentq(equation, -5, 5, xtol=1e-14))
    found = [float(u[0, 0]) for u in theory.U] + [theory.U_a]  # U_1, .., U_L, U_a
    np.testing.assert_allclose(found, [Q ** (L + 1 - l) for l in range(L + 1)], rtol=1e-6)
