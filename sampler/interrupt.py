"""Ctrl-C, SIGTERM and SIGHUP while chains run: the current chunk is finished and stored first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from ..core import console

# Windows has no SIGHUP
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Hold back signals that end a process inside this block; yields a function that says whether one came.

    A second one acts at once. Those that the process ignores, as under ``nohup``, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():  # signals are not ours to handle there
        yield lambda: False
        return
    came = False
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: action for number, action in before.items() if action not in (signal.SIG_IGN, None)}

    def restore():
        for number, action in before.items():
            signal.signal(number, action)

    def note(number, _):
        nonlocal came
        came = True
        restore()
        again = "Ctrl-C again" if number == signal.SIGINT else "a second signal"
        console.say(f"\ngibbsformer: finishing this chunk ({again} stops at once)")

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: came
    finally:
        restore()
