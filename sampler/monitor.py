"""Running diagnostics of chains while they run, in memory that does not grow: R-hat, ESS, divergences, bad chains.

Draws of each watched number are kept as means of batches whose size doubles when there are too many. With R-hat and
ESS of the series of means (``ranks``), those of the draws follow from the variances v of draws and of means:

    ESS = ESS_means v_draws / v_means,        R-hat^2 - 1 = (R-hat_means^2 - 1) v_means / v_draws

(both give the same Monte Carlo error of the mean, and the same spread between chains). Exact until batches form. Of
many chains (``many.MANY``) only their moments are kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..core import checks
from ..core.text import plain
from . import many, ranks

_SERIES = 2048  # batches per chain at most: half as many leave R-hat and ESS accurate to a few per cent
_LEAST = 8  # draws per chain that split R-hat and rank-normalised ESS need
_ENTRIES = 1024  # of a variable at most, evenly spaced: the verdict on a finished run looks at all of them
_GROWTH = 1.1  # of the number of draws between two looks at what ``until`` asks
_SHARE = 1 / 20  # of the time may go into these diagnostics


class Until(NamedTuple):
    """When sampling may stop before all draws are made: what ``until`` returns; None is not asked.

    Attributes:
        ess: minimum bulk effective sample size of any entry of U, all chains together.
        rhat: largest R-hat of any entry of U; asked jointly with ``ess``.
        seconds: time after which it stops whatever the chains look like, compilation and start included.
    """

    ess: float | None = None
    rhat: float | None = None
    seconds: float | None = None


def until(*, ess: float | None = None, rhat: float | None = None, seconds: float | None = None) -> Until:
    """When ``sample`` may stop before all draws are made: ``gf.sample(.., until=gf.until(ess=400, rhat=1.01))``.

    Args:
        ess: minimum bulk effective sample size of any entry of U, all chains together; asked jointly with ``rhat``.
        rhat: largest R-hat of any entry of U.
        seconds: time budget of the run, compilation and start included; reached first, it stops the run after the
            chunk under way, whatever the chains look like, possibly before the first draw.

    Returns:
        Until, for ``until=`` of ``sample`` and ``resume``.

    Raises:
        ValueError: nothing asked, or a number out of range.
    """
    asked = Until(*plain((ess, rhat, seconds)))
    if not any(asked):
        raise checks.InputError("until() asks for nothing: give ess=, rhat= or seconds=")
    for name, value in asked._asdict().items():
        if value is not None:
            checks.positive(name, value)
    if rhat is not None and rhat <= 1:
        raise checks.InputError(f"rhat={rhat} is never reached: give a number above 1, such as 1.01")
    return asked


def next_look(draws: int) -> int:
    """The number of draws at which ESS and R-hat are next compared with what ``until`` asks.

    The numbers are the same in every run, so that a key decides where a run stops, and not the speed of the machine.
    """
    look = _LEAST
    while look <= draws:
        look = max(look + 2, int(_GROWTH * look))
    return look


class Report(NamedTuple):
    """State of a run: worst R-hat and ESS over all entries of U (NaN while unknown), and what went wrong."""

    draws: int
    rhat: float
    ess: float
    divergences: int
    broken: tuple[int, ...]  # chains that hold NaN or infinity
    frozen: tuple[int, ...]  # chains that never moved


class Monitor:
    """Watches the monitored variables of a run, the order parameters, chunk by chunk."""

    def __init__(self, chains: int, until: Until | None = None, began: float | None = None):
        self.until = until
        self._began = time.perf_counter() if began is None else began
        self._decides = False
        self._series = np.zeros((chains, 0, 0))  # means of batches [chain, batch, entry]
        self._rest = self._series  # draws that do not fill a batch yet
        self._batch = 1
        self._count = 0
        self._mean = self._squares = np.zeros((chains, 0))
        self._first = self._series
        self._moved = np.zeros(chains, bool)
        self._broken = np.zeros(chains, bool)
        self._divergences = 0
        self._report = Report(0, np.nan, np.nan, 0, (), ())
        self._judged_at, self._cost, self._judged_draws = 0.0, 0.0, 0

    def next_look(self, draws: int) -> int | None:
        """The number of draws at which a chunk must end, None where nothing is asked of the chains."""
        return next_look(draws) if self._asks else None

    @property
    def _asks(self) -> bool:
        return self.until is not None and (self.until.ess is not None or self.until.rhat is not None)

    def add(self, draws: Mapping[str, np.ndarray], stats: Mapping[str, np.ndarray], last: bool = False) -> Report:
        """Take the monitored draws [chain, n, ..] of a chunk, warm-up excluded, and report.

        R-hat and ESS may be a little out of date, except after the last chunk and at a look.
        """
        if not next(iter(draws.values())).shape[1]:
            return self._report
        values = np.concatenate([_watched(np.asarray(v, np.float64)) for v in draws.values()], axis=2)
        if "diverging" in stats:
            self._divergences += int(np.sum(stats["diverging"]))
        self._broken |= ~np.isfinite(values).all((1, 2))
        if not self._count:
            self._first = values[:, :1]
            self._series = self._rest = values[:, :0]
            self._mean = self._squares = np.zeros_like(values[:, 0])
        self._moved |= (values != self._first).any((1, 2))
        with np.errstate(all="ignore"):  # of chains that hold infinity, which the report names
            self._add_moments(values)
            if len(values) < many.MANY:
                self._add_batches(values)
        now = time.perf_counter()
        self._decides = last or (self._asks and next_look(self._count - 1) == self._count)
        due = now - self._judged_at > self._cost / _SHARE and self._count >= 1.02 * self._judged_draws
        if due or self._decides:
            rhat, ess = self._judge()
            self._cost = time.perf_counter() - now
            self._judged_at, self._judged_draws = time.perf_counter(), self._count
        else:
            rhat, ess = self._report.rhat, self._report.ess
        frozen = ~self._moved & ~self._broken & (self._count > 1)
        self._report = Report(self._count, rhat, ess, self._divergences, _numbers(self._broken), _numbers(frozen))
        return self._report

    def stop(self) -> str | None:
        """Why sampling may stop now, or None."""
        asked, found = self.until, self._report
        if asked is None:
            return None
        if asked.seconds is not None and time.perf_counter() - self._began >= asked.seconds:
            return "time"
        if not (self._asks and self._decides):
            return None
        good = (asked.ess is None or found.ess >= asked.ess) and (asked.rhat is None or found.rhat <= asked.rhat)
        return "until" if good else None

    def _add_moments(self, values):
        """Chan's update of mean and sum of squared deviations of each chain."""
        n, mean = values.shape[1], values.mean(1)
        total = self._count + n
        shift = mean - self._mean
        self._squares = self._squares + ((values - mean[:, None]) ** 2).sum(1) + shift**2 * self._count * n / total
        self._mean = self._mean + shift * n / total
        self._count = total

    def _add_batches(self, values):
        values = np.concatenate([self._rest, values], axis=1)
        full = values.shape[1] // self._batch
        batches = values[:, : full * self._batch].reshape(len(values), full, self._batch, values.shape[2]).mean(2)
        self._rest = values[:, full * self._batch :]
        self._series = np.concatenate([self._series, batches], axis=1)
        while self._series.shape[1] > _SERIES:
            even = self._series.shape[1] // 2 * 2
            left = self._series[:, even:]  # a batch without its pair goes back among the draws that wait
            self._rest = np.concatenate([np.repeat(left, self._batch, axis=1), self._rest], axis=1)
            self._series = self._series[:, :even].reshape(len(values), even // 2, 2, -1).mean(2)
            self._batch *= 2

    def _judge(self):
        if len(self._mean) >= many.MANY:
            if self._count < 2 or self._broken.any():
                return np.nan, np.nan
            rhat, ess, _ = many.nested(self._count, self._mean, self._squares)
            return float(np.max(rhat)), float(np.min(ess))
        if self._series.shape[1] < _LEAST or self._broken.any():
            return np.nan, np.nan
        with np.errstate(all="ignore"):
            rhat, ess = ranks.bulk(self._series)
            ratio = self._squares.sum(0) / (self._count - 1) / (self._series.var(1, ddof=1).sum(0))
            ratio = np.where(self._batch == 1, 1.0, ratio)
            return float(np.max(np.sqrt(1 + (rhat**2 - 1) / ratio))), float(np.min(ess * ratio))


def _watched(values):
    """Independent entries of a variable, some of them where there are thousands."""
    entries = ranks.independent(values)
    some = np.unique(np.linspace(0, entries.shape[2] - 1, min(_ENTRIES, entries.shape[2])).astype(int))
    return entries[..., some] if len(some) < entries.shape[2] else entries


def _numbers(mask) -> tuple[int, ...]:
    return tuple(int(i) for i in np.flatnonzero(mask))
