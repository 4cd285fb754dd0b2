r"""The large-N theory: the saddle point of the collapsed posterior (docs/model.md, section 6).

At N -> infinity with P/N fixed the order parameters concentrate where the action is least. In the Bartlett
coordinates of ``models.collapsed`` (U_l = C_l C_l^T, C_l = sigma_l (I (x) C_{l+1}) M_l) the entropies separate:

    S = sum_{l=L+1..1} N_l [ |M_l|^2 + |X_l|^2 - 2 log det M_l - k_l log sigma_l^2 ] + E(U_1)          (E: ``energy``)

with X_l where a layer has a skip connection. This is -2 x the large-N exponent of the collapsed density. It is
minimised by a trust-region Newton method (SciPy) with the exact Hessian. Coordinates are of order one at every width
and temperature, so the solution at one (N, T) is a good start for its neighbours.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from ..core import cards, checks
from ..core.numerics import numerics, on_host
from ..models import Posterior
from ..models.collapsed import (
    CollapsedData,
    Layout,
    bartlett_factors,
    is_diagonal,
    layout,
    order_parameters,
    square_roots,
)
from ..models.network import OrderParameters
from ..models.paths import PathInputs
from ..models.reduction import Reduction
from ..models.shown import posterior_rows
from ..models.solvable import check_solvable
from . import many_paths
from .energy import derivative_data, energy, hessian

GRADIENT_TOLERANCE = 1e-8  # max |d (S / max N) / d theta|: U then agrees with the saddle to about 1e-7 relative
_MAX_ITERATIONS = 500
_SPREAD = 0.5  # of random starts, in coordinates that are of order one
_SAME = 1e-4  # solutions whose U_1 differ by less, relative to its largest entry, are one


class TheoryWarning(UserWarning):
    """A saddle point that was not found, or not alone."""


@dataclass(frozen=True, eq=False)
class Theory:
    """Order parameters of the theory, and how well they were found.

    Attributes:
        posterior: what was solved.
        U_a: scalar, or [m, m] of m outputs.
        U: (U_1, .., U_L), U_l [k_l m, k_l m], k_l = H_l..H_L, paths in C order, the output fastest.
        action: S / max_l N_l; NaN for the GP limit.
        gradient_norm: largest |d action / d theta| at the solution; 0 for the GP limit.
        hessian_min: smallest eigenvalue of the action's Hessian in the independent entries of (U_a, U_L, .., U_1);
            NaN for the GP limit, and with more than 1,500 coordinates (``many_paths``) that in coordinates in which the
            entropies' Hessian at the GP limit is the identity.
        converged: gradient below tolerance and Hessian positive definite; ``problem`` says why not.
        iterations: Newton steps taken.
        theta: the Bartlett coordinates of the solution [D] (``models.collapsed``).
        paths: names of the paths kept, None for all.
        covariance: of the independent entries of U_1 (upper triangle, row-major) in the Gaussian approximation at the
            saddle, [B, B], B = H m (H m + 1)/2: the leading finite-width fluctuation, of order 1/N. None for the GP
            limit, and with more than 1,500 coordinates.
        others: stationary points of other starts that differ from this one, lowest action first.
    """

    posterior: Posterior
    U_a: float | np.ndarray
    U: tuple[np.ndarray, ...]
    action: float
    gradient_norm: float
    hessian_min: float
    converged: bool
    iterations: int
    theta: np.ndarray
    paths: tuple[str, ...] | None = None
    covariance: np.ndarray | None = None
    others: tuple[Theory, ...] = ()

    def __repr__(self) -> str:
        state = f"{'converged' if self.converged else 'not converged'} in {self.iterations} steps"
        U_a = f"{self.U_a:.4g}" if np.ndim(self.U_a) == 0 else f"trace {np.trace(self.U_a):.4g}"
        return f"Theory({self.posterior}, U_a={U_a}, {state})"

    def _repr_html_(self) -> str:
        limit = np.isnan(self.action)
        rows: dict[str, Any] = {"U_a": self.U_a} | {f"U_{l}": U for l, U in enumerate(self.U, start=1)}
        if not limit:
            rows |= {"action": self.action, "smallest Hessian eigenvalue": self.hessian_min}
            rows |= {"largest gradient": f"{self.gradient_norm:.1e} after {self.iterations} Newton steps"}
            rows |= {"other stationary points": len(self.others) or None}
        about = {"paths kept": None if self.paths is None else ", ".join(self.paths)}
        title = "GP limit" if limit else "Theory: saddle point"
        return cards.card(title, (rows | about | posterior_rows(self.posterior)).items(), self.problem)

    @property
    def train(self) -> PathInputs:
        """The training inputs the theory was solved for: those of the paths kept."""
        return self._kept(self.posterior.data)

    @property
    def reduction(self) -> Reduction:
        """The examples to compute with (``Posterior.reduction``), of the paths kept."""
        found = self.posterior.reduction
        return dataclasses.replace(found, data=self._kept(found.data))

    def _kept(self, data: PathInputs) -> PathInputs:
        return data if self.paths is None else data.select(self.paths)

    @property
    def problem(self) -> str | None:
        """Why it did not converge and what to do, None if it did."""
        if self.converged:
            return None
        if self.gradient_norm < GRADIENT_TOLERANCE:
            return f"a saddle, not a minimum (smallest Hessian eigenvalue {self.hessian_min:.1e}): ask for more starts"
        return (
            f"gradient {self.gradient_norm:.1e} above {GRADIENT_TOLERANCE:.0e} after {self.iterations} Newton steps: "
            "start from a neighbouring solution (theory.grid), or raise the temperature"
        )


def solve(posterior: Posterior, paths: Sequence | None = None, starts: int = 1, key: jax.Array | None = None) -> Theory:
    """Saddle point of the large-N theory, in float64.

    Args:
        posterior: network, data and temperature.
        paths: names or indices of the paths of a sub-network (all combinations of some heads of each layer), with
            their own number in place of H; default all.
        starts: number of starting points: the GP limit, then random ones. The solution of lowest action is returned.
        key: typed random key of the random starts, needed with ``starts`` above 1.

    Returns:
        Theory; look at ``converged``, and at ``others`` with several starts.

    Raises:
        ValueError: unknown paths or a set that is not a sub-network; K + T I not positive definite in float64; starts
            below 1, or above 1 without a key.

    Source: docs/model.md, section 6; arXiv:2405.15926, section 3.
    """
    check_solvable("the theory", posterior)
    starts = checks.count("starts", starts)
    if starts > 1:
        key = checks.random_key("key", key)
    with numerics(), on_host(posterior.reduction.y.size):
        problem = prepare(posterior, paths)
        begin = [np.zeros(problem.shape.size)]  # M = I, the GP limit
        if key is not None:
            begin += list(_SPREAD * np.asarray(jax.random.normal(key, (starts - 1, problem.shape.size))))
        found = [minimise(problem, theta) for theta in begin]
    found.sort(key=lambda t: (not t.converged, t.action))
    best, others = found[0], _distinct(found)[1:]
    if others:
        warnings.warn(
            f"{len(others)} other stationary point(s), with action {others[0].action:.6g} and above against "
            f"{best.action:.6g}: see theory.others",
            TheoryWarning,
            stacklevel=2,
        )
    return dataclasses.replace(best, others=others)


def gp(posterior: Posterior, paths: Sequence | None = None) -> Theory:
    """The infinite-width limit at fixed P: U_l = sigma_a^2 sigma_L^2 .. sigma_l^2 I, no paths preferred.

    With skip connections U_l is block-diagonal, U_{l+1} and sigma_l^2 U_{l+1} for each head.

    Args:
        posterior: network, data and temperature.
        paths: names or indices of the paths of a sub-network, any set; default all.

    Returns:
        Theory without action, Hessian and covariance (NaN, None).

    Raises:
        ValueError: unknown paths.

    Source: docs/model.md, section 3.
    """
    check_solvable("the GP limit", posterior)
    network = posterior.network
    shape = layout(network, singular=False)
    theta = np.zeros(shape.size)  # M = I, and X = 0
    with numerics():
        U_a, U = _on_host(order_parameters(shape, jnp.asarray(network.variances, float), jnp.asarray(theta)))
    names = None
    if paths is not None:
        index, names = posterior.data.path_indices(paths), posterior.data.select(paths).path_names
        rows = (np.array(index)[:, None] * network.outputs + np.arange(network.outputs)).ravel()
        U = (U[0][np.ix_(rows, rows)], *U[1:])
    return Theory(posterior, U_a, U, np.nan, 0.0, np.nan, True, 0, theta, names)


class SaddlePoint(NamedTuple):
    """One saddle point to find: arrays on the device, and what the solution is to be called."""

    posterior: Posterior  # as the user gave it
    paths: tuple[str, ...] | None
    shape: Layout
    data: CollapsedData
    parts: Any

    def at(self, posterior: Posterior) -> SaddlePoint:
        """The same data at other widths and another temperature."""
        data = self.data._replace(
            temperature=jnp.asarray(posterior.temperature, float), widths=jnp.asarray(posterior.network.widths, float)
        )
        return self._replace(posterior=posterior, data=data)


def prepare(posterior, paths) -> SaddlePoint:
    """The saddle point of a posterior, or of some of its paths, to be found; inside ``core.numerics.numerics()``."""
    part = posterior if paths is None else posterior.select(paths)
    data = part.collapsed_data()
    names = None if paths is None else part.data.path_names
    shape = layout(part.network, singular=False)
    parts = None if shape.size > many_paths.MANY else derivative_data(part.reduction.data.flat, part.network.outputs)
    return SaddlePoint(posterior, names, shape, data, parts)


def minimise(problem: SaddlePoint, start) -> Theory:
    """The minimum of the action that Newton steps reach from ``start`` [D], whether they converge or not."""
    if problem.parts is None:
        return _solve_many(problem, start)
    shape, data, parts = problem.shape, problem.data, problem.parts
    found = scipy.optimize.minimize(
        lambda theta: _host(_action(shape, data, theta)),
        start,
        jac=True,
        hess=lambda theta: np.asarray(_action_hessian(shape, data, parts, theta)),
        method="trust-exact",
        options={"gtol": GRADIENT_TOLERANCE / 10, "maxiter": _MAX_ITERATIONS},
    )
    theta, action, gradient = _polish(shape, data, parts, found.x)
    hessian = np.asarray(_symmetric_hessian(shape, data, parts, theta))
    hessian_min = float(np.linalg.eigvalsh(hessian)[0])
    U_a, U = _on_host(order_parameters(shape, data.variances, jnp.asarray(theta)))
    gradient_norm = float(np.abs(gradient).max())
    J = np.asarray(_sensitivity(shape, data, theta))
    covariance = 2 / float(jnp.max(data.widths)) * J @ np.linalg.inv(hessian) @ J.T
    return Theory(
        posterior=problem.posterior,
        U_a=U_a,
        U=U,
        action=action,
        gradient_norm=gradient_norm,
        hessian_min=hessian_min,
        converged=bool(gradient_norm < GRADIENT_TOLERANCE and hessian_min > 0),
        iterations=int(found.nit),
        theta=theta,
        paths=problem.paths,
        covariance=covariance,
    )


def _solve_many(problem: SaddlePoint, start) -> Theory:
    """Of too many paths for a Hessian."""
    shape, data = problem.shape, problem.data
    scales, largest = np.asarray(_unit_scales(shape, data)), float(jnp.max(data.widths))
    tolerance = GRADIENT_TOLERANCE / 10 * largest * scales.min() / 2
    found = many_paths.least(_UNIT_CHART, shape, data, tolerance, start / scales)
    theta = found.t * scales
    hessian_min = many_paths.smallest(_UNIT_CHART, shape, data, found.t)
    gradient_norm = float(np.abs(2 * found.gradient / scales).max()) / largest
    U_a, U = _on_host(order_parameters(shape, data.variances, jnp.asarray(theta)))
    return Theory(
        posterior=problem.posterior,
        U_a=U_a,
        U=U,
        action=float(_action(shape, data, theta)[0]),
        gradient_norm=gradient_norm,
        hessian_min=hessian_min,
        converged=bool(gradient_norm < GRADIENT_TOLERANCE and hessian_min > 0),
        iterations=found.steps,
        theta=theta,
        paths=problem.paths,
    )


def _unit_scales(shape: Layout, data: CollapsedData):
    """Of theta [D]: the entropies' Hessian at M = I is the identity in theta / scales."""
    sizes = np.array([layer.size for layer in shape.layers])
    N = jnp.repeat(data.widths[::-1], sizes, total_repeat_length=shape.size)
    return jnp.sqrt(jnp.where(is_diagonal(shape), 0.5, 1.0) / N)


_UNIT_CHART = many_paths.Chart(
    theta=lambda shape, data, t: _unit_scales(shape, data) * t,
    rest=lambda shape, data, t: 0.5 * _entropy(shape, data, _unit_scales(shape, data) * t),
)


def _distinct(found: list[Theory]) -> tuple[Theory, ...]:
    kept: list[Theory] = []
    for theory in found:
        U_1 = theory.U[0]
        if all(np.abs(U_1 - other.U[0]).max() > _SAME * np.abs(U_1).max() for other in kept):
            kept.append(theory)
    return tuple(kept)


def _polish(shape, data, parts, theta):
    """Plain Newton steps while they shrink the gradient: the trust region stops where S itself is down to rounding."""
    action, gradient = _host(_action(shape, data, theta))
    for _ in range(5):
        if np.abs(gradient).max() < GRADIENT_TOLERANCE / 100:
            break
        trial = theta - np.linalg.solve(np.asarray(_action_hessian(shape, data, parts, theta)), gradient)
        trial_action, trial_gradient = _host(_action(shape, data, trial))
        if not np.abs(trial_gradient).max() < np.abs(gradient).max():
            break
        theta, action, gradient = trial, trial_action, trial_gradient
    return theta, action, gradient


def _host(value_and_gradient):
    value, gradient = value_and_gradient
    return float(value), np.asarray(gradient)


def _entropy(shape: Layout, data: CollapsedData, theta):
    total = jnp.zeros(())
    for l, (M, log_diagonal, X) in enumerate(bartlett_factors(shape, theta)):
        N, variance = data.widths[-1 - l], data.variances[-1 - l]
        total += N * (jnp.sum(M**2) - 2 * jnp.sum(log_diagonal) - M.shape[0] * jnp.log(variance))
        total += 0.0 if X is None else N * jnp.sum(X**2)
    return total


@partial(jax.jit, static_argnums=0)
@partial(jax.value_and_grad, argnums=2)
def _action(shape: Layout, data: CollapsedData, theta):
    S = _entropy(shape, data, theta) + energy(data, order_parameters(shape, data.variances, theta).U[0])
    return S / jnp.max(data.widths)


@partial(jax.jit, static_argnums=0)
def _action_hessian(shape: Layout, data: CollapsedData, parts, theta):
    return hessian(shape, data, parts, lambda t: _entropy(shape, data, t), theta) / jnp.max(data.widths)


@partial(jax.jit, static_argnums=0)
def _symmetric_hessian(shape: Layout, data: CollapsedData, parts, theta):
    """Hessian in the independent entries of (U_a, U_L, .., U_1); exact where the gradient vanishes."""
    inverse = jnp.linalg.inv(jax.jacfwd(partial(_entries, shape, data.variances))(theta))
    return inverse.T @ _action_hessian(shape, data, parts, theta) @ inverse


@partial(jax.jit, static_argnums=0)
def _sensitivity(shape: Layout, data: CollapsedData, theta):
    """Derivative of the entries of U_1 [B] in the independent ones of (U_a, U_L, .., U_1)."""

    def upper(t):
        U_1 = order_parameters(shape, data.variances, t).U[0]
        return U_1[np.triu_indices(len(U_1))]

    inverse = jnp.linalg.inv(jax.jacfwd(partial(_entries, shape, data.variances))(theta))
    return jax.jacfwd(upper)(theta) @ inverse


def _entries(shape: Layout, variances, theta):
    """Independent entries of (U_a, U_L, .., U_1): below a skip connection, those not in the layer above."""
    found, above = [], 0
    for layer, C in zip(shape.layers, square_roots(shape, variances, theta), strict=True):
        first, second = np.triu_indices(len(C))
        new = second >= (above if layer.skip else 0)
        found.append((C @ C.T)[first[new], second[new]])
        above = len(C)
    return jnp.concatenate(found)


def _on_host(found: OrderParameters) -> OrderParameters:
    """Order parameters as NumPy arrays, U_a of one output as a float."""
    U_a = np.asarray(found.U_a)
    return OrderParameters(U_a if U_a.ndim else float(U_a), tuple(np.asarray(u) for u in found.U))
