r"""The hidden Markov chain task of arXiv:2405.15926, figure 2 (docs/model.md, section 9a).

Sequences of S tokens over hidden states +-: class y = +1 stays in its state with probability p_a, class y = -1
with p_b. State +- emits v_+- in R^{N_0'} plus Gaussian noise; a zero beginning-of-sequence token is put in front
and a one-hot position code below, so N_0 = N_0' + S + 1. Heads act through W = beta blockdiag(feature, position).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from ..core import checks
from ..models import Attention
from .task import Examples, Task

VARIANTS = ("2c", "2e")
_INVERSE_TEMPERATURE = 10.0  # beta, the sharpness of every head
_BOS_STRENGTH = 1.5  # (1 + 1 + max(1 - 1, 1)) / 2: halfway between attending the previous token's two cases


def hidden_markov_chain(
    key: jax.Array,
    variant: str = "2c",
    examples: int = 100,
    test_examples: int = 1000,
    length: int = 30,
    features: int = 200,
    stay: tuple[float, float] = (0.7, 0.3),
    perpendicular_noise: float | None = None,
    residual: bool | Sequence[float] = (),
) -> Task:
    """Classify hidden Markov chains by how often they stay in their state.

    Args:
        key: typed random key; sets data, noise and the random heads.
        variant: ``"2c"``: layer 1 {same-token, random}, layer 2 {uniform, random}, four paths; ``"2e"``: layer 1
            {same-token, uniform}, layer 2 {uniform}, two paths, perpendicular_noise 5.
        examples, test_examples: P and number of test chains, half per class (even numbers).
        length: S, hidden states per chain (the sequence has S + 1 tokens).
        features: N_0', even; N_0 = features + length + 1.
        stay: (p_a, p_b), probability to stay in the state for y = +1 and y = -1.
        perpendicular_noise: STANDARD DEVIATION sigma_perp of the noise in each direction other than v_+ - v_- and
            v_+ + v_-, where it is 1; default 1 for 2c, 5 for 2e.
        residual: strength of the skip connection of each layer, or True for 1 in both; () for none, as published.

    Returns:
        Task with named paths ("good", "denoising", ..), T = 0.01, readout from the last token.

    Raises:
        ValueError: an argument out of range.

    Source: docs/model.md, section 9a; arXiv:2405.15926, figure 2.
    """
    checks.random_key("key", key)
    checks.nearest("variant", variant, VARIANTS)
    length = checks.count("length", length, least=2)
    for name, value in {"examples": examples, "test_examples": test_examples, "features": features}.items():
        if checks.count(name, value) % 2:
            raise checks.InputError(f"{name}={value} must be even: it is split in two halves")
    probabilities = checks.array("stay", stay, "y=+1 and y=-1").tolist()
    if len(probabilities) != 2 or not all(0 <= p <= 1 for p in probabilities):
        raise checks.InputError(f"stay={checks.brief(stay)} must be two probabilities: give one for y=+1, one for y=-1")
    if perpendicular_noise is None:
        perpendicular_noise = 1.0 if variant == "2c" else 5.0
    elif perpendicular_noise != 0:
        checks.positive("perpendicular_noise", perpendicular_noise)

    # NumPy draws on the host: the same key gives the same task whatever the device or precision.
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    train, test = (
        _chains(rng, count, length, features, stay, perpendicular_noise) for count in (examples, test_examples)
    )
    return Task(
        name="hmm",
        train=train,
        test=test,
        attention=_attention(rng, variant, length, features),
        settings={
            "variant": variant,
            "examples": int(examples),
            "test_examples": int(test_examples),
            "length": length,
            "features": int(features),
            "stay": probabilities,
            "perpendicular_noise": float(perpendicular_noise),
            "key_data": np.asarray(jax.random.key_data(key)).ravel().tolist(),
        },
        residual=residual,
    )


def _emissions(features: int) -> tuple[np.ndarray, np.ndarray]:
    first_half = np.arange(features) < features // 2
    return np.sqrt(2.0) * first_half, np.sqrt(2.0) * ~first_half


def _chains(rng, count, length, features, stay, perpendicular_noise) -> Examples:
    y = np.repeat([1.0, -1.0], count // 2)
    stays = rng.random((count, length - 1)) < np.where(y > 0, *stay)[:, None]
    first = rng.choice([1, -1], (count, 1))
    state = np.concatenate([first, first * np.cumprod(np.where(stays, 1, -1), axis=1)], axis=1)

    plus, minus = _emissions(features)
    noise = rng.standard_normal((count, length, features))
    inside = np.zeros_like(noise)
    for direction in (plus - minus, plus + minus):
        unit = direction / np.linalg.norm(direction)
        inside += (noise @ unit)[..., None] * unit
    tokens = np.where(state[..., None] > 0, plus, minus) + inside + perpendicular_noise * (noise - inside)

    x = np.zeros((count, features + length + 1, length + 1))
    x[:, :features, 1:] = tokens.transpose(0, 2, 1)
    x[:, features:] = np.eye(length + 1)
    return Examples(x, y)


def _attention(rng, variant, length, features) -> Attention:
    plus, minus = _emissions(features)
    feature_size, width = features, features + length + 1
    positions = length + 1

    def head(feature_block, position_block):
        W = np.zeros((width, width))
        W[:feature_size, :feature_size] = feature_block
        W[feature_size:, feature_size:] = position_block
        return _INVERSE_TEMPERATURE * W

    def random_head():
        W = head(
            rng.standard_normal((feature_size, feature_size)) / feature_size,
            rng.standard_normal((positions, positions)),
        )
        cross = _INVERSE_TEMPERATURE / np.sqrt(feature_size)
        W[:feature_size, feature_size:] = cross * rng.standard_normal((feature_size, positions))
        W[feature_size:, :feature_size] = cross * rng.standard_normal((positions, feature_size))
        return W

    q = (plus - minus) / (np.sum((plus - minus) ** 2) / 2)
    previous = np.eye(positions, k=1)  # key position = query position - 1
    previous[0, 1:] = _BOS_STRENGTH
    same_token = head(np.outer(q, q), previous)
    uniform = head(0.0, 1.0)
    names: tuple[str, ...]
    if variant == "2c":
        layers = [[same_token, random_head()], [uniform, random_head()]]
        names = ("good", "same-token/random", "denoising", "random/random")
    else:
        layers = [[same_token, uniform], [uniform]]
        names = ("good", "denoising")
    return Attention([np.stack(layer) for layer in layers], path_names=names)
