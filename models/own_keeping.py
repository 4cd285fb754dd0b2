"""What a sample file holds of the posterior of a user's own model: arrays, and where its functions can be found.

A file does not hold code. It has the names of functions that can be imported, and the log-density at one draw of the
prior, by which the model is recognised: a function that changed since, or another one of that name, is refused.
Functions without a name are found again in the process that made them, or are given (``model=``).
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..core import checks, functions
from . import labels
from .own import FUNCTIONS, Missing, Model

_SAME = 1e-4  # relative difference of a log-density that rounding may make between machines
_KNOWN: list[weakref.ref[Model]] = []  # models of this process


def stored(posterior, test) -> tuple[dict[str, Any], dict[str, dict]]:
    """``ModelPosterior.stored``."""
    settings = {
        "model": _described(posterior.model),
        "reference": posterior.reference,
        "temperature": posterior.temperature,
        "classes": list(posterior.classes),
    }
    axes = [f"x_dim_{i}" for i in range(1, posterior.x.ndim)]
    each = ("output",) * (posterior.y.ndim - 1)
    arrays: dict[str, dict] = {
        "constant_data": {"x": (("example", *axes), posterior.x)},
        "observed_data": {"y": (("example", *each), posterior.y)},
    }
    if test is not None:
        arrays["constant_data"]["x_test"] = (("test_example", *axes), test[0])
        arrays["observed_data"]["y_test"] = (("test_example", *each), posterior.encoded(test[1]))
    return settings, arrays


def restored(kind, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], model: Model | None):
    """``ModelPosterior.restored``."""
    if model is not None and not isinstance(model, Model):
        raise checks.InputError(f"model is a {type(model).__name__}: give the gf.Model(..) that was sampled")
    classes = tuple(settings["classes"])
    y = labels.decoded(arrays["y"], classes)
    make = partial(kind, x=arrays["x"], y=y, temperature=settings["temperature"], classes=classes)
    posterior = _of_a_given_model(make, settings, model) if model is not None else _of_the_file(make, settings)
    if "x_test" not in arrays:
        return posterior, None
    return posterior, (arrays["x_test"], labels.named(arrays["y_test"], classes))


def remember(model: Model) -> None:
    """Have a model at hand for files that cannot say where its functions are, as long as somebody uses it."""
    if not any(each() is model for each in _KNOWN):
        _KNOWN[:] = [each for each in _KNOWN if each() is not None] + [weakref.ref(model)]


def _described(model: Model) -> dict[str, Any]:
    given = {name: value for name in FUNCTIONS if (value := getattr(model, name)) is not None}
    return {
        "shapes": [[name, list(shape)] for name, shape in model.shapes.items()],  # the order decides how keys are split
        "variances": None if model.variances is None else list(model.variances.values()),  # type: ignore[union-attr]
        "functions": {name: functions.stored(value) for name, value in given.items()},
        "observables": {name: list(shape) for name, shape in model.observable_shapes.items()},
    }


def _of_a_given_model(make: Callable, settings, model: Model):
    """The posterior of the model that the user says it was."""
    shapes = _shapes(settings["model"])
    if model.shapes != shapes:
        raise checks.InputError(
            f"model has weights {checks.brief(model.shapes)} and the file {checks.brief(shapes)}: give the one "
            f"that was "
            "sampled"
        )
    found = make(model)
    if not _same(found, settings):
        raise checks.InputError(
            f"model is not the one that was sampled, {_differs(found, settings)}: give the same functions and variances"
        )
    return found


def _of_the_file(make: Callable, settings):
    """The posterior of the model that a file names, or that this process knows; one without functions otherwise."""
    kept = settings["model"]
    shapes = _shapes(kept)
    variances = None if kept["variances"] is None else dict(zip(shapes, kept["variances"], strict=True))
    try:
        found_functions = {name: functions.restored(name, value) for name, value in kept["functions"].items()}
    except checks.InputError as error:
        for known in filter(None, (each() for each in reversed(_KNOWN))):
            with contextlib.suppress(checks.InputError):
                if _described(known) == kept and _same(found := make(known), settings):
                    return found
        missing = Missing(f"{error} to gf.open or gf.resume", kept["observables"])
        priors = {} if variances else {"log_prior": missing, "draw_prior": missing}
        return make(Model(forward=missing, shapes=shapes, variances=variances, **priors))
    found = make(Model(shapes=shapes, variances=variances, **found_functions))
    if not _same(found, settings):
        raise checks.InputError(
            f"{', '.join(value['function'] for value in kept['functions'].values())} changed since the file was "
            f"written, "
            f"{_differs(found, settings)}: use the code of that time, or give model="
        )
    return found


def _shapes(kept) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in kept["shapes"]}


def _same(posterior, settings) -> bool:
    return bool(np.isclose(posterior.reference, settings["reference"], rtol=_SAME, atol=0))


def _differs(posterior, settings) -> str:
    return f"as the log-density at a draw of the prior is {posterior.reference:g}, not {settings['reference']:g}"
