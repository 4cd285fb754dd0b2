"""Large-N theory: saddle point, GP limit, and the predictor they give. Never imports a sampler."""

from .continuation import Grid, grid
from .regression import conditional_mean, conditional_predictor, mean_path_weights, outputs
from .saddle import Theory, TheoryWarning, gp, solve

__all__ = [
    "Grid",
    "Theory",
    "TheoryWarning",
    "conditional_mean",
    "conditional_predictor",
    "gp",
    "grid",
    "mean_path_weights",
    "outputs",
    "solve",
]
