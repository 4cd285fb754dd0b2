"""A classification head on a pretrained model, and what the model does without heads."""

import numpy as np
import pandas as pd
import pytest

import gibbsformer as gf
from tests.small_models import CONFIGS, config_of

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

HEADS = [(2, 4), (1, 2, 3)]  # of layers 2 and 3
TRAIN, TEST = range(30), (33, 31, 38, 30)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    mask = (np.arange(7) < rng.integers(3, 8, (40, 1))).astype(int)
    return {"input_ids": rng.integers(0, 50, (40, 7)), "attention_mask": mask}


@pytest.fixture(scope="module", params=CONFIGS)
def made(request, inputs):
    """(name of the family, model, classifier), of labels that say whether the first token is large."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config_of(request.param), attn_implementation="eager")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    return request.param, model, classifier(model, inputs)


def classifier(model, inputs, **options):
    read = gf.Attention.from_transformers(model, inputs, (2, 3), HEADS, batch=8, progress=False)
    y = np.where(inputs["input_ids"][:, 0] > 24, "high", "low")
    return gf.heads.Classifier(read, y, TRAIN, progress=False, **options)


def hidden(model, inputs, rows):
    model.eval()
    given = {name: torch.as_tensor(value[list(rows)]) for name, value in inputs.items()}
    with torch.no_grad():
        return model(**given)[0].double().numpy()


@pytest.mark.parametrize("readout", ["mean", "first", "last"])
def test_features_are_those_of_the_whole_model(made, inputs, readout):
    """With the layers below computed once, and heads switched off above."""
    _, model, _ = made
    found = classifier(model, inputs, readout=readout)
    for heads, original in [((), []), ([(1, 2), (2, 1)], [(2, 4), (3, 1)])]:
        with gf.heads.switched_off(model, original):
            output = hidden(model, inputs, TEST)
        tokens = inputs["attention_mask"][list(TEST)].sum(1)
        read = {"mean": lambda z, n: z[:n].mean(0), "first": lambda z, n: z[0], "last": lambda z, n: z[n - 1]}[readout]
        expected = [read(z, n) for z, n in zip(output, tokens, strict=True)]
        np.testing.assert_allclose(found.features(TEST, heads), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found.features(TEST) - found.features(TEST, [(1, 2)])).max() > 1e-3
    again = hidden(model, inputs, TEST)  # the model has its layers back
    with gf.heads.switched_off(model, [(1, 1)]):
        assert np.abs(hidden(model, inputs, TEST) - again).max() > 1e-4


def test_head_is_the_best_one(made, inputs):
    """By scikit-learn's logistic regression on the same features; loss and accuracy by its probabilities."""
    linear = pytest.importorskip("sklearn.linear_model")
    _, _, found = made
    features = found.features(TRAIN)
    centre, spread = features.mean(0), features.std(0)
    y = np.where(inputs["input_ids"][:, 0] > 24, "high", "low")
    model = linear.LogisticRegression(C=2.0, tol=1e-10, max_iter=10000).fit((features - centre) / spread, y[:30])
    test = (found.features(TEST, [(2, 2)]) - centre) / spread  # two columns of weights: half the penalty each
    probabilities = model.predict_proba(test)
    columns = [list(model.classes_).index(label) for label in y[list(TEST)]]
    expected = -np.log(probabilities[range(4), columns]).mean()
    np.testing.assert_allclose(found.loss(TEST, [(2, 2)]), expected, rtol=1e-4)
    assert found.accuracy(TEST, [(2, 2)]) == np.mean(model.predict(test) == y[list(TEST)])
    assert found.accuracy(TRAIN) > 0.9


def test_scores(made):
    _, model, found = made
    left = found.by_leaving_out()
    assert list(left.index) == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    np.testing.assert_allclose(left[2, 3], found.loss(TRAIN, [(2, 3)]) - found.loss(TRAIN), rtol=1e-10)
    gradient = found.by_gradient(by_layer=False)
    # the derivative of each example's loss, by a factor of the head's slice of the output projection
    names = {
        "bert": "encoder.layer.{}.attention.output.dense",
        "gpt2": "h.{}.attn.c_proj",
        "llama": "layers.{}.self_attn.o_proj",
    }
    weight = model.get_submodule(names[made[0]].format(1)).weight
    part = np.s_[18:24] if made[0] == "gpt2" else np.s_[:, 18:24]
    with torch.no_grad():
        losses = []
        for factor in (1.02, 0.98):
            kept = weight[part].clone()
            weight[part] *= factor
            losses.append(np.array([found.loss([row]) for row in TRAIN]))
            weight[part] = kept
    np.testing.assert_allclose(gradient[1, 2], np.abs(losses[0] - losses[1]).mean() / 0.04, rtol=0.01)
    normal = found.by_gradient()
    assert (normal.groupby(level="layer").apply(lambda s: (s**2).sum()) < 1).all()  # other heads are in the norm
    ratio = normal / gradient
    np.testing.assert_allclose(ratio[1, 1], ratio[1, 2])


def test_compared(made):
    _, _, found = made
    index = pd.MultiIndex.from_tuples([(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)], names=("layer", "head"))
    scores = {"order": pd.Series(range(5), index)}
    curve = gf.heads.compare(lambda heads: found.accuracy(TEST, heads), scores, random=0).curves
    expected = [found.accuracy(TEST, heads) for heads in ([], [(1, 1)], [(1, 1), (2, 1)], [(1, 1), (2, 1), (2, 2)])]
    assert curve["value"].tolist() == expected


def test_what_is_refused(inputs):
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config_of("bert"), attn_implementation="eager")
    read = gf.Attention.from_transformers(model, inputs, (2, 3), HEADS, progress=False)
    y = inputs["input_ids"][:, 0] > 24
    for arguments, options, message in [
        ((model, y, TRAIN), {}, "read is a BertModel: give gf.Attention"),
        ((read, y[1:], TRAIN), {}, "one label for each of 40 texts"),
        ((read, y, [40]), {}, r"train=.*give indices of some of the 40 inputs"),
        ((read, y, [1, 1]), {}, "each once"),
        ((read, y, [0]), {}, "train has examples of some classes only: give some of all 2"),
        ((read, y, TRAIN), {"readout": "lst"}, "readout='lst'"),
        ((read, y, TRAIN), {"penalty": 0}, "penalty=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            gf.heads.Classifier(*arguments, progress=False, **options)
