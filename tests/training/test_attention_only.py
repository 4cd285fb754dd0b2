"""The network with trainable attention against the frozen one, a loop over tokens and heads, and finite differences."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models.network import forward, path_weights
from gibbsformer.training import episodes
from gibbsformer.training.attention_only import attention_layers, initial
from gibbsformer.training.episodes import distort, draw_batch, source

NETWORK = gf.Network(6, (2, 3), (4, 3, 5))
P, S, G = 5, 4, 2
READOUTS = ("mean", "last")


@pytest.fixture
def weights(x64):
    """Float64, keys apart from queries."""
    rng = np.random.default_rng(0)
    start = initial(NETWORK, G, 2.0, jax.random.key(0))
    return {name: jnp.asarray(w + 0.5 * rng.standard_normal(w.shape), float) for name, w in start.items()}


@pytest.fixture
def x():
    return np.random.default_rng(1).standard_normal((P, 6, S))


def token_level(weights, x, readout):
    """f(x) of one input by the definition: activations of every token, heads summed layer by layer."""
    w = {name: np.asarray(value) for name, value in weights.items()}
    z = w["V_0"] @ x / np.sqrt(6)
    for l in (1, 2):
        V, Q, K = w[f"V_{l}"], w[f"Q_{l}"], w[f"K_{l}"]
        out = np.zeros((V.shape[1], S))
        for h, t in product(range(len(V)), range(S)):
            score = np.array([(K[h] @ x[:, s]) @ (Q[h] @ x[:, t]) / np.sqrt(G) for s in range(S)])
            a = np.exp(score) / np.exp(score).sum()
            out[:, t] += V[h] @ z @ a / np.sqrt(len(V) * V.shape[2])
        z = out
    f = w["a"] @ z / np.sqrt(len(z))
    return f.mean() if readout == "mean" else f[-1]


@pytest.mark.parametrize("readout", READOUTS)
def test_outputs_against_a_loop(weights, x, readout):
    expected = [token_level(weights, one, readout) for one in x]
    np.testing.assert_allclose(gf.training.outputs(weights, x, readout), expected, rtol=1e-11)  # float64 rounding


@pytest.mark.parametrize("readout", READOUTS)
def test_frozen_attention_gives_the_same_network(weights, x, readout):
    """Trained weights are weights of the posterior's network, with the attention they were trained with."""
    data = gf.contract(x, gf.Attention(attention_layers(weights)), readout)
    values = {name: weights[name] for name in NETWORK.weight_shapes}
    frozen = forward(path_weights(values), jnp.asarray(data.flat))
    np.testing.assert_allclose(gf.training.outputs(weights, x, readout), frozen, rtol=1e-12)


def test_gradient_against_finite_differences(weights, x):
    y = np.random.default_rng(2).choice([-1.0, 1.0], P)

    def loss(weights):
        return jnp.mean((gf.training.outputs(weights, x, "mean") - y) ** 2)

    gradient = jax.grad(loss)(weights)
    rng = np.random.default_rng(3)
    for name in weights:
        direction = rng.standard_normal(weights[name].shape)
        along = [float(loss(weights | {name: weights[name] + step * direction})) for step in (1e-5, -1e-5)]
        # central differences: relative error of order step^2 and rounding / step
        assert float(jnp.vdot(gradient[name], direction)) == pytest.approx((along[0] - along[1]) / 2e-5, rel=1e-6)
        assert float(jnp.abs(gradient[name]).max()) > 0


def test_start(x64):
    network = gf.Network(64, (4, 4), (50, 60, 70), (1.0, 2.0, 3.0, 4.0))
    weights = initial(network, 32, 1.5, jax.random.key(1))
    assert {name: w.shape for name, w in weights.items()} == network.weight_shapes | dict.fromkeys(
        ("Q_1", "K_1", "Q_2", "K_2"), (4, 32, 64)
    )
    assert all(w.dtype == jnp.float32 for w in weights.values())
    variances = dict(zip(network.weight_shapes, network.variances, strict=True)) | {"Q_1": 1.5**2 / 64}
    for name, variance in variances.items():
        found = np.asarray(weights[name], float)
        # 5 standard errors of a variance of that many normal numbers
        assert abs((found**2).mean() / variance - 1) < 5 * np.sqrt(2 / found.size)
    np.testing.assert_array_equal(weights["Q_1"], weights["K_1"])
    assert np.abs(weights["Q_1"] - weights["Q_2"]).max() > 0


def test_distortion():
    images = np.ones((300, 32, 32), np.float32)
    images[:, 12:20, 13:19] = 0  # a block of 8 x 6 in the middle
    np.testing.assert_allclose(distort(jax.random.key(0), images, 0.0), images, atol=1e-6)
    found = np.asarray(distort(jax.random.key(0), images, 0.05), float)
    assert found.min() > -1e-5
    assert found.max() < 1 + 1e-5
    ink = 1 - found
    pixels = np.arange(32) - 15.5
    mass = ink.sum((1, 2))
    centres = np.stack([(ink.sum(2) @ pixels) / mass, (ink.sum(1) @ pixels) / mass])
    # shifts are 0.5 pixels, seen through stretches of 5 %: standard errors of 600 normal numbers, 5 of them
    assert abs(centres.std() / 0.5 - 1) < 5 / np.sqrt(2 * 600) + 0.05
    assert abs(np.corrcoef(centres)[0, 1]) < 5 / np.sqrt(300)
    # the area goes with two stretches: log-area of standard deviation 0.05 sqrt(2); interpolation keeps the ink
    assert abs(np.log(mass / 48).std() / (0.05 * np.sqrt(2)) - 1) < 5 / np.sqrt(2 * 300) + 0.05


def test_batches_show_drawings_as_they_are_unless_told(characters):
    part = source(characters, 1)
    plain, _ = draw_batch(part, jax.random.key(0), 40)
    again, _ = draw_batch(part, jax.random.key(0), 40, distortion=0.1)
    assert plain.shape == (40, 64, 48)
    assert plain.dtype == jnp.float32
    same = draw_batch(part, jax.random.key(0), 40)[0]
    np.testing.assert_array_equal(plain, same)
    assert float(jnp.abs(plain - again).max()) > 0.1


def test_a_fraction_of_each_batch_is_turned(characters, monkeypatch):
    seen = []
    monkeypatch.setattr(episodes, "turn", lambda shown, turns: seen.append(np.asarray(turns)) or shown)
    draw_batch(source(characters, 1), jax.random.key(0), 40)
    assert not seen
    draw_batch(source(characters, 1), jax.random.key(0), 40, turned=0.25)
    (turns,) = seen
    assert turns.shape == (40, 3)
    assert not turns[:30].any()
    assert set(np.unique(turns[30:])) == {0, 1, 2, 3}


def test_turned_and_upright_episodes_are_drawn_apart(characters):
    _, y = draw_batch(source(characters, 1), jax.random.key(0), 40, turned=0.5)
    assert (y[:20] != y[20:]).any()  # one key for both would ask the same questions
