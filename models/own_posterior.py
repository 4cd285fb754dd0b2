"""The posterior of a model of the user's own: data checked once, the target, and what a sample file holds of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..core import checks
from ..core.numerics import numerics
from . import labels, own_keeping, own_space
from .own import Model, Weights
from .own_space import OwnData
from .target import KEEP, Target


@dataclass(frozen=True, eq=False)
class ModelPosterior:
    """The posterior of a ``gf.Model`` given data, from ``model.posterior(x, y, temperature)``.

    Args:
        model: prior and forward pass.
        x: inputs [P, ..].
        y: labels [P], or [P, m] of m > 1 outputs, which also take labels [P] of m classes; the attribute holds what the
            model sees.
        temperature: T > 0, the variance of the Gaussian likelihood.
        classes: the two labels, or those of m outputs, in ascending order; () for real values; default found from
            ``y``.

    Attributes:
        reference: log-density at one draw of the prior, by which a model is recognised; None if its forward pass is not
            at hand.

    Raises:
        ValueError: as ``gf.Model.posterior``.
    """

    model: Model
    x: np.ndarray
    y: np.ndarray
    temperature: float
    classes: tuple | None = None
    reference: float | None = field(default=None, init=False)

    targets: ClassVar[tuple[str, ...]] = ("weights",)
    has_examples: ClassVar[bool] = True

    def __post_init__(self):
        if not isinstance(self.model, Model):
            raise checks.InputError(f"model is a {type(self.model).__name__}: give gf.Model(..)")
        x = inputs("x", self.x)
        given = _label_array("y", self.y, "P")
        if len(x) != len(given):
            raise checks.InputError(f"x has {len(x)} examples and y {len(given)} labels: give one label each")
        shape = given.shape if self.model.forgotten else self.model.output_shape(x)
        outputs = shape[1] if len(shape) == 2 else 1
        try:
            classes = labels.classes_of("y", given, self.classes, outputs)
        except checks.InputError as error:
            raise checks.InputError(f"{error}" if outputs == 1 else f"forward returns {shape}: {error}") from None
        y = labels.encoded("y", given, classes, outputs)
        if y.shape != shape:
            raise checks.InputError(
                f"forward returns outputs of shape {shape} for inputs {x.shape}, and y has shape {y.shape}: make them "
                "the same, [P] or [P, m]"
            )
        for name, value in (("x", x), ("y", y), ("classes", classes)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "temperature", checks.positive("temperature", self.temperature))
        if not self.model.forgotten:
            self._check_start()
            own_keeping.remember(self.model)

    def _check_start(self) -> None:
        """Refuse a forward pass that is not finite, or has no gradient, at a draw of the prior: chains start there."""
        with numerics():
            data, weights = self.weight_data("float64"), self.model.draw(jax.random.key(0))
            try:
                f, value, gradient = jax.tree.map(np.asarray, own_space.value_and_gradient(self.model, data, weights))
            except Exception as error:
                reason = " ".join(str(error).split())
                raise checks.InputError(
                    f"forward has no gradient in the weights ({type(error).__name__}: {reason[:160]}): write it with "
                    "differentiable operations of jax.numpy"
                ) from error
        finite = np.isfinite(f)
        if not finite.all():
            where = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise checks.InputError(
                f"forward gives {f[where]} for example {where[0]} at a draw of the prior, where chains start: make it "
                "finite there, for instance by smaller variances"
            )
        if not np.isfinite(value):
            raise checks.InputError(
                f"the log-density is {value} at a draw of the prior, where chains start: make log_prior finite "
                f"for what "
                "draw_prior draws"
            )
        for name, slope in gradient.items():
            if not np.isfinite(slope).all():
                raise checks.InputError(
                    f"the gradient in {name!r} is NaN or infinite at a draw of the prior: make forward differentiable "
                    "there (square roots at 0 are not, nor are branches of jnp.where that are NaN)"
                )
        self._check_slopes(data, weights, gradient)
        object.__setattr__(self, "reference", float(f"{float(value):.6g}"))

    def _check_slopes(self, data: OwnData, weights: Weights, gradient) -> None:
        """Refuse a forward pass whose gradient is zero everywhere, warn of arrays in which it is."""
        with numerics():
            prior = jax.grad(self.model.prior_density)(weights)
        flat = [name for name, slope in gradient.items() if np.array_equal(slope, np.asarray(prior[name]))]
        if len(flat) == len(gradient):
            raise checks.InputError(
                "forward does not depend on the weights, or has no gradient in them (rounding, comparisons and argmax "
                "have none): make it differentiable"
            )
        if flat:
            warnings.warn(
                f"forward has no gradient in {', '.join(map(repr, flat))} at a draw of the prior: check that it uses "
                "them, and not in rounding, comparisons or argmax alone",
                checks.InputWarning,
                stacklevel=6,
            )

    @property
    def examples(self) -> int:
        """P, of the training set."""
        return len(self.y)

    @property
    def outputs(self) -> int:
        """m, of the forward pass."""
        return self.y.shape[1] if self.y.ndim == 2 else 1

    @property
    def batched(self) -> int:
        """Number of examples that stochastic-gradient kernels draw batches from."""
        return len(self.y)

    @cached_property
    def _factorises(self) -> bool:
        if self.model.forgotten:
            return False
        with numerics():
            return own_space.factorises(self.model, self.weight_data("float64"))

    def target(self, name: str = "weights", keep: str | None = None) -> Target:
        """The space of all weights.

        Args:
            name: ``"weights"``.
            keep: ``"weights"``, or ``"order_parameters"`` to leave them out of the records.

        Returns:
            Target, the same object for equal models.

        Raises:
            ValueError: another name (those of the solvable network too).
        """
        if name in ("collapsed", "marginal"):
            raise checks.InputError(f"target={name!r} needs the network of a gf.Posterior: use target='weights'")
        checks.nearest("target", name, self.targets)
        if keep is not None:
            checks.nearest("keep", keep, KEEP)
        return own_space.space(self.model, self._factorises)

    def weight_data(self, dtype) -> OwnData:
        """Data of the density, on the device.

        Args:
            dtype: precision of labels and of real inputs; whole numbers stay what they are.

        Returns:
            OwnData.
        """
        return OwnData(self.test_array(self.x, dtype), jnp.asarray(self.y, dtype), jnp.asarray(self.temperature, dtype))

    def checked_inputs(self, x) -> np.ndarray:
        """Test inputs, checked.

        Args:
            x: inputs [Q, ..], in all axes but the first as in training.

        Returns:
            Array [Q, ..].

        Raises:
            ValueError: other axes, NaN or infinity.
        """
        found = inputs("test inputs", x)
        if found.shape[1:] != self.x.shape[1:] or found.dtype.kind != self.x.dtype.kind:
            raise checks.InputError(
                f"test inputs have shape {found.shape} and dtype {found.dtype}, the training inputs {self.x.shape} and "
                f"{self.x.dtype}: make them the same in all axes but the first"
            )
        return found

    def checked_test(self, test: Any) -> tuple[np.ndarray, np.ndarray]:
        """Test examples as given to ``gf.sample``, checked.

        Args:
            test: (inputs [Q, ..], labels [Q] or [Q, m]).

        Returns:
            (inputs, labels), labels as they were given.

        Raises:
            ValueError: not such a pair, shapes that disagree with the training set, or labels of other classes.
        """
        if not (isinstance(test, tuple | list) and len(test) == 2):
            raise checks.InputError(f"test is a {type(test).__name__}: give (x_test, y_test)")
        x, y = self.checked_inputs(test[0]), _label_array("test labels", test[1], "Q")
        seen = self.encoded(y)
        if (len(x), *self.y.shape[1:]) != seen.shape:
            raise checks.InputError(
                f"test has labels of shape {seen.shape} and {len(x)} inputs, and y has shape {self.y.shape}: "
                f"give labels "
                "alike, one for each input"
            )
        return x, y

    def encoded(self, y) -> np.ndarray:
        """Labels as the model sees them.

        Args:
            y: labels [Q] or [Q, m], as a user gives them.

        Returns:
            Real array [Q] or [Q, m].

        Raises:
            ValueError: labels of other classes than the training set's.
        """
        return labels.encoded("test labels", _label_array("test labels", y, "Q"), self.classes or (), self.outputs)

    def test_array(self, inputs: np.ndarray, dtype) -> jax.Array:
        """Inputs on the device.

        Args:
            inputs: checked, [Q, ..].
            dtype: precision of real inputs.

        Returns:
            Array [Q, ..].
        """
        return jnp.asarray(inputs, dtype if inputs.dtype.kind == "f" else None)

    def predictions(self, weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
        """f on inputs of many sets of weights.

        Args:
            weights: arrays [n, ..] by name.
            x: from ``checked_inputs``, [Q, ..].

        Returns:
            f [n, Q] or [n, Q, m].
        """
        with numerics():
            arrays = {name: jnp.asarray(weights[name]) for name in self.model.shapes}
            dtype = next(iter(arrays.values())).dtype
            return np.asarray(own_space.outputs(self.model, self.test_array(x, dtype), arrays), np.float64)

    def log_density(self, weights: Weights) -> jax.Array:
        """log p(weights, y), natural logarithm, in the precision of ``weights``.

        Args:
            weights: arrays by name.

        Returns:
            Scalar, differentiable in the weights.
        """
        return own_space.log_density(self.model, self.weight_data(jnp.result_type(*weights.values())), weights)

    def numpyro_model(self) -> None:
        """The same density as a NumPyro model over the weights, for NumPyro's own inference."""
        import numpyro  # not above: only this function needs it, and its import is slow
        import numpyro.distributions as dist

        free = dist.ImproperUniform(dist.constraints.real, (), ())
        weights = {}
        for name, shape in self.model.shapes.items():
            prior = free
            if self.model.variances is not None:
                prior = dist.Normal(0.0, math.sqrt(self.model.variances[name]))  # type: ignore[index]
            weights[name] = numpyro.sample(name, prior.expand(shape).to_event(len(shape)))
        if self.model.log_prior is not None:
            numpyro.factor("log_prior", self.model.log_prior(weights))
        data = self.weight_data(jnp.result_type(*weights.values()))
        f = numpyro.deterministic("f", self.model.outputs(weights, data.x))
        numpyro.sample("y", dist.Normal(f, jnp.sqrt(data.temperature)).to_event(self.y.ndim), obs=data.y)

    def stored(self, test: tuple[np.ndarray, np.ndarray] | None) -> tuple[dict[str, Any], dict[str, dict]]:
        """What a sample file holds of this posterior and its test examples; ``restored`` rebuilds both.

        Args:
            test: (inputs, labels [Q] or [Q, m]) or None.

        Returns:
            (plain values by name, arrays: group -> name -> (dims, array [dims])).
        """
        return own_keeping.stored(self, test)

    @classmethod
    def restored(
        cls,
        settings: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        axes: Mapping[str, np.ndarray],
        model: Model | None = None,
    ) -> tuple[ModelPosterior, tuple[np.ndarray, np.ndarray] | None]:
        """The posterior and the test examples that a sample file holds.

        Functions that cannot be found leave the draws readable; whatever calls them says so.

        Args:
            settings: plain values of ``stored``, among others.
            arrays: its arrays by name, x [P, ..] and so on.
            axes: labels [n] of every axis by name.
            model: the model, of a file that does not say where its functions are.

        Returns:
            (posterior, test examples or None).

        Raises:
            ValueError: ``model`` is not the one that was sampled, or the functions have changed since.
        """
        return own_keeping.restored(cls, settings, arrays, model)

    def __repr__(self) -> str:
        return f"ModelPosterior({self.model}, P={self.examples}, T={self.temperature:g})"


def inputs(argument: str, value) -> np.ndarray:
    """Inputs as an array [P, ..] of float64, or of whole numbers where they are; ValueError for anything else."""
    found = checks.array(argument, value, "P, ..")
    kind = getattr(getattr(value, "dtype", np.asarray(value).dtype), "kind", "f")
    return found.astype(np.int32) if kind in ("i", "u") else found


def _label_array(argument: str, y, axes: str) -> np.ndarray:
    """Labels [P] of any kind, or [P, m]; a column as [P]."""
    return labels.array(argument, y[:, 0] if np.shape(y)[1:] == (1,) and not isinstance(y, list) else y, axes)
