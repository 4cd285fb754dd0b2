"""The log evidence of a posterior, log p(y | N, T, heads), and how it was found (docs/evidence.md).

    p(y) = integral p(y | theta) p(theta) d theta      (docs/model.md, sections 4 and 6)

By importance weights (``importance``) where they are to be believed, by tempered sequential Monte Carlo (``tempering``)
elsewhere, and for every posterior but that of a ``gf.Network``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import jax
import numpy as np
import scipy.stats
from scipy.special import logsumexp, softmax

from ..core import cards, checks
from ..core.numerics import numerics
from ..models import LearnedPosterior, ModelPosterior, Posterior
from ..models.shown import posterior_rows
from ..models.solvable import check_solvable
from ..sampler.weights import PARETO_LIMIT, Weights
from .importance import importance_weights
from .tempering import Pass, log_ess, log_mean_weights, tempered, thermodynamic_integral

METHODS = ("auto", "importance", "smc")
_MIN_PARTICLES = 32  # fewer do not determine their covariance or the errors
_IMPROBABLE = 1e-4  # chance of replicates that differ by more than their errors before a warning is given


@dataclass(frozen=True, eq=False)
class Evidence:
    """Log evidence (natural logarithm, nats) and how it was found.

    Attributes:
        posterior: what was integrated.
        log_evidence: log p(y | N, T, heads), from the mean of all replicates.
        error: its standard error.
        thermodynamic: the same by thermodynamic integration over the same particles; NaN of importance weights.
        thermodynamic_error: its standard error, correlated with ``error``.
        betas: inverse temperatures of the path, 0 .. 1 [S + 1]; S = 1 of importance weights.
        ess: mean effective sample size of each change of beta [S].
        acceptance: mean acceptance of the moves after it [S]; none of importance weights.
        mean_log_likelihood: E_beta[log p(y | theta)] at each beta [S + 1]; none of importance weights.
        repeats: log-evidence of each replicate [R].
        agreement: probability that replicates with these errors differ as much as these do; 1 for a single one.
        particles: particles, or proposals, of each replicate.
        method: ``"smc"``, tempered sequential Monte Carlo, or ``"importance"``, weights of independent proposals.
        pareto_k: shape of the tail of the importance weights, also where they were not believed; NaN without.

    Source: docs/evidence.md.
    """

    posterior: Posterior | LearnedPosterior | ModelPosterior
    log_evidence: float
    error: float
    thermodynamic: float
    thermodynamic_error: float
    betas: np.ndarray
    ess: np.ndarray
    acceptance: np.ndarray
    mean_log_likelihood: np.ndarray
    repeats: np.ndarray
    agreement: float
    particles: int
    method: str = "smc"
    pareto_k: float = float("nan")

    def __repr__(self) -> str:
        return f"Evidence(log p(y) = {self.log_evidence:.3f} +- {self.error:.2g}, {self.method}, {self.posterior})"

    def _repr_html_(self) -> str:
        rows = {"log p(y)": f"{self.log_evidence:.3f} ± {self.error:.2g} nats", "method": self.method}
        rows |= {"replicates": f"{len(self.repeats)} of {self.particles} particles"}
        known = {"Pareto k": self.pareto_k, "thermodynamic integration": self.thermodynamic}
        rows |= {name: f"{value:.3f}" for name, value in known.items() if not np.isnan(value)}
        problem = None if self.agrees else "replicates differ by more than their errors say: use more particles"
        return cards.card("Evidence", (rows | posterior_rows(self.posterior)).items(), problem)

    @property
    def agrees(self) -> bool:
        """The replicates differ no more than their errors imply."""
        return self.agreement >= _IMPROBABLE


class EvidenceWarning(UserWarning):
    """An evidence that is not to be believed: replicates or importance weights say so."""


def evidence(
    posterior: Posterior | LearnedPosterior | ModelPosterior,
    *,
    key: jax.Array,
    particles: int = 256,
    repeats: int = 4,
    method: str = "auto",
) -> Evidence:
    """Log evidence log p(y | N, T, heads) of a posterior, with its standard error, in float64.

    The data are the labels; inputs are given, and attention is where it is frozen. For ``gf.Posterior`` one program is
    compiled for each set of heads (and each singular width), so scanning widths, temperatures and variances costs no
    compilation.

    Args:
        posterior: network, data and temperature; ``posterior.select(paths)`` for a subset of the heads. Also that of
            ``gf.LearnedAttention``, over queries, keys and order parameters, and that of a ``gf.Model`` with
            ``variances``, or with ``draw_prior`` that draws from ``log_prior`` exactly, over its weights.
        key: typed random key; the result depends on nothing else.
        particles: particles of each replicate; errors fall as 1 / sqrt(particles * repeats).
        repeats: independent replicates, after a first one that tunes and does not count.
        method: ``"smc"``, tempered sequential Monte Carlo; ``"importance"``, weights of up to 16 x ``particles``
            independent proposals a replicate, tens of times faster, for ``gf.Posterior`` alone; ``"auto"``, the latter
            where its weights are to be believed (Pareto k up to 0.7).

    Returns:
        Evidence. A warning is given if the replicates differ by more than their errors imply, or if importance weights
        that were asked for are not to be believed.

    Raises:
        ValueError: an argument is out of range or of the wrong kind.

    Source: docs/model.md, sections 4 and 6; docs/evidence.md.
    """
    others = isinstance(posterior, LearnedPosterior | ModelPosterior)
    if not others or method == "importance":
        check_solvable("method='importance'" if others else "evidence", posterior)
    checks.random_key("key", key)
    particles = checks.count("particles", particles, least=_MIN_PARTICLES)
    repeats = checks.count("repeats", repeats)
    checks.nearest("method", method, METHODS)
    pareto_k = float("nan")
    with numerics():
        if isinstance(posterior, Posterior) and method != "smc":
            found = importance_weights(posterior, jax.random.fold_in(key, 2**31 - 1), 16 * particles, repeats)
            pareto_k = found.pareto_k
            if method == "importance" or pareto_k <= PARETO_LIMIT:
                return _of_weights(posterior, found)
        betas, passes = tempered(posterior, key, particles, repeats)
    return _of_passes(posterior, betas, passes, pareto_k)


def _of_weights(posterior, weights: Weights) -> Evidence:
    values, errors = weights.values, weights.errors
    shares = softmax(values)
    found = Evidence(
        posterior=posterior,
        log_evidence=float(logsumexp(values) - np.log(len(values))),
        error=float(np.sqrt(np.sum((shares * errors) ** 2))),
        thermodynamic=float("nan"),
        thermodynamic_error=float("nan"),
        betas=np.array([0.0, 1.0]),
        ess=np.array([weights.ess]),
        acceptance=np.empty(0),
        mean_log_likelihood=np.empty(0),
        repeats=values,
        agreement=_agreement(values, errors),
        particles=weights.log_weights.shape[1],
        method="importance",
        pareto_k=weights.pareto_k,
    )
    if found.pareto_k > PARETO_LIMIT:
        warnings.warn(
            f"importance weights have Pareto k = {found.pareto_k:.2f} (limit {PARETO_LIMIT}), too heavy a "
            "tail for the evidence and its error to be believed: use method='smc'",
            EvidenceWarning,
            stacklevel=3,
        )
    return found


def _of_passes(posterior, betas: np.ndarray, passes: list[Pass], pareto_k: float) -> Evidence:
    log_weights = np.diff(betas)[:, None] * np.stack([p.log_likelihood[:-1] for p in passes])
    values, errors = np.array([log_mean_weights(betas, p) for p in passes]).T
    integrals, integral_errors = np.array([thermodynamic_integral(betas, p) for p in passes]).T
    shares = softmax(values)  # of each pass in the mean of the estimates of p(y)
    found = Evidence(
        posterior=posterior,
        log_evidence=float(logsumexp(values) - np.log(len(values))),
        error=float(np.sqrt(np.sum((shares * errors) ** 2))),
        thermodynamic=float(integrals.mean()),
        thermodynamic_error=float(np.sqrt(np.sum(integral_errors**2)) / len(passes)),
        betas=betas,
        ess=np.exp(log_ess(log_weights)).mean(0),
        acceptance=np.mean([p.acceptance for p in passes], axis=0),
        mean_log_likelihood=np.mean([p.log_likelihood for p in passes], axis=(0, 2)),
        repeats=values,
        agreement=_agreement(values, errors),
        particles=passes[0].lineage.shape[1],
        pareto_k=pareto_k,
    )
    if not found.agrees:
        listed = ", ".join(f"{v:.2f} +- {e:.2f}" for v, e in zip(values, errors, strict=True))
        warnings.warn(
            f"log evidence by pass is {listed}: they differ by more than their errors say, use more particles",
            EvidenceWarning,
            stacklevel=3,
        )
    return found


def _agreement(values, errors) -> float:
    """Chance of a chi-square of the replicates about their weighted mean above the one found."""
    if len(values) == 1 or not errors.all():  # without error where the likelihood does not depend on theta
        return 1.0
    mean = np.average(values, weights=1 / errors**2)
    return float(scipy.stats.chi2.sf(np.sum(((values - mean) / errors) ** 2), len(values) - 1))
