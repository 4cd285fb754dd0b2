"""gibbsformer: Bayesian sampling and theory of deep linear-value multi-head attention.

>>> import jax, gibbsformer as gf
>>> task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))

See docs/ for the model, its notation and guides. Importing the package loads nothing heavy: names are imported from
their folders when they are first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as in ``_NAMES``, for type checkers and editors
    from . import (
        core,
        diagnostics,
        figures,
        heads,
        models,
        plot,
        reports,
        sampler,
        store,
        sweeps,
        tasks,
        theory,
        training,
    )
    from .core.programs import cache_programs
    from .diagnostics import (  # type: ignore[no-redef]  # functions with the name of their module
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
        score,
        score_difference,
    )
    from .evidence import Evidence, EvidenceWarning, evidence, select
    from .heads import path_lengths  # type: ignore[no-redef]
    from .models import (
        Attention,
        InputWarning,
        LearnedAttention,
        Model,
        Network,
        OrderParameters,
        PathInputs,
        Posterior,
        Reduction,
        contract,
        one_hot,
        reduce,
    )
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
        ConvergenceWarning,
        Gibbs,
        Prior,
        Run,
        SplitHMC,
        lift,
        open,
        prior,
        resume,
        sample,
        until,
    )
    from .sweeps import learning_curve, open_sweep, sweep  # type: ignore[no-redef]

    __version__: str

_FOLDERS = (
    "core", "diagnostics", "figures", "heads", "models", "plot", "reports", "sampler", "store", "sweeps", "tasks",
    "theory", "training",
)  # fmt: skip
_NAMES = {  # folder -> its names that are public here
    "core": ("cache_programs",),
    "diagnostics": (
        "accuracy", "accuracy_error", "alignment", "compare", "finite_width", "generalization_error", "head_drops",
        "head_scores", "path_kernels", "predict", "prune", "pruning_curve", "pruning_order", "renormalized_kernel",
        "score", "score_difference",
    ),
    "evidence": ("Evidence", "EvidenceWarning", "evidence", "select"),
    "heads": ("path_lengths",),
    "models": (
        "Attention", "InputWarning", "LearnedAttention", "Model", "Network", "OrderParameters", "PathInputs",
        "Posterior", "Reduction", "contract", "one_hot", "reduce",
    ),
    "reports": ("report",),
    "sampler": (
        "AdjustedMCLMC", "ChEES", "Collapsed", "ConvergenceWarning", "GHMC", "Gibbs", "HMC", "KERNELS", "MALA", "MCLMC",
        "NUTS", "Prior", "Run", "SGHMC", "SGLD", "SplitHMC", "lift", "open", "prior", "resume", "sample", "until",
    ),
    "sweeps": ("learning_curve", "open_sweep", "sweep"),
}  # fmt: skip
_FOLDER_OF = {name: folder for folder, names in _NAMES.items() for name in names}

__all__ = sorted([*_FOLDERS, *_FOLDER_OF])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("gibbsformer")
    elif name in _FOLDER_OF:
        value = getattr(importlib.import_module(f".{_FOLDER_OF[name]}", __name__), name)
    elif name in _FOLDERS:
        return importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in ("evidence",):
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """``gf.evidence`` is the function, although the import system sets the attribute to the folder of that name."""

    @property
    def evidence(self):
        return __getattr__("evidence")

    @evidence.setter
    def evidence(self, folder):
        pass


sys.modules[__name__].__class__ = _Package
