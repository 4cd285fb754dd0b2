"""What a kernel is, and what it explores: the two contracts that the one driver loop is written against.

A kernel is a frozen dataclass of plain options (so it is hashable, and recorded with the draws) derived from
``Kernel``. Adding one is a file like mala.py and a line in ``KERNELS`` of the package.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax

from ...models import Network, Posterior
from .. import schema


class Target(NamedTuple):
    """A space of positions with a density; compared by identity, so build it through a cached function.

    Attributes:
        name: ``"weights"``, ``"marginal"`` or ``"order_parameters"``.
        network: the network, or None where one target serves several widths.
        data: (posterior, dtype) -> pytree of device arrays the functions below take first.
        initial: (data, key) -> position of a new chain, a pytree of arrays such as weights by name or theta [D].
        log_density: (data, position) -> scalar, natural logarithm.
        observe: (data, test xi [Q, N_0, H] or None, position, key) -> named arrays, the record of one draw.
        from_weights: weights -> position, or None where weights do not say the position.
        minibatch_gradient: (data, position, indices [B]) -> unbiased estimate of the density's gradient, or None.
        lapack: the density factorises matrices, so it is not to be split over CPU devices, see ``driver``.
        metric_known: ``data.covariance`` is a good inverse mass matrix, nothing is gained by adapting it.
    """

    name: str
    network: Network | None
    data: Callable[[Posterior, Any], Any]
    initial: Callable[[Any, jax.Array], Any]
    log_density: Callable[[Any, Any], jax.Array]
    observe: Callable[[Any, jax.Array | None, Any, jax.Array], dict[str, jax.Array]]
    from_weights: Callable[[dict], Any] | None = None
    minibatch_gradient: Callable[[Any, Any, jax.Array], Any] | None = None
    lapack: bool = False
    metric_known: bool = False


class Setting(NamedTuple):
    """Where a kernel works: a target and its data, the transitions it may adapt in, and how many chains there are."""

    target: Target
    data: Any
    warmup: int
    chains: int

    def log_density(self, position) -> jax.Array:
        """Log-density of a position, data bound."""
        return self.target.log_density(self.data, position)


@dataclass(frozen=True, kw_only=True)
class Kernel(abc.ABC):
    """A Markov kernel: transitions of single chains, and for ensemble kernels what the chains share.

    The first ``setting.warmup`` transitions may adapt; later ones leave the target's law alone (the unadjusted
    kernels say by how much not). Everything that a later transition depends on is in the state and in what is shared.

    Attributes:
        name: as in ``KERNELS`` and on the command line.
        keep: what is recorded by default, ``"weights"`` or ``"order_parameters"``.
        float64_only: refuses float32.
        least_chains: fewest chains it runs with.
        pools: the warm-up learns from all chains together, through ``pool``.
    """

    name: ClassVar[str]
    keep: ClassVar[str] = schema.WEIGHTS
    float64_only: ClassVar[bool] = False
    least_chains: ClassVar[int] = 1
    pools: ClassVar[bool] = False

    @abc.abstractmethod
    def target(self, network: Network, weights: bool) -> Target:
        """The space this kernel explores.

        Args:
            network: shapes and prior.
            weights: whether a record must offer all weights (``keep="weights"``).

        Returns:
            Target, equal for equal arguments (build it through a cached function): compilations are shared by it.
        """

    def check(self, posterior: Posterior, chains: int, warmup: int) -> None:  # noqa: B027 - most kernels fit any problem
        """Refuse options that do not fit the problem, before anything is computed; most kernels fit any.

        Args:
            posterior, chains, warmup: what is about to be sampled, and how.

        Raises:
            ValueError: an option that does not fit.
        """

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

    def share(self, setting: Setting, states):
        """What all chains share at the start; nothing for kernels of single chains.

        Args:
            setting: as for ``init``.
            states: of all chains, each leaf [chains, ..] (of one device's chains where ``pools`` is False).

        Returns:
            A pytree of arrays.
        """
        return ()

    @abc.abstractmethod
    def step(self, setting: Setting, key: jax.Array, index: jax.Array, number: jax.Array, state, shared):
        """One transition of one chain; it runs compiled, for many chains at once.

        Args:
            setting: as for ``init``.
            key: typed random key of this transition.
            index: number of the transition (scalar), from 0, warm-up first: it may adapt where index < setting.warmup.
            number: of the chain (scalar), from 0.
            state: of the chain.
            shared: what all chains share.

        Returns:
            (state, statistics by ArviZ's names, news: a pytree for ``pool``).
        """

    def pool(self, setting: Setting, index: jax.Array, shared, news):
        """What the chains share after a warm-up transition; called where ``pools`` is True.

        Args:
            setting: as for ``init``.
            index: number of the transition (scalar), from 0.
            shared: what they shared before it.
            news: of all chains from ``step``, each leaf [chains, ..].

        Returns:
            A pytree like ``shared``.
        """
        return shared

    def position(self, state):
        """Where a chain is; by default BlackJAX's place for it.

        Args:
            state: of one chain.

        Returns:
            Position in the target's space.
        """
        return state.chain.position
