"""The hidden Markov chain task: its statistics against section 9a of the model, and its heads against the reference."""

import jax
import numpy as np
import pytest

import gibbsformer as gf

STANDARD_ERRORS = 4  # of a frequency or a sample standard deviation: 6e-5 of draws are farther out
FEATURES, LENGTH = 40, 30


@pytest.fixture(scope="module")
def task():
    return gf.tasks.hidden_markov_chain(
        jax.random.key(0), examples=2000, test_examples=20, features=FEATURES, perpendicular_noise=3.0
    )


def emissions(features):
    """v_+ is sqrt(2) on the first half of the coordinates and 0 on the second, v_- the reverse."""
    plus = np.concatenate([np.full(features // 2, np.sqrt(2)), np.zeros(features // 2)])
    return plus, plus[::-1]


def hidden_states(x):
    """States +-1 of each chain [P, S]: v_+ and v_- lie sqrt(features) >= 6 noise units apart."""
    plus, minus = emissions(FEATURES)
    direction = (plus - minus) / np.linalg.norm(plus - minus)
    return np.sign(np.einsum("n,pns->ps", direction, x[:, :FEATURES, 1:]))


def test_shapes_and_labels():
    task = gf.tasks.hidden_markov_chain(jax.random.key(0), examples=6, test_examples=4, length=5, features=8)
    assert task.train.x.shape == (6, 8 + 5 + 1, 5 + 1)
    assert task.test.x.shape == (4, 14, 6)
    assert sorted(task.train.y) == [-1, -1, -1, 1, 1, 1]
    assert task.train_inputs.xi.shape == (6, 14, 2, 2)
    assert task.train_inputs.path_names[0] == "good"
    assert task.train_inputs.path_names[2] == "denoising"
    assert (task.readout, task.temperature) == ("last", 0.01)
    posterior = task.posterior(7)
    assert posterior.network == gf.Network(14, (2, 2), (7, 7, 7))
    assert posterior.temperature == 0.01
    assert task.posterior((2, 3, 4), temperature=0.5).network.widths == (2, 3, 4)


def test_defaults_are_those_of_the_figure():
    task = gf.tasks.hidden_markov_chain(jax.random.key(0), test_examples=2)
    assert task.train.x.shape == (100, 231, 31)
    assert task.settings["stay"] == [0.7, 0.3]
    assert task.settings["perpendicular_noise"] == 1.0


def test_determined_by_the_key():
    make = lambda seed: gf.tasks.hidden_markov_chain(jax.random.key(seed), examples=4, test_examples=2)  # noqa: E731
    one, same, other = make(1), make(1), make(2)
    with jax.enable_x64(True):
        double = make(1)
    for again in (same, double):
        np.testing.assert_array_equal(one.train.x, again.train.x)
        np.testing.assert_array_equal(one.test.x, again.test.x)
        for ours, theirs in zip(one.attention.layers, again.attention.layers, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(one.train.x, other.train.x)
    assert not np.array_equal(one.attention.layers[0][1], other.attention.layers[0][1])
    assert not np.array_equal(one.train.x[:2], one.test.x)


def test_bos_token_and_position_code(task):
    x = task.train.x
    np.testing.assert_array_equal(x[:, :FEATURES, 0], 0.0)
    np.testing.assert_array_equal(
        x[:, FEATURES:], np.broadcast_to(np.eye(LENGTH + 1), (len(x), LENGTH + 1, LENGTH + 1))
    )


@pytest.mark.parametrize(("label", "probability"), [(1, 0.7), (-1, 0.3)])
def test_stay_probability_of_each_class(task, label, probability):
    states = hidden_states(task.train.x[task.train.y == label])
    stays = states[:, 1:] == states[:, :-1]
    error = np.sqrt(probability * (1 - probability) / stays.size)
    assert abs(stays.mean() - probability) < STANDARD_ERRORS * error
    # every transition, not only their average
    error = np.sqrt(probability * (1 - probability) / len(stays))
    assert np.all(np.abs(stays.mean(0) - probability) < STANDARD_ERRORS * error)


def test_first_state_is_fair(task):
    first = hidden_states(task.train.x)[:, 0]
    assert abs(np.mean(first)) < STANDARD_ERRORS / np.sqrt(len(first))


def test_noise_strength_in_each_direction(task):
    plus, minus = emissions(FEATURES)
    tokens = task.train.x[:, :FEATURES, 1:].transpose(0, 2, 1)
    noise = tokens - np.where(hidden_states(task.train.x)[..., None] > 0, plus, minus)
    basis = np.linalg.qr(np.stack([plus - minus, plus + minus, *np.eye(FEATURES)[: FEATURES - 2]], axis=1))[0]
    strengths = np.std(noise.reshape(-1, FEATURES) @ basis, axis=0)
    expected = np.array([1.0, 1.0, *[3.0] * (FEATURES - 2)])
    error = expected / np.sqrt(2 * noise[..., 0].size)  # of a sample standard deviation
    # 38 perpendicular directions: rotating them changes nothing, so each must fit
    assert np.all(np.abs(strengths - expected) < STANDARD_ERRORS * error)
    assert np.all(np.abs(noise.reshape(-1, FEATURES).mean(0)) < STANDARD_ERRORS * 3.0 / np.sqrt(noise[..., 0].size))


def test_chains_hold_their_class_in_order(task):
    np.testing.assert_array_equal(task.train.y, np.repeat([1, -1], 1000))


@pytest.mark.parametrize(("layer", "name"), [(0, "same-token"), (1, "uniform")])
def test_deterministic_heads_equal_the_reference(reference, layer, name):
    task = gf.tasks.hidden_markov_chain(jax.random.key(0), examples=2, test_examples=2)
    expected = reference[f"attention/W_{layer + 1}"][0]
    # beta q q^T: one rounding in |v_+ - v_-|^2 and one in the outer product
    np.testing.assert_allclose(task.attention.layers[layer][0], expected, rtol=4e-16, atol=0, err_msg=name)


def test_random_heads_have_the_strengths_of_the_reference(reference):
    task = gf.tasks.hidden_markov_chain(jax.random.key(3), examples=2, test_examples=2)
    beta, features = 10.0, 200
    blocks = {
        "feature": (np.s_[:features, :features], beta / features),
        "position": (np.s_[features:, features:], beta),
        "feature key, position query": (np.s_[:features, features:], beta / np.sqrt(features)),
        "position key, feature query": (np.s_[features:, :features], beta / np.sqrt(features)),
    }
    for layer in (0, 1):
        for W in (task.attention.layers[layer][1], reference[f"attention/W_{layer + 1}"][1]):
            for name, (block, strength) in blocks.items():
                entries = W[block]
                error = strength / np.sqrt(2 * entries.size)
                assert abs(np.std(entries) - strength) < STANDARD_ERRORS * error, name
    assert not np.array_equal(task.attention.layers[0][1], task.attention.layers[1][1])


@pytest.mark.usefixtures("x64")
def test_same_token_head_attends_the_previous_token_in_the_same_state():
    """Section 9a in words: the previous token if in my state, otherwise BOS."""
    task = gf.tasks.hidden_markov_chain(
        jax.random.key(0), examples=4, test_examples=2, length=6, features=FEATURES, perpendicular_noise=0.0
    )
    # without the noise of strength 1 along v_+ - v_-, so that the words hold for every token
    x = task.train.x.copy()
    plus, minus = emissions(FEATURES)
    states = hidden_states(x)
    x[:, :FEATURES, 1:] = np.where(states[:, None] > 0, plus[:, None], minus[:, None])
    A = task.attention(x)[0][:, 0]
    for mu in range(len(x)):
        for t in range(2, 7):
            same = states[mu, t - 1] == states[mu, t - 2]
            assert np.argmax(A[mu, :, t]) == (t - 1 if same else 0)


@pytest.mark.usefixtures("x64")
def test_variant_without_perturbation():
    task = gf.tasks.hidden_markov_chain(jax.random.key(0), "2e", examples=4, test_examples=2)
    assert task.settings["perpendicular_noise"] == 5.0
    assert task.train_inputs.heads == (2, 1)
    assert task.train_inputs.path_names == ("good", "denoising")
    np.testing.assert_array_equal(task.attention.layers[0][1], task.attention.layers[1][0])  # both uniform
    second = np.asarray(task.attention(task.train.x)[1])[:, 0, :, -1]
    np.testing.assert_allclose(second, 1 / 31, rtol=1e-12)  # equal scores: rounding only


def test_by_name():
    task = gf.tasks.by_name("hmm", 3)
    np.testing.assert_array_equal(task.train.x, gf.tasks.hidden_markov_chain(jax.random.key(3)).train.x)
