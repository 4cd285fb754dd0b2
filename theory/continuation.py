"""Saddle points of a grid of widths and temperatures by continuation: each starts at the solution next to it."""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core import cards, checks
from ..core.numerics import numerics, on_host
from ..models import Posterior
from ..models.solvable import check_solvable
from . import saddle
from .saddle import Theory, TheoryWarning


@dataclass(frozen=True, eq=False)
class Grid:
    """Theories of a grid of widths and temperatures; ``grid[i, j]`` is that of widths[i] and temperatures[j].

    Attributes:
        widths: as given, N or tuples (N_1, .., N_{L+1}).
        temperatures: T of the second axis.
        theories: rows of ``Theory``, a row per width.
    """

    widths: tuple
    temperatures: tuple[float, ...]
    theories: tuple[tuple[Theory, ...], ...]

    def __repr__(self) -> str:
        return f"Grid({len(self.widths)} widths x {len(self.temperatures)} temperatures, {self._state})"

    def _repr_html_(self) -> str:
        axes = {"widths": ", ".join(map(str, self.widths)), "temperatures": ", ".join(map(str, self.temperatures))}
        return cards.card("Grid of theories", (axes | {"saddle points": self._state}).items())

    @property
    def _state(self) -> str:
        return f"{int(self.converged.sum())} of {self.converged.size} converged"

    def __getitem__(self, index: tuple[int, int]) -> Theory:
        i, j = index
        return self.theories[i][j]

    @property
    def converged(self) -> np.ndarray:
        """[widths, temperatures]."""
        return np.array([[t.converged for t in row] for row in self.theories])


def grid(posterior: Posterior, widths: Sequence, temperatures: Sequence[float], paths: Sequence | None = None) -> Grid:
    """Saddle points for all combinations of widths and temperatures, each continued from its neighbour.

    Args:
        posterior: network and data; its own widths and temperature do not matter.
        widths: entries N for N_1 = .. = N_{L+1} = N, or tuples (N_1, .., N_{L+1}).
        temperatures: entries T > 0.
        paths: as for ``solve``.

    Returns:
        Grid, all of it whatever happened: a warning names each (N, T) that did not converge.

    Raises:
        ValueError: as ``solve``, and widths below 1 or temperatures not above 0, before anything is solved.

    Source: docs/model.md, section 6.
    """
    check_solvable("the theory", posterior)
    posteriors = _posteriors(posterior, widths, temperatures)
    rows, columns = len(posteriors), len(posteriors[0])
    least = min(itertools.chain(*posteriors), key=lambda p: p.temperature)
    found: dict[tuple[int, int], Theory] = {}
    with numerics(), on_host(posterior.reduction.y.size):
        problem = saddle.prepare(least, paths)
        gp_limit = np.zeros(problem.shape.size)
        for i, j, neighbour in _points(posteriors, found):
            found[i, j] = saddle.minimise(problem.at(posteriors[i][j]), gp_limit if neighbour is None else neighbour)
            if not found[i, j].converged:
                again = saddle.minimise(problem.at(posteriors[i][j]), gp_limit)
                found[i, j] = min(found[i, j], again, key=lambda t: (not t.converged, t.action))
    for (i, j), theory in found.items():
        if not theory.converged:
            warnings.warn(f"N={widths[i]}, T={temperatures[j]:g}: {theory.problem}", TheoryWarning, stacklevel=2)
    theories = tuple(tuple(found[i, j] for j in range(columns)) for i in range(rows))
    return Grid(tuple(widths), tuple(float(t) for t in temperatures), theories)


def _posteriors(posterior, widths, temperatures):
    for name, values, example in (("widths", widths, "(10, 100)"), ("temperatures", temperatures, "(0.1, 1.0)")):
        if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
            raise checks.InputError(f"{name}={checks.brief(values)} must list one or more numbers: give {example}")
    layers = len(posterior.network.widths)
    networks = [
        dataclasses.replace(
            posterior.network, widths=tuple(N) if np.iterable(N) else (checks.count(f"widths[{i}]", N),) * layers
        )
        for i, N in enumerate(widths)
    ]
    return [[dataclasses.replace(posterior, network=n, temperature=t) for t in temperatures] for n in networks]


def _points(posteriors, found) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """Points from wide and hot, near the GP limit, to narrow and cold, each with the solution of a neighbour."""
    rows = sorted(range(len(posteriors)), key=lambda i: -max(posteriors[i][0].network.widths))
    columns = sorted(range(len(posteriors[0])), key=lambda j: -posteriors[0][j].temperature)
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            before = [found[rows[a - 1], j]] if a else []
            before += [found[i, columns[b - 1]]] if b else []
            good = [t.theta for t in before if t.converged]
            yield i, j, good[-1] if good else None
