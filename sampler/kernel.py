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

from ..models import Network, Posterior
from . import schema


class Target(NamedTuple):
    """A space of positions with a density; compared by identity, so build it through a cached function.

    Attributes:
        name: ``"weights"``, ``"marginal"`` or ``"order_parameters"``.
        network: the network, or None where one target serves several widths.
        data: (posterior, dtype) -> pytree of device arrays the functions below take first.
        initial: (data, key) -> position of a new chain.
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
    """

    name: ClassVar[str]
    keep: ClassVar[str] = schema.WEIGHTS  # what is recorded by default, see ``schema``
    float64_only: ClassVar[bool] = False
    least_chains: ClassVar[int] = 1
    pools: ClassVar[bool] = False  # the warm-up learns from all chains together, through ``pool``

    @abc.abstractmethod
    def target(self, network: Network, weights: bool) -> Target:
        """The space this kernel explores for a network; ``weights`` says whether a draw must offer all weights."""

    def check(self, posterior: Posterior, chains: int, warmup: int) -> None:  # noqa: B027 - most kernels fit any problem
        """Refuse options that do not fit the problem, by ``checks.InputError``."""

    @abc.abstractmethod
    def init(self, setting: Setting, key: jax.Array, position):
        """State of a new chain at a position: a pytree."""

    def share(self, setting: Setting, states):
        """What all chains share at the start, given the states of all of them [chains, ..]."""
        return ()

    @abc.abstractmethod
    def step(self, setting: Setting, key: jax.Array, index: jax.Array, number: jax.Array, state, shared):
        """Transition ``index`` (0-based, warm-up first) of chain ``number``: (state, statistics, news for ``pool``)."""

    def pool(self, setting: Setting, index: jax.Array, shared, news):
        """What the chains share after warm-up transition ``index``, given the news of all of them [chains, ..]."""
        return shared

    def position(self, state):
        """The chain's position, in the target's space."""
        return state.chain.position
