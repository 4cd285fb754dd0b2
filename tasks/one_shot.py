r"""One-shot image classification, figure 3 of arXiv:2405.15926 (docs/model.md, section 9b).

One example shows two labelled drawings of two characters, in random order, and asks for the label of a third drawing,
of either character. Each image is cut into 4 x 4 patches of 8 x 8 pixels, so there are S = 48 tokens:

    x(t) = layer_norm(patch t) + position(t) + label(image of t),     N_0 = 64 channels

with a sinusoidal position code of zero mean and unit variance, and a fixed random embedding of the labels (class 0,
class 1, unknown). Three equal channels, as published, carry no more information than one; but patches then fill only
64 of the 192 dimensions, and attention can tell what a patch shows from where it is and what its label is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core import checks
from ..models import Attention
from .characters import SIZE, Characters, training_and_held_out
from .task import Examples, Task

PATCH = 8
PATCHES = (SIZE // PATCH) ** 2  # per image
TOKENS = 3 * PATCHES
UNKNOWN = 2  # label index of the query, next to classes 0 and 1
_MEAN, _STANDARD_DEVIATION = 0.922, 0.084  # of Omniglot's pixels as published; layer norm leaves little trace of either
_EPSILON = 1e-5  # of the layer norm
_SEED = 2405  # of the fixed label embedding
_TEMPERATURE = 0.5  # where the theory at N = 10 is best in the paper


class Episodes(NamedTuple):
    """Which drawings P episodes show.

    Attributes:
        drawings: indices [P, 3] of first support, second support, query.
        turns: quarter turns [P, 3] of each, a turned character being another character.
        labels: label index [P, 3]: 0 and 1 in random order, then 2 (unknown).
        y: +1 if the query shows the character of class 1, otherwise -1 [P].
    """

    drawings: Int[Array, "P 3"]
    turns: Int[Array, "P 3"]
    labels: Int[Array, "P 3"]
    y: Float[Array, " P"]


@partial(jax.jit, static_argnames=("examples", "turned"))
def draw_episodes(
    key: jax.Array, first: Int[Array | np.ndarray, " C1"], examples: int, turned: bool = False, repeated: float = 0.0
) -> Episodes:
    """Random episodes; on any device and in any precision the same key gives the same ones.

    Args:
        key: typed random key.
        first: ``Characters.first``.
        examples: P.
        turned: quarter turns of a character count as three further characters.
        repeated: probability that the query is the drawing that was shown, and not another one of its character.
    """
    first = jnp.asarray(first, jnp.int32)
    # remainders of 32 random bits: some values come up more often by less than one part in a million
    bits = iter(jax.random.bits(key, (8, examples), jnp.uint32))

    def below(bound):
        return (next(bits) % jnp.asarray(bound, jnp.uint32)).astype(jnp.int32)

    turns = 4 if turned else 1
    classes = turns * (first.shape[0] - 1)
    one = below(classes)
    other = (one + 1 + below(classes - 1)) % classes
    asked = below(2)  # the support whose character the query shows
    shown = jnp.stack([one, other, jnp.where(asked == 0, one, other)])
    start = first[shown // turns]
    count = first[shown // turns + 1] - start
    support = below(count[0]), below(count[1])
    # the query is another drawing than the support of its character: that one's place plus 1 .. count - 1
    own = jnp.where(asked == 0, *support)
    query = (own + 1 + below(count[2] - 1)) % count[2]
    swapped = below(2)  # label of the first support
    query = jnp.where(next(bits).astype(jnp.float32) / 2.0**32 < repeated, own, query)
    labels = jnp.stack([swapped, 1 - swapped, jnp.full_like(swapped, UNKNOWN)], 1)
    y = jnp.where(asked == 0, swapped, 1 - swapped) * 2.0 - 1.0
    return Episodes((start + jnp.stack([*support, query])).T, (shown % turns).T, labels, y)


def codes(channels: int = 3) -> Float[np.ndarray, "3 S N_0"]:
    """Position code plus embedding of each label, [label, token, N_0], in float64."""
    width = channels * PATCH**2
    angle = np.arange(TOKENS)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    position = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(TOKENS, width)
    position = (position - position.mean()) / position.std()
    return position + np.random.default_rng(_SEED).standard_normal((3, 1, width))


def tokens(images, labels, table):
    """Sequences x [P, N_0, S] of images [P, 3, 32, 32] with label indices [P, 3]; NumPy or JAX arrays.

    Args:
        table: ``codes``, which also says the number of channels; entries of a patch go by row, column, channel.
    """
    side = SIZE // PATCH
    patches = images.reshape(-1, 3, side, PATCH, side, PATCH).swapaxes(3, 4).reshape(-1, TOKENS, PATCH**2)
    patches = (patches - _MEAN) / _STANDARD_DEVIATION
    patches = patches - patches.mean(-1, keepdims=True)
    patches = patches * ((patches**2).mean(-1, keepdims=True) + _EPSILON) ** -0.5
    patches = patches.repeat(table.shape[-1] // PATCH**2, -1)
    # labels [P, 3 images] -> code [P, 3 images, patches, N_0]
    code = table.reshape(3, 3, PATCHES, -1)[labels, np.arange(3)].reshape(patches.shape)
    return (patches + code).swapaxes(1, 2)


def turn(images: Float[Array, "*P 32 32"], turns: Int[Array, "*P"]) -> Float[Array, "*P 32 32"]:
    """Images turned counterclockwise by that many quarter turns each."""
    turns = turns[..., None, None]
    images = jnp.where(turns % 2 == 1, images.swapaxes(-1, -2), images)
    images = jnp.where((turns == 1) | (turns == 2), images[..., ::-1, :], images)
    return jnp.where((turns == 3) | (turns == 2), images[..., ::-1], images)


def one_shot(
    characters: Characters | tuple[Characters, Characters],
    attention: Attention,
    key: jax.Array,
    train: int = 600,
    test: int = 1000,
    channels: int | None = None,
    residual: bool | Sequence[float] = (),
) -> Task:
    """One-shot episodes read through given attention, such as a trained network's.

    Args:
        characters: drawings; ``characters.split()`` says which are for training and which are held out for testing, as
            in ``gf.training.train``. Or a pair of your own, (training, test): the second may be another source.
        attention: query and key weights that act on N_0 = 64 channels, from ``gf.training`` or ``gf.Attention.load``.
        key: typed random key; draws the episodes.
        train, test: number of episodes.
        channels: equal channels of an image, so that N_0 = 64 channels; default as the attention's weights say.
        residual: strength of the skip connection of each layer, or True for 1 in all; () for none.

    Returns:
        Task with readout ``"mean"`` and T = 0.5.

    Raises:
        ValueError: an argument out of range, attention for another input width.

    Source: docs/model.md, section 9b; arXiv:2405.15926, figure 3.
    """
    checks.random_key("key", key)
    sizes = (checks.count("train", train), checks.count("test", test))
    sets = training_and_held_out(characters)
    if not isinstance(attention, Attention):
        raise checks.InputError(
            f"attention is a {type(attention).__name__}: give gf.Attention.load(path), or trained.attention"
        )
    table = codes(_channels(attention) if channels is None else checks.count("channels", channels))
    examples = [
        _examples(part, k, size, table) for part, k, size in zip(sets, jax.random.split(key), sizes, strict=True)
    ]
    attention(examples[0].x[:1])  # a wrong width is found here
    return Task(
        name="one_shot",
        train=examples[0],
        test=examples[1],
        attention=attention,
        readout="mean",
        temperature=_TEMPERATURE,
        settings={
            "train": sizes[0],
            "test": sizes[1],
            "channels": table.shape[-1] // PATCH**2,
            "train_characters": sets[0].about,
            "test_characters": sets[1].about,
            "key_data": np.asarray(jax.random.key_data(key)).ravel().tolist(),
        },
        residual=residual,
    )


def _channels(attention: Attention) -> int:
    """As many as the weights of the first layer act on; the published three for functions."""
    layer = attention.layers[0]
    weights = layer[0] if isinstance(layer, tuple) else layer
    width = np.shape(weights)[-1] if np.ndim(weights) else 3 * PATCH**2
    if width % PATCH**2:
        raise checks.InputError(
            f"attention acts on width {width}: give weights for a multiple of {PATCH**2}, one per pixel"
        )
    return width // PATCH**2


def _examples(characters: Characters, key, count, table) -> Examples:
    episodes = [np.asarray(part) for part in draw_episodes(key, characters.first, count)]
    drawings, _, labels, y = episodes
    return Examples(tokens(characters.images[drawings].astype(float), labels, table), y.astype(float))
