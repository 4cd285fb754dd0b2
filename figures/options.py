"""What a user can choose of a figure; see ``figures.figure``."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Checked choices; None leaves them to the figure."""

    seeds: tuple[int, ...] = (0,)
    widths: tuple[int, ...] | None = None
    temperatures: tuple[float, ...] | None = None
    examples: int | None = None
    draws: int | None = None
    data: str = "glyphs"
    network: str | None = None
    progress: bool = True
    quick: bool = False

    def widths_or(self, default: tuple[int, ...]) -> tuple[int, ...]:
        """The widths asked for, or the figure's own, or their ends when in a hurry."""
        return self.widths or (tuple(dict.fromkeys((default[0], default[-1]))) if self.quick else default)

    @property
    def suffix(self) -> str:
        """Of the names of kept files: a quick look never replaces what took hours."""
        return "_quick" if self.quick else ""
