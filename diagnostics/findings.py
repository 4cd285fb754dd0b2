"""What a run found, in one dictionary of plain values: accuracies, order parameters beside the theory's, verdict.

The command line prints it as text for people or as JSON for programs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..sampler import Run
from ..sampler.convergence import MIN_DRAWS, convergence
from ..theory import Theory
from .compare import compare
from .predictor import accuracy, accuracy_error, predict


def theory_findings(theory: Theory, gp: Theory, test=None) -> dict[str, Any]:
    """Plain values of a theory and its GP limit; ``test`` is (inputs, labels) or None."""
    network = theory.posterior.network
    result: dict[str, Any] = {
        "widths": list(network.widths),
        "heads": list(network.heads),
        "temperature": theory.posterior.temperature,
        "paths": list(theory.train.path_names),
        "U_a": theory.U_a,
        **{f"U_{l}": u.tolist() for l, u in enumerate(theory.U, start=1)},
        "action": theory.action,
        "gradient_norm": theory.gradient_norm,
        "hessian_min": theory.hessian_min,
        "converged": theory.converged,
        "problem": theory.problem,
    }
    if test is not None:
        result["accuracy"] = {
            name: accuracy(predict(t, test[0]), test[1]) for name, t in (("theory", theory), ("gp", gp))
        }
    return result


def run_findings(run: Run, theory: Theory, gp: Theory) -> dict[str, Any]:
    """Plain values of a run beside the theory: settings, accuracy, order parameters, convergence."""
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
        sampled = predict(run, inputs)
        result["accuracy"] = {
            "theory": accuracy(predict(theory, inputs), labels),
            "sampled": accuracy(sampled, labels),
            "sampled_error": accuracy_error(sampled, labels),
            "gp": accuracy(predict(gp, inputs), labels),
        }
    return result


def render_theory(found: dict[str, Any]) -> str:
    """Text for people of ``theory_findings``."""
    state = "converged" if found["converged"] else f"NOT CONVERGED, {found['problem']}"
    lines = [
        f"theory at N = {found['widths']}, T = {found['temperature']:g}: {state}, "
        f"gradient {found['gradient_norm']:.1e}, least Hessian eigenvalue {found['hessian_min']:.3g}",
        f"action / N = {found['action']:.6f}    U_a = {found['U_a']:.4f}",
        "",
        "U_1 over pairs of paths",
        matrix(np.array(found["U_1"]), found["paths"]),
    ]
    if "accuracy" in found:
        lines += [
            "",
            f"test accuracy   theory {found['accuracy']['theory']:.3f}   GP limit {found['accuracy']['gp']:.3f}",
        ]
    return "\n".join(lines)


def render_run(found: dict[str, Any]) -> str:
    """Text for people of ``run_findings``."""
    verdict = found["convergence"]
    lines = [
        f"{found['kernel']}: {found['chains']} chains x {found['draws']} draws after {found['warmup']} warm-up, "
        f"N = {found['widths']}, T = {found['temperature']:g}"
        + (
            f", {found['leapfrog_steps_per_draw']:.0f} leapfrog steps a draw"
            if "leapfrog_steps_per_draw" in found
            else ""
        )
    ]
    if "accuracy" in found:
        a = found["accuracy"]
        lines.append(
            f"test accuracy   theory {a['theory']:.3f}   sampled {a['sampled']:.3f} +- {a['sampled_error']:.3f}"
            f"   GP limit {a['gp']:.3f}"
        )
    rows = found["order_parameters"]
    width = max(len(row["entry"]) for row in rows)
    lines += [
        "",
        f"{'order parameter':{width}}  {'theory':>9} {'sampled':>9} {'MCSE':>8} {'z':>7} {'ESS':>6} {'R-hat':>6}",
    ]
    lines += [
        f"{r['entry']:{width}}  {r['theory']:9.4f} {r['sampled']:9.4f} {r['mcse']:8.4f} {r['z']:7.1f} "
        f"{r['ess']:6.0f} {r['rhat']:6.3f}"
        for r in rows
    ]
    lines += ["", f"largest R-hat {verdict['rhat']:.3f}, least ESS {verdict['ess_bulk']:.0f}"]
    lines[-1] += f", {verdict['divergences']} divergences"
    lines += [f"! {problem}" for problem in verdict["problems"]] or ["converged"]
    return "\n".join(lines)


def matrix(values: np.ndarray, names) -> str:
    """A small matrix with row and column names."""
    wide = max(len(name) for name in names)
    head = " " * wide + "".join(f" {name:>{max(9, len(name))}}" for name in names)
    rows = [
        f"{name:>{wide}}" + "".join(f" {v:{max(9, len(n))}.4f}" for v, n in zip(row, names, strict=True))
        for name, row in zip(names, values, strict=True)
    ]
    return "\n".join([head, *rows])


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


def render_inspection(found: dict[str, Any]) -> str:
    """Text for people of ``inspection``."""
    s = found["settings"]
    about = ", ".join(f"{k} {v}" for k, v in s["about"].items() if k in ("task", "seed", "variant"))
    lines = [
        found["file"],
        f"kernel      {s['kernel']} {s['options']}",
        f"network     {s['network']}",
        f"problem     temperature {s['temperature']:g}" + (f", {about}" if about else ""),
        f"chains      {s['chains']}, warm-up {s['warmup']}",
        f"draws       {found['draws']} of {s['draws']}" + ("" if found["complete"] else _why_unfinished(s)),
        f"made        {s['created']}, {s['precision']} on {s['device']}",
        "versions    " + ", ".join(f"{k} {v}" for k, v in s["versions"].items()),
        "",
        *(
            f"{name:16} {v['shape']!s:28} {v['dtype']:8} {v['bytes'] / 2**20:9.2f} MiB"
            for name, v in found["variables"].items()
        ),
        "",
    ]
    if "verified" in found:
        v = found["verified"]
        lines += [f"verified: {v['datasets']} data sets, {v['checked_bytes'] / 2**20:.1f} MiB with checksums", ""]
    verdict = found["convergence"]
    if verdict is None:
        lines.append(f"fewer than {MIN_DRAWS} draws: convergence not judged")
    else:
        lines += [f"! {problem}" for problem in verdict["problems"]] or ["converged"]
    return "\n".join(lines)


def _why_unfinished(settings) -> str:
    reasons = {"until": "stopped: ESS and R-hat as asked", "time": "stopped: time budget", "interrupt": "interrupted"}
    return f"  ({reasons.get(settings.get('ended'), 'unfinished, or still running')})"
