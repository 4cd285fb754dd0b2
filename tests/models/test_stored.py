"""Attention from files and from projections as other libraries keep them."""

import io
import re
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

import gibbsformer as gf
from gibbsformer.core import machine
from gibbsformer.models import stored as files
from gibbsformer.models.stored import split_heads, split_in_projection

pytestmark = pytest.mark.usefixtures("x64")

P, N_0, S, H, G = 2, 6, 4, 3, 2
RELATIVE = 1e-12  # float64 rounding of sums of tens of terms and one exponential


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def stored(rng):
    """Three layers of different kinds, and arrays that are none."""
    shapes = {"Q_1": (H, G, N_0), "K_1": (H, G, N_0), "W_2": (2, N_0, N_0), "Q_3": (1, 5, N_0), "K_3": (1, 5, N_0)}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()} | {"a": np.ones(3), "V_0": np.eye(3)}


def save(path, arrays):
    (save_file(arrays, path) if path.suffix == ".safetensors" else np.savez(path, **arrays))
    return path


def patterns(x, query, key):
    """softmax over keys of scores of all heads, [P, H, S, S], as a library computes them: rows are queries."""
    scores = np.einsum("pthg,pshg->phts", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    return weights.swapaxes(-1, -2)  # ours: columns are queries


@pytest.mark.parametrize("name", ["net.npz", "net.safetensors"])
def test_load(stored, rng, tmp_path, name):
    attention = gf.Attention.load(save(tmp_path / name, stored), path_names=tuple("abcdef"))
    direct = gf.Attention([(stored["Q_1"], stored["K_1"]), stored["W_2"], (stored["Q_3"], stored["K_3"])])
    x = rng.standard_normal((P, N_0, S))
    for ours, theirs in zip(attention(x), direct(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert gf.contract(x, attention).path_names == tuple("abcdef")


def test_half_precision(stored, rng, tmp_path):
    small = {name: array.astype(ml_dtypes.bfloat16) for name, array in stored.items()}
    attention = gf.Attention.load(save(tmp_path / "net.safetensors", small))
    np.testing.assert_array_equal(attention.layers[1], small["W_2"].astype(float))


def test_torch_projections(rng):
    """nn.Linear: y = x W^T with the heads one after another in y; in_proj_weight: three such, for q, k and v."""
    in_proj, x = rng.standard_normal((3 * N_0, N_0)), rng.standard_normal((P, N_0, S))
    y = x.swapaxes(1, 2) @ in_proj.T
    query, key, _ = (part.reshape(P, S, H, -1) for part in np.split(y, 3, axis=-1))
    attention = gf.Attention([split_in_projection(in_proj, H)])
    np.testing.assert_allclose(attention(x)[0], patterns(x, query, key), rtol=RELATIVE)
    separate = tuple(split_heads(part, H) for part in np.split(in_proj, 3)[:2])
    np.testing.assert_array_equal(gf.Attention([separate])(x)[0], attention(x)[0])


def test_flax_projections(rng):
    """DenseGeneral: y[p, t, h, g] = sum_a x[p, t, a] kernel[a, h, g]."""
    query_kernel, key_kernel = rng.standard_normal((2, N_0, H, G))
    x = rng.standard_normal((P, N_0, S))
    query, key = (np.einsum("pat,ahg->pthg", x, kernel) for kernel in (query_kernel, key_kernel))
    attention = gf.Attention([(split_heads(query_kernel), split_heads(key_kernel, H))])
    np.testing.assert_allclose(attention(x)[0], patterns(x, query, key), rtol=RELATIVE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"Q_1": None}, "no W_1, nor Q_1 and K_1"),
        ({"W_2": None}, "K_3, Q_3 but no W_2"),
        (dict.fromkeys(("Q_1", "K_1", "W_2", "Q_3", "K_3")), "and no attention layer"),
        ({"Q_1": np.ones((G, N_0))}, "layers[0] Q has shape (2, 6): give an array [H, G, N_0]"),
        ({"K_1": np.ones((H, G + 1, N_0))}, "(3, 3, 6)"),
        ({"W_2": np.ones((2, N_0 + 1, N_0 + 1))}, "act on widths (6, 7, 6)"),
        ({"W_2": np.full((2, N_0, N_0), np.nan)}, "nan"),
    ],
)
@pytest.mark.parametrize("name", ["net.npz", "net.safetensors"])
def test_bad_layers(stored, tmp_path, name, change, said):
    arrays = {key: value for key, value in (stored | change).items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(said)):
        gf.Attention.load(save(tmp_path / name, arrays))


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match=r"does not exist: give an \.npz or \.safetensors"):
        gf.Attention.load(tmp_path / "missing.npz")
    for name in ("net.npz", "net.safetensors"):
        (tmp_path / name).write_bytes(b"no tensors here")
        with pytest.raises(ValueError, match=f"is not an {Path(name).suffix} file that can be read"):
            gf.Attention.load(tmp_path / name)


def test_bad_projections():
    with pytest.raises(ValueError, match="heads=4 does not divide the 6 rows"):
        split_heads(np.ones((6, 6)), 4)
    with pytest.raises(ValueError, match="heads=None"):
        split_heads(np.ones((6, 6)))
    with pytest.raises(ValueError, match="3 heads"):
        split_heads(np.ones((N_0, 3, G)), 2)
    with pytest.raises(ValueError, match="use split_heads"):
        split_in_projection(np.ones((6, 6)), 2)


def bomb(path, shape, content_bytes, compression=zipfile.ZIP_DEFLATED):
    """An archive of one array of that shape, with so many zeros behind its header."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", compression) as archive, archive.open("x.npy", "w", force_zip64=True) as file:
        file.write(header.getvalue())
        for _ in range(content_bytes // 2**20):
            file.write(bytes(2**20))
        file.write(bytes(content_bytes % 2**20))


def test_an_archive_that_unpacks_to_more_than_there_is(tmp_path, monkeypatch):
    path = tmp_path / "own.npz"
    bomb(path, (4, 2**20), 2**25)
    assert path.stat().st_size < 2**16
    assert files.read("task", path)["x"].shape == (4, 2**20)
    monkeypatch.setattr(machine, "available_memory", lambda: 2**24)
    with pytest.raises(ValueError, match=r"task='.*own.npz' needs 0.0 GiB of memory .*: use a smaller file"):
        files.read("task", path)


@pytest.mark.parametrize("shape", [(2**40,), (2, 3), (2**62, 2**62)])
def test_an_array_that_is_not_as_large_as_it_says(shape, tmp_path):
    path = tmp_path / "own.npz"
    bomb(path, shape, 800)
    with pytest.raises(ValueError, match=r"has \d+ bytes and shape"):
        files.read("task", path)


def test_an_archive_with_a_password_or_another_file(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, W_1=np.ones(3))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("note.txt", "hello")
    np.testing.assert_array_equal(files.read("task", path)["W_1"], np.ones(3))
    content = bytearray(path.read_bytes())
    for place in [i for i in range(len(content)) if content[i : i + 4] in (b"PK\x01\x02", b"PK\x03\x04")]:
        content[place + (8 if content[place + 2] == 1 else 6)] |= 1  # encrypted
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot|can be read \(.*(encrypted|password)") as raised:
        files.read("task", path)
    assert "\n" not in str(raised.value)
