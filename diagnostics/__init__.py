"""What the samples say, beside what the theory says. Never samples."""

from .compare import compare
from .convergence import Convergence, convergence, moments
from .predictor import Prediction, accuracy, accuracy_error, predict

__all__ = [
    "Convergence",
    "Prediction",
    "accuracy",
    "accuracy_error",
    "compare",
    "convergence",
    "moments",
    "predict",
]
