"""A task: training and test sequences with labels, and the attention that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from ..core import cards, checks
from ..models import Attention, Network, PathInputs, Posterior, Reduction, contract, labels, reduce
from ..models.residual import head_counts, strengths


class Examples(NamedTuple):
    """Sequences and their labels.

    Attributes:
        x: sequences [P, N_0, S], token s is column s.
        y: labels [P]: classes (-1 and +1, booleans, names, whole numbers) or real values; or [P, m] of m outputs. Of
            all rows, one after another, if every token has an output of its own.
        mask: [P, S], True for tokens; None if there is no padding.
        reads: [P], the token that is read of each sequence; None: as the task's readout says.
    """

    x: np.ndarray
    y: np.ndarray
    mask: np.ndarray | None = None
    reads: np.ndarray | None = None

    def __repr__(self) -> str:
        return cards.line("Examples", self._asdict())

    def _repr_html_(self) -> str:
        return cards.card("Examples", self._asdict().items())


@dataclass(frozen=True, eq=False)
class Task:
    """Data and attention of one learning problem.

    Attributes:
        name: short name, as on the command line.
        train, test: ``Examples``; test may be None.
        attention: fixed attention, bottom layer first.
        readout: token read by the network, ``"last"``, ``"first"``, ``"mean"`` or ``"all"``; examples may say it for
            each sequence.
        temperature: the temperature its source uses.
        settings: plain values that made it, recorded with every run.
        classes: the labels in ascending order; () for real values; None to find out (``gf.Posterior``).
        residual: strength of the skip connection of each layer, as for ``gf.contract``; () for none.
        draw: (start, stop) -> ``Examples`` of an endless training set that begins with ``train``; None if that is all.

    Raises:
        ValueError: a strength below 0, or not one per layer.
    """

    name: str
    train: Examples
    test: Examples | None
    attention: Attention
    readout: str = "last"
    temperature: float = 0.01
    settings: dict[str, Any] = field(default_factory=dict)
    classes: tuple | None = None
    residual: bool | Sequence[float] = ()
    draw: Callable[[int, int], Examples] | None = None

    def __post_init__(self):
        if isinstance(self.attention, Attention):  # otherwise ``contract`` says so
            found = strengths(self.residual, len(self.attention.layers))
            object.__setattr__(self, "residual", found)
            if any(found):
                object.__setattr__(self, "settings", {**self.settings, "residual": list(found)})

    def __repr__(self) -> str:
        P, N_0, S = self.train.x.shape
        test = 0 if self.test is None else len(self.test.y)
        return f"Task({self.name!r}, {P} training and {test} test examples, N_0={N_0}, S={S}, T={self.temperature:g})"

    def _repr_html_(self) -> str:
        rows = {"training sequences": self.train.x, "test sequences": None if self.test is None else self.test.x}
        options = {"readout": self.readout, "temperature": self.temperature} | self.settings
        return cards.card(f"Task {self.name}", (rows | {n: str(v) for n, v in options.items()}).items())

    @cached_property
    def train_inputs(self) -> PathInputs:
        """Path-contracted training inputs."""
        return self._contracted(self.train, self.attention)

    @cached_property
    def test_inputs(self) -> PathInputs:
        """Path-contracted test inputs.

        Raises:
            ValueError: the task has no test set, or attention given for the training examples alone.
        """
        if self.test is None:
            raise checks.InputError(f"task {self.name!r} has no test set: give x_test and y_test")
        return self._contracted(self.test, self.attention.of_test())

    def _contracted(self, examples: Examples, attention: Attention) -> PathInputs:
        readout = self.readout if examples.reads is None else examples.reads
        return contract(examples.x, attention, readout, tokens="columns", residual=self.residual, mask=examples.mask)

    @cached_property
    def outputs(self) -> int:
        """m, outputs of a network for these labels: one for two classes, else one for each class."""
        y = labels.array("y", self.train.y)
        classes = labels.classes_of("y", y, self.classes)
        return y.shape[1] if y.ndim == 2 else len(classes) if len(classes) > 2 else 1

    @property
    def test_set(self) -> tuple[PathInputs, np.ndarray] | None:
        """(path-contracted test inputs, labels), as ``gf.sample(test=..)`` takes them; None without a test set."""
        return None if self.test is None else (self.test_inputs, self.test.y)

    def batches(self, stop: int, start: int = 0, size: int = 4096) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Training examples one batch after another, for ``gf.reduce``.

        Args:
            stop: number of the example after the last one.
            start: number of the first one, from 0.
            size: examples of a batch.

        Yields:
            Sequences x [B, N_0, S] and labels y [B].

        Raises:
            ValueError: more examples than the task has, where it cannot draw more.
        """
        start, stop, size = (
            checks.count("start", start, least=0),
            checks.count("stop", stop),
            checks.count("size", size),
        )
        if self.draw is None:
            raise checks.InputError(f"task {self.name!r} draws no examples: use task.train, which has all of them")
        for first in range(start, stop, size):
            found = self.draw(first, min(stop, first + size))
            yield found.x, found.y

    def posterior(
        self,
        width: int | Sequence[int],
        temperature: float | None = None,
        variances: Sequence[float] = (),
        *,
        examples: int | None = None,
        key: jax.Array | None = None,
    ) -> Posterior:
        """Posterior of a network on this task.

        Args:
            width: N for N_1 = .. = N_{L+1} = N, or all of (N_1, .., N_{L+1}).
            temperature: T; default the task's own.
            variances: prior variances (sigma_0^2, .., sigma_L^2, sigma_a^2); default all 1.
            examples: number of training examples, in place of all of them; more than the training set has where the
                task draws them (``draw``), which are then reduced.
            key: typed random key, which draws the order in which examples are taken; a task that draws needs none.

        Returns:
            Posterior of the training set.

        Raises:
            ValueError: as ``contract``, ``Network`` and ``Posterior``, or more examples than there are.
        """
        data, y = self.train_inputs, self.train.y
        if examples is not None:
            data, y = self._first(checks.count("examples", examples), key)
        paths = data.data if isinstance(data, Reduction) else data
        one = np.ndim(width) == 0
        widths = (checks.count("width", width),) * (len(paths.heads) + 1) if one else tuple(width)  # type: ignore[arg-type]
        heads = head_counts(paths.heads, paths.residual)
        network = Network(paths.input_width, heads, widths, tuple(variances), self.outputs, paths.residual)
        temperature = self.temperature if temperature is None else temperature
        if isinstance(data, Reduction):
            return Posterior(network, data, temperature=temperature)
        return Posterior(network, data, y, temperature, self.classes)

    def _first(self, examples: int, key):
        """(inputs, labels) of some training examples, or their reduction where they are drawn."""
        if self.draw is not None:
            options: dict[str, Any] = {
                "readout": self.readout,
                "tokens": "columns",
                "classes": self.classes,
                "residual": self.residual,
            }
            return reduce(self.batches(examples), self.attention, **options), None
        data = self.train_inputs
        if examples > len(data):
            raise checks.InputError(f"examples={examples}, and the training set has {len(data)}: use at most as many")
        index = order(len(data), key)[:examples]
        return data.like(data.xi[index]), np.asarray(self.train.y)[index]


def order(examples: int, key: jax.Array | None) -> np.ndarray:
    """The order in which examples are taken."""
    data = jax.random.key_data(checks.random_key("key", key))
    return np.random.default_rng(np.asarray(data).ravel().tolist()).permutation(examples)
