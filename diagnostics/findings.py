"""What theories and runs found, in one dictionary of plain values each: what the command line and reports print."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..models.records import entry_labels
from ..sampler import Run
from ..sampler.convergence import MIN_DRAWS, convergence, moments_of
from ..theory import Theory
from .compare import compare
from .predictor import Score, predict, score, score_difference


def theory_findings(theory: Theory, gp: Theory, test=None) -> dict[str, Any]:
    """Plain values of a theory and its GP limit; ``test`` is (inputs, labels) or None."""
    network = theory.posterior.network
    result: dict[str, Any] = {
        "widths": list(network.widths),
        "heads": list(network.heads),
        "temperature": theory.posterior.temperature,
        "paths": list(theory.train.path_names),
        "entries": _entries(theory),
        "U_a": np.asarray(theory.U_a).tolist(),
        **{f"U_{l}": u.tolist() for l, u in enumerate(theory.U, start=1)},
        "action": theory.action,
        "gradient_norm": theory.gradient_norm,
        "hessian_min": theory.hessian_min,
        "converged": theory.converged,
        "problem": theory.problem,
    }
    if test is not None:
        found = {name: score(predict(t, test[0]), test[1]) for name, t in (("theory", theory), ("gp", gp))}
        result |= _scores(found)
    return result


def _entries(theory: Theory) -> list[str]:
    """Names of the rows of U_1."""
    posterior = theory.posterior
    return list(entry_labels(posterior.network, theory.train.path_names, posterior.classes or ())[0])


def run_findings(run: Run, theory: Theory, gp: Theory) -> dict[str, Any]:
    """Plain values of a run compared with the theory: settings, test score, order parameters, convergence."""
    verdict = convergence(run)
    result: dict[str, Any] = {
        "kernel": run.settings["kernel"],
        "chains": run.chains,
        "warmup": run.settings["warmup"],
        "draws": run.draws,
        "widths": list(run.posterior.network.widths),
        "temperature": run.posterior.temperature,
        "convergence": verdict._asdict() | {"converged": verdict.converged, "problems": list(verdict.problems)},
        "order_parameters": compare(run, theory).reset_index().to_dict("records"),
    }
    if "n_steps" in run.stats:
        result["leapfrog_steps_per_draw"] = float(np.mean(np.asarray(run.stats["n_steps"])))
    if run.test is not None:
        inputs, labels = run.test
        predictions = {"theory": predict(theory, inputs), "sampled": predict(run, inputs), "gp": predict(gp, inputs)}
        found = {name: score(p, labels) for name, p in predictions.items()}
        result |= _scores(found)
        result["sampled_minus"] = {
            name: score_difference(predictions["sampled"], predictions[name], labels)._asdict()
            for name in ("theory", "gp")
        }
    return result


def own_findings(run: Run) -> dict[str, Any]:
    """Plain values of a run whose posterior has no theory: settings, test score, monitored variables, convergence."""
    verdict = convergence(run)
    result: dict[str, Any] = {
        "kernel": run.settings["kernel"],
        "chains": run.chains,
        "warmup": run.settings["warmup"],
        "draws": run.draws,
        "posterior": repr(run.posterior),
        "temperature": getattr(run.posterior, "temperature", None),
        "convergence": verdict._asdict() | {"converged": verdict.converged, "problems": list(verdict.problems)},
        "monitored": [row for name in run.monitored for row in entries(run, name)],
    }
    if "n_steps" in run.stats:
        result["gradients_per_draw"] = float(np.mean(np.asarray(run.stats["n_steps"])))
    if run.test is not None and hasattr(run.posterior, "predictions"):
        found = score(predict(run, run.test[0]), run.test[1])
        result |= {found.name: {"sampled": found.value, "sampled_error": found.error}}
    return result


def entries(run: Run, name: str) -> list[dict[str, Any]]:
    """Posterior mean, sd and diagnostics of each entry of a monitored variable, of a symmetric one of one triangle."""
    found = moments_of(run, name)
    samples = np.asarray(run.variables[name], np.float64)
    shape, (described, labels) = samples.shape[2:], run.records
    whole = len(found["mean"]) == np.prod(shape, dtype=int)
    indices = list(np.ndindex(*shape)) if whole else list(zip(*np.triu_indices(shape[0]), strict=True))
    axes = [labels[dim] if dim in labels else np.arange(n) for dim, n in zip(described[name].dims, shape, strict=True)]
    rows = []
    for i, index in enumerate(indices):
        label = ", ".join(str(axis[k]) for axis, k in zip(axes, index, strict=True))
        row = {quantity: float(values[i]) for quantity, values in found.items()}
        rows.append({"entry": f"{name}[{label}]" if label else name, "sd": float(samples[:, :, *index].std()), **row})
    return rows


def _scores(found: dict[str, Score]) -> dict[str, dict[str, float]]:
    """Scores under the name of their kind, ``accuracy`` or ``r_squared``."""
    values = {name: s.value for name, s in found.items()}
    errors = {f"{name}_error": s.error for name, s in found.items() if name == "sampled"}
    return {next(iter(found.values())).name: values | errors}


def inspection(run: Run) -> dict[str, Any]:
    """What a sample file holds: how it was made, how far it got, sizes, and whether it converged."""
    sizes = {
        name: {"shape": list(v.shape), "dtype": str(v.dtype), "bytes": int(np.prod(v.shape) * v.dtype.itemsize)}
        for name, v in (*run.variables.items(), *run.stats.items())
    }
    verdict = convergence(run) if run.draws >= MIN_DRAWS else None
    return {
        "file": run.path,
        "settings": run.settings,
        "draws": run.draws,
        "complete": run.draws == run.settings["draws"],
        "convergence": None if verdict is None else verdict._asdict() | {"converged": verdict.converged},
        "variables": sizes,
    }
