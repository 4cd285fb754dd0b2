"""What this process may use of its machine: memory and cores, as limits of containers and batch jobs leave it."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")  # of the files that Linux describes itself by


def cores() -> int:
    """Cores that this process may run on, which ``taskset`` and batch systems restrict."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that this process could still take; caches count as free where the system says so.

    The least of what the machine has, what its control groups allow (containers, batch jobs) and what is left of its
    address space; ``sys.maxsize`` where the system says nothing.
    """
    return max(0, min((sys.maxsize, *_machine(), *_groups(), *_address_space())))


def _machine() -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_ROOT / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable"):
                yield int(line.split()[1]) * 1024
                return
    with contextlib.suppress(OSError, ValueError):
        yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _groups() -> Iterator[int]:
    """What each control group of the process has left, those above it included (versions 1 and 2)."""
    try:
        entries = [line.split(":", 2) for line in (_ROOT / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in entries:
        if controllers == "":
            base, limit, used = _ROOT / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit, used = _ROOT / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number
                yield int((folder / limit).read_text()) - int((folder / used).read_text()) + _cache(folder)
            if folder == base:
                break


def _cache(folder: Path) -> int:
    """Bytes of files in memory that the group gives up first."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.split()[0] in ("inactive_file", "total_inactive_file"):
                return int(line.split()[1])
    return 0


def _address_space() -> Iterator[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int((_ROOT / "proc/self/statm").read_text().split()[0])
        yield limit - pages * resource.getpagesize()
