"""The posterior of a network with learned attention: data checked once, the targets, and what a sample file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..core import checks
from ..core.numerics import numerics
from . import keeping, labels, learned_space, tokens
from .contraction import contract, names_of
from .learned import LearnedAttention
from .learned_space import Form, Inputs, LearnedData
from .network import Network
from .paths import PathInputs
from .posterior import Posterior
from .target import KEEP, WEIGHTS, Target
from .tokens import Sequences

READOUTS = ("last", "first", "mean")


@dataclass(frozen=True, eq=False)
class LearnedPosterior:
    """The joint posterior of queries, keys and weights, from ``gf.LearnedAttention(..).posterior(network, x, y, T)``.

    Args:
        attention: prior of queries and keys.
        network: shapes and prior of everything else.
        x: sequences [P, N_0, S], or a list of P arrays [N_0, S_i]; the attribute holds them checked, padded, with a
            mask.
        y: labels [P] or [P, m], as for ``gf.Posterior``; the attribute holds what the network sees.
        temperature: T > 0, the variance of the Gaussian likelihood.
        classes: as for ``gf.Posterior``.
        readout: ``"last"``, ``"first"`` or ``"mean"``.
        tokens: ``"rows"`` for x [P, S, N_0].

    Raises:
        ValueError: as ``gf.LearnedAttention.posterior``.

    Source: docs/model.md, section 13.
    """

    attention: LearnedAttention
    network: Network
    x: Any
    y: np.ndarray
    temperature: float
    classes: tuple | None = None
    readout: str = "last"
    tokens: str | None = None

    targets: ClassVar[tuple[str, ...]] = ("collapsed", "marginal", "weights")
    has_examples: ClassVar[bool] = True
    instead: ClassVar[str] = "freeze its attention, with posterior.frozen(queries and keys by name)"

    def __post_init__(self):
        if not isinstance(self.attention, LearnedAttention):
            raise checks.InputError(f"attention is a {type(self.attention).__name__}: give gf.LearnedAttention(..)")
        if not isinstance(self.network, Network):
            raise checks.InputError(f"network is a {type(self.network).__name__}: give gf.Network(..)")
        if self.attention.heads != self.network.heads:
            raise checks.InputError(
                f"attention has heads {self.attention.heads} and network has heads={self.network.heads}: make them the "
                "same"
            )
        checks.nearest("readout", self.readout, READOUTS)
        x = self._sequences("x", self.x, self.tokens)
        self._check_prior()
        given = labels.array("y", self.y)
        if len(x.x) != len(given):
            raise checks.InputError(f"x has {len(x.x)} examples and y {len(given)} labels: give one label each")
        classes = labels.classes_of("y", given, self.classes, self.network.outputs)
        y = labels.encoded("y", given, classes, self.network.outputs)
        labels.check_outputs("y", y, self.network.outputs)
        if self.classes is None and self.network.outputs == 1:
            labels.warn(given, classes)
        for name, value in (("x", x), ("y", y), ("classes", classes)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "temperature", checks.positive("temperature", self.temperature))

    def _sequences(self, name: str, x, order: str | None) -> Sequences:
        found = x if isinstance(x, Sequences) else tokens.sequences(name, x, order)
        width = found.x.shape[1]
        if width != self.network.input_width:
            remedy = "give tokens='rows'" if found.x.shape[2] == self.network.input_width else "make them the same"
            raise checks.InputError(
                f"{name} has input width {width} (shape {found.x.shape}) and network has input_width="
                f"{self.network.input_width}: {remedy}"
            )
        return Sequences(found.x.astype(np.float64), found.mask)

    def _check_prior(self) -> None:
        shapes = self.attention.shapes(self.network.input_width)
        for name, mean in self.attention.means(self.network.input_width).items():
            if mean.shape != shapes[name]:
                raise checks.InputError(
                    f"attention has {name} of shape {mean.shape} and network has input_width="
                    f"{self.network.input_width}: make the last axis the same"
                )
        for l, variances in enumerate(self.attention.variances or ()):  # type: ignore[arg-type]  # a tuple once checked
            if np.ndim(variances) and len(variances) != self.network.input_width:
                raise checks.InputError(
                    f"variances[{l}] of the attention has {len(variances)} entries and network has input_width="
                    f"{self.network.input_width}: give one for each entry of a token"
                )

    @property
    def examples(self) -> int:
        """P, of the training set."""
        return len(self.y)

    @property
    def batched(self) -> int:
        """Number of examples that stochastic-gradient kernels draw batches from."""
        return len(self.y)

    @cached_property
    def path_names(self) -> tuple[str, ...]:
        """Names of the paths in C order."""
        network = self.network
        found = names_of(self.attention, network.branches, network.residual)  # type: ignore[arg-type]  # its path_names
        return PathInputs(np.zeros((1, network.input_width, *network.branches)), found, network.residual).path_names

    @property
    def form(self) -> Form:
        """What programs are compiled for."""
        return Form(self.network, self.attention.kind, self.attention.causal, self.readout)

    def target(self, name: str = "collapsed", keep: str | None = None) -> Target:
        """A space of positions to sample in (``models.learned_space``).

        Args:
            name: ``"collapsed"``: queries, keys and order parameters; ``"marginal"``: queries, keys and all weights but
                V_0; ``"weights"``: queries, keys and all weights.
            keep: ``"weights"`` or ``"order_parameters"``: whether records hold the network's weights; default the
                target's own. Queries and keys are always recorded.

        Returns:
            Target, the same object for equal shapes and priors.

        Raises:
            ValueError: an unknown name or ``keep``.
        """
        checks.nearest("target", name, self.targets)
        if keep is not None:
            checks.nearest("keep", keep, KEEP)
        if name == "collapsed":
            return learned_space.order_parameters(self.form, keep == WEIGHTS)
        return learned_space.with_weights(self.form, name == "marginal")

    def device_data(self, dtype) -> LearnedData:
        """Data of the densities, on the device.

        Args:
            dtype: precision of all of it.

        Returns:
            LearnedData.
        """
        to = lambda value: jnp.asarray(value, dtype)  # noqa: E731
        N_0 = self.network.input_width
        return LearnedData(
            self.test_array(self.x, dtype), to(self.y), to(self.temperature), to(self.network.widths),
            to(self.network.variances), {n: to(mean) for n, mean in self.attention.means(N_0).items()},
            {n: to(sd) for n, sd in self.attention.deviations(N_0).items()},
        )  # fmt: skip

    def log_density(self, position) -> jax.Array:
        """log p(position, y) of the target ``"collapsed"``, natural logarithm, all constants kept, in float64.

        Args:
            position: "Q_l" and "K_l" [H_l, G, N_0] in units of the prior's standard deviation around its mean, and
                "theta" [D], Bartlett coordinates times sqrt(N_l), by name.

        Returns:
            Scalar, differentiable; it belongs inside ``jax.enable_x64(True)``.
        """
        return self.target().log_density(self.device_data("float64"), position)

    def checked_inputs(self, x) -> Sequences:
        """Test inputs, checked.

        Args:
            x: sequences [Q, N_0, S] of any length S, or a list of arrays [N_0, S_i].

        Returns:
            Sequences.

        Raises:
            ValueError: another input width, NaN or infinity.
        """
        return self._sequences("test inputs", x, self.tokens)

    def checked_test(self, test: Any) -> tuple[Sequences, np.ndarray]:
        """Test examples as given to ``gf.sample``, checked.

        Args:
            test: (sequences [Q, N_0, S] or a list of them, labels [Q] or [Q, m]).

        Returns:
            (inputs, labels as they were given).

        Raises:
            ValueError: not such a pair, another input width, or labels of other classes.
        """
        if not (isinstance(test, tuple | list) and len(test) == 2):
            raise checks.InputError(f"test is a {type(test).__name__}: give (x_test, y_test)")
        x, y = self.checked_inputs(test[0]), labels.array("test labels", test[1], "Q")
        labels.check_outputs(
            "test", labels.encoded("test labels", y, self.classes or (), self.network.outputs), self.network.outputs
        )
        if len(x.x) != len(y):
            raise checks.InputError(f"test has {len(y)} labels and {len(x.x)} inputs: give one label each")
        return x, y

    def test_array(self, inputs: Sequences, dtype) -> Inputs:
        """Inputs on the device.

        Args:
            inputs: checked.
            dtype: precision.

        Returns:
            Inputs.
        """
        read = tokens.reading("readout", self.readout, inputs).weights
        mask = None if inputs.mask is None else jnp.asarray(inputs.mask)
        return Inputs(jnp.asarray(inputs.x, dtype), mask, None if read is None else jnp.asarray(read, dtype))

    def predicts_from(self, recorded) -> tuple[str, ...]:
        """Recorded variables that ``predictions`` needs.

        Args:
            recorded: names of all that a run recorded.

        Returns:
            Names: queries and keys, and the path weights, or else U_1.
        """
        return (*self.attention.names, "path_weights" if "path_weights" in recorded else "U_1")

    def predictions(self, recorded: Mapping[str, np.ndarray], x: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of f on inputs given each of many draws.

        Args:
            recorded: arrays [n, ..] by name, those of ``predicts_from``.
            x: sequences [Q, N_0, S] from ``checked_inputs``.

        Returns:
            (mean [n, Q] or [n, Q, m], variance alike: 0 given path weights).
        """
        with numerics():
            arrays = {name: jnp.asarray(value, "float64") for name, value in recorded.items()}
            found = learned_space.predictor(
                self.form, self.device_data("float64"), self.test_array(x, "float64"), arrays
            )
            return np.asarray(found[0]), np.asarray(found[1])

    def frozen(self, weights: Mapping[str, np.ndarray]) -> Posterior:
        """The posterior with attention frozen at given queries and keys, for theory, exact kernels and evidence.

        Args:
            weights: "Q_l" and "K_l" [H_l, G, N_0] by name; other arrays are ignored.

        Returns:
            gf.Posterior of the same network, data and temperature.

        Raises:
            ValueError: an array is missing or has another shape.
        """
        network = self.network
        data = contract(
            self.x.x, self.attention.frozen(weights), self.readout, tokens="columns", residual=network.residual,
            mask=self.x.mask,
        )  # fmt: skip
        return Posterior(network, data, labels.decoded(self.y, self.classes or ()), self.temperature, self.classes)

    def stored(self, test: tuple[Sequences, np.ndarray] | None) -> tuple[dict[str, Any], dict[str, dict]]:
        """What a sample file holds of this posterior and its test examples; ``restored`` rebuilds both.

        Args:
            test: (sequences [Q, N_0, S], labels [Q] or [Q, m]) or None.

        Returns:
            (plain values by name, arrays: group -> name -> (dims, array [dims])).
        """
        attention, output = self.attention, ("output",) * (self.y.ndim - 1)
        settings = {
            "network": keeping.described(self.network),
            "attention": {
                "heads": list(attention.heads), "width": attention.width, "kind": attention.kind,
                "variances": attention.variances, "causal": attention.causal, "path_names": list(attention.path_names),
            },
            "temperature": self.temperature,
            "classes": list(self.classes or ()),
            "readout": self.readout,
        }  # fmt: skip
        constants: dict[str, Any] = {"x": (("example", "input", "token"), self.x.x)}
        observed: dict[str, Any] = {"y": (("example", *output), self.y)}
        for name, mean in attention.means(self.network.input_width).items():
            constants[f"{name}_mean"] = ((f"head_{name[2:]}", "query", "input"), mean)
        if self.x.mask is not None:
            constants["mask"] = (("example", "token"), self.x.mask.astype(np.int8))
        if test is not None:
            axes = ("test_example", "input", "test_token")
            constants["x_test"] = (axes, test[0].x)
            if test[0].mask is not None:
                constants["mask_test"] = (axes[::2], test[0].mask.astype(np.int8))
            seen = labels.encoded("test labels", test[1], self.classes or (), self.network.outputs)
            observed["y_test"] = (("test_example", *output), seen)
        return settings, {"constant_data": constants, "observed_data": observed}

    @classmethod
    def restored(
        cls, settings: Mapping[str, Any], arrays: Mapping[str, np.ndarray], axes: Mapping[str, np.ndarray]
    ) -> tuple[LearnedPosterior, tuple[Sequences, np.ndarray] | None]:
        """The posterior and the test examples that a sample file holds.

        Args:
            settings: plain values of ``stored``, among others.
            arrays: its arrays by name, x [P, N_0, S] and so on.
            axes: labels [n] of every axis by name.

        Returns:
            (posterior, test examples or None).
        """
        kept, network = settings["attention"], keeping.network_of(settings["network"])
        pairs = [(arrays[f"Q_{l}_mean"], arrays[f"K_{l}_mean"]) for l in range(1, network.depth + 1)]
        attention = LearnedAttention(
            pairs, kept["width"], kept["variances"], kept["kind"], kept["causal"], tuple(kept["path_names"])
        )
        classes = tuple(settings["classes"])

        def read(end):
            mask = arrays.get(f"mask{end}")
            return Sequences(np.asarray(arrays[f"x{end}"]), None if mask is None else np.asarray(mask, bool))

        y = labels.decoded(np.asarray(arrays["y"]), classes)
        found = cls(attention, network, read(""), y, settings["temperature"], classes, settings["readout"])
        if "x_test" not in arrays:
            return found, None
        return found, (read("_test"), labels.named(np.asarray(arrays["y_test"]), classes))

    def __repr__(self) -> str:
        return f"LearnedPosterior({self.attention}, {self.network}, P={self.examples}, T={self.temperature:g})"
