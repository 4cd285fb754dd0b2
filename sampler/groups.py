"""ArviZ groups of a run that are made when they are asked for: log-likelihoods, new labels, and the labels seen.

Every run of a ``gf.Posterior`` has order parameters, given which f is Gaussian, so that the density of one label given
all others is known in closed form, and f can be drawn exactly wherever it was not recorded.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..core import checks
from ..core.numerics import numerics
from ..models import Posterior
from ..models.pointwise import basis, leave_one_out, path_weights
from ..models.target import STATE
from ..theory import outputs

LEAVE_ONE_OUT, GIVEN_F = "leave_one_out", "f"
FORMS = (LEAVE_ONE_OUT, GIVEN_F)
_BLOCK = 64 * 2**20  # bytes of path weights made at a time


def log_likelihood(run, form: bool | str, key) -> xr.Dataset:
    """log p of each training label, [chain, draw, example]: one of ``FORMS``, or True for the run's own.

    Raises:
        ValueError: another form, one that the posterior does not have, or a key that is missing.
    """
    solvable = isinstance(run.posterior, Posterior)
    if isinstance(form, bool):
        form = LEAVE_ONE_OUT if solvable else GIVEN_F
    form = checks.nearest("log_likelihood", form, FORMS)
    if form == LEAVE_ONE_OUT and not solvable:
        raise checks.InputError(
            f"log_likelihood={form!r} needs the order parameters of a gf.Posterior: use log_likelihood='f'"
        )
    values = _left_out(run) if form == LEAVE_ONE_OUT else _given_f(run, key)
    about = {"form": "log p(y_i | y_-i, U)" if form == LEAVE_ONE_OUT else "log p(y_i | f_i)"}
    found = {"y": (("chain", "draw", "example"), values, about)}
    return xr.Dataset(found, coords=run.index | {"example": np.arange(values.shape[2])})


def new_labels(run, key) -> xr.Dataset:
    """Labels of the training examples, and of test examples where there are some, drawn anew: f + N(0, T).

    Raises:
        ValueError: no key, or outputs that the run cannot compute.
    """
    checks.random_key("key", key)
    key_train, key_test = jax.random.split(jax.random.fold_in(key, 1))
    f = outputs_of(run, key)
    drawn = {"y": _with_noise(f[0], run.posterior.temperature, key_train)}
    if len(f) > 1:
        drawn["y_test"] = _with_noise(f[1], run.posterior.temperature, key_test)
    observed = run.observed
    labels = {d: run.records.labels[d] for name in drawn for d in observed[name].dims if d in run.records.labels}
    arrays = {name: (("chain", "draw", *observed[name].dims), values) for name, values in drawn.items()}
    return xr.Dataset(arrays, coords=run.index | labels | {"example": np.arange(len(f[0][0, 0]))})


def outputs_of(run, key) -> list[np.ndarray]:
    """f of every draw on the training examples, and on the test examples of a run with some, [chain, draw, P, ..].

    Of recorded weights, or drawn exactly given U and the labels where none were recorded.
    """
    posterior, shape = run.posterior, (run.chains, run.draws)
    tests = [] if run.test is None else [run.test[0]]
    if not isinstance(posterior, Posterior):
        if not run.names("weight"):
            raise checks.InputError("this run kept no weights, which f is computed from: sample with keep='weights'")
        own = hasattr(posterior, "predicts_from")
        names = posterior.predicts_from(run.variables) if own else run.names("weight")
        weights = {name: np.asarray(run.variables[name]) for name in names}
        flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in weights.items()}
        found = [posterior.predictions(flat, inputs) for inputs in (posterior.x, *tests)]
        if own and any(np.any(variance) for _, variance in found):
            raise checks.InputError("this run kept no draws of f, only its law: use gf.lift(run, key=key) first")
        found = [f[0] if own else f for f in found]
    else:
        posterior.check_examples("f of each training example")
        found = _outputs_of_paths(run, key, [posterior.data, *tests])
    return [values.reshape(*shape, *values.shape[1:]) for values in found]


def _outputs_of_paths(run, key, places) -> list[np.ndarray]:
    if not run.names(STATE):
        B = np.asarray(run.variables["path_weights"], np.float64)
        B = B.reshape(-1, *B.shape[2:])
        return [outputs(B, inputs) for inputs in places]
    checks.random_key("key", key)
    posterior = run.posterior
    train = posterior.reduction.data.flat
    U = _flat(run.order_parameters.U[0])
    keys = jax.random.split(key, len(U))
    size = max(1, min(len(U), _BLOCK // (8 * U.shape[-1] * train.shape[1])))
    parts: list[list[np.ndarray]] = [[] for _ in places]
    with numerics():
        term = posterior.collapsed_data().term
        for start in range(0, len(U), size):
            index = np.minimum(np.arange(start, start + size), len(U) - 1)  # of one shape
            B = np.asarray(_draw_path_weights(keys[index], term, jnp.asarray(train), jnp.asarray(U[index])))
            for part, inputs in zip(parts, places, strict=True):
                part.append(outputs(B[: len(U) - start], inputs))
    return [np.concatenate(part) for part in parts]


def _left_out(run) -> np.ndarray:
    posterior = run.posterior
    posterior.check_examples("the density of each training label")
    U = _flat(run.order_parameters.U[0])
    with numerics():
        term, over = posterior.collapsed_data().term, jax.tree.map(jnp.asarray, basis(posterior))
        values = np.asarray(_leave_each_out(term, over, jnp.asarray(U)))
    return values.reshape(run.chains, run.draws, -1)


def _given_f(run, key) -> np.ndarray:
    f, T = outputs_of(run, key)[0], run.posterior.temperature
    each = -0.5 * (f - run.posterior.y) ** 2 / T - 0.5 * np.log(2 * np.pi * T)
    return each.reshape(*each.shape[:3], -1).sum(3)


def _with_noise(f: np.ndarray, temperature: float, key) -> np.ndarray:
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    return f + np.sqrt(temperature) * rng.standard_normal(f.shape)


def _flat(U: np.ndarray) -> np.ndarray:
    return U.reshape(-1, *U.shape[2:])


@jax.jit
def _draw_path_weights(keys, term, xi, U):
    return jax.lax.map(lambda one: path_weights(one[0], term, xi, one[1]), (keys, U))


@jax.jit
def _leave_each_out(term, over, U):
    return jax.lax.map(lambda u: leave_one_out(term, over, u), U)
