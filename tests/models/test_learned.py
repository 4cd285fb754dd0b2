"""Learned attention: its densities against those of frozen attention, their gradients, predictions and bad input."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import gibbsformer as gf
from gibbsformer.models import LearnedPosterior, collapsed, learned_space

P, N_0, S, G = 5, 4, 3, 2
rng = np.random.default_rng(7)
X, X_TEST = rng.standard_normal((P, N_0, S)), rng.standard_normal((6, N_0, S))
RAGGED = [x[:, : 2 + i % 2] for i, x in enumerate(X)]
ONE = {"heads": (2,), "widths": (5, 4)}
CASES = {
    "one layer": {"network": ONE},
    "singular": {"network": {"heads": (2, 2), "widths": (3, 2, 4)}, "readout": "mean"},
    "outputs": {"network": ONE | {"outputs": 2}, "x": RAGGED, "readout": "first"},
    "skips": {"network": {"heads": (1, 2), "widths": (7, 7, 7), "residual": (0.8, 1.2)}, "attention": {"causal": True}},
    "all": {
        "network": {"heads": (1, 2), "widths": (4, 4, 4), "residual": (0.8, 1.2), "outputs": 2},
        "x": RAGGED,
        "readout": "mean",
        "attention": {"causal": True},
    },
    "linear": {"network": {"heads": (2, 1), "widths": (6, 4, 5)}, "attention": {"kind": "linear", "causal": True}},
    "linear, ragged": {"network": ONE, "x": RAGGED, "attention": {"kind": "linear"}},
}


def pairs(heads, seed=1):
    rng = np.random.default_rng(seed)
    return [tuple(rng.standard_normal((2, H, G, N_0)) / 2) for H in heads]


def made(case) -> LearnedPosterior:
    options = CASES[case]
    network = gf.Network(
        N_0, **options["network"], variances=np.linspace(0.7, 1.2, len(options["network"]["heads"]) + 2)
    )
    heads = network.heads
    attention = gf.LearnedAttention(
        pairs(heads), variances=np.linspace(0.3, 0.5, len(heads)), **options.get("attention", {})
    )
    y = rng.standard_normal(P if network.outputs == 1 else (P, network.outputs))
    return attention.posterior(network, options.get("x", X), y, 0.3, readout=options.get("readout", "last"))


@pytest.fixture(scope="module", params=[pytest.param(c, marks=[pytest.mark.slow] * (c != "all")) for c in CASES])
def posterior(request):
    return made(request.param)


def at_random(posterior, target, seed=3):
    with jax.enable_x64(True):
        data = posterior.device_data("float64")
        position = jax.jit(target.initial)(data, jax.random.key(seed))
        heads = {n: np.asarray(a) for n, a in learned_space.heads_at(data, position).items()}
        return data, position, heads


def test_the_density_is_that_of_frozen_attention_times_the_prior(posterior, x64):
    network, target = posterior.network, posterior.target()
    data, position, heads = at_random(posterior, target)
    frozen = posterior.frozen(heads)
    assert isinstance(frozen, gf.Posterior)
    np.testing.assert_allclose(posterior.form.xi(data.inputs, heads), frozen.data.flat, rtol=1e-12, atol=1e-14)
    shape = collapsed.layout(network)
    unit = np.repeat(1 / np.sqrt(network.widths[::-1]), [layer.size for layer in shape.layers])
    density = jax.jit(functools.partial(collapsed.log_density, shape))
    expected = density(frozen.collapsed_data(), jnp.asarray(unit * position["theta"]))
    expected += np.log(unit).sum() + sum(scipy.stats.norm.logpdf(position[n]).sum() for n in heads)
    np.testing.assert_allclose(posterior.log_density(position), expected, rtol=1e-11)
    for name in ("marginal", "weights"):
        target = posterior.target(name)
        data, position, heads = at_random(posterior, target)
        frozen = posterior.frozen(heads)
        other = frozen.target(name)
        weights = {n: w for n, w in position.items() if n not in heads}
        given = frozen.marginal_data("float64") if name == "marginal" else frozen.weight_data("float64")
        expected = jax.jit(other.log_density)(given, weights)
        expected += sum(scipy.stats.norm.logpdf(position[n]).sum() for n in heads)
        np.testing.assert_allclose(jax.jit(target.log_density)(data, position), expected, rtol=1e-11)


@pytest.mark.parametrize("name", LearnedPosterior.targets)
def test_gradients_in_every_argument(posterior, name, x64):
    """Central differences along a direction of each array: step^2 f''' ~ 1e-10 f''', rounding 1e-16 |f| / step."""
    target = posterior.target(name)
    data, position, _ = at_random(posterior, target)
    value = jax.jit(target.log_density)
    slopes = jax.jit(jax.grad(target.log_density, argnums=1))(data, position)
    of_data = jax.jit(jax.grad(lambda d, t, v: target.log_density(d._replace(temperature=t, variances=v), position),
                               argnums=(1, 2)))(data, data.temperature, data.variances)  # fmt: skip
    directions, step = np.random.default_rng(5), 1e-5
    for array in position:
        d = directions.standard_normal(position[array].shape)
        found = [value(data, position | {array: position[array] + s * step * d}) for s in (1, -1)]
        difference = (found[0] - found[1]) / (2 * step)
        assert abs(difference) > 1e-3  # a missing cotangent would be zero
        np.testing.assert_allclose(np.sum(slopes[array] * d), difference, rtol=1e-5, atol=1e-7)
    found = [value(data._replace(temperature=data.temperature + s * step), position) for s in (1, -1)]
    np.testing.assert_allclose(of_data[0], (found[0] - found[1]) / (2 * step), rtol=1e-5)


def test_gradients_of_batches_average_to_the_whole(posterior, x64):
    target = posterior.target("weights")
    data, position, _ = at_random(posterior, target)
    each = jax.jit(jax.vmap(lambda i: target.minibatch_gradient(data, position, i[None])))(jnp.arange(P))
    found = jax.tree.map(lambda gradients: gradients.mean(0), each)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), found,
                 jax.jit(jax.grad(target.log_density, argnums=1))(data, position))  # fmt: skip


def test_records_and_predictions_are_those_of_frozen_attention(posterior, x64):
    data, position, heads = at_random(posterior, posterior.target())
    inputs = posterior.checked_inputs(X_TEST)
    test = posterior.test_array(inputs, "float64")
    record = jax.jit(posterior.target(keep="weights").observe)(data, test, position, jax.random.key(0))
    frozen = posterior.frozen(heads)
    inside = posterior.attention.frozen(heads)
    xi_test = gf.contract(X_TEST, inside, posterior.readout, residual=posterior.network.residual)
    U_1, term = record["U_1"], frozen.collapsed_data().term
    mean, variance = term.predictor(U_1, jnp.asarray(frozen.data.flat), jnp.asarray(xi_test.flat))
    variance = variance if mean.ndim == 1 else np.diagonal(variance, axis1=1, axis2=2)
    np.testing.assert_allclose(record["f_mean"], mean, rtol=1e-8, atol=1e-10)
    found = posterior.predictions({n: np.asarray(record[n])[None] for n in (*heads, "U_1")}, inputs)
    np.testing.assert_allclose(found[0][0], mean, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found[1][0], variance, rtol=1e-8, atol=1e-10)
    names = posterior.predicts_from(record)
    drawn, nothing = posterior.predictions({n: np.asarray(record[n])[None] for n in names}, inputs)
    np.testing.assert_allclose(drawn[0], record["f"], rtol=1e-10, atol=1e-12)
    assert not nothing.any()
    W_1 = gf.models.order_parameters(
        {n: record[n] for n in posterior.network.weight_shapes}, posterior.network.residual
    )
    np.testing.assert_allclose(W_1.U[0], U_1, rtol=1e-8, atol=1e-10)
    described = posterior.target().describe(posterior, 6)
    for name, value in record.items():
        dims = described.variables[name].dims
        assert [len(described.labels[d]) for d in dims] == list(value.shape), name
    back = posterior.target().from_recorded(data, record)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), back, position)


def test_entropies_are_of_the_tokens_that_count():
    posterior = made("outputs")  # ragged, first token
    data, _, heads = at_random(posterior, posterior.target())
    with jax.enable_x64(True):
        found = learned_space.entropy(posterior.form, data.inputs, posterior.form.patterns(data.inputs, heads)[0], True)
        below = learned_space.entropy(
            posterior.form, data.inputs, posterior.form.patterns(data.inputs, heads)[0], False
        )
    first, every = np.zeros(2), np.zeros(2)
    for x in RAGGED:
        for h in range(2):
            a = np.asarray(gf.Attention([(heads["Q_1"], heads["K_1"])])(x[None])[0][0, h])
            each = -np.sum(a * np.log(a), axis=0)
            first[h], every[h] = first[h] + each[0] / P, every[h] + each.mean() / P
    np.testing.assert_allclose(found, first, rtol=1e-6)
    np.testing.assert_allclose(below, every, rtol=1e-6)


def test_a_small_variance_is_frozen_attention(x64):
    attention = gf.LearnedAttention(pairs((2,)), variances=1e-20)
    posterior = attention.posterior(gf.Network(N_0, (2,), (5, 4)), X, np.sign(X[:, 0, 0]), 0.3)
    _, _, heads = at_random(posterior, posterior.target())
    ((Q, K),) = pairs((2,))
    np.testing.assert_allclose(heads["Q_1"], Q, atol=1e-8)
    np.testing.assert_allclose(posterior.frozen(heads).data.xi, gf.contract(X, gf.Attention([(Q, K)])).xi, atol=1e-8)


def test_every_layer_has_its_variance():
    found = gf.LearnedAttention((1, 2), width=2, variances=(0.25, 4.0)).deviations(N_0)
    assert found == {"Q_1": 0.5, "K_1": 0.5, "Q_2": 2.0, "K_2": 2.0}
    rows = gf.LearnedAttention((1, 2), width=2, variances=[[1, 4, 9, 16], [25, 36, 49, 64]]).deviations(N_0)
    np.testing.assert_array_equal(
        [rows[n] for n in ("Q_1", "K_1", "Q_2", "K_2")], [[1, 2, 3, 4]] * 2 + [[5, 6, 7, 8]] * 2
    )


def test_variances_of_their_own_for_each_entry_of_a_token(x64):
    """Heads that look at two of four entries: those entries of Q and K vary, and a file keeps that."""
    attention = gf.LearnedAttention(pairs((2,)), variances=[[0.5, 1e-20, 0.3, 1e-20]])
    posterior = attention.posterior(gf.Network(N_0, (2,), (5, 4)), X, np.sign(X[:, 0, 0]), 0.3)
    data, position, heads = at_random(posterior, posterior.target())
    ((Q, _),) = pairs((2,))
    moved = heads["Q_1"] - Q
    np.testing.assert_allclose(moved[..., [1, 3]], 0, atol=1e-8)
    np.testing.assert_allclose(moved[..., 0], np.sqrt(0.5) * position["Q_1"][..., 0], rtol=1e-12)
    back = learned_space.whitened(data, {n: jnp.asarray(a) for n, a in heads.items()})
    np.testing.assert_allclose(back["Q_1"][..., [0, 2]], position["Q_1"][..., [0, 2]], rtol=1e-12)
    settings, groups = posterior.stored(None)
    arrays = {name: array for content in groups.values() for name, (_, array) in content.items()}
    found, _ = LearnedPosterior.restored(json.loads(json.dumps(settings)), arrays, {})
    assert found.attention.variances == attention.variances


def test_heads_by_a_matrix_become_queries_and_keys():
    W = np.random.default_rng(0).standard_normal((2, N_0, 1)) @ np.random.default_rng(1).standard_normal((2, 1, N_0))
    frozen = gf.Attention([W, (*pairs((1,))[0],)], path_names=("a", "b"))
    found = gf.LearnedAttention.around(frozen, variances=0.1)
    assert (found.width, found.heads, found.path_names) == (G, (2, 1), ("a", "b"))
    for ours, theirs in zip(found.frozen(found.means(N_0))(X), frozen(X), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    best = gf.LearnedAttention.around(gf.Attention([np.diag([3.0, 2, 1, 0.5])[None]]), width=2)
    ((Q, K),) = best.layers
    np.testing.assert_allclose(K[0].T @ Q[0] / np.sqrt(2), np.diag([3.0, 2, 0, 0]), atol=1e-12)
    assert best.deviations(N_0) == {"Q_1": 0.5, "K_1": 0.5}  # 1 / sqrt(N_0)


@pytest.mark.parametrize("case", ["all", "linear"])
def test_a_file_holds_the_posterior(case):
    posterior = made(case)
    m = posterior.network.outputs
    test = posterior.checked_test((RAGGED, np.ones(P) if m == 1 else np.ones((P, m))))
    settings, groups = posterior.stored(test)
    arrays = {name: array for content in groups.values() for name, (_, array) in content.items()}
    found, (inputs, labels) = LearnedPosterior.restored(settings, arrays, {})
    assert repr(found) == repr(posterior)
    assert found.form == posterior.form
    assert found.path_names == posterior.path_names
    np.testing.assert_array_equal(inputs.mask, test[0].mask)
    np.testing.assert_array_equal(labels, test[1])
    with jax.enable_x64(True):
        position = at_random(posterior, posterior.target())[1]
        np.testing.assert_array_equal(found.log_density(position), posterior.log_density(position))


def _posterior(**options):
    attention = gf.LearnedAttention((2,), width=2)
    given = {"network": gf.Network(N_0, (2,), (5, 4)), "x": X, "y": np.sign(X[:, 0, 0]), "temperature": 0.1} | options
    return attention.posterior(**given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gf.LearnedAttention(2, width=2), r"layers=2 must list one entry per layer"),
        (lambda: gf.LearnedAttention((2,)), "width=None: give width=G"),
        (lambda: gf.LearnedAttention((0,), width=2), r"layers\[0\]=0"),
        (lambda: gf.LearnedAttention(("two",), width=2), r"layers\[0\]"),
        (lambda: gf.LearnedAttention([np.ones((2, 3, 3))]), r"layers\[0\] is a ndarray: give a number of heads, or"),
        (lambda: gf.LearnedAttention([(np.ones((2, 3, 4)), np.ones((2, 3, 5)))]), r"layers\[0\] has Q .* and K"),
        (lambda: gf.LearnedAttention(pairs((2,)), width=5), r"and width=5: give all layers one G and N_0"),
        (lambda: gf.LearnedAttention((2,), width=2, variances=0), r"variances.*0"),
        (lambda: gf.LearnedAttention((2,), width=2, variances=(1, 1)), r"variances=\(1, 1\) has 2 entries"),
        (lambda: gf.LearnedAttention((2,), width=2, variances=np.ones((2, 4))), r"variances has shape \(2, 4\) for 1"),
        (lambda: gf.LearnedAttention((2,), width=2, variances=[[1, 0, 1, 1]]), r"variances\[0\]\[1\]=0"),
        (
            lambda: gf.LearnedAttention((2,), 2, [[1, 2]]).posterior(gf.Network(4, (2,), (5, 4)), X, X[:, 0, 0], 0.1),
            r"variances\[0\] of the attention has 2 entries and network has input_width=4: give one for each entry",
        ),
        (lambda: gf.LearnedAttention((2,), width=2, kind="hardmax"), "hardmax' has no gradient .* use kind='softmax'"),
        (lambda: gf.LearnedAttention((2,), width=2, kind="softmx"), "softmx"),
        (lambda: gf.LearnedAttention((2,), width=2, causal="yes"), "causal='yes' must be True or False"),
        (lambda: gf.LearnedAttention.around(pairs((2,))), "attention is a list: give gf.Attention"),
        (lambda: gf.LearnedAttention.around(gf.Attention([np.eye(3)[None]], hardmax=True)), "attention is by hardmax"),
        (lambda: gf.LearnedAttention.around(gf.Attention([lambda x: x])), "attention is by functions or given"),
        (lambda: gf.LearnedAttention((2,), width=2).frozen({"Q_1": 0}), "weights lack K_1"),
        (
            lambda: gf.LearnedAttention((2,), width=2).frozen({"Q_1": np.ones((2, 2, 3)), "K_1": np.ones((2, 1, 3))}),
            r"weights have K_1 of shape \(2, 1, 3\): give \(2, 2, 3\)",
        ),
        (lambda: _posterior(network=gf.Network(N_0, (3,), (5, 4))), r"attention has heads \(2,\) and network has"),
        (lambda: _posterior(network=1), "network is a int: give gf.Network"),
        (lambda: _posterior(network=gf.Network(3, (2,), (5, 4))), r"input width 4 .* give tokens='rows'"),
        (lambda: _posterior(x=X[:3]), "x has 3 examples and y 5 labels"),
        (lambda: _posterior(y=np.ones((5, 2))), "labels of shape"),
        (lambda: _posterior(readout="all"), "readout='all'"),
        (lambda: _posterior(readout=np.array([1, 2])), r"readout=array.* is not known: choose one of last"),
        (lambda: _posterior(temperature=0), "temperature"),
        (lambda: _posterior(x=X * np.nan), "must be finite"),
        (
            lambda: gf.LearnedAttention(pairs((2,))).posterior(gf.Network(3, (2,), (5, 4)), X[:, :3], X[:, 0, 0], 0.1),
            r"attention has Q_1 of shape \(2, 2, 4\) and network has input_width=3",
        ),
        (lambda: _posterior().checked_test(X), "test is a ndarray: give"),
        (lambda: _posterior().checked_test((X, [1, -1])), "test has 2 labels and 5 inputs"),
        (lambda: _posterior().checked_inputs(X[:, :3]), "test inputs has input width 3"),
        (lambda: _posterior().target("colapsed"), "collapsed"),
    ],
)
def test_bad_input_is_one_line(make, message):
    with pytest.raises(gf.models.learned.checks.InputError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_the_solvable_network_is_needed_elsewhere():
    posterior = _posterior()
    for refused in (gf.theory.solve, lambda p: gf.evidence(p, key=jax.random.key(0), method="importance")):
        with pytest.raises(ValueError, match=r"LearnedPosterior: freeze its attention, with posterior.frozen"):
            refused(posterior)
    for kernel in ("gibbs", "split", "collapsed"):
        with pytest.raises(ValueError, match=f"kernel='{kernel}' needs a target .* choose another kernel, such as"):
            gf.sample(posterior, kernel, key=jax.random.key(0))
