"""Which heads matter: scores by many methods, compared by what is lost as heads go, and written back to a model.

``gf.head_scores`` and ``gf.head_drops`` score heads by the order parameter and by the test score without each. Here are
the scores of the literature, and the comparison of all of them. Nothing here imports PyTorch before a pretrained model
is given.
"""

from .classifier import Classifier
from .comparison import Comparison, compare
from .path_lengths import PathLengths, path_lengths
from .pretrained import mask, model_gradients, switched_off, write
from .scores import all_scores, by_evidence, by_gradient, by_leaving_out, path_scores

__all__ = [
    "Classifier",
    "Comparison",
    "PathLengths",
    "all_scores",
    "by_evidence",
    "by_gradient",
    "by_leaving_out",
    "compare",
    "mask",
    "model_gradients",
    "path_lengths",
    "path_scores",
    "switched_off",
    "write",
]
