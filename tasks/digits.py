"""Handwritten digits, ten classes, as short sequences: the data set that scikit-learn comes with.

1,797 images of 8 x 8 pixels (Alpaydin and Kaynak 1998, UCI Machine Learning Repository). A token is a row of an image,
or a patch of 4 x 4 pixels, with a one-hot position code below. Heads are random, or any ``Attention``.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from ..core import checks
from ..models import Attention
from .task import Examples, Task

_IMAGES, _SIDE, _PATCH = 1797, 8, 4
_LARGEST = 16.0  # value of a pixel
CUTS = ("rows", "patches")


def digits(
    key: jax.Array,
    examples: int = 1000,
    test_examples: int = 797,
    cut: str = "rows",
    heads: Sequence[int] = (2, 2),
    sharpness: float = 1.0,
    attention: Attention | None = None,
    residual: bool | Sequence[float] = (),
) -> Task:
    """Tell ten handwritten digits apart, by a network of ten outputs.

    Args:
        key: typed random key; draws which images are training and test examples, and the random heads.
        examples, test_examples: P and number of test images, at most 1,797 together.
        cut: ``"rows"``: eight tokens of eight pixels, N_0 = 16; ``"patches"``: four tokens of 16 pixels, N_0 = 20.
        heads: (H_1, .., H_L) of random heads, W [N_0, N_0] of normal entries.
        sharpness: STANDARD DEVIATION of the scores of a random head for tokens of unit length.
        attention: heads of your own, such as those of a trained network, in place of random ones.
        residual: strength of the skip connection of each layer, or True for 1 in all; () for none.

    Returns:
        Task of classes 0 to 9, T = 0.01, readout the mean over tokens.

    Raises:
        ValueError: an argument out of range, or scikit-learn is not installed.

    Source: Alpaydin and Kaynak 1998; docs/model.md, section 7 (several outputs).
    """
    checks.random_key("key", key)
    checks.nearest("cut", cut, CUTS)
    P, Q = checks.count("examples", examples), checks.count("test_examples", test_examples)
    if P + Q > _IMAGES:
        raise checks.InputError(f"examples={P} and test_examples={Q} are more than {_IMAGES} images: use fewer")
    images, labels = _data()
    key_images, key_heads = jax.random.split(key)
    picked = np.asarray(jax.random.permutation(key_images, _IMAGES))[: P + Q]
    x = _tokens(images[picked] / _LARGEST - 0.5, cut)
    if attention is None:
        shapes = [(H, x.shape[1], x.shape[1]) for H in checks.counts("heads", heads)]
        keys = jax.random.split(key_heads, len(shapes))
        scale = checks.positive("sharpness", sharpness)
        attention = Attention([scale * np.asarray(jax.random.normal(k, s)) for k, s in zip(keys, shapes, strict=True)])
    train, test = (Examples(x[part], labels[picked[part]]) for part in (slice(P), slice(P, None)))
    settings = {"examples": P, "test_examples": Q, "cut": cut}
    return Task("digits", train, test, attention, "mean", 0.01, settings, tuple(range(10)), residual)


def _data() -> tuple[np.ndarray, np.ndarray]:
    """Images [1797, 8, 8] and labels [1797]."""
    try:
        from sklearn.datasets import load_digits  # not above: it is optional
    except ImportError:
        raise checks.InputError("task 'digits' comes with scikit-learn: use `pip install scikit-learn`") from None
    found = load_digits()
    return found.images, found.target.astype(np.int64)


def _tokens(images: np.ndarray, cut: str) -> np.ndarray:
    """Sequences [P, N_0, S]: pixels of a row or patch, and below them a one-hot code of its place."""
    P = len(images)
    if cut == "rows":
        pixels = images.transpose(0, 2, 1)
    else:
        n = _SIDE // _PATCH
        parts = images.reshape(P, n, _PATCH, n, _PATCH).transpose(0, 2, 4, 1, 3)
        pixels = parts.reshape(P, _PATCH**2, n * n)
    S = pixels.shape[2]
    return np.concatenate([pixels, np.broadcast_to(np.eye(S), (P, S, S))], axis=1)
