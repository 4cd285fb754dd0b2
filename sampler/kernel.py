"""What a kernel is, and what it explores: the two contracts that the one driver loop is written against.

A kernel is a frozen dataclass of plain options (so it is hashable, and recorded with the draws) with the methods
of ``Kernel``. Adding one is a file like nuts.py and a line in ``KERNELS`` of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import jax

from ..models import Network, Posterior


class Target(NamedTuple):
    """A space of positions with a density; compared by identity, so build it through a cached function.

    Attributes:
        name: ``"weights"`` or ``"order_parameters"``.
        data: (posterior, dtype) -> pytree of device arrays the functions below take first.
        initial: (data, key) -> position of a new chain.
        log_density: (data, position) -> scalar, natural logarithm.
        observe: (data, test xi [Q, N_0, H] or None, position) -> named arrays, the record of one draw.
    """

    name: str
    data: Callable[[Posterior, Any], Any]
    initial: Callable[[Any, jax.Array], Any]
    log_density: Callable[[Any, Any], jax.Array]
    observe: Callable[[Any, jax.Array | None, Any], dict[str, jax.Array]]


class Kernel(Protocol):
    """A Markov kernel of one chain. ``warmup`` is static: the first so many transitions may adapt."""

    name: ClassVar[str]
    float64_only: ClassVar[bool]

    def target(self, network: Network) -> Target:
        """The space this kernel explores for a network."""

    def init(self, target: Target, data, warmup: int, key: jax.Array):
        """State of a new chain: a pytree, everything that a later transition depends on."""

    def step(self, target: Target, data, warmup: int, key: jax.Array, index: jax.Array, state):
        """Transition number ``index`` (0-based, warm-up first): (state, statistics of the transition)."""

    def position(self, state):
        """The chain's position, in the target's space."""
