r"""Newton's method for the collapsed density and the action of hundreds of paths, without any matrix [D, D].

D = H(H+1)/2 and more coordinates are too many for a Hessian, but in coordinates t in which the prior is a unit Gaussian
it is the identity plus what the data say, and its products with vectors cost two passes over the path kernels:

    dE/dU       = sigma_0^2 sum G C,           G  = A^{-1} - alpha alpha^T,     A = sigma_0^2 K(U) + T I
    d2E/dU2 [V] = sigma_0^2 sum dG C,          dG = -A^{-1} dA A^{-1} + u alpha^T + alpha u^T,
    dA          = sigma_0^2 K(V),              u  = A^{-1} dA alpha

with A factorised once per point. SciPy's truncated Newton method (``trust-ncg``) needs no more, and Lanczos gives the
directions in which the Hessian is not the identity.

Source: docs/model.md, sections 4 and 6; Nocedal and Wright 2006, section 7.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse.linalg
from jaxtyping import Array, Float

from ..models.collapsed import CollapsedData, Layout, order_parameters
from ..models.path_kernel import combine, project

MANY = 1500  # coordinates from which on nothing of their number squared is made
_STEPS = 200
_ROUGH = 1e-4  # largest entry of the gradient where the trust region has done its part
_FORCING = 1e-3  # residual of the linear system of a plain Newton step, relative
_RANK, _SHARE = 64, 0.25  # directions that Lanczos looks for: at most so many, and this share of all
_FLAT = 0.1  # eigenvalues that differ from 1 by less count as 1: the Gaussian is then off by 5 % in that direction
_SEED = 0  # of Lanczos' first vector


class Chart(NamedTuple):
    """Coordinates t of the order parameters and the rest of the function, which has no factorisation in it.

    Both functions are compared by identity, so they must be module-level functions.

    Attributes:
        theta: (shape, data, t) -> Bartlett coordinates.
        rest: (shape, data, t) -> what is added to E(U_1) / 2.
    """

    theta: Callable
    rest: Callable


class Found(NamedTuple):
    """Where a function is least.

    Attributes:
        t: coordinates [D].
        value, gradient: of the function, the latter [D].
        steps: Newton steps taken.
    """

    t: np.ndarray
    value: float
    gradient: np.ndarray
    steps: int


def least(chart: Chart, shape: Layout, data: CollapsedData, tolerance: float, start: np.ndarray) -> Found:
    """The minimum of rest(t) + E(U_1(theta(t))) / 2.

    Args:
        chart: the coordinates.
        shape: their layout.
        data: of the collapsed density.
        tolerance: of the gradient's largest entry.
        start: t to begin at [D].

    Returns:
        Found, whether or not the tolerance was reached.
    """
    memory = _Products(chart, shape, data)

    def value(t):
        found, gradient = _value(chart, shape, data, t)
        return float(found), np.asarray(gradient)

    found = scipy.optimize.minimize(
        value, start, jac=True, hessp=memory.product, method="trust-ncg",
        options={"gtol": max(tolerance, _ROUGH), "maxiter": _STEPS, "max_trust_radius": 1e4,
                 "initial_trust_radius": 5.0},
    )  # fmt: skip
    best = Found(found.x, float(found.fun), np.asarray(found.jac), int(found.nit))
    while np.abs(best.gradient).max() > tolerance and best.steps < _STEPS:
        # plain Newton steps while they shrink the gradient: differences of values are down to rounding here
        operator = scipy.sparse.linalg.LinearOperator(
            (shape.size,) * 2, matvec=partial(memory.product, best.t), dtype=float
        )
        step, _ = scipy.sparse.linalg.cg(operator, -best.gradient, rtol=_FORCING, maxiter=_RANK)
        at, gradient = value(best.t + step)
        trial = Found(best.t + step, at, gradient, best.steps + 1)
        if not np.abs(trial.gradient).max() < 0.5 * np.abs(best.gradient).max():
            break
        best = trial
    return best


def smallest(chart: Chart, shape: Layout, data: CollapsedData, t: np.ndarray) -> float:
    """The smallest eigenvalue of the Hessian at t, to some per cent.

    Args:
        chart, shape, data: as for ``least``.
        t: coordinates [D].
    """
    memory = _Products(chart, shape, data)
    operator = scipy.sparse.linalg.LinearOperator((shape.size,) * 2, matvec=partial(memory.product, t), dtype=float)
    first = np.random.default_rng(_SEED).standard_normal(shape.size)
    return float(scipy.sparse.linalg.eigsh(operator, 1, which="SA", tol=5e-2, v0=first, return_eigenvectors=False)[0])


def directions(chart: Chart, shape: Layout, data: CollapsedData, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(eigenvalues [r], eigenvectors [D, r]) of the Hessian at t that are not close to 1, by Lanczos.

    Args:
        chart, shape, data: as for ``least``.
        t: coordinates [D].
    """
    memory = _Products(chart, shape, data)
    operator = scipy.sparse.linalg.LinearOperator(
        (shape.size, shape.size), matvec=lambda v: memory.product(t, v) - np.ravel(v), dtype=float
    )
    rank = min(_RANK, int(_SHARE * shape.size) - 1)
    first = np.random.default_rng(_SEED).standard_normal(shape.size)
    values, vectors = scipy.sparse.linalg.eigsh(operator, rank, which="LM", tol=1e-2, v0=first)
    kept = np.abs(values) > _FLAT
    return 1 + values[kept], vectors[:, kept]


class _Products:
    """Products of the Hessian with vectors; what depends on the point alone is kept for the next one."""

    def __init__(self, chart, shape, data):
        self._problem = chart, shape, data
        self._at: tuple | None = None

    def product(self, t, v) -> np.ndarray:
        """Hessian at t times v."""
        if self._at is None or not np.array_equal(self._at[0], t):
            self._at = np.array(t), _point(*self._problem, t)
        return np.asarray(_product(*self._problem, t, self._at[1], np.ravel(v)))


@partial(jax.jit, static_argnums=(0, 1))
@partial(jax.value_and_grad, argnums=3)
def _value(chart: Chart, shape: Layout, data: CollapsedData, t):
    return chart.rest(shape, data, t) - data.term.log_likelihood(_matrix(chart, shape, data, t))


def _matrix(chart, shape, data, t):
    """U_1 at t."""
    return order_parameters(shape, data.variances, chart.theta(shape, data, t)).U[0]


@partial(jax.jit, static_argnums=(0, 1))
def _point(chart, shape, data, t) -> tuple[Array, Array, Array]:
    """(A^{-1}, alpha, dE/dU_1) at t."""
    half = data.term.inverse_factor(_matrix(chart, shape, data, t))
    inverse = half.T @ half
    alpha = inverse @ data.y.reshape(-1)
    return inverse, alpha, _projected(data, inverse - jnp.outer(alpha, alpha))


def _projected(data, G):
    """sigma_0^2 sum G C, for symmetric G."""
    packed = jnp.concatenate([G[first:last, :last].ravel() for first, last in data.kernel.panels])
    return data.variances[0] * project(data.kernel, packed)


@partial(jax.jit, static_argnums=(0, 1))
def _product(chart, shape, data, t, point, v: Float[Array, " D"]) -> Float[Array, " D"]:
    inverse, alpha, slope = point
    U = partial(_matrix, chart, shape, data)
    _, V = jax.jvp(U, (t,), (v,))
    dA = data.variances[0] * combine(data.kernel, V)
    left = inverse @ dA
    u = left @ alpha
    dG = -left @ inverse + jnp.outer(u, alpha) + jnp.outer(alpha, u)
    curved = _projected(data, dG)
    _, back = jax.vjp(U, t)
    rest = lambda t: chart.rest(shape, data, t) + 0.5 * jnp.sum(slope * U(t))  # noqa: E731
    return 0.5 * back(curved)[0] + jax.jvp(jax.grad(rest), (t,), (v,))[1]
