"""Did the chains converge? R-hat, ESS, MCSE and E-BFMI, on what the data identify: U and the predictor.

Raw weights are not looked at: the posterior is symmetric under rotations of each layer.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ..core import checks
from ..models import Posterior
from ..models.target import STATE, WEIGHT
from . import many, ranks
from .run import Run

RHAT_LIMIT = 1.01  # Vehtari et al. 2021: of one quantity
_FALSE_ALARMS = 0.01  # how often the largest R-hat of independent draws may be called too large
ESS_LIMIT = 400  # Vehtari et al. 2021: minimum bulk-ESS for stable R-hat and MCSE over 4 chains
_ROUNDING = 0.85  # the running ESS that ``until`` looks at is an estimate with an error of several per cent
EBFMI_LIMIT = 0.3  # Betancourt 2016
_STAY, _STAY_SHARE = 50, 0.1  # draws, and share of a chain's draws, at one point: more are worth a line
_SATURATED = 0.1  # share of transitions with a whole tree beyond which it is worth a line
_SHOWN_RHAT = 1000  # chains that hardly move have R-hats of any size
_LEAST_DRAWS = 4  # per chain, of which there are diagnostics
MIN_DRAWS = 8  # per chain: split R-hat and rank-normalised ESS need them


class ConvergenceWarning(UserWarning):
    """Chains of a run that are not fit for use, or not yet."""


class Convergence(NamedTuple):
    """Worst values over U_a and all entries of U_l.

    Attributes:
        rhat: largest rank-normalised split R-hat; nested R-hat of 1,024 chains or more.
        rhat_limit: what it was compared with, ``rhat_limit``.
        ess_bulk, ess_tail: minimum effective sample sizes, all chains together.
        ebfmi: minimum E-BFMI of any chain; NaN for kernels without energy.
        divergences: divergent transitions after the warm-up.
        longest_stay: consecutive draws that a chain spent at one point, at most; 0 for kernels without a log-density.
        problems: plain sentences with the remedy, none if fine.
    """

    rhat: float
    rhat_limit: float
    ess_bulk: float
    ess_tail: float
    ebfmi: float
    divergences: int
    longest_stay: int
    problems: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """No problems were found."""
        return not self.problems


def moments(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, its Monte Carlo standard error, and the convergence diagnostics of each entry of an array (``ranks``).

    Args:
        samples: draws [chain, draw, ..].

    Returns:
        "mean", "mcse" (of the mean), "ess_bulk", "ess_tail", "rhat", each [..]; NaN where chains never move. Of
        1,024 chains or more the R-hat is nested, and both ESS come from the spread of the chains' means.

    Source: Vehtari et al. 2021 (rank-normalised split R-hat, bulk and tail ESS), Margossian et al. 2024 (nested R-hat).
    """
    if len(samples) >= many.MANY:
        return _moments_of_many(samples)
    if samples.shape[1] < _LEAST_DRAWS:
        mean = samples.mean((0, 1))
        return {"mean": mean} | dict.fromkeys(("mcse", "ess_bulk", "ess_tail", "rhat"), mean * np.nan)
    return {"mean": samples.mean((0, 1))} | ranks.all_of(samples)


def moments_of(run: Run, name: str) -> dict[str, np.ndarray]:
    """``moments`` of the independent entries of a monitored variable, computed once for each run.

    Args:
        run: with draws; it is not going to change.
        name: of the variable.

    Returns:
        As ``moments``, each [n]: of a symmetric matrix the upper triangle, row by row, of anything else all entries.
    """
    kept = _MOMENTS.setdefault(run, {})
    if name not in kept:
        kept[name] = moments(ranks.independent(np.asarray(run.variables[name], np.float64)))
    return kept[name]


_MOMENTS: WeakKeyDictionary[Run, dict] = WeakKeyDictionary()


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


def rhat_limit(ess: float, chains: int, entries: int) -> float:
    """The largest R-hat that chance explains, or 1.01 where that is larger.

    Of m chains with m n effective draws in all that follow one distribution, n (R-hat^2 - 1) is distributed as
    chi^2_{m-1} / (m - 1), and R-hat is the larger one of two (of ranks and of folded ranks). The limit is the quantile
    that the largest of all entries exceeds in one run of a hundred.

    Args:
        ess: effective draws of all chains; chains that disagree have few, so it does not excuse them.
        chains: chains that R-hat compares: half chains of the split one, superchains of the nested one.
        entries: numbers over which the largest R-hat is taken.

    Returns:
        Limit, 1.01 or larger.

    Source: Vats and Knudson 2021 (R-hat and ESS); Wilson and Hilferty 1931 (chi^2 quantile); Bonferroni.
    """
    m = chains - 1
    z = NormalDist().inv_cdf(1 - _FALSE_ALARMS / (2 * entries))
    largest = (1 - 2 / (9 * m) + z * math.sqrt(2 / (9 * m))) ** 3
    return max(RHAT_LIMIT, math.sqrt(1 + largest * chains / ess)) if ess > 0 else RHAT_LIMIT


def convergence(run: Run) -> Convergence:
    """Worst-case convergence diagnostics of a run, and what to do about them.

    Limits of R-hat and ESS are those asked by ``until``; by default that of R-hat is ``rhat_limit`` and that of ESS is
    400. The limit of E-BFMI is 0.3.

    Args:
        run: from ``sample`` or ``open``.

    Returns:
        Convergence; ``converged`` is True where no problem was found.

    Raises:
        ValueError: a run without draws.

    Source: Vehtari et al. 2021 (limits of R-hat and ESS), Betancourt 2016 (E-BFMI).
    """
    check_draws(run)
    parts = [moments_of(run, name) for name in run.monitored]
    worst = lambda name, reduce: float(reduce([reduce(p[name]) for p in parts]))  # noqa: E731
    rhat = worst("rhat", np.max)
    ess_bulk, ess_tail = worst("ess_bulk", np.min), worst("ess_tail", np.min)
    energy = run.stats.get("energy")
    ebfmi = float("nan") if energy is None else float(np.min(_ebfmi(np.asarray(energy, np.float64))))
    diverging = run.stats.get("diverging")
    divergences = 0 if diverging is None else int(np.sum(diverging[...]))

    asked = run.made.until
    compared = many.superchains(run.chains) if run.chains >= many.MANY else 2 * run.chains
    entries = sum(part["mean"].size for part in parts)
    limit = asked.rhat if asked and asked.rhat else rhat_limit(min(ess_bulk, run.chains * run.draws), compared, entries)
    found = Convergence(rhat, limit, ess_bulk, ess_tail, ebfmi, divergences, longest_stay(run), ())
    finite = all(np.isfinite(part["mean"]).all() for part in parts)
    return found._replace(problems=(*_broken(run, finite), *_unfinished(run, found)))


def _broken(run: Run, finite: bool) -> Iterator[str]:
    """Faults of the chains themselves."""
    if not finite:
        yield "a chain holds NaN or infinity: raise the temperature or use float64"
    frozen = frozen_chains(run)
    if frozen:
        lifted = "collapsed" in run.posterior.targets and run.names(WEIGHT) and not run.names(STATE)
        other = "start with init='collapsed'" if lifted else "raise the temperature"
        yield (
            f"{len(frozen)} of {run.chains} chains never moved ({_listed(frozen)}): all proposals were rejected, "
            f"lengthen the warm-up or {other}"
        )
    stuck = _unadapted_chains(run)
    if stuck and not frozen:
        yield (
            f"{len(stuck)} of {run.chains} chains accept less than a third of what was aimed at ({_listed(stuck)}): "
            "the warm-up ended without adapting, lengthen it"
        )
    saturated = _saturated(run)
    if saturated > _SATURATED:
        yield (
            f"{100 * saturated:.0f} % of transitions used the whole tree of {run.made.options['max_doublings']} "
            f"doublings: raise max_doublings or lengthen the warm-up{_better_kernel(run)}"
        )


def _unfinished(run: Run, found: Convergence) -> Iterator[str]:
    """Diagnostics beyond their limits."""
    asked = run.made.until
    ess_limit = _ROUNDING * asked.ess if asked and asked.ess else ESS_LIMIT
    if not found.rhat <= found.rhat_limit and len(frozen_chains(run)) < run.chains:
        if math.isnan(found.rhat):
            yield "R-hat is not known of so few draws: draw more"
        else:
            shown = f"{found.rhat:.3f}" if found.rhat < _SHOWN_RHAT else f"more than {_SHOWN_RHAT}"
            yield f"R-hat reaches {shown} (limit {found.rhat_limit:.4g}): chains disagree, draw more"
    if not found.ess_bulk >= ess_limit:
        yield f"ESS falls to {found.ess_bulk:.0f} (limit {ess_limit:g}): draw more{_better_kernel(run)}"
    if found.longest_stay > max(_STAY, _STAY_SHARE * run.draws) and not frozen_chains(run):
        remedy = ", or use move='split'" if run.made.options.get("move") == "independent" else ""
        yield f"a chain stayed at one point for {found.longest_stay} of {run.draws} draws: draw more{remedy}"
    if found.divergences:
        yield f"{found.divergences} divergent transitions: raise target_acceptance or lengthen the warm-up"
    if found.ebfmi < EBFMI_LIMIT:
        yield f"E-BFMI falls to {found.ebfmi:.2f} (limit {EBFMI_LIMIT}): energies explored slowly, draw more"


def longest_stay(run: Run) -> int:
    """Consecutive draws that a chain spent at one point, at most: how far proposals were from being accepted."""
    lp = run.stats.get("lp")
    if lp is None:
        return 0
    moved = np.diff(np.asarray(lp), axis=1) != 0
    number = np.arange(1, moved.shape[1] + 1)
    since = number - np.maximum.accumulate(np.where(moved, number, 0), axis=1)
    return int(since.max(initial=0)) + 1


def check_draws(run: Run) -> None:
    """Raise ValueError for a run without draws, of which there is no average."""
    if not run.draws:
        remedy = f"continue it with gf.resume({str(run.path)!r})" if run.path else "sample with more time or draws"
        raise checks.InputError(f"the run has no draws: {remedy}")


def _saturated(run: Run) -> float:
    """Share of transitions whose tree was stopped by ``max_doublings``."""
    limit = run.made.options.get("max_doublings")
    if limit is None or "tree_depth" not in run.stats:
        return 0.0
    return float(np.mean(np.asarray(run.stats["tree_depth"]) >= limit))


def _better_kernel(run: Run) -> str:
    """Another kernel to try, for draws that cost too much; nothing where this one is the best there is."""
    solvable = isinstance(run.posterior, Posterior)
    return ", or use kernel 'collapsed'" if solvable and run.made.kernel != "collapsed" else ""


def frozen_chains(run: Run) -> tuple[int, ...]:
    """Chains whose draws are all equal."""
    first = _first(run)
    return tuple(np.flatnonzero(np.ptp(first, axis=1) == 0).tolist()) if first.shape[1] > 1 else ()


def warn_of_bad_chains(run: Run) -> None:
    """Warn if an average over the chains of a run would take in chains that hold no samples.

    Raises:
        ValueError: a run without draws.
    """
    check_draws(run)
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
    return np.mean(np.diff(energy, axis=1) ** 2, axis=1) / energy.var(1, ddof=1)
