"""One-shot images of figure 3: 16 attention paths of a trained network, theory and runs (docs/model.md, 9b).

The attention is that of a network trained here (``training.SMALL``) or given. The theory is solved on a grid of (N, T);
each N is shown at its T of best test accuracy, as in the paper. The T of least action is kept too, which is that of
largest evidence at large N and looks at no test set: log p(y | N, T) = -S / 2 to leading order, up to terms without T.
"""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pandas as pd

from .. import tasks, theory, training
from ..core import console, files
from ..diagnostics import accuracy, predict
from ..sampler import Collapsed, Run
from ..tasks.characters import training_and_held_out
from ..tasks.one_shot import draw_episodes
from .options import Options
from .runs import Job

WIDTHS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
TEMPERATURES = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5)
EXACT_WIDTHS = (10, 100, 1000)
EXAMPLES, TEST_EXAMPLES = 600, 1000
_QUICK_EXAMPLES, _QUICK_STEPS, _QUICK_TEMPERATURES = 60, 500, (0.1, 0.5)
_CHAINS, _WARMUP, _DRAWS = 4, 50, 100


class OneShot:
    """The trained network, its task, the theory on the grid and runs; grid results are kept in the folder."""

    def __init__(self, folder: Path, options: Options):
        self.folder, self.options = folder, options
        self.characters = tasks.characters_by_name(options.data)
        self.name = options.data.partition("=")[0]
        self.suffix = f"_{self.name}"
        self.runs: dict[Path, Run] = {}
        self.trained = trained_network(folder, options, self.characters)
        examples = options.examples or (_QUICK_EXAMPLES if options.quick else EXAMPLES)
        self.seed = options.seeds[0]
        self.task = tasks.one_shot(
            self.characters, self.trained.attention, jax.random.key(self.seed), train=examples, test=TEST_EXAMPLES,
            channels=self.trained.config.channels, residual=self.trained.residual,
        )  # fmt: skip
        self.test, self.labels = self.task.test_set  # type: ignore[misc]  # this task always has a test set
        self.widths = options.widths_or(WIDTHS)
        self.temperatures = options.temperatures or (_QUICK_TEMPERATURES if options.quick else TEMPERATURES)
        self.grid, self.theory_at = cache(self._grid), cache(self._theory_at)

    @property
    def narrow(self) -> int:
        """The least N, where order parameters, overlaps and scores are shown."""
        return min(self.widths)

    @property
    def exact_widths(self) -> tuple[int, ...]:
        """N at which the exact posterior is sampled."""
        return tuple(N for N in self.widths if N in EXACT_WIDTHS) or self.widths

    def temperature(self, N: int) -> float:
        """T of best test accuracy at N."""
        best = best_temperatures(self.grid())
        return best["T"].to_numpy()[best["N"].to_numpy() == N].item()

    def drawings(self, episode: int) -> tuple[np.ndarray, tuple[int, ...]]:
        """Images [3, 32, 32] of a training episode, and the label index of each: 0, 1, and 2 for unknown."""
        characters = training_and_held_out(self.characters)[0]
        key = jax.random.split(jax.random.key(self.seed))[0]  # as ``tasks.one_shot`` draws them
        drawn = draw_episodes(key, characters.first, len(self.task.train.y))
        shown = np.asarray(drawn.drawings)[episode]
        return characters.images[shown].astype(float), tuple(np.asarray(drawn.labels)[episode].tolist())

    def exact(self, N: int) -> Run:
        """The exact posterior at N and its best T."""
        return self.runs[self._job(N).path]

    def jobs(self, widths: tuple[int, ...]) -> list[Job]:
        """Runs of the exact posterior."""
        return [self._job(N) for N in widths]

    def _job(self, N: int) -> Job:
        about = {"task": "one_shot", "seed": self.seed, **self.task.settings}
        draws = 20 if self.options.quick else self.options.draws or _DRAWS
        return Job(
            self.folder / f"exact_{self.name}_N{N}_seed{self.seed}{self.options.suffix}.h5",
            self.task.posterior(N, self.temperature(N)), Collapsed(), jax.random.fold_in(jax.random.key(self.seed), N),
            {"chains": _CHAINS, "warmup": _WARMUP, "draws": draws, "about": about},
        )  # fmt: skip

    def _theory_at(self, N: int) -> theory.Theory:
        """The theory at N and its best T."""
        return theory.solve(self.task.posterior(N, self.temperature(N)))

    def _grid(self) -> pd.DataFrame:
        """Rows N, T: accuracy of the theory, action, whether converged, accuracy of the GP limit at that T."""
        path = self.folder / f"one_shot_grid_{self.name}_seed{self.seed}{self.options.suffix}.json"
        wanted = json.loads(json.dumps({
            "task": self.task.settings, "widths": self.widths, "temperatures": self.temperatures,
            "network": self.trained.settings, "step": self.trained.step,
        }))  # fmt: skip
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["settings"] == wanted:
                return pd.DataFrame(kept["rows"])
        rows = self._solved()
        files.write(path, json.dumps({"settings": wanted, "rows": rows}))
        return pd.DataFrame(rows)

    def _solved(self) -> list[dict]:
        """The rows of the grid; the time left is told after each temperature."""
        base, rows = self.task.posterior(self.widths[0]), []
        score = lambda source: accuracy(predict(source, self.test), self.labels)  # noqa: E731
        began = time.perf_counter()
        for j, T in enumerate(self.temperatures, start=1):
            solved = theory.grid(base, self.widths, (T,))
            gp = score(theory.gp(self.task.posterior(self.widths[0], T)))
            rows += [
                {"N": N, "T": T, "accuracy": score(solved[i, 0]),
                 "action": solved[i, 0].action, "converged": solved[i, 0].converged, "gp": gp}
                for i, N in enumerate(self.widths)
            ]  # fmt: skip
            left = (time.perf_counter() - began) / j * (len(self.temperatures) - j)
            if self.options.progress and left:
                done = f"theory at {j} of {len(self.temperatures)} temperatures, {len(self.widths)} widths each"
                console.say(f"gibbsformer: {done}; about {left:.0f} s for the others")
        return rows


def trained_network(folder: Path, options: Options, characters: tasks.Characters) -> training.Trained:
    """The network whose attention is shown: given, or trained on these characters and kept in the folder."""
    if options.network is not None:
        return training.load(options.network, "network")
    path = folder / f"network_{options.data.partition('=')[0]}{options.suffix}.safetensors"
    return training.train(
        characters, key=jax.random.key(0), steps=_QUICK_STEPS if options.quick else None, out=path,
        resume=path.exists(), progress=options.progress,
    )  # fmt: skip


def best_temperatures(grid: pd.DataFrame) -> pd.DataFrame:
    """A row per N: T and accuracy at the best T by accuracy, and both at the T of least action (largest evidence).

    Args:
        grid: rows N, T, accuracy, action.
    """
    top = grid.loc[grid.groupby("N")["accuracy"].idxmax()].set_index("N")
    least = grid.loc[grid.groupby("N")["action"].idxmin()].set_index("N")
    return top[["T", "accuracy"]].join(least[["T", "accuracy"]].add_suffix("_by_evidence")).reset_index()
