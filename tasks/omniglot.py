"""Omniglot, as published: alphabet/characterNN/NNNN_MM.png, in folders or zip files that the user has.

Source: Lake, Salakhutdinov, Tenenbaum, Science 350 (2015); https://github.com/brendenlake/omniglot (MIT licence).
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..core import checks
from .characters import SIZE, Characters

VARIABLE = "GIBBSFORMER_OMNIGLOT"
_OFFICIAL = (105, 105)
_MOST_BYTES, _MOST_PIXELS = 2**20, 2**22  # of a drawing, which has hundreds of bytes: a small file can hold gigabytes
_UNREADABLE = (zipfile.BadZipFile, OSError, zlib.error, EOFError, RuntimeError, NotImplementedError)  # of zip files
_REMEDY = (
    "give images_background.zip, its unpacked folder or several of either, from github.com/brendenlake/omniglot "
    "(python/), as path= or colon-separated in " + VARIABLE
)


def omniglot(path: str | os.PathLike | Sequence[str | os.PathLike] | None = None) -> Characters:
    """Characters of Omniglot, 32 x 32 pixels; a character that comes twice is counted once.

    Args:
        path: a folder or zip file in the official layout, several, or colon-separated text; default the environment
            variable GIBBSFORMER_OMNIGLOT.

    Returns:
        Characters named ``"Greek/character01"``.., sorted; drawings sorted by file name.

    Raises:
        ValueError: no path, no such file, no characters in it, an image that cannot be read.
    """
    if path is None:
        path = os.environ.get(VARIABLE)
        if not path:
            raise checks.InputError(f"path=None and {VARIABLE} is not set: {_REMEDY}")
    paths = path.split(os.pathsep) if isinstance(path, str) else [path] if isinstance(path, os.PathLike) else path
    found: dict[tuple[str, str, str], np.ndarray] = {}
    sizes = set()
    for place in map(Path, paths):
        for name, content in _files(place):
            key = (name.parts[-3], name.parts[-2], name.parts[-1])
            if key not in found:
                found[key], size = _image(place / name, content)
                sizes.add(size)
    shown = ":".join(map(str, paths))
    if not found:
        raise checks.InputError(f"path={shown!r} holds no alphabet/character/drawing.png: {_REMEDY}")
    if other := sizes - {_OFFICIAL, (SIZE, SIZE)}:
        width, height = other.pop()
        warnings.warn(
            f"images of {width} x {height} pixels were resized to {SIZE} x {SIZE}: check that they are Omniglot's",
            stacklevel=2,
        )
    keys = sorted(found)
    names = sorted({f"{alphabet}/{character}" for alphabet, character, _ in keys})
    index = {name: i for i, name in enumerate(names)}
    character = [index[f"{alphabet}/{character}"] for alphabet, character, _ in keys]
    return Characters(np.stack([found[key] for key in keys]), np.array(character), tuple(names), "omniglot")


def _files(place: Path) -> Iterator[tuple[Path, bytes]]:
    """(path inside, content) of every alphabet/character/drawing.png."""
    if place.is_dir():
        for file in sorted(place.rglob("*.png")):
            name = file.relative_to(place)
            if _is_drawing(name):
                with open(file, "rb") as drawing:
                    yield name, _limited(file, drawing.read(_MOST_BYTES + 1))
    elif not place.is_file():
        raise checks.InputError(f"path={str(place)!r} is neither a file nor a directory: {_REMEDY}")
    else:
        try:
            with zipfile.ZipFile(place) as archive:
                for entry in sorted(archive.namelist()):
                    if entry.endswith(".png") and _is_drawing(Path(entry)):
                        with archive.open(entry) as drawing:
                            content = drawing.read(_MOST_BYTES + 1)
                        yield Path(entry), _limited(Path(entry), content)
        except _UNREADABLE as error:
            raise checks.InputError(f"path={str(place)!r} is not a readable zip file ({error}): {_REMEDY}") from None


def _is_drawing(name: Path) -> bool:
    # archivers leave hidden twins of files behind
    return len(name.parts) >= 3 and not any(part.startswith((".", "__MACOSX")) for part in name.parts)


def _limited(name: Path, content: bytes) -> bytes:
    if len(content) > _MOST_BYTES:
        raise checks.InputError(f"path={str(name)!r} has more than {_MOST_BYTES} bytes and is not a drawing: remove it")
    return content


def _image(name: Path, content: bytes) -> tuple[np.ndarray, tuple[int, int]]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content))
        if image.width * image.height > _MOST_PIXELS:  # looked at before it is unpacked
            raise OSError(f"{image.width} x {image.height} pixels")
        image = image.convert("L")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise checks.InputError(f"path={str(name)!r} is not a readable image ({error}): remove it") from None
    small = image if image.size == (SIZE, SIZE) else image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32) / 255, image.size
