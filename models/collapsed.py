r"""The exact finite-width law of the order parameters (docs/model.md, section 4), and its posterior.

Under the prior the effective weights form a Markov chain of Gaussian matrices, so with U_{L+1} := U_a

    N_{L+1} U_a ~ sigma_a^2 chi^2(N_{L+1}),   N_l U_l | U_{l+1} ~ Wishart(N_l, sigma_l^2 (I_{H_l} (x) U_{l+1}))

and the data see U_1 alone: y | U_1 ~ N(0, K(U_1) + T I). Every layer is one Bartlett factor M_l (lower
triangular, or trapezoidal where N_l is below its size), U_a being the one of size m at the top:

    U_l = C_l C_l^T,   C_l = sigma_l (I_{H_l} (x) C_{l+1}) M_l,
    sqrt(N_l) M_ii ~ chi(N_l - i + 1),   sqrt(N_l) M_ij ~ N(0, 1) below the diagonal

A layer with a skip connection keeps C = C_{l+1} [k, r] and adds (docs/model.md, section 12)

    C_l = [C, 0; sigma_l (I (x) C) X, sigma_l (I (x) C) M],   sqrt(N_l) X_ij ~ N(0, 1),   X [H_l r, r],

with N_l - r in place of N_l in the law of M. ``theta`` is the flat vector of (log M_ii, M_ij below the diagonal, X),
top layer first: real, unconstrained, and of scale 1/sqrt(N) in every direction. The large-N theory is the minimum of
the same density's exponent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
from jaxtyping import Array, Float

from .gaussian import GaussianTerm
from .network import Network, OrderParameters, gram
from .path_kernel import PathKernel
from .reduction import constant


class CollapsedData(NamedTuple):
    """What the collapsed density needs, as arrays that may be traced: one compilation serves all widths."""

    kernel: PathKernel
    y: Float[Array, "P ..."]
    temperature: Float[Array, ""]
    widths: Float[Array, " layers"]  # N_1, .., N_{L+1} [L + 1]
    variances: Float[Array, " blocks"]  # sigma_0^2, .., sigma_L^2, sigma_a^2 [L + 2]
    constants: Float[Array, " 2"]  # of ``models.reduction``

    @property
    def term(self) -> GaussianTerm:
        """What the data say of U_1."""
        return GaussianTerm(self.kernel, self.y, self.temperature, self.variances[0], self.constants)


class Layer(NamedTuple):
    """Shapes of one layer's part of theta: M [rows, rank], and X [rows, above] where there is a skip connection."""

    heads: int  # H_l, or the number of outputs at the top
    above: int  # r, columns of C_{l+1}; 1 at the top
    rank: int  # columns of M
    skip: bool = False

    @property
    def rows(self) -> int:
        """H_l r, rows of M."""
        return self.heads * self.above

    @property
    def columns(self) -> int:
        """Columns of C_l."""
        return self.rank + self.above * self.skip

    @property
    def below(self) -> int:
        """Number of entries of M below its diagonal."""
        return self.rows * self.rank - self.rank * (self.rank + 1) // 2

    @property
    def size(self) -> int:
        """Number of its coordinates."""
        return self.rank + self.below + self.rows * self.above * self.skip

    def degrees(self, width) -> Float[Array, " rank"]:
        """Degrees of freedom of N M_ii^2, a chi^2 variable: N - i + 1, less r below a skip connection."""
        return width - self.above * self.skip - np.arange(self.rank)


class Factor(NamedTuple):
    """Coordinates of one layer as matrices; X is None without a skip connection."""

    M: Array
    log_diagonal: Array
    X: Array | None

    @property
    def normals(self) -> Array:
        """[X, M]: C_l without the rows of the skip connection is sigma_l (I (x) C_{l+1}) times this."""
        return self.M if self.X is None else jnp.concatenate([self.X, self.M], axis=1)


@dataclass(frozen=True)
class Layout:
    """Layers of theta, top layer first, the readout being the first of them."""

    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Length of theta."""
        return sum(layer.size for layer in self.layers)

    @property
    def singular(self) -> bool:
        """Some width is below the size of its order parameter."""
        return any(layer.rank < layer.rows for layer in self.layers)


def layout(network: Network, singular: bool = True) -> Layout:
    """Layout of theta for a network; ``singular=False`` keeps full factors whatever the widths (for the saddle)."""
    layers: list[Layer] = []
    above = 1
    heads, skips = (network.outputs, *network.heads[::-1]), (False, *network.skips[::-1])
    for H, skip, N in zip(heads, skips, network.widths[::-1], strict=True):
        rows = H * above
        layers.append(Layer(H, above, min(rows, N - above * skip) if singular else rows, skip))
        above = layers[-1].columns
    return Layout(tuple(layers))


def bartlett_factors(shape: Layout, theta: Float[Array, " D"]) -> tuple[Factor, ...]:
    """M, log diagonal of M, and X of each layer, top layer first."""
    result, start = [], 0
    for layer in shape.layers:
        rows, rank = layer.rows, layer.rank
        log_diagonal, entries, rest = jnp.split(theta[start : start + layer.size], (rank, rank + layer.below))
        M = jnp.zeros((rows, rank), theta.dtype).at[np.arange(rank), np.arange(rank)].set(jnp.exp(log_diagonal))
        X = rest.reshape(rows, layer.above) if layer.skip else None
        result.append(Factor(M.at[_below(rows, rank)].set(entries), log_diagonal, X))
        start += layer.size
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
    return np.concatenate([np.arange(layer.size) < layer.rank for layer in shape.layers])


def flatten_factors(factors) -> np.ndarray:
    """theta of given factors (top layer first): the inverse of ``bartlett_factors``."""
    parts = []
    for M, _, X in factors:
        parts += [np.log(np.diagonal(M)), np.asarray(M)[_below(*M.shape)], *([] if X is None else [np.ravel(X)])]
    return np.concatenate(parts)


def _below(rows, rank):
    return np.tril_indices(rows, -1, rank)


def square_roots(shape: Layout, variances: Float[Array, " blocks"], theta: Float[Array, " D"]) -> tuple[Array, ...]:
    """(C_{L+1}, C_L, .., C_1), each [k_l m, rank], with U_l = C_l C_l^T; top layer first."""
    C = jnp.ones((1, 1), theta.dtype)
    result = []
    for l, (layer, factor) in enumerate(zip(shape.layers, bartlett_factors(shape, theta), strict=True)):
        normals = factor.normals
        blocks = normals.reshape(layer.heads, -1, normals.shape[1])  # (I_H (x) C) acts on H blocks of rows
        through = jnp.sqrt(variances[-1 - l]) * jnp.matmul(C, blocks).reshape(-1, normals.shape[1])
        C = jnp.concatenate([jnp.pad(C, ((0, 0), (0, layer.rank))), through]) if layer.skip else through
        result.append(C)
    return tuple(result)


def order_parameters(shape: Layout, variances, theta) -> OrderParameters:
    """U_a and (U_1, .., U_L) at theta."""
    return gram(C @ C.T for C in square_roots(shape, variances, theta)[::-1])


def log_prior(shape: Layout, widths: Float[Array, " layers"], theta: Float[Array, " D"]) -> Float[Array, ""]:
    """log density of theta under the prior, normalising constants and log-Jacobian included.

    Per layer of width N: sum_i [d log A_ii - A_ii^2/2 - (d/2 - 1) log 2 - log Gamma(d/2)], d the degrees of freedom of
    A_ii, plus a standard normal for each A_ij below, and for each entry of sqrt(N) X, with A = sqrt(N) M.
    """
    total = jnp.zeros(())
    for l, (layer, factor) in enumerate(zip(shape.layers, bartlett_factors(shape, theta), strict=True)):
        N = widths[-1 - l]
        d = layer.degrees(N)
        total += jnp.sum(
            d * (factor.log_diagonal + 0.5 * jnp.log(N)) - (d / 2 - 1) * np.log(2) - special.gammaln(d / 2)
        )
        total += -0.5 * N * jnp.sum(factor.M**2) + 0.5 * layer.below * jnp.log(N / (2 * np.pi))
        if factor.X is not None:
            total += -0.5 * N * jnp.sum(factor.X**2) + 0.5 * factor.X.size * jnp.log(N / (2 * np.pi))
    return total


def draw_prior(shape: Layout, widths, rng: np.random.Generator, draws: int) -> Float[np.ndarray, "draws D"]:
    """Exact draws of theta from the prior, on the host: chi^2 variables and normals, M = A / sqrt(N)."""
    parts = []
    for layer, N in zip(shape.layers, np.asarray(widths)[::-1], strict=True):
        squares = rng.chisquare(layer.degrees(N), (draws, layer.rank))
        normals = rng.standard_normal((draws, layer.size - layer.rank))
        parts += [0.5 * np.log(squares / N), normals / np.sqrt(N)]
    return np.concatenate(parts, axis=1)


def log_density(shape: Layout, data: CollapsedData, theta: Float[Array, " D"]) -> Float[Array, ""]:
    """log p(theta, y), natural logarithm, all constants kept: its integral over theta is the evidence p(y)."""
    U_1 = order_parameters(shape, data.variances, theta).U[0]
    return log_prior(shape, data.widths, theta) + data.term.log_likelihood(U_1)


def model(network: Network, data: CollapsedData) -> None:
    """NumPyro model of the order parameters: section 4 line by line, for reading and for NumPyro's own inference.

    Sites: ``c_l`` (squared Bartlett diagonal, chi^2), ``A_l`` (entries below it), ``X_l`` (with a skip connection), and
    ``y``; deterministic ``U_l``.
    """
    import numpyro  # not above: only this function needs it, and its import is slow
    import numpyro.distributions as dist

    C = jnp.ones((1, 1))
    normal = lambda shape: dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape))  # noqa: E731
    for l, layer in enumerate(layout(network).layers):
        name = "a" if l == 0 else str(network.depth + 1 - l)
        N, variance = data.widths[-1 - l], data.variances[-1 - l]
        c = numpyro.sample(f"c_{name}", dist.Chi2(layer.degrees(N)).to_event(1))
        A = jnp.zeros((layer.rows, layer.rank)).at[np.arange(layer.rank), np.arange(layer.rank)].set(jnp.sqrt(c))
        if layer.below:
            A = A.at[_below(layer.rows, layer.rank)].set(numpyro.sample(f"A_{name}", normal([layer.below])))
        heads = jnp.kron(jnp.eye(layer.heads), C) * jnp.sqrt(variance / N)
        if layer.skip:
            X = numpyro.sample(f"X_{name}", normal([layer.rows, layer.above]))
            C = jnp.block([[C, jnp.zeros((len(C), layer.rank))], [heads @ X, heads @ A]])
        else:
            C = heads @ A
        U = numpyro.deterministic(f"U_{name}", C @ C.T)
    numpyro.sample("y", dist.MultivariateNormal(0.0, data.term.covariance(U)), obs=data.y.reshape(-1))
    numpyro.factor("reduction", constant(data.constants, data.temperature))
