"""The main job in one call: the paper's hidden Markov chain task, theory beside samples, as a table and figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jax

from . import tasks, theory
from ._sampling import open as open_run
from ._sampling import sample
from .diagnostics import accuracy, figures, predict
from .diagnostics.findings import run_findings
from .models import checks

WIDTHS = (10, 30, 50, 100, 300, 500, 1000)  # figure 2c
GP_LINES = {"all paths": None, "good path": ("good",), "good + denoising": ("good", "denoising")}


def demo(out: str | Path, seed: int = 0, chains: int = 2, warmup: int = 500, draws: int = 1000, quiet: bool = False):
    """Sample the task of figure 2c at N = 10, T = 0.01 with NUTS and set it beside the theory.

    Args:
        out: folder for ``run.h5`` and the figures; made if missing. A finished run of the same settings is reused.
        seed: sets task and chains.
        chains, warmup, draws: of NUTS in weight space.
        quiet: no progress line.

    Returns:
        (findings as in ``diagnostics.findings``, files written).
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checks.InputError(f"out={str(out)!r} cannot be a folder ({error.strerror}): choose another") from None
    key = jax.random.key(seed)
    task = tasks.hidden_markov_chain(key=key)
    test = task.test_set
    assert test is not None  # this task always has one
    inputs, labels = test
    posteriors = {N: task.posterior(N) for N in WIDTHS}
    solved = {N: theory.solve(p) for N, p in posteriors.items()}
    gp = {name: theory.gp(posteriors[10], paths) for name, paths in GP_LINES.items()}
    score = lambda t: accuracy(predict(t, inputs), labels)  # noqa: E731

    run = _finished_or_new(
        folder / "run.h5", posteriors[10], jax.random.fold_in(key, 1), chains, warmup, draws,
        test=test, progress=not quiet, about={"task": "hmm", "seed": seed, **task.settings},
    )  # fmt: skip
    found: dict[str, Any] = run_findings(run, solved[10], gp["all paths"])
    a = found["accuracy"]
    files = figures.save(
        figures.accuracy_figure(
            theory=(WIDTHS, [score(solved[N]) for N in WIDTHS]),
            gp={name: score(t) for name, t in gp.items()},
            weights=figures.Points([10], [a["sampled"]], [a["sampled_error"]]),
        ),
        folder,
        "accuracy",
    )
    files += figures.save(
        figures.order_parameter_figure(
            {
                "theory, $N=10$": solved[10].U[0],
                "NUTS, $N=10$": run.order_parameters.U[0].mean((0, 1)),
                "theory, $N=1000$": solved[1000].U[0],
            },
            task.train_inputs.path_names,
        ),
        folder,
        "order_parameters",
    )
    return found, [folder / "run.h5", *files]


def _finished_or_new(path, posterior, key, chains, warmup, draws, **options):
    """The run at ``path`` if it is complete and of the same settings and versions; otherwise sample it anew."""
    wanted = {"chains": chains, "warmup": warmup, "draws": draws, "about": options["about"]}
    if path.exists():
        try:
            run = open_run(path)
            same = all(run.settings.get(name) == value for name, value in wanted.items())
            if same and run.draws == draws:
                print(f"using the finished run in {path}", file=sys.stderr)
                return run
        except checks.InputError:
            pass  # not a readable run: it is the demo's own file name, so make it anew
    return sample(
        posterior, "nuts", key=key, chains=chains, warmup=warmup, draws=draws, store=path, overwrite=True, **options
    )
