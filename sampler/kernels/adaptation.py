"""Adaptation, apart from the transitions: Stan's windowed warm-up from BlackJAX's parts, and the metric.

The warm-up goes one transition at a time, so that the driver can stop anywhere: step size by dual averaging
throughout, mass matrix by Welford's estimator over windows that double (blackjax.adaptation; Stan reference manual,
"HMC algorithm parameters"). A kernel adapted this way gives only its transition, ``AdaptedKernel.move``.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ...core import checks
from .kernel import Kernel, Setting


@dataclass(frozen=True, kw_only=True)
class AcceptanceOptions:
    """Options of a warm-up that tunes the step size to an acceptance rate.

    Args:
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range.
    """

    target_acceptance: float = 0.8
    initial_step_size: float = 0.1

    def __post_init__(self):
        checks.positive("initial_step_size", self.initial_step_size)
        if not 0 < checks.positive("target_acceptance", self.target_acceptance) < 1:
            raise checks.InputError(f"target_acceptance={self.target_acceptance} is out of range: choose it in (0, 1)")


@dataclass(frozen=True, kw_only=True)
class AdaptedKernel(AcceptanceOptions, Kernel):
    """A kernel whose step size and metric are adapted in Stan's windows; it gives its transition, ``move``.

    Args:
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Attributes:
        dense: the metric is a full matrix, not a diagonal.

    Raises:
        ValueError: an option out of range.
    """

    dense: ClassVar[bool] = False

    @abc.abstractmethod
    def move(self, setting: Setting, key: jax.Array, chain, step_size: jax.Array, inverse_mass_matrix: jax.Array):
        """One transition with a given tuning.

        Args:
            setting, key: as for ``Kernel.step``.
            chain: BlackJAX's state.
            step_size: scalar.
            inverse_mass_matrix: [D], or [D, D] if ``dense``.

        Returns:
            (chain, BlackJAX's info, statistics that replace or join those of ``statistics``).
        """

    def initial_metric(self, setting: Setting) -> jax.Array | None:
        """Inverse mass matrix before the warm-up.

        Args:
            setting: as for ``Kernel.init``.

        Returns:
            [D], or [D, D] if ``dense``; None for the unit matrix.
        """

    def adapts_metric(self, setting: Setting) -> bool:
        """Whether the warm-up estimates the metric.

        Args:
            setting: as for ``Kernel.init``.

        Returns:
            True or False, the same at every call.
        """
        return True

    def init(self, setting, key, position):
        return start(self, setting, position, self.initial_metric(setting))

    def step(self, setting, key, index, state):
        chain, info, own = self.move(setting, key, state.chain, state.step_size, state.inverse_mass_matrix)
        chain = like(state.chain, chain)
        return update(self, setting, state, chain, info.acceptance_rate, index), (
            statistics(chain, info, state.step_size) | own
        )


class WindowState(NamedTuple):
    """State of an adapted chain: BlackJAX's chain state, its tuning, and what the tuning is estimated from."""

    chain: Any
    step_size: jax.Array
    inverse_mass_matrix: jax.Array
    step_size_state: Any
    mass_matrix_state: Any


def start(kernel: AdaptedKernel, setting: Setting, position, inverse_mass_matrix=None) -> WindowState:
    """A chain at a position before its warm-up, in the precision of the position."""
    import blackjax  # not above: its import starts XLA, after which devices cannot be chosen
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    chain = blackjax.hmc.init(position, setting.log_density)
    size, step_size = ravel_pytree(position)[0].size, kernel.initial_step_size
    mass_matrix_state = mass_matrix_adaptation(not kernel.dense)[0](size)
    if inverse_mass_matrix is not None:
        mass_matrix_state = mass_matrix_state._replace(inverse_mass_matrix=inverse_mass_matrix)
    tuning = (
        jnp.asarray(step_size),
        mass_matrix_state.inverse_mass_matrix,
        dual_averaging_adaptation(kernel.target_acceptance)[0](step_size),
        mass_matrix_state,
    )
    dtype = ravel_pytree(position)[0].dtype
    return WindowState(chain, *jax.tree.map(lambda x: as_type(dtype, x), tuning))


def update(kernel: AdaptedKernel, setting: Setting, state: WindowState, chain, acceptance_rate, index) -> WindowState:
    """The state after a transition to ``chain``; after the warm-up only the chain changes.

    Source: Stan reference manual, "HMC algorithm parameters"; BlackJAX ``window_adaptation.build_schedule``.
    """
    from blackjax.adaptation.window_adaptation import build_schedule

    warmup = setting.warmup
    if warmup == 0:
        return state._replace(chain=chain)
    label, window_ends = jnp.asarray(build_schedule(warmup))[jnp.minimum(index, warmup - 1)]
    adapt_metric = kernel.adapts_metric(setting)
    slow, window_ends = (label == 1) & adapt_metric, (window_ends == 1) & adapt_metric
    last = index == warmup - 1
    adapted = jax.lax.cond(
        index < warmup,
        lambda: _adapt(kernel, state, chain.position, acceptance_rate, slow, window_ends, last),
        lambda: state,
    )
    return adapted._replace(chain=chain)


def statistics(chain, info, step_size) -> dict:
    """Statistics of one Hamiltonian transition under ArviZ's names, from BlackJAX's state and info after it."""
    return {
        "lp": chain.logdensity,
        "energy": info.energy,
        "acceptance_rate": info.acceptance_rate,
        "n_steps": info.num_integration_steps,
        "diverging": info.is_divergent,
        "step_size": step_size,
    }


def metric(inverse_mass_matrix):
    """BlackJAX's Euclidean metric, with the kinetic energy summed in float64 (see ``models.weight_space``).

    Args:
        inverse_mass_matrix: diagonal [D] or full [D, D]: estimates of the position's variances or covariance.

    Returns:
        A metric for BlackJAX's kernels.
    """
    from blackjax.mcmc.metrics import gaussian_euclidean

    def kinetic_energy(momentum, position=None):
        flat = ravel_pytree(momentum)[0]
        velocity = inverse_mass_matrix * flat if inverse_mass_matrix.ndim < 2 else inverse_mass_matrix @ flat
        return 0.5 * jnp.sum(velocity * flat, dtype=jnp.float64)

    return gaussian_euclidean(inverse_mass_matrix)._replace(kinetic_energy=kinetic_energy)


def _adapt(kernel, state, position, acceptance_rate, slow, window_ends, last):
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    step_init, step_update, step_final = dual_averaging_adaptation(kernel.target_acceptance)
    _, mass_update, mass_final = mass_matrix_adaptation(not kernel.dense)
    dtype = state.step_size.dtype

    # a trajectory that met a NaN counts as rejected
    acceptance_rate = jnp.where(jnp.isfinite(acceptance_rate), acceptance_rate, 0.0)
    step_state = like(state.step_size_state, step_update(state.step_size_state, acceptance_rate))
    mass_state = jax.lax.cond(
        slow,
        lambda: like(state.mass_matrix_state, mass_update(state.mass_matrix_state, position)),
        lambda: state.mass_matrix_state,
    )

    def end_of_window():
        final = mass_final(mass_state)
        return like(state.mass_matrix_state, final), like(step_state, step_init(step_final(step_state)))

    mass_state, step_state = jax.lax.cond(window_ends, end_of_window, lambda: (mass_state, step_state))
    step_size = jnp.where(last, step_final(step_state), jnp.exp(step_state.log_step_size))
    return state._replace(
        step_size=step_size.astype(dtype),
        inverse_mass_matrix=mass_state.inverse_mass_matrix,
        step_size_state=step_state,
        mass_matrix_state=mass_state,
    )


def as_type(dtype, x):
    """x as an array, floating numbers in a given precision."""
    x = jnp.asarray(x)
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def like(reference, tree):
    """A tree with the dtypes of another: state must keep its types from one transition to the next."""
    return jax.tree.map(lambda r, x: jnp.asarray(x).astype(jnp.asarray(r).dtype), reference, tree)
