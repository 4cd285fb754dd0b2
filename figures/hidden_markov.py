"""The hidden Markov chain task of figures 1 and 2 at T = 0.01: its theories and runs (docs/model.md, section 9a).

Exact posterior means come from the collapsed kernel; weight samples from ChEES with V_0 integrated out, which shares
nothing with it but the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

from .. import tasks, theory
from ..diagnostics import accuracy, accuracy_error, alignment, finite_width, predict
from ..sampler import ChEES, Collapsed, Run
from .options import Options
from .runs import Job

WIDTHS = (10, 30, 50, 100, 300, 500, 1000)
MAP_WIDTHS = (10, 100, 1000)
WEIGHT_WIDTHS = (10, 100)
NARROW = 10  # the width of what is shown at one width
GP_LINES: dict[str, dict[str, tuple[str, ...] | None]] = {
    "2c": {"all paths": None, "good path": ("good",), "good + denoising": ("good", "denoising")},
    "2e": {"all paths": None, "good path": ("good",)},
}
HEADS = {"2c": (("same-token", "random"), ("uniform", "random")), "2e": (("same-token", "uniform"), ("uniform",))}
EXAMPLES = 100
_CHAINS, _WARMUP, _DRAWS = 4, 100, 500


class HiddenMarkov:
    """Tasks, theories and runs by variant (``"2c"``, ``"2e"``) and seed; each is made once."""

    def __init__(self, folder: Path, options: Options):
        self.folder, self.options, self.suffix = folder, options, ""
        self.runs: dict[Path, Run] = {}
        self.task, self.theories = cache(self._task), cache(self._theories)

    @property
    def widths(self) -> tuple[int, ...]:
        """N of the horizontal axis."""
        return self.options.widths_or(WIDTHS)

    @property
    def map_widths(self) -> tuple[int, ...]:
        """N of the order parameters that are shown."""
        shown = tuple(N for N in self.widths if N in MAP_WIDTHS)
        return shown or self.widths[:3]

    @property
    def narrow(self) -> int:
        """The least N."""
        return min(self.options.widths or (NARROW,))

    def exact(self, variant: str, seed: int, N: int) -> Run:
        """The exact posterior."""
        return self.runs[self._exact(variant, seed, N).path]

    def weights(self, variant: str, seed: int, N: int) -> Run | None:
        """Samples of the weights, where there are any."""
        return self.runs.get(self._weights(variant, seed, N).path)

    def jobs(self, variant: str, widths: Sequence[int], weights: bool = False) -> list[Job]:
        """Runs of the exact posterior of every seed, and samples of weights at their widths."""
        found = [self._exact(variant, seed, N) for seed in self.options.seeds for N in widths]
        if weights:
            at = [N for N in widths if N in (WEIGHT_WIDTHS[:1] if self.options.quick else WEIGHT_WIDTHS)]
            found += [self._weights(variant, seed, N) for seed in self.options.seeds for N in at]
        return found

    def accuracies(self, variant: str) -> pd.DataFrame:
        """Rows seed, N: accuracy of theory, exact posterior, weight samples where there are any, and GP limits."""
        rows = []
        for seed in self.options.seeds:
            test, labels = self.task(variant, seed).test_set  # type: ignore[misc]  # this task has one
            solved = self.theories(variant, seed, self.widths)
            base = solved[self.widths[0]].posterior
            gp = {f"gp {name}": accuracy(predict(theory.gp(base, paths), test), labels)
                  for name, paths in GP_LINES[variant].items()}  # fmt: skip
            for N in self.widths:
                row = {"seed": seed, "N": N, "theory": accuracy(predict(solved[N], test), labels)}
                runs = {"exact": self.exact(variant, seed, N), "weights": self.weights(variant, seed, N)}
                for name, run in runs.items():
                    if run is not None:
                        found = predict(run, test)
                        row |= {name: accuracy(found, labels), f"{name}_error": accuracy_error(found, labels)}
                rows.append(row | gp)
        return pd.DataFrame(rows)

    def order_parameters(self, variant: str) -> tuple[pd.DataFrame, dict[str, dict[int, np.ndarray]]]:
        """(rows with the finite-width correction, "theory" and "samples" -> N -> U averaged over seeds)."""
        rows: list[dict[str, Any]] = []
        means: dict[str, dict[int, np.ndarray]] = {"theory": {}, "samples": {}}
        for seed in self.options.seeds:
            solved = self.theories(variant, seed, self.widths)
            for N in self.map_widths:
                run = self.exact(variant, seed, N)
                found = finite_width(run, solved[N])
                columns = zip(
                    found.entries, found.saddle, found.mean, found.mcse, np.diag(found.covariance),
                    np.diag(found.saddle_covariance), strict=True,
                )  # fmt: skip
                about = {"correction": found.correction, "correction_error": found.correction_error}
                rows += [
                    {"seed": seed, "N": N, "entry": entry, "theory": u, "exact": mean, "mcse": mcse, "sd": np.sqrt(v),
                     "theory_sd": np.sqrt(w), **about}
                    for entry, u, mean, mcse, v, w in columns
                ]  # fmt: skip
                for kind, U in (("theory", solved[N].U[0]), ("samples", run.order_parameters.U[0].mean((0, 1)))):
                    means[kind][N] = means[kind].get(N, 0) + U / len(self.options.seeds)
        return pd.DataFrame(rows), means

    def overlaps(self, variant: str) -> pd.DataFrame:
        """Rows seed, kernel, component: eigenvalue and overlap with the labels."""
        N = self.narrow
        rows = []
        for seed in self.options.seeds:
            solved = self.theories(variant, seed, (N,))[N]
            for name, source in ((f"$N={N}$", solved), ("GP limit", theory.gp(solved.posterior))):
                found = alignment(source)
                rows += [
                    {"seed": seed, "kernel": name, "component": k + 1, "eigenvalue": found.eigenvalues[k],
                     "overlap": found.overlaps[k]} for k in range(len(found.overlaps))
                ]  # fmt: skip
        return pd.DataFrame(rows)

    def _task(self, variant: str, seed: int) -> tasks.Task:
        examples = self.options.examples or EXAMPLES
        return tasks.hidden_markov_chain(key=jax.random.key(seed), variant=variant, examples=examples)

    def _theories(self, variant: str, seed: int, widths: tuple[int, ...]) -> dict[int, theory.Theory]:
        task = self.task(variant, seed)
        solved = theory.grid(task.posterior(widths[0]), widths, (task.temperature,))
        return {N: solved[i, 0] for i, N in enumerate(widths)}

    def _exact(self, variant: str, seed: int, N: int) -> Job:
        quick = self.options.suffix
        draws = 100 if quick else self.options.draws or _DRAWS
        place = WIDTHS.index(N) if N in WIDTHS else N
        return Job(
            self.folder / f"exact_{variant}_N{N}_seed{seed}{quick}.h5", self.task(variant, seed).posterior(N),
            Collapsed(), jax.random.fold_in(jax.random.key(seed), place), self._options(variant, seed, draws),
        )  # fmt: skip

    def _weights(self, variant: str, seed: int, N: int) -> Job:
        quick = self.options.suffix
        options = self._options(variant, seed, 100 if quick else 1000)
        return Job(
            self.folder / f"weights_{variant}_N{N}_seed{seed}{quick}.h5", self.task(variant, seed).posterior(N),
            ChEES(), jax.random.fold_in(jax.random.key(seed), 1000 + N),
            options | {"keep": "order_parameters", "init": "collapsed"},
        )  # fmt: skip

    def _options(self, variant: str, seed: int, draws: int) -> dict[str, Any]:
        about = {"task": "hmm", "seed": seed, **self.task(variant, seed).settings}
        return {"chains": _CHAINS, "warmup": _WARMUP, "draws": draws, "about": about}
