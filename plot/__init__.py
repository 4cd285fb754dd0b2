"""One line per plot: results in, matplotlib axes out. The figures of the paper are drawn with the same functions."""

from .accuracies import accuracy
from .curves import learning_curve, pruning
from .groups import alignment, head_scores, path_lengths
from .matrices import order_parameters
from .style import save

__all__ = [
    "accuracy",
    "alignment",
    "head_scores",
    "learning_curve",
    "order_parameters",
    "path_lengths",
    "pruning",
    "save",
]
