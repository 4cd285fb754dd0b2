"""The engine: `sample`, `resume`, `lift` and `open`, the kernels by name, and the one driver loop that runs them."""

from __future__ import annotations

from ..models.target import Target
from .convergence import Convergence, ConvergenceWarning, convergence, moments
from .kernels import (
    GHMC,
    HMC,
    KERNELS,
    MALA,
    MCLMC,
    NUTS,
    SGHMC,
    SGLD,
    AdjustedMCLMC,
    ChEES,
    Collapsed,
    EnsembleKernel,
    Gibbs,
    Kernel,
    SplitHMC,
    resolve_kernel,
)
from .lifting import lift
from .monitor import Until, until
from .prior_draws import Prior, prior
from .run import Run
from .sampling import open, resume, sample

__all__ = [
    "GHMC",
    "HMC",
    "KERNELS",
    "MALA",
    "MCLMC",
    "NUTS",
    "SGHMC",
    "SGLD",
    "AdjustedMCLMC",
    "ChEES",
    "Collapsed",
    "Convergence",
    "ConvergenceWarning",
    "EnsembleKernel",
    "Gibbs",
    "Kernel",
    "Prior",
    "Run",
    "SplitHMC",
    "Target",
    "Until",
    "convergence",
    "lift",
    "moments",
    "open",
    "prior",
    "resolve_kernel",
    "resume",
    "sample",
    "until",
]
