"""Tasks by name: on the command line and in plans, with options that they declare."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

import gibbsformer as gf
from gibbsformer.cli import main
from gibbsformer.tasks import named


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    """The command line leaves the devices of a process as they are where they were set."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A file of query and key weights for one channel."""
    rng = np.random.default_rng(0)
    weights = {f"{part}_{l}": rng.standard_normal((2, 3, 64)) / 8 for part in "QK" for l in (1, 2)}
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    safetensors.numpy.save_file(weights, path)
    return path


@pytest.fixture
def two_alphabets(characters, monkeypatch):
    """The toy characters in place of the glyphs."""
    monkeypatch.setattr(named, "glyphs", lambda: characters)
    return characters


@pytest.mark.slow
def test_one_shot_works_where_hmm_does(network, two_alphabets, monkeypatch, capsys):
    task = gf.tasks.by_name("one-shot", 3, network=network, train=12, test=8)
    same = gf.tasks.one_shot(two_alphabets, gf.Attention.load(network), jax.random.key(3), 12, 8)
    np.testing.assert_array_equal(task.train.x, same.train.x)
    small = lambda key, data="glyphs", network=None: named.one_shot_by_name(key, data, network, 12, 8)  # noqa: E731
    monkeypatch.setitem(named.BUILT_IN, "one-shot", small)
    options = ["--task", "one-shot", "--data", "glyphs", "--network", str(network), "--width", "20", "--json"]
    assert main(["theory", *options]) == 0
    assert json.loads(capsys.readouterr().out)["paths"] == ["(1 1)", "(1 2)", "(2 1)", "(2 2)"]


def test_a_file_of_either_kind(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((6, 3, 4)), "y": np.sign(rng.standard_normal(6)), "W_1": np.zeros((1, 3, 3))}
    np.savez(tmp_path / "own.npz", **arrays)
    safetensors.numpy.save_file(arrays, tmp_path / "own.safetensors")
    one, other = (gf.tasks.by_name(str(tmp_path / f"own.{kind}"), 0) for kind in ("npz", "safetensors"))
    np.testing.assert_array_equal(one.train.x, other.train.x)


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "own.npz", x=np.ones((2, 3, 4)), y=[1.0, -1.0], W_1=np.zeros((1, 3, 3)))
    assert len(gf.tasks.by_name("~/own.npz", 0).train.y) == 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hmm", {"data": "glyphs"}, "task 'hmm' has no option 'data': choose one of|did you mean"),
        ("own.npz", {"network": "n"}, "network='n' is not an option of a file of arrays"),
        ("one-shot", {}, "needs a trained network, make one with `gibbsformer train"),
        ("oneshot", {}, "did you mean 'one-shot'"),
    ],
)
def test_refusals(name, options, message):
    with pytest.raises(ValueError, match=message):
        gf.tasks.by_name(name, 0, **options)


def test_a_task_is_one_function_and_one_line(monkeypatch, capsys):
    def coin(key, examples: int = 8):
        x = np.asarray(jax.random.normal(key, (examples, 3, 4)))
        return gf.tasks.arrays(x, np.sign(x[:, 0, 0]), gf.Attention([np.zeros((2, 3, 3))]), name="coin")

    monkeypatch.setitem(gf.tasks.BUILT_IN, "coin", coin)
    assert len(gf.tasks.by_name("coin", 0, examples=5).train.y) == 5
    assert main(["theory", "--task", "coin", "--width", "9", "--temperature", "0.5"]) == 0
    assert "converged" in capsys.readouterr().out
