"""Heads of pretrained models: switched off, scored by gradients, removed from the weights."""

import json

import numpy as np
import pytest

import gibbsformer as gf
from tests.small_models import CONFIGS, config_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROJECTIONS = {"bert": "encoder.layer.{}.attention.output.dense", "gpt2": "h.{}.attn.c_proj",
               "llama": "layers.{}.self_attn.o_proj"}  # fmt: skip
IDS = torch.arange(12).reshape(3, 4)


@pytest.fixture(scope="module", params=CONFIGS)
def named(request):
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config_of(request.param, layers=2), attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0 if parameter.ndim > 1 else 1.0)
    return request.param, model


def scaled(name, model, layer, head, factor):
    """Weights of the model with a head's slice of the output projection times a factor."""
    state = {k: v.clone() for k, v in model.state_dict().items()}
    key, part = PROJECTIONS[name].format(layer - 1) + ".weight", slice(6 * (head - 1), 6 * head)
    state[key][part if name == "gpt2" else (slice(None), part)] *= factor
    return state


def output(model, state=None):
    model.eval()
    with torch.no_grad():
        if state is None:
            return model(IDS)[0]
        return torch.func.functional_call(model, state, (IDS,))[0]


def test_switched_off(named):
    name, model = named
    whole = output(model)
    with gf.heads.switched_off(model, [(2, 3)]) as same:
        assert same is model
        found = output(model)
    torch.testing.assert_close(found, output(model, scaled(name, model, 2, 3, 0.0)), rtol=1e-5, atol=1e-6)
    assert (found - whole).abs().max() > 0.01
    torch.testing.assert_close(output(model), whole)
    expected = np.ones((2, 4), bool)
    expected[1, 2] = False
    np.testing.assert_array_equal(gf.heads.mask(model, [(2, 3)]), expected)


def test_gradients_are_differences(named):
    """Of the loss of each example, in a factor of a head's part."""
    name, model = named

    def loss(model, ids):
        return (model(ids)[0][:, -1] ** 2 * torch.arange(24)).sum(-1)

    found = gf.heads.model_gradients(model.double(), loss, [IDS[:2], IDS[2:]], by_layer=False)
    for layer, head in [(1, 1), (1, 4), (2, 2)]:
        up, down = (output(model, scaled(name, model, layer, head, 1 + e)) for e in (1e-3, -1e-3))
        per_example = [(f[:, -1] ** 2 * torch.arange(24)).sum(-1) for f in (up, down)]
        slope = ((per_example[0] - per_example[1]) / 2e-3).abs().mean()
        np.testing.assert_allclose(found[layer, head], float(slope), rtol=5e-3)  # Llama's norms are in float32
    normal = gf.heads.model_gradients(model, loss, [IDS])
    np.testing.assert_allclose((normal**2).groupby(level="layer").sum(), 1)
    assert len(normal) == 8
    model.float()
    with pytest.raises(ValueError, match="one loss for each example"):
        gf.heads.model_gradients(model, lambda model, ids: model(ids)[0].sum(), [IDS])
    with pytest.raises(ValueError, match="batches is empty"):
        gf.heads.model_gradients(model, loss, [])


def test_written_model(named, tmp_path):
    name, model = named
    folder = gf.heads.write(model, [(1, 2), (2, 4)], tmp_path / "pruned")
    found = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager")
    with gf.heads.switched_off(model, [(1, 2), (2, 4)]):
        torch.testing.assert_close(output(found), output(model), rtol=1e-5, atol=1e-5)
    assert json.loads((folder / "removed_heads.json").read_text())["removed"] == [[1, 2], [2, 4]]
    weight = found.get_submodule(PROJECTIONS[name].format(1)).weight
    zeros = weight[18:] if name == "gpt2" else weight[:, 18:]
    assert not zeros.any()
    assert weight.any()
    assert (folder / "model.safetensors").is_file()
    with pytest.raises(ValueError, match="exists: choose another name"):
        gf.heads.write(model, [(1, 1)], folder)
    gf.heads.write(folder, [(1, 1)], folder.with_name("twice"))  # a path, of a model without a tokenizer
    gf.heads.write(model, [(1, 1)], folder, overwrite=True)


def test_a_wrong_file_is_not_passed_over(named, tmp_path, monkeypatch):
    monkeypatch.setattr("gibbsformer.heads.pretrained._without", lambda projection, weight, row: weight)
    with pytest.raises(ValueError, match="outputs that differ by"):
        gf.heads.write(named[1], [(1, 2)], tmp_path / "pruned")


def test_what_is_refused(named):
    model = named[1]
    for heads, message in [
        ([(3, 1)], r"heads=\(3, 1\) does not exist: the model has 2 layers of 4 heads"),
        ([(1, 5)], "does not exist"),
        ([1], r"give pairs \(layer, head\)"),
        ([(0, 1)], r"heads\[0\]=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            gf.heads.mask(model, heads)
