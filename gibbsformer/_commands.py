"""What each verb of the command line does with its options: ``__main__`` reads them, these compute and print.

Each returns the exit code. Imports are inside, so that ``--help`` and bad options answer at once.
"""

from __future__ import annotations

import json
import sys


def _until(options):
    from .diagnostics import until

    asked = {"ess": options.until_ess, "rhat": options.until_rhat, "seconds": options.max_seconds}
    return until(**asked) if any(value is not None for value in asked.values()) else None


def _progress(options):
    if options.json:
        return False
    return False if options.quiet else "json" if options.progress == "json" else True


def _option_values(pairs) -> dict:
    """NAME=VALUE as Python values; a word that is none stays text."""
    import ast

    from .core.checks import InputError

    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"option={pair!r} has no value: write --option NAME=VALUE")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def demo(options) -> int:
    from ._demo import demo, render

    found, files = demo(
        options.out, options.seed, options.chains, options.warmup, options.draws, options.quiet or options.json
    )
    print(json.dumps(found | {"files": [str(f) for f in files]}) if options.json else render(found))
    if not options.json:
        print("\nwritten: " + ", ".join(str(f) for f in files))
    return 0


def _problem(options):
    from . import tasks

    task = tasks.by_name(options.task, options.seed)
    return task, task.posterior(options.width, options.temperature)


def sample(options) -> int:
    import jax

    from . import sample
    from .core import files
    from .sampler import resolve_kernel

    kernel = resolve_kernel(options.kernel, _option_values(options.option))
    files.output_file("out", options.out, options.overwrite or options.distributed)
    _join(options)
    task, posterior = _problem(options)
    run = sample(
        posterior,
        kernel,
        key=jax.random.fold_in(jax.random.key(options.seed), 1),
        chains=options.chains,
        warmup=options.warmup,
        draws=options.draws,
        thin=options.thin,
        chains_at_once=options.chains_at_once,
        until=_until(options),
        init=options.init,
        store=options.out,
        keep=options.keep,
        test=task.test_set,
        precision=options.precision,
        overwrite=options.overwrite,
        progress=_progress(options),
        about={"task": options.task, "seed": options.seed, **task.settings},
        distributed=options.distributed,
    )
    return _sampled(run, options)


def _join(options) -> None:
    """Become one of several processes, if asked to, before anything starts XLA."""
    from .core.checks import InputError
    from .sampler.processes import join

    if options.distributed:
        join(options.coordinator, options.process, options.processes)
        return
    for name in ("coordinator", "process", "processes"):
        if getattr(options, name) is not None:
            raise InputError(f"--{name} {getattr(options, name)} is for --distributed: give that too, or leave it out")


def _sampled(run, options) -> int:
    """Print what a run found; the exit code."""
    found = _print_run(run, options)
    if run.settings.get("ended") == "interrupt":
        print(f"gibbsformer: interrupted; continue with: gibbsformer resume {run.path}", file=sys.stderr)
        return 130
    return 3 if options.require_converged and not found["convergence"]["converged"] else 0


def _print_run(run, options):
    from . import theory
    from .diagnostics.findings import render_run, run_findings

    found = run_findings(run, theory.solve(run.posterior), theory.gp(run.posterior))
    print(json.dumps(found) if options.json else render_run(found))
    return found


def theory(options) -> int:
    from . import theory
    from .diagnostics.findings import render_theory, theory_findings

    task, posterior = _problem(options)
    found = theory_findings(theory.solve(posterior), theory.gp(posterior), task.test_set)
    print(json.dumps(found) if options.json else render_theory(found))
    return 0


def figure(options) -> int:
    from .figures import figure

    files = figure(
        options.name,
        options.out,
        seeds=options.seeds,
        widths=options.widths,
        temperatures=options.temperatures,
        examples=options.examples,
        draws=options.draws,
        data=options.data,
        network=options.network,
        progress=not (options.quiet or options.json),
        quick=options.quick,
    )
    shown = [str(file) for file in files]
    print(json.dumps({"files": shown}) if options.json else "written: " + ", ".join(shown))
    return 0


def evidence(options) -> int:
    import jax

    from . import evidence
    from .evidence.selection import evidence_findings, render_evidence

    task, posterior = _problem(options)
    key = jax.random.fold_in(jax.random.key(options.seed), 1)
    result = evidence(posterior, key=key, particles=options.particles, repeats=options.repeats)
    found = evidence_findings(result, task.test_set)
    print(json.dumps(found) if options.json else render_evidence(found))
    return 0


def sweep(options) -> int:
    from .sweeps import sweep
    from .sweeps.sweep import LIMIT

    found = sweep(
        options.plan,
        options.out,
        workers=options.workers,
        scheduler=options.scheduler,
        gpus_per_point=options.gpus_per_point,
        limit=None if options.yes else LIMIT,
        keep_samples=not options.discard_samples,
        progress=not (options.quiet or options.json),
    )
    if options.json:
        print(json.dumps(found._asdict() | {"folder": str(found.folder)}))
    else:
        print(found.render())
    return 1 if found.failed else 0


def bench(options) -> int:
    from .benchmarks import Options, bench
    from .benchmarks.suite import render

    asked = Options(options.quick, options.data, options.network)
    found = bench(options.suites, options.out, minutes=options.minutes, options=asked)
    print(json.dumps(found) if options.json else "\n\n".join(render(suite) for suite in found))
    return 1 if any(suite["problem"] or suite["slower"] for suite in found) else 0


def compare(options) -> int:
    from .sampler import open as open_run

    _print_run(open_run(options.file), options)
    return 0


def resume(options) -> int:
    from .sampler import resume

    run = resume(options.file, options.draws, until=_until(options), progress=_progress(options))
    return _sampled(run, options)


def report(options) -> int:
    from .reports import report

    report(options.files, options.out)
    return _written(options)


def inspect(options) -> int:
    from .diagnostics.findings import inspection, render_inspection
    from .sampler import open as open_run
    from .store import verify

    found = inspection(open_run(options.file))
    if options.verify:
        found["verified"] = verify(options.file)._asdict()
    print(json.dumps(found) if options.json else render_inspection(found))
    return 0


def merge(options) -> int:
    from .store import merge

    merge(options.files, options.out, options.overwrite)
    return _written(options)


def export(options) -> int:
    from .store import export

    export(
        options.file,
        options.out,
        options.variables,
        options.thin,
        options.mantissa_bits,
        options.compression,
        options.overwrite,
    )
    return _written(options)


def train(options) -> int:
    import jax

    from . import tasks, training
    from .core import checks

    trained = training.train(
        tasks.characters_by_name(options.data),
        training.CONFIGS[checks.nearest("config", options.config, training.CONFIGS)],
        key=jax.random.key(options.seed),
        steps=options.steps,
        out=options.out,
        resume=options.resume,
        patience=options.patience,
        progress=not (options.quiet or options.json),
    )
    found = {"step": trained.step, "accuracy": trained.accuracy, "file": options.out, "settings": trained.settings}
    print(json.dumps(found) if options.json else _render_trained(trained))
    return 0 if options.json else _written(options)


def _render_trained(trained) -> str:
    lines = [
        f"{trained.step} steps on {trained.settings['training characters']['source']}; accuracy on new episodes of"
    ]
    for name, accuracy in trained.accuracy.items():
        characters = trained.settings[f"{name} characters"]["characters"]
        error = trained.accuracy_error[name]
        lines.append(f"  {characters:5d} {name.replace('_', '-')} characters   {accuracy:.3f} +- {error:.3f}")
    return "\n".join(lines)


def _written(options) -> int:
    print(json.dumps({"file": options.out}) if options.json else f"written: {options.out}")
    return 0
