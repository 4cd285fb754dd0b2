r"""The large-N theory: the saddle point of the collapsed posterior (docs/model.md, section 6).

At N -> infinity with P/N fixed the order parameters concentrate where the action is least. In the Bartlett
coordinates of ``models.collapsed`` (U_l = C_l C_l^T, C_l = sigma_l (I (x) C_{l+1}) M_l) the entropies separate:

    S = sum_{l=L+1..1} N_l [ |M_l|^2 - 2 log det M_l - k_l log sigma_l^2 ] + log det(K + T I) + y^T (K + T I)^{-1} y

This is -2 x the large-N exponent of the collapsed density. It is minimised by a trust-region Newton method (SciPy) with
the exact Hessian: the data term is differentiated in closed form in U_1, the rest by JAX.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from ..models import Posterior, checks
from ..models.collapsed import CollapsedData, Layout, bartlett_factors, layout, order_parameters
from ..models.numerics import numerics
from ..models.path_kernel import PathKernel, block_bytes, log_likelihood, symmetric_blocks
from ..models.paths import PathInputs

GRADIENT_TOLERANCE = 1e-8  # max |d (S / max N) / d theta|: U then agrees with the saddle to about 1e-7 relative
_MAX_ITERATIONS = 500


@dataclass(frozen=True, eq=False)
class Theory:
    """Order parameters of the theory, and how well they were found.

    Attributes:
        posterior: what was solved.
        U_a: scalar.
        U: (U_1, .., U_L), U_l [k_l, k_l], k_l = H_l..H_L, paths in C order.
        action: S / max_l N_l; NaN for the GP limit.
        gradient_norm: largest |d action / d theta| at the solution; 0 for the GP limit.
        hessian_min: least eigenvalue of the action's Hessian in the independent entries of (U_a, U_L, .., U_1);
            NaN for the GP limit.
        converged: gradient below tolerance and Hessian positive definite.
        iterations: Newton steps taken.
        theta: the Bartlett coordinates of the solution (``models.collapsed``).
        paths: names of the paths kept, None for all.
    """

    posterior: Posterior
    U_a: float
    U: tuple[np.ndarray, ...]
    action: float
    gradient_norm: float
    hessian_min: float
    converged: bool
    iterations: int
    theta: np.ndarray
    paths: tuple[str, ...] | None = None

    @property
    def train(self) -> PathInputs:
        """The training inputs the theory was solved for: those of the paths kept."""
        return self.posterior.data if self.paths is None else self.posterior.data.select(self.paths)


def solve(posterior: Posterior, paths: Sequence | None = None) -> Theory:
    """Saddle point of the large-N theory, in float64.

    Args:
        posterior: network, data and temperature.
        paths: names or indices of the paths of a sub-network (all combinations of some heads of each layer), with
            their own number in place of H; default all.

    Returns:
        Theory; look at ``converged``.

    Raises:
        ValueError: unknown paths or a set that is no sub-network; K + T I not positive definite in float64.

    Source: docs/model.md, section 6; arXiv:2405.15926, section 3.
    """
    part = posterior if paths is None else posterior.select(paths)
    shape = layout(part.network, singular=False)
    with numerics():
        data = part.collapsed_data()
        checks.memory(
            f"theory of {part.data.paths} paths", 2 * block_bytes(part.data.flat.shape), "fewer paths or examples"
        )
        if data.kernel.blocks is None:  # the exact Hessian needs the blocks
            data = data._replace(kernel=PathKernel(symmetric_blocks(data.kernel.xi), None))
        start = np.zeros(shape.size)  # M = I, the GP limit
        found = scipy.optimize.minimize(
            lambda theta: _host(_action(shape, data, theta)),
            start,
            jac=True,
            hess=lambda theta: np.asarray(_hessian(shape, data, theta)),
            method="trust-exact",
            options={"gtol": GRADIENT_TOLERANCE / 10, "maxiter": _MAX_ITERATIONS},
        )
        theta, action, gradient = _polish(shape, data, found.x)
        hessian_min = float(np.linalg.eigvalsh(np.asarray(_symmetric_hessian(shape, data, theta)))[0])
        U_a, U = order_parameters(shape, data.variances, jnp.asarray(theta))
    gradient_norm = float(np.abs(gradient).max())
    return Theory(
        posterior=posterior,
        U_a=float(U_a),
        U=tuple(np.asarray(u) for u in U),
        action=action,
        gradient_norm=gradient_norm,
        hessian_min=hessian_min,
        converged=bool(gradient_norm < GRADIENT_TOLERANCE and hessian_min > 0),
        iterations=int(found.nit),
        theta=theta,
        paths=None if paths is None else part.data.path_names,
    )


def gp(posterior: Posterior, paths: Sequence | None = None) -> Theory:
    """The infinite-width limit at fixed P: U_l = sigma_a^2 sigma_L^2 .. sigma_l^2 I, no paths preferred.

    Args:
        posterior: network, data and temperature.
        paths: names or indices of the paths of a sub-network, any set; default all.

    Raises:
        ValueError: unknown paths.

    Source: docs/model.md, section 3.
    """
    network = posterior.network
    scales = np.cumprod(network.variances[::-1])  # sigma_a^2, sigma_a^2 sigma_L^2, .., and sigma_0^2 last
    sizes = list(network.path_counts)
    names = None if paths is None else posterior.data.select(paths).path_names
    if names is not None:
        sizes[0] = len(names)
    theta = np.zeros(layout(network, singular=False).size)  # M = I
    U = tuple(scale * np.eye(k) for scale, k in zip(scales[-2:0:-1], sizes, strict=True))
    return Theory(posterior, float(scales[0]), U, np.nan, 0.0, np.nan, True, 0, theta, names)


def _polish(shape, data, theta):
    """Plain Newton steps while they shrink the gradient: the trust region stops where S itself is down to rounding."""
    action, gradient = _host(_action(shape, data, theta))
    for _ in range(5):
        trial = theta - np.linalg.solve(np.asarray(_hessian(shape, data, theta)), gradient)
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
    for l, (M, log_diagonal) in enumerate(bartlett_factors(shape, theta)):
        N, variance = data.widths[-1 - l], data.variances[-1 - l]
        total += N * (jnp.sum(M**2) - 2 * jnp.sum(log_diagonal) - M.shape[0] * jnp.log(variance))
    return total / jnp.max(data.widths)


def _energy(data: CollapsedData, U_1):
    """(log det(K + T I) + y^T (K + T I)^{-1} y) / max N, the constant of the Gaussian left out."""
    value = log_likelihood(U_1, data.kernel, data.y, data.temperature, data.variances[0])
    return (-2 * value - data.y.shape[0] * np.log(2 * np.pi)) / jnp.max(data.widths)


@partial(jax.jit, static_argnums=0)
@partial(jax.value_and_grad, argnums=2)
def _action(shape: Layout, data: CollapsedData, theta):
    return _entropy(shape, data, theta) + _energy(data, order_parameters(shape, data.variances, theta).U[0])


def _energy_derivatives(data: CollapsedData, U_1):
    """Gradient [B] and Hessian [B, B] of the energy in the upper triangle of U_1, B = H(H+1)/2.

    With dK = sigma_0^2 sum_b S_b dU_b, alpha = K^{-1} y and W_b = L^{-1} S_b L^{-T}:
    dE/dU_b = tr W_b - z^T W_b z,   d2E/dU_b dU_c = -tr(W_b W_c) + 2 (W_b z).(W_c z),   z = L^{-1} y.
    """
    blocks = data.kernel.blocks
    upper = jnp.triu_indices(data.kernel.paths)
    P = data.y.shape[0]
    K = data.variances[0] * (U_1[upper] @ blocks.reshape(len(blocks), -1)).reshape(P, P)
    chol = jnp.linalg.cholesky(K + data.temperature * jnp.eye(P))
    half = jax.scipy.linalg.solve_triangular(chol, jnp.eye(P), lower=True)
    W = data.variances[0] * jnp.matmul(jnp.matmul(half, blocks), half.T)
    z = half @ data.y
    Wz = W @ z
    gradient = jnp.trace(W, axis1=1, axis2=2) - Wz @ z
    flat = W.reshape(len(W), -1)
    hessian = -flat @ flat.T + 2 * Wz @ Wz.T
    return gradient / jnp.max(data.widths), hessian / jnp.max(data.widths)


@partial(jax.jit, static_argnums=0)
def _hessian(shape: Layout, data: CollapsedData, theta):
    def upper(t):
        U_1 = order_parameters(shape, data.variances, t).U[0]
        return U_1[np.triu_indices(U_1.shape[0])]

    gradient, hessian = _energy_derivatives(data, order_parameters(shape, data.variances, theta).U[0])
    J = jax.jacfwd(upper)(theta)
    curvature = jax.hessian(lambda t: _entropy(shape, data, t) + gradient @ upper(t))(theta)
    return J.T @ hessian @ J + curvature


@partial(jax.jit, static_argnums=0)
def _symmetric_hessian(shape: Layout, data: CollapsedData, theta):
    """Hessian in the independent entries of (U_a, U_L, .., U_1); exact where the gradient vanishes."""

    def entries(t):
        U_a, U = order_parameters(shape, data.variances, t)
        return jnp.concatenate([U_a[None], *(u[np.triu_indices(u.shape[0])] for u in U[::-1])])

    inverse = jnp.linalg.inv(jax.jacfwd(entries)(theta))
    return inverse.T @ _hessian(shape, data, theta) @ inverse
