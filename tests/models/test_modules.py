"""Modules of Equinox and Flax as models: the module's own outputs at its own arrays, by name."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf

rng = np.random.default_rng(0)
X = rng.standard_normal((6, 3))
Y = rng.standard_normal(6)


def outputs(model, weights, x=X):
    """f [P] that the posterior computes at given weights."""
    assert weights.keys() == model.shapes.keys()
    batch = {name: np.asarray(each)[None] for name, each in weights.items()}
    return model.posterior(x, Y, 0.1).predictions(batch, x)[0]


def test_equinox(tmp_path):
    eqx = pytest.importorskip("equinox")
    module = eqx.nn.MLP(3, "scalar", 5, 2, key=jax.random.key(0))
    model = gf.Model.from_equinox(module, variances=lambda name, shape: 1 / shape[-1])
    assert model.shapes["layers.0.weight"] == (5, 3)
    assert model.variances["layers.0.weight"] == 1 / 3
    weights = {f"layers.{i}.{part}": getattr(module.layers[i], part) for i in range(3) for part in ("weight", "bias")}
    np.testing.assert_allclose(outputs(model, weights), jax.vmap(module)(X), rtol=1e-6)  # float32
    doubled = gf.Model.from_equinox(module, variances=1.0, forward=lambda m, x: 2 * jax.vmap(m)(x))
    np.testing.assert_allclose(outputs(doubled, weights), 2 * jax.vmap(module)(X), rtol=1e-6)  # float32
    options = {"key": jax.random.key(1), "chains": 2, "warmup": 5, "draws": 9, "progress": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.ConvergenceWarning)
        gf.sample(model.posterior(X, Y, 0.1), gf.HMC(integration_steps=2), **options, store=tmp_path / "a.h5")
        run = gf.resume(tmp_path / "a.h5", 12, progress=False)
    assert run.variables["layers.1.bias"].shape == (2, 12, 5)
    assert "layers.1.bias" in run.to_arviz().posterior
    with pytest.raises(ValueError, match=r"module is a function: give an equinox.Module"):
        gf.Model.from_equinox(lambda x: x, variances=1.0)


def test_flax_linen():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(linen.tanh(linen.Dense(4)(x)))

    module = Net()
    kept = module.init(jax.random.key(0), jnp.asarray(X))
    model = gf.Model.from_flax(module, X, variances=1.0)
    weights = {f"{layer}.{part}": each for layer, parts in kept["params"].items() for part, each in parts.items()}
    expected = module.apply(kept, jnp.asarray(X))[:, 0]
    np.testing.assert_allclose(outputs(model, weights), expected, rtol=1e-5)  # float32
    with pytest.raises(ValueError, match=r"x=None: give inputs of a flax.linen module"):
        gf.Model.from_flax(module, variances=1.0)
    with pytest.raises(ValueError, match=r"module is a int: give a flax.linen.Module or"):
        gf.Model.from_flax(3, X, variances=1.0)


def test_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.below, self.above = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)

        def __call__(self, x):
            return self.above(nnx.tanh(self.below(x)))

    module = Net(nnx.Rngs(0))
    model = gf.Model.from_flax(module, variances=1.0)
    weights = {
        f"{layer}.{part}": getattr(getattr(module, layer), part)[...]
        for layer in ("below", "above")
        for part in ("kernel", "bias")
    }
    before = np.asarray(module(jnp.asarray(X)))[:, 0]
    np.testing.assert_allclose(outputs(model, weights), before, rtol=1e-5)  # float32
    outputs(model, {name: 2 * each for name, each in weights.items()})
    np.testing.assert_array_equal(module(jnp.asarray(X))[:, 0], before)  # the module itself is left alone
