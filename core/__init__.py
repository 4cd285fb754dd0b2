"""What every folder may use: input checks, precision, threads, atomic files, checksums, locks, console, cards."""

from . import cards, checks, classes, console, files, lock, numerics, sealing

__all__ = ["cards", "checks", "classes", "console", "files", "lock", "numerics", "sealing"]
