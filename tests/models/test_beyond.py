"""The shipped networks beyond the solvable one, against a loop over examples, layers, heads and tokens in NumPy."""

import math

import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models.attention import Attention
from gibbsformer.models.network import forward, path_weights

P, N_0, S, N = 3, 4, 5, 6
rng = np.random.default_rng(7)
X = rng.standard_normal((P, N_0, S))
W = (rng.standard_normal((2, N_0, N_0)), rng.standard_normal((1, N_0, N_0)))


def softmax(v):
    e = np.exp(v - v.max())
    return e / e.sum()


def loop(w, x, layers, scale=0.0, frozen=None, residual=0.0, readout="last", phi=None, nonlinear=False):
    """f of one example x [N_0, S], token by token."""
    z = [w["V_0"] @ x[:, t] / math.sqrt(len(x)) for t in range(x.shape[1])]
    for l in range(1, layers + 1):
        V = w[f"V_{l}"]
        H, width = V.shape[:2]
        u = []
        for t in range(len(z)):
            out = residual * z[t]
            for h in range(H):
                logits = np.zeros(len(z))
                for s in range(len(z)):
                    if frozen is not None:
                        logits[s] += x[:, s] @ frozen[l - 1][h] @ x[:, t]
                    if scale:
                        K, Q = w[f"K_{l}"][h], w[f"Q_{l}"][h]
                        logits[s] += scale * (K @ z[s]) @ (Q @ z[t]) / (width * math.sqrt(len(K)))
                for s, a in enumerate(softmax(logits)):
                    out = out + V[h] @ (phi(z[s]) if nonlinear else z[s]) * a / math.sqrt(H * width)
            u.append(out)
        z = u
        if f"C_{l}" in w:
            C, B = w[f"C_{l}"], w[f"B_{l}"]
            z = [residual * v + B @ phi(C @ v / math.sqrt(width)) / math.sqrt(len(C)) for v in u]
    read = {"last": z[-1], "first": z[0], "mean": np.mean(z, axis=0)}[readout]
    return w["a"] @ read / math.sqrt(len(read))


CASES = {
    "activations": (gf.models.attention_from_activations, {}, {"scale": 1.0}),
    "activations, residual, frozen part, mean": (
        gf.models.attention_from_activations,
        {"scale": 0.7, "residual": 0.5, "frozen": W, "readout": "mean", "query_width": 3, "outputs": 2},
        {},
    ),
    "mlp": (gf.models.with_mlp, {"mlp_width": 7, "activation": "tanh", "residual": 1.0, "frozen": W}, {}),
    "mlp, activations": (
        gf.models.with_mlp,
        {"mlp_width": 3, "activation": "relu", "scale": 2.0, "readout": "first", "nonlinear_values": True},
        {},
    ),
    "non-linear values": (gf.models.with_mlp, {"nonlinear_values": True, "activation": "tanh", "frozen": W}, {}),
}
PHI = {"tanh": np.tanh, "relu": lambda v: np.maximum(v, 0)}


@pytest.mark.parametrize("case", CASES)
def test_outputs_equal_a_loop_over_tokens(case):
    make, options, implied = CASES[case]
    model = make(N_0, (2, 1), N, **options)
    with jax.enable_x64(True):
        weights = model.draw(jax.random.key(3))
        found = np.asarray(model.outputs(weights, X))
    host = {name: np.asarray(w) for name, w in weights.items()}
    given = {k: v for k, v in (options | implied).items() if k in ("scale", "frozen", "residual", "readout")}
    given |= {"phi": PHI.get(options.get("activation")), "nonlinear": options.get("nonlinear_values", False)}
    expected = np.stack([loop(host, x, 2, **given) for x in X])
    assert found.shape == ((P, 2) if options.get("outputs") else (P,))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)  # float64


def test_without_what_depends_on_activations_it_is_the_solvable_network():
    """The same function as contracted paths with frozen attention compute (docs/model.md, sections 1 and 2)."""
    model = gf.models.attention_from_activations(N_0, (2, 1), N, scale=0, frozen=W)
    assert list(model.shapes) == ["V_0", "V_1", "V_2", "a"]
    data = gf.contract(X, Attention([W[0], W[1]]), readout="last")
    with jax.enable_x64(True):
        weights = model.draw(jax.random.key(0))
        found, expected = model.outputs(weights, X), forward(path_weights(weights), data.flat)
    np.testing.assert_allclose(found, expected, rtol=1e-11)  # float64


def test_a_file_names_them_with_their_options(tmp_path):
    """Equal models are one target; the file of one opens where nobody has the model."""
    make = lambda: gf.models.with_mlp(N_0, (2,), 3, mlp_width=2, residual=0.5)  # noqa: E731
    assert make() == make()
    assert make() != gf.models.with_mlp(N_0, (2,), 3, mlp_width=2, residual=0.6)
    settings, _ = make().posterior(X, [1.0, 2, 3], 0.5).stored(None)
    kept = settings["model"]["functions"]["forward"]
    assert kept["function"] == "gibbsformer.models.beyond:token_outputs"
    assert kept["options"]["residual"] == 0.5
    frozen = gf.models.attention_from_activations(50, (2,), 3, frozen=[np.ones((2, 50, 50))])
    assert (
        "lost" in frozen.posterior(np.ones((2, 50, 4)), [1.0, 2], 0.5).stored(None)[0]["model"]["functions"]["forward"]
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: gf.models.with_mlp(4, (2,), 3), "leave all layers linear: give one of them"),
        (lambda: gf.models.with_mlp(4, (2,), 3, mlp_width=0), "mlp_width=0 must be a whole number"),
        (lambda: gf.models.with_mlp(4, (2,), 3, mlp_width=2, activation="gleu"), "did you mean 'gelu'"),
        (lambda: gf.models.attention_from_activations(4, (), 3), "heads=.* is empty: give"),
        (lambda: gf.models.attention_from_activations(4, (2,), 3, readout="end"), "readout='end' is not known"),
        (lambda: gf.models.attention_from_activations(4, (2,), 3, residual=-1), "residual=-1 must be"),
        (lambda: gf.models.attention_from_activations(4, (2,), 3, frozen=W), "frozen has arrays of shapes .*: give"),
    ],
)
def test_bad_options_are_one_line(make, said):
    with pytest.raises(ValueError, match=said) as refused:
        make()
    assert "\n" not in str(refused.value)
