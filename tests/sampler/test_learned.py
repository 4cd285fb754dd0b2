"""Learned attention: its samplers agree with each other, with frozen attention, and with their joint law."""

import jax
import numpy as np
import pytest

import gibbsformer as gf

N_0, S, G, P = 3, 4, 2, 6
rng = np.random.default_rng(11)
X, X_TEST = rng.standard_normal((P, N_0, S)), rng.standard_normal((4, N_0, S))
Y, Y_TEST = rng.standard_normal(P), rng.standard_normal(4)
NETWORK = gf.Network(N_0, (2,), (6, 5), (0.9, 1.1, 1.0))
HEADS = [tuple(rng.standard_normal((2, 2, G, N_0)))]
OPTIONS = {"key": jax.random.key(4), "chains": 4, "test": (X_TEST, Y_TEST), "progress": False}
SHORT = OPTIONS | {"warmup": 9, "draws": 14, "chunk": 5}
HMC = gf.HMC(integration_steps=4, initial_step_size=0.25)

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


def posterior(variances=0.4, layers=HEADS, temperature=0.3):
    return gf.LearnedAttention(layers, G, variances).posterior(NETWORK, X, Y, temperature)


def general(kind="softmax"):
    """Two layers, two outputs, a skip connection, sequences of two lengths."""
    network = gf.Network(N_0, (1, 1), (4, 4, 5), residual=(0.8, 0), outputs=2)
    x = [each[:, : 2 + i % 2] for i, each in enumerate(X)]
    attention = gf.LearnedAttention((1, 1), G, variances=0.5, kind=kind)
    return attention.posterior(network, x, rng.standard_normal((P, 2)), 0.3, readout="mean")


def test_variance_of_f_is_that_of_its_mean_and_its_mean_variance():
    run = gf.sample(posterior(), HMC, **SHORT)
    flat = {name: np.asarray(values).reshape(-1, *values.shape[2:]) for name, values in run.variables.items()}
    mean, variance = run.posterior.predictions(flat, run.posterior.checked_inputs(X_TEST))
    found = gf.predict(run, X_TEST)
    np.testing.assert_allclose(mean, flat["f_mean"], rtol=1e-8)
    np.testing.assert_allclose(found.mean, mean.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found.variance, mean.var(0) + variance.mean(0), rtol=1e-10)
    assert (variance > 0).all()


@pytest.mark.slow
def test_a_stored_run_resumes_bit_for_bit(tmp_path):
    """Queries and keys that started where they were told to; then lifted, scored and reported from the file."""
    start = {name: np.repeat(each[None], 4, 0) for name, each in zip(("Q_1", "K_1"), HEADS[0], strict=True)}
    whole = gf.sample(posterior(), HMC, **SHORT, init=start)
    gf.sample(posterior(), HMC, **(SHORT | {"draws": 4}), init=start, store=tmp_path / "run.h5")
    found = gf.resume(tmp_path / "run.h5", 14, progress=False, chunk=5)
    for name in (*whole.variables, *whole.stats):
        a, b = (np.asarray({**run.variables, **run.stats}[name]) for run in (whole, found))
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert found.monitored == ("U_a", "U_1", "entropy_1", "f_train_mean")
    lifted = gf.lift(found, key=jax.random.key(1), draws=3, progress=False)
    assert lifted.weights["V_1"].shape == (4, 3, 2, 5, 6)
    W = np.einsum("cdi,cdhij->cdhj", lifted.weights["a"], lifted.weights["V_1"]) / np.sqrt(5)
    U = np.asarray(found.variables["U_1"])[:, [0, 6, 13]]  # evenly spaced
    np.testing.assert_allclose(W @ np.swapaxes(W, 2, 3) / 6, U, rtol=1e-8)
    prediction = gf.predict(found, X_TEST)
    np.testing.assert_allclose(prediction.mean, np.asarray(found.variables["f_mean"]).mean((0, 1)), rtol=1e-8)
    assert (prediction.variance > np.asarray(found.variables["f_mean"]).var((0, 1))).all()
    assert "entropy_1[2]" in gf.report(found, tmp_path / "run.html").read_text()
    with pytest.raises(ValueError, match="init has weights of shapes"):
        gf.sample(posterior(), HMC, **SHORT, init={"Q_1": start["Q_1"]})
    with pytest.raises(ValueError, match=r"init='collapsed' needs the frozen attention .* give Q_1, K_1 by name"):
        gf.sample(posterior(), HMC, **SHORT, init="collapsed")


@pytest.mark.parametrize(
    "target", ["collapsed", *(pytest.param(t, marks=pytest.mark.slow) for t in ("marginal", "weights"))]
)
def test_hmc_keeps_the_joint_law(geweke, assert_within, target):
    assert_within(geweke.learned_z(posterior(), HMC, 1000, 10, target), "statistic ")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["softmax", "linear"])
@pytest.mark.parametrize("target", ["collapsed", "marginal", "weights"])
def test_hmc_keeps_the_joint_law_of_general_networks(geweke, assert_within, target, kind):
    assert_within(geweke.learned_z(general(kind), HMC, 700, 20, target), "statistic ")


def quantities(run):
    """What the data identify: moments of patterns of all examples, entropies, U and f."""
    Q, K = (np.asarray(run.variables[name]) for name in ("Q_1", "K_1"))
    with jax.enable_x64(True):
        scores = np.einsum("cdhga,pas,cdhgb,pbt->cdphst", K, X, Q, X, optimize=True) / np.sqrt(G)
    a = np.exp(scores - scores.max(-2, keepdims=True))
    a = (a / a.sum(-2, keepdims=True)).reshape(*a.shape[:2], -1)
    f = np.asarray(run.variables["f_mean" if "f_mean" in run.variables else "f"])
    U = np.asarray(run.variables["U_1"]).reshape(*a.shape[:2], -1)
    return {"patterns": a, "entropy": np.asarray(run.variables["entropy_1"]), "U": U, "U^2": U**2, "f": f}


def assert_agree(one, other, estimate, ess=400):
    for name in one:
        a, b = estimate(one[name]), estimate(other[name])
        assert min(a.ess.min(), b.ess.min()) > ess, (name, a.ess.min(), b.ess.min())
        z = (a.mean - b.mean) / np.hypot(a.error, b.error)
        assert np.all(np.abs(z) < 4), (name, np.abs(z).max())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["weights", "marginal"])
def test_collapsed_and_weight_space_agree(estimate, optimised, target):
    long = OPTIONS | {"warmup": 500, "draws": 2000}
    with optimised():
        runs = [gf.sample(posterior(), "nuts", target=t, **long) for t in ("collapsed", target)]
    assert_agree(*map(quantities, runs), estimate)


@pytest.mark.slow
def test_frozen_limit(estimate, optimised):
    """Queries and keys that hardly vary: the exact kernel on frozen attention has the same U and f."""
    with optimised():
        run = gf.sample(posterior(variances=1e-10), "nuts", **OPTIONS, warmup=300, draws=1000)
        frozen = posterior().frozen(dict(zip(("Q_1", "K_1"), HEADS[0], strict=True)))
        inputs = gf.contract(X_TEST, gf.Attention(HEADS), tokens="columns")
        exact = gf.sample(frozen, **(OPTIONS | {"test": (inputs, Y_TEST)}), warmup=100, draws=1000)
    ours, theirs = (
        {
            "U": np.asarray(r.variables["U_1"]),
            "U^2": np.asarray(r.variables["U_1"]) ** 2,
            "f": np.asarray(r.variables["f_mean"]),
        }
        for r in (run, exact)
    )
    assert_agree(ours, theirs, estimate)
    p, q = gf.predict(run, X_TEST), gf.predict(exact, inputs)
    np.testing.assert_allclose(p.variance, q.variance, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["chees", "mala", "ghmc", "mclmc", "adjusted_mclmc", "sgld", "sghmc"])
def test_gradient_kernels_run(kernel):
    options = SHORT | {"chains": 4, "draws": 5}
    kernel = {"sgld": gf.SGLD(batch_size=3), "sghmc": gf.SGHMC(batch_size=3)}.get(kernel, kernel)
    run = gf.sample(posterior(), kernel, **options)
    assert np.isfinite(np.asarray(run.variables["U_1"])).all()
