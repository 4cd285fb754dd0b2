"""What can be computed for the posterior of a ``gf.Network`` alone refuses any other one, in one line."""

from __future__ import annotations

from typing import Any

from ..core import checks
from .posterior import Posterior
from .target import Sampleable


def check_solvable(what: str, posterior: Any) -> None:
    """Refuse what needs the network whose posterior is known in closed form given its order parameters.

    Args:
        what: needs it, in words, such as "the theory".
        posterior: of a network, one would hope.

    Raises:
        ValueError: another posterior, or something else.
    """
    if isinstance(posterior, Posterior):
        return
    remedy = (
        getattr(posterior, "instead", "sample it by a gradient, with kernel 'nuts'")
        if isinstance(posterior, Sampleable)
        else "give gf.Posterior(network, data, y, temperature)"
    )
    raise checks.InputError(
        f"{what} needs the solvable network of a gf.Posterior, and posterior is a {type(posterior).__name__}: {remedy}"
    )
