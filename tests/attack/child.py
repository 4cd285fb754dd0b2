"""The command line with small commits, checkpoints and networks, so that a kill meets many of them.

python -m tests.attack.child VERB ..
"""

import os
import sys

TINY = {"heads": (2, 1), "key_width": 4, "width": 8, "channels": 1, "batch": 16, "steps": 60, "averaging": 0.5}
CHUNK, EVALUATE = 3, 5  # draws of a commit, steps between checkpoints


def shrink() -> None:
    """Make what the command line does small."""
    import functools

    import jax

    import gibbsformer as gf
    from gibbsformer import tasks, training
    from gibbsformer.sampler import driver

    from . import problem

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    driver.capacity_of = lambda _: CHUNK
    training.CONFIGS["small"] = training.Config(**TINY)
    training.train = functools.partial(training.train, evaluate=EVALUATE)
    tasks.characters_by_name = lambda _: problem.characters(gf)


def main(arguments: list[str]) -> int:
    """Run one command."""
    from gibbsformer import cli

    if arguments[0] in ("sample", "resume", "sweep", "train"):
        shrink()
    if os.environ.get("ATTACK_WORKERS"):  # what every worker of a sweep runs when it starts
        from gibbsformer.sweeps import clusters

        clusters._DEAF = os.environ["ATTACK_WORKERS"]
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
