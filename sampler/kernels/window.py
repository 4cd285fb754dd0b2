"""What gradient-based kernels share: their options, Stan's windowed warm-up from BlackJAX's parts, the metric.

The warm-up goes one transition at a time, so that the driver can stop anywhere: step size by dual averaging
throughout, mass matrix by Welford's estimator over windows that double (blackjax.adaptation; Stan reference manual,
"HMC algorithm parameters").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ...core import checks
from .. import targets
from .kernel import Kernel


@dataclass(frozen=True, kw_only=True)
class GradientKernel(Kernel):
    """A kernel over weights that follows the gradient of the log-density.

    Args:
        space: ``"marginal"`` integrates V_0 out of the density and draws it exactly for each record (far better
            conditioned at low temperature; costs a P x P factorisation a gradient); ``"weights"`` keeps all weights.

    Raises:
        ValueError: an unknown space (the nearest is offered).
    """

    space: str = "marginal"

    def __post_init__(self):
        checks.nearest("space", self.space, targets.SPACES)

    def target(self, network, weights):
        return targets.of_weights(network, self.space)


@dataclass(frozen=True, kw_only=True)
class AdaptedKernel(GradientKernel):
    """A gradient-based kernel whose warm-up tunes the step size to an acceptance.

    Args:
        space: see ``GradientKernel``.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range, or an unknown space.
    """

    target_acceptance: float = 0.8
    initial_step_size: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        check_adaptation(self)


def check_adaptation(kernel) -> None:
    """Check the options of a warm-up that tunes the step size to an acceptance."""
    checks.positive("initial_step_size", kernel.initial_step_size)
    if not 0 < checks.positive("target_acceptance", kernel.target_acceptance) < 1:
        raise checks.InputError(f"target_acceptance={kernel.target_acceptance} must lie between 0 and 1")


class WindowState(NamedTuple):
    """State of an adapted chain: BlackJAX's chain state, its tuning, and what the tuning is estimated from."""

    chain: Any
    step_size: jax.Array
    inverse_mass_matrix: jax.Array
    step_size_state: Any
    mass_matrix_state: Any


def start(kernel, setting, position, dense: bool = False, inverse_mass_matrix=None) -> WindowState:
    """A chain at a position, before its warm-up.

    Args:
        kernel: has ``initial_step_size`` and ``target_acceptance``.
        setting, position: as for ``Kernel.init``.
        dense: adapt a full inverse mass matrix instead of a diagonal.
        inverse_mass_matrix: to begin with, [D] or, dense, [D, D]; default the unit matrix.

    Returns:
        WindowState in the precision of the position.
    """
    import blackjax  # not above: its import starts XLA, after which devices cannot be chosen
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    chain = blackjax.hmc.init(position, setting.log_density)
    size, step_size = ravel_pytree(position)[0].size, kernel.initial_step_size
    mass_matrix_state = mass_matrix_adaptation(not dense)[0](size)
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


def update(
    kernel, setting, state: WindowState, chain, acceptance_rate, index, dense: bool, adapt_metric: bool = True
) -> WindowState:
    """The state after a transition; past the warm-up only the chain changes.

    Args:
        kernel, setting: as for ``start``.
        state: before the transition.
        chain: BlackJAX's state after it.
        acceptance_rate: of the transition (scalar); NaN counts as 0.
        index: number of the transition (scalar), from 0.
        dense: as for ``start``.
        adapt_metric: False keeps the inverse mass matrix.

    Returns:
        WindowState.

    Source: Stan reference manual, "HMC algorithm parameters"; BlackJAX ``window_adaptation.build_schedule``.
    """
    from blackjax.adaptation.window_adaptation import build_schedule

    warmup = setting.warmup
    if warmup == 0:
        return state._replace(chain=chain)
    label, window_ends = jnp.asarray(build_schedule(warmup))[jnp.minimum(index, warmup - 1)]
    slow, window_ends = (label == 1) & adapt_metric, (window_ends == 1) & adapt_metric
    last = index == warmup - 1
    adapted = jax.lax.cond(
        index < warmup,
        lambda: _adapt(kernel, state, chain.position, acceptance_rate, slow, window_ends, last, dense),
        lambda: state,
    )
    return adapted._replace(chain=chain)


def statistics(chain, info, state: WindowState) -> dict:
    """Statistics of one Hamiltonian transition.

    Args:
        chain, info: BlackJAX's state after the transition and what it says of it.
        state: has the ``step_size`` that was used.

    Returns:
        lp, energy, acceptance_rate, n_steps, diverging, step_size: scalars under ArviZ's names.
    """
    return {
        "lp": chain.logdensity,
        "energy": info.energy,
        "acceptance_rate": info.acceptance_rate,
        "n_steps": info.num_integration_steps,
        "diverging": info.is_divergent,
        "step_size": state.step_size,
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


def _adapt(kernel, state, position, acceptance_rate, slow, window_ends, last, dense):
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    step_init, step_update, step_final = dual_averaging_adaptation(kernel.target_acceptance)
    _, mass_update, mass_final = mass_matrix_adaptation(not dense)
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
