"""What a report says of each run, as plain values and drawings; ``page`` lays it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core import checks
from ..diagnostics import alignment, head_scores
from ..diagnostics.findings import own_findings, run_findings
from ..heads import path_lengths
from ..models import Posterior
from ..models.records import entry_labels
from ..sampler import Run
from ..sampler.convergence import ESS_LIMIT, MIN_DRAWS
from ..theory import Theory, gp, solve
from . import chains, drawing

_SCORES = {"accuracy": "accuracy", "r_squared": "R²"}
MOST_ROWS = 200  # of monitored entries, those with the fewest effective draws
MOST_PATHS = 64  # larger matrices are neither legible as a map nor as a table of k(k+1)/2 rows


def sections(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One dictionary per run: text, tables as rows, drawings as markup.

    Raises:
        ValueError: a run with fewer draws than its convergence can be judged by.
    """
    for run in runs:
        if run.draws < MIN_DRAWS:
            raise checks.InputError(
                f"{name_of(run)} has {run.draws} draws: a report needs {MIN_DRAWS} or more, continue with gf.resume"
            )
    return [section(run, number) for number, run in enumerate(runs, start=1)]


def section(run: Run, number: int = 1) -> dict[str, Any]:
    """Everything a report says of one run."""
    if not isinstance(run.posterior, Posterior):
        return _own_section(run, number)
    theory, limit = solve(run.posterior), gp(run.posterior)
    found = run_findings(run, theory, limit)
    U_a, U = run.order_parameters
    finite = all(
        np.isfinite(draws).all() for draws in (U_a, *U)
    )  # otherwise the convergence section reports it, and the rest is shown
    shown = [r for r in found["order_parameters"] if _size(run, r["entry"]) <= MOST_PATHS]
    return {
        "id": f"run-{number}",
        "name": name_of(run),
        "problem": _problem(run),
        "findings": found,
        "verdict": verdict(found["convergence"], run),
        "theory_problem": theory.problem,
        "score": _SCORES["accuracy" if "accuracy" in found else "r_squared"],
        "scores": _score_rows(found),
        "rows": shown,
        "rows_left_out": len(found["order_parameters"]) - len(shown),
        "maps": _maps(run, theory, number),
        "alignment": _alignment(_sources(run, finite, "GP limit", limit)) if run.posterior.has_examples else None,
        "heads": _head_bars(_sources(run, finite, "large-N theory", theory)),
        "lengths": lengths(run, run.test) if finite else None,
        "chains": chains.plots(run) if finite else None,
        "provenance": provenance(run),
    }


def _own_section(run: Run, number: int) -> dict[str, Any]:
    """What a report says of a run whose posterior has no theory: no comparison, kernels or heads."""
    found = own_findings(run)
    settings, facts = run.settings, {"test": f"{len(run.test[1])} examples"} if run.test else {}
    rows = sorted(found["monitored"], key=lambda row: row["ess_bulk"])[:MOST_ROWS]
    kept = {row["entry"] for row in rows}
    score = next((found[name] for name in _SCORES if name in found), None)
    sampled = f"{settings['kernel']}, {run.chains} chains × {run.draws} draws after {settings['warmup']} of warm-up"
    return {
        "id": f"run-{number}",
        "name": name_of(run),
        "problem": [("posterior", found["posterior"]), *facts.items(), ("sampler", sampled)],
        "findings": found,
        "verdict": verdict(found["convergence"], run),
        "score": next((text for name, text in _SCORES.items() if name in found), ""),
        "scores": [] if score is None else [_sampled_row(score)],
        "monitored": [row for row in found["monitored"] if row["entry"] in kept],
        "rows_left_out": len(found["monitored"]) - len(rows),
        "lengths": None,
        "chains": chains.plots(run) if all(np.isfinite(row["mean"]) for row in found["monitored"]) else None,
        "provenance": provenance(run),
    }


def name_of(run: Run) -> str:
    """The name of a run: its file's, or that it has none."""
    return Path(run.path).name if run.path else "run in memory"


def verdict(convergence: dict[str, Any], run: Run) -> str:
    """Whether the chains converged, in one sentence with the numbers and limits behind it."""
    asked = run.settings.get("until") or {}
    numbers = (
        f"largest R-hat {convergence['rhat']:.3f} (limit {convergence['rhat_limit']:.4g}), "
        f"minimum bulk ESS {convergence['ess_bulk']:.0f} (limit {asked.get('ess') or ESS_LIMIT:g}), "
        f"divergences: {convergence['divergences']}"
        + (f", at most {stay} draws at one point" if (stay := convergence["longest_stay"]) > 1 else "")
    )
    return f"{'The chains converged' if convergence['converged'] else 'The chains have NOT converged'}: {numbers}."


def provenance(run: Run) -> list[tuple[str, str]]:
    """How a run was made, as (setting, value) rows: all that its file records."""
    rows = [("file", run.path or "in memory")]
    for name, value in run.settings.items():
        if isinstance(value, dict) and name != "report":
            rows += [(f"{name}: {inner}", _text(v)) for inner, v in value.items()]
        elif name != "report":  # the verdict at the end of sampling, judged again above
            rows.append((name, _text(value)))
    return rows


def _problem(run: Run) -> list[tuple[str, str]]:
    network, s, classes = run.posterior.network, run.settings, run.posterior.classes
    about = {name: _text(value) for name, value in s.get("about", {}).items()}
    details = ", ".join(f"{name} {about[name]}" for name in ("variant", "seed") if name in about)
    task = about.get("task", "arrays of your own") + (f" ({details})" if details else "")
    return [
        ("task", task),
        (
            "examples",
            f"P = {run.posterior.examples}" + _reduced(run) + (f", {len(run.test[1])} for testing" if run.test else ""),
        ),
        ("labels", f"{len(classes)} classes, {_text(classes)}" if classes else "real values"),
        ("network", f"heads {_text(network.heads)}, widths {_text(network.widths)}, N₀ = {network.input_width}"),
        *([("outputs", str(network.outputs))] if network.outputs > 1 else []),
        *([("skip connections", f"strengths {_text(network.residual)}")] if any(network.skips) else []),
        ("prior variances", _text(network.variances)),
        ("temperature", f"{run.posterior.temperature:g}"),
        ("sampler", f"{s['kernel']}, {run.chains} chains × {run.draws} draws after {s['warmup']} of warm-up"),
        *_evidence(run),
    ]


def _evidence(run: Run) -> list[tuple[str, str]]:
    """The log evidence of a run whose proposals give one."""
    found = run.log_evidence
    if found.value is None:
        return []
    return [("log evidence", f"{found.value:.3f} ± {found.error:.2g} nats (Pareto k {found.pareto_k:.2f})")]


def lengths(source: Run | Theory, test=None) -> tuple[list[str], list[tuple[int, list[float]]]] | None:
    """Columns and rows of ``gf.path_lengths``, of a network with skip connections."""
    if not any(source.posterior.network.skips):
        return None
    table = path_lengths(source, test).table
    columns = [str(name).replace("_", " ") for name in table]
    return columns, [(int(length), row.tolist()) for length, row in zip(table.index, table.to_numpy(), strict=True)]


def _score_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Sampled score first; then what is compared with it, z in both errors together."""
    scores = found.get("accuracy") or found.get("r_squared")
    if scores is None:
        return []
    rows = [_sampled_row(scores)]
    for source, label in (("theory", "large-N theory"), ("gp", "GP limit")):
        difference = found["sampled_minus"][source]
        error = math.hypot(difference["monte_carlo"], difference["test_set"])
        z = difference["value"] / error if error > 0 else None
        rows.append({"source": label, "value": scores[source], "error": None, "difference": difference, "z": z})
    return rows


def _sampled_row(scores) -> dict[str, Any]:
    sampled = {"source": "sampled", "value": scores["sampled"], "error": scores["sampled_error"]}
    return sampled | {"difference": None, "z": None}


def _reduced(run: Run) -> str:
    """How many pseudo-examples stand for the examples, if they do."""
    found = run.posterior.reduction
    return f" as {len(found.y)} pseudo-examples" if len(found.y) < found.examples else ""


def _size(run: Run, entry: str) -> int:
    """Rows of the order parameter that an entry such as "U_1[good, good]" is of."""
    name = entry.partition("[")[0]
    return run.variables[name].shape[-1] if len(run.variables[name].shape) > 2 else 1


def _maps(run: Run, theory: Theory, number: int) -> list[dict[str, Any]]:
    labels = entry_labels(run.posterior.network, run.posterior.data.path_names, run.posterior.classes or ())
    found = []
    for l, (expected, draws) in enumerate(zip(theory.U, run.order_parameters.U, strict=True), start=1):
        if len(expected) > MOST_PATHS:
            continue
        pair = {"sampled": draws.mean((0, 1)), "theory": np.asarray(expected)}
        largest = max(float(np.abs(np.nan_to_num(u)).max()) for u in pair.values())
        names = list(labels[l - 1])
        found.append(
            {
                "layer": l,
                "svgs": [
                    drawing.heat_map(u, names, largest, f"U_{l}, {title}", f"map-{number}-{l}-{title}")
                    for title, u in pair.items()
                ],
            }
        )
    return found


def _sources(run: Run, finite: bool, label: str, theory: Theory) -> list[tuple[str, Run | Theory]]:
    """What is drawn side by side: a theory, and the run where its draws are numbers."""
    return [("run", run), (label, theory)] if finite else [(label, theory)]


def _alignment(sources) -> str:
    m = sources[0][1].posterior.network.outputs
    each = {
        name: np.mean([alignment(source, output=a if m > 1 else None).overlaps[:30] for a in range(m)], axis=0)
        for name, source in sources
    }
    averaged = ", mean over outputs" * (m > 1)
    return drawing.bars(each, [str(k) for k in range(1, 31)], f"principal component of the kernel{averaged}")


def _head_bars(sources) -> str:
    scores = {name: head_scores(source) for name, source in sources}
    names = [f"{layer}.{head}" for layer, head in next(iter(scores.values())).index]
    return drawing.bars({name: s.to_numpy() for name, s in scores.items()}, names, "layer.head")


def _text(value) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_text(v) for v in value)
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)
