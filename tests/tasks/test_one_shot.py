"""One-shot episodes: who is shown and asked for, tokens against a loop, tasks of unseen characters."""

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.tasks.one_shot import PATCHES, TOKENS, codes, draw_episodes, tokens, turn


@pytest.mark.parametrize("turned", [False, True])
def test_episodes(characters, turned):
    P = 20_000
    e = [np.asarray(part) for part in draw_episodes(jax.random.key(0), characters.first, P, turned)]
    drawings, turns, labels, y = e
    shown = characters.character[drawings] * 4 + turns
    assert set(np.unique(turns)) == ({0, 1, 2, 3} if turned else {0})
    assert np.all(shown[:, 0] != shown[:, 1])
    own = shown[:, 2:] == shown[:, :2]  # the support of the query's character
    assert np.all(own.sum(1) == 1)
    assert np.all(np.where(own, drawings[:, :2], -1) != drawings[:, 2:])
    np.testing.assert_array_equal(np.sort(labels, 1), np.tile([0, 1, 2], (P, 1)))
    np.testing.assert_array_equal(labels[:, 2], 2)
    np.testing.assert_array_equal(y, 2 * labels[:, :2][own] - 1)
    # label, place of the answer, and their product are fair coins: 5 standard errors
    for coin in (y, 2 * own[:, 0] - 1, y * (2 * own[:, 0] - 1)):
        assert abs(coin.mean()) < 5 / np.sqrt(P)
    # every drawing comes up equally often in each place: chi^2 of 79 degrees of freedom, 5 standard deviations
    for place in drawings.T:
        counts = np.bincount(place, minlength=80)
        assert ((counts - P / 80) ** 2 / (P / 80)).sum() < 79 + 5 * np.sqrt(2 * 79)


def test_repeated_drawings(characters):
    usual = draw_episodes(jax.random.key(0), characters.first, 10_000)
    some = draw_episodes(jax.random.key(0), characters.first, 10_000, repeated=0.3)
    own = np.asarray(some.drawings[:, 2:] == some.drawings[:, :2]).any(1)
    assert abs(own.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 10_000)  # standard errors
    np.testing.assert_array_equal(some.y, usual.y)
    np.testing.assert_array_equal(some.drawings[~own], usual.drawings[~own])
    shown, asked = (characters.character[np.asarray(e.drawings[:, 2])] for e in (usual, some))
    np.testing.assert_array_equal(shown, asked)


def test_episodes_do_not_depend_on_precision(characters):
    with jax.enable_x64(False):
        single = draw_episodes(jax.random.key(3), characters.first, 50, True)
    with jax.enable_x64(True):
        double = draw_episodes(jax.random.key(3), characters.first, 50, True)
    for one, other in zip(single, double, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("channels", [1, 3])
def test_tokens_against_a_loop(characters, channels):
    images = characters.images[:6].reshape(2, 3, 32, 32).astype(float)
    labels = np.array([[0, 1, 2], [1, 0, 2]])
    table = codes(channels)
    x = tokens(images, labels, table)
    assert x.shape == (2, 64 * channels, TOKENS)
    for p, t in np.ndindex(2, TOKENS):
        image, patch = divmod(t, PATCHES)
        row, column = divmod(patch, 4)
        pixels = (images[p, image, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] - 0.922) / 0.084
        normal = (pixels - pixels.mean()) / np.sqrt(pixels.var() + 1e-5)
        expected = np.repeat(normal.ravel(), channels) + table[labels[p, image], t]
        np.testing.assert_allclose(x[p, :, t], expected, rtol=1e-12, atol=1e-12)  # float64 rounding


def test_codes():
    table = codes()
    position = table - table.mean(1, keepdims=True)  # without the label, up to a constant vector
    np.testing.assert_allclose(position[0], position[2], atol=1e-12)
    label = (table - table[:1])[:, 0]
    assert np.all(np.abs(label[1:]).max(1) > 1)
    np.testing.assert_allclose(table - table[:1], np.broadcast_to(label[:, None], table.shape), atol=1e-12)
    # the same patch of neighbouring images is told apart: codes of different tokens differ
    distance = np.linalg.norm(table[2][:, None] - table[2], axis=-1)
    assert distance[~np.eye(TOKENS, dtype=bool)].min() > 1


def test_turn(characters):
    images = characters.images[:8].reshape(2, 4, 32, 32)
    turns = np.array([[0, 1, 2, 3], [3, 3, 1, 0]])
    for found, image, quarter in zip(
        np.asarray(turn(images, turns)).reshape(8, 32, 32), images.reshape(8, 32, 32), turns.ravel(), strict=True
    ):
        np.testing.assert_array_equal(found, np.rot90(image, quarter))


@pytest.fixture
def attention():
    return gf.Attention([np.random.default_rng(l).standard_normal((2, 64, 64)) / 64 for l in (1, 2)])


def test_task(characters, attention):
    task = gf.tasks.one_shot(characters, attention, jax.random.key(1), train=30, test=20, channels=1)
    assert (task.name, task.readout, task.temperature) == ("one_shot", "mean", 0.5)
    assert task.train.x.shape == (30, 64, 48)
    assert task.test.y.shape == (20,)
    assert set(task.test.y) == {-1.0, 1.0}
    assert task.train_inputs.heads == (2, 2)
    assert task.settings["test_characters"]["characters"] == 4
    # the supports of test episodes are drawings of held-out characters, and of no others
    table = codes(1)
    held_out = characters.split()[1]
    known = tokens(np.repeat(held_out.images[:, None], 3, 1).astype(float), np.tile([0, 1, 2], (16, 1)), table)
    query = task.test.x[:, :, 32:]
    nearest = np.abs(query[:, None] - known[None, :, :, 32:]).max((2, 3)).min(1)
    np.testing.assert_allclose(nearest, 0, atol=1e-12)
    nearest = np.abs(task.train.x[:, None, :, 32:] - known[None, :, :, 32:]).max((2, 3)).min(1)
    assert nearest.min() > 0.1
    again = gf.tasks.one_shot(characters, attention, jax.random.key(1), train=30, test=20, channels=1)
    np.testing.assert_array_equal(again.train.x, task.train.x)
    other = gf.tasks.one_shot(characters, attention, jax.random.key(2), train=30, test=20, channels=1)
    assert np.any(other.train.y != task.train.y)


def test_a_pair_may_come_from_two_sources(characters, attention):
    pair = (characters, gf.tasks.Characters(1 - characters.images, characters.character, characters.names, "negative"))
    task = gf.tasks.one_shot(pair, attention, jax.random.key(1), train=4, test=4, channels=1)
    assert task.settings["train_characters"]["source"] == "toy"
    assert task.settings["test_characters"]["source"] == "negative"


def test_bad_tasks(characters, attention):
    def refused(said, **change):
        given = {"characters": characters, "attention": attention, "key": jax.random.key(0), "channels": 1} | change
        with pytest.raises(ValueError, match=said):
            gf.tasks.one_shot(**given)

    refused("x has input width 192 .* act on width 64", channels=3)
    refused("train=0", train=0)
    refused("channels=0", channels=0)
    refused("is not a set of characters", characters="glyphs")
    refused("is not a set of characters", characters=(characters, None))
    refused("not a random key", key=1)
    refused("attention is a list", attention=[])
