"""Letters of the DejaVu fonts that matplotlib ships: characters without a download.

The letters without accents that all twelve text faces have (three families; regular, bold, slanted, both); letters that
look the same in another script count once. Drawings of a letter: its twelve faces, then faces at random with small
random rotations, scalings and shifts.
"""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path

import numpy as np

from ..core import checks
from .characters import SIZE, Characters

_LETTERS = ("Lu", "Ll", "Lt", "Lo")  # Unicode categories
_POINTS = 24  # font size in pixels; the few letters too wide for the image are left out
_SEED = 0
# one standard deviation of the distortions, about what separates drawings of one Omniglot character
_ROTATION = math.radians(8)
_SCALE = 0.08
_SHIFT = 1.0  # pixels


def glyphs(distorted: int = 8) -> Characters:
    """Letters of twelve faces, as characters.

    Args:
        distorted: drawings of each letter with random distortions, after its twelve faces.

    Returns:
        Characters named ``"LATIN SMALL LETTER A"``.., in the order of Unicode; the same each time.

    Raises:
        ValueError: ``distorted`` below 0.
    """
    from matplotlib import get_data_path
    from matplotlib.ft2font import FT2Font
    from PIL import Image, ImageDraw, ImageFont

    distorted = checks.count("distorted", distorted, least=0)
    files = sorted(Path(get_data_path(), "fonts", "ttf").glob("DejaVu*.ttf"))
    files = [file for file in files if "Display" not in file.name]
    faces = [ImageFont.truetype(str(file), _POINTS) for file in files]

    def render(letter, face):
        image = Image.new("L", (SIZE, SIZE), 255)
        left, top, right, bottom = face.getbbox(letter)
        corner = ((SIZE - left - right) / 2, (SIZE - top - bottom) / 2)
        ImageDraw.Draw(image).text(corner, letter, font=face, fill=0)
        return image

    seen, letters, drawings = set(), [], []
    rng = np.random.default_rng(_SEED)
    for code in sorted(set.intersection(*(set(FT2Font(str(file)).get_charmap()) for file in files))):
        letter = chr(code)
        if unicodedata.category(letter) not in _LETTERS or unicodedata.decomposition(letter):
            continue
        if any(right - left > SIZE for left, _, right, _ in (face.getbbox(letter) for face in faces)):
            continue
        upright = [render(letter, face) for face in faces]
        if (look := upright[0].tobytes()) in seen:
            continue
        seen.add(look)
        letters.append(unicodedata.name(letter))
        drawings += upright
        drawings += [_distort(upright[rng.integers(len(faces))], rng) for _ in range(distorted)]
    images = np.stack([np.asarray(drawing) for drawing in drawings]) / np.float32(255)
    return Characters(images, np.repeat(np.arange(len(letters)), len(faces) + distorted), tuple(letters), "glyphs")


def _distort(image, rng):
    """Rotate, scale and shift about the centre, by normal amounts."""
    from PIL import Image

    angle, (stretch_x, stretch_y) = rng.normal(0, _ROTATION), np.exp(rng.normal(0, _SCALE, 2))
    c, s, middle = math.cos(angle), math.sin(angle), SIZE / 2
    inverse = np.array([[c / stretch_x, s / stretch_x], [-s / stretch_y, c / stretch_y]])
    shift = middle - inverse @ (middle + rng.normal(0, _SHIFT, 2))
    coefficients = (*inverse[0], shift[0], *inverse[1], shift[1])
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR, fillcolor=255)
