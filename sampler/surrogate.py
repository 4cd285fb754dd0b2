r"""A polynomial in place of the density's gradient, fitted before the run: a trajectory then costs one density.

With log p(z) = -|z|^2 / 2 + r(z) in the whitened coordinates of a guide, kicks p += a f(z) preserve volume and are
reversible whatever the vector field f is, so that split HMC with any f samples p exactly; the better f is for grad r,
the more is accepted. Here every component of f is a polynomial, fitted by least squares to the exact gradients and
Hessians of r at draws: a Hessian is D gradients' worth of equations and costs far less. The draws come from chains that
move by the polynomial of the round before, at first by none.

Sources: Neal 2011, section 5.5 (approximate trajectories); Zhang, Shahbaba and Zhao 2017 (surrogates of HMC);
docs/model.md, section 11.
"""

from __future__ import annotations

import math
from functools import cache, partial
from itertools import combinations_with_replacement
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import checks
from ..models import Posterior, collapsed
from ..models.target import Guide
from ..theory.energy import derivative_data
from .kernels.kernel import Setting
from .kernels.split import Place, SplitHMC, SplitState
from .mode import slopes

_MONOMIALS = 1500  # most of them in a component: more cost as much as the density itself
_EQUATIONS = 4  # for each coefficient, at least
_CHAINS, _TRANSITIONS, _KEPT = 48, 8, 4  # a group of draws: of every second transition
_ROUNDS = (1, 4)  # groups in each round, times what the equations ask for
_ROUNDS_OF_LINEAR = (1, 1)  # and then only the last draws of a group
_STUCK = 0.01  # an acceptance below cannot be told from none
_START = 0.5  # standard deviations of the Gaussian at which chains begin


class Surrogate(NamedTuple):
    """A vector field with polynomials for components.

    Attributes:
        centre: of the monomials [D].
        coefficients: of the monomials of degree 0, 1, .. in z - centre [F, D].
        acceptance: of split HMC with kicks by it, the harmonic mean over some chains, which a few in a tail make low.
    """

    centre: Float[Array, " D"]
    coefficients: Float[Array, "F D"]
    acceptance: Float[Array, ""]

    def slope(self, z: Float[Array, " D"]) -> Float[Array, " D"]:
        """Its value at z, close to the gradient of log p(z) + |z|^2 / 2."""
        F, D = self.coefficients.shape
        return _monomials(z - self.centre, _degree(D, F)) @ self.coefficients


def fitted(posterior: Posterior, setting: Setting, key: jax.Array) -> Guide:
    """The guide of a setting with a surrogate; it belongs inside ``core.numerics.numerics()``.

    Args:
        posterior: what is sampled.
        setting: its target and data, in straight coordinates, with the guide at the mode.
        key: typed random key of the chains that the fit learns from.

    Returns:
        The guide, with ``surrogate``; the same for the same key.

    Raises:
        ValueError: the guide is not one with a covariance matrix, or the Hessians would not fit in memory.
    """
    guide = setting.data.guide
    if not isinstance(guide, Guide):
        raise checks.InputError(
            f"kicks by a surrogate need Hessians in all {len(guide.centre):,} coordinates of the order parameters: "
            "use move='split', or SplitHMC without surrogate, for so many"
        )
    D = len(guide.centre)
    degree = next(d for d in (3, 2, 1) if math.comb(D + d, d) <= _MONOMIALS or d == 1)
    monomials = math.comb(D + degree, degree)
    groups = math.ceil(_EQUATIONS * monomials / (1 + D) / (_CHAINS * _KEPT))
    problem = collapsed.layout(posterior.network), posterior.collapsed_data()
    parts = derivative_data(posterior.reduction.data.flat, posterior.network.outputs)
    key_z, key_last, *keys = jax.random.split(key, 2 + len(_ROUNDS))
    z = _START * jax.random.normal(key_z, (1, _CHAINS, D))
    found = Surrogate(jnp.zeros(D), jnp.zeros((monomials, D)), jnp.zeros(()))

    def moved(key, z):
        return _moved(setting.target, setting.data._replace(guide=guide._replace(surrogate=found)), key, z[-1])

    for share, own in zip(_ROUNDS if degree > 1 else _ROUNDS_OF_LINEAR, keys, strict=True):
        draws = []
        for key_group in jax.random.split(own, share * groups):
            z, _ = moved(key_group, z)
            draws += list(z if degree > 1 else z[-1:])
        found = _least_squares(degree, problem, parts, guide, draws)
    return guide._replace(surrogate=found._replace(acceptance=moved(key_last, z)[1]))


@partial(jax.jit, static_argnums=0)
def _moved(target, data, key, z: Float[Array, "chains D"]) -> tuple[Float[Array, "kept chains D"], Float[Array, ""]]:
    """Draws of chains that start at z, and the harmonic mean of their acceptances."""
    setting, guide, kernel = Setting(target, data, 0, _CHAINS), data.guide, SplitHMC(surrogate=True)
    place = jax.vmap(guide.position)(z)
    state = SplitState(Place(place, jax.lax.map(setting.log_density, place)))

    def transition(state, keys):
        state, stats = jax.vmap(lambda k, s: kernel.step(setting, k, 0, s))(keys, state)
        return state, (jax.vmap(guide.whitened)(state.chain.position), stats["acceptance_rate"])

    _, (z, rates) = jax.lax.scan(transition, state, jax.random.split(key, (_TRANSITIONS, _CHAINS)))
    return z[1 :: _TRANSITIONS // _KEPT], _harmonic(rates)


def _harmonic(rates: Float[Array, "transitions chains"]) -> Float[Array, ""]:
    """Harmonic mean over chains of their acceptances: one over the time that a chain stays at a point."""
    return 1 / jnp.mean(1 / jnp.maximum(jnp.mean(rates, axis=0), _STUCK))


def _least_squares(degree, problem, parts, guide, draws) -> Surrogate:
    """The field whose values and derivatives at draws are those of grad r."""
    centre = jnp.mean(jnp.concatenate(draws), axis=0)
    sums = [_normal_equations(problem[0], degree, problem[1], parts, guide, centre, z) for z in draws]
    matrix, right = (np.sum(list(map(np.asarray, each)), axis=0) for each in zip(*sums, strict=True))
    scale = np.sqrt(np.diag(matrix))
    matrix = matrix / scale / scale[:, None] + np.finfo(float).eps * len(matrix) * np.eye(len(matrix))
    coefficients = np.linalg.solve(matrix, right / scale[:, None]) / scale[:, None]
    return Surrogate(centre, jnp.asarray(coefficients), jnp.zeros(()))


@partial(jax.jit, static_argnums=(0, 1))
def _normal_equations(shape, degree, data, parts, guide, centre, z):
    """X^T X and X^T Y of the equations at draws z [chains, D]."""
    gradient, hessian = jax.lax.map(lambda z: slopes(shape, data, parts, guide.position, z), z)
    monomials = lambda z: _monomials(z - centre, degree)  # noqa: E731
    D = z.shape[1]
    w = D**-0.5  # a gradient counts as much as one row of a Hessian: what no polynomial fits is larger in it
    values, derivatives = jax.vmap(monomials)(z), jnp.moveaxis(jax.vmap(jax.jacfwd(monomials))(z), 2, 1)
    X = jnp.concatenate([w * values[:, None], derivatives], axis=1)
    Y = jnp.concatenate([w * (z - gradient)[:, None], jnp.eye(D) - hessian], axis=1)
    X, Y = X.reshape(-1, X.shape[2]), Y.reshape(-1, D)
    return X.T @ X, X.T @ Y


def _degree(D: int, F: int) -> int:
    """That of F monomials in D coordinates."""
    return next(d for d in range(1, 4) if math.comb(D + d, d) == F)


def _monomials(x: Float[Array, " D"], degree: int) -> Float[Array, " F"]:
    """1, x_i, x_i x_j, .. up to a degree."""
    parts = [jnp.ones(1, x.dtype), x]
    for first, rest in _factors(len(x), degree):
        parts.append(x[first] * parts[-1][rest])
    return jnp.concatenate(parts)


@cache
def _factors(D: int, degree: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each degree from 2 on: x_i and the monomial of one degree less that make its monomials."""
    result: list[tuple[np.ndarray, np.ndarray]] = []
    places: dict[tuple[int, ...], int] = {(i,): i for i in range(D)}
    for d in range(2, degree + 1):
        names = list(combinations_with_replacement(range(D), d))
        result.append((np.array([n[0] for n in names]), np.array([places[n[1:]] for n in names])))
        places = {name: i for i, name in enumerate(names)}
    return result
