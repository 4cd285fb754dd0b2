"""Choosing temperature, widths and heads by the evidence of the training labels, without a test set."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .. import theory
from ..core import checks
from ..diagnostics import Score, predict, score
from ..models import PathInputs, Posterior
from ..models.solvable import check_solvable
from .estimate import Evidence


def select(evidences: Mapping[Hashable, Evidence], test: tuple[PathInputs, Any] | None = None) -> pd.DataFrame:
    """Evidences of several posteriors of the same labels as a table, the largest first.

    Evidence needs no test set: log-evidences of two models that differ by d favour the larger one by odds of exp(d).
    Where d is a few standard errors or less, use more particles.

    Args:
        evidences: from ``evidence``, under names of your own: temperatures, widths, sets of heads.
        test: (inputs with all paths that occur, labels) of test examples, as ``task.test_set``; of ``gf.Posterior``
            alone, which has a theory.

    Returns:
        DataFrame, a row per name: log_evidence, error, behind (the best row's log-evidence minus this one's), and
        with a test set the score of the large-N theory, accuracy or r_squared.

    Raises:
        ValueError: no evidences, something else among them, posteriors of different labels, test inputs that lack a
            path, or a test set and posteriors without a theory.

    Source: docs/model.md, section 6; Kass and Raftery 1995 (odds).
    """
    if not isinstance(evidences, Mapping) or not evidences:
        raise checks.InputError(f"evidences={checks.brief(evidences)} must be a dict: give {{name: gf.evidence(..)}}")
    for name, found in evidences.items():
        if not isinstance(found, Evidence):
            raise checks.InputError(f"evidences[{name!r}] is a {type(found).__name__}: give gf.evidence(posterior, ..)")
    first = next(iter(evidences.values())).posterior
    for name, found in evidences.items():
        if not _same_labels(found.posterior, first):
            raise checks.InputError(
                f"evidences[{name!r}] has other labels than the first: make them the same, or they do not compare"
            )
    best = max(found.log_evidence for found in evidences.values())
    rows = [
        {"log_evidence": found.log_evidence, "error": found.error, "behind": best - found.log_evidence}
        | _theory_score(found.posterior, test)
        for found in evidences.values()
    ]
    return pd.DataFrame(rows, index=pd.Index(list(evidences), tupleize_cols=False)).sort_values("behind")


def _same_labels(one, other) -> bool:
    """Whether two posteriors have the same labels; of reductions, as many with the same sum of squares."""
    if one.has_examples and other.has_examples:
        return np.array_equal(one.y, other.y)
    mine, its = (p.reduction.squared_labels for p in (one, other))
    return one.examples == other.examples and bool(np.isclose(mine, its, rtol=1e-9, atol=0))


def theory_score(posterior: Posterior, test: tuple[PathInputs, Any]) -> Score:
    """Test score of the large-N theory of a posterior, whose paths may be some of those of the test inputs."""
    check_solvable("the test score of the theory", posterior)
    inputs, labels = test
    if inputs.path_names != posterior.data.path_names:
        inputs = inputs.select(posterior.data.path_names)
    return score(predict(theory.solve(posterior), inputs), labels)


def evidence_findings(found: Evidence, test: tuple[PathInputs, Any] | None) -> dict[str, Any]:
    """What an evidence says, as plain values."""
    posterior: Any = found.posterior  # of a network, whose evidence the command line finds
    result = {
        "widths": list(posterior.network.widths),
        "temperature": posterior.temperature,
        "paths": list(posterior.data.path_names),
        "log_evidence": found.log_evidence,
        "error": found.error,
        "thermodynamic": found.thermodynamic,
        "thermodynamic_error": found.thermodynamic_error,
        "repeats": found.repeats.tolist(),
        "agreement": found.agreement,
        "agrees": found.agrees,
        "particles": found.particles,
        "method": found.method,
        "pareto_k": found.pareto_k,
        "betas": found.betas.tolist(),
        "ess": found.ess.tolist(),
        "acceptance": found.acceptance.tolist(),
    }
    return result | {name: {"theory": value} for name, value in _theory_score(posterior, test).items()}


def _theory_score(posterior, test) -> dict[str, float]:
    if test is None:
        return {}
    found = theory_score(posterior, test)
    return {found.name: found.value}
