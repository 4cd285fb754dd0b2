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
from ..models.gaussian import GaussianTerm
from ..models.path_kernel import path_kernel
from ..models.paths import PathInputs

_BLOCK_BYTES = 64 * 2**20  # of path weights, which are made for some draws at a time


def _term(train: PathInputs, y, temperature: float, variance: float) -> GaussianTerm:
    T, sigma2 = jnp.asarray(temperature, float), jnp.asarray(variance, float)
    return GaussianTerm(
        path_kernel(train.flat, y.shape[1] if np.ndim(y) == 2 else 1), jnp.asarray(y), T, sigma2, jnp.zeros(2)
    )


def conditional_mean(
    U_1: Float[np.ndarray, "D Hm Hm"],
    train: PathInputs,
    y: Float[np.ndarray, "P ..."],
    temperature: float,
    variance: float,
    test: PathInputs,
) -> Float[np.ndarray, "D Q ..."]:
    """Mean of f(x_test) given each of D order parameters.

    Cheaper by far than mean and variance together: the mean is linear in the path-contracted inputs.

    Args:
        U_1, train, y, temperature, variance, test: as for ``conditional_predictor``.

    Returns:
        Means [D, Q], or [D, Q, m] of m outputs, float64.

    Source: docs/model.md, section 3.
    """
    each = 8 * U_1.shape[-1] * train.flat.shape[1]  # bytes of a draw's path weights
    draws, found = max(1, min(len(U_1), _BLOCK_BYTES // each)), []
    with numerics():
        term = _term(train, y, temperature, variance)
        for i in range(0, len(U_1), draws):
            block = np.asarray(U_1[i : i + draws], np.float64)
            whole = np.concatenate([block, np.repeat(block[-1:], draws - len(block), axis=0)])  # of one shape
            found.append(outputs(np.asarray(_mean_path_weights(whole, term, train.flat))[: len(block)], test))
    return np.concatenate(found)


def mean_path_weights(
    U_1: Float[np.ndarray, "D Hm Hm"],
    train: PathInputs,
    y: Float[np.ndarray, "P ..."],
    temperature: float,
    variance: float,
) -> Float[np.ndarray, "D Hm N_0"]:
    """Mean of the path weights B given each of D order parameters: all that the mean of f depends on.

    Args:
        U_1, train, y, temperature, variance: as for ``conditional_predictor``.

    Returns:
        Means [D, H m, N_0], float64, as ``outputs`` takes them.

    Source: docs/model.md, section 3: B^pi = sigma_0^2 sum_pi' U_1^{pi pi'} Xi^pi'^T (K + T I)^{-1} y.
    """
    with numerics():
        term = _term(train, y, temperature, variance)
        return np.asarray(_mean_path_weights(np.asarray(U_1, np.float64), term, train.flat))


def outputs(B: Float[np.ndarray, "*D Hm N_0"], test: PathInputs) -> Float[np.ndarray, "*D Q *m"]:
    """f(x) = sum_pi B^pi . xi^pi(x) on test inputs, for many sets of path weights, on the host.

    Args:
        B: path weights [.., H m, N_0], a row for each path and output, the output fastest.
        test: inputs of Q test examples.

    Returns:
        [.., Q], or [.., Q, m] of m > 1 outputs.

    Source: docs/model.md, sections 2 and 7.
    """
    xi = test.flat.transpose(0, 2, 1)  # [Q, H, N_0]
    m = B.shape[-2] // xi.shape[1]
    if m == 1:
        return B.reshape(*B.shape[:-2], -1) @ xi.reshape(len(xi), -1).T
    per_output = np.moveaxis(B.reshape(*B.shape[:-2], xi.shape[1], m, -1), -2, -3)  # [.., m, H, N_0]
    found = per_output.reshape(*per_output.shape[:-2], -1) @ xi.reshape(len(xi), -1).T  # [.., m, Q]
    return np.swapaxes(found, -1, -2)


@jax.jit
def _mean_path_weights(U, term, xi):
    return jax.lax.map(lambda u: term.mean_path_weights(u, xi), U)


def conditional_predictor(
    U_1: Float[np.ndarray, "D Hm Hm"],
    train: PathInputs,
    y: Float[np.ndarray, "P ..."],
    temperature: float,
    variance: float,
    test: PathInputs,
) -> tuple[Float[np.ndarray, "D Q ..."], Float[np.ndarray, "D Q ..."]]:
    """Mean and variance of f(x_test) given each of D order parameters.

    Args:
        U_1: order parameters [D, H m, H m].
        train, y: training inputs and labels [P], or [P, m].
        temperature: T.
        variance: sigma_0^2.
        test: inputs of Q test examples, with the paths of ``train``.

    Returns:
        Means [D, Q] and variances [D, Q] of f (T not added), float64; means [D, Q, m] and covariances [D, Q, m, m] of m
        outputs. NaN where K + T I is not positive definite in
        float64.

    Source: docs/model.md, section 3.
    """
    with numerics():
        term = _term(train, y, temperature, variance)
        found = _predictor(np.asarray(U_1, np.float64), term, train.flat, test.flat)
    return np.asarray(found[0]), np.asarray(found[1])


@jax.jit
def _predictor(U, term, train, test):
    return jax.lax.map(lambda u: term.predictor(u, train, test), U)
