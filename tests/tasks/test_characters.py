"""Character images: Omniglot's layout in folders and zip files, letters of matplotlib's fonts, splits."""

import io
import os
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

import gibbsformer as gf
from gibbsformer.tasks.omniglot import VARIABLE

INK = {("Greek", "character01"): 3, ("Greek", "character02"): 2, ("Latin", "character01"): 2}  # drawings of each


@pytest.fixture
def folder(tmp_path):
    """The official layout, 105 x 105 pixels of 1 bit; drawing d of character c has a bar of its own."""
    root = tmp_path / "images_background"
    for c, ((alphabet, character), drawings) in enumerate(INK.items()):
        (root / alphabet / character).mkdir(parents=True)
        for d in range(drawings):
            pixels = np.ones((105, 105), bool)
            pixels[20 * c : 20 * c + 10, 20 * d : 20 * d + 10] = False
            Image.fromarray(pixels).save(root / alphabet / character / f"{c:04d}_{d + 1:02d}.png")
    return root


def zipped(folder, name, alphabets=("Greek", "Latin")):
    path = folder.parent / name
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            if file.parts[-3] in alphabets:
                archive.write(file, file.relative_to(folder.parent))
                archive.writestr(f"__MACOSX/{file.parts[-3]}/{file.parts[-2]}/{file.name}", b"a hidden twin")
    return path


def same(one, other):
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.character, other.character)
    assert one.names == other.names


def test_folder(folder):
    characters = gf.tasks.omniglot(folder)
    assert characters.names == ("Greek/character01", "Greek/character02", "Latin/character01")
    assert len(characters) == 3
    np.testing.assert_array_equal(characters.character, [0, 0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(characters.first, [0, 3, 5, 7])
    assert characters.images.shape == (7, 32, 32)
    assert characters.images.dtype == np.float32
    # bars of 100 of 11,025 pixels; shrinking and grey levels of 1/255 move the mean by less than one level
    np.testing.assert_allclose(1 - characters.images.mean((1, 2)), 100 / 105**2, atol=1 / 255)
    for image, (row, column) in zip(characters.images[:2], [(0, 0), (0, 20)], strict=True):
        ink = np.argwhere(image < 0.5).mean(0)
        np.testing.assert_allclose(ink, (np.array([row, column]) + 4.5) * 32 / 105, atol=1)


def test_zip_files_and_folders_give_the_same(folder, monkeypatch):
    whole = gf.tasks.omniglot(folder)
    same(gf.tasks.omniglot(zipped(folder, "all.zip")), whole)
    # Latin comes twice and counts once, as in the two small sets
    parts = [zipped(folder, "greek.zip"), zipped(folder, "latin.zip", ("Latin",))]
    same(gf.tasks.omniglot(parts), whole)
    same(gf.tasks.omniglot(":".join(map(str, parts))), whole)
    monkeypatch.setenv(VARIABLE, f"{parts[0]}:{folder}")
    same(gf.tasks.omniglot(), whole)
    same(gf.tasks.characters_by_name("omniglot"), whole)
    same(gf.tasks.characters_by_name(f"omniglot={folder}"), whole)


def test_other_sizes_are_resized_with_one_warning(folder):
    for file in (folder / "Greek" / "character01").iterdir():
        Image.new("L", (64, 48), 255).save(file)
    with pytest.warns(UserWarning, match="64 x 48 pixels were resized to 32 x 32") as said:
        characters = gf.tasks.omniglot(folder)
    assert len(said) == 1
    assert characters.images[:3].min() == 1


def test_images_that_are_bombs(folder, tmp_path):
    """Of few bytes in a file and many in memory, and zip files with entries that cannot be read."""

    def refused(said, content, method=zipfile.ZIP_DEFLATED, change=lambda raw: raw):
        path = tmp_path / "all.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("Greek/character01/0001_01.png", content)
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(ValueError, match=said) as raised:
            gf.tasks.omniglot(path)
        assert str(raised.value).isprintable()

    page = io.BytesIO()
    Image.new("1", (10**4, 10**4)).save(page, "png")
    assert len(page.getvalue()) < 10**5
    refused("10000 x 10000 pixels", page.getvalue())
    refused("has more than 1048576 bytes and is not a drawing: remove it", bytes(10**8))
    refused(
        "is not a readable zip file", bytes(1000), zipfile.ZIP_LZMA, lambda raw: raw.replace(b"\x0e\x00", b"\x62\x00")
    )
    refused("is not a readable zip file", os.urandom(3000), change=lambda raw: raw[:200] + bytes(1500) + raw[1700:])
    (folder / "Greek" / "character01" / "0009_99.png").write_bytes(bytes(2**20 + 1))
    with pytest.raises(ValueError, match="is not a drawing: remove it"):
        gf.tasks.omniglot(folder)


def test_bad_omniglot(folder, tmp_path, monkeypatch):
    def refused(said, path=None):
        with pytest.raises(ValueError, match=re.escape(said)) as error:
            gf.tasks.omniglot(path)
        assert "\n" not in str(error.value)

    monkeypatch.delenv(VARIABLE, raising=False)
    refused(f"{VARIABLE} is not set: give images_background.zip")
    refused("is neither a file nor a directory", tmp_path / "missing.zip")
    refused("holds no alphabet/character/drawing.png", folder / "Greek" / "character02")
    (tmp_path / "text.zip").write_text("no archive")
    refused("is not a readable zip file", tmp_path / "text.zip")
    (folder / "Greek" / "character02" / "0001_02.png").unlink()
    refused("'Greek/character02' has 1 drawings: give at least two", folder)
    (folder / "Greek" / "character02" / "0001_02.png").write_text("no image")
    refused("0001_02.png' is not a readable image", folder)


def test_glyphs():
    characters = gf.tasks.glyphs(distorted=2)
    assert len(characters) > 500
    assert set(np.diff(characters.first)) == {14}
    names = characters.names
    assert {"LATIN CAPITAL LETTER A", "GREEK SMALL LETTER OMEGA", "CYRILLIC CAPITAL LETTER YA"} <= set(names)
    # looks like the Latin one; has an accent
    assert not {"CYRILLIC CAPITAL LETTER A", "LATIN SMALL LETTER E WITH ACUTE"} & set(names)
    images = characters.images.reshape(-1, 14, 32, 32)
    assert images.min() == 0
    assert images.max() == 1
    # every face draws a letter in its own way, and distortions keep about the ink of a face
    assert all(len(np.unique(letter.reshape(14, -1), axis=0)) >= 12 for letter in images[:50])
    ink = (1 - images).sum((2, 3))
    assert np.all(ink[:, 12:] > 0.5 * ink[:, :12].min(1, keepdims=True))
    assert np.all(ink[:, 12:] < 2 * ink[:, :12].max(1, keepdims=True))
    same(characters, gf.tasks.glyphs(distorted=2))


def test_split(characters):
    train, held_out = characters.split()
    assert len(held_out) == round(0.2 * len(characters))
    assert not set(train.names) & set(held_out.names)
    assert set(train.names) | set(held_out.names) == set(characters.names)
    same(train, characters.split()[0])
    for part in (train, held_out):
        index = characters.names.index(part.names[1])
        expected = characters.images[characters.character == index]
        np.testing.assert_array_equal(part.images[part.first[1] : part.first[2]], expected)
    assert train.digest != held_out.digest
    for fraction in (0.0, 1.0, 1e-3, np.nan):
        with pytest.raises(ValueError, match="held_out"):
            characters.split(fraction)


def test_own_drawings_in_any_order(characters):
    order = np.random.default_rng(0).permutation(len(characters.images))
    mixed = gf.tasks.Characters(characters.images[order], characters.character[order], characters.names)
    np.testing.assert_array_equal(mixed.character, characters.character)
    np.testing.assert_array_equal(np.sort(mixed.images[:4], 0), np.sort(characters.images[:4], 0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": np.ones((4, 28, 28))}, "(4, 28, 28)"),
        ({"images": 255 * np.ones((4, 32, 32))}, "from 255 to 255: give 1 for paper"),
        ({"character": [0, 0, 1]}, "one index, 0 or more, for each of the 4 images"),
        ({"character": [0, 0, 1, 1.5]}, "one index"),
        ({"character": [0, 0, 0, 1]}, "'b' has 1 drawings"),
        ({"names": ["a"], "character": [0] * 4}, "two characters or more"),
        ({"names": ["a", "b", "c"]}, "'c' has 0 drawings"),
    ],
)
def test_bad_characters(change, said):
    given = {"images": np.ones((4, 32, 32)), "character": [0, 0, 1, 1], "names": ["a", "b"]} | change
    with pytest.raises(ValueError, match=re.escape(said)):
        gf.tasks.Characters(**given)


def test_unknown_data():
    with pytest.raises(ValueError, match="did you mean 'glyphs'"):
        gf.tasks.characters_by_name("glyph")
    with pytest.raises(ValueError, match="give data=glyphs"):
        gf.tasks.characters_by_name("glyphs=fonts")
