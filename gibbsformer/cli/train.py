"""``gibbsformer train``."""

from __future__ import annotations

from .options import add_quiet, add_residual, residual
from .output import show

HELP = "train query and key weights on one-shot image episodes"


def add_arguments(parser) -> None:
    """Images, configuration, file."""
    parser.add_argument("--data", required=True, metavar="SET", help="images: glyphs, omniglot or omniglot=PATH")
    parser.add_argument("--config", default="small", help="small or paper (default %(default)s)")
    add_residual(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="steps in the end (default: the configuration's)")
    parser.add_argument(
        "--patience", type=int, metavar="N", help="stop when held-out accuracy has not risen for N steps"
    )
    parser.add_argument("--seed", type=int, default=0, help="sets start and episodes (default %(default)s)")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write, such as net.safetensors")
    parser.add_argument("--resume", action="store_true", help="continue an existing file")
    add_quiet(parser)


def run(options) -> int:
    """Train, and print the accuracy on new episodes."""
    import dataclasses

    import jax

    from .. import tasks, training
    from ..core import checks

    config = training.CONFIGS[checks.nearest("config", options.config, training.CONFIGS)]
    trained = training.train(
        tasks.characters_by_name(options.data),
        dataclasses.replace(config, **residual(options)),
        key=jax.random.key(options.seed),
        steps=options.steps,
        out=options.out,
        resume=options.resume,
        patience=options.patience,
        progress=not (options.quiet or options.json),
    )
    found = {"step": trained.step, "accuracy": trained.accuracy, "file": options.out, "settings": trained.settings}
    show(options, found, lambda _: f"{_render(trained)}\nwritten: {options.out}")
    return 0


def _render(trained) -> str:
    lines = [
        f"{trained.step} steps on {trained.settings['training characters']['source']}; accuracy on new episodes of"
    ]
    for name, accuracy in trained.accuracy.items():
        characters = trained.settings[f"{name} characters"]["characters"]
        error = trained.accuracy_error[name]
        lines.append(f"  {characters:5d} {name.replace('_', '-')} characters   {accuracy:.3f} +- {error:.3f}")
    return "\n".join(lines)
