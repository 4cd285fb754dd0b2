"""The network whose output is the mean of f: linear in its inputs, so that its path weights say all of it.

It is computed once, and then a head goes at the cost of one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ..core import checks
from ..core.numerics import numerics
from ..diagnostics import prune
from ..diagnostics.kernels import weights_by_name
from ..models import PathInputs, Weights, path_weights
from ..models.solvable import check_solvable
from ..models.target import STATE
from ..sampler import Run
from ..sampler.convergence import check_draws
from ..theory import Theory, mean_path_weights, outputs

_DRAWS = 64  # at a time


class MeanNetwork:
    """Mean of f of a theory, a run, or weights by name, with all heads or without some.

    Args:
        source: which of them.

    Raises:
        ValueError: a run of another posterior than that of a ``gf.Network``.
    """

    def __init__(self, source: Theory | Run | Weights):
        if isinstance(source, Theory | Run):
            check_solvable("a score of heads", source.posterior)
        self._source = source
        self._B = _path_weights(source)

    def __call__(self, data: PathInputs, without: Sequence[tuple[int, int]] = ()) -> np.ndarray:
        """f [Q], or [Q, m], on inputs of all paths."""
        expected = self._source.posterior.data if isinstance(self._source, Theory | Run) else None
        if not isinstance(data, PathInputs) or (expected is not None and data.xi.shape[1:] != expected.xi.shape[1:]):
            shape = getattr(getattr(data, "xi", data), "shape", type(data).__name__)
            raise checks.InputError(f"data has shape {shape}: give path inputs with all paths of the training inputs")
        if not isinstance(self._source, Theory):
            return outputs(self._B, prune(data, without) if len(without) else data)
        B = _path_weights(prune(self._source, without)) if len(without) else self._B
        return outputs(B, data if self._source.paths is None else data.select(self._source.paths))


def _path_weights(source) -> np.ndarray:
    """B [H m, N_0], the mean over draws of a run."""
    if not isinstance(source, Theory | Run):
        weights, residual = weights_by_name(source, first_layer=True)
        with numerics():
            return np.asarray(path_weights({name: jnp.asarray(w, float) for name, w in weights.items()}, residual))
    if isinstance(source, Run):
        check_draws(source)
        if not source.names(STATE):
            B = np.asarray(source.variables["path_weights"])
            return B.mean((0, 1), dtype=np.float64)
        U_1 = source.order_parameters.U[0]
    else:
        U_1 = source.U[0][None]
    posterior, train = source.posterior, source.reduction if isinstance(source, Theory) else source.posterior.reduction
    draws = U_1.reshape(-1, *U_1.shape[-2:])
    problem = (train.data, train.y, posterior.temperature, posterior.network.variances[0])
    parts = [draws[i : i + _DRAWS] for i in range(0, len(draws), _DRAWS)]
    return sum(mean_path_weights(part, *problem).sum(0) for part in parts) / len(draws)
