"""Train an attention-only network on one-shot episodes: Adam on the squared error of fresh episodes.

Step i draws its episodes from fold_in(key, i), so that a resumed run is the run that was not interrupted, bit for bit.
Accuracy on held-out characters is the measure; nothing is learned from them.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..core import checks, console, files
from ..models import Attention
from ..models.network import Weights
from ..tasks.characters import Characters, training_and_held_out
from . import checkpoint
from .attention_only import attention_layers, initial, outputs
from .checkpoint import State
from .config import READOUT, SMALL, Config
from .episodes import draw_batch, source

_CHUNK = 50  # steps per call of the compiled loop
_EPISODES = 1000  # per accuracy under way
_FINAL = 4  # times that many at the end: standard error below 0.008
_BATCH = 250  # episodes of an accuracy at a time
_SAVE_SECONDS = 20.0
_SETS = ("training", "held_out")


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network.

    Attributes:
        weights: V_0.., a, and Q_l, K_l [H_l, G, N_0] by name, averaged over steps; float32. With skip connections also
            "residual" [L], as diagnostics that take weights by name expect.
        config: how it was trained.
        step: steps taken.
        accuracy: fraction of right answers on fresh episodes, undistorted, of ``"training"`` and of ``"held_out"``
            characters; None for a file of a run that was interrupted.
        history: a dict per accuracy under way: step, loss (of the last 50 steps), training, held_out.
        settings: plain values that made it, characters included.
    """

    weights: Weights
    config: Config
    step: int
    accuracy: dict[str, float] | None
    history: list[dict]
    settings: dict

    @property
    def accuracy_error(self) -> dict[str, float] | None:
        """Standard errors of the accuracies, from the number of episodes; characters are as they are."""
        if self.accuracy is None:
            return None
        return {name: math.sqrt(p * (1 - p) / (_FINAL * _EPISODES)) for name, p in self.accuracy.items()}

    @property
    def residual(self) -> tuple[float, ...]:
        """Strengths of the skip connections, for the same; () for none."""
        return self.config.residual

    @property
    def attention(self) -> Attention:
        """Query and key weights, for ``gf.contract`` and ``gf.tasks.one_shot``."""
        return Attention(attention_layers(self.weights))


def train(
    characters: Characters | tuple[Characters, Characters],
    config: Config = SMALL,
    *,
    key: jax.Array,
    steps: int | None = None,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    evaluate: int = 500,
    patience: int | None = None,
    progress: bool = True,
) -> Trained:
    """Train query, key and value weights on one-shot episodes; Ctrl-C keeps in ``out`` what was learned.

    Args:
        characters: drawings, split by ``characters.split()``; or a pair (training, held out).
        config: ``SMALL``, ``PAPER`` or a ``Config`` of your own.
        key: typed random key; sets the start and all episodes.
        steps: steps in the end, those before a resume included; default the configuration's.
        out: .safetensors file to write, about every 20 seconds and at the end.
        resume: continue from ``out``.
        evaluate: steps between accuracies.
        patience: stop once the held-out accuracy has not risen for that many steps.
        progress: a live line on stderr.

    Returns:
        Trained: weights averaged over steps, and accuracies on training and held-out characters.

    Raises:
        ValueError: an argument out of range, a file that exists, or, to resume, one of another configuration.
        KeyboardInterrupt: Ctrl-C.
    """
    checks.random_key("key", key)
    if not isinstance(config, Config):
        raise checks.InputError(f"config={checks.brief(config)} is a {type(config).__name__}: give gf.training.SMALL")
    run = _Run(
        sets=training_and_held_out(characters),
        config=config,
        key=key,
        steps=checks.count("steps", config.steps if steps is None else steps),
        evaluate=checks.count("evaluate", evaluate),
        patience=None if patience is None else checks.count("patience", patience),
        path=_checked_path(out, resume),
    )
    with jax.enable_x64(False):
        state, history = _start(config, key), []
        if resume and run.path is not None:
            arrays, about = checkpoint.read(run.path, "out")
            checkpoint.refuse_other(run.path, about["settings"], run.settings)
            state, history = checkpoint.restore(state, arrays, run.path, "out"), about["history"]
        measure = _accuracies(run)
        state = _loop(run, state, history, measure, progress)
        accuracy = measure(state.average, _FINAL)
        run.save(state, history, accuracy)
    return Trained(_with_skips(state.average, config), config, int(state.step), accuracy, history, run.settings)


def load(path: str | os.PathLike, argument: str = "path") -> Trained:
    """A trained network from its file.

    Args:
        path: .safetensors file of ``train``, also of a run that was interrupted.
        argument: what the user called it, for messages.

    Returns:
        Trained.

    Raises:
        ValueError: no such file, not one of a trained network, or a damaged one.
    """
    path = Path(path)
    arrays, about = checkpoint.read(path, argument)
    try:
        config = Config(**about["settings"]["config"])
    except (KeyError, TypeError, checks.InputError):
        raise checkpoint.damaged(path, argument) from None
    with jax.enable_x64(False):
        template = jax.eval_shape(lambda: _start(config, jax.random.key(0)))
        state = checkpoint.restore(template, arrays, path, argument)
    weights = _with_skips(state.average, config)
    return Trained(weights, config, int(state.step), about["accuracy"], about["history"], about["settings"])


def _with_skips(weights: Weights, config: Config) -> Weights:
    if config.residual:
        return weights | {"residual": np.array(config.residual)}  # type: ignore[return-value]  # float64, on the host
    return weights


@dataclass(frozen=True, eq=False)
class _Run:
    """What does not change while a network trains."""

    sets: tuple[Characters, Characters]
    config: Config
    key: jax.Array
    steps: int
    evaluate: int
    patience: int | None
    path: Path | None

    @cached_property
    def settings(self) -> dict:
        config = dataclasses.asdict(self.config)
        if not config["residual"]:
            del config["residual"]  # as in files from before there were any
        return {
            "config": config,
            "key": np.asarray(jax.random.key_data(self.key)).ravel().tolist(),
            **{f"{name} characters": part.about for name, part in zip(_SETS, self.sets, strict=True)},
        }

    def save(self, state: State, history: list[dict], accuracy: dict[str, float] | None) -> None:
        if self.path is not None:
            about = {"settings": self.settings, "history": history, "accuracy": accuracy}
            checkpoint.write(self.path, state, about, self.config.residual)


def _start(config: Config, key) -> State:
    weights = initial(config.network, config.key_width, config.scale, jax.random.fold_in(key, 0))
    return State(weights, weights, _optimiser(config).init(weights), jnp.zeros((), jnp.int32))


def _optimiser(config: Config) -> optax.GradientTransformation:
    if not config.decay:
        return optax.adam(config.learning_rate)
    return optax.adam(lambda step: config.learning_rate / jnp.sqrt(1 + step / config.decay))


def _loop(run: _Run, state: State, history: list[dict], measure, progress: bool) -> State:
    """Steps up to ``run.steps``; appends to the history and writes the file from time to time."""
    advance, step, saved = _steps(run), int(state.step), time.monotonic()
    with console.bar(total=run.steps, initial=step, disable=not progress, unit="step", desc="train") as bar:
        try:
            while step < run.steps and not _stale(history, run.patience):
                end = min(step + _CHUNK, run.steps, step + run.evaluate - step % run.evaluate)
                state, loss = advance(state, jnp.int32(end))
                bar.update(end - step)
                step = end
                if step % run.evaluate == 0:
                    history.append({"step": step, "loss": float(loss), **measure(state.average)})
                    bar.set_postfix({name: f"{value:.3f}" for name, value in history[-1].items() if name != "step"})
                if time.monotonic() > saved + _SAVE_SECONDS:
                    run.save(state, history, None)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            run.save(state, history, None)
            raise
    return state


def _stale(history: list[dict], patience: int | None) -> bool:
    if patience is None or not history:
        return False
    best = max(history, key=lambda entry: entry["held_out"])  # the first of equals
    return history[-1]["step"] - best["step"] >= patience


def _steps(run: _Run):
    """A function (state, end) -> (state at step ``end``, mean loss on the way)."""
    config = run.config
    optimiser = _optimiser(config)

    def loss(weights, x, y):
        return jnp.mean((outputs(weights, x, READOUT, config.residual) - y) ** 2)

    @jax.jit
    def advance(drawings, key, state: State, end):
        def one(step, carry):
            average, current, moments, total = carry
            repeated = 1 - step / config.lead_in if config.lead_in else 0.0
            draw = jax.random.fold_in(key, step)
            x, y = draw_batch(drawings, draw, config.batch, config.turned, config.distortion, repeated)
            value, gradient = jax.value_and_grad(loss)(current, x, y)
            updates, moments = optimiser.update(gradient, moments)
            current = optax.apply_updates(current, updates)
            average = optax.incremental_update(current, average, 1 / (1 + config.averaging * step))
            return average, current, moments, total + value

        average, current, moments, total = jax.lax.fori_loop(state.step, end, one, (*state[:3], 0.0))
        return State(average, current, moments, end), total / (end - state.step)

    return partial(advance, source(run.sets[0], config.channels), jax.random.fold_in(run.key, 1))


def _accuracies(run: _Run):
    """A function (weights, times) -> accuracy on times 1000 fixed undistorted episodes of each set of characters."""
    key = jax.random.fold_in(run.key, 2)
    sources = {name: source(part, run.config.channels) for name, part in zip(_SETS, run.sets, strict=True)}

    @jax.jit
    def accuracy(drawings, weights, key):
        def right(key):
            x, y = draw_batch(drawings, key, _BATCH)
            return jnp.mean(outputs(weights, x, READOUT, run.config.residual) * y > 0)

        return jax.lax.map(right, jax.random.split(key, _EPISODES // _BATCH)).mean()

    def accuracies(weights, times=1):
        keys = [jax.random.fold_in(key, i) for i in range(times)]
        return {name: float(np.mean([accuracy(part, weights, k) for k in keys])) for name, part in sources.items()}

    return accuracies


def _checked_path(out, resume: bool) -> Path | None:
    if out is None:
        if resume:
            raise checks.InputError("out=None has nothing to resume: give the file of a network")
        return None
    path = files.absolute("out", out, "such as net.safetensors")
    if path.suffix != ".safetensors":
        raise checks.InputError(f"out={str(out)!r} must end in .safetensors: use a name such as net.safetensors")
    if path.exists() and not resume:
        raise checks.InputError(f"out={str(out)!r} exists: resume it (resume=True, --resume), or choose another name")
    if resume and not path.is_file():
        raise checks.InputError(
            f"out={str(out)!r} does not exist, so it cannot be resumed: give the file of a network, or leave resume out"
        )
    return files.output_file("out", out, overwrite=resume, example="such as net.safetensors")
