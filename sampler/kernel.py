"""What a kernel is, and what it explores: the two contracts that the one driver loop is written against.

A kernel is a frozen dataclass of plain options (so it is hashable, and recorded with the draws) with the methods
of ``Kernel``. Adding one is a file like nuts.py and a line in ``KERNELS`` of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax

from ..models import Network, Posterior


class Target(NamedTuple):
    """A space of positions with a density; compared by identity, so build it through a cached function.

    Attributes:
        name: ``"weights"`` or ``"order_parameters"``.
        network: the network, or None where one target serves several widths.
        data: (posterior, dtype) -> pytree of device arrays the functions below take first.
        initial: (data, key) -> position of a new chain.
        log_density: (data, position) -> scalar, natural logarithm.
        metric_known: ``data.covariance`` is a good inverse mass matrix, nothing is gained by adapting it.
        observe: (data, test xi [Q, N_0, H] or None, position, key) -> named arrays, the record of one draw.
    """

    name: str
    network: Network | None
    data: Callable[[Posterior, Any], Any]
    initial: Callable[[Any, jax.Array], Any]
    log_density: Callable[[Any, Any], jax.Array]
    observe: Callable[[Any, jax.Array | None, Any, jax.Array], dict[str, jax.Array]]
    metric_known: bool = False


@runtime_checkable
class Kernel(Protocol):
    """A Markov kernel of one chain. ``warmup`` is static: the first so many transitions may adapt."""

    name: ClassVar[str]
    keep: ClassVar[str]  # what is recorded by default, see ``schema``
    float64_only: ClassVar[bool]
    lapack: ClassVar[bool]  # factorises matrices: not to be split over CPU devices, see ``driver``

    def target(self, network: Network, weights: bool) -> Target:
        """The space this kernel explores for a network; ``weights`` says whether a draw must offer all weights."""

    def init(self, target: Target, data, warmup: int, position):
        """State of a new chain at a position: a pytree, everything that a later transition depends on."""

    def step(self, target: Target, data, warmup: int, key: jax.Array, index: jax.Array, state):
        """Transition number ``index`` (0-based, warm-up first): (state, statistics of the transition)."""

    def position(self, state):
        """The chain's position, in the target's space."""
