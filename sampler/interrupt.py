"""Ctrl-C while chains run: the current chunk is finished and stored first."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Hold back SIGINT inside this block; yields a function that says whether it came. A second one acts at once."""
    if threading.current_thread() is not threading.main_thread():  # signals are not ours to handle there
        yield lambda: False
        return
    came = False

    def note(*_):
        nonlocal came
        came = True
        signal.signal(signal.SIGINT, before)
        print("\ngibbsformer: finishing this chunk (Ctrl-C again stops at once)", file=sys.stderr, flush=True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)
