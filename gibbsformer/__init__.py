"""gibbsformer: Bayesian sampling and theory of deep linear-value multi-head attention.

>>> import jax, gibbsformer as gf
>>> task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))

See docs/ for the model, its notation and guides.
"""

from importlib.metadata import version as _version

from . import core, diagnostics, figures, models, reports, sampler, store, sweeps, tasks, theory, training
from .diagnostics import (
    ConvergenceWarning,
    accuracy,
    accuracy_error,
    alignment,
    compare,
    finite_width,
    generalization_error,
    head_drops,
    head_scores,
    path_kernels,
    predict,
    prune,
    pruning_curve,
    pruning_order,
    renormalized_kernel,
    until,
)
from .evidence import Evidence, EvidenceWarning, evidence, select
from .models import Attention, Network, OrderParameters, PathInputs, Posterior, contract
from .reports import report
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
    lift,
    open,
    resume,
    sample,
)
from .sweeps import open_sweep, sweep

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
    "Evidence",
    "EvidenceWarning",
    "Gibbs",
    "Network",
    "OrderParameters",
    "PathInputs",
    "Posterior",
    "Run",
    "accuracy",
    "accuracy_error",
    "alignment",
    "compare",
    "contract",
    "core",
    "diagnostics",
    "evidence",
    "figures",
    "finite_width",
    "generalization_error",
    "head_drops",
    "head_scores",
    "lift",
    "models",
    "open",
    "open_sweep",
    "path_kernels",
    "predict",
    "prune",
    "pruning_curve",
    "pruning_order",
    "renormalized_kernel",
    "report",
    "reports",
    "resume",
    "sample",
    "sampler",
    "select",
    "store",
    "sweep",
    "sweeps",
    "tasks",
    "theory",
    "training",
    "until",
]
