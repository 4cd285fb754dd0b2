"""Compiled programs on disk, so that a later process need not compile them again."""

from __future__ import annotations

import os
import platform
import zlib
from pathlib import Path

from . import files


def cache_programs(folder: str | os.PathLike | None = None) -> Path:
    """Keep compiled programs in a folder, and use those that are there, from now on in this process.

    A call takes the place of compiling what an earlier process has compiled. The command line does this by itself.
    ``JAX_ENABLE_COMPILATION_CACHE=false`` in the environment turns it off for both.

    Args:
        folder: where to keep them, created if needed; default ``~/.cache/gibbsformer`` (or in ``XDG_CACHE_HOME``), in a
            folder for this type of processor, since programs for one need not run on another and clusters share homes.

    Returns:
        The folder.

    Raises:
        ValueError: ``folder`` is a file, or cannot be created.
        OSError: the default cannot be created.
    """
    import jax  # not above: the command line imports this module before it needs JAX

    if folder is None:
        path = _default()
        path.mkdir(parents=True, exist_ok=True)
    else:
        path = files.output_folder("folder", Path(folder).expanduser())
    jax.config.update("jax_compilation_cache_dir", str(path))
    return path


def _default() -> Path:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        features = platform.processor()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "gibbsformer" / f"{platform.machine()}-{zlib.crc32(features.encode()):08x}"
