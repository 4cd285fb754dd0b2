r"""Scores of heads: those of the order parameter, by evidence, by gradients, and by leaving one out.

A head is switched on by a variable m = 1 that multiplies its value weights. The network is linear in each,

    f(x; m) = sum_pi prod_l m_{l h_l} B^pi . xi^pi(x),       df / dm_{l h} = f_{lh}(x), the paths through head h,

so that the gradient of the loss L = (f - y)^2 / 2 of one example is (f - y) f_{lh}.
"""

from __future__ import annotations

import jax
import numpy as np
import pandas as pd

from ..core import checks, console
from ..diagnostics.heads import all_heads, head_scores, shape_of, through
from ..diagnostics.kernels import mean_order_parameter
from ..evidence.estimate import Evidence, evidence
from ..models import PathInputs, Posterior, Weights, labels
from ..sampler import Run, sample
from ..theory import Theory, solve
from .mean_network import MeanNetwork

_WARMUP, _DRAWS = 100, 250
OF_POSTERIOR = THEORY, EXACT, EVIDENCE = "order parameter, theory", "order parameter, exact posterior", "evidence"


def all_scores(
    posterior: Posterior,
    network: Theory | Run | Weights | None = None,
    *,
    key: jax.Array,
    run: Run | None = None,
    particles: int = 64,
    repeats: int = 2,
    progress: bool = True,
) -> dict[str, pd.Series]:
    """Scores of all heads by every method, for ``compare``.

    Three are of the posterior: the order parameter of the theory and of the exact posterior, and the evidence. The
    others are of the network from which heads will be removed, on the training examples: its order parameter if it is
    weights, gradients with and without the norm of each layer, and leaving one out.

    Args:
        posterior: of the network with all heads.
        network: from which heads will be removed: a theory, a run, or all weights by name; default the theory.
        key: typed random key of the run and of the evidence.
        run: draws of this posterior; default 4 chains of 250 draws of ``collapsed``.
        particles, repeats: as for ``gf.evidence``.
        progress: show a bar on stderr.

    Returns:
        Name of each score -> Series indexed by (layer, head) from 1.

    Raises:
        ValueError: a run of another posterior, a posterior of a ``gf.Reduction``, or as ``gf.sample``, ``by_evidence``
            and ``by_gradient``.

    Source: docs/model.md, section 8; Michel, Levy and Neubig 2019.
    """
    checks.random_key("key", key)
    if run is not None and run.posterior.network != posterior.network:
        raise checks.InputError(f"run is of {run.posterior.network}: give a run of this posterior, {posterior.network}")
    if posterior.examples != len(posterior.data):
        raise checks.InputError(
            f"posterior was made from a reduction of {posterior.examples} examples, which gradients need one by one: "
            "give a posterior of the examples"
        )
    theory = network if isinstance(network, Theory) else solve(posterior)
    of_run, of_evidence = jax.random.split(key)
    if run is None:
        run = sample(posterior, key=of_run, warmup=_WARMUP, draws=_DRAWS, progress=progress)
    lost = by_evidence(posterior, key=of_evidence, particles=particles, repeats=repeats, progress=progress)
    found = {THEORY: head_scores(theory), EXACT: head_scores(run), EVIDENCE: lost["score"]}
    network = theory if network is None else network
    if isinstance(network, dict):
        found["order parameter, weights"] = head_scores(network)
    data, y = posterior.data, labels.decoded(posterior.y, posterior.classes or ())
    found["gradient"] = by_gradient(network, data, y, by_layer=False)
    found["gradient, divided by layer"] = by_gradient(network, data, y)
    found["leave one out"] = by_leaving_out(network, data, y)
    return found


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
    posterior: Posterior,
    *,
    key: jax.Array,
    particles: int = 256,
    repeats: int = 4,
    method: str = "auto",
    progress: bool = False,
) -> pd.DataFrame:
    """What the log evidence loses when the network is made without a head: log p(y | all) - log p(y | all but one).

    Every network without a head is learned anew, so that others may stand in for it: no other score asks that. Where
    two heads carry the same, neither is missed.

    Args:
        posterior: of the network with all heads.
        key: typed random key, the same for each network.
        particles, repeats, method: as for ``gf.evidence``, which runs once for each head and once for all.
        progress: show a bar on stderr.

    Returns:
        DataFrame indexed by (layer, head) from 1: score (nats lost) and error, its standard error; NaN for the only
        head of its layer.

    Raises:
        ValueError: as ``gf.evidence``.

    Source: docs/model.md, section 6.
    """

    def found(of: Posterior) -> Evidence:
        value = evidence(of, key=key, particles=particles, repeats=repeats, method=method)
        bar.update(1)
        return value

    shape, rows = shape_of(posterior.data), {}
    heads = all_heads(shape.heads)
    total = 1 + sum(not shape.alone(layer) for layer, _ in heads)
    with console.bar(total=total, unit="network", desc="evidence", disable=not progress) as bar:
        whole = found(posterior)
        for layer, head in heads:
            if shape.alone(layer):
                rows[layer, head] = (np.nan, np.nan)
                continue
            without = found(posterior.select(np.flatnonzero(~through(shape, [(layer, head)])).tolist()))
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
    return divided(scores) if by_layer else scores


def divided(scores: pd.Series) -> pd.Series:
    """Scores of all heads, those of each layer divided by their root of the sum of squares."""
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
