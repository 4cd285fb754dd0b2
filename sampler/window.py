"""What Hamiltonian kernels share: Stan's windowed warm-up from BlackJAX's parts, one transition at a time, so
that the driver can stop anywhere.

Step size by dual averaging throughout; mass matrix by Welford's estimator over windows that double
(blackjax.adaptation; Stan reference manual, "HMC algorithm parameters").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..models import checks


class WindowState(NamedTuple):
    """State of an adapted chain: BlackJAX's chain state, its tuning, and what the tuning is estimated from."""

    chain: Any
    step_size: jax.Array
    inverse_mass_matrix: jax.Array
    step_size_state: Any
    mass_matrix_state: Any


def check_options(kernel) -> None:
    """Check the options that all these kernels have."""
    checks.positive("initial_step_size", kernel.initial_step_size)
    if not 0 < checks.positive("target_acceptance", kernel.target_acceptance) < 1:
        raise checks.InputError(f"target_acceptance={kernel.target_acceptance} must lie between 0 and 1")


def start(kernel, target, data, position, dense: bool = False, inverse_mass_matrix=None) -> WindowState:
    """A chain at a position of the target, before its warm-up; the metric is the unit one by default."""
    import blackjax  # not above: its import starts XLA, after which devices cannot be chosen
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    chain = blackjax.hmc.init(position, lambda p: target.log_density(data, p))
    size, step_size = ravel_pytree(position)[0].size, kernel.initial_step_size
    dtype = chain.logdensity.dtype
    mass_matrix_state = mass_matrix_adaptation(not dense)[0](size)
    if inverse_mass_matrix is not None:
        mass_matrix_state = mass_matrix_state._replace(inverse_mass_matrix=inverse_mass_matrix)
    state = WindowState(
        chain,
        jnp.asarray(step_size),
        mass_matrix_state.inverse_mass_matrix,
        dual_averaging_adaptation(0.8)[0](step_size),
        mass_matrix_state,
    )
    return jax.tree.map(lambda x: _as(dtype, x), state)


def update(
    kernel, state: WindowState, chain, acceptance_rate, index, warmup: int, dense: bool, adapt_metric: bool = True
) -> WindowState:
    """The state after transition ``index``; past the warm-up only the chain changes."""
    from blackjax.adaptation.window_adaptation import build_schedule

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
    """Statistics of one Hamiltonian transition under ArviZ's names."""
    return {
        "lp": chain.logdensity,
        "energy": info.energy,
        "acceptance_rate": info.acceptance_rate,
        "n_steps": info.num_integration_steps,
        "diverging": info.is_divergent,
        "step_size": state.step_size,
    }


def _adapt(kernel, state, position, acceptance_rate, slow, window_ends, last, dense):
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    step_init, step_update, step_final = dual_averaging_adaptation(kernel.target_acceptance)
    _, mass_update, mass_final = mass_matrix_adaptation(not dense)
    dtype = state.step_size.dtype

    step_state = step_update(state.step_size_state, acceptance_rate)
    mass_state = jax.lax.cond(
        slow,
        lambda: _like(state.mass_matrix_state, mass_update(state.mass_matrix_state, position)),
        lambda: state.mass_matrix_state,
    )

    def end_of_window():
        final = mass_final(mass_state)
        return _like(state.mass_matrix_state, final), _like(step_state, step_init(step_final(step_state)))

    mass_state, step_state = jax.lax.cond(
        window_ends, end_of_window, lambda: (mass_state, _like(state.step_size_state, step_state))
    )
    step_size = jnp.where(last, step_final(step_state), jnp.exp(step_state.log_step_size))
    return state._replace(
        step_size=step_size.astype(dtype),
        inverse_mass_matrix=mass_state.inverse_mass_matrix,
        step_size_state=step_state,
        mass_matrix_state=mass_state,
    )


def _as(dtype, x):
    x = jnp.asarray(x)
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _like(reference, tree):
    return jax.tree.map(lambda r, x: jnp.asarray(x).astype(jnp.asarray(r).dtype), reference, tree)
