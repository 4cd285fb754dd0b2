"""The collapsed sampler: the exact law of the order parameters, moved through as the problem allows. The default.

A few numbers (14 for two layers of two heads) stand for all weights, so the cost per draw does not depend on N or N_0.
Weights are lifted from each draw where they are kept.

The posterior is nearly Gaussian around its mode in the coordinates ``models.collapsed.straightened``, and there
``move="auto"`` moves by split HMC with n kicks, or none, whichever promises most effective draws for the evaluations
they cost. With acceptance a, a draw without kicks is worth about a^6 effective draws in the tails and costs one value
of the density; a draw with kicks is worth a^3, at widths below the number of paths a^6, and costs n gradients more, of
three values each (measured at N = 10 to 100, docs/samplers.md). Where a draw without kicks is worth little, polynomials
are fitted for the kicks to come from (``sampler.surrogate``). Where these too promise little, kicks by the gradient are
tried: errors of the energy fall as n^-2, so the acceptance with two kicks tells the best n, with which it is measured
too. Where NUTS promises more, it moves in Bartlett coordinates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from ...core import checks
from ...models.target import Guide
from .chees import ChEES
from .kernel import Kernel, Setting
from .nuts import NUTS
from .split import QUARTER, Place, SplitHMC, SplitState

MOVES = ("auto", "independent", "split", "surrogate", "nuts", "chees")
AUTO, INDEPENDENT, SPLIT, BY_SURROGATE, WITH_NUTS, WITH_CHEES = MOVES
_GRADIENT = 3.0  # cost of a gradient in values of the density
# powers of the acceptance without kicks and with them, and with them at widths below the number of paths, where the
# posterior's tails are heavier than the Gaussian's and hold chains that the mean acceptance does not show
_WORTH_WITHOUT, _WORTH_WITH, _WORTH_IN_HEAVY_TAILS = 6.0, 3.0, 6.0
# gradients of NUTS for an effective draw: 7 of 14 coordinates, growing as the fourth root of their number (Beskos et
# al. 2013) to 21 of 1,085; where its metric is not known, 1.5 times their number up to a whole tree
_GRADIENTS_OF_NUTS, _COORDINATES, _WITHOUT_METRIC, _WHOLE_TREE = 7, 14, 1.5, 255
_MOST_KICKS = 8
# kicks by a surrogate, and what they and the density cost in values of it (measured at 14 coordinates); it is fitted
# where a draw without kicks is worth less than ``_LITTLE``, up to so many coordinates: a Hessian of twice as many costs
# 16 times as much
_KICKS_BY_SURROGATE, _WITH_SURROGATE = 4, 1.5
_LITTLE, _MOST_COORDINATES = 0.2, 200
_STAYS_NOWHERE = 0.5  # a surrogate accepted less (in harmonic mean) leaves chains in tails for hundreds of transitions
_CHAINS, _TRANSITIONS, _TRANSITIONS_WITHOUT, _KICKS = 32, 3, 12, 2  # of the trial; without kicks they cost little


@dataclass(frozen=True, kw_only=True)
class Collapsed(Kernel):
    """Options of the collapsed kernel.

    Args:
        move: ``"independent"`` proposals from the Gaussian at the mode, which give the evidence too
            (``run.log_evidence``); ``"split"`` HMC around it; ``"surrogate"``, the same with a polynomial in place of
            the density's gradient; ``"nuts"``; or ``"chees"`` (HMC whose length is learned, for many chains).
            ``"auto"`` decides between ``"split"``, ``"surrogate"`` and ``"nuts"`` in a short trial before the warm-up,
            and the run's settings hold what was decided.
        kicks: in a transition of ``"split"`` or ``"surrogate"``, 0 or more; None decides.
        max_doublings: a trajectory of ``"nuts"`` has at most 2^max_doublings - 1 leapfrog steps.
        target_acceptance: mean acceptance that the warm-up of ``"nuts"`` tunes the step size to, in (0, 1).
        initial_step_size: of ``"nuts"``, at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range.

    Source: docs/model.md, sections 4 and 11; Shahbaba et al. 2014 (split HMC); Hoffman and Gelman 2014 (NUTS);
        Beskos et al. 2013 (steps of HMC in high dimension).
    """

    move: str = AUTO
    kicks: int | None = None
    max_doublings: int = 8
    target_acceptance: float = 0.75
    initial_step_size: float = 0.5
    name: ClassVar[str] = "collapsed"
    needs: ClassVar[tuple[str, ...]] = ("differentiable", "guided")

    def __post_init__(self):
        checks.nearest("move", self.move, MOVES)
        if self.kicks is not None:
            checks.count("kicks", self.kicks, least=0)
            if self.move not in (AUTO, SPLIT, BY_SURROGATE):
                raise checks.InputError(
                    f"kicks={self.kicks} are for move='split' or 'surrogate', not {self.move!r}: leave them out"
                )
        self._nuts()  # checks its options

    @property
    def minimum_chains(self) -> int:  # type: ignore[override]
        """Fewest chains it runs with."""
        return ChEES.minimum_chains if self.move == WITH_CHEES else 1

    def decided(self, setting_of: Callable[[Kernel], Setting], key: jax.Array) -> Collapsed:
        if self.move not in (AUTO, SPLIT, BY_SURROGATE):
            return self
        if self.kicks is not None:
            return self if self.move != AUTO else _split(self, self.kicks)
        by_surrogate = dataclasses.replace(self, move=BY_SURROGATE, kicks=_KICKS_BY_SURROGATE)
        if self.move == BY_SURROGATE:
            return by_surrogate
        setting = setting_of(SplitHMC())
        known, dimension = setting.target.metric_known, len(setting.data.guide.centre)
        dense = isinstance(setting.data.guide, Guide)  # and not of hundreds of paths, where NUTS has no metric
        free = self.move == AUTO and dense
        power = _WORTH_WITH if known else _WORTH_IN_HEAVY_TAILS
        promised = {_split(self, 0): _measured(setting, key, 0) ** _WORTH_WITHOUT}
        if free and _best(promised) < _LITTLE and dimension <= _MOST_COORDINATES:
            surrogate = setting_of(by_surrogate.mover()).data.guide.surrogate
            if surrogate.acceptance >= _STAYS_NOWHERE:
                promised[by_surrogate] = float(surrogate.acceptance) ** power / _WITH_SURROGATE
        if free and _best(promised) >= 1 / (1 + _GRADIENT * _KICKS):  # as much as two kicks would, if always accepted
            return max(promised, key=promised.__getitem__)
        worth = _worth_of_kicks(_measured(setting, key, _KICKS), power)
        n = max(worth, key=worth.__getitem__)
        if free and n > _KICKS:
            worth[n] = _measured(setting, key, n) ** power / (1 + _GRADIENT * n)
        promised[_split(self, n)] = worth[n]
        if free:
            if known:
                gradients = _GRADIENTS_OF_NUTS * max(1.0, dimension / _COORDINATES) ** 0.25
            else:
                gradients = min(_WITHOUT_METRIC * dimension, _WHOLE_TREE)
            promised[dataclasses.replace(self, move=WITH_NUTS)] = 1 / (1 + _GRADIENT * gradients)
        return max(promised, key=promised.__getitem__)

    def mover(self) -> Kernel:
        if self.move in (INDEPENDENT, SPLIT):
            if self.move == INDEPENDENT:
                return SplitHMC(kicks=0, turn=QUARTER)
            return SplitHMC(kicks=_KICKS if self.kicks is None else self.kicks)
        if self.move == BY_SURROGATE:
            return SplitHMC(kicks=_KICKS_BY_SURROGATE if self.kicks is None else self.kicks, surrogate=True)
        return ChEES() if self.move == WITH_CHEES else self._nuts()

    def _nuts(self) -> _GuidedNUTS:
        return _GuidedNUTS(
            max_doublings=self.max_doublings,
            target_acceptance=self.target_acceptance,
            initial_step_size=self.initial_step_size,
        )

    def init(self, setting, key, position):
        return self.mover().init(setting, key, position)

    def step(self, setting, key, index, state):
        return self.mover().step(setting, key, index, state)


@dataclass(frozen=True, kw_only=True)
class _GuidedNUTS(NUTS):
    """NUTS whose metric is the guide's covariance; the warm-up adapts it only where the guide is not at a mode.

    Where it does not, trajectories are followed in the guide's whitened coordinates with the unit metric, which is the
    same but for the factorisation of the metric at every transition.
    """

    name: ClassVar[str] = "collapsed"
    dense: ClassVar[bool] = True

    def initial_metric(self, setting):
        return setting.data.guide.covariance

    def adapts_metric(self, setting):
        return not setting.target.metric_known

    def move(self, setting, key, chain, step_size, inverse_mass_matrix):
        if self.adapts_metric(setting):
            return super().move(setting, key, chain, step_size, inverse_mass_matrix)
        guide = setting.data.guide
        start = chain._replace(
            position=guide.whitened(chain.position), logdensity_grad=guide.pulled_back(chain.logdensity_grad)
        )
        end, info, own = super().move(_Whitened(setting), key, start, step_size, jnp.ones_like(chain.position))
        end = end._replace(
            position=guide.position(end.position), logdensity_grad=guide.pushed_forward(end.logdensity_grad)
        )
        return end, info, own


class _Whitened(NamedTuple):
    """A setting in the whitened coordinates of its guide, as far as trajectories need it."""

    setting: Setting

    def log_density(self, z) -> jax.Array:
        """Log-density at z, that of positions."""
        return self.setting.log_density(self.setting.data.guide.position(z))


def _split(kernel: Collapsed, kicks: int) -> Collapsed:
    return dataclasses.replace(kernel, move=SPLIT, kicks=kicks)


def _best(promised: dict[Collapsed, float]) -> float:
    return max(promised.values())


def _worth_of_kicks(two: float, power: float) -> dict[int, float]:
    """Effective draws that a value of the density buys with n kicks, given the acceptance with two."""
    # of a Gaussian error of the energy with mean s^2/2 and variance s^2, 2 Phi(-s/2) is accepted
    spread = -2 * NormalDist().inv_cdf(min(max(two, 1e-6), 1 - 1e-6) / 2)
    accepted = {n: 2 * NormalDist().cdf(-spread * (_KICKS / n) ** 2 / 2) for n in range(1, _MOST_KICKS + 1)}
    return {n: rate**power / (1 + _GRADIENT * n) for n, rate in accepted.items()}


def _measured(setting: Setting, key: jax.Array, kicks: int) -> float:
    """Acceptance of split HMC with that many kicks."""
    return float(_accepted(setting.target, kicks, setting.data, key))


@partial(jax.jit, static_argnums=(0, 1))
def _accepted(target, kicks: int, data, key) -> jax.Array:
    """Acceptance in the last transitions of some chains that start at draws from the Gaussian."""
    setting, guide, kernel = Setting(target, data, 0, _CHAINS), data.guide, SplitHMC(kicks=kicks)
    key_z, key_moves = jax.random.split(key)
    z = jax.random.normal(key_z, (_CHAINS, len(guide.centre)), guide.centre.dtype)
    position = jax.vmap(guide.position)(z)
    state = SplitState(Place(position, jax.vmap(setting.log_density)(position)))

    def transition(state, keys):
        state, stats = jax.vmap(lambda k, s: kernel.step(setting, k, 0, s))(keys, state)
        return state, stats["acceptance_rate"]

    count = _TRANSITIONS if kicks else _TRANSITIONS_WITHOUT
    _, rates = jax.lax.scan(transition, state, jax.random.split(key_moves, (count, _CHAINS)))
    return jnp.mean(rates[count // 3 :])
