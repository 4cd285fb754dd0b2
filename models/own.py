r"""A network of the user's own: a prior over named arrays, and a forward pass that computes the outputs from them.

    p(w | data) ~ exp(-1/(2T) sum_mu |f(x_mu; w) - y_mu|^2) x prior(w)

Nothing is known of the forward pass but its values and gradients, so all weights are sampled (``models.own_space``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import checks, functions
from ..core.numerics import numerics
from . import modules

Weights = dict[str, Array]

# what is recorded besides the weights and observables, and the axes that it has
RECORDED = ("f", "f_train", "training_error")
_TAKEN = {*RECORDED, "chain", "draw", "output", "test_example", "train_example"}
FUNCTIONS = ("forward", "observables", "log_prior", "draw_prior")


class Missing:
    """A forward pass that a sample file names and that cannot be found: whoever calls it is told so.

    Attributes:
        why: the message.
        observable_shapes: of the observables, as the file has them.
    """

    def __init__(self, why: str, observable_shapes: Mapping[str, tuple[int, ...]]):
        self.why, self.observable_shapes = why, observable_shapes

    def __call__(self, *_):
        raise checks.InputError(self.why)


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A network of your own: named weight arrays, their prior, and a forward pass.

    ``model.posterior(x, y, temperature)`` is sampled as that of ``gf.Network`` is, by every kernel that needs a
    gradient and no more. What needs the solvable network (theory, collapsed and Gibbs kernels, head scores, evidence)
    refuses it.

    The prior is Gaussian, with ``variances``; or any other one, with ``log_prior`` and ``draw_prior``. Functions at the
    top level of a module, and ``functools.partial`` of them with plain keyword arguments, are found again by
    ``gf.open`` and ``gf.resume``, which need ``model=`` for others, such as lambdas, in another Python process. Two
    models are equal where their functions and arguments are.

    Args:
        forward: (weights by name, inputs x [P, ..]) -> outputs f [P] or [P, m], written with ``jax.numpy``; column
            [P, 1] counts as [P]. The chains run side by side by ``jax.vmap``.
        shapes: shape of each weight array by name; default those that ``draw_prior`` makes.
        variances: prior VARIANCE of the entries of each array, by name; or one for all, or a function of name and
            shape.
        log_prior: weights -> log-density of the prior, natural logarithm, up to a constant.
        draw_prior: random key -> weights by name, a draw of the prior; chains start from one.
        observables: weights -> arrays by name, recorded with each draw; convergence is judged on them, on f of a few
            training examples and on the mean squared training error.

    Raises:
        ValueError: shapes and variances that disagree, names that a sample file cannot hold, a prior given twice or not
            at all, functions that fail or return something else.

    Source: docs/own_network.md.
    """

    forward: Callable
    shapes: Mapping[str, tuple[int, ...]] = None  # type: ignore[assignment]  # a dict from here on
    variances: Mapping[str, float] | float | Callable[[str, tuple[int, ...]], float] | None = None
    log_prior: Callable | None = None
    draw_prior: Callable | None = None
    observables: Callable | None = None

    def __post_init__(self):
        for name in FUNCTIONS:
            value = getattr(self, name)
            if not callable(value) and (value is not None or name == "forward"):
                raise checks.InputError(f"{name} is a {type(value).__name__}: give a function")
        if (self.variances is None) == (self.log_prior is None):
            raise checks.InputError("the prior must be given once: give variances=, or log_prior= and draw_prior=")
        if (self.log_prior is None) != (self.draw_prior is None):
            raise checks.InputError("log_prior and draw_prior belong together: give both, or variances=")
        shapes = self._drawn_shapes() if self.shapes is None and self.draw_prior is not None else self.shapes
        object.__setattr__(self, "shapes", _checked_shapes(shapes))
        if self.variances is not None:
            object.__setattr__(self, "variances", _checked_variances(self.variances, self.shapes))
        elif not self.forgotten and self._drawn_shapes() != self.shapes:
            raise checks.InputError(
                f"draw_prior draws arrays of shapes {self._drawn_shapes()}: give shapes={self.shapes}"
            )
        if not self.forgotten:
            self._check_names()
            self._check_log_prior()

    @classmethod
    def from_equinox(cls, module, *, variances, forward: Callable | None = None, observables=None) -> Model:
        """A model whose weights are the arrays of an Equinox module, named by their path: ``layers.0.weight``.

        Args:
            module: ``equinox.Module``; the values of its arrays do not matter.
            variances: as for ``gf.Model``, such as ``lambda name, shape: 1 / shape[-1]`` with Equinox's [out, in].
            forward: (module, x [P, ..]) -> outputs; default the module, mapped over the examples.
            observables: as for ``gf.Model``.

        Returns:
            Model.

        Raises:
            ValueError: Equinox is not installed, ``module`` is something else, or as ``gf.Model``.
        """
        shapes, run = modules.of_equinox(module, forward)
        return cls(shapes=shapes, variances=variances, forward=run, observables=observables)

    @classmethod
    def from_flax(cls, module, x=None, *, variances, forward: Callable | None = None, observables=None) -> Model:
        """A model whose weights are the parameters of a Flax module, named by their path: ``Dense_0.kernel``.

        Args:
            module: ``flax.nnx.Module``, or ``flax.linen.Module``.
            x: inputs [P, ..], as ``module.init`` of ``flax.linen`` needs them.
            variances: as for ``gf.Model``, such as ``lambda name, shape: 1 / shape[0]`` with Flax's [in, out].
            forward: (module, x) -> outputs of ``flax.nnx``, (module, variables, x) -> outputs of ``flax.linen``;
                default the module itself, of all examples at once.
            observables: as for ``gf.Model``.

        Returns:
            Model.

        Raises:
            ValueError: Flax is not installed, ``module`` is something else, or as ``gf.Model``.
        """
        shapes, run = modules.of_flax(module, x, forward)
        return cls(shapes=shapes, variances=variances, forward=run, observables=observables)

    def _drawn_shapes(self) -> dict[str, tuple[int, ...]]:
        drawn = _abstractly("draw_prior", self.draw_prior, jax.random.key(0))
        if not isinstance(drawn, Mapping):
            raise checks.InputError(f"draw_prior returns {_shown(drawn)}: make it return arrays by name")
        return {name: tuple(array.shape) for name, array in drawn.items()}

    def _check_names(self) -> None:
        seen = dict.fromkeys(_TAKEN, "something else that is recorded")
        for kind, shapes in (("weight", self.shapes), ("observable", self.observable_shapes)):
            for name, shape in shapes.items():
                if not isinstance(name, str) or not name.isprintable() or "/" in name or name.strip(". ") == "":
                    raise checks.InputError(f"{kind} {name!r} is no name that a file can hold: use letters and digits")
                for each in (name, *axes(name, shape)):
                    if each in seen:
                        raise checks.InputError(f"{kind} {name!r} has the name of {seen[each]}: choose another one")
                    seen[each] = f"another array, {name!r}"

    def _check_log_prior(self) -> None:
        if self.log_prior is None:
            return
        found = _abstractly("log_prior", self.log_prior, self.abstract())
        if getattr(found, "shape", None) != ():
            raise checks.InputError(f"log_prior returns {_shown(found)}: make it return one number")

    @property
    def forgotten(self) -> bool:
        """Whether this is the model of a file whose functions cannot be found: its draws can be read, and no more."""
        return isinstance(self.forward, Missing)

    @property
    def observable_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each observable by name."""
        if isinstance(self.forward, Missing):
            return dict(self.forward.observable_shapes)
        if self.observables is None:
            return {}
        found = _abstractly("observables", self.observables, self.abstract())
        if not isinstance(found, Mapping) or not all(hasattr(each, "shape") for each in found.values()):
            raise checks.InputError(f"observables returns {_shown(found)}: make it return arrays by name")
        return {name: tuple(array.shape) for name, array in found.items()}

    @property
    def weight_count(self) -> int:
        """Number of weights."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def posterior(self, x, y, temperature: float, classes: tuple | None = None):
        """The posterior given data, which ``gf.sample`` takes.

        Args:
            x: inputs [P, ..], real or whole numbers; the forward pass gets them as they are, all at once.
            y: labels [P] or [P, m], as for ``gf.Posterior``: real values, two classes, which are fitted as -1 and +1,
                or m classes, which are fitted one-hot.
            temperature: T > 0, the variance of the Gaussian likelihood.
            classes: the labels in ascending order; () for real values; default found from ``y``.

        Returns:
            ``gf.models.ModelPosterior``.

        Raises:
            ValueError: x and y of different length, NaN, infinity, temperature not above 0; a forward pass that fails,
                returns another shape than y has, is not finite at a draw of the prior, or has no gradient there.
        """
        from .own_posterior import ModelPosterior  # not above: it takes a Model

        return ModelPosterior(self, x, y, temperature, classes)

    def draw(self, key: jax.Array, dtype=jnp.float64) -> Weights:
        """One draw of all weights from the prior.

        Args:
            key: typed random key; with ``variances`` it is split over the arrays in their order.
            dtype: of the weights; float64 needs ``jax.enable_x64(True)``.

        Returns:
            Weights by name.
        """
        if self.draw_prior is not None:
            drawn = self.draw_prior(key)
            return {name: jnp.asarray(drawn[name]).astype(dtype) for name in self.shapes}
        keys = jax.random.split(key, len(self.shapes))
        return {
            name: math.sqrt(self.variances[name]) * jax.random.normal(k, shape, dtype)  # type: ignore[index, call-overload]
            for (name, shape), k in zip(self.shapes.items(), keys, strict=True)
        }

    def prior_density(self, weights: Weights) -> Float[Array, ""]:
        """Log-density of the prior, natural logarithm; normalised where it is Gaussian.

        Args:
            weights: by name.

        Returns:
            Scalar in the widest precision enabled.
        """
        wide = jax.dtypes.canonicalize_dtype(jnp.float64)
        if self.log_prior is not None:
            return jnp.asarray(self.log_prior(weights), wide)
        terms = [
            -0.5 * jnp.sum(weights[name] ** 2, dtype=wide) / variance
            - 0.5 * math.prod(self.shapes[name]) * math.log(2 * math.pi * variance)
            for name, variance in self.variances.items()  # type: ignore[union-attr]
        ]
        return sum(terms[1:], terms[0])

    def outputs(self, weights: Weights, x) -> Array:
        """f [P] or [P, m] of the forward pass; a column [P, 1] as [P].

        Args:
            weights: by name.
            x: inputs [P, ..].

        Returns:
            Outputs.
        """
        f = jnp.asarray(self.forward(weights, x))
        return f[:, 0] if f.ndim == 2 and f.shape[1] == 1 else f

    def output_shape(self, x) -> tuple[int, ...]:
        """(P,) or (P, m), without computing anything.

        Args:
            x: inputs [P, ..] or their shape and dtype.

        Returns:
            Shape of the outputs.

        Raises:
            ValueError: the forward pass fails, or returns something else than real outputs [P] or [P, m].
        """
        inputs = jax.ShapeDtypeStruct(x.shape, x.dtype)
        found = _abstractly("forward", self.outputs, self.abstract(), inputs)
        if (
            len(found.shape) not in (1, 2)
            or found.shape[0] != x.shape[0]
            or not jnp.issubdtype(found.dtype, jnp.floating)
        ):
            raise checks.InputError(
                f"forward returns {_shown(found)} for inputs of shape {x.shape}: make it return real outputs "
                f"[{x.shape[0]}]"
                f" or [{x.shape[0]}, m], one row per example"
            )
        return tuple(found.shape)

    def abstract(self, dtype=np.float64) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of each weight array.

        Args:
            dtype: such as ``jnp.float32``.

        Returns:
            By name.
        """
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in self.shapes.items()}

    def _identity(self):
        variances = self.variances and tuple(self.variances.items())  # type: ignore[union-attr]
        return (
            tuple(self.shapes.items()), variances, *(functions.identity(getattr(self, name)) for name in FUNCTIONS),
        )  # fmt: skip

    def __eq__(self, other) -> bool:
        return isinstance(other, Model) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        return f"Model({checks.brief(arrays)[1:-1]}, {self.weight_count} weights)"


def axes(name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the axes of a weight array or observable, as ArviZ names them."""
    return tuple(f"{name}_dim_{i}" for i in range(len(shape)))


def _checked_shapes(shapes) -> dict[str, tuple[int, ...]]:
    if not isinstance(shapes, Mapping) or not shapes:
        raise checks.InputError(f"shapes={checks.brief(shapes)}: give a shape for each array by name, {{'W': (16, 8)}}")
    found = {}
    for name, shape in shapes.items():
        lengths = tuple(shape) if np.iterable(shape) else (shape,)
        found[name] = tuple(checks.count(f"shapes[{name!r}]", n) for n in lengths)
    return found


def _checked_variances(variances, shapes) -> dict[str, float]:
    if callable(variances):
        variances = {name: variances(name, shape) for name, shape in shapes.items()}
    given = variances if isinstance(variances, Mapping) else dict.fromkeys(shapes, variances)
    if given.keys() != shapes.keys():
        raise checks.InputError(
            f"variances are given for {checks.brief(sorted(given))} and shapes for "
            f"{checks.brief(sorted(shapes))}: give "
            "one for each array"
        )
    return {name: checks.positive(f"variances[{name!r}]", given[name]) for name in shapes}


def _abstractly(argument: str, function, *arguments):
    """Shapes and dtypes of what a user's function returns, or ValueError that says how it failed."""
    try:
        with numerics():
            return jax.eval_shape(function, *arguments)
    except checks.InputError:
        raise
    except Exception as error:
        given = ", ".join(_shown(each) for each in arguments)
        reason = " ".join(str(error).split())
        raise checks.InputError(
            f"{argument} fails for {given} ({type(error).__name__}: {reason[:160]}): make it work on these, with "
            "jax.numpy"
        ) from error


def _shown(value) -> str:
    """Shapes of what a function takes or returns, in a few words."""
    if isinstance(value, Mapping):
        return checks.brief({name: getattr(each, "shape", type(each).__name__) for name, each in value.items()})
    if hasattr(value, "shape"):
        return f"an array of shape {value.shape}, {value.dtype}"
    return f"a {type(value).__name__}"
