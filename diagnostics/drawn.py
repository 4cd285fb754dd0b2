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

    A posterior may give f of a draw as a conditional mean and variance (Rao-Blackwell).

    Args:
        run: with the weights of its draws; or with f recorded on these very inputs.
        x: test inputs [Q, ..] as ``checked_inputs`` of the posterior takes them.

    Returns:
        (mean [Q] or [Q, m], variance alike, means of B blocks [B, Q] or [B, Q, m]).

    Raises:
        ValueError: test inputs of another shape, or a run that kept no weights.
    """
    inputs = run.posterior.checked_inputs(x)
    names = run.names("weight")
    if hasattr(run.posterior, "predicts_from"):
        names, recorded = run.posterior.predicts_from(run.variables), False
    else:
        recorded = run.test is not None and "f" in run.variables and np.array_equal(run.test[0], inputs)
    if not recorded and not names:
        raise checks.InputError(
            "this run kept no weights, so that f is known on its own test inputs alone: give these, or sample "
            "again with "
            "keep='weights'"
        )
    count, blocks, mean, squares = 0, [], np.zeros(()), np.zeros(())
    conditional = np.zeros(())
    for f, variance in _blocks(run, inputs, () if recorded else names):
        n, block = len(f), f.mean(0)
        conditional = conditional + variance.sum(0)
        shift = block - mean
        squares = squares + ((f - block) ** 2).sum(0) + shift**2 * count * n / (count + n)
        count, mean = count + n, mean + shift * n / (count + n)
        blocks.append(block)
    return mean, (squares + conditional) / count, np.stack(blocks)


def _blocks(run: Run, inputs, names: tuple[str, ...]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """f [n, Q, ..] of consecutive draws of one chain and its conditional variance, block by block; recorded f without
    ``names``."""
    for chain in range(run.chains):
        edges = np.linspace(0, run.draws, min(BLOCKS, run.draws) + 1).astype(int)
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            parts = [slice(i, min(i + _AT_ONCE, end)) for i in range(begin, end, _AT_ONCE)]
            f, variance = zip(*(_outputs(run, chain, part, inputs, names) for part in parts), strict=True)
            yield np.concatenate(f), np.concatenate(variance)


def _outputs(run: Run, chain: int, part: slice, inputs, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """f of some draws of a chain; fewer than ``_AT_ONCE`` are computed as so many, by the same program."""
    if not names:
        f = np.asarray(run.variables["f"][chain, part], np.float64)
        return f, np.zeros_like(f)
    n = part.stop - part.start
    weights = {}
    for name in names:
        values = np.asarray(run.variables[name][chain, part])
        weights[name] = np.concatenate([values, np.repeat(values[-1:], _AT_ONCE - n, axis=0)])
    found = run.posterior.predictions(weights, inputs)
    f, variance = found if isinstance(found, tuple) else (found, np.zeros_like(found))
    return f[:n], variance[:n]
