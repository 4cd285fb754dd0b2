"""Sequences of tokens as users have them, and what the network reads of them.

Sequences of one length are an array x [P, N_0, S]. Those of different lengths are padded, with a mask [P, S] that is
True for tokens and False for padding, or a list of arrays [N_0, S_i], which is padded here. What padding holds does not
matter. The network reads one token of each sequence, an average over its tokens, or all of them, one output each.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from ..core import checks

READOUTS = ("last", "first", "mean", "all")
ALL = "all"


class Sequences(NamedTuple):
    """Checked sequences.

    Attributes:
        x: [P, N_0, S], token s in column s, in the user's precision; zero for padding.
        mask: [P, S], True for tokens; None if there is no padding.
    """

    x: np.ndarray
    mask: np.ndarray | None = None


class Reading(NamedTuple):
    """What the network reads.

    Attributes:
        kind: "last", "first", "mean" or "all".
        weights: of each token [P, S], where they differ between sequences; None: as ``kind`` says, for all of them.
        rows: [P, S], True for tokens with an output of their own; None unless the kind is "all".
    """

    kind: str
    weights: np.ndarray | None = None
    rows: np.ndarray | None = None


def sequences(name: str, x, tokens: str | None = None, mask=None, lengths=None, of: str = "") -> Sequences:
    """Sequences as given, checked; real numbers keep their precision.

    Args:
        name: what the user called them, for messages.
        x: an array; an xarray.DataArray with axes "P", "N_0" and "S" in any order; or a list of arrays [N_0, S_i].
        tokens: ``"columns"`` for x [P, N_0, S], ``"rows"`` for x [P, S, N_0]; None: columns, where S is not N_0.
        mask: [P, S], True or 1 for tokens.
        lengths: [P], tokens of each sequence, which come before its padding.
        of: what is added to the names of mask and lengths in messages.

    Raises:
        ValueError: another rank, NaN or infinity, an unknown ``tokens``, a mask or lengths that do not fit, or a
            sequence without tokens.
    """
    if tokens is not None:
        checks.nearest("tokens", tokens, ("columns", "rows"))
    found: np.ndarray | None
    if is_ragged(x):
        if mask is not None or lengths is not None:
            which = "lengths" if mask is None else "mask"
            raise checks.InputError(
                f"{which}{of} is given, but {name} is a list of sequences, which says it: leave {which} out"
            )
        x, found = _padded(name, x, tokens)
    else:
        x = oriented(name, x, checks.real_array(name, x, axes_of(tokens)), tokens)
        found = _mask(x.shape, mask, lengths, of)
        x = x if found is None else np.where(found[:, None], x, np.zeros((), x.dtype))
    check_finite(name, x)
    return Sequences(x, found)


def is_ragged(x) -> bool:
    """Whether x lists matrices of different shapes."""
    if not (isinstance(x, list | tuple) or getattr(getattr(x, "dtype", None), "kind", "") == "O") or not len(x):
        return False
    shapes = {tuple(getattr(part, "shape", ())) for part in x}
    return len(shapes) > 1 and all(len(shape) == 2 for shape in shapes)


def _padded(name: str, x, tokens: str | None) -> tuple[np.ndarray, np.ndarray]:
    axes = axes_of(tokens).removeprefix("P, ")
    parts = [checks.real_array(f"{name}[{i}]", part, axes) for i, part in enumerate(x)]
    parts = [part.T for part in parts] if tokens == "rows" else parts
    for i, part in enumerate(parts):
        if len(part) != len(parts[0]):
            raise checks.InputError(
                f"{name}[{i}] has input width {len(part)} and {name}[0] has {len(parts[0])}: give sequences [{axes}] "
                "of one N_0"
            )
    S = max(part.shape[1] for part in parts)
    padded = np.zeros((len(parts), len(parts[0]), S), np.result_type(*parts))
    for row, part in zip(padded, parts, strict=True):
        row[:, : part.shape[1]] = part
    return padded, np.arange(S) < np.array([part.shape[1] for part in parts])[:, None]


def _mask(shape: tuple[int, ...], mask, lengths, of: str) -> np.ndarray | None:
    """[P, S], None if there is no padding."""
    P, _, S = shape
    if mask is not None and lengths is not None:
        raise checks.InputError(f"mask{of} and lengths{of} say the same thing: give one of them")
    if lengths is not None:
        name, given = f"lengths{of}", checks.array(f"lengths{of}", lengths, "P")
        if len(given) != P:
            raise checks.InputError(f"{name} has {len(given)} entries and there are {P} sequences: give one each")
        wrong = (given != np.round(given)) | (given < 1) | (given > S)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise checks.InputError(f"{name}[{row}]={given[row]:g} must be a whole number of tokens, 1 to {S}")
        found = np.arange(S) < given[:, None]
    elif mask is not None:
        name = f"mask{of}"
        values = checks.array(name, mask, "P, S")
        if values.shape != (P, S):
            raise checks.InputError(f"{name} has shape {values.shape}: give [P, S] = {(P, S)}, True for tokens")
        if not np.isin(values, (0, 1)).all():
            raise checks.InputError(f"{name} holds {values.max():g}: give True or 1 for tokens, False or 0 for padding")
        found = values > 0
        if not found.any(1).all():
            row = int(np.argmin(found.any(1)))
            raise checks.InputError(f"{name} leaves no token of sequence {row}: remove that sequence, or make it True")
    else:
        return None
    return None if found.all() else found


def check_finite(name: str, x: np.ndarray) -> None:
    """Refuse NaN and infinity, with the row and the index."""
    finite = np.isfinite(x)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise checks.InputError(
            f"{name} holds {x[where]} in row {where[0]}, at index {where}: every entry must be finite, remove or "
            "impute it"
        )


def axes_of(tokens: str | None) -> str:
    """The axes of sequences in words."""
    return "P, S, N_0" if tokens == "rows" else "P, N_0, S"


def oriented(name: str, x, found: np.ndarray, tokens: str | None) -> np.ndarray:
    """Sequences found in x as [P, N_0, S], with a warning where tokens may be on either axis and nobody said."""
    named = set(getattr(x, "dims", ())) == {"P", "N_0", "S"}
    if tokens is None and not named and found.shape[1] == found.shape[2] > 1:
        warnings.warn(
            f"{name} has shape {found.shape}, where tokens may be columns [P, N_0, S] or rows [P, S, N_0], read as "
            "columns: give tokens='columns' to confirm it, or tokens='rows'",
            checks.InputWarning,
            stacklevel=4,
        )
    return found.swapaxes(1, 2) if tokens == "rows" else found


def check_readout(readout) -> None:
    """Refuse what is neither a name nor an index per example, before any sequence is seen."""
    if isinstance(readout, str) or np.ndim(readout) == 0:
        checks.nearest("readout", readout, READOUTS)


def reading(name: str, readout, given: Sequences) -> Reading:
    """What the network reads of these sequences.

    Args:
        name: of the readout in messages.
        readout: ``"last"``, ``"first"`` or ``"mean"`` of the tokens of each sequence; ``"all"`` of them; or the index
            of a token of each sequence [P], from 0.
        given: the sequences.

    Raises:
        ValueError: an unknown name, not one index for each sequence, one out of range or of padding.
    """
    x, mask = given
    S, rows = x.shape[2], np.ones((len(x), x.shape[2]), bool) if mask is None else mask
    readout = str(readout) if np.ndim(readout) == 0 and np.asarray(readout).dtype.kind == "U" else readout  # of a file
    check_readout(readout)
    if not isinstance(readout, str):
        return Reading("last", np.eye(S)[_indices(name, readout, rows)])
    if readout == ALL:
        return Reading(ALL, rows=rows)
    if mask is None:
        return Reading(readout)
    if readout == "mean":
        return Reading("mean", mask / mask.sum(1, keepdims=True))
    return Reading(readout, np.eye(S)[mask.argmax(1) if readout == "first" else S - 1 - mask[:, ::-1].argmax(1)])


def token_weights(read: Reading, S: int) -> np.ndarray:
    """Weights of the target tokens that are read, [P, S], or [S] where they are the same for all sequences."""
    if read.weights is not None:
        return read.weights
    return {"last": np.eye(S)[-1], "first": np.eye(S)[0], "mean": np.full(S, 1 / S)}[read.kind]


def _indices(name: str, readout, rows: Bool[np.ndarray, "P S"]) -> np.ndarray:
    (P, S), found = rows.shape, checks.array(name, readout, "P")
    if len(found) != P:
        raise checks.InputError(f"{name} has {len(found)} entries and there are {P} sequences: give one index each")
    wrong = (found != np.round(found)) | (found < 0) | (found >= S)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise checks.InputError(f"{name}[{row}]={found[row]:g} must be the index of a token, 0 to {S - 1}")
    index = found.astype(int)
    padding = ~rows[np.arange(P), index]
    if padding.any():
        row = int(np.argmax(padding))
        raise checks.InputError(f"{name}[{row}]={index[row]} is padding: give the index of a token of that sequence")
    return index
