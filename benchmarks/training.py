"""Training of an attention-only network on one-shot episodes: cost of a step, and accuracy against steps.

Accuracy on characters that were held out is the measure. ``--data omniglot`` needs GIBBSFORMER_OMNIGLOT; processor
seconds are those of all threads, so that other work on the machine counts for little.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

import harness
import jax

import gibbsformer as gf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["glyphs", "omniglot"])
    parser.add_argument("--steps", type=int, help="default: the configuration's")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for data in options.data:
        characters = gf.tasks.characters_by_name(data).split()
        wall, processor = time.perf_counter(), time.process_time()
        trained = gf.training.train(characters, key=jax.random.key(options.seed), steps=options.steps)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        rows.append(
            {
                "data": data.partition("=")[0],
                "training characters": len(characters[0]),
                "held-out characters": len(characters[1]),
                "steps": trained.step,
                "seconds": wall,
                "processor seconds": processor,
                "processor ms per step": 1e3 * processor / trained.step,
                "training": trained.accuracy["training"],
                "held out": trained.accuracy["held_out"],
                "history": trained.history,
            }
        )
    columns = {
        "data": "", "training characters": "", "held-out characters": "", "steps": "", "seconds": ".0f",
        "processor seconds": ".0f", "processor ms per step": ".1f", "training": ".3f", "held out": ".3f",
    }  # fmt: skip
    print(harness.table(rows, columns))
    print(harness.save("training", rows, config=dataclasses.asdict(gf.training.SMALL), seed=options.seed))


if __name__ == "__main__":
    main()
