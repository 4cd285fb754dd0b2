r"""The exact finite-width law of the order parameters (docs/model.md, section 4), and its posterior.

Under the prior the effective weights form a Markov chain of Gaussian matrices, so with U_{L+1} := U_a

    N_{L+1} U_a ~ sigma_a^2 chi^2(N_{L+1}),   N_l U_l | U_{l+1} ~ Wishart(N_l, sigma_l^2 (I_{H_l} (x) U_{l+1}))

and the data see U_1 alone: y | U_1 ~ N(0, K(U_1) + T I). Every layer is one Bartlett factor M_l (lower
triangular, or trapezoidal where N_l is below its size), U_a being the one of size 1 at the top:

    U_l = C_l C_l^T,   C_l = sigma_l (I_{H_l} (x) C_{l+1}) M_l,
    sqrt(N_l) M_ii ~ chi(N_l - i + 1),   sqrt(N_l) M_ij ~ N(0, 1) below the diagonal

``theta`` is the flat vector of (log M_ii, M_ij below the diagonal), top layer first: real, unconstrained, and of
scale 1/sqrt(N) in every direction. The large-N theory is the minimum of the same density's exponent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
from jaxtyping import Array, Float

from .gaussian import GaussianTerm
from .network import Network, OrderParameters
from .path_kernel import PathKernel
from .reduction import constant


class CollapsedData(NamedTuple):
    """What the collapsed density needs, as arrays that may be traced: one compilation serves all widths."""

    kernel: PathKernel
    y: Float[Array, " P"]
    temperature: Float[Array, ""]
    widths: Float[Array, " layers"]  # N_1, .., N_{L+1} [L + 1]
    variances: Float[Array, " blocks"]  # sigma_0^2, .., sigma_L^2, sigma_a^2 [L + 2]
    constants: Float[Array, " 2"]  # of ``models.reduction``

    @property
    def term(self) -> GaussianTerm:
        """What the data say of U_1."""
        return GaussianTerm(self.kernel, self.y, self.temperature, self.variances[0], self.constants)


@dataclass(frozen=True)
class Layout:
    """Shapes of the Bartlett factors M_{L+1}, .., M_1 (top layer first) inside the flat vector theta."""

    heads: tuple[int, ...]  # H_1, .., H_L
    factors: tuple[tuple[int, int], ...]  # (rows, rank), top layer first

    @property
    def size(self) -> int:
        """Length of theta."""
        return sum(_entries(rows, rank) for rows, rank in self.factors)

    @property
    def singular(self) -> bool:
        """Some width is below the size of its order parameter."""
        return any(rank < rows for rows, rank in self.factors)


def _entries(rows: int, rank: int) -> int:
    return rows * rank - rank * (rank - 1) // 2


def layout(network: Network, singular: bool = True) -> Layout:
    """Layout of theta for a network; ``singular=False`` keeps full factors whatever the widths (for the saddle)."""
    factors = [(1, 1)]
    for H, N in zip(network.heads[::-1], network.widths[-2::-1], strict=True):
        rows = H * factors[-1][1]
        factors.append((rows, min(rows, N) if singular else rows))
    return Layout(network.heads, tuple(factors))


def bartlett_factors(shape: Layout, theta: Float[Array, " D"]) -> tuple[tuple[Array, Array], ...]:
    """(M, log diagonal of M) of each layer, top layer first."""
    result, start = [], 0
    for rows, rank in shape.factors:
        below = _below(rows, rank)
        log_diagonal = theta[start : start + rank]
        entries = theta[start + rank : start + rank + len(below[0])]
        M = jnp.zeros((rows, rank), theta.dtype).at[np.arange(rank), np.arange(rank)].set(jnp.exp(log_diagonal))
        result.append((M.at[below].set(entries), log_diagonal))
        start += rank + len(below[0])
    return tuple(result)


def straightened(shape: Layout, theta: Float[Array, " D"]) -> Float[Array, " D"]:
    """s, in which the posterior is nearly Gaussian: theta with (M_ii^2)^(1/3) in place of each log M_ii.

    The cube root of a chi^2 variable is nearly normal (docs/model.md, section 11).
    """
    return jnp.where(is_diagonal(shape), jnp.exp(theta / 1.5), theta)


def unstraightened(shape: Layout, s: Float[Array, " D"]) -> Float[Array, " D"]:
    """theta at s: the inverse of ``straightened``; not a number where a diagonal entry is not above 0."""
    return jnp.where(is_diagonal(shape), 1.5 * jnp.log(_positive(shape, s)), s)


def straight_log_density(shape: Layout, log_density, s: Float[Array, " D"]) -> Float[Array, ""]:
    """Log-density of s, given that of theta; minus infinity where a diagonal entry is not above 0."""
    diagonal = is_diagonal(shape)
    jacobian = jnp.sum(jnp.where(diagonal, np.log(1.5) - jnp.log(_positive(shape, s)), 0.0))
    inside = jnp.all(jnp.where(diagonal, s > 0, True))
    return jnp.where(inside, log_density(unstraightened(shape, s)) + jacobian, -jnp.inf)


def _positive(shape, s):
    return jnp.where(is_diagonal(shape) & (s > 0), s, 1.0)


def is_diagonal(shape: Layout) -> np.ndarray:
    """[D] which entries of theta are those of the diagonals."""
    parts = [np.arange(_entries(rows, rank)) < rank for rows, rank in shape.factors]
    return np.concatenate(parts)


def flatten_factors(shape: Layout, factors) -> np.ndarray:
    """theta of given Bartlett factors M (top layer first): the inverse of ``bartlett_factors``."""
    parts = []
    for (rows, rank), M in zip(shape.factors, factors, strict=True):
        parts += [np.log(np.diagonal(M)), M[_below(rows, rank)]]
    return np.concatenate(parts)


def _below(rows, rank):
    return np.tril_indices(rows, -1, rank)


def square_roots(shape: Layout, variances: Float[Array, " blocks"], theta: Float[Array, " D"]) -> tuple[Array, ...]:
    """(C_{L+1}, C_L, .., C_1), each [k_l, rank], with U_l = C_l C_l^T; top layer first."""
    C = jnp.ones((1, 1), theta.dtype)
    result = []
    for l, (M, _) in enumerate(bartlett_factors(shape, theta)):
        H = 1 if l == 0 else shape.heads[-l]
        below = M.reshape(H, -1, M.shape[1])  # (I_H (x) C) M acts on H blocks of rows
        C = jnp.sqrt(variances[-1 - l]) * jnp.matmul(C, below).reshape(-1, M.shape[1])
        result.append(C)
    return tuple(result)


def order_parameters(shape: Layout, variances, theta) -> OrderParameters:
    """U_a and (U_1, .., U_L) at theta."""
    U_a, *U = (C @ C.T for C in square_roots(shape, variances, theta))
    return OrderParameters(U_a[0, 0], tuple(U[::-1]))


def log_prior(shape: Layout, widths: Float[Array, " layers"], theta: Float[Array, " D"]) -> Float[Array, ""]:
    """log density of theta under the prior, normalising constants and log-Jacobian included.

    Per layer of width N: sum_i [d log A_ii - A_ii^2/2 - (d/2 - 1) log 2 - log Gamma(d/2)], d = N - i + 1, plus a
    standard normal for each A_ij below, with A = sqrt(N) M.
    """
    total = jnp.zeros(())
    for l, ((rows, rank), (M, log_diagonal)) in enumerate(
        zip(shape.factors, bartlett_factors(shape, theta), strict=True)
    ):
        N = widths[-1 - l]
        d = N - np.arange(rank)
        total += jnp.sum(d * (log_diagonal + 0.5 * jnp.log(N)) - (d / 2 - 1) * np.log(2) - special.gammaln(d / 2))
        total += -0.5 * N * jnp.sum(M**2) + 0.5 * (_entries(rows, rank) - rank) * jnp.log(N / (2 * np.pi))
    return total


def draw_prior(shape: Layout, widths, rng: np.random.Generator, draws: int) -> Float[np.ndarray, "draws D"]:
    """Exact draws of theta from the prior, on the host: A_ii^2 ~ chi^2(N - i + 1), A_ij ~ N(0, 1), M = A / sqrt(N)."""
    parts = []
    for (rows, rank), N in zip(shape.factors, np.asarray(widths)[::-1], strict=True):
        squares = rng.chisquare(N - np.arange(rank), (draws, rank))
        below = rng.standard_normal((draws, _entries(rows, rank) - rank))
        parts += [0.5 * np.log(squares / N), below / np.sqrt(N)]
    return np.concatenate(parts, axis=1)


def log_density(shape: Layout, data: CollapsedData, theta: Float[Array, " D"]) -> Float[Array, ""]:
    """log p(theta, y), natural logarithm, all constants kept: its integral over theta is the evidence p(y)."""
    U_1 = order_parameters(shape, data.variances, theta).U[0]
    return log_prior(shape, data.widths, theta) + data.term.log_likelihood(U_1)


def model(network: Network, data: CollapsedData) -> None:
    """NumPyro model of the order parameters: section 4 line by line, for reading and for NumPyro's own inference.

    Sites: ``c_l`` (squared Bartlett diagonal, chi^2), ``A_l`` (entries below it), and ``y``; deterministic ``U_l``.
    """
    import numpyro  # not above: only this function needs it, and its import is slow
    import numpyro.distributions as dist

    shape = layout(network)
    C = jnp.ones((1, 1))
    for l, (rows, rank) in enumerate(shape.factors):
        name = "a" if l == 0 else str(network.depth + 1 - l)
        N, variance = data.widths[-1 - l], data.variances[-1 - l]
        H = 1 if l == 0 else network.heads[-l]
        below = _below(rows, rank)
        c = numpyro.sample(f"c_{name}", dist.Chi2(N - jnp.arange(rank)).to_event(1))
        A = jnp.zeros((rows, rank)).at[np.arange(rank), np.arange(rank)].set(jnp.sqrt(c))
        if len(below[0]):
            entries = numpyro.sample(f"A_{name}", dist.Normal(0.0, 1.0).expand([len(below[0])]).to_event(1))
            A = A.at[below].set(entries)
        C = jnp.kron(jnp.eye(H), C) @ A * jnp.sqrt(variance / N)
        U = numpyro.deterministic(f"U_{name}", C @ C.T)
    numpyro.sample("y", dist.MultivariateNormal(0.0, data.term.covariance(U)), obs=data.y)
    numpyro.factor("reduction", constant(data.constants, data.temperature))
