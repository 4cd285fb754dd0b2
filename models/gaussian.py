r"""The data term: labels y ~ N(0, sigma_0^2 K(U) + T I), and all that follows from conditioning on them.

With A = sigma_0^2 K(U) + T I and alpha = A^{-1} y (docs/model.md, sections 3 to 5):

    log N(y; 0, A)      = -y^T alpha / 2 - log det A / 2 - P log(2 pi) / 2
    E[B | U, y]         = sigma_0^2 U sum_mu alpha_mu xi_mu                             (path weights, f = B . xi)
    f(x) | U, y         ~ N( k^T alpha, k(x, x) - k^T A^{-1} k )
    theta | y           = theta~ + sigma^2 Phi^T A^{-1} (y - Phi theta~ - eps),         eps ~ N(0, T I)

The last line conditions a draw theta~ of any block of weights that f = Phi theta is linear in, with A its own
sigma^2 Phi Phi^T + T I. Everything is done by one Cholesky factorisation of A. With m outputs there are P m labels,
those of an example next to each other, and U has a row for each path and output (``path_kernel``).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .path_kernel import PathKernel, combine, inverse_of_lower, lower_triangle, project
from .reduction import constant


class GaussianTerm(NamedTuple):
    """Labels, and what their covariance is made of; fields may be traced.

    Attributes:
        kernel: path kernels of the training examples.
        y: labels [P], or [P, m] of m outputs.
        temperature: T.
        variance: sigma_0^2.
        constants: ((P - r) m, |rho|^2) where the examples are r pseudo-examples (``models.reduction``), else zeros.
    """

    kernel: PathKernel
    y: Float[Array, "P ..."]
    temperature: Float[Array, ""]
    variance: Float[Array, ""]
    constants: Float[Array, " 2"]

    def covariance(self, U: Float[Array, "Hm Hm"]) -> Float[Array, "Pm Pm"]:
        """A = sigma_0^2 K(U) + T I."""
        return with_noise(self.variance * combine(self.kernel, U), self.temperature)

    def log_likelihood(self, U: Float[Array, "Hm Hm"]) -> Float[Array, ""]:
        """log N(y; 0, A), natural logarithm; not a number where A is not positive definite to working precision."""
        found = log_likelihood(U, self.kernel, self.y.reshape(-1), self.temperature, self.variance)
        return found + constant(self.constants, self.temperature)

    def inverse_factor(self, U: Float[Array, "Hm Hm"]) -> Float[Array, "Pm Pm"]:
        """Lower triangular R with A^{-1} = R^T R."""
        unit = jnp.eye(self.y.size)
        return jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(self.covariance(U)), unit, lower=True)

    def mean_path_weights(self, U: Float[Array, "Hm Hm"], xi: Float[Array, "P N_0 H"]) -> Float[Array, "Hm N_0"]:
        """E[B | U, y]; ``xi`` are the training inputs."""
        alpha = solve(self.covariance(U), self.y.reshape(-1))
        return self.variance * U @ pulled_back(alpha.reshape(self.y.shape), xi)

    def predictor(
        self, U: Float[Array, "Hm Hm"], train: Float[Array, "P N_0 H"], test: Float[Array, "Q N_0 H"]
    ) -> tuple[Float[Array, "Q ..."], Float[Array, "Q ..."]]:
        """Mean [Q] and variance [Q] of f on test inputs given U and y; [Q, m] and covariance [Q, m, m] of m outputs."""
        U = self.variance * U
        if self.kernel.outputs > 1:
            return self._predictor_of_several(U, train, test)
        combined = test @ U  # contracted per draw: all path-path kernels [H, H, Q, P] would not fit for many paths
        k = combined.reshape(len(test), -1) @ train.reshape(len(train), -1).T
        chol = jnp.linalg.cholesky(with_noise(combine(self.kernel, U), self.temperature))
        half = jax.scipy.linalg.solve_triangular(chol, jnp.concatenate([k, self.y[None]]).T, lower=True)
        return half[:, :-1].T @ half[:, -1], jnp.sum(combined * test, (1, 2)) - jnp.sum(half[:, :-1] ** 2, axis=0)

    def _predictor_of_several(self, U, train, test):
        H, m, Q = self.kernel.paths, self.kernel.outputs, len(test)
        combined = jnp.einsum("qnh,hagb->qabng", test, U.reshape(H, m, H, m))
        k = jnp.einsum("qabng,png->qapb", combined, train).reshape(Q * m, -1)
        chol = jnp.linalg.cholesky(with_noise(combine(self.kernel, U), self.temperature))
        right = jnp.concatenate([k, self.y.reshape(1, -1)]).T
        half = jax.scipy.linalg.solve_triangular(chol, right, lower=True)
        of_test = half[:, :-1].reshape(-1, Q, m)
        covariance = jnp.einsum("qabng,qng->qab", combined, test) - jnp.einsum("iqa,iqb->qab", of_test, of_test)
        return (half[:, :-1].T @ half[:, -1]).reshape(Q, m), covariance


def pulled_back(alpha: Float[Array, "P ..."], xi: Float[Array, "P N_0 H"]) -> Float[Array, "Hm N_0"]:
    """sum_mu alpha_mu xi_mu, the transpose of ``network.forward``: a row for each path and output."""
    if alpha.ndim == 1:
        return jnp.einsum("p,pnh->hn", alpha, xi)
    return jnp.einsum("pa,pnh->han", alpha, xi).reshape(-1, xi.shape[1])


def with_noise(covariance: Float[Array, "P P"], temperature: Float[Array, ""] | float) -> Float[Array, "P P"]:
    """covariance + T I."""
    return covariance + temperature * jnp.eye(len(covariance), dtype=covariance.dtype)


def solve(covariance: Float[Array, "P P"], right: Float[Array, " P"]) -> Float[Array, " P"]:
    """A^{-1} r by Cholesky factorisation."""
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(covariance), True), right)


def noise(key: jax.Array, y: Float[Array, "P ..."], temperature: Float[Array, ""], dtype=None) -> Float[Array, "P ..."]:
    """eps ~ N(0, T I) of a conditional draw."""
    return jnp.sqrt(temperature) * jax.random.normal(key, y.shape, dtype or y.dtype)


def conditioning_weights(
    covariance: Float[Array, "Pm Pm"], y: Float[Array, "P ..."], f: Float[Array, "P ..."], eps: Float[Array, "P ..."]
) -> Float[Array, "P ..."]:
    """A^{-1} (y - f - eps): what a draw from the prior with outputs f = Phi theta~ is corrected by."""
    return solve(covariance, (y - f - eps).reshape(-1)).reshape(y.shape)


@jax.custom_vjp
def log_likelihood(
    U: Float[Array, "H H"],
    kernel: PathKernel,
    y: Float[Array, " P"],
    temperature: Float[Array, ""],
    variance: Float[Array, ""],
) -> Float[Array, ""]:
    r"""log N(y; 0, variance K(U) + temperature I), with closed-form gradients in every argument.

    With G = (alpha alpha^T - A^{-1}) / 2:

        dU^{pi pi'} = sigma_0^2 sum G C^{pi pi'},   dy = -alpha,   dT = tr G,   d sigma_0^2 = sum G K(U),
        dxi = 2 sigma_0^2 G xi U,   or U_b G for each stored block b.

    Second derivatives (``jax.hessian``) are exact too, by differentiation of these formulas; on a CPU the theory's own
    Hessian (``theory.energy``) is faster.

    Args:
        U: symmetric order parameter.
        kernel, y, temperature, variance: as in ``GaussianTerm``.

    Returns:
        Scalar; not a number where the matrix is not positive definite to working precision.

    Source: docs/model.md, section 4.
    """
    chol = _factor(U, kernel, temperature, variance)
    return _log_normal(chol, jax.lax.linalg.triangular_solve(chol, y[:, None], left_side=True, lower=True)[:, 0])


def _factor(U, kernel, temperature, variance):
    return _cholesky_of_lower(with_noise(variance * lower_triangle(kernel, U), temperature))


@jax.custom_jvp
def _cholesky_of_lower(A):
    """Cholesky factor of the symmetric matrix whose lower triangle is that of A."""
    return jax.lax.linalg.cholesky(A, symmetrize_input=False)


@_cholesky_of_lower.defjvp
def _cholesky_of_lower_jvp(primals, tangents):
    # JAX's own rule takes the tangent for symmetric, which it is not where only the lower triangle was filled
    (A,), (dA,) = primals, tangents
    L = _cholesky_of_lower(A)
    inverse = inverse_of_lower(L)
    inner = inverse @ (jnp.tril(dA) + jnp.tril(dA, -1).T) @ inverse.T
    return L, L @ (jnp.tril(inner, -1) + 0.5 * jnp.diag(jnp.diag(inner)))


def _log_normal(chol, z):
    return -0.5 * z @ z - jnp.sum(jnp.log(jnp.diag(chol))) - 0.5 * len(z) * np.log(2 * np.pi)


def _log_likelihood(U, kernel, y, temperature, variance):
    # One chain of factorisations, each waiting for the one before: independent ones may run at the same time on a
    # CPU and deadlock on each other's threads (seen with jaxlib 0.10 on two cores).
    chol = _factor(U, kernel, temperature, variance)
    half = inverse_of_lower(chol)
    z = half @ y
    return _log_normal(chol, z), (half, z, U, kernel, variance)


def _log_likelihood_vjp(residual, cotangent):
    half, z, U, kernel, variance = residual
    alpha = half.T @ z
    # (alpha alpha^T - half^T half)/2, packed: rows above a panel's first are zero in its columns of the factor
    panels = [
        jnp.outer(alpha[first:last], alpha[:last]) - half[first:, first:last].T @ half[first:, :last]
        for first, last in kernel.panels
    ]
    G = 0.5 * jnp.concatenate([panel.ravel() for panel in panels])
    projected = project(kernel, G)
    scale = cotangent * variance
    # what follows costs nothing where it is not asked for: unused results of a compiled program are never computed
    return (
        scale * projected,
        kernel.cotangent(U, scale, G),
        -cotangent * alpha,
        0.5 * cotangent * (alpha @ alpha - jnp.sum(half**2)),
        cotangent * jnp.sum(U * projected),
    )


log_likelihood.defvjp(_log_likelihood, _log_likelihood_vjp)
