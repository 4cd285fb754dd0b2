"""One run over several processes of ``jax.distributed``, on one host or many: which chains and which file are whose.

A chain has the same key in whatever process it is, so processes never wait for each other while they draw. All they
learn from ``jax.distributed`` is how many they are and which one this is.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from ..core import checks, files
from .kernels import EnsembleKernel

_WAIT = 300  # seconds until all processes must have connected
_SETTING = "distributed"  # name in a file's settings, which ``store.merge`` reads


class Share(NamedTuple):
    """Chains of a run that one process draws: the ``process``-th of ``processes`` equal parts of all ``chains``."""

    chains: int
    process: int = 0
    processes: int = 1

    @property
    def own(self) -> range:
        """Numbers of this process's chains."""
        count = self.chains // self.processes
        return range(self.process * count, (self.process + 1) * count)

    @property
    def settings(self) -> dict[str, Any]:
        """What the file of a part says of it; nothing where one process draws all chains."""
        return {_SETTING: self._asdict()} if self.processes > 1 else {}

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Share:
        """The share that a file holds."""
        return cls(**settings.get(_SETTING, {"chains": settings["chains"]}))

    def path(self, store: str | os.PathLike, overwrite: bool) -> Path:
        """The file of this process, checked: run.h5, or run.0of2.h5, run.1of2.h5."""
        if self.processes == 1:
            return files.output_file("store", store, overwrite)
        whole = files.output_file("store", store, overwrite=True)
        number = f"{self.process:0{len(str(self.processes - 1))}}of{self.processes}"
        return files.output_file("store", whole.with_name(f"{whole.stem}.{number}{whole.suffix}"), overwrite)

    def check(self, kernel, until) -> None:
        """Refuse what needs all chains in one place, by ``checks.InputError``."""
        if self.processes == 1:
            return
        if isinstance(kernel, EnsembleKernel):
            raise checks.InputError(
                f"kernel {kernel.name!r} learns from all chains together, which distributed=True keeps apart: choose "
                "'collapsed', 'nuts' or another kernel whose chains are independent"
            )
        if until is not None and (until.ess is not None or until.rhat is not None):
            raise checks.InputError(
                "until asks for ESS or R-hat, of which each process of a distributed run sees its own chains only: "
                "give draws=, or gf.until(seconds=..)"
            )


def share(chains: int, distributed: bool) -> Share:
    """The share of this process in a run of so many chains: all of them unless distributed.

    Raises:
        ValueError: there is one process only, or the chains do not divide evenly.
    """
    if not isinstance(distributed, bool):
        raise checks.InputError(f"distributed={checks.brief(distributed)} is unknown: give True or False")
    if not distributed:
        return Share(chains)
    processes = jax.process_count()
    if processes == 1:
        raise checks.InputError(
            "distributed=True in a process that is alone: call jax.distributed.initialize(..) before anything else, "
            "give more processes, or leave it out"
        )
    if chains % processes:
        raise checks.InputError(
            f"chains={chains} do not divide over {processes} processes: give a multiple of {processes}"
        )
    return Share(chains, jax.process_index(), processes)


def join(coordinator: str | None, process: int | None, processes: int | None) -> None:
    """Learn from ``jax.distributed`` which process of how many this is; what is None is found in SLURM's environment.

    Then leave it: it would end all processes when one dies, and make them wait for each other at their end.

    Args:
        coordinator: HOST:PORT of process 0.
        process, processes: number of this process, from 0, and how many there are.

    Raises:
        ValueError: something is missing or out of range. Processes that do not find each other within five minutes end
            with one line and exit code 2.
    """
    if coordinator is not None and not coordinator.rpartition(":")[2].isdigit():
        raise checks.InputError(f"coordinator={coordinator!r} has no port: give HOST:PORT of process 0")
    if processes is not None:
        checks.count("processes", processes)
        if process is not None and not 0 <= process < processes:
            raise checks.InputError(f"process={process} of {processes}: processes are counted from 0, choose one below")
    on_terminate = signal.getsignal(signal.SIGTERM)
    watch = threading.Timer(_WAIT, _give_up)  # JAX would abort with a stack trace
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(coordinator, processes, process, initialization_timeout=_WAIT + 60)
        jax.process_count()  # starts XLA, which remembers it
        jax.distributed.shutdown()
    except (ValueError, TypeError):
        raise checks.InputError(
            "distributed: the environment does not say which process of how many this is, as SLURM's srun does: give "
            "--coordinator HOST:PORT --process I --processes N"
        ) from None
    finally:
        watch.cancel()
    signal.signal(signal.SIGTERM, on_terminate)  # JAX had taken it, so that it no longer ended the process


def _give_up() -> None:
    print(
        f"gibbsformer: the processes did not find each other within {_WAIT} s: check that all run, each with its own "
        "number and the same coordinator",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)
