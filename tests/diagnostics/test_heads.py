"""Head scores, pruning and kernel alignment, against loops by the model document and across samplers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models.network import forward, order_parameters, path_weights


@pytest.fixture(scope="module")
def theory(small):
    return gf.theory.solve(small.posterior)


@pytest.fixture(scope="module")
def collapsed_run(small):
    return gf.sample(small.posterior, key=jax.random.key(5), warmup=100, draws=150, progress=False)


pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


def output(weights, inputs):
    with jax.enable_x64(True):
        return np.asarray(forward(path_weights({k: jnp.asarray(v) for k, v in weights.items()}), inputs.flat))


def test_scores_by_a_loop(small, theory):
    heads, U = small.network.heads, np.abs(theory.U[0])
    paths = list(np.ndindex(*heads))
    scores = gf.head_scores(theory)
    expected = {
        (l + 1, h + 1): sum(U[i, j] for i, p in enumerate(paths) for j, q in enumerate(paths) if p[l] == h or q[l] == h)
        for l, H in enumerate(heads)
        for h in range(H)
    }
    for head, value in expected.items():
        np.testing.assert_allclose(scores[head], value / max(expected.values()), rtol=1e-12)
    assert scores.max() == 1


def test_scores_of_weights_are_those_of_their_order_parameter(small):
    weights = small.host_weights
    scores = gf.head_scores(weights)
    assert list(scores.index) == [(l + 1, h + 1) for l, H in enumerate(small.network.heads) for h in range(H)]
    assert gf.head_scores({k: v for k, v in weights.items() if k != "V_0"}).equals(scores)


def test_pruned_weights_act_as_pruned_inputs(small):
    heads, weights = [(1, 1), (2, 1)], small.host_weights
    by_hand = dict(weights)
    for l, h in heads:
        H = small.network.heads[l - 1]
        kept = np.array([i != h - 1 for i in range(H)]) * np.sqrt(H / (H - 1))
        by_hand[f"V_{l}"] = by_hand[f"V_{l}"] * kept[:, None, None]
    inputs = small.test[0]
    expected = output(by_hand, inputs)
    np.testing.assert_allclose(output(gf.prune(weights, heads), inputs), expected, rtol=1e-12)
    np.testing.assert_allclose(output(weights, gf.prune(inputs, heads)), expected, rtol=1e-12)


def test_pruned_theory_has_no_dropped_paths(small, theory):
    pruned = gf.prune(theory, heads=[(2, 1)])
    gone = [p[1] == 0 for p in np.ndindex(*small.network.heads)]
    assert not pruned.U[0][gone].any()
    assert not pruned.U[0][:, gone].any()
    np.testing.assert_array_equal(pruned.U[0][np.logical_not(gone)][:, np.logical_not(gone)],
                                  theory.U[0][np.logical_not(gone)][:, np.logical_not(gone)])  # fmt: skip
    assert gf.prune(theory, paths=[0]).U[0][0, 0] == 0


def test_exact_posterior_and_lifted_weights_agree_when_pruned(small, collapsed_run):
    inputs = gf.prune(small.test[0], heads=[(1, 1)])
    lifted = gf.lift(collapsed_run, key=jax.random.key(6), progress=False)
    exact, sampled = gf.predict(collapsed_run, inputs), gf.predict(lifted, inputs)
    error = sampled.blocks.std(0, ddof=1) / np.sqrt(len(sampled.blocks))
    assert np.all(np.abs(exact.mean - sampled.mean) < 5 * error)  # same U draws: V noise alone, dozens of inputs


def test_curves_and_orders(small, theory, collapsed_run):
    inputs, labels = small.test[0], np.sign(small.test[1])
    order = gf.pruning_order(gf.head_scores(theory))
    assert len(order) == sum(small.network.heads) - small.network.depth
    scores = gf.head_scores(theory)
    assert order[0] == scores[[h for h in scores.index if small.network.heads[h[0] - 1] > 1]].idxmin()
    for source in (theory, collapsed_run, small.host_weights):
        curve = gf.pruning_curve(source, inputs, labels, order)
        assert len(curve) == len(order) + 1
        drops = gf.head_drops(source, inputs, labels)
        np.testing.assert_allclose(curve[0] - curve[1], drops[order[0]], atol=1e-12)


def test_what_cannot_be_pruned(small, theory):
    for arguments, message in [
        ({"heads": [(9, 1)]}, r"heads=\(9, 1\) does not exist"),
        ({"heads": [(1, h) for h in range(1, small.network.heads[0] + 1)]}, "all heads of layer 1"),
        ({"paths": ["(1 9)"]}, "is not known"),
        ({"paths": range(small.network.paths)}, "leave no path"),
    ]:
        with pytest.raises(ValueError, match=message):
            gf.prune(theory, **arguments)
    with pytest.raises(ValueError, match="cannot be removed from weights"):
        gf.prune(small.host_weights, paths=[0])
    with pytest.raises(ValueError, match="source is a list"):
        gf.head_scores([1, 2])
    with pytest.raises(ValueError, match=r"entry 3: give pairs \(layer, head\)"):
        gf.prune(theory, heads=[3])
    weights = small.host_weights
    for broken, message in [
        ({k: v for k, v in weights.items() if k != "a"}, "a missing, add them"),
        ({k: v for k, v in weights.items() if k != "V_0"}, "V_0 missing, add them"),
        (weights | {"V_2": weights["V_2"][:, :, :-1]}, r"of shapes .* give V_0 \[N_1, N_0\]"),
        (weights | {"V_0": weights["V_0"][:-1]}, "of shapes"),
    ]:
        with pytest.raises(ValueError, match=message):
            gf.head_drops(broken, *small.test)


def test_other_arrays_beside_the_weights_are_left_alone(small):
    weights = small.host_weights
    assert gf.head_scores(weights | {"Q_1": np.zeros((2, 1, 6))}).equals(gf.head_scores(weights))


def test_weights_by_name_with_skip_connections(make_small):
    small = make_small(heads=(2, 2), widths=(4, 4, 4), residual=(0.6, 1.4))
    weights, residual = small.host_weights, (0.6, 1.4)
    named = weights | {"residual": residual}
    U = np.abs(order_parameters({k: jnp.asarray(v) for k, v in weights.items()}, residual).U[0])
    passes = np.array([name[1] == "1" for name in small.posterior.data.path_names])  # the first head of layer 1
    scores = gf.head_scores(named)
    assert list(scores.index) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    others = np.array([name[1] == "2" for name in small.posterior.data.path_names])
    share = [U[mask[:, None] | mask].sum() for mask in (passes, others)]
    np.testing.assert_allclose(scores[1, 1] / scores[1, 2], share[0] / share[1], rtol=1e-5)
    inputs = small.posterior.data
    with jax.enable_x64(True):
        f = lambda w, x: np.asarray(  # noqa: E731
            forward(path_weights({k: jnp.asarray(v) for k, v in w.items()}, residual), x.flat)
        )
        for heads in ([(1, 1)], [(2, 1), (2, 2)]):  # a layer may lose all heads
            expected = f(weights, gf.prune(inputs, heads))
            np.testing.assert_allclose(f(gf.prune(named, heads), inputs), expected, rtol=1e-10)
            assert gf.prune(named, heads)["residual"] == residual
            y = np.arange(7.0)
            curve = gf.pruning_curve(named, inputs, y, heads)
            np.testing.assert_allclose(curve[len(heads)], 1 - np.sum((expected - y) ** 2) / np.sum((y - 3) ** 2))
    without = gf.heads.by_leaving_out(named, inputs, np.zeros(7))
    with jax.enable_x64(True):
        squares = [np.mean(f(weights, x) ** 2) for x in (gf.prune(inputs, [(2, 1)]), inputs)]
    np.testing.assert_allclose(without[2, 1], squares[0] - squares[1], rtol=1e-8)
    with pytest.raises(ValueError, match=r"source has residual=.*make N_1 and N_2 equal"):
        gf.head_scores(make_small().host_weights | {"residual": (1, 0)})


def test_kernels_by_loops(small, theory, collapsed_run):
    xi = small.posterior.data.flat
    C = gf.path_kernels(small.posterior.data)
    names = small.posterior.data.path_names
    np.testing.assert_allclose(C.sel(path=names[1], path_prime=names[0])[2, 3], xi[2, :, 1] @ xi[3, :, 0], rtol=1e-12)
    for source, U in ((theory, theory.U[0]), (collapsed_run, collapsed_run.order_parameters.U[0].mean((0, 1)))):
        K = sum(U[g, h] * C.values[g, h] for g in range(len(U)) for h in range(len(U)))
        np.testing.assert_allclose(
            gf.renormalized_kernel(source), small.network.variances[0] * K, rtol=1e-6, atol=1e-10
        )
    with pytest.raises(ValueError, match="give the same paths"):
        gf.path_kernels(small.posterior.data, small.posterior.data.select([0]))
    with pytest.raises(ValueError, match="left is a int"):
        gf.path_kernels(3)


def test_alignment(small, theory):
    y = small.posterior.y
    found = gf.alignment(np.outer(y, y) + 1e-3 * np.eye(len(y)), y)
    np.testing.assert_allclose(found.overlaps[0], 1, rtol=1e-12)
    np.testing.assert_allclose(found.eigenvalues[0], y @ y + 1e-3, rtol=1e-12)
    found = gf.alignment(theory)
    np.testing.assert_allclose(np.sum(found.overlaps**2), 1, rtol=1e-12)  # eigenvectors are a basis
    assert np.all(np.diff(found.eigenvalues) <= 0)
    with pytest.raises(ValueError, match="a kernel alone does not know its labels"):
        gf.alignment(np.eye(3))


def test_generalization_error_splits(small, theory):
    prediction = gf.predict(theory, small.test[0])
    found = gf.generalization_error(prediction, small.test[1])
    draws = prediction.mean + np.sqrt(prediction.variance) * np.random.default_rng(0).normal(size=(40_000, 1))
    total = ((draws - small.test[1]) ** 2).mean(1)
    assert abs(total.mean() - found.total) < 4 * total.std() / np.sqrt(len(total))
    assert found.total == found.bias + found.variance


def test_finite_width_correction(small, theory, collapsed_run):
    found = gf.finite_width(collapsed_run, theory)
    U = collapsed_run.order_parameters.U[0]
    np.testing.assert_allclose(found.mean[0], U[..., 0, 0].mean(), rtol=1e-6)
    np.testing.assert_allclose(found.covariance[0, 0], U[..., 0, 0].var(ddof=1), rtol=1e-6)
    assert found.correction > 4 * found.correction_error  # widths below ten
    with pytest.raises(ValueError, match=r"give theory.solve\(run.posterior\)"):
        gf.finite_width(collapsed_run, gf.theory.gp(small.posterior))
    with pytest.raises(ValueError, match="run is a Theory"):
        gf.finite_width(theory, theory)


def test_correction_is_free_of_monte_carlo_noise(theory, collapsed_run):
    """Draws around U* itself: |mean - U*|^2 is noise alone, and no correction may be read from it."""
    rng, k = np.random.default_rng(0), len(theory.U[0])
    shares = []
    for _ in range(20):
        noise = rng.normal(size=(4, 50, k, k))
        U_1 = theory.U[0] + 0.1 * (noise + np.swapaxes(noise, 2, 3))
        found = gf.finite_width(
            dataclasses.replace(collapsed_run, variables=dict(collapsed_run.variables) | {"U_1": U_1}), theory
        )
        variance = np.sum(gf.diagnostics.moments(U_1)["mcse"] ** 2)
        shares.append((found.correction * np.linalg.norm(theory.U[0])) ** 2 / variance)
    # E max(chi^2_n / n - 1, 0) is about 0.4 sqrt(2 / n) = 0.12 for the n = 21 entries; noise left in it gives 1
    assert np.mean(shares) < 0.5


@pytest.mark.slow
def test_correction_falls_with_width(reference_posterior, reference_theory):
    """Of order 1/N: ten times the width, at most a fifth of the correction."""
    sizes = []
    for N in (10, 100):
        run = gf.sample(reference_posterior(N), key=jax.random.key(N), warmup=100, draws=300, progress=False)
        found = gf.finite_width(run, reference_theory(N))
        sizes.append(found.correction)
        sd = np.sqrt(np.diag(found.covariance) / np.diag(found.saddle_covariance))
        assert np.all(np.abs(np.log(sd)) < (0.5 if N == 10 else 0.2))  # Gaussian to leading order
    assert sizes[1] < sizes[0] / 5
