"""Copies of sample files: the chains of several files in one, or a part of a file as plain netCDF.

Both copy block by block, so memory does not grow with the files, and both write to ``out.new`` and rename it, so that
a copy is complete or absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..core import checks, files
from . import description, layout, writer
from .reading import explained, reading, settings_of
from .verifying import check_cheaply, check_draws, checksums

_BLOCK_BYTES = 16 * 2**20
_LARGE_LOSS = 0.1  # share of the longest file's draws that is not dropped unasked
_MAY_DIFFER = ("chains", "created", "device", "draws", "key_data")
_MANTISSA_BITS = {"float32": 23, "float64": 52}


class DroppedDrawsWarning(UserWarning):
    """Draws of some files have no counterpart in others, and a merged file leaves them out."""


def merge(
    paths: Sequence[str | os.PathLike], out: str | os.PathLike, overwrite: bool = False, shorten: bool = False
) -> None:
    """Join the chains of several files of one run or of runs alike, keeping the draws that all of them have.

    A warning says how many draws of which file are left out.

    Chains keep their ids if no two files share one, and are numbered in the order of the files otherwise. The parts of
    a distributed run must all be there, in any order, and give the chains in the order of a single process. The sampler
    state is left behind, so a merged file cannot be resumed.

    Args:
        paths: sample files; schema, settings, recorded variables, data and labels must agree, of parts also the key.
        out: file to create.
        overwrite: replace an existing file.
        shorten: also leave out more than a tenth of the draws of the longest file.

    Raises:
        ValueError: a file cannot be read, two files differ (the message names the first difference) or hold the same
            chains, more draws would be left out than ``shorten`` allows, a part of a distributed run is missing, or
            ``out`` cannot be created.
    """
    sources = [files.absolute("paths", path) for path in paths]
    if len(sources) < 2:
        raise checks.InputError(
            f"paths={[str(path) for path in sources]} is not enough to merge: give two files or more"
        )
    target = _target(out, sources, overwrite)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(reading(path)) for path in sources]
        described = [description.read(path, file) for path, file in zip(sources, opened, strict=True)]
        settings: Any = [settings_of(path, each) for path, each in zip(sources, described, strict=True)]
        order = sorted(range(len(opened)), key=lambda i: settings[i].get("distributed", {}).get("process", i))
        sources, described = [sources[i] for i in order], [described[i] for i in order]
        opened, settings = [opened[i] for i in order], [settings[i] for i in order]
        for path, file, each in zip(sources, opened, described, strict=True):
            check_cheaply(path, file, each)
        compared = [_compared(*each) for each in zip(sources, opened, described, settings, strict=True)]
        for path, other in zip(sources[1:], compared[1:], strict=True):
            _compare(sources[0], compared[0], path, other)
        ids = [np.array(each.chains) for each in described]
        whole = _check_parts(sources, settings)
        _check_distinct(sources, settings, ids)
        chains = np.concatenate(ids)
        if len(set(chains)) < len(chains):
            chains = np.arange(len(chains))
        draws = _common_draws(sources, [len(file["posterior/draw"]) for file in opened], shorten)
        columns, checked = described[0].columns, described[0].schema_version > 1
        _check_room(target, columns, len(chains), draws)
        with writer.NewFile(target) as new:
            made = new.file
            made.attrs["schema"], made.attrs["schema_version"] = layout.SCHEMA, layout.SCHEMA_VERSION if checked else 1
            made.attrs["uuid"] = str(uuid.uuid4())
            parts = [{"file": path.name, "uuid": each.uuid} for path, each in zip(sources, described, strict=True)]
            joined = settings[0] | {"chains": len(chains), "draws": draws, "merged_from": parts}
            for name in ("key_data", "device", "created"):
                values = [setting.get(name) for setting in settings]
                joined[name] = values[0] if whole and all(value == values[0] for value in values) else values
            joined.pop("distributed", None)
            made.attrs["settings"] = json.dumps(joined)
            layout.create_draws(made, columns, described[0].labels, chains, crc=checked)
            _copy_constants(sources[0], opened[0], described[0], made)
            made.create_group("sampler_state").attrs["step"] = min(_step(file) for file in opened)
            _resize_draws(made, columns, np.arange(draws))
            if checked:
                description.write(made, new.building)
            first = 0
            for path, file, own in zip(sources, opened, ids, strict=True):
                for name, column in columns.items():
                    source, copy = file[column.group][name], made[column.group][name]
                    _copy_draws(new, path, source, checksums(file, name), copy, first, slice(0, draws))
                first += len(own)
            _write_checksums(new, columns)


def export(
    path: str | os.PathLike,
    out: str | os.PathLike,
    variables: Sequence[str] | None = None,
    thin: int = 1,
    mantissa_bits: int | None = None,
    compression: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a part of a sample file as a plain netCDF-4 file for other programs.

    Args:
        path: sample file.
        out: file to create; its groups and axes are those of a sample file, and ``draw`` counts the original draws.
        variables: names to write; default all recorded variables.
        thin: write every thin-th draw.
        mantissa_bits: round floating-point draws to so many bits after the leading one, relative error at most
            2^-(bits+1), which is what makes compression pay; default exact.
        compression: ``"gzip"``; default none.
        overwrite: replace an existing file.

    Raises:
        ValueError: the file cannot be read, an argument is out of range or unknown, or ``out`` cannot be created.
    """
    thin = checks.count("thin", thin)
    if mantissa_bits is not None:
        mantissa_bits = checks.count("mantissa_bits", mantissa_bits)
    filters: dict = {}
    if compression is not None:
        filters = {"compression": checks.nearest("compression", compression, ("gzip",)), "shuffle": True}
    path = files.absolute("path", path)
    target = _target(out, [path], overwrite)
    with reading(path) as file:
        described = description.read(path, file)
        check_cheaply(path, file, described)
        columns = described.columns
        if variables is not None:
            columns = {name: columns[checks.nearest("variables", name, columns)] for name in variables}
        draws = file["posterior/draw"][::thin]
        if compression is None:
            _check_room(target, columns, len(file["posterior/chain"]), len(draws))
        with writer.NewFile(target) as new:
            made = new.file
            made.attrs["settings"], made.attrs["source_uuid"] = described.settings, described.uuid
            made.attrs["export"] = json.dumps({"thin": thin, "mantissa_bits": mantissa_bits})
            layout.create_draws(made, columns, described.labels, described.chains, **filters)
            _copy_constants(path, file, described, made)
            _resize_draws(made, columns, draws)
            for name, column in columns.items():
                source, copy = file[column.group][name], made[column.group][name]
                picked = slice(0, None, thin)
                _copy_draws(new, path, source, checksums(file, name), copy, 0, picked, mantissa_bits)


def _target(out, sources: list[Path], overwrite: bool) -> Path:
    target = files.output_file("out", out, overwrite)
    if target in [source.resolve() for source in sources]:
        raise checks.InputError(f"out={str(out)!r} is one of the files to read: choose another name")
    return target


def _compared(path: Path, file: h5py.File, described: description.Description, settings: dict) -> dict[str, Any]:
    """Everything in which files to be merged must agree, by name."""
    arrays = {name: description.constant(path, file, described, name) for name in described.constants}
    part = settings.get("distributed")
    return {
        "schema_version": min(described.schema_version, 2),  # 3 adds checksums
        **({} if part is None else {"parts": part["processes"], "chains": part["chains"], "key": settings["key_data"]}),
        **{name: settings[name] for name in sorted(settings.keys() - {*_MAY_DIFFER, "distributed", "merged_from"})},
        **{f"variable {name}": column for name, column in described.columns.items()},
        **{f"axis {name}": values for name, values in described.labels.items()},
        **arrays,
    }


def _compare(path: Path, one: dict[str, Any], other_path: Path, other: dict[str, Any]) -> None:
    """Raise ValueError that names the first thing in which two files differ."""
    for name in [*one, *(other.keys() - one.keys())]:
        first, second = one.get(name), other.get(name)
        arrays = [isinstance(value, np.ndarray) for value in (first, second)]
        same = np.array_equal(np.asarray(first), np.asarray(second)) if any(arrays) else first == second
        if not same:
            raise checks.InputError(
                f"{path} and {other_path} cannot be merged: {name} is {checks.brief(first)} in the first and "
                f"{checks.brief(second)} in the second, give files that agree"
            )


def _check_distinct(paths, settings, ids) -> None:
    """Chains of one key and one id are the same draws twice, which would make a run look better than it is."""
    seen: dict[tuple, Path] = {}
    for path, setting, own in zip(paths, settings, ids, strict=True):
        key = json.dumps([setting.get("key_impl"), setting.get("key_data")])
        for chain in own.tolist():
            if (key, chain) in seen:
                raise checks.InputError(
                    f"{seen[key, chain]} and {path} both hold chain {chain} of the same key: leave one of them out"
                )
            if setting.get("key_data") is not None:
                seen[key, chain] = path


def _common_draws(paths: list[Path], lengths: list[int], shorten: bool) -> int:
    """The draws that all files have; says what that drops, and refuses a large loss."""
    common = min(lengths)
    dropped = ", ".join(
        f"{n - common} of {n} of {path.name}" for path, n in zip(paths, lengths, strict=True) if n > common
    )
    if max(lengths) - common > _LARGE_LOSS * max(lengths) and not shorten:
        raise checks.InputError(
            f"paths: {paths[lengths.index(common)].name} has {common} draws, so that {dropped} would be dropped: "
            "resume it, leave it out, or drop them (shorten=True, --shorten)"
        )
    if dropped:
        warnings.warn(
            f"merged files keep the draws that all have: {dropped} are dropped, resume the shorter ones to keep them",
            DroppedDrawsWarning,
            stacklevel=3,
        )
    return common


def _check_parts(paths, settings) -> bool:
    """Whether the files are the parts of one distributed run, all of which must be there."""
    found = [setting.get("distributed") for setting in settings]
    if found[0] is None:
        return False
    if "lifted_from_draws" in settings[0]:
        raise checks.InputError(f"{paths[0]} was lifted from a part of a distributed run: merge the parts, lift then")
    missing = sorted(set(range(found[0]["processes"])) - {part["process"] for part in found})
    if missing:
        raise checks.InputError(
            f"paths={[str(path) for path in paths]} lack part {', '.join(map(str, missing))} of "
            f"{found[0]['processes']}, counted from 0: give the files of all processes"
        )
    return True


def _check_room(target: Path, columns: Mapping[str, layout.Column], chains: int, draws: int) -> None:
    needed = sum(layout.size(c.shape, c.dtype) for c in columns.values()) * chains * draws
    writer.check_room(target, f"out={str(target)!r}", needed, "another disk")


def _step(file: h5py.File) -> int:
    return int(layout.plain(file["sampler_state"].attrs.get("step", 0)))


def _copy_constants(path: Path, source: h5py.File, described: description.Description, made: h5py.File) -> None:
    for place, (dims, _) in described.constants.items():
        group, _, name = place.rpartition("/")
        with explained(path):
            values = description.constant(path, source, described, place)
        layout.write_array(made.require_group(group), name, dims, values, described.labels)


def _write_checksums(new: writer.NewFile, columns: Mapping[str, layout.Column]) -> None:
    """Checksums of all draws, of copies whose sources were checked."""
    for name, sums in new.file.get(layout.CHECKSUMS, {}).items():
        if sums.is_scale:
            continue
        held = layout.small(columns) if name == layout.TOGETHER else [name]
        per_draw = max(1, sum(layout.size(columns[each].shape, columns[each].dtype) for each in held))
        count = max(1, _BLOCK_BYTES // per_draw)
        for chain in range(sums.shape[0]) if held else ():
            for start in range(0, sums.shape[1], count):
                part = slice(start, start + count)
                values = [new.file[columns[each].group][each][chain, part][None] for each in held]
                sums[chain, part] = layout.together(values)[0]
                new.check()


def _resize_draws(made: h5py.File, columns, draws: np.ndarray) -> None:
    for name, column in columns.items():
        made[column.group][name].resize(len(draws), axis=1)
    for name, sums in made.get(layout.CHECKSUMS, {}).items():
        if not sums.is_scale:
            made[layout.CHECKSUMS][name].resize(len(draws), axis=1)
    for group in {column.group for column in columns.values()} | ({layout.CHECKSUMS} & set(made)):
        made[group]["draw"].resize(draws.shape)
        made[group]["draw"][...] = draws


def _copy_draws(
    new: writer.NewFile, path, source, sums, target, first_chain: int, draws: slice, mantissa_bits: int | None = None
) -> None:
    """Copy draws of all chains of ``source``, in blocks of whole chunks of the target, checked on the way."""
    picked = range(source.shape[1])[draws]
    chunk = target.chunks[1]
    per_draw = max(1, int(np.prod(source.shape[2:])) * source.dtype.itemsize)
    count = max(1, _BLOCK_BYTES // per_draw // chunk) * chunk
    for chain in range(source.shape[0]):
        for start in range(0, len(picked), count):
            part = picked[start : start + count]
            read = slice(part.start, part[-1] + 1, part.step)
            with explained(path):
                block = source[chain, read]
                if sums is not None:
                    check_draws(path, source, sums, chain, read, block)
            if mantissa_bits is not None and block.dtype.name in _MANTISSA_BITS:
                block = _rounded(block, mantissa_bits)
            target[first_chain + chain, start : start + len(part)] = block
            new.check()


def _rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Values rounded to ``bits`` of mantissa, ties to even; infinities and NaN stay."""
    dropped = _MANTISSA_BITS[values.dtype.name] - bits
    if dropped <= 0:
        return values
    unsigned = np.dtype(f"u{values.dtype.itemsize}").type
    whole = values.view(unsigned)
    half = unsigned((1 << (dropped - 1)) - 1)
    kept = (whole + half + ((whole >> unsigned(dropped)) & unsigned(1))) & ~unsigned((1 << dropped) - 1)
    return np.where(np.isfinite(values), kept.view(values.dtype), values)
