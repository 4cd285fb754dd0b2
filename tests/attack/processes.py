"""Commands of gibbsformer in processes of their own, with limits, and what came of them.

The process that attacks imports everything and computes nothing, so that a command is a fork of it and starts at once.
"""

import contextlib
import importlib
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

from .outcomes import CRASH, EQUAL, HANG, REFUSED, ROOT, TRACEBACK, Outcome

SECONDS, MEMORY = 180.0, 24 * 2**30  # of a command, before it hangs or asks for too much address space
_PROGRESS = re.compile(r"(sample|sweep|train|warm-up|compile): ")
_NOTICE = re.compile(r"gibbsformer: \S+ needs [^:]*$")  # how large a file will be


class Forked:
    """A command line in a fork, with the methods of ``Popen`` that are used here."""

    def __init__(self, arguments: list[str], limit: Callable[[], None] | None):
        self.args, self.returncode = arguments, None
        self._said = tempfile.TemporaryFile("w+", errors="backslashreplace")  # noqa: SIM115
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                os.dup2(os.open(os.devnull, os.O_RDWR), 0)
                os.dup2(0, 1)
                os.dup2(self._said.fileno(), 2)
                _limits(limit)
                from . import child

                code = child.main(arguments)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                with contextlib.suppress(BaseException):
                    sys.stderr.flush()
                os._exit(code)

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.002)
        return self.returncode

    def communicate(self, timeout: float = SECONDS) -> tuple[None, str]:
        """What it said on stderr, once it has ended."""
        self.wait(timeout)
        self._said.seek(0)
        said = self._said.read()
        self._said.close()
        return None, said


def prepare() -> None:
    """Import what commands import."""
    import gibbsformer
    from gibbsformer import cli

    from . import child

    for name in gibbsformer.__all__:
        getattr(gibbsformer, name)
    for verb in cli.VERBS:
        importlib.import_module(f"gibbsformer.cli.{verb}")
    child.shrink()


def start(*arguments, limit: Callable[[], None] | None = None) -> Forked:
    """A command of gibbsformer as a process in a group of its own."""
    return Forked([str(each) for each in arguments], limit)


def spawn(*command, **options) -> subprocess.Popen:
    """A module as a process of a new interpreter, in a group of its own."""
    words = [sys.executable, "-m", *map(str, command)]
    return subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: _limits(None), errors="backslashreplace", **options,
    )  # fmt: skip


def kill(process) -> None:
    """End a process and those that it started, without a chance to tidy up."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def end(process, seconds: float = SECONDS) -> Outcome:
    """What came of a command: ``EQUAL`` of one that did its work, as far as that can be seen from here."""
    command = " ".join(map(str, process.args))
    try:
        said = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        kill(process)
        process.communicate()
        return Outcome(HANG, f"{command}: more than {seconds:g} s")
    return judged(process.returncode, said, command)


def judged(code: int, said: str, command: str) -> Outcome:
    """The outcome by an exit code and what was said on stderr."""
    lines = [line for line in said.splitlines() if not (_PROGRESS.match(line) or _NOTICE.match(line))]
    about = f"{command}: code {code}, {' | '.join(lines[-3:])}"
    if code < 0 or "Fatal Python error" in said:
        return Outcome(CRASH, about)
    if "Traceback (most recent call last)" in said or "Exception ignored" in said:
        return Outcome(TRACEBACK, about)
    if code == 0:
        return Outcome(EQUAL, about)
    one = len(lines) == 1 and lines[0].startswith("gibbsformer: ") and lines[0].isprintable()
    return Outcome(REFUSED if one else TRACEBACK, about)


def run(*arguments, seconds: float = SECONDS, limit=None) -> Outcome:
    """Run a command to its end."""
    return end(start(*arguments, limit=limit), seconds)


def until(condition: Callable[[], bool], process, seconds: float = SECONDS) -> bool:
    """Wait until a condition holds; False if the process ended before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return condition()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def _limits(more: Callable[[], None] | None) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if more is not None:
        more()
