r"""Any number of examples as a few: an exact reduction of the data (docs/model.md, section 10).

The likelihood sees examples only through Xi [P, H N_0], whose rows are vec xi(x_mu), and y. With r the rank of Xi and Q
an orthonormal basis of its columns, for every order parameter, temperature and set of weights

    |y - f|^2 = |Q^T y - Q^T f|^2 + |rho|^2,                       rho = y - Q Q^T y,
    log N(y; 0, K + T I) = log N(Q^T y; 0, K_r + T I) - (P - r)/2 log(2 pi T) - |rho|^2 / (2T),

so r pseudo-examples, the rows of Q^T Xi with labels Q^T y, and the numbers P - r and |rho|^2 stand for all of them.
With m outputs y is [P, m], rho counts all of them, and (P - r) m numbers are left out.
The triangular factor R of [Xi | y] is all that is needed, and with more rows it is that of [R; rows]. rho comes out of
a factorisation without cancellation, and K_r is not singular: temperatures far below the rounding errors of K are then
no difficulty.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import lapack

from ..core import checks
from ..core.numerics import numerics
from .paths import PathInputs

_CLEARLY = 1e-10  # smallest over largest eigenvalue of Xi Xi^T, below which its rank needs a closer look
_ROWS, _BLOCK = 1024, 32  # of a factorisation: rows at a time, columns of a reflector


@dataclass(frozen=True, eq=False)
class Reduction:
    """Pseudo-examples that stand for a training set: from ``gf.reduce``, or ``Posterior.reduction``.

    Attributes:
        data: path-contracted inputs of the r pseudo-examples, r at most H N_0.
        y: their labels [r], or [r, m].
        examples: P, of the training set.
        residual: |rho|^2, what no weights can fit of the labels.
        classes: of the training labels, in ascending order; () for real values.

    Source: docs/model.md, section 10.
    """

    data: PathInputs
    y: np.ndarray
    examples: int
    residual: float
    classes: tuple = ()

    def __repr__(self) -> str:
        shape = f"N_0={self.data.input_width}, heads={self.data.heads}"
        return f"Reduction({self.examples} examples as {len(self.y)}, {shape})"

    @property
    def constants(self) -> np.ndarray:
        """((P - r) m, |rho|^2), as ``constant`` takes them."""
        return np.array([(self.examples - len(self.y)) * (self.y.size // len(self.y)), self.residual])

    @property
    def squared_labels(self) -> float:
        """|y|^2 of the training set."""
        return float(np.sum(self.y**2)) + self.residual

    @property
    def digest(self) -> str:
        """Hash (SHA-256) of everything it holds."""
        found = hashlib.sha256(repr((self.data.xi.shape, self.data.path_names, self.examples, self.classes)).encode())
        for part in (self.data.xi, self.y, self.constants):
            found.update(np.ascontiguousarray(part, np.float64).tobytes())
        return found.hexdigest()

    def merge(self, other: Reduction) -> Reduction:
        """The reduction of two training sets together.

        Args:
            other: of further examples, with the same paths and classes.

        Returns:
            Reduction of all examples of both.

        Raises:
            ValueError: not a reduction, or one of other shapes, path names or classes.
        """
        if not isinstance(other, Reduction):
            raise checks.InputError(f"other is a {type(other).__name__}: give what gf.reduce returns")
        for what, mine, its in (
            ("inputs [N_0, H_1, ..]", self.data.xi.shape[1:], other.data.xi.shape[1:]),
            ("labels [m]", self.y.shape[1:], other.y.shape[1:]),
            ("paths", self.data.path_names, other.data.path_names),
            ("residual", self.data.residual, other.data.residual),
            ("classes", self.classes, other.classes),
        ):
            if mine != its:
                raise checks.InputError(
                    f"other has {what} {checks.brief(its)} and this reduction {checks.brief(mine)}: make them the same"
                )
        R = joined(joined(None, labelled(self.data.xi, self.y)), labelled(other.data.xi, other.y))
        residual = self.residual + other.residual
        return of_factor(R, self.examples + other.examples, self.data, self.classes, residual)

    def select(self, paths) -> Reduction:
        """The reduction for the sub-network made of some paths, as ``PathInputs.select`` has it.

        Args:
            paths: names or indices of the paths to keep.

        Returns:
            Reduction of the same training set.

        Raises:
            ValueError: as ``PathInputs.select``.
        """
        found = _reduction(self.data.select(paths), self.y, self.classes)
        return Reduction(found.data, found.y, self.examples, self.residual + found.residual, self.classes)


def constant(constants: Float[Array, " 2"], temperature: Float[Array, ""]) -> Float[Array, ""]:
    """-(P - r) m/2 log(2 pi T) - |rho|^2 / (2T): what the pseudo-examples leave out of the log-likelihood."""
    return -0.5 * constants[0] * jnp.log(2 * np.pi * temperature) - 0.5 * constants[1] / temperature


def reduction(data: PathInputs, y: Float[np.ndarray, "P ..."], classes: tuple = ()) -> Reduction:
    """The reduction of a training set; the examples themselves where their inputs are linearly independent.

    Directions of Xi whose singular value is below max(P, H N_0) epsilon times the largest count as rounding errors.

    Args:
        data: path-contracted inputs of P examples.
        y: labels [P] or [P, m], as the network sees them.
        classes: what the labels were, () for real values.

    Returns:
        Reduction, the same object for equal arguments.

    Source: docs/model.md, section 10; Golub and Van Loan, "Matrix Computations", section 5.4 (rank and tolerance).
    """
    kept = _CACHE.setdefault(data, {})
    key = (y.tobytes(), y.shape, classes)
    if key not in kept:
        kept[key] = _reduction(data, y, classes)
    return kept[key]


_CACHE: WeakKeyDictionary = WeakKeyDictionary()  # inputs -> labels -> reduction: grids of posteriors share both


def _reduction(data, y, classes) -> Reduction:
    P, n = len(data), data.flat[0].size
    if n < P:
        return of_factor(joined(None, labelled(data.xi, y)), P, data, classes)
    xi = data.xi.reshape(P, n)
    values = np.linalg.eigvalsh(xi @ xi.T)
    found = None if values[0] > _CLEARLY * values[-1] else _of_full_rank(xi, y, 0.0, P, data, classes)
    return Reduction(data, y, P, 0.0, classes) if found is None or len(found.y) == P else found


def labelled(xi: Float[np.ndarray, "P N_0 *H"], y: Float[np.ndarray, "P ..."]) -> np.ndarray:
    """[Xi | y], [P, H N_0 + m]."""
    return np.column_stack([xi.reshape(len(y), -1), y])


def joined(R: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    """The triangular factor of [R; rows].

    Args:
        R: upper triangular [n, n]; None for no rows so far.
        rows: [p, n], any number.

    Returns:
        Upper triangular [n, n], which has zeros at the end if there were fewer rows. 2 p n^2 flops.

    Source: LAPACK ``tpqrt``; Demmel, Grigori, Hoemmen and Langou 2012 (factors of factors).
    """
    n = rows.shape[1]
    R = np.zeros((n, n), order="F") if R is None else R
    with numerics():
        for i in range(0, len(rows), _ROWS):
            R, _, _, _ = lapack.dtpqrt(0, min(_BLOCK, n), R, rows[i : i + _ROWS])
    return R


def of_factor(R: np.ndarray, examples: int, like: PathInputs, classes: tuple, residual: float = 0.0) -> Reduction:
    """The reduction of P examples, from the triangular factor of their [Xi | y].

    Args:
        R: [H N_0 + m, H N_0 + m].
        examples: P.
        like: inputs with the same paths.
        classes: what the labels were.
        residual: of the examples that the factor's rows stand for, if they are pseudo-examples.
    """
    n = like.flat[0].size
    y = R[:n, n:]
    residual += float(np.sum(R[n:, n:] ** 2))
    return _of_full_rank(R[:n, :n], y[:, 0] if y.shape[1] == 1 else y, residual, examples, like, classes)


def _of_full_rank(xi, y, residual, P, like, classes) -> Reduction:
    """Only the directions of xi [any, H N_0] that are not rounding errors, and what is left of the labels."""
    U, sizes, V = np.linalg.svd(xi, full_matrices=False)
    rank = max(1, int(np.sum(sizes > max(P, xi.shape[1]) * np.finfo(float).eps * sizes[0])))
    in_basis = U.T @ y
    residual += float(np.sum((y - U[:, :rank] @ in_basis[:rank]) ** 2))
    pseudo = (sizes[:rank, None] * V[:rank]).reshape(rank, *like.xi.shape[1:])
    return Reduction(like.like(pseudo), in_basis[:rank], P, residual, classes)
