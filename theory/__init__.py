"""Large-N theory: saddle point, GP limit, and the predictor they give. Never imports a sampler."""

from .predictor import conditional_mean, conditional_predictor
from .saddle import Theory, gp, solve

__all__ = ["Theory", "conditional_mean", "conditional_predictor", "gp", "solve"]
