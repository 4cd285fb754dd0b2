"""The collapsed sampler: the exact law of the order parameters, moved through as the problem allows. The default.

A few numbers (14 for two layers of two heads) stand for all weights, so the cost per draw does not depend on N or N_0.
Weights are lifted from each draw where they are kept.

Where the widths leave the posterior a mode, it is nearly Gaussian in the coordinates ``models.collapsed.straightened``,
and ``move="auto"`` moves around that mode: by independent proposals, or by split HMC with n kicks, whichever promises
more effective draws for the evaluations it costs. With acceptance a, a draw of the former is worth about a^6 effective
draws in the tails and costs one value of the density; a draw of the latter is worth a^3 and costs n gradients more, of
three values each (measured at N = 10 to 100, docs/samplers.md). Errors of the energy fall as n^-2, so the acceptance
with two kicks tells that with n. Where NUTS promises more, or where there is no mode, NUTS moves in Bartlett
coordinates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ...core import checks
from .chees import ChEES
from .kernel import Kernel, Setting
from .nuts import NUTS
from .split import Place, SplitHMC, SplitState

AUTO, INDEPENDENT, SPLIT, WITH_NUTS, WITH_CHEES = MOVES = ("auto", "independent", "split", "nuts", "chees")
_GRADIENT = 3.0  # cost of a gradient in values of the density
_WORTH_INDEPENDENT, _WORTH_SPLIT = 6.0, 3.0  # powers of the acceptance
_WORTH_OF_NUTS = 1 / (1 + 7 * _GRADIENT)  # effective draws per value: one draw in 7 gradients
_MOST_KICKS = 8
_PROPOSALS, _CHAINS, _TRANSITIONS, _KICKS = 128, 32, 3, 2  # of the trial


@dataclass(frozen=True, kw_only=True)
class Collapsed(Kernel):
    """Options of the collapsed kernel.

    Args:
        move: ``"independent"`` proposals from the Gaussian at the mode, ``"split"`` HMC around it, ``"nuts"``, or
            ``"chees"`` (HMC whose length is learned, for many chains); ``"auto"`` decides in a short trial before the
            warm-up, and the run's settings hold what was decided.
        kicks: gradients in a transition of ``"split"``; None decides.
        max_doublings: a trajectory of ``"nuts"`` has at most 2^max_doublings - 1 leapfrog steps.
        target_acceptance: mean acceptance that the warm-up of ``"nuts"`` tunes the step size to, in (0, 1).
        initial_step_size: of ``"nuts"``, at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range, or a move around a mode where widths leave none.

    Source: docs/model.md, section 4; Shahbaba et al. 2014 (split HMC); Hoffman and Gelman 2014 (NUTS).
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
            checks.count("kicks", self.kicks)
            if self.move not in (AUTO, SPLIT):
                raise checks.InputError(f"kicks={self.kicks} are for move='split', not {self.move!r}: leave them out")
        self._nuts()  # checks its options

    def check(self, posterior):
        if self.move in (INDEPENDENT, SPLIT):
            SplitHMC().check(posterior)

    @property
    def minimum_chains(self) -> int:  # type: ignore[override]
        """Fewest chains it runs with."""
        return ChEES.minimum_chains if self.move == WITH_CHEES else 1

    def decided(self, setting_of: Callable[[Kernel], Setting], key: jax.Array) -> Collapsed:
        if self.move not in (AUTO, SPLIT) or (self.move == SPLIT and self.kicks is not None):
            return self
        setting = setting_of(SplitHMC())
        if not setting.target.metric_known:
            return dataclasses.replace(self, move=WITH_NUTS, kicks=None)
        kicks = np.arange(1, _MOST_KICKS + 1) if self.kicks is None else np.array([self.kicks])
        independent, two = _trial(setting, key)
        # of a Gaussian error of the energy with mean s^2/2 and variance s^2, 2 Phi(-s/2) is accepted
        spread = -2 * NormalDist().inv_cdf(min(max(two, 1e-6), 1 - 1e-6) / 2)
        accepted = np.array([2 * NormalDist().cdf(-spread * (_KICKS / n) ** 2 / 2) for n in kicks])
        worth = accepted**_WORTH_SPLIT / (1 + _GRADIENT * kicks)
        best = int(kicks[np.argmax(worth)])
        if self.move == AUTO and self.kicks is None and independent**_WORTH_INDEPENDENT > worth.max():
            return dataclasses.replace(self, move=INDEPENDENT)
        if self.move == AUTO and worth.max() < _WORTH_OF_NUTS:
            return dataclasses.replace(self, move=WITH_NUTS, kicks=None)
        return dataclasses.replace(self, move=SPLIT, kicks=best)

    def mover(self) -> Kernel:
        if self.move in (INDEPENDENT, SPLIT):
            return SplitHMC(kicks=(self.kicks or _KICKS) if self.move == SPLIT else 0)
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
    """NUTS whose metric is the guide's covariance; the warm-up adapts it only where the guide is not at a mode."""

    name: ClassVar[str] = "collapsed"
    dense: ClassVar[bool] = True

    def initial_metric(self, setting):
        return setting.data.guide.covariance

    def adapts_metric(self, setting):
        return not setting.target.metric_known


def _trial(setting: Setting, key: jax.Array) -> tuple[float, float]:
    """Acceptance of independent proposals, and of split HMC with two kicks."""
    log_weights, accepted = _accepted(setting.target, setting.data, key)
    weights = np.exp(np.asarray(log_weights) - np.nanmax(log_weights))
    weights = np.where(np.isfinite(weights), weights, 0.0)
    pairs = np.minimum(weights[:, None], weights[None, :])  # w_i min(1, w_j / w_i): from i, in equilibrium, to j
    independent = (pairs.sum() - weights.sum()) / ((len(weights) - 1) * weights.sum())
    return float(independent), float(np.mean(accepted))


@partial(jax.jit, static_argnums=0)
def _accepted(target, data, key) -> tuple[Any, Any]:
    """Log-weights of independent proposals, and acceptance of the last two of three transitions from some of them."""
    setting, kernel = Setting(target, data, 0, _CHAINS), SplitHMC(kicks=_KICKS)
    key_z, key_move = jax.random.split(key)
    guide = data.guide
    z = jax.random.normal(key_z, (_PROPOSALS, len(guide.centre)), guide.centre.dtype)
    position = guide.centre + z @ guide.spread.T
    log_density = jax.lax.map(setting.log_density, position, batch_size=_CHAINS)
    state = SplitState(Place(position[:_CHAINS], log_density[:_CHAINS]))

    def transition(state, keys):
        state, stats = jax.vmap(lambda k, s: kernel.step(setting, k, 0, s))(keys, state)
        return state, stats["acceptance_rate"]

    keys = jax.random.split(key_move, (_TRANSITIONS, _CHAINS))
    _, rates = jax.lax.scan(transition, state, keys)
    return log_density + 0.5 * jnp.sum(z**2, axis=1), rates[1:]
