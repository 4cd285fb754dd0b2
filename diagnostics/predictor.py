"""The predictor of a theory or of a run on test inputs, and its score (docs/model.md, sections 3 and 8).

The score is the accuracy where labels are classes and R^2 where they are real values. Either is a mean over test
examples of what each contributes, 1 or 0 for a hit, or 1 - |<f> - y|^2 / var y; errors follow from that. The class
predicted is that of the sign of <f>, or of the largest of several outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..core import cards, checks
from ..models import PathInputs, labels
from ..models.target import STATE
from ..sampler import Run
from ..sampler.convergence import warn_of_bad_chains
from ..theory import Theory, conditional_mean, conditional_predictor, outputs
from . import drawn

_VARIANCE_DRAWS = 64  # draws that the mean conditional variance is averaged over: it varies little between draws
_RESAMPLES = 400  # bootstrap resamples: the standard error itself is then known to 4 %
_BLOCKS = 8  # blocks per chain for error bars: long enough to be nearly independent, enough of them to count


class Prediction(NamedTuple):
    """Predictor on Q test inputs.

    Attributes:
        mean: of f over the posterior [Q], or [Q, m] of m outputs.
        variance: of f over the posterior [Q] or [Q, m]; that of a label has T added.
        blocks: means over B blocks of consecutive draws of all chains [B, Q] or [B, Q, m], for error bars; None for a
            theory.
        classes: those of the training labels, () for real values; None if unknown, then those of the test labels.
        covariance: of m > 1 outputs of an example over the posterior [Q, m, m], whose diagonal is ``variance``.
    """

    mean: np.ndarray
    variance: np.ndarray
    blocks: np.ndarray | None = None
    classes: tuple | None = None
    covariance: np.ndarray | None = None

    def __repr__(self) -> str:
        return cards.line("Prediction", self._asdict() | {"classes": self.classes and str(self.classes)})

    def _repr_html_(self) -> str:
        classes = ", ".join(map(str, self.classes)) if self.classes else None
        rows = {"mean of f": cards.interval(self.mean), "variance of f": cards.interval(self.variance)}
        return cards.card("Prediction", (rows | {"classes": classes, "blocks of draws": self.blocks}).items())


class Score(NamedTuple):
    """How well a predictor does on a test set.

    Attributes:
        name: ``"accuracy"`` (labels are classes) or ``"r_squared"`` (real values).
        value: the accuracy in [0, 1]; or R^2, at most 1, and 0 for a constant predictor of the mean label.
        error: its Monte Carlo standard error, 0 for a theory; the test set is taken as given.
    """

    name: str
    value: float
    error: float


class Difference(NamedTuple):
    """Score of one predictor minus that of another on the same test examples.

    Attributes:
        value: the difference.
        monte_carlo: standard error from the finite number of draws.
        test_set: standard error from the finite number of test examples, which the two share.
    """

    value: float
    monte_carlo: float
    test_set: float


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
        data_test: test inputs with all the paths of the training inputs; of a ``gf.Model``, inputs [Q, ..].

    Returns:
        Prediction with mean and variance of f (noise variance T not added), [Q], or [Q, m] of m outputs.

    Raises:
        ValueError: test inputs of another shape, or a run without draws.

    Source: docs/model.md, sections 3 and 8.
    """
    posterior = source.posterior
    if isinstance(source, Run) and hasattr(posterior, "predictions"):  # it computes f from recorded weights
        warn_of_bad_chains(source)
        return Prediction(*drawn.moments_of_f(source, data_test), posterior.classes)
    if not isinstance(data_test, PathInputs) or data_test.xi.shape[1:] != posterior.data.xi.shape[1:]:
        shape = getattr(getattr(data_test, "xi", data_test), "shape", type(data_test).__name__)
        raise checks.InputError(
            f"data_test has shape {shape}: give path inputs [Q, {', '.join(map(str, posterior.data.xi.shape[1:]))}]"
        )
    if isinstance(source, Theory):
        inputs = data_test if source.paths is None else data_test.select(source.paths)
        train = source.reduction
        mean, variance = conditional_predictor(
            source.U[0][None], train.data, train.y, posterior.temperature, posterior.network.variances[0], inputs
        )
        return _prediction(mean[0], variance[0])._replace(classes=posterior.classes)
    warn_of_bad_chains(source)
    found = (_from_order_parameters if source.names(STATE) else _from_path_weights)(source, data_test)
    return found._replace(classes=posterior.classes)


def _prediction(mean, covariance, blocks=None) -> Prediction:
    """Of the variance [Q], or the covariance [Q, m, m] of several outputs."""
    if covariance.ndim == 1:
        return Prediction(mean, covariance, blocks)
    return Prediction(mean, np.diagonal(covariance, axis1=1, axis2=2), blocks, None, covariance)


def _from_order_parameters(run: Run, data_test: PathInputs) -> Prediction:
    """Rao-Blackwell: average the conditional mean of f given U_1 over all draws; far less noise than draws of f.

    The variance is that of the conditional mean plus the mean conditional variance (from evenly spaced draws).
    """
    posterior = run.posterior
    train = posterior.reduction
    problem = (train.data, train.y, posterior.temperature, posterior.network.variances[0], data_test)
    U_1 = run.order_parameters.U[0]
    means = conditional_mean(U_1.reshape(-1, *U_1.shape[2:]), *problem)  # [chain * draw, Q], or [.., Q, m]
    spaced = np.linspace(0, len(means) - 1, min(len(means), _VARIANCE_DRAWS)).astype(int)
    _, variances = conditional_predictor(U_1.reshape(-1, *U_1.shape[2:])[spaced], *problem)
    chains = np.split(means, run.chains)
    blocks = np.concatenate([[b.mean(0) for b in np.array_split(c, min(_BLOCKS, len(c)))] for c in chains])
    spread = _second_moment(means - means.mean(0))
    return _prediction(means.mean(0), spread + variances.mean(0), blocks)


def _from_path_weights(run: Run, data_test: PathInputs) -> Prediction:
    """f = B . xi is linear in the recorded path weights B, so its moments follow from theirs."""
    B = np.asarray(run.variables["path_weights"], dtype=np.float64)  # [chain, draw, H m, N_0]
    blocks = np.concatenate([[b.mean(0) for b in np.array_split(chain, min(_BLOCKS, len(chain)))] for chain in B])
    draws = B.reshape(-1, *B.shape[2:])
    mean = draws.mean(0)
    parts = [data_test.like(x) for x in np.array_split(data_test.xi, max(1, len(data_test) // 100))]
    spread = np.concatenate([_second_moment(outputs(draws - mean, part)) for part in parts])
    return _prediction(outputs(mean, data_test), spread, outputs(blocks, data_test))


def _second_moment(f) -> np.ndarray:
    """Mean square of centred draws [draw, q], or mean of their products [q, m, m] of [draw, q, m]."""
    return np.mean(f**2, axis=0) if f.ndim == 2 else np.einsum("dqa,dqb->qab", f, f, optimize=True) / len(f)


def score(prediction: Prediction, y_test) -> Score:
    """Accuracy where labels are classes, R^2 where they are real values, with its Monte Carlo standard error.

    The error is that of a bootstrap over blocks of draws of all chains; the jackknife would miss it, as the accuracy
    jumps where a mean prediction changes sign. Uncertainty from the finite test set is not in it, see
    ``score_difference``.

    Args:
        prediction: from ``predict``.
        y_test: labels [Q] of the classes of the training labels; or real values [Q], [Q, m] of m outputs.

    Returns:
        Score, the same at each call.

    Raises:
        ValueError: labels of another number than the predictions, or of other classes.

    Source: docs/model.md, section 3; Efron 1979 (bootstrap), Carlstein 1986 (blocks of a series that do not overlap).
    """
    y, classes = _labels(prediction, y_test)
    return Score("accuracy" if classes else "r_squared", *_with_error(prediction, y, classes))


def score_difference(prediction: Prediction, other: Prediction, y_test) -> Difference:
    """Score of a predictor minus that of another, with both of its errors.

    The error from the test set is that of paired examples: those which both get right, or both get wrong, say nothing
    about the difference.

    Args:
        prediction, other: from ``predict``, on the same test inputs.
        y_test: labels [Q], as for ``score``.

    Returns:
        Difference.

    Raises:
        ValueError: as ``score``.

    Source: McNemar 1947 (paired classifiers).
    """
    y, classes = _labels(prediction, y_test)
    _labels(other, y_test)
    each = _contributions(prediction.mean, y, classes) - _contributions(other.mean, y, classes)
    errors = [_with_error(p, y, classes)[1] for p in (prediction, other)]
    of_test = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
    return Difference(float(each.mean()), float(np.hypot(errors[0], errors[1])), of_test)


def accuracy(prediction: Prediction, y_test) -> float:
    """Fraction of test labels whose class the sign of the mean predictor gives, or the largest of its m outputs.

    Args:
        prediction: from ``predict``.
        y_test: labels [Q] of the classes of the training labels, such as -1 and +1; or [Q, m], one-hot.

    Returns:
        Fraction in [0, 1]; a mean of exactly 0 or NaN counts as wrong.

    Raises:
        ValueError: labels of another number than the predictions, of other classes, or real values, for which use
            ``score`` or ``generalization_error``.

    Source: docs/model.md, section 3.
    """
    return _accuracy(prediction, y_test).value


def accuracy_error(prediction: Prediction, y_test) -> float:
    """Monte Carlo standard error of the accuracy, as ``score`` has it.

    Args:
        prediction: from ``predict``.
        y_test: labels [Q], as for ``accuracy``.

    Returns:
        Standard error of ``accuracy``, 0 for a theory.

    Raises:
        ValueError: as ``accuracy``.

    Source: as ``score``.
    """
    return _accuracy(prediction, y_test).error


def generalization_error(prediction: Prediction, y_test) -> GeneralizationError:
    """<|f(x) - y|^2> over posterior and test set, split in |<f> - y|^2 and the variance of f, summed over outputs.

    Args:
        prediction: from ``predict``.
        y_test: labels [Q], real values, or classes, which count as -1 and +1.

    Returns:
        GeneralizationError.

    Raises:
        ValueError: labels of another number than the predictions, or of other classes.

    Source: docs/model.md, section 3 (mean and variance of f); the split is that of bias and variance.
    """
    y, _ = _labels(prediction, y_test)
    squared, variances = (prediction.mean - y) ** 2, prediction.variance
    bias, variance = (float(np.sum(values) / len(y)) for values in (squared, variances))
    return GeneralizationError(bias, variance, bias + variance)


def _accuracy(prediction, y_test) -> Score:
    found = score(prediction, y_test)
    if found.name != "accuracy":
        raise checks.InputError(
            "labels are real values, which have no accuracy: use gf.score (R^2) or gf.generalization_error, or give "
            "the posterior classes=(.., ..)"
        )
    return found


def _contributions(mean, y, classes):
    """What each test example adds to the score, whose mean it is [.., Q]."""
    if classes and y.ndim == 2:
        finite = np.isfinite(mean).all(-1)
        return (finite & (np.argmax(mean, axis=-1) == np.argmax(y, axis=-1))) * 1.0
    if classes:
        return (np.sign(mean) == y) * 1.0
    with np.errstate(invalid="ignore", divide="ignore"):  # equal labels have no R^2: NaN says so
        if y.ndim == 2:
            return 1 - np.sum((mean - y) ** 2, axis=-1) / np.sum(y.var(0))
        return 1 - (mean - y) ** 2 / y.var()


def _with_error(prediction: Prediction, y, classes) -> tuple[float, float]:
    """The score, and its standard error by the bootstrap over blocks of draws."""
    value = float(_contributions(prediction.mean, y, classes).mean())
    if prediction.blocks is None:
        return value, 0.0
    B = len(prediction.blocks)
    shares = np.random.default_rng(0).multinomial(B, np.full(B, 1 / B), size=_RESAMPLES) / B
    return value, float(_contributions(np.tensordot(shares, prediction.blocks, 1), y, classes).mean(-1).std())


def _labels(prediction: Prediction, y_test) -> tuple[np.ndarray, tuple]:
    """(labels as the network sees them [Q], their classes)."""
    found = labels.array("y_test", y_test, "Q")
    outputs = prediction.mean.shape[1] if prediction.mean.ndim == 2 else 1
    if len(found) != len(prediction.mean):
        raise checks.InputError(
            f"y_test has {len(found)} labels and the prediction {len(prediction.mean)}: give one each"
        )
    classes = labels.classes_of("y_test", found, prediction.classes, outputs)
    y = labels.encoded("y_test", found, classes, outputs)
    if y.shape != prediction.mean.shape:
        raise checks.InputError(
            f"y_test has shape {found.shape} and the prediction {prediction.mean.shape}: give labels of as many outputs"
        )
    return y, classes
