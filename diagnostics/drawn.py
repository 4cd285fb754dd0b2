"""The predictor of a run whose posterior computes f from recorded weights, draw by draw (``predictions``)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..core import checks
from ..sampler import Run

BLOCKS = 8  # blocks per chain for error bars: long enough to be nearly independent, enough of them to count
_AT_ONCE = 64  # draws whose f is computed by one call


def moments_of_f(run: Run, x) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and variance of f over all draws, and its means over blocks of consecutive draws.

    Args:
        run: with the weights of its draws; or with f recorded on these very inputs.
        x: test inputs [Q, ..] as ``checked_inputs`` of the posterior takes them.

    Returns:
        (mean [Q] or [Q, m], variance alike, means of B blocks [B, Q] or [B, Q, m]).

    Raises:
        ValueError: test inputs of another shape, or a run that kept no weights.
    """
    inputs = run.posterior.checked_inputs(x)
    recorded = run.test is not None and "f" in run.variables and np.array_equal(run.test[0], inputs)
    if not recorded and not run.names("weight"):
        raise checks.InputError(
            "this run kept no weights, so that f is known on its own test inputs alone: give these, or sample "
            "again with "
            "keep='weights'"
        )
    count, blocks, mean, squares = 0, [], np.zeros(()), np.zeros(())
    for f in _blocks(run, inputs, recorded):
        n, block = len(f), f.mean(0)
        shift = block - mean
        squares = squares + ((f - block) ** 2).sum(0) + shift**2 * count * n / (count + n)
        count, mean = count + n, mean + shift * n / (count + n)
        blocks.append(block)
    return mean, squares / count, np.stack(blocks)


def _blocks(run: Run, inputs: np.ndarray, recorded: bool) -> Iterator[np.ndarray]:
    """f [n, Q, ..] of consecutive draws of one chain, block by block."""
    for chain in range(run.chains):
        edges = np.linspace(0, run.draws, min(BLOCKS, run.draws) + 1).astype(int)
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            parts = [slice(i, min(i + _AT_ONCE, end)) for i in range(begin, end, _AT_ONCE)]
            yield np.concatenate([_outputs(run, chain, part, inputs, recorded) for part in parts])


def _outputs(run: Run, chain: int, part: slice, inputs: np.ndarray, recorded: bool) -> np.ndarray:
    """f [n, Q, ..] of some draws of a chain; fewer than ``_AT_ONCE`` are computed as so many, by the same program."""
    if recorded:
        return np.asarray(run.variables["f"][chain, part], np.float64)
    n = part.stop - part.start
    weights = {}
    for name in run.names("weight"):
        values = np.asarray(run.variables[name][chain, part])
        weights[name] = np.concatenate([values, np.repeat(values[-1:], _AT_ONCE - n, axis=0)])
    return run.posterior.predictions(weights, inputs)[:n]
