"""Diagnostics of many short chains: nested R-hat and ESS from the spread of the chains' means, in one pass.

Ranks and autocorrelations of thousands of chains cost more than drawing them on an accelerator, and split R-hat calls
short chains unfinished however many there are. With ``MANY`` chains or more, superchains of ``SUPERCHAIN`` chains start
at one point each. Where they have forgotten it, the means of superchains differ as averages of independent draws do:

    nested R-hat^2 = 1 + B / W,     ESS = (draws of all chains) (variance of the draws) / (n variance of chain means)

with n draws a chain, B the variance of superchain means, and W the mean variance within a superchain.

Source: Margossian et al. 2024, "Nested R-hat".
"""

from __future__ import annotations

import numpy as np

MANY = 1024  # chains: 16 superchains at least, whose variance is known to a third
SUPERCHAIN = 64


def superchain(chain):
    """Number of the superchain of a chain, which is that of its first chain."""
    return chain // SUPERCHAIN * SUPERCHAIN


def superchains(chains: int) -> int:
    """Number of full superchains."""
    return chains // SUPERCHAIN


def nested(count: int, mean: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Diagnostics of each entry.

    Args:
        count: draws per chain n.
        mean: of each chain [chain, ..].
        squares: sums of squared deviations from it [chain, ..].

    Returns:
        (nested R-hat, ESS, variance of the draws), each [..]; chains beyond the last full superchain count for the
        ESS only.
    """
    chains = superchains(len(mean)) * SUPERCHAIN
    groups = mean[:chains].reshape(-1, SUPERCHAIN, *mean.shape[1:])
    within = squares[:chains].mean(0) / max(1, count - 1) + groups.var(1, ddof=1).mean(0)
    between = groups.mean(1).var(0, ddof=1)
    of_means = mean.var(0, ddof=1)
    variance = squares.mean(0) / count + of_means
    with np.errstate(all="ignore"):  # chains that never move have no R-hat: NaN says so
        return np.sqrt(1 + between / within), len(mean) * variance / of_means, variance
