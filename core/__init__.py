"""What every folder may use: input checks, precision, threads, atomic files, checksums, locks, console, cards."""

from . import cards, checks, classes, console, files, lock, numerics, sealing
from .programs import cache_programs

__all__ = ["cache_programs", "cards", "checks", "classes", "console", "files", "lock", "numerics", "sealing"]
