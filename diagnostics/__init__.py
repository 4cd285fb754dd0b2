"""Samples compared with theory, and what either says about heads and paths. Never samples."""

from ..sampler.convergence import Convergence, ConvergenceWarning, convergence, moments
from ..sampler.monitor import Until, until
from .compare import compare
from .finite_width import FiniteWidth, finite_width
from .heads import head_drops, head_scores, prune, pruning_curve, pruning_order
from .kernels import Alignment, alignment, path_kernels, renormalized_kernel
from .predictor import (
    Difference,
    GeneralizationError,
    Prediction,
    Score,
    accuracy,
    accuracy_error,
    generalization_error,
    predict,
    score,
    score_difference,
)

__all__ = [
    "Alignment",
    "Convergence",
    "ConvergenceWarning",
    "Difference",
    "FiniteWidth",
    "GeneralizationError",
    "Prediction",
    "Score",
    "Until",
    "accuracy",
    "accuracy_error",
    "alignment",
    "compare",
    "convergence",
    "finite_width",
    "generalization_error",
    "head_drops",
    "head_scores",
    "moments",
    "path_kernels",
    "predict",
    "prune",
    "pruning_curve",
    "pruning_order",
    "renormalized_kernel",
    "score",
    "score_difference",
    "until",
]
