"""Path-contracted inputs: all that a network of linear values sees of its inputs (docs/model.md, section 2)."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core import checks
from . import residual as skips


@dataclass(frozen=True, eq=False)
class PathInputs:
    """Path-contracted inputs xi, all that the network sees of its inputs.

    Args:
        xi: array [P, N_0, G_1, .., G_L], prefactors included; kept as float64 on the host, as a copy unless it is
            float64 and read-only. G_l is the number of branches of layer l: its heads H_l and, where it has a skip
            connection, that one, which comes first.
        path_names: names of the paths in C order (h_1 slowest); default "(h1 h2 .. hL)", heads from 1, and "skip" for
            a skip connection.
        residual: (g_1, .., g_L), strengths of the skip connections that xi was made with; 0 for a layer without one,
            as all are by default. True stands for 1 in every layer.
        tokens: [sequences, S], which tokens of which sequences the rows of xi are, in C order, where every token has an
            output of its own (``contract(.., readout="all")``); None: one row per sequence.

    Raises:
        ValueError: wrong rank, NaN or infinity, no examples, a number of names that is not that of paths, a control
            character in a name, a negative strength, or ``tokens`` that are not as many as rows.

    Source: docs/model.md, section 2.
    """

    xi: np.ndarray
    path_names: tuple[str, ...] = ()
    residual: tuple[float, ...] = ()
    tokens: np.ndarray | None = None
    _groups: tuple[tuple[bool, ...], ...] = ()  # layers that each path skips, once paths have one axis of their own

    def __post_init__(self):
        changes = getattr(getattr(self.xi, "flags", None), "writeable", True)  # what cannot is not copied
        xi = checks.array("xi", self.xi, "P, N_0, H_1, ..", copy=changes)
        object.__setattr__(self, "xi", xi)
        object.__setattr__(self, "residual", skips.strengths(self.residual, len(self.heads)))
        names = self.path_names if len(self.path_names) else skips.path_names(self.heads, self.residual)
        names = checks.names("path_names", names)
        if len(names) != self.paths or len(set(names)) != len(names):
            raise checks.InputError(
                f"path_names={names} must be {self.paths} different names, one per path of {self.heads}"
            )
        object.__setattr__(self, "path_names", names)
        if self.tokens is not None and np.sum(self.tokens) != len(xi):
            raise checks.InputError(
                f"tokens marks {np.sum(self.tokens)} tokens and xi has {len(xi)} rows: give xi one row per token"
            )
        if not self._groups:
            found = skips.skipped(self.heads, self.residual).tolist()
            object.__setattr__(self, "_groups", tuple(map(tuple, found)))

    def __len__(self) -> int:
        return self.xi.shape[0]

    @property
    def input_width(self) -> int:
        """N_0."""
        return self.xi.shape[1]

    @property
    def heads(self) -> tuple[int, ...]:
        """Branches per layer (G_1, .., G_L): heads, and one for a skip connection."""
        return self.xi.shape[2:]

    @property
    def paths(self) -> int:
        """Number of paths, prod_l G_l."""
        return int(np.prod(self.heads))

    @property
    def lengths(self) -> np.ndarray:
        """[H] number of heads that each path passes: L, less one for each layer that it skips."""
        return np.array([len(skips_of) - sum(skips_of) for skips_of in self._groups])

    @property
    def flat(self) -> np.ndarray:
        """xi as [P, N_0, H], paths in C order."""
        return self.xi.reshape(len(self), self.input_width, self.paths)

    def __repr__(self) -> str:
        residual = f", residual={self.residual}" if any(self.residual) else ""
        return f"PathInputs(P={len(self)}, N_0={self.input_width}, heads={self.heads}{residual})"

    def like(self, xi: np.ndarray) -> PathInputs:
        """Inputs of other examples, which take the same paths.

        Args:
            xi: [any, N_0, G_1, .., G_L], prefactors included.

        Returns:
            PathInputs with these names and skip connections.

        Raises:
            ValueError: as for the class.
        """
        return dataclasses.replace(self, xi=xi, tokens=None)

    def labels(self, y):
        """Labels of all rows, from labels of sequences or of tokens.

        Args:
            y: one label per row; or, where every token has an output of its own, labels [P, S] of P sequences, of which
                those of padding are left out, or a list of P arrays [S_i].

        Returns:
            Labels, one per row; whatever has neither form as it is.
        """
        return flat_labels(y, self.tokens)

    def by_token(self, values) -> np.ndarray:
        """Values of all rows, such as predictions, put where their tokens are.

        Args:
            values: one per row, [rows] or [rows, ..].

        Returns:
            Array [P, S] or [P, S, ..], NaN for padding; values as they are if there is one row per sequence.

        Raises:
            ValueError: another number of values than of rows.
        """
        found = np.asarray(values)
        if found.shape[:1] != (len(self),):
            raise checks.InputError(f"values has shape {found.shape}: give one per row of xi, [{len(self)}, ..]")
        if self.tokens is None:
            return found
        result = np.full((*self.tokens.shape, *found.shape[1:]), np.nan)
        result[self.tokens] = found
        return result

    def path_indices(self, paths: Sequence) -> tuple[int, ...]:
        """Places of some paths on the path axis.

        Args:
            paths: names or indices (from 0, C order), or one of them alone.

        Returns:
            Indices, sorted, whatever the order asked.

        Raises:
            ValueError: an unknown name (the nearest is offered), an index out of range, none, or a repeat.
        """
        if isinstance(paths, str) or not np.iterable(paths):
            paths = (paths,)
        found = []
        for path in paths:
            if isinstance(path, str):
                found.append(self.path_names.index(checks.nearest("path", path, self.path_names)))
            else:
                index = checks.count("path", path, least=0)
                if index >= self.paths:
                    raise checks.InputError(
                        f"path={index} is out of range: there are {self.paths} paths, give 0 to {self.paths - 1}"
                    )
                found.append(index)
        if not found or len(set(found)) != len(found):
            raise checks.InputError(f"paths={tuple(paths)} must name at least one path, each once")
        return tuple(sorted(found))

    def scales_left(self, index: Sequence[int] | np.ndarray) -> np.ndarray:
        """What xi of some paths is multiplied by when the others are dropped, see ``select``.

        Args:
            index: places [n] of the paths that stay, on the path axis.

        Returns:
            Factors [n].
        """
        before, after = Counter(self._groups), Counter(self._groups[i] for i in index)
        return np.sqrt([before[self._groups[i]] / after[self._groups[i]] for i in index])

    def select(self, paths: Sequence) -> PathInputs:
        """Inputs of the sub-network made of some paths, with their own number in place of that of all in xi.

        Paths that are all combinations of some branches of each layer keep one axis per layer, and the
        sub-network can have any width. Any other set becomes one axis of paths: enough for the GP limit.

        Args:
            paths: names or indices of the paths to keep.

        Returns:
            PathInputs, paths in the order they have here; xi is multiplied by sqrt(H / number kept). With skip
            connections that holds for paths that skip the same layers, of which H is the number: heads that are left
            in a layer have the coefficient 1 / sqrt(their number), and its skip connection keeps g_l.

        Raises:
            ValueError: as ``path_indices``.
        """
        index = self.path_indices(paths)
        names = tuple(self.path_names[i] for i in index)
        groups = tuple(self._groups[i] for i in index)
        kept = [sorted(set(axis)) for axis in zip(*(np.unravel_index(i, self.heads) for i in index), strict=True)]
        heads = tuple(len(axis) for axis in kept)
        residual = tuple(g if axis[0] == 0 else 0.0 for g, axis in zip(self.residual, kept, strict=True))
        if int(np.prod(heads)) == len(index):
            groups = ()
        else:
            heads, residual = (len(index),), ()
        xi = self.flat[:, :, list(index)] * self.scales_left(index)
        return PathInputs(xi.reshape(len(self), self.input_width, *heads), names, residual, self.tokens, groups)


def flat_labels(y, rows: np.ndarray | None):
    """Labels of the tokens that are rows [P, S], from labels [P, S] or P arrays [S_i]; others as they are."""
    if rows is None:
        return y
    if isinstance(y, list | tuple) and len(y) == len(rows):
        parts = [np.asarray(part) for part in y]
        if [part.shape[:1] for part in parts] == [(n,) for n in rows.sum(1)]:
            return np.concatenate(parts)
    try:
        found = np.asarray(y)
    except ValueError:  # of entries of different lengths, which the check of labels refuses
        return y
    return found[rows] if found.shape[:2] == rows.shape else y
