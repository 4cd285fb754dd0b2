r"""Any number of examples as a few: an exact reduction of the data (docs/model.md, section 11).

The likelihood sees examples only through Xi [P, H N_0], whose rows are vec xi(x_mu), and y. With r the rank of Xi and Q
an orthonormal basis of its columns, for every order parameter, temperature and set of weights

    |y - f|^2 = |Q^T y - Q^T f|^2 + |rho|^2,                       rho = y - Q Q^T y,
    log N(y; 0, K + T I) = log N(Q^T y; 0, K_r + T I) - (P - r)/2 log(2 pi T) - |rho|^2 / (2T),

so r pseudo-examples, the rows of Q^T Xi with labels Q^T y, and the numbers P - r and |rho|^2 stand for all of them.
rho comes out of a factorisation of [Xi | y] without cancellation, and K_r is not singular: temperatures far below the
rounding errors of K are then no difficulty.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .paths import PathInputs

_CLEARLY = 1e-10  # smallest over largest eigenvalue of Xi Xi^T, below which its rank needs a closer look


@dataclass(frozen=True, eq=False)
class Reduction:
    """Pseudo-examples that stand for a training set.

    Attributes:
        data: path-contracted inputs of the r pseudo-examples, r at most H N_0.
        y: their labels [r].
        examples: P, of the training set.
        residual: |rho|^2, what no weights can fit of the labels.
    """

    data: PathInputs
    y: np.ndarray
    examples: int
    residual: float

    @property
    def constants(self) -> np.ndarray:
        """(P - r, |rho|^2), as ``constant`` takes them."""
        return np.array([self.examples - len(self.y), self.residual])


def constant(constants: Float[Array, " 2"], temperature: Float[Array, ""]) -> Float[Array, ""]:
    """-(P - r)/2 log(2 pi T) - |rho|^2 / (2T): what the pseudo-examples leave out of the log-likelihood."""
    return -0.5 * constants[0] * jnp.log(2 * np.pi * temperature) - 0.5 * constants[1] / temperature


def reduction(data: PathInputs, y: Float[np.ndarray, " P"]) -> Reduction:
    """The reduction of a training set; the examples themselves where their inputs are linearly independent.

    Directions of Xi whose singular value is below max(P, H N_0) epsilon times the largest count as rounding errors.

    Args:
        data: path-contracted inputs of P examples.
        y: labels [P].

    Returns:
        Reduction, the same object for equal arguments.

    Source: docs/model.md, section 11; Golub and Van Loan, "Matrix Computations", section 5.4 (rank and tolerance).
    """
    kept = _CACHE.setdefault(data, {})
    if y.tobytes() not in kept:
        kept[y.tobytes()] = _reduction(data, y)
    return kept[y.tobytes()]


_CACHE: WeakKeyDictionary = WeakKeyDictionary()  # inputs -> labels -> reduction: grids of posteriors share both


def _reduction(data, y) -> Reduction:
    xi = data.xi.reshape(len(data), -1)
    P, n = xi.shape
    residual = 0.0
    if n < P:
        R = np.asarray(np.linalg.qr(np.column_stack([xi, y]), mode="r"))
        xi, y_r, residual = R[:n, :n], R[:n, n], float(R[n, n] ** 2)
    else:
        y_r = y
        values = np.linalg.eigvalsh(xi @ xi.T)
        if values[0] > _CLEARLY * values[-1]:
            return Reduction(data, y, P, 0.0)
    U, sizes, V = np.linalg.svd(xi, full_matrices=False)
    rank = max(1, int(np.sum(sizes > max(P, n) * np.finfo(float).eps * sizes[0])))
    if rank == P:
        return Reduction(data, y, P, 0.0)
    in_basis = U.T @ y_r
    residual += float(np.sum((y_r - U[:, :rank] @ in_basis[:rank]) ** 2))
    pseudo = (sizes[:rank, None] * V[:rank]).reshape(rank, *data.xi.shape[1:])
    return Reduction(PathInputs(pseudo, data.path_names), in_basis[:rank], P, residual)
