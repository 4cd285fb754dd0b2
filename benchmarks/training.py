"""Training an attention-only network on one-shot episodes

Cost of a step, and accuracy after the steps of `SMALL` on new episodes of training characters and of held-out ones.
Omniglot is measured where GIBBSFORMER_OMNIGLOT says where it is. Processor seconds are those of all threads, so that
other work on the machine counts for little.
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


def measure(options: Options) -> Measured:
    """Glyphs, and Omniglot where it is at hand."""
    steps = 300 if options.quick else None
    names = ["glyphs", *["omniglot"] * bool(os.environ.get("GIBBSFORMER_OMNIGLOT") and not options.quick)]
    rows = [row(name, steps) for name in names]
    columns = {
        "data": "", "training characters": "", "held-out characters": "", "steps": "", "seconds": ".0f",
        "processor seconds": ".0f", "ms per step": ".1f", "training": ".3f", "held out": ".3f",
    }  # fmt: skip
    unit = harness.unit()
    ratios = {f"step, {r['data']} / unit": r["seconds"] / r["steps"] / unit for r in rows}
    return Measured(
        [Table("Accuracy and cost", rows, columns)], ratios, {"config": dataclasses.asdict(gf.training.SMALL)}
    )
