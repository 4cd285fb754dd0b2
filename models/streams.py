r"""The reduction of examples that come in batches: one pass, whatever their number (docs/model.md, section 10).

    R <- qr([R; [Xi_b | y_b]])          for every batch b

R [H N_0 + 1, H N_0 + 1] and one batch are all that is held. Factors of disjoint sets of batches are joined in the same
way, so workers of a cluster each factorise some batches, and a tree of joins gives the factor of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core import checks, console
from . import labels
from . import residual as skips
from .attention import Attention, is_given
from .batches import Batch, batches_of
from .contraction import contract_batch, names_of
from .paths import PathInputs, flat_labels
from .reduction import Reduction, joined, labelled, of_factor
from .tokens import check_finite, check_readout, reading, sequences
from .workers import on_client

_COPIES = 3  # of the factor while rows are joined to it


class Plan(NamedTuple):
    """What is done with every batch.

    Attributes:
        attention, readout, tokens, names, residual: as for ``reduce``.
        classes: of the labels; None: those of the batch.
        first: of an example of the first batch, its shape; None: this is the first.
    """

    attention: Attention | None
    readout: Any
    tokens: str | None
    names: tuple[str, ...]
    residual: Any
    classes: tuple | None
    first: tuple[int, ...] | None = None

    @property
    def inputs(self) -> str:
        """What inputs are called."""
        return "xi" if self.attention is None else "x"

    def after(self, part: Part) -> Plan:
        """The plan for what comes after the first batch."""
        return self._replace(classes=part.classes, first=part.first)


class Part(NamedTuple):
    """Some batches: the factor of their [Xi | y], their number of examples, and what all batches have in common.

    Attributes:
        R: [H N_0 + 1, H N_0 + 1].
        examples: number of them.
        shape: (N_0, H_1, .., H_L).
        first: shape of an example, as it was given.
        classes: of the labels.
    """

    R: np.ndarray
    examples: int
    shape: tuple[int, ...]
    first: tuple[int, ...]
    classes: tuple

    def join(self, other: Part) -> Part:
        """Both together."""
        return self._replace(R=joined(self.R, other.R), examples=self.examples + other.examples)


def reduce(
    batches,
    attention: Attention | None = None,
    readout="last",
    *,
    tokens: str | None = None,
    classes: tuple | None = None,
    path_names: tuple[str, ...] = (),
    residual: bool | Sequence[float] = (),
    batch: int = 4096,
    progress: bool = False,
    client=None,
) -> Reduction:
    """Any number of examples as at most H N_0 pseudo-examples, in one pass over batches of them.

    The result is that of all examples at once to rounding errors, and ``gf.Posterior`` takes it in place of them.

    Args:
        batches: an iterable of pairs (x, y) or of delayed ones (Dask); or a pair of arrays (x, y) that can be sliced
            (memory-mapped, HDF5, zarr, Dask); or a directory of .npz files, in the order of their names. x [P, N_0, S],
            or a list of sequences of different lengths, and y [P] are as for ``contract`` and ``Posterior``. In place
            of a pair, arrays by name may be given, {"x": x, "y": y, ..}, and files may hold more of them: ``mask``
            [P, S], ``lengths`` [P], or ``readout`` [P], the index of a token of each sequence.
        attention: of every layer; None if batches hold contracted inputs xi [P, N_0, H_1, .., H_L] in place of x.
        readout: token that the network reads: ``"last"``, ``"first"``, ``"mean"``, or ``"all"``, with one label per
            token that is not padding, [P, S] or one after another.
        tokens: ``"columns"`` or ``"rows"``, as for ``contract``.
        classes: the two labels, smaller first; () for real values; default found from the first batch.
        path_names: names of the paths of contracted inputs, as for ``PathInputs``.
        residual: strengths of skip connections, as for ``contract``; with contracted inputs those they were made with.
        batch: examples to read at a time from a pair of arrays.
        progress: show a bar on stderr.
        client: ``distributed.Client`` of a Dask cluster, whose workers share the batches: best delayed ones, Dask
            arrays, .npy files mapped into memory, or a directory, on a file system that all of them see. Others are
            sent to the scheduler and stay there until the end.

    Returns:
        Reduction.

    Raises:
        ValueError: no batches, one that is not a pair or differs in shape from the first (padded sequences may
            differ in S), NaN or infinity, labels of other classes (the message says in which batch and row), or what
            ``contract`` refuses.

    Source: docs/model.md, section 10: 2 P (H N_0)^2 flops, memory 3 (H N_0)^2 and a batch.
    """
    plan = _plan(attention, readout, tokens, classes, path_names, residual)
    number, found = batches_of(batches, checks.count("batch", batch))
    with console.bar(total=number, unit="chunk", desc="reduce", disable=not progress) as shown:
        if client is None:
            part = _in_process(plan, found, shown.update)
        else:
            part = on_client(client, part_of, plan, found, shown.update)
    if part is None:
        raise checks.InputError("batches is empty: give at least one pair (x, y)")
    return of_factor(part.R, part.examples, _like(part.shape, plan), part.classes)


def _plan(attention, readout, tokens, classes, names, residual) -> Plan:
    check_readout(readout)
    if not isinstance(readout, str):
        raise checks.InputError(
            f"readout={checks.brief(readout)} is of all examples: give each batch its own, as arrays by name, "
            "{'x': x, 'y': y, 'readout': readout}"
        )
    if tokens is not None:
        checks.nearest("tokens", tokens, ("columns", "rows"))
    if attention is not None and not isinstance(attention, Attention):
        raise checks.InputError(f"attention is a {type(attention).__name__}: give gf.Attention([W_1, .., W_L])")
    if attention is not None and is_given(attention):
        raise checks.InputError(
            "attention holds patterns of one set of examples, not of each batch: give the xi of gf.contract(x, "
            "attention) of each batch, with attention=None"
        )
    if attention is not None and len(names):
        raise checks.InputError(
            f"path_names={checks.brief(names)}, but attention has its own: give them to gf.Attention"
        )
    if classes is not None:
        classes = labels.classes_of("y", np.zeros(1), classes)
    if attention is not None:
        residual = skips.strengths(residual, len(attention.layers))
    return Plan(attention, readout, tokens, tuple(names), residual, classes)


def _in_process(plan: Plan, batches: Iterator[Batch], done: Callable[[], Any]) -> Part | None:
    part = None
    for batch in batches:
        part = part_of(batch, plan, part)
        plan = plan.after(part)
        done()
    return part


def part_of(batch: Batch, plan: Plan, before: Part | None = None) -> Part:
    """One batch, read, checked, contracted and factorised, and those before it.

    Args:
        batch: to be read.
        plan: of all batches.
        before: what to join it to.

    Raises:
        ValueError: as ``reduce``.
    """
    arrays = batch.read(plan.inputs)
    name, y = f"{plan.inputs} of {batch.name}", arrays["y"]
    if plan.attention is None:
        first = xi = checks.real_array(name, arrays["xi"], "P, N_0, H_1, ..")
        _check_shape(name, xi.shape, plan)
        check_finite(name, xi)
    else:
        first, xi, y = _contracted(name, arrays, y, batch.name, plan, plan.attention)
    y, classes = _checked_labels(y, f"y of {batch.name}", plan)
    if len(y) != len(xi):
        rows = "examples" if len(xi) == len(first) else "tokens that are not padding"
        raise checks.InputError(
            f"y of {batch.name} has {len(y)} labels and {plan.inputs} has {len(xi)} {rows}: give one label each"
        )
    if before is None:
        shape = _like(xi.shape[1:], plan).xi.shape[1:]
        checks.memory(f"H N_0 = {xi[0].size}", _COPIES * 8 * (xi[0].size + 1) ** 2, "fewer paths or inputs")
        return Part(joined(None, labelled(xi, y)), len(y), shape, first.shape[1:], classes)
    return before._replace(R=joined(before.R, labelled(xi, y)), examples=before.examples + len(y))


def _contracted(name: str, arrays: dict[str, Any], y, batch: str, plan: Plan, attention: Attention):
    """Sequences, their xi, and labels of its rows."""
    tokens = plan.tokens if plan.first is None or plan.tokens == "rows" else "columns"
    of = f" of {batch}"
    given = sequences(name, arrays["x"], tokens, arrays.get("mask"), arrays.get("lengths"), of)
    _check_shape(name, given.x.shape, plan, padded=given.mask is not None)
    read = reading(f"readout{of}", arrays.get("readout", plan.readout), given)
    return given.x, contract_batch(given, attention, read, plan.residual), flat_labels(y, read.rows)


def _check_shape(name: str, shape: tuple[int, ...], plan: Plan, padded: bool = False) -> None:
    """The shape that all batches have; padded sequences may be of any length."""
    most = 1 if padded else len(shape)
    if plan.first is not None and shape[1 : most + 1] != plan.first[:most]:
        raise checks.InputError(
            f"{name} has shape {shape}, and examples of the first batch have {plan.first}: make all axes but the "
            "first the same"
        )


def _like(shape: tuple[int, ...], plan: Plan) -> PathInputs:
    names = plan.names if plan.attention is None else names_of(plan.attention, shape[1:], plan.residual)
    return PathInputs(np.zeros((1, *shape)), names, plan.residual)


def _checked_labels(y, name: str, plan: Plan) -> tuple[np.ndarray, tuple]:
    """Labels as the network sees them, and their classes."""
    found = labels.array(name, y)
    classes = labels.classes_of(name, found, plan.classes)
    if plan.classes is None:
        _say_what_is_read(name, found, classes)
    return labels.encoded(name, found, classes), classes


def _say_what_is_read(name: str, found: np.ndarray, classes: tuple) -> None:
    """Classes that the first batch does not say, or that may surprise."""
    values = np.unique(found)
    if not classes and len(values) == 1 and values[0] == np.round(values[0]):
        raise checks.InputError(
            f"{name} is {values[0]:g} for all of its {len(found)} examples, which does not say the classes of other "
            "batches: give classes=(.., ..), or classes=() for real values"
        )
    if len(values) > 1:
        labels.warn(found, classes)
