"""The collapsed sampler: NUTS on the exact law of the order parameters. The default, at any width.

A few numbers (14 for two layers of two heads) stand for all weights, so the cost per draw does not depend on N
or N_0. Chains start around the theory's saddle point, with the inverse Hessian there as dense metric; both only
shorten the warm-up, the draws are exact. Weights are lifted from each draw where they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .nuts import NUTS


@dataclass(frozen=True, kw_only=True)
class Collapsed(NUTS):
    """Options of the collapsed kernel.

    Args:
        max_doublings: a trajectory has at most 2^max_doublings - 1 leapfrog steps.
        target_acceptance: mean acceptance that the warm-up tunes the step size to, in (0, 1).
        initial_step_size: step size at the first transition of the warm-up.

    Raises:
        ValueError: an option out of range.

    Source: docs/model.md, section 4; Hoffman and Gelman 2014 (NUTS).
    """

    target_acceptance: float = 0.75
    max_doublings: int = 8
    initial_step_size: float = 0.5
    name: ClassVar[str] = "collapsed"
    needs: ClassVar[tuple[str, ...]] = ("differentiable", "guided")
    dense: ClassVar[bool] = True

    def initial_metric(self, setting):
        """The guide's covariance (``AdaptedKernel.initial_metric``).

        Args:
            setting: as for ``Kernel.init``.

        Returns:
            Inverse mass matrix [D, D].
        """
        return setting.data.guide.covariance

    def adapts_metric(self, setting):
        """Only where the guide is not a saddle point (``AdaptedKernel.adapts_metric``).

        Args:
            setting: as for ``Kernel.init``.

        Returns:
            True or False.
        """
        return not setting.target.metric_known
