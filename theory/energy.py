r"""The data's part of the action and its exact derivatives in the independent entries of U_1.

    E(U_1) = log det A + y^T A^{-1} y,   A = sigma_0^2 sum_b U_b S_b + T I,   b = (pi <= pi')

with S_b = C^{pi pi'} + C^{pi' pi} (C^{pi pi} on the diagonal) and alpha = A^{-1} y:

    dE/dU_b        = sigma_0^2 [ tr(A^{-1} S_b) - alpha^T S_b alpha ]
    d2E/dU_b dU_c  = sigma_0^4 [ -tr(A^{-1} S_b A^{-1} S_c) + 2 alpha^T S_b A^{-1} S_c alpha ]

Since C^{pi pi'} = xi^pi xi^pi'^T, both follow from the small matrix G^{pi pi'} = xi^pi^T A^{-1} xi^pi' [N_0, N_0]: for
many paths or examples a Hessian then costs hardly more than a gradient, where the blocks S_b [P, P] would cost one
gradient each. Whichever takes fewer operations is used; with several outputs, where a path stands for a path and an
output, always G.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import checks
from ..models.collapsed import CollapsedData, Layout, order_parameters
from ..models.path_kernel import block_bytes, symmetric_blocks


def energy(data: CollapsedData, U_1: Float[Array, "H H"]) -> Float[Array, ""]:
    """E at U_1: -2 log N(y; 0, A), its constant left out."""
    numbers = data.y.size + data.constants[0]
    return -2 * data.term.log_likelihood(U_1) - numbers * np.log(2 * np.pi)


def derivative_data(xi: Float[np.ndarray, "P N_0 H"], outputs: int = 1) -> tuple[Array | None, Array | None]:
    """(blocks [B, P, P], None) or (None, inputs [P, H, n]), whichever makes ``derivatives`` cheaper.

    Inputs are rotated to the n <= N_0 directions that they span, which no kernel notices.

    Args:
        xi: path-contracted inputs.
        outputs: m.

    Raises:
        ValueError: the derivatives would not fit in memory.
    """
    P, N_0, H = xi.shape
    paths, m = H, outputs
    P, H = P * m, H * m
    B = H * (H + 1) // 2
    by_blocks = 4.0 * B * P**3 + 2.0 * B**2 * P**2
    by_inputs = 2.0 * (H * N_0) ** 2 * P + 2.0 * H**4 * N_0**2
    # the blocks and W, or G and its transpose
    whole = m == 1 and by_blocks < by_inputs
    needed = 2 * (block_bytes(xi.shape) if whole else 8 * (H * N_0) ** 2 + 12 * H**4)
    # Hessians in U_1 and in the coordinates, which are about as many, Jacobian, factorisations of the Newton step
    needed += 8 * 8 * B**2
    of_outputs = f" and {m} outputs" * (m > 1)
    checks.memory(f"theory of {paths} paths{of_outputs}", needed, "fewer paths or examples")
    if whole:
        return symmetric_blocks(jnp.asarray(xi)), None
    stacked = np.moveaxis(xi, 1, 2).reshape(-1, N_0)
    values, directions = np.linalg.eigh(stacked.T @ stacked)
    kept = values > values[-1] * N_0 * np.finfo(float).eps
    return None, jnp.asarray((stacked @ directions[:, kept]).reshape(len(xi), paths, -1))


def derivatives(data: CollapsedData, parts, U_1: Float[Array, "H H"]) -> tuple[Float[Array, " B"], Float[Array, "B B"]]:
    """Gradient and Hessian of E in the upper triangle of U_1, row-major; ``parts`` from ``derivative_data``."""
    half = data.term.inverse_factor(U_1)  # A^{-1} = half^T half
    blocks, inputs = parts
    y = data.y.reshape(-1)
    found = _from_blocks(half, y, blocks) if inputs is None else _from_inputs(half, y, inputs)
    return data.variances[0] * found[0], data.variances[0] ** 2 * found[1]


def hessian(
    shape: Layout, data: CollapsedData, parts, rest: Callable, theta: Float[Array, " D"]
) -> Float[Array, "D D"]:
    """Hessian of rest(theta) + E(U_1(theta)), where ``rest`` is without factorisations.

    Forward over reverse through E would ask for several independent ones, which can wait for each other for ever on a
    CPU, and would cost D gradients.
    """

    def upper(t):
        U_1 = order_parameters(shape, data.variances, t).U[0]
        return U_1[np.triu_indices(U_1.shape[0])]

    slope, curvature = derivatives(data, parts, order_parameters(shape, data.variances, theta).U[0])
    J = jax.jacfwd(upper)(theta)
    return J.T @ curvature @ J + jax.hessian(lambda t: rest(t) + slope @ upper(t))(theta)


def _from_blocks(half, y, blocks):
    W = jnp.matmul(jnp.matmul(half, blocks), half.T)
    z = half @ y
    Wz = W @ z
    flat = W.reshape(len(W), -1)
    return jnp.trace(W, axis1=1, axis2=2) - Wz @ z, -flat @ flat.T + 2 * Wz @ Wz.T


def _from_inputs(half, y, inputs):
    P, H, n = inputs.shape
    m = len(y) // P
    # those of an output see the rows of that output alone
    flat = half @ inputs.reshape(P, H * n) if m == 1 else jnp.einsum("ipa,phn->ihan", half.reshape(-1, P, m), inputs)
    H = H * m
    flat = flat.reshape(-1, H * n)
    G = (flat.T @ flat).reshape(H, n, H, n)
    beta = ((half @ y) @ flat).reshape(H, n)  # xi^pi^T alpha
    pairs = G.transpose(0, 2, 1, 3).reshape(H * H, n * n)
    # tr(A^{-1} C^{pi pi'} A^{-1} C^{rho rho'}) = sum_ab G[rho' a, pi b] G[rho a, pi' b]
    trace = (pairs @ pairs.T).reshape(H, H, H, H).transpose(1, 3, 2, 0)
    # alpha^T C^{pi pi'} A^{-1} C^{rho rho'} alpha = sum_ab beta[pi a] G[pi' a, rho b] beta[rho' b]
    quadratic = jnp.einsum("pa,qarb,sb->pqrs", beta, G, beta, optimize="optimal")
    D = _duplication(H)
    gradient = jnp.einsum("paqa->pq", G) - beta @ beta.T
    return gradient.reshape(-1) @ D, D.T @ (2 * quadratic - trace).reshape(H * H, H * H) @ D


def _duplication(H):
    """[H^2, B]: the full symmetric matrix from its upper triangle."""
    first, second = np.triu_indices(H)
    D = np.zeros((H * H, len(first)))
    D[first * H + second, np.arange(len(first))] = 1
    D[second * H + first, np.arange(len(first))] = 1
    return D
