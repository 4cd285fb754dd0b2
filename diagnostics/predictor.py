"""The predictor of a theory or of a run on test inputs, and its accuracy (docs/model.md, sections 3 and 8)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import checks
from ..models import PathInputs
from ..models.target import STATE
from ..sampler import Run
from ..sampler.convergence import warn_of_bad_chains
from ..theory import Theory, conditional_mean, conditional_predictor

_VARIANCE_DRAWS = 64  # draws that the mean conditional variance is averaged over: it varies little between draws
_RESAMPLES = 400  # bootstrap resamples: the standard error itself is then known to 4 %
_BLOCKS = 8  # blocks per chain for error bars: long enough to be nearly independent, enough of them to count


class Prediction(NamedTuple):
    """Predictor on Q test inputs.

    Attributes:
        mean: of f over the posterior [Q].
        variance: of f over the posterior [Q]; that of a label has T added.
        blocks: means over B blocks of consecutive draws of all chains [B, Q], for error bars; None for a theory.
    """

    mean: np.ndarray
    variance: np.ndarray
    blocks: np.ndarray | None = None


class GeneralizationError(NamedTuple):
    """Mean squared test error of a draw of f, averaged over the test set, in units of labels squared.

    Attributes:
        bias: of the mean predictor, <(<f> - y)^2>.
        variance: of f over the posterior.
        total: their sum, <(f - y)^2>.
    """

    bias: float
    variance: float
    total: float


def predict(source: Theory | Run, data_test: PathInputs) -> Prediction:
    """Predictor on test inputs.

    A theory gives the Gaussian-process mean and variance at its U_1. A run gives mean and variance of f over its
    draws; a collapsed run through the conditional mean given U_1 (Rao-Blackwell).

    Args:
        source: from ``theory.solve``, ``theory.gp``, ``sample`` or ``open``.
        data_test: test inputs with all the paths of the training inputs.

    Returns:
        Prediction with mean [Q] and variance [Q] of f (noise variance T not added).

    Raises:
        ValueError: test inputs of another shape.

    Source: docs/model.md, sections 3 and 8.
    """
    posterior = source.posterior
    if not isinstance(data_test, PathInputs) or data_test.xi.shape[1:] != posterior.data.xi.shape[1:]:
        shape = getattr(getattr(data_test, "xi", data_test), "shape", type(data_test).__name__)
        raise checks.InputError(
            f"data_test has shape {shape}: give path inputs [Q, {', '.join(map(str, posterior.data.xi.shape[1:]))}]"
        )
    if isinstance(source, Theory):
        inputs = data_test if source.paths is None else data_test.select(source.paths)
        mean, variance = conditional_predictor(
            source.U[0][None], source.train, posterior.y, posterior.temperature, posterior.network.variances[0], inputs
        )
        return Prediction(mean[0], variance[0])
    warn_of_bad_chains(source)
    return (_from_order_parameters if source.names(STATE) else _from_path_weights)(source, data_test)


def _from_order_parameters(run: Run, data_test: PathInputs) -> Prediction:
    """Rao-Blackwell: average the conditional mean of f given U_1 over all draws; far less noise than draws of f.

    The variance is that of the conditional mean plus the mean conditional variance (from evenly spaced draws).
    """
    posterior = run.posterior
    problem = (posterior.data, posterior.y, posterior.temperature, posterior.network.variances[0], data_test)
    U_1 = run.order_parameters.U[0]
    means = conditional_mean(U_1.reshape(-1, *U_1.shape[2:]), *problem)  # [chain * draw, Q]
    spaced = np.linspace(0, len(means) - 1, min(len(means), _VARIANCE_DRAWS)).astype(int)
    _, variances = conditional_predictor(U_1.reshape(-1, *U_1.shape[2:])[spaced], *problem)
    chains = np.split(means, run.chains)
    blocks = np.concatenate([[b.mean(0) for b in np.array_split(c, min(_BLOCKS, len(c)))] for c in chains])
    return Prediction(means.mean(0), means.var(0) + variances.mean(0), blocks)


def _from_path_weights(run: Run, data_test: PathInputs) -> Prediction:
    """f = B . xi is linear in the recorded path weights B, so its moments follow from theirs."""
    B = np.asarray(run.variables["path_weights"], dtype=np.float64)
    B = B.reshape(*B.shape[:2], -1)  # [chain, draw, H N_0]
    xi = data_test.flat.transpose(0, 2, 1).reshape(len(data_test), -1)  # [Q, H N_0]
    blocks = (
        np.concatenate([[b.mean(0) for b in np.array_split(chain, min(_BLOCKS, len(chain)))] for chain in B]) @ xi.T
    )
    total = B.reshape(-1, B.shape[-1])
    mean = total.mean(0)
    centred = total - mean
    variance = np.concatenate(
        [np.mean((centred @ part.T) ** 2, axis=0) for part in np.array_split(xi, max(1, len(xi) // 100))]
    )
    return Prediction(xi @ mean, variance, blocks)


def accuracy(prediction: Prediction, y_test) -> float:
    """Fraction of test labels with sign(mean predictor) = y.

    Args:
        prediction: from ``predict``.
        y_test: labels [Q], +1 or -1.

    Returns:
        Fraction in [0, 1]; a mean of exactly 0 or NaN counts as wrong.

    Raises:
        ValueError: labels of another number than the predictions.

    Source: docs/model.md, section 3.
    """
    return float(_hits(prediction.mean, _labels(prediction, y_test)))


def accuracy_error(prediction: Prediction, y_test) -> float:
    """Monte Carlo standard error of the accuracy, by the bootstrap over blocks of draws of all chains.

    The jackknife would miss it: the accuracy jumps where a mean prediction changes sign. 0 for a theory. Uncertainty
    from the finite test set is not included: theory and samples share it.

    Args:
        prediction: from ``predict``.
        y_test: labels [Q], +1 or -1.

    Returns:
        Standard error of ``accuracy``, the same at each call.

    Raises:
        ValueError: labels of another number than the predictions.

    Source: Efron 1979 (bootstrap), Carlstein 1986 (blocks of a series that do not overlap).
    """
    labels = _labels(prediction, y_test)
    if prediction.blocks is None:
        return 0.0
    B = len(prediction.blocks)
    shares = np.random.default_rng(0).multinomial(B, np.full(B, 1 / B), size=_RESAMPLES) / B
    return float(_hits(shares @ prediction.blocks, labels).std())


def generalization_error(prediction: Prediction, y_test) -> GeneralizationError:
    """<(f(x) - y)^2> over posterior and test set, split in (<f> - y)^2 and the variance of f.

    Args:
        prediction: from ``predict``.
        y_test: labels [Q], any real numbers.

    Returns:
        GeneralizationError.

    Raises:
        ValueError: labels of another number than the predictions.

    Source: docs/model.md, section 3 (mean and variance of f); the split is that of bias and variance.
    """
    labels = _labels(prediction, y_test)
    bias, variance = float(np.mean((prediction.mean - labels) ** 2)), float(np.mean(prediction.variance))
    return GeneralizationError(bias, variance, bias + variance)


def _hits(mean, labels):
    return np.mean(np.sign(mean) == labels, axis=-1)


def _labels(prediction, y_test):
    labels = checks.array("y_test", y_test, "Q")
    if labels.shape != prediction.mean.shape:
        raise checks.InputError(
            f"y_test has {len(labels)} labels and the prediction {len(prediction.mean)}: give one each"
        )
    return labels
