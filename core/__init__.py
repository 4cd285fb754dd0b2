"""What every folder may use: checks of input, precision and threads, atomic files, checksums, locks, the console."""

from . import checks, classes, console, files, lock, numerics, sealing

__all__ = ["checks", "classes", "console", "files", "lock", "numerics", "sealing"]
