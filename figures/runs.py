"""Runs behind figures: finished sample files of the same settings are reused, others are sampled again."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

from ..core import checks, console
from ..core.text import visible
from ..sampler import ConvergenceWarning, sample
from ..sampler import open as open_run


def finished_or_new(path: Path, posterior, kernel, key, **options):
    """The run at ``path`` if it is complete and of the same settings; otherwise sample it again.

    Raises:
        KeyboardInterrupt: the user stopped the run; what was drawn stays in the file.
    """
    wanted = {name: options[name] for name in ("chains", "warmup", "draws", "about")}
    wanted |= {"kernel": kernel.name, "options": dataclasses.asdict(kernel)}
    target = options.get("target")
    if path.exists():
        try:
            run = open_run(path)
            same = all(run.settings.get(name) == value for name, value in wanted.items())
            same = same and target in (None, run.made.target)
            if same and run.draws == options["draws"]:
                if options["progress"]:
                    console.say(visible(f"gibbsformer: using the finished run in {path}"))
                return run
        except checks.InputError:
            pass  # not a readable run: the name is the figure's own, so replace it
    if options["progress"]:
        console.say(f"gibbsformer: {kernel.name} at N={posterior.network.widths[0]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # R-hat and ESS are among the numbers of the figure
        run = sample(posterior, kernel, key=key, store=path, overwrite=True, **options)
    if run.settings["ended"] == "interrupt":
        raise KeyboardInterrupt  # part of a run is not a result, and the user wants to stop
    return run
