"""The command line, ``gibbsformer VERB ..``: one module a verb, which adds its arguments and runs it.

Results go to stdout as text, or as JSON with ``--json``; progress goes to stderr. Exit code 0 means success, 2 invalid
input with one line on stderr, 1 a sweep with failed points, a benchmark that got slower or a system that refused, as
with a full disk, 3 a run that was required to converge and did not, 130 an interruption, 141 a pipe that was closed
before the work was done.

A new verb is a module with ``HELP``, ``add_arguments(parser)`` and ``run(options)``, and a name in ``VERBS``. Heavy
imports are inside ``run``, so that ``--help`` and invalid options answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

__all__ = ["VERBS", "main", "parser"]

VERBS = (
    "demo",
    "sample",
    "theory",
    "figure",
    "evidence",
    "sweep",
    "curve",
    "bench",
    "compare",
    "report",
    "resume",
    "inspect",
    "merge",
    "export",
    "train",
)


_PIPE_CLOSED = 141  # as of a process that is ended by SIGPIPE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        self.exit(2, f"gibbsformer: {shown} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    def __call__(self, parser, *_):
        from importlib.metadata import version

        print(f"gibbsformer {version('gibbsformer')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    result = _Parser(prog="gibbsformer", description="Sampling and theory of deep linear-value multi-head attention.")
    result.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    verbs = result.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    for name in VERBS:
        module = importlib.import_module(f".{name}", __name__)
        text = module.HELP
        verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        verb.set_defaults(run=module.run)
        verb.add_argument("--json", action="store_true", help="print JSON instead of text")
        module.add_arguments(verb)
    return result


@contextlib.contextmanager
def _ending_as_ctrl_c():
    """SIGTERM and SIGHUP raise KeyboardInterrupt, unless the process ignores them, as under ``nohup``."""

    def interrupt(*_):
        raise KeyboardInterrupt

    ours = [number for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) if number is not None]
    ours = [number for number in ours if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after the program's name; default those of this process.

    Returns:
        Exit code.
    """
    try:
        return _command(argv)
    except BrokenPipeError:  # the reader of a pipe left before the work was done
        return _PIPE_CLOSED
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # said already, where somebody could hear it
                from ..core import console

                console.silence(stream)


def _command(argv: Sequence[str] | None) -> int:
    options = parser().parse_args(argv)
    _prepare(options.verb)
    from ..core.checks import InputError
    from ..sweeps import SchedulerLost
    from .output import say

    shown, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        with _ending_as_ctrl_c():
            return options.run(options)
    except InputError as error:
        say(str(error))
        return 2
    except SchedulerLost as error:
        say(str(error))
        return 1
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None:  # not of the system
            raise
        say(_system_error(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    finally:
        warnings.formatwarning = shown


def _prepare(verb: str) -> None:
    """Set up JAX and warnings for a command."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")  # it announces its version 1.0
    warnings.filterwarnings("ignore", message="interrupted after")  # verbs say how to continue, in their own words
    # the disk of the cache is full: programs are compiled again
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    import jax

    from ..core.machine import cores
    from ..core.programs import cache_programs

    # One XLA device per core lets chains run side by side on a CPU; draws do not depend on it. A sweep keeps to one,
    # as its workers do, so that its numbers are the same to the last bit.
    if verb != "sweep" and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())
    kept: Any = jax.config
    if verb != "bench" and not kept.jax_compilation_cache_dir:  # bench times compilation
        with contextlib.suppress(OSError):  # a home that cannot be written
            cache_programs()
    from ..evidence import EvidenceWarning
    from ..sampler import ConvergenceWarning

    for category in (ConvergenceWarning, EvidenceWarning):
        warnings.filterwarnings("ignore", category=category)  # every verb prints the diagnosis itself


def _system_error(error: OSError) -> str:
    from ..core.files import FULL

    reason = " ".join(str(error.strerror).split())
    where = "" if error.filename is None else f"{str(error.filename)!r}: "
    if error.errno in FULL:
        return f"{where}{reason}: free some space and run this again, which continues from what is finished"
    return f"{where}{reason}"


def _one_line(message, category, filename, lineno, line=None) -> str:
    from ..core.text import visible

    return visible(f"gibbsformer: {message}") + "\n"
