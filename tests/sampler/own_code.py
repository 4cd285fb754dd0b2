"""A kernel and a posterior in a module of a user's own: what ``gf.open`` and ``gf.resume`` import."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gibbsformer.models.target import Records, Target, Variable
from gibbsformer.sampler.kernels import Kernel


class State(NamedTuple):
    position: dict
    log_density: jax.Array


@dataclass(frozen=True, kw_only=True)
class RandomWalk(Kernel):
    """Metropolis with Gaussian steps."""

    scale: float = 0.5
    name: ClassVar[str] = "random_walk"
    needs: ClassVar[tuple[str, ...]] = ()
    statistics: ClassVar[dict] = {"accepted": "sum"}

    def init(self, setting, key, position):
        return State(position, setting.log_density(position))

    def step(self, setting, key, index, state):
        key_move, key_accept = jax.random.split(key)
        leaves, tree = jax.tree.flatten(state.position)
        keys = jax.random.split(key_move, len(leaves))
        moved = [x + self.scale * jax.random.normal(k, x.shape, x.dtype) for x, k in zip(leaves, keys, strict=True)]
        position = tree.unflatten(moved)
        log_density = setting.log_density(position)
        accept = jnp.log(jax.random.uniform(key_accept)) < log_density - state.log_density
        new = jax.tree.map(lambda a, b: jnp.where(accept, a, b), State(position, log_density), state)
        return new, {"lp": new.log_density, "accepted": accept.astype(jnp.int32)}

    def position(self, state):
        return state.position


@lru_cache
def regression_target(width: int) -> Target:
    def log_density(data, position):
        x, y, T = data
        return -0.5 * jnp.sum((x @ position["w"] - y) ** 2) / T - 0.5 * jnp.sum(position["w"] ** 2)

    def observe(data, test, position, key):
        record = position | {"norm": jnp.sum(position["w"] ** 2)}
        return record if test is None else record | {"f": test @ position["w"]}

    def describe(posterior, test_examples):
        variables = {
            "w": Variable("posterior", ("input",), "weight"),
            "norm": Variable("posterior", (), "monitored"),
            "f": Variable("posterior_predictive", ("test_example",), "prediction"),
        }
        return Records(variables, {"input": np.arange(width), "test_example": np.arange(test_examples)})

    return Target(
        name="weights",
        data=lambda p, dtype: (jnp.asarray(p.x, dtype), jnp.asarray(p.y, dtype), jnp.asarray(p.temperature, dtype)),
        initial=lambda data, key: {"w": jax.random.normal(key, (width,), data[1].dtype)},
        log_density=log_density,
        observe=observe,
        describe=describe,
        from_weights=lambda w: w,
    )


@dataclass(frozen=True, eq=False)
class Regression:
    """Bayesian linear regression y ~ N(x w, T), w ~ N(0, I)."""

    x: np.ndarray
    y: np.ndarray
    temperature: float
    targets: ClassVar[tuple[str, ...]] = ("weights",)

    def target(self, name, keep=None):
        return regression_target(self.x.shape[1])

    def checked_test(self, test):
        return test

    def test_array(self, inputs, dtype):
        return jnp.asarray(inputs, dtype)

    def stored(self, test):
        arrays = {
            "constant_data": {"x": (("example", "input"), self.x)},
            "observed_data": {"y": (("example",), self.y)},
        }
        if test is not None:
            arrays["constant_data"]["x_test"] = (("test_example", "input"), test[0])
            arrays["observed_data"]["y_test"] = (("test_example",), test[1])
        return {"temperature": self.temperature}, arrays

    @classmethod
    def restored(cls, settings, arrays, labels):
        test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
        return cls(arrays["x"], arrays["y"], settings["temperature"]), test
