"""Files of networks with something wrong in them, and files in the way of those that are written."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import gibbsformer as gf
from gibbsformer.core import sealing

OLD = Path(__file__).parents[1] / "data" / "network_1.safetensors"  # written before there were checksums, at step 33
TINY = gf.training.Config(
    heads=(2, 1), key_width=4, width=8, channels=1, batch=16, steps=60, learning_rate=1e-2, averaging=0.5
)
OPTIONS = {"key": jax.random.key(0), "evaluate": 20, "progress": False}


def refused(path, said):
    for read in (gf.training.load, gf.Attention.load):
        with pytest.raises(ValueError, match=said) as raised:
            read(path)
        assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def trained(characters, tmp_path_factory):
    path = tmp_path_factory.mktemp("damaged") / "net.safetensors"
    gf.training.train(characters, TINY, out=path, **OPTIONS)
    return path


def test_every_byte_counts(trained, tmp_path):
    path, content = tmp_path / "net.safetensors", bytearray(trained.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for place in [*range(0, header, 11), *range(header, len(content), 997), content.index(b"network 2") + 8]:
        changed = content.copy()
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        refused(path, r"damaged|is not an \.safetensors file|is not a trained network")
    for length in (0, 7, 100, header, len(content) - 1):
        path.write_bytes(content[:length])
        refused(path, r"damaged|is not an \.safetensors file")
    path.write_bytes(content)
    gf.training.load(path)
    path.write_bytes(content.replace(b'"crc32"', b'"crc31"'))  # the checksum itself is gone
    refused(path, "damaged")


@pytest.fixture
def continued(characters, tmp_path):
    """A network without a checksum, trained further."""
    path = tmp_path / "net.safetensors"
    path.write_bytes(OLD.read_bytes())
    gf.training.train(characters, TINY, out=path, resume=True, **OPTIONS)
    return path


def test_old_networks(continued):
    """A file without a checksum opens and goes on; then it has one."""
    assert sealing.intact(OLD) is None
    assert gf.training.load(OLD).step == 33
    assert sealing.intact(continued)
    assert gf.training.load(continued).step == 60


@pytest.mark.slow
@pytest.mark.skipif(
    jax.config.read("jax_disable_most_optimizations"), reason="the old network is of optimised programs"
)
def test_old_networks_go_on_bit_for_bit(trained, continued):
    for name, weights in gf.training.load(trained).weights.items():
        np.testing.assert_array_equal(gf.training.load(continued).weights[name], weights)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays, about: about.pop("settings"),
        lambda arrays, about: about.update(history="{}"),
        lambda arrays, about: about.update(settings='{"config": {"heads": [2]}}'),
        lambda arrays, about: about.update(accuracy="no JSON"),
        lambda arrays, about: arrays.pop("step"),
        lambda arrays, about: arrays.update(V_0=arrays["V_0"][:, :-1]),
        lambda arrays, about: arrays.update(V_0=arrays["V_0"].astype(np.float64)),
    ],
)
def test_odd_networks(change, tmp_path):
    arrays, about = load_file(OLD), {"format": "gibbsformer network 1", "history": "[]", "accuracy": "null"}
    about["settings"] = json.dumps(gf.training.load(OLD).settings)
    path = tmp_path / "net.safetensors"
    save_file(arrays, path, about)
    gf.training.load(path)
    change(arrays, about)
    save_file(arrays, path, about)
    with pytest.raises(ValueError, match=r"path=.*net.safetensors' is damaged: use a copy") as raised:
        gf.training.load(path)
    assert "\n" not in str(raised.value)


def test_links_beside_a_network_are_left_alone(characters, tmp_path):
    """Names that a temporary file has or had: what they lead to is not written."""
    precious = tmp_path / "keep.txt"
    precious.write_text("mine")
    path = tmp_path / "net.safetensors"
    for name in ("net.safetensors.partial", ".net.safetensors", "net.safetensors.tmp"):
        (tmp_path / name).symlink_to(precious)
    gf.training.train(characters, TINY, steps=2, out=path, **OPTIONS)
    assert precious.read_text() == "mine"
    assert not path.is_symlink()
    assert sealing.intact(path)


def test_a_name_that_somebody_takes_first_is_not_followed(tmp_path, monkeypatch):
    from gibbsformer.core import files

    precious, path = tmp_path / "keep.txt", tmp_path / "page.html"
    precious.write_text("mine")
    path.write_text("old")
    monkeypatch.setattr(files.uuid, "uuid4", lambda: type("Known", (), {"hex": "known"}))
    (tmp_path / ".page.html.known").symlink_to(precious)
    with pytest.raises(FileExistsError):
        files.write(path, "new")
    assert (precious.read_text(), path.read_text()) == ("mine", "old")
    files.write(path, "new")  # what was in the way is gone
    assert (precious.read_text(), path.read_text()) == ("mine", "new")
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(OSError, match="link"):
        files.replace(tmp_path / "link", path)
    assert os.listdir(tmp_path)
