r"""One label at a time: the density of each label given all others and U_1, and exact draws of the output (section 3).

With A = sigma_0^2 K(U_1) + T I over the P m labels, g = A^{-1}, alpha = g y, and g_ii the block of example i [m, m],

    y_i | y_-i, U_1  ~  N( y_i - g_ii^{-1} alpha_i,  g_ii^{-1} )                (leave one out, in closed form).

Of r pseudo-examples Q^T Xi, with rho = y - Q Q^T y, the same numbers are g = Q g_r Q^T + (1 - Q Q^T)/T and
alpha = Q alpha_r + rho/T. Outputs are drawn through path weights B, f = B . xi: with V the root of U_1,

    B~ = sigma_0 V z,  z ~ N(0, 1),      B | U_1, y = B~ + sigma_0^2 U_1 sum_mu [A^{-1} (y - f~ - eps)]_mu xi_mu.

Source: Sundararajan and Keerthi 2001; Rasmussen and Williams 2006, section 5.4.2 (leave one out).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .gaussian import GaussianTerm, conditioning_weights, noise, pulled_back
from .network import forward


class Basis(NamedTuple):
    """How P examples follow from r pseudo-examples.

    Attributes:
        Q: [P, r], orthonormal columns; None where there is no reduction.
        rest: 1 - |Q_i|^2 of each example [P].
        rho: y - Q Q^T y [P], or [P, m].
    """

    Q: Any
    rest: Any
    rho: Any


def basis(posterior) -> Basis:
    """The basis of a posterior's examples, on the host."""
    found, data, y = posterior.reduction, posterior.data, posterior.y
    if found.data is data:
        return Basis(None, np.zeros(len(y)), np.zeros_like(y))
    few, all_of = (each.flat.reshape(len(each), -1) for each in (found.data, data))
    Q = np.linalg.lstsq(few.T, all_of.T, rcond=None)[0].T
    return Basis(Q, np.maximum(0.0, 1 - np.sum(Q**2, axis=1)), y - Q @ found.y)


def leave_one_out(term: GaussianTerm, over: Basis, U: Float[Array, "Hm Hm"]) -> Float[Array, " P"]:
    """log p(y_i | y_-i, U) of every example, all m outputs of one together; natural logarithm."""
    m = term.kernel.outputs
    half = term.inverse_factor(U)
    alpha = (half.T @ (half @ term.y.reshape(-1))).reshape(-1, m)
    rows = half.reshape(len(half), -1, m)
    if over.Q is not None:
        alpha, rows = over.Q @ alpha, jnp.einsum("ira,pr->ipa", rows, over.Q)
    alpha = alpha + over.rho.reshape(alpha.shape) / term.temperature
    g = jnp.einsum("ipa,ipb->pab", rows, rows) + (over.rest / term.temperature)[:, None, None] * jnp.eye(m)
    if m == 1:
        precision = g[:, 0, 0]
        return 0.5 * (jnp.log(precision) - alpha[:, 0] ** 2 / precision - np.log(2 * np.pi))
    chol = jnp.linalg.cholesky(g)
    z = jax.scipy.linalg.solve_triangular(chol, alpha[..., None], lower=True)[..., 0]
    log_det = jnp.sum(jnp.log(jnp.diagonal(chol, axis1=1, axis2=2)), axis=1)
    return log_det - 0.5 * jnp.sum(z**2, axis=1) - 0.5 * m * np.log(2 * np.pi)


def prior_path_weights(
    key: jax.Array, U: Float[Array, "Hm Hm"], variance: Float[Array, ""], input_width: int
) -> Float[Array, "Hm N_0"]:
    """A draw of B given U alone: rows of covariance U in the paths, independent over the N_0 inputs."""
    values, vectors = jnp.linalg.eigh(U)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))
    return jnp.sqrt(variance) * root @ jax.random.normal(key, (len(U), input_width), U.dtype)


def path_weights(
    key: jax.Array, term: GaussianTerm, xi: Float[Array, "P N_0 H"], U: Float[Array, "Hm Hm"]
) -> Float[Array, "Hm N_0"]:
    """An exact draw of B given U and the labels; ``xi`` are the (pseudo-)examples of ``term``."""
    key_prior, key_noise = jax.random.split(key)
    free = prior_path_weights(key_prior, U, term.variance, xi.shape[1])
    eps = noise(key_noise, term.y, term.temperature, U.dtype)
    alpha = conditioning_weights(term.covariance(U), term.y, forward(free, xi), eps)
    return free + term.variance * U @ pulled_back(alpha, xi)
