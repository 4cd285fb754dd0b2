"""Scores of heads against derivatives, loops and networks learned without a head; their comparison."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import gibbsformer as gf
from gibbsformer.models.network import forward, path_weights

pytestmark = pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")


@pytest.fixture(scope="module")
def theory(small):
    return gf.theory.solve(small.posterior)


@pytest.fixture(scope="module")
def run(small):
    return gf.sample(small.posterior, key=jax.random.key(5), warmup=50, draws=40, progress=False)


def of_layers(small):
    return [(l, h) for l, H in enumerate(small.network.heads, 1) for h in range(1, H + 1)]


def test_path_scores_by_a_loop(small, theory):
    U = np.abs(theory.U[0])
    scores = gf.heads.path_scores(theory)
    expected = np.array(
        [sum(U[i, j] for i in range(len(U)) for j in range(len(U)) if k in (i, j)) for k in range(len(U))]
    )
    np.testing.assert_allclose(scores, expected / expected.max(), rtol=1e-12)
    assert tuple(scores.index) == small.posterior.data.path_names
    with pytest.raises(ValueError, match="give a theory or a run"):
        gf.heads.path_scores(small.host_weights)


def test_gradient_of_weights_is_the_derivative(small):
    """Of the squared error of each example in a factor of each head's value weights."""
    weights, (inputs, y) = small.host_weights, small.test

    def loss(factors, xi, label):
        scaled = {k: jnp.asarray(v) for k, v in weights.items()}
        for l, m in enumerate(factors, 1):
            scaled[f"V_{l}"] = scaled[f"V_{l}"] * m[:, None, None]
        return (forward(path_weights(scaled), xi[None])[0] - label) ** 2 / 2

    with jax.enable_x64(True):
        ones = [jnp.ones(H) for H in small.network.heads]
        each = [jax.grad(loss)(ones, xi, label) for xi, label in zip(inputs.flat, y, strict=True)]
    layers = [np.mean(np.abs([np.asarray(g[l]) for g in each]), 0) for l in range(len(ones))]
    plain = gf.heads.by_gradient(weights, inputs, y, by_layer=False)
    np.testing.assert_allclose(plain, np.concatenate(layers), rtol=1e-10)
    assert list(plain.index) == of_layers(small)
    normal = gf.heads.by_gradient(weights, inputs, y)
    np.testing.assert_allclose(normal, np.concatenate([g / np.linalg.norm(g) for g in layers]), rtol=1e-10)


def test_gradient_of_mean_predictors(small, theory, run):
    inputs, y = small.test
    for source in (theory, run):
        f = gf.predict(source, inputs).mean
        scores = gf.heads.by_gradient(source, inputs, y, by_layer=False)
        paths = list(np.ndindex(*small.network.heads))
        for l, h in of_layers(small):
            kept = np.array([p[l - 1] == h - 1 for p in paths]).reshape(small.network.heads)
            through = gf.predict(source, gf.PathInputs(inputs.xi * kept)).mean
            np.testing.assert_allclose(scores[l, h], np.mean(np.abs((f - y) * through)), rtol=1e-10)


def test_leaving_out_by_hand(small, theory):
    inputs, y = small.test
    scores = gf.heads.by_leaving_out(theory, inputs, y)
    of_weights = gf.heads.by_leaving_out(small.host_weights, inputs, y)
    whole = np.mean((gf.predict(theory, inputs).mean - y) ** 2)
    for l, h in of_layers(small):
        if small.network.heads[l - 1] == 1:
            assert np.isnan(scores[l, h])
            continue
        without = np.mean((gf.predict(gf.prune(theory, [(l, h)]), inputs).mean - y) ** 2)
        np.testing.assert_allclose(scores[l, h], without - whole, rtol=1e-8, atol=1e-12)

        def error(weights):
            with jax.enable_x64(True):
                B = path_weights({k: jnp.asarray(v) for k, v in weights.items()})
                return float(jnp.mean((forward(B, jnp.asarray(inputs.flat)) - y) ** 2))

        expected = error(gf.prune(small.host_weights, [(l, h)])) - error(small.host_weights)
        np.testing.assert_allclose(of_weights[l, h], expected, rtol=1e-8, atol=1e-12)
    with pytest.raises(ValueError, match="2 labels and data has 4 examples: give one label each"):
        gf.heads.by_leaving_out(theory, inputs, y[:2])


def test_evidence_is_of_the_other_heads(small, monkeypatch):
    """With a made-up evidence of each network, which says what paths it has."""
    names = small.posterior.data.path_names

    def made_up(of, **options):
        value = float(sum(2.0 ** names.index(name) for name in of.data.path_names))
        return SimpleNamespace(log_evidence=value, error=0.3)

    monkeypatch.setattr("gibbsformer.heads.scores.evidence", made_up)
    found = gf.heads.by_evidence(small.posterior, key=jax.random.key(0))
    paths = list(np.ndindex(*small.network.heads))
    for l, h in of_layers(small):
        lost = sum(2.0**i for i, path in enumerate(paths) if path[l - 1] == h - 1)
        np.testing.assert_allclose(found.loc[(l, h)], [lost, np.hypot(0.3, 0.3)])
    left = found.drop(index=(1, 1)).reset_index()
    assert list(left.columns) == ["layer", "head", "score", "error"]


@pytest.mark.slow
def test_evidence_without_a_head():
    """A head that repeats another is not missed; the only one that sees the labels is."""
    rng = np.random.default_rng(0)
    y = rng.choice([-1.0, 1.0], 30)
    seeing, blind = rng.standard_normal((30, 4)) * 0.3 + y[:, None], rng.standard_normal((30, 4))
    xi = np.stack([seeing, blind, blind], -1) / 4
    posterior = gf.Posterior(gf.Network(4, (3,), (20, 20)), gf.PathInputs(xi), y, 0.1)
    found = gf.heads.by_evidence(posterior, key=jax.random.key(0), particles=64, method="importance")
    assert found["score"].idxmax() == (1, 1)
    assert found.loc[(1, 1), "score"] > 5
    whole = gf.evidence(posterior, key=jax.random.key(0), particles=64, method="importance")
    without = gf.evidence(posterior.select([1, 2]), key=jax.random.key(0), particles=64, method="importance")
    assert found.loc[(1, 1), "score"] == whole.log_evidence - without.log_evidence
    twins = found.loc[[(1, 2), (1, 3)], ["score", "error"]]
    assert abs(twins["score"].diff().iloc[1]) < 5 * np.hypot(*twins["error"])


def test_comparison(small, theory, run):
    inputs, y = small.test[0], np.sign(small.test[1])
    scores = {"order parameter": gf.head_scores(theory), "gradient": gf.heads.by_gradient(theory, inputs, y)}
    for source in (theory, run, small.host_weights):
        found = gf.heads.compare(source, scores, (inputs, y), random=3)
        for name, each in scores.items():
            curve = gf.pruning_curve(source, inputs, y, gf.pruning_order(each))
            mine = found.curves.query("score == @name")["value"].to_numpy()
            np.testing.assert_allclose(mine, curve, rtol=1e-10)  # sums in another order
            area = (curve.iloc[0] / 2 + curve.iloc[1:-1].sum() + curve.iloc[-1] / 2) / (len(curve) - 1)
            np.testing.assert_allclose(found.areas.loc[0, name], area)
        assert found.measure == gf.pruning_curve(source, inputs, y, []).name
    both = gf.heads.compare(theory, scores, (inputs, y), random=3)
    both = both.join(gf.heads.compare(theory, scores, (inputs, y), random=3, seed=9))
    assert list(both.areas.index) == [0, 1]
    table = both.table
    assert set(table.index) == {*scores, "random"}
    np.testing.assert_allclose(table.loc["random", ["over_random", "its_error"]].astype(float), 0)
    np.testing.assert_allclose(table.loc["gradient", "error"], both.areas["gradient"].std(ddof=1) / np.sqrt(2))


def test_comparison_by_a_function_of_the_heads():
    """The sum of the heads that are left: only the right order has the largest area."""
    index = pd.MultiIndex.from_product([(1, 2), (1, 2, 3)], names=("layer", "head"))
    values = pd.Series([3.0, 1, 2, 6, 5, 4], index)
    asked = []

    def left(removed):
        asked.append(tuple(removed))
        return values.sum() - sum(values[head] for head in removed)

    found = gf.heads.compare(left, {"right": values, "wrong": -values}, random=5)
    assert found.curves.query("score == 'right'")["value"].tolist() == [21, 20, 18, 14, 9]
    assert len(asked) == len(set(asked)), "each set of heads is tried once"
    assert found.areas.idxmax(axis=1)[0] == "right"
    assert found.areas.idxmin(axis=1)[0] == "wrong"


def test_what_cannot_be_compared(small, theory):
    scores = {"U": gf.head_scores(theory)}
    with pytest.raises(ValueError, match="test=None: give"):
        gf.heads.compare(theory, scores)
    with pytest.raises(ValueError, match="must be a dict"):
        gf.heads.compare(theory, {}, small.test)
    with pytest.raises(ValueError, match="give a pandas Series"):
        gf.heads.compare(theory, {"U": [1.0]}, small.test)
    with pytest.raises(ValueError, match="one score for each head"):
        gf.heads.compare(theory, {"U": scores["U"].iloc[1:]}, small.test)
    with pytest.raises(ValueError, match="leave test out"):
        gf.heads.compare(lambda removed: 1.0, scores, small.test)
    one = gf.heads.compare(lambda removed: 1.0, scores, random=0)
    with pytest.raises(ValueError, match="other scores or heads"):
        one.join(gf.heads.compare(lambda removed: 1.0, {"V": scores["U"]}, random=0))


def test_all_scores(small, theory, run, monkeypatch):
    """Each is that of its own function, of the network that is pruned or of the posterior."""
    lost = pd.DataFrame({"score": gf.head_scores(theory), "error": 0.0})
    monkeypatch.setattr("gibbsformer.heads.scores.by_evidence", lambda posterior, **options: lost)
    data, y = small.posterior.data, small.posterior.y
    for network in (None, run, small.host_weights):
        found = gf.heads.all_scores(small.posterior, network, key=jax.random.key(0), run=run, progress=False)
        source = theory if network is None else network
        expected = {
            "order parameter, theory": gf.head_scores(theory),
            "order parameter, exact posterior": gf.head_scores(run),
            "evidence": lost["score"],
            "gradient": gf.heads.by_gradient(source, data, y, by_layer=False),
            "gradient, divided by layer": gf.heads.by_gradient(source, data, y),
            "leave one out": gf.heads.by_leaving_out(source, data, y),
        }
        if isinstance(network, dict):
            expected["order parameter, weights"] = gf.head_scores(network)
        assert set(found) == set(expected)
        for name, each in expected.items():
            pd.testing.assert_series_equal(found[name], each, check_names=False, rtol=1e-8)
    pruned = gf.heads.compare(small.host_weights, found, (data, np.sign(y)), random=2)
    assert set(pruned.areas) == {*expected, "random"}


def test_all_scores_of_named_classes(small, monkeypatch):
    """The run is drawn, and the labels of the weights are the user's."""
    monkeypatch.setattr("gibbsformer.heads.scores._DRAWS", 30)
    made_up = lambda of, **options: SimpleNamespace(log_evidence=of.data.paths, error=0.0)  # noqa: E731
    monkeypatch.setattr("gibbsformer.heads.scores.evidence", made_up)
    y = np.where(small.posterior.y > 0, "yes", "no")
    posterior = gf.Posterior(small.network, small.posterior.data, y, 0.3)
    found = gf.heads.all_scores(posterior, small.host_weights, key=jax.random.key(0), progress=False)
    signs = np.sign(small.posterior.y)
    expected = gf.heads.by_leaving_out(small.host_weights, posterior.data, signs)
    pd.testing.assert_series_equal(found["leave one out"], expected, rtol=1e-8)
    assert found["evidence"].tolist() == [3, 3, 2, 2, 2]  # paths through each head of layers of 2 and 3
    other = dataclasses.replace(small.posterior, network=dataclasses.replace(small.network, widths=(9, 9, 9)))
    run = gf.sample(other, key=jax.random.key(0), chains=1, warmup=2, draws=2, progress=False)
    with pytest.raises(ValueError, match="give a run of this posterior"):
        gf.heads.all_scores(posterior, key=jax.random.key(0), run=run)
    reduced = gf.Posterior(small.network, gf.reduce([(small.posterior.data.xi, signs)] * 9), temperature=0.3)
    with pytest.raises(ValueError, match="give a posterior of the examples"):
        gf.heads.all_scores(reduced, key=jax.random.key(0))
