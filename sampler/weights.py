"""Importance weights of independent proposals, and the evidence that they give.

    p(y) = E_q[ p(s, y) / q(s) ]      (docs/model.md, section 11)

The largest weights say whether to believe it: above Pareto k = 0.7 their mean converges too slowly. Source: Vehtari,
Simpson, Gelman, Yao and Gabry 2024 (Pareto k).
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

PARETO_LIMIT = 0.7
_LEAST = 100  # weights whose tail can be looked at


class Weights(NamedTuple):
    """Importance weights of independent proposals.

    Attributes:
        log_weights: log p(s, y) - log q(s) of each replicate's proposals [R, n].
        pareto_k: shape of the tail of all weights together.
    """

    log_weights: np.ndarray
    pareto_k: float

    @classmethod
    def of(cls, log_weights: np.ndarray) -> Weights:
        """Weights [R, n], those that are not a number without weight."""
        found = np.where(np.isnan(log_weights), -np.inf, log_weights)
        return cls(found, _pareto_k(found.ravel()) if np.isfinite(found).any() else np.inf)

    @property
    def values(self) -> np.ndarray:
        """Log-evidence of each replicate [R]."""
        return logsumexp(self.log_weights, axis=1) - np.log(self.log_weights.shape[1])

    @property
    def errors(self) -> np.ndarray:
        """Their standard errors [R]."""
        relative = np.exp(self.log_weights - self.values[:, None])
        return relative.std(axis=1, ddof=1) / np.sqrt(relative.shape[1])

    @property
    def ess(self) -> float:
        """Effective number of proposals of a replicate: Kish's, on average."""
        share = np.exp(self.log_weights - self.log_weights.max())
        return float(np.mean(share.sum(1) ** 2 / np.sum(share**2, axis=1)))


class RunEvidence(NamedTuple):
    """Log evidence of a run's posterior (nats), a by-product of independent proposals.

    Attributes:
        value: log p(y), or None where ``reason`` says why it is not known.
        error: its standard error; NaN without a value.
        pareto_k: shape of the tail of the weights; NaN without weights.
        reason: why there is no value, and what to do; "" with one.
    """

    value: float | None
    error: float
    pareto_k: float
    reason: str


def run_evidence(log_weights: np.ndarray | None) -> RunEvidence:
    """The evidence from the weights [chain, draw] of a run, None where it has none."""
    if log_weights is None:
        reason = "its proposals are not independent: sample with gf.Collapsed(move='independent'), or use gf.evidence"
        return RunEvidence(None, np.nan, np.nan, reason)
    if log_weights.size < _LEAST:
        return RunEvidence(None, np.nan, np.nan, f"{log_weights.size} proposals are too few: make {_LEAST} or more")
    found = Weights.of(log_weights.reshape(1, -1))
    if not found.pareto_k <= PARETO_LIMIT:
        reason = f"Pareto k = {found.pareto_k:.2f} is above {PARETO_LIMIT}: use gf.evidence(posterior, method='smc')"
        return RunEvidence(None, np.nan, found.pareto_k, reason)
    return RunEvidence(float(found.values[0]), float(found.errors[0]), found.pareto_k, "")


def _pareto_k(log_weights: np.ndarray) -> float:
    import arviz  # not above: its import is slow

    if np.ptp(log_weights) < 1e-9:  # the posterior is Gaussian, and the weights have no tail
        return -np.inf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if hasattr(arviz, "psislw"):
            return float(arviz.psislw(log_weights)[1])
        from arviz_stats.base import array_stats  # where ArviZ 1 has it

        return float(array_stats.psislw(-log_weights)[1])  # it takes log-likelihoods
