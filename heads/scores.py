r"""Scores of heads beyond those of the order parameter: evidence, gradients, and leaving one out.

A head is switched on by a variable m = 1 that multiplies its value weights. The network is linear in each,

    f(x; m) = sum_pi prod_l m_{l h_l} B^pi . xi^pi(x),       df / dm_{l h} = f_{lh}(x), the paths through head h,

so that the gradient of the loss L = (f - y)^2 / 2 of one example is (f - y) f_{lh}.
"""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd

from ..core import checks
from ..diagnostics.heads import all_heads, shape_of, through
from ..diagnostics.kernels import mean_order_parameter
from ..evidence.estimate import Evidence, evidence
from ..models import PathInputs, Posterior, Weights, labels
from ..sampler import Run
from ..theory import Theory
from .mean_network import MeanNetwork


def path_scores(source: Theory | Run) -> pd.Series:
    """Score of each path: sum of |U_1| over the entries of its row and column, over the largest score.

    Args:
        source: a theory, or a run (posterior mean of U_1).

    Returns:
        Series of scores in [0, 1], indexed by the name of the path.

    Raises:
        ValueError: ``source`` is neither.

    Source: docs/model.md, section 8, for a path in place of a head.
    """
    if not isinstance(source, Theory | Run):
        raise checks.InputError(f"source is a {type(source).__name__}: give a theory or a run")
    U = np.abs(mean_order_parameter(source))
    values = 2 * U.sum(1) - np.diag(U)
    data = source.train if isinstance(source, Theory) else source.posterior.data
    return pd.Series(values / values.max(), pd.Index(data.path_names, name="path"), name="score")


def by_evidence(
    posterior: Posterior, *, key: jax.Array, particles: int = 256, repeats: int = 4, method: str = "auto"
) -> pd.DataFrame:
    """What the log evidence loses when the network is made without a head: log p(y | all) - log p(y | all but one).

    Every network without a head is learned anew, so that others may stand in for it: no other score asks that. Where
    two heads carry the same, neither is missed.

    Args:
        posterior: of the network with all heads.
        key: typed random key, the same for each network.
        particles, repeats, method: as for ``gf.evidence``, which runs once for each head and once for all.

    Returns:
        DataFrame indexed by (layer, head) from 1: score (nats lost) and error, its standard error; NaN for the only
        head of its layer.

    Raises:
        ValueError: as ``gf.evidence``.

    Source: docs/model.md, section 6.
    """

    def found(of: Posterior) -> Evidence:
        return evidence(of, key=key, particles=particles, repeats=repeats, method=method)

    whole, shape = found(posterior), shape_of(posterior.data)
    rows = {}
    for layer, head in all_heads(shape.heads):
        if shape.alone(layer):
            rows[layer, head] = (np.nan, np.nan)
            continue
        left = np.flatnonzero(~through(shape, [(layer, head)])).tolist()
        without = found(posterior.select(left))
        rows[layer, head] = (whole.log_evidence - without.log_evidence, float(np.hypot(whole.error, without.error)))
    return pd.DataFrame(list(rows.values()), _index(rows), columns=["score", "error"])


def by_gradient(source: Theory | Run | Weights, data: PathInputs, y, *, by_layer: bool = True) -> pd.Series:
    """Gradient-based importance, the mean of |dL / dm| over examples, of the mean predictor or one set of weights.

    Args:
        source: a theory or a run, whose mean predictor is taken as the network, or all weights by name.
        data: inputs of the examples to average over, usually those of the training set.
        y: their labels [P], or [P, m].
        by_layer: divide the scores of each layer by their root of the sum of squares, as the source does.

    Returns:
        Series of scores indexed by (layer, head) from 1.

    Raises:
        ValueError: as ``gf.predict``, or another number of labels than of examples.

    Source: Michel, Levy and Neubig, "Are sixteen heads really better than one?", NeurIPS 2019, equation 2.
    """
    network, shape = MeanNetwork(source), shape_of(source)
    f = network(data)
    error = f - _labels(source, y, f)
    found = {}
    for head in all_heads(shape.heads):
        kept = data.xi * through(shape, [head]).reshape(shape.branches)
        each = error * network(data.like(kept))
        found[head] = float(np.mean(np.abs(each.reshape(len(each), -1).sum(1))))
    scores = pd.Series(list(found.values()), _index(found), name="score")
    if not by_layer:
        return scores
    return scores / np.sqrt((scores**2).groupby(level="layer").transform("sum"))


def by_leaving_out(source: Theory | Run | Weights, data: PathInputs, y) -> pd.Series:
    """Rise of the mean squared error when one head alone is removed; ``gf.head_drops`` has the loss of accuracy.

    Args:
        source: a theory, a run, or all weights by name.
        data: inputs of the examples to average over, usually those of the training set.
        y: their labels [P], or [P, m].

    Returns:
        Series indexed by (layer, head) from 1; NaN for the only head of its layer.

    Raises:
        ValueError: as ``gf.predict``, or another number of labels than of examples.

    Source: docs/model.md, section 8.
    """
    network, shape = MeanNetwork(source), shape_of(source)
    f = network(data)
    y = _labels(source, y, f)
    whole = np.mean((f - y) ** 2)
    found = {
        (l, h): np.nan if shape.alone(l) else float(np.mean((network(data, [(l, h)]) - y) ** 2) - whole)
        for l, h in all_heads(shape.heads)
    }
    return pd.Series(list(found.values()), _index(found), name="score")


def _labels(source, y, f: np.ndarray) -> np.ndarray:
    classes = source.posterior.classes if isinstance(source, Theory | Run) else None
    found = labels.array("y", y)
    if len(found) != len(f):
        raise checks.InputError(f"y has {len(found)} labels and data has {len(f)} examples: give one label each")
    outputs = f.shape[1] if f.ndim == 2 else 1
    return labels.encoded("y", found, labels.classes_of("y", found, classes, outputs), outputs)


def _index(heads) -> pd.MultiIndex:
    return pd.MultiIndex.from_tuples(list(heads), names=("layer", "head"))
