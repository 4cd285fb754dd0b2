"""Networks in a module of a user's own, which files name."""

import jax
import jax.numpy as jnp

import gibbsformer as gf


def mlp(w, x, slope=1.0):
    """One hidden layer of tanh."""
    return jnp.tanh(slope * x @ w["W"].T) @ w["a"]


def norm(w):
    """An observable."""
    return {"norm": jnp.sum(w["a"] ** 2)}


def log_laplace(w):
    """A prior of double-exponential weights."""
    return -sum(jnp.sum(jnp.abs(each)) for each in w.values())


def draw_laplace(key):
    """A draw of it."""
    one, two = jax.random.split(key)
    return {"W": jax.random.laplace(one, (4, 3)), "a": jax.random.laplace(two, (4,))}


def model(forward=mlp, **options):
    """A small network of ``forward``."""
    options = {"observables": norm, "variances": {"W": 1 / 3, "a": 0.5}} | options
    return gf.Model(shapes={"W": (4, 3), "a": (4,)}, forward=forward, **options)
