"""Did the chains converge? R-hat, ESS, MCSE and E-BFMI by ArviZ, on what the data identify: U and the predictor.

Raw weights are not looked at: the posterior is symmetric under rotations of each layer.
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import numpy as np
import xarray as xr

from . import many
from .run import Run

RHAT_LIMIT = 1.01  # Vehtari et al. 2021
ESS_LIMIT = 400  # Vehtari et al. 2021: minimum bulk-ESS for stable R-hat and MCSE over 4 chains
_ROUNDING = 0.85  # the running ESS that ``until`` looks at is an estimate with an error of several per cent
EBFMI_LIMIT = 0.3  # Betancourt 2016
MIN_DRAWS = 8  # per chain: split R-hat and rank-normalised ESS need them


class ConvergenceWarning(UserWarning):
    """Chains of a run that are not fit for use, or not yet."""


class Convergence(NamedTuple):
    """Worst values over U_a and all entries of U_l.

    Attributes:
        rhat: largest rank-normalised split R-hat; nested R-hat of 1,024 chains or more.
        ess_bulk, ess_tail: minimum effective sample sizes, all chains together.
        ebfmi: minimum E-BFMI of any chain; NaN for kernels without energy.
        divergences: divergent transitions after the warm-up.
        problems: plain sentences with the remedy, none if fine.
    """

    rhat: float
    ess_bulk: float
    ess_tail: float
    ebfmi: float
    divergences: int
    problems: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """No problems were found."""
        return not self.problems


def moments(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, its Monte Carlo standard error, and the convergence diagnostics of each entry of an array, by ArviZ.

    Args:
        samples: draws [chain, draw, ..].

    Returns:
        "mean", "mcse" (of the mean), "ess_bulk", "ess_tail", "rhat", each [..]; NaN where chains never move. Of
        1,024 chains or more the R-hat is nested, and both ESS come from the spread of the chains' means.

    Source: Vehtari et al. 2021 (rank-normalised split R-hat, bulk and tail ESS), Margossian et al. 2024 (nested R-hat).
    """
    if len(samples) >= many.MANY:
        return _moments_of_many(samples)
    import arviz

    data = xr.Dataset({"x": (("chain", "draw", *(f"d{i}" for i in range(samples.ndim - 2))), samples)})
    with np.errstate(all="ignore"):  # chains that never move have no R-hat: NaN says so
        return {
            "mean": samples.mean((0, 1)),
            "mcse": np.asarray(arviz.mcse(data, method="mean")["x"]),
            "ess_bulk": np.asarray(arviz.ess(data, method="bulk")["x"]),
            "ess_tail": np.asarray(arviz.ess(data, method="tail")["x"]),
            "rhat": np.asarray(arviz.rhat(data)["x"]),
        }


def _moments_of_many(samples: np.ndarray) -> dict[str, np.ndarray]:
    def nested(x):
        mean = x.mean(1)
        return many.nested(x.shape[1], mean, ((x - mean[:, None]) ** 2).sum(1))

    rhat, ess, variance = nested(samples)
    low, high = np.quantile(samples, (0.05, 0.95), axis=(0, 1))
    return {
        "mean": samples.mean((0, 1)),
        "mcse": np.sqrt(variance / ess),
        "ess_bulk": ess,
        "ess_tail": np.minimum(nested((samples <= low) * 1.0)[1], nested((samples <= high) * 1.0)[1]),
        "rhat": rhat,
    }


def convergence(run: Run) -> Convergence:
    """Worst-case convergence diagnostics of a run, and what to do about them.

    Limits of R-hat and ESS are those asked by ``until``, 1.01 and 400 otherwise; of E-BFMI 0.3.

    Args:
        run: from ``sample`` or ``open``.

    Returns:
        Convergence; ``converged`` is True where no problem was found.

    Source: Vehtari et al. 2021 (limits of R-hat and ESS), Betancourt 2016 (E-BFMI).
    """
    monitored = [np.asarray(run.variables[name], np.float64) for name in run.monitored]
    parts = [moments(samples) for samples in monitored]
    worst = lambda name, reduce: float(reduce([reduce(p[name]) for p in parts]))  # noqa: E731
    rhat = worst("rhat", np.max)
    ess_bulk, ess_tail = worst("ess_bulk", np.min), worst("ess_tail", np.min)
    energy = run.stats.get("energy")
    ebfmi = float("nan") if energy is None else float(np.min(_ebfmi(np.asarray(energy, np.float64))))
    diverging = run.stats.get("diverging")
    divergences = 0 if diverging is None else int(np.sum(diverging[...]))

    problems = []
    if not all(np.isfinite(samples).all() for samples in monitored):
        problems.append("a chain holds NaN or infinity: raise the temperature or use float64")
    frozen = frozen_chains(run)
    if frozen:
        problems.append(
            f"{len(frozen)} of {run.chains} chains never moved ({_listed(frozen)}): all proposals were rejected, "
            "lengthen the warm-up or start with init='collapsed'"
        )
    stuck = _unadapted_chains(run)
    if stuck and not frozen:
        problems.append(
            f"{len(stuck)} of {run.chains} chains accept less than a third of what was aimed at ({_listed(stuck)}): "
            "the warm-up ended without adapting, lengthen it"
        )
    asked = run.made.until
    rhat_limit = asked.rhat if asked and asked.rhat else RHAT_LIMIT
    ess_limit = _ROUNDING * asked.ess if asked and asked.ess else ESS_LIMIT
    if not rhat <= rhat_limit:
        problems.append(f"R-hat reaches {rhat:.3f} (limit {rhat_limit:g}): chains disagree, draw more")
    if not ess_bulk >= ess_limit:
        other = "" if run.made.kernel == "collapsed" else ", or use kernel 'collapsed'"
        problems.append(f"ESS falls to {ess_bulk:.0f} (limit {ess_limit:g}): draw more{other}")
    if divergences:
        problems.append(f"{divergences} divergent transitions: raise target_acceptance or lengthen the warm-up")
    if ebfmi < EBFMI_LIMIT:
        problems.append(f"E-BFMI falls to {ebfmi:.2f} (limit {EBFMI_LIMIT}): energies explored slowly, draw more")
    return Convergence(rhat, ess_bulk, ess_tail, ebfmi, divergences, tuple(problems))


def frozen_chains(run: Run) -> tuple[int, ...]:
    """Chains whose draws are all equal."""
    first = _first(run)
    return tuple(np.flatnonzero(np.ptp(first, axis=1) == 0).tolist()) if first.shape[1] > 1 else ()


def warn_of_bad_chains(run: Run) -> None:
    """Warn if an average over the chains of a run would take in chains that hold no samples."""
    broken = np.flatnonzero(~np.isfinite(_first(run)).all(1)).tolist()
    for chains, state in ((broken, "hold NaN or infinity"), (frozen_chains(run), "never moved")):
        if chains:
            warnings.warn(
                f"averaged over chains that {state} ({_listed(chains)}): see gf.diagnostics.convergence(run)",
                ConvergenceWarning,
                stacklevel=3,
            )


def _unadapted_chains(run: Run) -> tuple[int, ...]:
    """Chains whose mean acceptance after the warm-up is below a third of the target."""
    target = run.made.options.get("target_acceptance")
    if target is None or "acceptance_rate" not in run.stats:
        return ()
    acceptance = np.nan_to_num(np.asarray(run.stats["acceptance_rate"])).mean(1)
    return tuple(np.flatnonzero(acceptance < target / 3).tolist())


def _first(run: Run) -> np.ndarray:
    """One monitored number [chain, draw]: enough to see that a chain moves."""
    smallest = min(run.monitored, key=lambda name: math.prod(run.variables[name].shape[2:]))
    values = np.asarray(run.variables[smallest], np.float64)
    return values.reshape(*values.shape[:2], -1)[..., 0]


def _listed(chains) -> str:
    return "chain " + ", ".join(map(str, chains[:5])) + (", .." if len(chains) > 5 else "")


def _ebfmi(energy: np.ndarray) -> np.ndarray:
    """E-BFMI of each chain, energy [chain, draw]: mean squared jump over variance (Betancourt 2016)."""
    import arviz

    if arviz.__version__.startswith("0."):
        return np.asarray(arviz.bfmi(energy))
    data = xr.DataTree.from_dict({"sample_stats": xr.Dataset({"energy": (("chain", "draw"), energy)})})
    return np.asarray(arviz.bfmi(data)["energy"])
