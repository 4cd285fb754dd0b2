"""Training an attention-only network on one-shot episodes

Cost of a step, and accuracy after the steps of `SMALL` on new episodes of training characters and of held-out ones.
Omniglot is measured where GIBBSFORMER_OMNIGLOT says where it is. Processor seconds are those of all threads, so that
other work on the machine counts for little.

To take from it: a network of the default size is trained in minutes, and knows characters that it has not seen nearly
as well as its own.
"""

from __future__ import annotations

import dataclasses
import os
import time

import jax

import gibbsformer as gf

from . import harness
from .harness import Measured, Options, Table


def row(data: str, steps: int | None) -> dict:
    """One training."""
    characters = gf.tasks.characters_by_name(data).split()
    wall, processor = time.perf_counter(), time.process_time()
    trained = gf.training.train(characters, key=jax.random.key(0), steps=steps, progress=False)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {
        "data": data.partition("=")[0],
        "training characters": len(characters[0]),
        "held-out characters": len(characters[1]),
        "steps": trained.step,
        "seconds": wall,
        "processor seconds": processor,
        "ms per step": 1e3 * wall / trained.step,
        "training": trained.accuracy["training"],
        "held out": trained.accuracy["held_out"],
        "history": trained.history,
    }


def paper_step() -> dict:
    """Milliseconds of a step of the configuration of the paper: 128 episodes, width 512."""
    characters = gf.tasks.characters_by_name("glyphs").split()
    seconds = {}
    for steps in (20, 120):  # the difference leaves out compilation, the start and the accuracies at the end
        begun = time.perf_counter()
        gf.training.train(characters, gf.training.PAPER, key=jax.random.key(0), steps=steps, progress=False)
        seconds[steps] = time.perf_counter() - begun
    return {"configuration": "PAPER", "ms per step": 1e3 * (seconds[120] - seconds[20]) / 100, "first s": seconds[20]}


def measure(options: Options) -> Measured:
    """Glyphs, and Omniglot where it is at hand."""
    steps = 300 if options.quick or options.on_gpu else None
    names = ["glyphs", *["omniglot"] * bool(os.environ.get("GIBBSFORMER_OMNIGLOT") and not options.quick)]
    rows = [row(name, steps) for name in names]
    columns = {
        "data": "", "training characters": "", "held-out characters": "", "steps": "", "seconds": ".0f",
        "processor seconds": ".0f", "ms per step": ".1f", "training": ".3f", "held out": ".3f",
    }  # fmt: skip
    unit = harness.unit()
    ratios = {f"step, {r['data']} / unit": r["seconds"] / r["steps"] / unit for r in rows}
    tables = [Table("Accuracy and cost", rows, columns)]
    headline = ", ".join(f"{r['data']} {r['ms per step']:.1f} ms per step" for r in rows)
    if options.on_gpu and not options.quick and options.left() > 10:
        paper = paper_step()
        tables.append(Table("A step of the paper's configuration", [paper], {"ms per step": ".1f", "first s": ".1f"}))
        headline += f", the paper's configuration {paper['ms per step']:.1f}"
    return Measured(tables, ratios, {"config": dataclasses.asdict(gf.training.SMALL)}, headline)
