"""Character images, grouped by character: what one-shot episodes are drawn from.

Sources: Omniglot in its official layout (omniglot.py) and letters of the fonts that matplotlib ships (glyphs.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..core import checks

SIZE = 32  # pixels, both ways
SEED_OF_SPLIT = 0


@dataclass(frozen=True, eq=False)
class Characters:
    """Drawings of several characters, at least two characters and two drawings of each.

    Args:
        images: drawings [M, 32, 32], 1 = paper, 0 = ink; kept as float32.
        character: index 0..C-1 of the character of each drawing [M]; drawings are kept in its order.
        names: name of each character [C].
        source: recorded with every run, such as ``"omniglot"``.

    Raises:
        ValueError: shapes that disagree, values outside [0, 1], too few characters or drawings.
    """

    images: np.ndarray
    character: np.ndarray
    names: tuple[str, ...]
    source: str = "own"

    def __post_init__(self):
        images = checks.array("images", self.images, f"M, {SIZE}, {SIZE}").astype(np.float32)
        if images.shape[1:] != (SIZE, SIZE):
            raise checks.InputError(f"images has shape {images.shape}: give drawings [M, {SIZE}, {SIZE}]")
        if images.min() < 0 or images.max() > 1:
            raise checks.InputError(
                f"images holds values from {images.min():.3g} to {images.max():.3g}: give 1 for paper, 0 for ink"
            )
        character = checks.array("character", self.character, "M").astype(np.int32)
        names = tuple(str(name) for name in self.names)
        if len(character) != len(images) or np.any(character != self.character) or character.min() < 0:
            raise checks.InputError(
                f"character={checks.brief(self.character)} must give one index, 0 or more, for each of the "
                f"{len(images)} images"
            )
        counts = np.bincount(character, minlength=len(names))
        if len(counts) != len(names) or len(names) < 2:
            raise checks.InputError(
                f"names has {len(names)} entries and character counts {len(counts)}: give two characters or more, "
                "one name each"
            )
        if counts.min() < 2:
            raise checks.InputError(
                f"character {names[counts.argmin()]!r} has {counts.min()} drawings: give at least two of each, one to "
                "show and one to ask for"
            )
        order = np.argsort(character, kind="stable")
        object.__setattr__(self, "images", images[order])
        object.__setattr__(self, "character", character[order])
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def first(self) -> np.ndarray:
        """Index of the first drawing of each character, and M at the end [C + 1]."""
        return np.searchsorted(self.character, np.arange(len(self) + 1)).astype(np.int32)

    @cached_property
    def digest(self) -> str:
        """Short fingerprint of drawings and characters."""
        return hashlib.sha256(self.images.tobytes() + self.character.tobytes()).hexdigest()[:16]

    @property
    def about(self) -> dict:
        """Plain values that say which characters these are."""
        return {"source": self.source, "characters": len(self), "drawings": len(self.images), "digest": self.digest}

    def select(self, characters: Sequence[int] | np.ndarray) -> Characters:
        """Some of the characters, with all their drawings.

        Args:
            characters: indices, from 0 [C']; the result has them in this order.

        Returns:
            Characters.

        Raises:
            ValueError: fewer than two.
        """
        parts = [np.arange(self.first[c], self.first[c + 1]) for c in characters]
        return Characters(
            self.images[np.concatenate(parts)],
            np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            tuple(self.names[c] for c in characters),
            self.source,
        )

    def split(self, held_out: float = 0.2) -> tuple[Characters, Characters]:
        """(training characters, held-out characters), the same for the same number of characters.

        Args:
            held_out: fraction of the characters in the second set, above 0 and below 1.

        Returns:
            Two sets without a character in common, in the order of their indices.

        Raises:
            ValueError: a fraction that leaves fewer than two characters on either side.
        """
        count = round(checks.positive("held_out", held_out) * len(self))
        if not 2 <= count <= len(self) - 2:
            raise checks.InputError(
                f"held_out={held_out} of {len(self)} characters is {count}: choose a fraction that leaves two or more "
                "on both sides"
            )
        order = np.random.default_rng(SEED_OF_SPLIT).permutation(len(self))
        return self.select(np.sort(order[count:])), self.select(np.sort(order[:count]))


def training_and_held_out(characters: Characters | tuple[Characters, Characters]) -> tuple[Characters, Characters]:
    """Split one set as it splits itself, or take a pair (training, held out) as it is.

    Raises:
        ValueError: neither a set nor a pair of sets.
    """
    if isinstance(characters, Characters):
        return characters.split()
    pair = tuple(characters) if isinstance(characters, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(part, Characters) for part in pair):
        raise checks.InputError(
            f"characters={checks.brief(characters)} is not a set of characters: give gf.tasks.glyphs(), "
            "gf.tasks.omniglot(path), or a pair (training, held out) of such"
        )
    return pair
