"""What every folder may use: checks of input, precision and threads, paths and files replaced atomically, locks."""

from . import checks, classes, files, lock, numerics

__all__ = ["checks", "classes", "files", "lock", "numerics"]
