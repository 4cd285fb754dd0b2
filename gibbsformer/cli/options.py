"""Options that several verbs share, and what they become."""

from __future__ import annotations

from typing import Any


def add_problem(verb) -> None:
    """Task, width, temperature and seed."""
    verb.add_argument(
        "--task",
        default="hmm",
        help="hmm, one-shot, digits, teacher, or an .npz or .safetensors file of arrays (default %(default)s)",
    )
    verb.add_argument("--data", metavar="SET", help="images of task one-shot: glyphs, omniglot or omniglot=PATH")
    verb.add_argument("--network", metavar="FILE", help="trained network of task one-shot")
    add_residual(verb)
    verb.add_argument("--width", type=int, default=10, metavar="N", help="N_1 = .. = N_{L+1} (default %(default)s)")
    verb.add_argument("--temperature", type=float, metavar="T", help="temperature (default: the task's, 0.01)")
    add_seed(verb)


def add_residual(verb) -> None:
    """Skip connections of the network."""
    verb.add_argument(
        "--residual", nargs="*", type=float, metavar="G",
        help="skip connections: the strength of each layer's, 0 for none; without numbers 1 in all layers",
    )  # fmt: skip


def residual(options) -> dict[str, Any]:
    """The argument ``residual``, where one was given."""
    return {} if options.residual is None else {"residual": options.residual or True}


def add_chains(verb, chains: int, warmup: int, draws: int) -> None:
    """Numbers of chains and transitions, with their defaults."""
    verb.add_argument("--chains", type=int, default=chains, help="number of chains (default %(default)s)")
    verb.add_argument("--warmup", type=int, default=warmup, help="warm-up transitions per chain (default %(default)s)")
    verb.add_argument("--draws", type=int, default=draws, help="draws per chain (default %(default)s)")
    add_progress(verb)


def add_progress(verb) -> None:
    """How progress is shown."""
    verb.add_argument("--quiet", action="store_true", help="no progress bar")
    verb.add_argument("--progress", default="bar", choices=("bar", "json"), help="bar, or JSON lines for programs")


def add_until(verb) -> None:
    """When sampling may stop early."""
    verb.add_argument("--until-ess", type=float, metavar="ESS", help="stop once every entry of U has this ESS")
    verb.add_argument("--until-rhat", type=float, metavar="RHAT", help="stop once every R-hat of U is below this")
    verb.add_argument("--max-seconds", type=float, metavar="S", help="stop after S seconds")


def add_converged(verb) -> None:
    """Whether the chains must have converged."""
    verb.add_argument("--require-converged", action="store_true", help="exit with 3 unless R-hat and ESS are good")


def add_seed(verb) -> None:
    """Seed of the task and of the chains."""
    verb.add_argument("--seed", type=int, default=0, help="sets task and chains (default %(default)s)")


def add_quiet(verb) -> None:
    """No progress bar."""
    verb.add_argument("--quiet", action="store_true", help="no progress bar")


def add_target_file(verb) -> None:
    """A file to write."""
    verb.add_argument("--out", required=True, metavar="FILE", help="file to write")
    verb.add_argument("--overwrite", action="store_true", help="replace an existing file")


def until(options):
    """The stopping rule asked for, or None."""
    from ..sampler import until

    asked = {"ess": options.until_ess, "rhat": options.until_rhat, "seconds": options.max_seconds}
    return until(**asked) if any(value is not None for value in asked.values()) else None


def progress(options):
    """``progress`` of ``sample``."""
    if options.json:
        return False
    return False if options.quiet else "json" if options.progress == "json" else True


def task_of(options):
    """The task of the options of ``add_problem``."""
    from .. import tasks

    given = {name: value for name in ("data", "network") if (value := getattr(options, name)) is not None}
    return tasks.by_name(options.task, options.seed, **given, **residual(options))


def problem(options):
    """(task, posterior) of the options of ``add_problem``."""
    task = task_of(options)
    return task, task.posterior(options.width, options.temperature)


def chains_key(options):
    """Random key of chains and particles; tasks take that of the seed itself."""
    import jax

    return jax.random.fold_in(jax.random.key(options.seed), 1)
