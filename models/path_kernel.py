r"""Path kernels and the renormalized kernel they combine into (docs/model.md, sections 2 and 3).

    C^{pi pi'}(x, x') = xi^pi(x) . xi^pi'(x'),      K(x, x') = sigma_0^2 sum_{pi pi'} U_1^{pi pi'} C^{pi pi'}(x, x')

Between training examples C is needed in two ways only: K from U, and dE/dU^{pi pi'} = sigma_0^2 sum G C^{pi pi'}
from G = dE/dK. ``PathKernel`` does both from whichever takes less memory: the H(H+1)/2 symmetrised blocks
C^{pi pi'} + C^{pi' pi}, packed, or xi itself [P, N_0, H].

A symmetric matrix [P, P] is packed as panels of rows, of each the columns up to its last row: little more than half of
the entries, and slices of a matrix instead of single entries.

With m outputs (section 7) K is [P m, P m], rows (mu, alpha), and U_1 [H m, H m], rows (pi, alpha):

    K[(mu, alpha), (nu, beta)] = sum_{pi pi'} U_1[(pi, alpha), (pi', beta)] C^{pi pi'}[mu, nu].

The blocks C^{pi pi'} are then all H^2 of them, not symmetrised, and packed likewise: the panels of K follow from
theirs.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .input_blocks import combined, projected

# Blocks cost fewer operations than contracting xi (P^2 H^2/2 against P^2 N_0 H), so they are kept as long as
# they stay small in absolute terms even where xi is smaller still.
BLOCK_BYTES = 512 * 2**20
_MOST_BYTES, _BYTES_PER_FLOP = 2 * 2**30, 0.2  # 8 GB/s from memory, 40 Gflop/s
_PANELS = 8  # of a packed matrix at most: 0.56 of the entries; more of them would be slim
_LEAF = 32  # largest diagonal block that ``inverse_of_lower`` gives to LAPACK,
_LEVELS = 5  # unless there would be more than 2^5 of them, which take long to compile


@partial(jax.tree_util.register_dataclass, data_fields=["blocks", "xi"], meta_fields=["examples", "paths", "outputs"])
@dataclass(frozen=True)
class PathKernel:
    """Path kernels between P training examples, stored as blocks or as inputs (the other one is None)."""

    blocks: Any  # [B, E], B = H(H+1)/2, row-major upper triangle of (pi, pi'), or H^2; E entries of a packed matrix
    xi: Any  # [P, N_0, H]
    examples: int  # P
    paths: int  # H
    outputs: int = 1  # m

    @property
    def panels(self) -> list[tuple[int, int]]:
        """Rows [first, last) of the panels of a packed K."""
        return [(self.outputs * first, self.outputs * last) for first, last in _panels(self.examples)]

    def cotangent(self, U: Float[Array, "Hm Hm"], scale: Float[Array, ""], G: Float[Array, " E"]) -> PathKernel:
        """Derivative of scale * sum G K(U) in what is stored, for symmetric U and G, G packed."""
        P, H, m = self.examples, self.paths, self.outputs
        if self.xi is not None:
            full = unpack(G, self.panels).reshape(P, m, P, m)
            xi = jnp.einsum("paqb,qng,hagb->pnh", full, self.xi, U.reshape(H, m, H, m), optimize="optimal")
            return dataclasses.replace(self, xi=2 * scale * xi)
        if m == 1:
            U_b = U[np.triu_indices(H)]
            return dataclasses.replace(self, blocks=scale * U_b[:, None] * (G * multiplicity(P)))
        per_pair = jnp.moveaxis(U.reshape(H, m, H, m), 2, 1).reshape(H * H, m * m)
        return dataclasses.replace(self, blocks=scale * (per_pair @ _split_outputs(G, P, m)) * multiplicity(P))


def block_bytes(xi_shape: tuple[int, ...], outputs: int = 1) -> int:
    """Bytes of the packed float64 blocks for inputs [P, N_0, H]."""
    P, _, H = xi_shape
    number = H * (H + 1) // 2 if outputs == 1 else H * H
    return number * sum((last - first) * last for first, last in _panels(P)) * 8


def path_kernel(xi: Float[Array | np.ndarray, "P N_0 H"], outputs: int = 1) -> PathKernel:
    """Path kernels of inputs xi, stored as blocks where ``blocks_pay``."""
    P, _, H = xi.shape
    if not blocks_pay(xi.shape, outputs):
        return PathKernel(None, jnp.asarray(xi), P, H, outputs)
    blocks = symmetric_blocks(jnp.asarray(xi), packed=True) if outputs == 1 else _all_blocks(jnp.asarray(xi))
    return PathKernel(blocks, None, P, H, outputs)


def blocks_pay(xi_shape: tuple[int, ...], outputs: int = 1) -> bool:
    """Whether blocks are small, or smaller than xi, or read in less time than contracting xi takes."""
    P, N_0, H = xi_shape
    needed, flops = block_bytes(xi_shape, outputs), 2 * P * N_0 * H * (P + H)
    return needed <= max(BLOCK_BYTES, P * N_0 * H * 8) or needed <= min(_MOST_BYTES, _BYTES_PER_FLOP * flops)


@partial(jax.jit, static_argnames="packed")
def symmetric_blocks(xi: Float[Array, "P N_0 H"], packed: bool = False) -> Float[Array, "B ..."]:
    """C^{pi pi} on the diagonal and C^{pi pi'} + C^{pi' pi} off it, for pi <= pi' [H(H+1)/2, P, P], or packed."""
    first, second = np.triu_indices(xi.shape[-1])
    per_path = jnp.moveaxis(xi, -1, 0)

    def block(pair):
        one = per_path[pair[0]] @ per_path[pair[1]].T
        whole = jnp.where(pair[0] == pair[1], one, one + one.T)
        return pack(whole) if packed else whole

    return jax.lax.map(block, jnp.stack([jnp.asarray(first), jnp.asarray(second)], axis=1))


@jax.jit
def _all_blocks(xi: Float[Array, "P N_0 H"]) -> Float[Array, "HH E"]:
    """C^{pi pi'} of all pairs, packed [H^2, E]: above the diagonal of K a block is the transpose of another."""
    per_path = jnp.moveaxis(xi, -1, 0)
    pairs = jnp.stack(jnp.divmod(jnp.arange(len(per_path) ** 2), len(per_path)), axis=1)
    return jax.lax.map(lambda pair: pack(per_path[pair[0]] @ per_path[pair[1]].T), pairs)


def _panels(P: int) -> list[tuple[int, int]]:
    """Rows [first, last) of the panels of a packed matrix."""
    count = max(1, min(_PANELS, P // _LEAF))
    edges = [P * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def pack(matrix: Float[Array, "P P"]) -> Float[Array, " E"]:
    """A symmetric matrix as the entries of its panels."""
    return jnp.concatenate([matrix[first:last, :last].ravel() for first, last in _panels(len(matrix))])


def _lower(packed: Float[Array, " E"], panels: list[tuple[int, int]]) -> Float[Array, "P P"]:
    """The matrix, with zeros above the diagonal blocks."""
    rows, start = [], 0
    for first, last in panels:
        size = (last - first) * last
        rows.append(jnp.pad(packed[start : start + size].reshape(-1, last), ((0, 0), (0, panels[-1][1] - last))))
        start += size
    return jnp.concatenate(rows)


def unpack(packed: Float[Array, " E"], panels: list[tuple[int, int]]) -> Float[Array, "P P"]:
    """The symmetric matrix of packed panels."""
    lower = _lower(packed, panels)
    return jnp.tril(lower) + jnp.tril(lower, -1).T


def _split_outputs(packed: Float[Array, " Emm"], P: int, m: int) -> Float[Array, "mm E"]:
    """A packed K as the packed matrices of every pair of outputs."""
    parts, start = [], 0
    for first, last in _panels(P):
        size = (last - first) * last * m * m
        panel = packed[start : start + size].reshape(last - first, m, last, m)
        parts.append(panel.transpose(1, 3, 0, 2).reshape(m * m, -1))
        start += size
    return jnp.concatenate(parts, axis=1)


def _join_outputs(split: Float[Array, "mm E"], P: int, m: int) -> Float[Array, " Emm"]:
    """The inverse of ``_split_outputs``."""
    parts, start = [], 0
    for first, last in _panels(P):
        size = (last - first) * last
        panel = split[:, start : start + size].reshape(m, m, last - first, last)
        parts.append(panel.transpose(2, 0, 3, 1).ravel())
        start += size
    return jnp.concatenate(parts)


def multiplicity(P: int) -> Float[np.ndarray, " E"]:
    """How often a packed entry stands in the symmetric matrix whose lower triangle is read: 2, 1 on the diagonal, and 0
    for what a panel holds above it."""
    entries = [np.sign(np.arange(a, b)[:, None] - np.arange(b)) + 1 for a, b in _panels(P)]
    return np.concatenate([part.ravel() for part in entries]).astype(float)


def combine(kernel: PathKernel, U: Float[Array, "Hm Hm"]) -> Float[Array, "Pm Pm"]:
    """sum_{pi pi'} U^{pi pi'} C^{pi pi'}, for symmetric U."""
    if kernel.xi is not None:
        return _combine_inputs(kernel, U)
    return unpack(_combine_packed(kernel, U), kernel.panels)


def lower_triangle(kernel: PathKernel, U: Float[Array, "Hm Hm"]) -> Float[Array, "Pm Pm"]:
    """``combine`` without the work for what lies above the diagonal, which is not to be read."""
    return combine(kernel, U) if kernel.xi is not None else _lower(_combine_packed(kernel, U), kernel.panels)


def _combine_inputs(kernel, U):
    H, m = kernel.paths, kernel.outputs
    if m == 1:
        return combined(kernel.xi, U)
    found = jnp.einsum("pnh,hagb,qng->paqb", kernel.xi, U.reshape(H, m, H, m), kernel.xi, optimize="optimal")
    return found.reshape(kernel.examples * m, -1)


def _combine_packed(kernel, U):
    H, m = kernel.paths, kernel.outputs
    # the barrier keeps the gather of several chains from making this [B, chains]^T [B, E], 4 times slower on a CPU
    if m == 1:
        return jax.lax.optimization_barrier(U[np.triu_indices(H)]) @ kernel.blocks
    per_pair = U.reshape(H, m, H, m).transpose(1, 3, 0, 2).reshape(m * m, H * H)
    return _join_outputs(jax.lax.optimization_barrier(per_pair) @ kernel.blocks, kernel.examples, m)


def project(kernel: PathKernel, G: Float[Array, " E"]) -> Float[Array, "Hm Hm"]:
    """sum_{mu nu} G_{mu nu} C^{pi pi'}_{mu nu}, for symmetric G, packed: the transpose of ``combine``."""
    H, P, m = kernel.paths, kernel.examples, kernel.outputs
    if kernel.xi is not None:
        if m == 1:
            return projected(kernel.xi, unpack(G, kernel.panels))
        full = unpack(G, kernel.panels).reshape(P, m, P, m)
        found = jnp.einsum("pnh,paqb,qng->hagb", kernel.xi, full, kernel.xi, optimize="optimal")
        return found.reshape(H * m, H * m)
    # what a panel holds to the left of its diagonal block stands for its mirror image too
    twice = np.concatenate([np.tile(1.0 + (np.arange(b) < a), b - a) for a, b in _panels(P)])
    if m > 1:
        pairs = (_split_outputs(G, P, m) * twice) @ kernel.blocks.T
        half = pairs.reshape(m, m, H, H).transpose(2, 0, 3, 1).reshape(H * m, H * m)
        return (half + half.T) / 2
    # the axis of length one keeps the chains of a vmap from becoming [B, E] x [E, chains], 12 times slower on a CPU
    upper = jnp.einsum("kbe,ke->kb", kernel.blocks[None], (G * twice)[None])[0]
    index = np.triu_indices(H)
    half = jnp.zeros((H, H), G.dtype).at[index].set(jnp.where(index[0] == index[1], upper, upper / 2))
    return half + half.T - jnp.diag(jnp.diag(half))


def inverse_of_lower(L: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Inverse of a lower triangular matrix: one batched solve for small diagonal blocks, then matrix products.

    A triangular solve with the identity takes no notice of its zeros, and was slower on a CPU.
    """
    n = L.shape[-1]
    levels = min(_LEVELS, max(0, int(np.ceil(np.log2(n / _LEAF)))))
    leaf = -(-n // 2**levels)
    size = leaf * 2**levels
    padded = jnp.eye(size, dtype=L.dtype).at[:n, :n].set(L)
    diagonal = jnp.stack([padded[i : i + leaf, i : i + leaf] for i in range(0, size, leaf)])
    unit = jnp.broadcast_to(jnp.eye(leaf, dtype=L.dtype), diagonal.shape)
    inverse = jax.lax.linalg.triangular_solve(diagonal, unit, left_side=True, lower=True)
    while len(inverse) > 1:  # [[A, 0], [B, C]]^{-1} = [[A^{-1}, 0], [-C^{-1} B A^{-1}, C^{-1}]]
        s = inverse.shape[-1]
        below = jnp.stack([padded[i + s : i + 2 * s, i : i + s] for i in range(0, size, 2 * s)])
        first, second = inverse[::2], inverse[1::2]
        corner = -second @ (below @ first)
        inverse = jnp.block([[first, jnp.zeros_like(first)], [corner, second]])
    return inverse[0, :n, :n]
