r"""Rank-normalised R-hat and effective sample sizes of many entries at once.

The definitions are those of ArviZ, with which they agree to rounding; ArviZ visits one entry at a time, which for the
thousands of entries of a large order parameter takes longer than drawing them. With chains split in halves, x the draws
and rho_t their autocorrelation over all chains,

    ESS = draws / (-1 + 2 sum_k P_k),       P_k = rho_2k + rho_2k+1 > 0, replaced by the least so far (Geyer),

of normal scores of the ranks (bulk), of the indicators of the 5 % quantiles (tail), and of x itself (MCSE). R-hat is
the larger one of that of the scores and that of the scores of |x - median|.

Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner 2021; Geyer 1992.
"""

from __future__ import annotations

import numpy as np
import scipy.fft
from scipy.special import ndtri
from scipy.stats import rankdata

_BLOCK = 2**21  # numbers treated at a time
_TAILS = (0.05, 0.95)
_LEAST = 4  # draws per chain


def independent(samples: np.ndarray) -> np.ndarray:
    """Draws [chain, draw, ..] as [chain, draw, n]: of symmetric matrices the upper triangle, row by row."""
    shape = samples.shape[2:]
    if len(shape) == 2 and shape[0] == shape[1] and np.array_equal(samples, samples.swapaxes(2, 3), equal_nan=True):
        samples = samples[:, :, *np.triu_indices(shape[0])]
    return samples.reshape(*samples.shape[:2], -1)


def bulk(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R-hat, bulk ESS) of each entry of draws [chain, draw, ..].

    R-hat is NaN where chains never move, and of a single chain.
    """
    found = _blocks(samples, lambda x: np.stack(_bulk(_split(x))))
    return found[0], found[1]


def all_of(samples: np.ndarray) -> dict[str, np.ndarray]:
    """MCSE of the mean, bulk and tail ESS, and R-hat of each entry of draws [chain, draw, ..]."""

    def block(x):
        half = _split(x)
        rhat, ess = _bulk(half)
        tail = [_ess(_split((x <= np.quantile(x, q, axis=(1, 2), keepdims=True)) * 1.0)) for q in _TAILS]
        mcse = x.reshape(len(x), -1).std(1, ddof=1) / np.sqrt(_ess(half))
        return np.stack([mcse, ess, np.minimum(*tail), rhat])

    return dict(zip(("mcse", "ess_bulk", "ess_tail", "rhat"), _blocks(samples, block), strict=True))


def _blocks(samples, function):
    """``function`` of entries [entry, chain, draw], some at a time; not a number of entries that are not finite."""
    chains, draws, *shape = samples.shape
    flat = samples.reshape(chains, draws, -1)
    step = max(1, _BLOCK // (chains * draws))
    parts = []
    with np.errstate(all="ignore"):
        for i in range(0, flat.shape[2], step):
            x = np.ascontiguousarray(np.moveaxis(flat[..., i : i + step], 2, 0), np.float64)
            finite = np.isfinite(x).all((1, 2)) & (draws >= _LEAST)
            parts.append(np.where(finite, function(np.where(finite[:, None, None], x, 0.0)), np.nan))
    return np.concatenate(parts, axis=1).reshape(-1, *shape)


def _bulk(half):
    median = np.median(half, axis=(1, 2), keepdims=True)
    scores = _scores(half)
    return np.maximum(_rhat(scores), _rhat(_scores(np.abs(half - median)))), _ess(scores)


def _split(x):
    """Each chain as two."""
    n = x.shape[2] // 2
    return np.concatenate([x[..., :n], x[..., -n:]], axis=1)


def _scores(x):
    """Normal scores of the ranks among all draws of an entry."""
    flat = x.reshape(len(x), -1)
    return ndtri((rankdata(flat, axis=1) - 3 / 8) / (flat.shape[1] + 1 / 4)).reshape(x.shape)


def _rhat(x):
    n = x.shape[2]
    if len(x[0]) < _LEAST:  # halves of one chain, of which ArviZ has none either
        return np.full(len(x), np.nan)
    within = x.var(2, ddof=1).mean(1)
    return np.sqrt((n * x.mean(2).var(1, ddof=1) / within + n - 1) / n)


def _ess(x):
    """Effective number of draws of the mean; all of them where they are equal."""
    _, chains, n = x.shape
    deviations = x - x.mean(2, keepdims=True)
    length = scipy.fft.next_fast_len(2 * n)
    power = np.abs(scipy.fft.rfft(deviations, length, axis=2)) ** 2
    covariance = scipy.fft.irfft(power.mean(1), length, axis=1)[:, :n] / n
    within = covariance[:, 0] * n / (n - 1)
    total = covariance[:, 0] + x.mean(2).var(1, ddof=1)
    rho = 1 - (within[:, None] - covariance) / total[:, None]
    rho[:, 0] = 1.0
    last = max(0, (n - 3) // 2)
    pairs = rho[:, 0 : 2 * last + 2 : 2] + rho[:, 1 : 2 * last + 2 : 2]
    ends = pairs <= 0
    cut = np.where(ends.any(1), ends.argmax(1), last)  # the first pair that does not count
    least = np.where(np.arange(pairs.shape[1]) < cut[:, None], np.minimum.accumulate(pairs, axis=1), 0.0)
    time = -1 + 2 * least.sum(1) + np.maximum(0.0, rho[np.arange(len(x)), 2 * cut])
    size = chains * n
    constant = np.ptp(x.reshape(len(x), -1), axis=1) < np.finfo(float).resolution
    return np.where(constant, size, size / np.maximum(time, 1 / np.log10(size)))
