"""Residual branches: the strength g_l of the skip connection of every layer (docs/model.md, section 2).

z_{l+1}(t) = g_l z_l(t) + heads of layer l. With g_l > 0 the layer has one more branch, listed before its heads; with
g_l = 0 it has none.
"""

from __future__ import annotations

import numpy as np

from ..core import checks


def strengths(residual, depth: int) -> tuple[float, ...]:
    """(g_1, .., g_L) from what a user gives.

    Args:
        residual: True for 1 in every layer, False or () for none, or g_l of each layer, zero or above.
        depth: L.

    Raises:
        ValueError: neither of these, another length than L, a negative g_l, NaN or infinity.
    """
    if isinstance(residual, bool | np.bool_):
        return (float(residual),) * depth
    if isinstance(residual, str) or not np.iterable(residual):
        raise checks.InputError(
            f"residual={checks.brief(residual)}: give True, False, or the strength of the skip connection of each "
            f"layer, such as {checks.brief((1.0,) * depth)}"
        )
    given = tuple(residual)
    if not given:
        return (0.0,) * depth
    if len(given) != depth:
        raise checks.InputError(
            f"residual={checks.brief(given)} has length {len(given)} and the number of layers is {depth}: give one per "
            "layer"
        )
    return tuple(checks.at_least_zero(f"residual[{l}]", g) for l, g in enumerate(given))


def head_counts(branches: tuple[int, ...], residual: tuple[float, ...]) -> tuple[int, ...]:
    """(H_1, .., H_L) of layers with G_l branches and skip connections of strength g_l."""
    return tuple(G - (g > 0) for G, g in zip(branches, residual, strict=True))


def skipped(branches: tuple[int, ...], residual: tuple[float, ...]) -> np.ndarray:
    """Which layers each path skips, bool [paths, L], paths in C order."""
    index = np.stack(np.unravel_index(np.arange(np.prod(branches)), branches), 1)
    return (index == 0) & (np.array(residual) > 0)


def scales(input_width: int, branches: tuple[int, ...], residual: tuple[float, ...]) -> np.ndarray:
    """What sums over tokens are divided by, of each path: sqrt(N_0) / prod_l c_l, c_l = 1/sqrt(H_l), or g_l of a skip.

    [paths], paths in C order.
    """
    skips = skipped(branches, residual)
    heads = np.where(skips, 1, head_counts(branches, residual))
    return np.sqrt(input_width * heads.prod(1)) / np.where(skips, residual, 1.0).prod(1)


def path_names(branches: tuple[int, ...], residual: tuple[float, ...]) -> tuple[str, ...]:
    """Names of paths in C order: "(h_1 .. h_L)" with heads from 1, and "skip" in place of a skipped layer's head."""
    skips, index = skipped(branches, residual), np.stack(np.unravel_index(np.arange(np.prod(branches)), branches), 1)
    first = np.where(np.array(residual) > 0, 0, 1)  # the number of a layer's first branch
    return tuple(
        f"({' '.join('skip' if skip else str(number) for skip, number in zip(*row, strict=True))})"
        for row in zip(skips.tolist(), (index + first).tolist(), strict=True)
    )
