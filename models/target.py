"""What can be sampled: a space of positions with a density, and a description of what its records hold.

A posterior offers targets by name; a kernel states what it needs of one; the driver, the sample files, the monitor and
the diagnostics read the description of the records and know no variable by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

WEIGHTS, ORDER_PARAMETERS = "weights", "order_parameters"
KEEP = (WEIGHTS, ORDER_PARAMETERS)  # what a run records: everything, or everything but the weights

# Roles of recorded variables.
WEIGHT = "weight"  # left out with keep="order_parameters"
MONITORED = "monitored"  # identified by the data: convergence is judged on it
PREDICTION = "prediction"  # the output, or what it is computed from
STATE = "state"  # position of the chain, from which other variables follow


class Variable(NamedTuple):
    """One recorded variable.

    Attributes:
        group: ArviZ's group: ``"posterior"`` or ``"posterior_predictive"``.
        dims: names of its axes after chain and draw.
        role: ``"weight"``, ``"monitored"``, ``"prediction"`` or ``"state"``.
    """

    group: str
    dims: tuple[str, ...]
    role: str


class Records(NamedTuple):
    """Description of everything that a run of a target may record.

    Attributes:
        variables: by name.
        labels: labels [n] of each axis by name; axes without labels are numbered.
    """

    variables: Mapping[str, Variable]
    labels: Mapping[str, np.ndarray]


class Guide(NamedTuple):
    """Gaussian approximation of a target: where chains start and in which metric they move. It biases nothing."""

    centre: jax.Array  # [D]
    covariance: jax.Array  # [D, D]
    spread: jax.Array  # [D, D], lower Cholesky factor of the covariance
    surrogate: Any = None  # ``sampler.surrogate.Surrogate``, for kernels with ``surrogate``

    def position(self, z: jax.Array) -> jax.Array:
        """Position [D] of whitened coordinates z [D], which are standard normal under the Gaussian."""
        return self.centre + self.spread @ z

    def whitened(self, position: jax.Array) -> jax.Array:
        """z of a position."""
        return jax.scipy.linalg.solve_triangular(self.spread, position - self.centre, lower=True)

    def pulled_back(self, gradient: jax.Array) -> jax.Array:
        """Gradient in z of what has this gradient in the position."""
        return self.spread.T @ gradient

    def pushed_forward(self, gradient: jax.Array) -> jax.Array:
        """The inverse of ``pulled_back``."""
        return jax.scipy.linalg.solve_triangular(self.spread, gradient, lower=True, trans=1)

    @property
    def log_volume(self) -> jax.Array:
        """-log density of the Gaussian at its centre."""
        return jnp.sum(jnp.log(jnp.diag(self.spread))) + 0.5 * len(self.centre) * math.log(2 * math.pi)


class Target(NamedTuple):
    """A space of positions with a density; compared by identity, so build it in a cached function.

    Attributes:
        name: name under which the posterior offers it.
        data: (posterior, dtype) -> pytree of device arrays, the first argument of the functions below.
        initial: (data, key) -> position of a new chain, a pytree of arrays.
        log_density: (data, position) -> scalar, natural logarithm.
        observe: (data, test inputs or None, position, key) -> record of one draw: arrays [dims] by name.
        describe: (posterior, number of test examples) -> Records.
        keep: what is recorded by default: one of ``KEEP``.
        differentiable: ``log_density`` has a gradient in the position.
        from_weights: weights by name -> position; None if the position cannot be computed from the weights.
        from_recorded: (data, recorded variables by name) -> position, which may have leading axes as they have; for
            lifting from the variables of role ``"state"``, and for chains that start at those of ``starts``; or None.
        starts: names of the recorded variables that ``init`` gives in place of weights.
        minibatch_gradient: (data, position, indices [B]) -> unbiased estimate of the gradient, or None.
        redraw_blocks: (data, key, position) -> position, arrays [..] by name, after every block of weights was redrawn
            from its Gaussian conditional; or None.
        guided: ``data`` has a field ``guide``, which a kernel can have filled with a Gaussian approximation.
        metric_known: the guide's covariance is a good inverse mass matrix, so that adapting it gains nothing; without,
            only that of ``straight`` is.
        straight: a target of the same law and records in coordinates in which it is nearly Gaussian, for kernels with
            ``straight``; or None.
        float64_only: float32 is refused.
        lapack: the density factorises matrices, so chains are not split over several CPU devices (see ``driver``).
    """

    name: str
    data: Callable[[Any, Any], Any]
    initial: Callable[[Any, jax.Array], Any]
    log_density: Callable[[Any, Any], jax.Array]
    observe: Callable[[Any, Any, Any, jax.Array], dict[str, jax.Array]]
    describe: Callable[[Any, int], Records]
    keep: str = WEIGHTS
    differentiable: bool = True
    from_weights: Callable[[dict], Any] | None = None
    from_recorded: Callable[[Any, dict], Any] | None = None
    starts: tuple[str, ...] = ()
    minibatch_gradient: Callable[[Any, Any, jax.Array], Any] | None = None
    redraw_blocks: Callable[[Any, jax.Array, Any], Any] | None = None
    guided: bool = False
    metric_known: bool = False
    straight: Target | None = None
    float64_only: bool = False
    lapack: bool = False


@runtime_checkable
class Sampleable(Protocol):
    """What ``gf.sample`` asks of a posterior; ``gf.Posterior`` is one, and a class of your own may be another.

    A class that can be imported is found again by ``gf.open`` and ``gf.resume``.
    """

    targets: ClassVar[tuple[str, ...]]  # names, the target preferred for a generic kernel first

    def target(self, name: str, keep: str | None = None) -> Target:
        """The target of a name, whose records hold what ``keep`` says (default: the target's own)."""

    def checked_test(self, test: Any) -> tuple[Any, np.ndarray]:
        """(inputs, labels [Q]) of test examples as the user gave them, or ValueError in one line."""

    def test_array(self, inputs: Any, dtype: Any) -> Any:
        """Test inputs as the device array that ``Target.observe`` takes."""

    def stored(self, test: tuple[Any, np.ndarray] | None) -> tuple[dict, dict]:
        """(plain values by name, arrays as group -> name -> (dims, array)) from which ``restored`` rebuilds both."""

    @classmethod
    def restored(cls, settings: Mapping, arrays: Mapping[str, np.ndarray], labels: Mapping) -> tuple[Any, Any]:
        """(posterior, test or None) from what ``stored`` gave, arrays and axis labels by name."""
