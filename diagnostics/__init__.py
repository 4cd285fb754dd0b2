"""What the samples say, beside what the theory says. Never samples."""

from .compare import compare
from .convergence import Convergence, ConvergenceWarning, convergence, moments
from .monitor import Until
from .predictor import Prediction, accuracy, accuracy_error, predict
from .selection import select

__all__ = [
    "Convergence",
    "ConvergenceWarning",
    "Prediction",
    "Until",
    "accuracy",
    "accuracy_error",
    "compare",
    "convergence",
    "moments",
    "predict",
    "select",
]
