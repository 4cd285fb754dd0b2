"""gibbsformer: Bayesian sampling and theory of deep linear-value multi-head attention.

>>> import jax, gibbsformer as gf
>>> task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))

See docs/ for the model, its notation and guides.
"""

from importlib.metadata import version as _version

from . import diagnostics, models, sampler, store, tasks, theory, training
from ._sampling import lift, open, resume, sample, until
from .diagnostics import ConvergenceWarning, accuracy, accuracy_error, compare, predict
from .models import Attention, Network, OrderParameters, PathInputs, Posterior, contract
from .sampler import (
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
    Gibbs,
    Run,
)

__version__ = _version("gibbsformer")

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
    "Attention",
    "ChEES",
    "Collapsed",
    "ConvergenceWarning",
    "Gibbs",
    "Network",
    "OrderParameters",
    "PathInputs",
    "Posterior",
    "Run",
    "accuracy",
    "accuracy_error",
    "compare",
    "contract",
    "diagnostics",
    "lift",
    "models",
    "open",
    "predict",
    "resume",
    "sample",
    "sampler",
    "store",
    "tasks",
    "theory",
    "training",
    "until",
]
