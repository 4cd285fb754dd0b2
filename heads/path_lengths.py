r"""What paths of each length carry: of the order parameter, the kernel, the prediction, and the evidence.

The length of a path is the number of heads that it passes, 0 for the path that skips every layer up to L for those that
skip none (docs/model.md, section 12). With 1_l the paths of length l,

    f = sum_l f_l,   f_l(x) = sum_{pi in 1_l} E[B^pi | y] . xi^pi(x),        tr K = sum_{l l'} tr K_{l l'}

are exact decompositions of the mean predictor and of the kernel between training examples.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pandas as pd
import xarray as xr

from ..core import checks
from ..diagnostics import prune, score
from ..diagnostics.kernels import mean_order_parameter
from ..diagnostics.predictor import Prediction, predict
from ..evidence.estimate import evidence
from ..models import PathInputs, Posterior, labels
from ..models.solvable import check_solvable
from ..sampler import Run
from ..theory import Theory


@dataclass(frozen=True, eq=False)
class PathLengths:
    """What paths of each length carry.

    Attributes:
        table: DataFrame indexed by length (number of heads passed), with columns

            - paths: how many there are;
            - U: share of sum |U_1| in their rows;
            - kernel: share of the trace of K in their rows, blocks with other lengths included; may be negative;
            - prediction: mean of f_l f over mean of f^2; may be negative;
            - with a test set, label: mean of f_l y over mean of y^2 (y less its mean where labels are real values); and
              the score (accuracy or R^2) of f_l alone and of f - f_l, with Monte Carlo standard errors;
            - with a key, evidence_alone: log p(y) of the network of these paths only, less that of all paths; and
              evidence_lost: log p(y) of all paths less that of all others; nats, with standard errors.

            Shares sum to 1 over lengths.
        U: share of sum |U_1| in each block [length, length_prime].
        kernel: share of the trace of K in each block [length, length_prime].
        f: [length, example] or [length, example, output], the terms f_l of the mean predictor on the test set, or on
            the training examples without one.

    Source: docs/model.md, sections 8 and 12.
    """

    table: pd.DataFrame
    U: xr.DataArray
    kernel: xr.DataArray
    f: xr.DataArray

    def __repr__(self) -> str:
        return self.table.to_string(float_format=lambda value: f"{value:.3f}")

    def _repr_html_(self) -> str:
        return self.table.to_html(float_format=lambda value: f"{value:.3f}")


def path_lengths(
    source: Theory | Run,
    test: tuple[PathInputs, Any] | None = None,
    *,
    key: jax.Array | None = None,
    particles: int = 256,
    repeats: int = 4,
    method: str = "auto",
) -> PathLengths:
    """How much of the order parameter, the kernel, the prediction and the evidence paths of each length carry.

    Shares and scores are of what has been learned with all paths. Evidences are of networks that have only some of the
    paths from the start, so that others may stand in for those that are missing.

    Args:
        source: a theory, or a run (posterior means).
        test: (inputs, labels) of test examples, as ``task.test_set``.
        key: typed random key of the evidences, which are left out without one: two for each length.
        particles, repeats, method: as for ``gf.evidence``.

    Returns:
        PathLengths; printing it shows its table.

    Raises:
        ValueError: ``source`` is neither, a network without skip connections, whose paths all have one length, or as
            ``gf.predict``, ``gf.score`` and ``gf.evidence``.

    Source: docs/model.md, sections 3, 8 and 12.
    """
    train, posterior = _checked(source)
    test = None if test is None else posterior.checked_test(test)
    found = train.lengths
    kinds = np.unique(found)
    blocks = found == kinds[:, None]  # [lengths, paths]
    U = mean_order_parameter(source)
    shares = _blocks(np.abs(_over_outputs(U, len(found), np.abs)), blocks)
    gram = np.einsum("png,pnh->gh", train.flat, train.flat, optimize=True)
    traces = _blocks(_over_outputs(U, len(found), None) * gram, blocks)
    inputs = posterior.data if test is None else test[0]
    parts = [_part(source, inputs, block) for block in (*blocks, blocks.any(0))]
    *terms, whole = parts
    table = pd.DataFrame(
        {
            "paths": blocks.sum(1),
            "U": shares.sum(1),
            "kernel": traces.sum(1),
            "prediction": [np.sum(term.mean * whole.mean) / np.sum(whole.mean**2) for term in terms],
        },
        index=pd.Index(kinds, name="length"),
    )
    if test is not None:
        table = table.join(_scores(terms, whole, test[1], posterior, table.index))
    if key is not None:
        options = {"key": key, "particles": particles, "repeats": repeats, "method": method}
        table = table.join(_evidences(posterior, blocks, options, table.index))
    names = {"length": kinds, "length_prime": kinds}
    f = np.stack([term.mean for term in terms])
    return PathLengths(
        table,
        xr.DataArray(shares, dims=tuple(names), coords=names, name="U"),
        xr.DataArray(traces, dims=tuple(names), coords=names, name="kernel"),
        xr.DataArray(f, dims=("length", "example", "output")[: f.ndim], coords={"length": kinds}, name="f"),
    )


def _checked(source) -> tuple[PathInputs, Posterior]:
    """(training inputs of the paths kept, posterior)."""
    if not isinstance(source, Theory | Run):
        raise checks.InputError(f"source is a {type(source).__name__}: give a theory or a run")
    check_solvable("lengths of paths", source.posterior)
    train = source.train if isinstance(source, Theory) else source.posterior.data
    if isinstance(source, Theory) and source.paths is not None:
        raise checks.InputError(
            f"source is a theory of the paths {checks.brief(source.paths)}: give one of all paths, or use "
            "theory.solve(posterior.select(paths))"
        )
    if len(set(train.lengths.tolist())) == 1:
        raise checks.InputError(
            "source has no skip connections, so all of its paths have one length: use gf.heads.path_scores, or give "
            "gf.contract and gf.Network residual=True"
        )
    return train, source.posterior


def _over_outputs(U: np.ndarray, paths: int, function) -> np.ndarray:
    """[H, H] from U_1 [H m, H m]: the sum over all pairs of outputs of a function of it, or the trace over outputs."""
    m = len(U) // paths
    U = U.reshape(paths, m, paths, m)
    return np.einsum("hagb->hg", function(U)) if function else np.einsum("haga->hg", U)


def _blocks(values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Shares [length, length'] of the sum of values [H, H]."""
    found = blocks @ values @ blocks.T
    return found / found.sum()


def _part(source: Theory | Run, inputs: PathInputs, kept: np.ndarray) -> Prediction:
    """The mean predictor's term from some paths: it is linear in the inputs."""
    return predict(source, inputs.like(inputs.xi * kept.reshape(inputs.heads)))


def _scores(terms, whole: Prediction, y_test, posterior: Posterior, index) -> pd.DataFrame:
    outputs = posterior.network.outputs
    y = labels.encoded("y_test", labels.array("y_test", y_test), posterior.classes or (), outputs)
    centred = y if posterior.classes else y - y.mean(0)
    rows = []
    for term in terms:
        rest = term._replace(
            mean=whole.mean - term.mean, blocks=None if term.blocks is None else whole.blocks - term.blocks
        )
        row = {"label": np.sum(term.mean * centred) / np.sum(centred**2)}
        for name, found in (("alone", score(term, y_test)), ("without", score(rest, y_test))):
            row |= {f"{found.name}_{name}": found.value, f"{found.name}_{name}_error": found.error}
        rows.append(row)
    return pd.DataFrame(rows, index)


def _evidences(posterior: Posterior, blocks: np.ndarray, options: dict[str, Any], index) -> pd.DataFrame:
    def found(kept: np.ndarray) -> tuple[float, float]:
        estimate = evidence(of_paths(posterior, np.flatnonzero(kept)), **options)
        return estimate.log_evidence, estimate.error

    whole, error = found(np.ones(blocks.shape[1], bool))
    rows = []
    for block in blocks:
        (alone, its), (rest, others) = found(block), found(~block)
        rows.append(
            {
                "evidence_alone": alone - whole,
                "evidence_alone_error": np.hypot(its, error),
                "evidence_lost": whole - rest,
                "evidence_lost_error": np.hypot(others, error),
            }
        )
    return pd.DataFrame(rows, index)


def of_paths(posterior: Posterior, kept) -> Posterior:
    """Posterior of a network with some paths only, any set of them.

    ``Posterior.select`` takes paths that are a smaller network. Here the inputs of the others are zero, which is the
    same posterior where both exist: U_1 of the paths that stay has the same law.

    Args:
        posterior: of all paths.
        kept: indices of the paths that stay.

    Returns:
        Posterior of a ``gf.Reduction``, with the same network and temperature.

    Raises:
        ValueError: nothing stays.

    Source: docs/model.md, sections 3 and 8.
    """
    gone = np.setdiff1d(np.arange(posterior.network.paths), kept).tolist()
    if not gone:
        return posterior
    given = posterior.reduction
    left: Any = dataclasses.replace(given, data=prune(given.data, paths=gone))
    return Posterior(posterior.network, left, temperature=posterior.temperature, reduce=posterior.reduce)
