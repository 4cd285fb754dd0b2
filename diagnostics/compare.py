"""Samples compared with theory: order parameters with their Monte Carlo error and z-score."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..core import checks
from ..models.records import entry_labels, output_names
from ..models.solvable import check_solvable
from ..sampler import Run
from ..sampler.convergence import moments_of, warn_of_bad_chains
from ..theory import Theory


def compare(run: Run, theory: Theory) -> pd.DataFrame:
    """Order parameters of a run compared with the theory's.

    The theory is exact for N -> infinity at fixed P/N; at small N a large z-score measures the finite-width
    correction, not a fault of the sampler.

    Args:
        run: draws of order parameters.
        theory: of the same network with all paths.

    Returns:
        DataFrame, a row per independent entry ("U_1[good, denoising]", ..): theory, sampled (posterior mean), mcse
        (standard error of that mean), z = (sampled - theory) / mcse, ess (bulk), rhat.

    Raises:
        ValueError: theory and run have different networks.
    """
    check_solvable("a comparison with theory", run.posterior)
    if theory.paths is not None or [np.shape(u) for u in theory.U] != [u.shape[2:] for u in run.order_parameters.U]:
        raise checks.InputError(
            f"theory has order parameters of sizes {[len(u) for u in theory.U]} and run of "
            f"{[u.shape[2] for u in run.order_parameters.U]}: solve the theory for run.posterior with all paths"
        )
    warn_of_bad_chains(run)
    network, classes = run.posterior.network, run.posterior.classes or ()
    labels = [output_names(network, classes), *entry_labels(network, run.posterior.data.path_names, classes)]
    rows = []
    pairs = [("U_a", np.asarray(theory.U_a))]
    pairs += [(f"U_{l}", expected) for l, expected in enumerate(theory.U, start=1)]
    for name, expected in pairs:
        found = moments_of(run, name)
        indices = zip(*np.triu_indices(len(expected)), strict=True) if expected.ndim else [()]
        for i, index in enumerate(indices):
            paths = [labels[0 if name == "U_a" else int(name[2:])][k] for k in index]
            mean, mcse, value = found["mean"][i], found["mcse"][i], expected[index]
            rows.append(
                {
                    "entry": f"{name}[{', '.join(paths)}]" if paths else name,
                    "theory": value,
                    "sampled": mean,
                    "mcse": mcse,
                    "z": (mean - value) / mcse,
                    "ess": found["ess_bulk"][i],
                    "rhat": found["rhat"][i],
                }
            )
    return pd.DataFrame(rows).set_index("entry")
