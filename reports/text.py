"""Findings as plain text: what the command line prints."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..sampler.convergence import MIN_DRAWS

_MOST_ROWS, _MOST_COLUMNS = 60, 12  # of order parameters in a text


def render_theory(found: dict[str, Any]) -> str:
    """``theory_findings`` as text."""
    state = "converged" if found["converged"] else f"NOT CONVERGED, {found['problem']}"
    lines = [
        f"theory at N = {found['widths']}, T = {found['temperature']:g}: {state}, "
        f"gradient {found['gradient_norm']:.1e}, smallest Hessian eigenvalue {found['hessian_min']:.3g}",
        f"action / N = {found['action']:.6f}    {_top(found['U_a'])}",
        "",
        *_order_parameter(np.array(found["U_1"]), found["paths"]),
    ]
    for title, scores in _scores(found):
        lines += ["", f"{title}   theory {scores['theory']:.3f}   GP limit {scores['gp']:.3f}"]
    return "\n".join(lines)


def _order_parameter(U_1: np.ndarray, paths: list[str]) -> list[str]:
    """U_1 as a small matrix, averaged over several outputs; of many paths its largest entries."""
    title, H, m = "U_1 over pairs of paths", len(paths), len(U_1) // len(paths)
    if m > 1:
        title += f", mean over {m} outputs"
        U_1 = np.einsum("haga->hg", U_1.reshape(H, m, H, m)) / m
    if H <= _MOST_COLUMNS:
        return [title, matrix(U_1, paths)]
    upper = np.transpose(np.triu_indices(H))
    largest = upper[np.argsort(-np.abs(U_1[tuple(upper.T)]))[:_MOST_ROWS]]
    names = [f"{paths[i]}, {paths[j]}" for i, j in largest]
    wide = max(map(len, names))
    rows = [f"{name:{wide}} {U_1[i, j]:9.4f}" for name, (i, j) in zip(names, largest, strict=True)]
    return [f"{title}: the largest {len(rows)} of {len(upper)} entries", *rows]


def _top(U_a) -> str:
    """U_a, or the trace of that of several outputs."""
    return f"U_a = {U_a:.4f}" if np.ndim(U_a) == 0 else f"trace of U_a = {np.trace(U_a):.4f}"


def render_run(found: dict[str, Any]) -> str:
    """``run_findings`` as text."""
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
    for title, a in _scores(found):
        off = found["sampled_minus"]["theory"]
        lines += [
            f"{title}   theory {a['theory']:.3f}   sampled {a['sampled']:.3f}   GP limit {a['gp']:.3f}",
            f"sampled minus theory {off['value']:+.3f} +- {off['monte_carlo']:.3f} (Monte Carlo) "
            f"+- {off['test_set']:.3f} (finite test set)",
        ]
    rows, left_out = _telling(found["order_parameters"])
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
    if left_out:
        lines.append(f"{left_out} other entries: --json or gf.compare shows all")
    return "\n".join([*lines, "", *_verdict(verdict)])


def render_own(found: dict[str, Any]) -> str:
    """``own_findings`` as text."""
    verdict, steps = found["convergence"], found.get("gradients_per_draw")
    lines = [
        f"{found['kernel']}: {found['chains']} chains x {found['draws']} draws after {found['warmup']} warm-up, "
        + found["posterior"]
        + ("" if steps is None else f", {steps:.0f} gradients a draw")
    ]
    lines += [f"{title}   {a['sampled']:.3f} +- {a['sampled_error']:.3f}" for title, a in _scores(found)]
    rows = found["monitored"]
    if len(rows) > _MOST_ROWS:
        rows = sorted(rows, key=lambda row: row["ess_bulk"])[:_MOST_ROWS]
    width = max(len(row["entry"]) for row in rows)
    lines += ["", f"{'monitored':{width}}  {'mean':>9} {'MCSE':>8} {'sd':>9} {'ESS':>6} {'R-hat':>6}"]
    lines += [
        f"{r['entry']:{width}}  {r['mean']:9.4f} {r['mcse']:8.4f} {r['sd']:9.4f} {r['ess_bulk']:6.0f} {r['rhat']:6.3f}"
        for r in rows
    ]
    if left_out := len(found["monitored"]) - len(rows):
        lines.append(f"{left_out} other entries, of more effective draws: --json shows all")
    return "\n".join([*lines, "", *_verdict(verdict)])


def _verdict(verdict: dict[str, Any]) -> list[str]:
    """Convergence in a line, and a line for each problem."""
    numbers = (
        f"largest R-hat {verdict['rhat']:.3f} (limit {verdict['rhat_limit']:.3f}), "
        f"minimum ESS {verdict['ess_bulk']:.0f}, {verdict['divergences']} divergences"
    )
    if verdict["longest_stay"] > 1:
        numbers += f", at most {verdict['longest_stay']} draws at one point"
    return [numbers, *([f"! {problem}" for problem in verdict["problems"]] or ["converged"])]


def _telling(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """The rows with the largest values and those with the fewest effective draws, if there are too many to read."""
    if len(rows) <= _MOST_ROWS:
        return rows, 0
    order = range(len(rows))
    largest = sorted(order, key=lambda i: -abs(rows[i]["sampled"]))[: _MOST_ROWS // 2]
    worst = sorted(order, key=lambda i: rows[i]["ess"])[: _MOST_ROWS // 4]
    kept = sorted({*largest, *worst})
    return [rows[i] for i in kept], len(rows) - len(kept)


def _scores(found) -> list[tuple[str, dict[str, float]]]:
    """Test scores among findings, with a title: none without a test set."""
    titles = {"accuracy": "test accuracy", "r_squared": "test R^2"}
    return [(title, found[name]) for name, title in titles.items() if name in found]


def matrix(values: np.ndarray, names) -> str:
    """A small matrix with row and column names."""
    wide = max(len(name) for name in names)
    head = " " * wide + "".join(f" {name:>{max(9, len(name))}}" for name in names)
    rows = [
        f"{name:>{wide}}" + "".join(f" {v:{max(9, len(n))}.4f}" for v, n in zip(row, names, strict=True))
        for name, row in zip(names, values, strict=True)
    ]
    return "\n".join([head, *rows])


def render_evidence(found: dict[str, Any]) -> str:
    """``evidence_findings`` as text."""
    lines = [
        f"evidence at N = {found['widths']}, T = {found['temperature']:g}, {len(found['paths'])} paths: "
        + _how_found(found),
        f"log evidence   {found['log_evidence']:.3f} +- {found['error']:.3f}"
        + (
            f"   by thermodynamic integration {found['thermodynamic']:.3f} +- {found['thermodynamic_error']:.3f}"
            if found["method"] == "smc"
            else ""
        ),
    ]
    lines += [f"{title}  theory {scores['theory']:.3f}" for title, scores in _scores(found)]
    if not found["agrees"]:
        listed = ", ".join(f"{value:.2f}" for value in found["repeats"])
        lines.append(f"! replicates gave {listed}: they differ by more than their errors imply, use more particles")
    return "\n".join(lines)


def _how_found(found: dict[str, Any]) -> str:
    if found["method"] == "importance":
        return (
            f"{len(found['repeats'])} x {found['particles']} importance weights, Pareto k {found['pareto_k']:.2f}, "
            f"ESS {found['ess'][0]:.0f} each"
        )
    return f"{len(found['repeats'])} replicates of {found['particles']} particles, {len(found['betas']) - 1} beta steps"


def render_inspection(found: dict[str, Any]) -> str:
    """``inspection`` as text."""
    s = found["settings"]
    about = ", ".join(f"{k} {v}" for k, v in s["about"].items() if k in ("task", "seed", "variant"))
    lines = [
        found["file"],
        f"kernel      {s['kernel']} {s['options']}",
        f"network     {s['network']}" if "network" in s else f"model       {_own(s)}",
        f"problem     temperature {s.get('temperature', float('nan')):g}"
        + (f", {about}" if about else "")
        + _labels(s.get("classes")),
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


def _own(settings) -> str:
    """The class of a posterior that is no network's; of a ``gf.Model`` its weights and functions."""
    model = settings.get("model")
    if not isinstance(model, dict):
        return settings.get("posterior", "unknown")
    arrays = ", ".join(f"{name} {shape}" for name, shape in model["shapes"])
    return f"{arrays}; forward {model['functions']['forward'].get('function') or model['functions']['forward']['lost']}"


def _labels(classes) -> str:
    """How labels were read, where they are not -1 and +1; files of before do not say."""
    if classes is None or tuple(classes) == (-1, 1):
        return ""
    return f", labels {classes[0]} as -1 and {classes[1]} as +1" if classes else ", real labels"


def _why_unfinished(settings) -> str:
    reasons = {"until": "stopped: ESS and R-hat as asked", "time": "stopped: time budget", "interrupt": "interrupted"}
    return f"  ({reasons.get(settings.get('ended'), 'unfinished, or still running')})"
