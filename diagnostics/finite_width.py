"""Finite width beyond the saddle point: the exact posterior of U_1 compared with the Gaussian approximation at U*."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import cards, checks
from ..models.records import entry_labels
from ..models.solvable import check_solvable
from ..sampler import Run
from ..sampler.convergence import moments, warn_of_bad_chains
from ..theory import Theory


class FiniteWidth(NamedTuple):
    """Posterior of the independent entries of U_1 (upper triangle, row-major, B = H m (H m + 1)/2) and theory.

    Attributes:
        entries: names of the entries [B].
        saddle: U* [B].
        mean, mcse: exact posterior mean [B] and its Monte Carlo standard error [B].
        covariance: exact posterior covariance [B, B].
        saddle_covariance: its leading order, from the Hessian at the saddle [B, B].
        correction: |E U_1 - U*| / |U*|, Frobenius norms, its Monte Carlo bias removed; of order 1/N at fixed P/N.
        correction_error: standard error of ``correction``.
    """

    entries: tuple[str, ...]
    saddle: np.ndarray
    mean: np.ndarray
    mcse: np.ndarray
    covariance: np.ndarray
    saddle_covariance: np.ndarray
    correction: float
    correction_error: float

    def __repr__(self) -> str:
        return cards.line("FiniteWidth", self._asdict())

    def _repr_html_(self) -> str:
        return cards.card("Finite width against the saddle point", self._asdict().items())


def finite_width(run: Run, theory: Theory) -> FiniteWidth:
    """What the large-N theory leaves out at this width.

    Args:
        run: draws of order parameters, best from ``collapsed``.
        theory: of the same posterior, all paths.

    Returns:
        FiniteWidth: the exact mean and covariance, and those of the saddle point.

    Raises:
        ValueError: the theory is the GP limit, or of other paths than the run.

    Source: docs/model.md, sections 4 (exact law) and 6 (saddle point; covariance by Laplace's method).
    """
    if not isinstance(run, Run):
        raise checks.InputError(f"run is a {type(run).__name__}: give what gf.sample or gf.open returns")
    check_solvable("a finite-width correction", run.posterior)
    U = run.order_parameters.U[0]
    if theory.covariance is None or theory.U[0].shape != U.shape[2:]:
        raise checks.InputError(
            f"theory has U_1 {theory.U[0].shape} and {'no ' * (theory.covariance is None)}covariance, the run has "
            f"U_1 {U.shape[2:]}: give theory.solve(run.posterior)"
        )
    warn_of_bad_chains(run)
    upper = np.triu_indices(U.shape[-1])
    found = moments(U)
    draws = U[:, :, *upper].reshape(-1, len(upper[0])).astype(np.float64)
    names = entry_labels(run.posterior.network, run.posterior.data.path_names, run.posterior.classes or ())[0]
    full_mcse = np.asarray(found["mcse"])
    shift = found["mean"] - theory.U[0]
    squared = np.sum(shift**2) - np.sum(full_mcse**2)  # the noise of the mean adds its variance to |shift|^2
    size = np.sqrt(max(squared, 0.0))
    error = np.sqrt(np.sum((shift * full_mcse) ** 2)) / max(np.linalg.norm(shift), 1e-300)
    norm = np.linalg.norm(theory.U[0])
    return FiniteWidth(
        tuple(f"U_1[{names[i]}, {names[j]}]" for i, j in zip(*upper, strict=True)),
        theory.U[0][upper],
        np.asarray(found["mean"])[upper],
        full_mcse[upper],
        np.cov(draws, rowvar=False).reshape(len(upper[0]), -1),
        theory.covariance,
        float(size / norm),
        float(error / norm),
    )
