"""Fresh training episodes, drawn on the device inside the compiled loop."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..tasks.characters import SIZE, Characters
from ..tasks.one_shot import codes, draw_episodes, tokens, turn

_SHIFT = 10.0  # pixels of shift per unit of log-stretch


class Source(NamedTuple):
    """What episodes are made of, on the device: an argument of compiled functions, not a constant in them."""

    images: Float[Array, "M 32 32"]
    first: Int[Array, " C1"]
    codes: Float[Array, "3 S N_0"]


def source(characters: Characters, channels: int) -> Source:
    """Drawings and codes in float32."""
    table = jnp.asarray(codes(channels), jnp.float32)
    return Source(jnp.asarray(characters.images), jnp.asarray(characters.first), table)


def draw_batch(
    source: Source, key: jax.Array, examples: int, turned: float = 0.0, distortion: float = 0.0, repeated=0.0
) -> tuple[Float[Array, "P N_0 S"], Float[Array, " P"]]:
    """(x, y) of P random episodes; by default of the drawings as they are."""
    draw, noise = jax.random.split(key)
    count = round(turned * examples)
    parts = [
        draw_episodes(jax.random.fold_in(draw, part), source.first, size, part == 1, repeated)
        for part, size in enumerate((examples - count, count)) if size
    ]  # fmt: skip
    episodes = jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    shown = source.images[episodes.drawings]
    if count:
        shown = turn(shown, episodes.turns)
    if distortion:
        shown = distort(noise, shown, distortion)
    return tokens(shown, episodes.labels, source.codes), episodes.y


def distort(key, images: Float[Array, "*P 32 32"], amount: float) -> Float[Array, "*P 32 32"]:
    """Stretch along rows and columns about the centre and shift, by independent normal amounts for each image."""
    stretch, shift = jax.random.normal(key, (2, 2, *images.shape[:-2], 1, 1))
    pixels, middle = jnp.arange(SIZE), (SIZE - 1) / 2
    # where row (column) i of the result comes from, and linear interpolation there; outside is paper
    source = (pixels[:, None] - middle) * jnp.exp(amount * stretch) + middle + _SHIFT * amount * shift
    rows, columns = jax.nn.relu(1 - jnp.abs(source - pixels))
    ink = rows @ (1 - images) @ columns.swapaxes(-1, -2)
    return 1 - ink
