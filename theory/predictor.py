r"""The predictor given the order parameter U_1: Gaussian-process regression with the renormalized kernel.

    mean k^T (K + T I)^{-1} y,   variance k(x, x) - k^T (K + T I)^{-1} k,   K = sigma_0^2 sum U_1 C

(docs/model.md, section 3). It serves the theory (one U_1) and, averaged over draws of U_1, the exact posterior.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..core.numerics import numerics
from ..models.path_kernel import combine, mean_path_weights, path_kernel
from ..models.paths import PathInputs


def conditional_mean(
    U_1: Float[np.ndarray, "D H H"],
    train: PathInputs,
    y: Float[np.ndarray, " P"],
    temperature: float,
    variance: float,
    test: PathInputs,
) -> Float[np.ndarray, "D Q"]:
    """Mean of f(x_test) given each of D order parameters.

    Cheaper by far than mean and variance together: the mean is linear in the path-contracted inputs.

    Args:
        U_1, train, y, temperature, variance, test: as for ``conditional_predictor``.

    Returns:
        Means [D, Q], float64.

    Source: docs/model.md, section 3.
    """
    with numerics():
        kernel = path_kernel(train.flat)
        B = np.asarray(_mean_path_weights(np.asarray(U_1, np.float64), kernel, train.flat, y, temperature, variance))
    return B.reshape(len(B), -1) @ test.flat.transpose(0, 2, 1).reshape(len(test), -1).T


@jax.jit
def _mean_path_weights(U, kernel, xi, y, temperature, variance):
    return jax.lax.map(lambda u: mean_path_weights(u, kernel, xi, y, temperature, variance), U)


def conditional_predictor(
    U_1: Float[np.ndarray, "D H H"],
    train: PathInputs,
    y: Float[np.ndarray, " P"],
    temperature: float,
    variance: float,
    test: PathInputs,
) -> tuple[Float[np.ndarray, "D Q"], Float[np.ndarray, "D Q"]]:
    """Mean and variance of f(x_test) given each of D order parameters.

    Args:
        U_1: order parameters [D, H, H].
        train, y: training inputs and labels [P].
        temperature: T.
        variance: sigma_0^2.
        test: inputs of Q test examples, with the paths of ``train``.

    Returns:
        Means [D, Q] and variances [D, Q] of f (T not added), float64. NaN where K + T I is not positive definite in
        float64.

    Source: docs/model.md, section 3.
    """
    with numerics():
        U = variance * np.asarray(U_1, np.float64)
        found = _predict(U, path_kernel(train.flat), train.flat, y, temperature, test.flat)
    return np.asarray(found[0]), np.asarray(found[1])


@jax.jit
def _predict(U, kernel, train, y, temperature, test):
    flat = train.reshape(len(train), -1)

    def one(u):
        combined = test @ u  # contracted per draw: all path-path kernels [H, H, Q, P] would not fit for many paths
        k = combined.reshape(len(test), -1) @ flat.T
        chol = jnp.linalg.cholesky(combine(kernel, u) + temperature * jnp.eye(len(train)))
        half = jax.scipy.linalg.solve_triangular(chol, jnp.concatenate([k, y[None]]).T, lower=True)
        return half[:, :-1].T @ half[:, -1], jnp.sum(combined * test, (1, 2)) - jnp.sum(half[:, :-1] ** 2, axis=0)

    return jax.lax.map(one, U)
