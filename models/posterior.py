"""The Gibbs posterior of a network given data: the object every solver and sampler takes.

p(Theta | data) ~ exp(-1/(2T) sum_mu (f(x_mu) - y_mu)^2) x prior(Theta)      (docs/model.md, section 1)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..core import cards, checks
from ..core.numerics import full_precision
from . import collapsed, keeping, labels, marginal, targets, weight_space
from .gaussian import with_noise
from .network import Network, Weights
from .path_kernel import combine, path_kernel
from .paths import PathInputs
from .reduction import Reduction, reduction
from .residual import head_counts
from .shown import posterior_rows
from .target import KEEP, WEIGHTS, Target

BATCHES = "batches"  # of pseudo-examples are drawn too
_LARGEST = 1e100  # of a label
_DIGITS = 1e-3  # rounding error of a log-density that acceptances can bear
_ROUNDING = 100  # rounding errors of K in units of epsilon times its trace, with a margin for U above its prior mean


@dataclass(frozen=True, eq=False)
class Posterior:
    """A network, its path-contracted inputs, the labels and the temperature, checked once.

    Args:
        network: shapes and prior.
        data: path-contracted inputs, xi [P, N_0, H_1, .., H_L]; or a ``gf.Reduction``, of any number of examples.
        y: labels [P]: -1 and +1, two classes of another kind (booleans, names, two whole numbers; the smaller one
            becomes -1), or real values. For a network of m > 1 outputs real labels [P, m], or labels [P] of m classes,
            which become one-hot. The attribute holds what the network sees. Left out with a reduction.
        temperature: T > 0, the variance of the Gaussian likelihood. It may be as small as you like where the
            training set's own kernel is not singular: the limit T -> 0 interpolates the labels.
        classes: the two labels, or those of m outputs, in ascending order; () for real values; default found from
            ``y``, and those of a reduction. Test labels must be of the same classes.
        reduce: compute with r <= H N_0 pseudo-examples in place of P examples where the inputs are linearly dependent,
            as they are if P > H N_0 (``reduction``). Exact; stochastic-gradient kernels draw their batches from the
            examples all the same, unless it is ``"batches"``: those of pseudo-examples estimate the same gradient,
            with another variance.

    The posterior of a reduction has ``data`` and ``y`` of the r pseudo-examples, real numbers whatever the labels were,
    and ``classes`` and ``examples`` (P) of the training set. Everything but what needs each example of the training set
    works as with the examples, to rounding errors.

    Raises:
        ValueError: shapes that disagree (the message says which), NaN or infinity, temperature not above 0, labels
            that are not of ``classes``, labels next to a reduction.

    Source: docs/model.md, section 1.
    """

    network: Network
    data: PathInputs
    y: np.ndarray = None  # type: ignore[assignment]  # an array from here on
    temperature: float = None  # type: ignore[assignment]  # required, after a y that is not
    classes: tuple | None = None
    reduce: bool | str = True
    _given: Reduction | None = None  # what data and y came from

    targets: ClassVar[tuple[str, ...]] = ("marginal", "weights", "collapsed")

    def __post_init__(self):
        if not isinstance(self.network, Network):
            raise checks.InputError(f"network is a {type(self.network).__name__}: give gf.Network(..)")
        if self.reduce not in (True, False, BATCHES):
            raise checks.InputError(f"reduce={checks.brief(self.reduce)} must be True, False or {BATCHES!r}")
        if isinstance(self.data, Reduction):
            self._take(self.data)
        elif self._given is None:
            self._check_examples()
        elif self.data is not self._given.data or self.y is not self._given.y:
            raise checks.InputError(
                "data and y are those of a gf.Reduction: make another gf.Posterior(..) to replace them"
            )
        self._check_paths()
        if self.data.input_width != self.network.input_width:
            raise checks.InputError(
                f"data has input width {self.data.input_width} (xi {self.data.xi.shape}) and network has "
                f"input_width={self.network.input_width}: make them the same"
            )
        object.__setattr__(self, "temperature", checks.positive("temperature", self.temperature))

    def _check_paths(self) -> None:
        one_depth = len(self.data.heads) == self.network.depth
        if one_depth and self.data.residual != self.network.residual:
            raise checks.InputError(
                f"data was contracted with residual={self.data.residual} and network has residual="
                f"{self.network.residual}: make them the same"
            )
        if self.data.heads != self.network.branches:
            raise checks.InputError(
                f"data has heads {self.data.heads} (xi {self.data.xi.shape}) and network has heads="
                f"{self.network.branches}: make them the same"
            )

    def _take(self, given: Reduction) -> None:
        """Data, labels and classes of a reduction."""
        if self.y is not None:
            raise checks.InputError(
                f"y={checks.brief(self.y)}, but data is a gf.Reduction, which holds its labels: leave y out"
            )
        if self.classes is not None and tuple(self.classes) != given.classes:
            raise checks.InputError(
                f"classes={checks.brief(self.classes)}, but data is a gf.Reduction with classes={given.classes}: leave "
                "classes out"
            )
        labels.check_outputs("data", given.y, self.network.outputs)
        for name, value in (("_given", given), ("data", given.data), ("y", given.y), ("classes", given.classes)):
            object.__setattr__(self, name, value)

    def _check_examples(self) -> None:
        if not isinstance(self.data, PathInputs):
            raise checks.InputError(
                f"data is a {type(self.data).__name__}: give gf.contract(x, attention), gf.PathInputs(xi) or a "
                "gf.Reduction"
            )
        if self.y is None:
            raise checks.InputError("y=None: give labels [P], one for each example of data")
        outputs = self.network.outputs
        y = labels.array("y", self.data.labels(self.y))
        classes = labels.classes_of("y", y, self.classes, outputs)
        if len(y) != len(self.data):
            raise checks.InputError(
                f"y has {len(y)} labels and data has {len(self.data)} examples: give one label each"
            )
        encoded = labels.encoded("y", y, classes, outputs)
        labels.check_outputs("y", encoded, self.network.outputs)
        largest = np.abs(encoded).max()
        if largest > _LARGEST:
            raise checks.InputError(
                f"y reaches {largest:.1e}, whose square overflows float64: use labels of order 1, and T to match"
            )
        if self.classes is None and outputs == 1:
            labels.warn(y, classes)
        if outputs > 1 and classes:
            labels.warn_of_missing(encoded, classes)
        object.__setattr__(self, "y", encoded)
        object.__setattr__(self, "classes", classes)

    @property
    def reduction(self) -> Reduction:
        """The examples that densities are computed with: pseudo-examples, or those of ``data``."""
        if self._given is not None:
            return self._given
        if not self.reduce:
            return Reduction(self.data, self.y, len(self.y), 0.0, self.classes or ())
        return reduction(self.data, self.y, self.classes or ())

    @property
    def examples(self) -> int:
        """P, of the training set."""
        return len(self.y) if self.has_examples else self.reduction.examples

    @property
    def has_examples(self) -> bool:
        """Whether ``data`` and ``y`` are the training set, not the pseudo-examples of a ``gf.Reduction``."""
        return self._given is None

    def check_examples(self, what: str, remedy: str = "use gf.Posterior(network, data, y, ..) of all of them") -> None:
        """Refuse what needs each example of the training set, if there are only pseudo-examples of it.

        Args:
            what: needs them, in words.
            remedy: what to do instead.

        Raises:
            ValueError: this is the posterior of a reduction.
        """
        if not self.has_examples:
            raise checks.InputError(
                f"{what} needs the {self.examples} training examples, but the posterior is of their gf.Reduction: "
                f"{remedy}"
            )

    @property
    def batched(self) -> int:
        """Number of examples, or pseudo-examples, that stochastic-gradient kernels draw batches from."""
        if self.reduce == BATCHES:
            return len(self.reduction.y)
        self.check_examples("a batch of examples", f"use gf.Posterior(.., reduce={BATCHES!r}), or another kernel")
        return len(self.y)

    def target(self, name: str = "collapsed", keep: str | None = None) -> Target:
        """A space of positions to sample in (``models.targets``).

        Args:
            name: ``"collapsed"``: the order parameters, all weights integrated out; ``"marginal"``: all weights but
                V_0, which is integrated out; ``"weights"``: all weights.
            keep: ``"weights"`` or ``"order_parameters"``: whether records hold all weights; default the target's own.

        Returns:
            Target, the same object for equal shapes: compiled programs are shared by it.

        Raises:
            ValueError: an unknown name or ``keep`` (the nearest is offered).
        """
        checks.nearest("target", name, self.targets)
        if keep is not None:
            checks.nearest("keep", keep, KEEP)
        if name == "collapsed":
            if keep == WEIGHTS:
                return targets.lifted(self.network)
            return targets.order_parameters(collapsed.layout(self.network))
        return targets.weights(self.network) if name == "weights" else targets.without_first_layer(self.network)

    def checked_test(self, test: Any) -> tuple[PathInputs, np.ndarray]:
        """Test examples as given to ``gf.sample``, checked.

        Args:
            test: (inputs, labels [Q]), inputs from ``gf.contract``.

        Returns:
            (inputs, labels [Q]), labels as they were given.

        Raises:
            ValueError: not such a pair, shapes that disagree with the training inputs, or labels of other classes.
        """
        if not (isinstance(test, tuple | list) and len(test) == 2 and isinstance(test[0], PathInputs)):
            raise checks.InputError(f"test is a {type(test).__name__}: give (inputs, labels), inputs from gf.contract")
        inputs, y_test = test[0], labels.array("test labels", test[0].labels(test[1]), "Q")
        seen = labels.encoded("test labels", y_test, self.classes or (), self.network.outputs)
        labels.check_outputs("test", seen, self.network.outputs)
        if inputs.xi.shape[1:] != self.data.xi.shape[1:]:
            raise checks.InputError(
                f"test inputs have shape {inputs.xi.shape} and the training inputs {self.data.xi.shape}: "
                "make all axes but the first the same"
            )
        if len(y_test) != len(inputs):
            raise checks.InputError(f"test has {len(y_test)} labels and {len(inputs)} inputs: give one label each")
        return inputs, y_test

    def test_array(self, inputs: PathInputs, dtype) -> jax.Array:
        """Test inputs on the device.

        Args:
            inputs: from ``checked_test``.
            dtype: precision, such as ``jnp.float32``.

        Returns:
            xi [Q, N_0, H].
        """
        return jnp.asarray(inputs.flat, dtype)

    def stored(self, test: tuple[PathInputs, np.ndarray] | None) -> tuple[dict[str, Any], dict[str, dict]]:
        """What a sample file holds of this posterior and its test examples; ``restored`` rebuilds both.

        Args:
            test: (inputs, labels [Q]) or None.

        Returns:
            (plain values by name, arrays: group -> name -> (dims, array [dims])).
        """
        return keeping.stored(self, test)

    @classmethod
    def restored(
        cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], axes: Mapping[str, np.ndarray]
    ) -> tuple[Posterior, tuple[PathInputs, np.ndarray] | None]:
        """The posterior and the test examples that a sample file holds.

        Args:
            settings: plain values of ``stored``, among others.
            arrays: its arrays by name, xi [P, N_0, H_1, .., H_L] and so on.
            axes: labels [n] of every axis by name.

        Returns:
            (posterior, test examples or None).

        Raises:
            ValueError: a reduction that is not the one that was written.
        """
        return keeping.restored(cls, settings, arrays, axes)

    def _repr_html_(self) -> str:
        return cards.card("Posterior", posterior_rows(self).items())

    def __repr__(self) -> str:
        classes = (
            "" if self.classes == labels.SIGNS else f", classes={self.classes}" if self.classes else ", real labels"
        )
        return f"Posterior({self.network}, P={self.examples}, T={self.temperature:g}{classes})"

    def log_density(self, weights: Weights) -> jax.Array:
        """log p(weights, y), natural logarithm, constants included, in the precision of ``weights``.

        Args:
            weights: dict of "V_0" [N_1, N_0], "V_l" [H_l, N_{l+1}, N_l], "a" [N_{L+1}] or [m, N_{L+1}].

        Returns:
            Scalar, differentiable in the weights.
        """
        with full_precision():
            return weight_space.log_density(self.network, self.weight_data(weights["a"].dtype), weights)

    def model(self) -> None:
        """The same density as a NumPyro model over the weights, for NumPyro's own inference."""
        with full_precision():
            weight_space.model(self.network, self.weight_data(jnp.asarray(0.0).dtype))

    def collapsed_model(self) -> None:
        """The collapsed posterior over order parameters as a NumPyro model (docs/model.md, section 4).

        Run it in float64: ``with jax.enable_x64(True):``.
        """
        collapsed.model(self.network, self.collapsed_data())

    def weight_data(self, dtype) -> weight_space.WeightData:
        """Data of the weight-space density (``models.weight_space``), on the device.

        Args:
            dtype: precision of all of it, such as ``jnp.float32``.

        Returns:
            WeightData of xi [P, N_0, H], y [P] or [P, m] and T.
        """
        found = self.reduction
        return weight_space.WeightData(
            jnp.asarray(found.data.flat, dtype),
            jnp.asarray(found.y, dtype),
            jnp.asarray(self.temperature, dtype),
            jnp.asarray(found.constants),
            None
            if found.data is self.data or self.reduce == BATCHES
            else (jnp.asarray(self.data.flat, dtype), jnp.asarray(self.y, dtype)),
        )

    def marginal_data(self, dtype) -> marginal.MarginalData:
        """Data of the marginal density (V_0 integrated out, ``models.marginal``), on the device.

        Args:
            dtype: precision of the weights; the density itself is summed as ``collapsed_data`` says.

        Returns:
            MarginalData.

        Raises:
            ValueError: as ``collapsed_data``.
        """
        density = self.collapsed_data()
        return marginal.MarginalData(density, jnp.asarray(self.reduction.data.flat, density.y.dtype), np.dtype(dtype))

    def collapsed_data(self) -> collapsed.CollapsedData:
        """Data of the collapsed density (``models.collapsed``); it belongs inside ``jax.enable_x64(True)``, in float64.

        Returns:
            CollapsedData: path kernel, y [P], T, widths and variances.

        Raises:
            ValueError: K + T I is not positive definite to working precision at the prior mean of U_1.
        """
        with jax.ensure_compile_time_eval():  # constants, also where NumPyro traces the model
            found = self.reduction
            data = collapsed.CollapsedData(
                path_kernel(found.data.flat, self.network.outputs),
                jnp.asarray(found.y),
                jnp.asarray(self.temperature, float),
                jnp.asarray(self.network.widths, float),
                jnp.asarray(self.network.variances, float),
                jnp.asarray(found.constants),
            )
        self._check_temperature(data)
        return data

    def _check_temperature(self, data) -> None:
        with jax.ensure_compile_time_eval():
            K = math.prod(self.network.variances) * combine(
                data.kernel, jnp.eye(self.network.paths * self.network.outputs)
            )
            rounding = _ROUNDING * float(jnp.finfo(K.dtype).eps) * float(jnp.trace(K))
            chol = jnp.linalg.cholesky(with_noise(K, self.temperature - rounding))
            positive = bool(jnp.isfinite(chol).all())
        lost = self.reduction.residual * float(jnp.finfo(K.dtype).eps) / 2 / _DIGITS
        if self.temperature < lost:
            raise checks.InputError(
                f"temperature={self.temperature:g} leaves log-densities with rounding errors of "
                f"{_DIGITS * lost / self.temperature:.1e}, too large to compare draws: use {lost:.1e} or more"
            )
        if not positive:
            raise checks.InputError(
                f"temperature={self.temperature:g} leaves K + T I not positive definite in {K.dtype}: "
                f"use {2 * rounding:.1e} or more"
            )

    def select(self, paths: Sequence) -> Posterior:
        """Posterior of the sub-network made of some paths, with their own number in place of H.

        Args:
            paths: names or indices of paths that are all combinations of some heads of each layer.

        Returns:
            Posterior with the same widths, variances, labels and temperature.

        Raises:
            ValueError: unknown paths, or a set that is not all combinations (``theory.gp`` takes any set).
        """
        found = None if self._given is None else self._given.select(paths)
        data = self.data.select(paths) if found is None else found.data
        if len(data.heads) != self.network.depth:
            raise checks.InputError(
                f"paths={data.path_names} are not all combinations of some heads of each layer, so they are not a "
                "network of finite width: use theory.gp(posterior, paths=..), which takes any set"
            )
        heads = head_counts(data.heads, data.residual)
        if 0 in heads:
            raise checks.InputError(
                f"paths={data.path_names} leave no head in layer {heads.index(0) + 1}: keep one, or use "
                "theory.gp(posterior, paths=..), which takes any set"
            )
        network = dataclasses.replace(self.network, heads=heads, residual=data.residual)
        if found is not None:
            return Posterior(network, found, temperature=self.temperature, reduce=self.reduce)  # type: ignore[arg-type]
        y = labels.decoded(self.y, self.classes or ())
        return Posterior(network, data, y, self.temperature, self.classes, self.reduce)
