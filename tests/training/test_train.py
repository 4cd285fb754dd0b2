"""Training: it learns, repeats, resumes bit for bit, stops early, and leaves one file that says what it is."""

import dataclasses
import json
import os
import re

import jax
import numpy as np
import pytest
from safetensors import safe_open

import gibbsformer as gf
from gibbsformer.__main__ import main
from gibbsformer.core import console

TINY = gf.training.Config(
    heads=(2, 1), key_width=4, width=8, channels=1, batch=16, steps=60, learning_rate=1e-2, averaging=0.5
)
KEY = jax.random.key(0)


def train(characters, config=TINY, **options):
    return gf.training.train(characters, config, **({"key": KEY, "progress": False, "evaluate": 20} | options))


def same(one, other):
    assert one.weights.keys() == other.weights.keys()
    for name in one.weights:
        np.testing.assert_array_equal(one.weights[name], other.weights[name])


@pytest.fixture(scope="module")
def trained(characters, tmp_path_factory):
    path = tmp_path_factory.mktemp("training") / "net.safetensors"
    return train(characters, out=path), path


def test_it_learns(characters):
    """Patterns of strokes: a few hundred steps tell characters apart that were never seen."""
    config = gf.training.Config(
        heads=(2, 2), key_width=16, width=32, channels=1, batch=32, learning_rate=3e-3, averaging=0.1, turned=0.0,
        distortion=0.0, lead_in=0,
    )  # fmt: skip
    found = train(characters, config, steps=600, evaluate=200)
    assert [entry["step"] for entry in found.history] == [200, 400, 600]
    assert found.history[-1]["loss"] < found.history[0]["loss"]
    assert found.accuracy["training"] > 0.95
    assert found.accuracy["held_out"] > 0.85  # 0.94 with this key; chance is 0.5


def test_the_file_is_the_network(characters, trained):
    found, path = trained
    loaded = gf.training.load(path)
    same(loaded, found)
    assert loaded.config == TINY
    assert (loaded.step, loaded.accuracy, loaded.history) == (60, found.accuracy, found.history)
    x = np.random.default_rng(0).standard_normal((2, 64, 48))
    for one, other in zip(gf.Attention.load(path)(x), found.attention(x), strict=True):
        np.testing.assert_array_equal(one, other)
    task = gf.tasks.one_shot(characters, found.attention, KEY, train=4, test=4, channels=1)
    frozen = gf.models.path_weights({k: w for k, w in found.weights.items() if k[0] in "Va"})
    outputs = gf.training.outputs(found.weights, task.train.x, "mean")
    # float32 here, float64 attention there
    np.testing.assert_allclose(
        outputs, task.train_inputs.flat.swapaxes(1, 2).reshape(4, -1) @ frozen.ravel(), rtol=1e-3
    )


def test_skip_connections_are_trained_kept_and_used(characters, trained, tmp_path, monkeypatch):
    config, path = dataclasses.replace(TINY, residual=True, steps=4), tmp_path / "net.safetensors"
    found = train(characters, config, out=path, evaluate=4)
    loaded = gf.training.load(path)
    same(loaded, found)
    assert loaded.config == config
    assert found.residual == (1.0, 1.0)
    monkeypatch.setattr("gibbsformer.tasks.named.characters_by_name", lambda name: characters)
    sizes = {"train": 4, "test": 4, "network": str(path)}
    task = gf.tasks.by_name("one-shot", 0, **sizes)
    assert task.residual == task.train_inputs.residual == (1.0, 1.0)
    assert gf.tasks.by_name("one-shot", 0, **sizes, residual=False).residual == (0.0, 0.0)
    values = {k: w for k, w in found.weights.items() if k[0] in "Va"}
    frozen = gf.models.path_weights(values, found.residual)
    expected = task.train_inputs.flat.swapaxes(1, 2).reshape(4, -1) @ np.ravel(frozen)
    np.testing.assert_allclose(gf.training.outputs(found.weights, task.train.x, "mean"), expected, rtol=1e-3, atol=1e-5)
    assert len(gf.head_scores(found.weights)) == 3
    with pytest.raises(ValueError, match="config residual"):
        train(characters, dataclasses.replace(config, residual=(1.0, 0.5)), out=path, resume=True)
    assert "residual" not in trained[0].settings["config"]  # as in files from before there were any


def test_layout_of_the_file(trained):
    found, path = trained
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for name, shape in found.config.network.weight_shapes.items():
        assert shapes[name] == shapes[f"current/{name}"] == shapes[f"optimiser/0/mu/{name}"] == shape
    assert shapes["Q_1"] == shapes["K_1"] == (2, 4, 64)
    settings = json.loads(metadata["settings"])
    assert settings["config"]["learning_rate"] == 1e-2
    assert settings["held_out characters"]["source"] == "toy"
    assert list(path.parent.iterdir()) == [path]


def test_same_key_same_network(characters, trained):
    same(train(characters), trained[0])
    other = train(characters, key=jax.random.key(1))
    assert np.abs(other.weights["Q_1"] - trained[0].weights["Q_1"]).max() > 0.01


def test_resumes_bit_for_bit(characters, trained, tmp_path):
    path = tmp_path / "net.safetensors"
    train(characters, steps=33, out=path)
    resumed = train(characters, out=path, resume=True)
    same(resumed, trained[0])
    assert [e["step"] for e in resumed.history] == [20, 40, 60]
    assert resumed.accuracy == trained[0].accuracy
    done = train(characters, out=path, resume=True)
    assert done.step == 60


def test_interrupted(characters, trained, tmp_path, monkeypatch):
    """Ctrl-C: the file has what was learned so far, and training goes on from there."""

    class Interrupting(console.Lines):
        def update(self, n=1):
            if self.n:
                raise KeyboardInterrupt
            return super().update(n)

    def interrupting(*, total, initial, unit, desc, disable):
        return Interrupting(total, unit, desc, initial)

    path = tmp_path / "net.safetensors"
    monkeypatch.setattr(console, "bar", interrupting)
    with pytest.raises(KeyboardInterrupt):
        train(characters, out=path, progress=True)
    monkeypatch.undo()
    stopped = gf.training.load(path)
    assert (stopped.step, stopped.accuracy) == (40, None)
    same(train(characters, out=path, resume=True), trained[0])


def test_a_failed_write_leaves_the_old_file(characters, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    train(characters, steps=5, out=path)
    before = path.read_bytes()

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        train(characters, steps=10, out=path, resume=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_stops_when_it_no_longer_improves(characters):
    found = train(characters, dataclasses.replace(TINY, learning_rate=1e-9), steps=1000, patience=40)
    assert found.step == found.history[-1]["step"] < 1000
    best = max(found.history, key=lambda entry: entry["held_out"])
    assert found.step - best["step"] == 40


def test_average_of_the_weights(characters):
    steps = [train(characters, dataclasses.replace(TINY, averaging=0.0), steps=n).weights["Q_1"] for n in (1, 2, 3)]
    mean = train(characters, dataclasses.replace(TINY, averaging=0.5), steps=3).weights["Q_1"]
    # each step t = 0, 1, 2 has the weight 1 / (1 + t / 2) in the average up to it: 1, 2/3, 1/2
    expected = (steps[0] / 3 + 2 / 3 * steps[1]) / 2 + steps[2] / 2
    np.testing.assert_allclose(mean, expected, atol=1e-6)  # float32 rounding of numbers of order 1
    assert np.abs(np.asarray(mean) - steps[-1]).max() > 1e-3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": dataclasses.replace(TINY, learning_rate=1e-3)}, "config learning_rate=0.01"),
        ({"config": dataclasses.replace(TINY, heads=(1, 2), width=9)}, "config heads=[2, 1] and config heads=[1, 2]"),
        ({"key": jax.random.key(1)}, "key=[0, 0] and key=[0, 1]"),
        ({"held_out": 0.3}, "training characters characters=16"),
    ],
)
def test_another_configuration_is_refused(characters, trained, change, said):
    options = dict(change)
    if "held_out" in options:
        characters = characters.split(options.pop("held_out"))
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        train(characters, out=trained[1], resume=True, **options)
    assert "\n" not in str(error.value)


def test_bad_input(characters, trained, tmp_path):
    def refused(said, **options):
        with pytest.raises(ValueError, match=re.escape(said)) as error:
            train(**({"characters": characters} | options))
        assert "\n" not in str(error.value)

    refused("resume it", out=trained[1])
    refused("must end in .safetensors", out=tmp_path / "net.npz")
    refused("create it first", out=tmp_path / "no" / "net.safetensors")
    refused("cannot be resumed", out=tmp_path / "net.safetensors", resume=True)
    refused("out=None has nothing to resume", resume=True)
    refused("steps=0", steps=0)
    refused("patience=0", patience=0)
    refused("give gf.training.SMALL", config="small")
    refused("is not a set of characters", characters=None)
    refused("not a random key", key=0)
    wrong = {"averaging": 1.0, "learning_rate": -1, "heads": (), "width": 0, "distortion": np.nan, "turned": 1.5}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=name):
            dataclasses.replace(TINY, **{name: value})
    (tmp_path / "other.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"is not an \.safetensors file"):
        gf.training.load(tmp_path / "other.safetensors")
    np.savez(tmp_path / "net.npz", Q_1=np.ones(3))
    with pytest.raises(ValueError, match=r"use gf\.Attention\.load"):
        gf.training.load(tmp_path / "net.npz")


def test_command_line(characters, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")  # XLA runs already
    monkeypatch.setattr(gf.tasks, "characters_by_name", lambda name: characters)
    monkeypatch.setitem(gf.training.CONFIGS, "small", TINY)
    out = tmp_path / "net.safetensors"
    command = ["train", "--data", "glyphs", "--out", str(out)]
    assert main([*command, "--steps", "20"]) == 0
    captured = capsys.readouterr()
    assert "20 steps on toy" in captured.out
    assert re.search(r"\n +4 held-out characters +0\.\d{3} \+- 0\.00\d", captured.out)
    assert "20/20" in captured.err
    assert main(command) == 2
    assert "resume it" in capsys.readouterr().err
    assert main([*command, "--resume", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["step"] == 60
    assert captured.err == ""
    assert main([*command, "--resume", "--quiet", "--config", "papre"]) == 2
    assert "did you mean 'paper'" in capsys.readouterr().err
