"""What a kernel is: the contract that the one driver loop is written against.

A kernel is a frozen dataclass of plain options, so it is hashable and is recorded with the draws. It states what it
needs of a target and never chooses one. A new kernel is a file like mala.py and a line in ``KERNELS`` of the package.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax

from ...models.target import Target

# How a statistic of several transitions per draw (thin > 1) becomes one number.
LAST, SUM, ANY, MAXIMUM = "last", "sum", "any", "maximum"
STATISTICS = {
    "lp": LAST,
    "energy": LAST,
    "energy_error": LAST,
    "acceptance_rate": LAST,
    "n_steps": SUM,
    "tree_depth": MAXIMUM,
    "diverging": ANY,
    "step_size": LAST,
}


class Setting(NamedTuple):
    """Where a kernel works: a target and its data, the number of warm-up transitions, and the number of chains."""

    target: Target
    data: Any
    warmup: int
    chains: int

    def log_density(self, position) -> jax.Array:
        """Log-density of a position, with the data bound."""
        return self.target.log_density(self.data, position)


@dataclass(frozen=True, kw_only=True)
class Kernel(abc.ABC):
    """A Markov kernel that moves single chains.

    The first ``setting.warmup`` transitions may adapt; later ones leave the target distribution invariant (unadjusted
    kernels only approximately). Everything that a later transition depends on is in the state.

    Attributes:
        name: as in ``KERNELS`` and on the command line.
        needs: fields of ``Target`` that must be set, such as ``"minibatch_gradient"``.
        statistics: how statistics of its own accumulate over the transitions of a draw, by name: ``"last"``, ``"sum"``,
            ``"any"`` or ``"maximum"``; those of ``STATISTICS`` need no entry.
        float64_only: refuses float32.
        lapack: factorises matrices, so chains are not split over several CPU devices.
        minimum_chains: fewest chains it runs with.
        straight: moves in the target's ``straight`` coordinates where there are any.
        surrogate: needs a guide with ``surrogate``, which is fitted before the run.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("differentiable",)
    statistics: ClassVar[Mapping[str, str]] = {}
    float64_only: ClassVar[bool] = False
    lapack: ClassVar[bool] = False
    minimum_chains: ClassVar[int] = 1
    straight: ClassVar[bool] = False
    surrogate: ClassVar[bool] = False

    def check(self, posterior) -> None:  # noqa: B027 - most kernels fit any problem
        """Refuse options that do not fit the posterior, before anything is computed.

        Args:
            posterior: what is about to be sampled.

        Raises:
            ValueError: an option that does not fit.
        """

    def decided(self, setting_of: Callable[[Kernel], Setting], key: jax.Array) -> Kernel:
        """The kernel with what its options leave open decided; it is recorded with the draws.

        Args:
            setting_of: kernel -> where it would work.
            key: typed random key, the same for all chains.

        Returns:
            Kernel; deciding again changes nothing.
        """
        return self

    def mover(self) -> Kernel:
        """The kernel that moves the chains: this one, unless it stands for others."""
        return self

    @abc.abstractmethod
    def init(self, setting: Setting, key: jax.Array, position):
        """State of a new chain.

        Args:
            setting: target, data, number of warm-up transitions and of chains.
            key: typed random key of this chain's start.
            position: where it starts, in the target's space.

        Returns:
            A pytree of arrays; the driver keeps its shapes and dtypes, so ``step`` must too.
        """

    @abc.abstractmethod
    def step(self, setting: Setting, key: jax.Array, index: jax.Array, state):
        """One transition of one chain; it runs compiled, for many chains at once.

        Args:
            setting: as for ``init``.
            key: typed random key of this transition.
            index: number of the transition (scalar), from 0, warm-up first: it may adapt where index < setting.warmup.
            state: of the chain.

        Returns:
            (state, statistics by ArviZ's names).
        """

    def position(self, state):
        """Where a chain is; by default BlackJAX's place for it.

        Args:
            state: of one chain.

        Returns:
            Position in the target's space.
        """
        return state.chain.position


@dataclass(frozen=True, kw_only=True)
class EnsembleKernel(Kernel):
    """A kernel whose chains share their tuning and learn it together during the warm-up."""

    minimum_chains: ClassVar[int] = 2

    @abc.abstractmethod
    def share(self, setting: Setting, states):
        """What all chains share at the start.

        Args:
            setting: as for ``init``.
            states: of all chains, each leaf [chains, ..].

        Returns:
            A pytree of arrays.
        """

    @abc.abstractmethod
    def step(self, setting: Setting, key: jax.Array, index: jax.Array, state, number: jax.Array, shared):  # type: ignore[override]
        """One transition of one chain of the ensemble.

        Args:
            setting, key, state: as for ``Kernel.step``.
            index: number of the transition (scalar), from 0.
            number: of the chain (scalar), from 0.
            shared: what all chains share.

        Returns:
            (state, statistics by ArviZ's names, news: a pytree for ``pool``).
        """

    @abc.abstractmethod
    def pool(self, setting: Setting, index: jax.Array, shared, news):
        """What the chains share after a warm-up transition.

        Args:
            setting: as for ``init``.
            index: number of the transition (scalar), from 0.
            shared: what they shared before it.
            news: of all chains from ``step``, each leaf [chains, ..].

        Returns:
            A pytree like ``shared``.
        """
