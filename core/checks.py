"""Checks of user input: in one place, before anything compiles.

Every message is one line that names the argument, shows the value and says the remedy.
"""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable

import jax
import numpy as np

from . import machine

_GENERATOR = "threefry2x32"


class InputError(ValueError):
    """Input that cannot be used; the message is one line with the argument, the value and the remedy."""


class InputWarning(UserWarning):
    """Input that may mean something else than it is taken for; the message says how to confirm it."""


def nearest(argument: str, value: str, options: Iterable[str]) -> str:
    """Return ``value`` if it is one of ``options``; otherwise raise ValueError offering the nearest."""
    options = tuple(options)
    if isinstance(value, str) and value in options:  # an array compares entry by entry
        return value
    raise InputError(f"{argument}={brief(value)} is not known: {choose(value, options)}")


def choose(value: str, options: Iterable[str]) -> str:
    """The remedy for a value that is not one of ``options``: which there are, the nearest first."""
    options = tuple(options)
    close = difflib.get_close_matches(str(value), options, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"use {options[0]}" if len(options) == 1 else f"{hint}choose one of {', '.join(options)}"


def array(argument: str, value, axes: str, copy: bool = True) -> np.ndarray:
    """Return ``value`` as a finite float64 NumPy array with the named axes.

    ``axes`` is the expected layout in words, ``"P, N_0, S"``; a trailing ``..`` allows any further axes. Without
    ``copy`` an array of float64 is returned as it is.
    """
    result = real_array(argument, value, axes).astype(np.float64, copy=copy)
    finite = np.isfinite(result)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise InputError(
            f"{argument} is {result[where]} at index {where}: every entry must be finite, remove or impute it"
        )
    return result


def real_array(argument: str, value, axes: str) -> np.ndarray:
    """Return ``value`` as a NumPy array of any real dtype with the named axes, which may hold NaN and infinity."""
    names = [name.strip() for name in axes.split(",")]
    result = _numbers(argument, value, names, axes)
    open_ended = names[-1] == ".."
    rank = len(names) - open_ended
    if (result.ndim < rank) if open_ended else (result.ndim != rank):
        shown = "" if result.ndim else f"={result}"
        raise InputError(f"{argument}{shown} has shape {result.shape}: give an array [{axes}]")
    if 0 in result.shape:
        raise InputError(
            f"{argument} has shape {result.shape}, which is empty: give at least one entry per axis [{axes}]"
        )
    return result


def _numbers(argument: str, value, names: list[str], axes: str) -> np.ndarray:
    """A real array from whatever library: tensors of a graph or on a device, masked arrays, named axes, lists."""
    if np.ma.is_masked(value):
        where = tuple(int(i) for i in np.argwhere(np.ma.getmaskarray(value))[0])
        raise InputError(f"{argument} is masked at index {where}: every entry must be there, remove or impute it")
    dims = getattr(value, "dims", None)
    if dims is not None and set(dims) == set(names) and tuple(dims) != tuple(names):  # of xarray, in another order
        value = value.transpose(*names)
    try:
        for method in ("detach", "cpu"):  # of PyTorch
            if callable(getattr(value, method, None)):
                value = getattr(value, method)()
        try:
            result = np.asarray(value)
        except TypeError:
            result = np.asarray(value.float())  # PyTorch's bfloat16, which NumPy lacks
        if np.iscomplexobj(result) or result.dtype.kind in "US":  # NumPy would read numbers in strings
            raise TypeError
        return result if result.dtype in (np.float32, np.float64) else result.astype(np.float64)
    except Exception as error:
        if "inhomogeneous" in str(error):
            raise InputError(
                f"{argument} is a {type(value).__name__} of entries of different lengths: "
                f"give one array [{axes}], padded"
            ) from None
        kind = getattr(value, "dtype", type(value).__name__)
        reason = "" if isinstance(error, (TypeError, ValueError)) else f", {str(error).splitlines()[0]}"
        raise InputError(
            f"{argument}={brief(value)} ({kind}{reason}) is not real numbers: give an array [{axes}]"
        ) from None


def positive(argument: str, value) -> float:
    """Return ``value`` as a float, or raise ValueError unless it is a finite number above zero."""
    number = _number(argument, value)
    if not (np.isfinite(number) and number > 0):
        raise InputError(f"{argument}={brief(value)} must be a finite number above 0")
    return number


def at_least_zero(argument: str, value) -> float:
    """Return ``value`` as a float, or raise ValueError unless it is a finite number, zero or above."""
    number = _number(argument, value)
    if not (np.isfinite(number) and number >= 0):
        raise InputError(f"{argument}={brief(value)} must be a finite number, 0 or above")
    return abs(number)


def count(argument: str, value, least: int = 1) -> int:
    """Return ``value`` as an int, or raise ValueError unless it is a whole number of at least ``least``."""
    number = _number(argument, value)
    if not np.isfinite(number) or number != int(number) or number < least:
        raise InputError(f"{argument}={brief(value)} must be a whole number, {least} or more")
    return int(number)


def counts(argument: str, values, length: int | None = None) -> tuple[int, ...]:
    """Return ``values`` as a tuple of whole numbers, 1 or more, of the given length."""
    return tuple(count(f"{argument}[{i}]", v) for i, v in enumerate(_sequence(argument, values, length)))


def positives(argument: str, values, length: int | None = None) -> tuple[float, ...]:
    """Return ``values`` as a tuple of finite numbers above 0, of the given length."""
    return tuple(positive(f"{argument}[{i}]", v) for i, v in enumerate(_sequence(argument, values, length)))


def names(argument: str, values) -> tuple[str, ...]:
    """Return names as text, or raise ValueError for one that holds a control character, such as NUL or a line break."""
    result = tuple(str(value) for value in values)
    for i, name in enumerate(result):
        if not name.isprintable():
            raise InputError(
                f"{argument}[{i}]={brief(name)} holds a character that cannot be printed: leave it out of the name"
            )
    return result


def random_key(argument: str, value) -> jax.Array:
    """Return a typed random key, or raise ValueError that says how to make one."""
    remedy = "make one with jax.random.key(0)"
    if not isinstance(value, jax.Array):
        raise InputError(f"{argument}={brief(value)} is a {type(value).__name__}, not a random key: {remedy}")
    if not jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise InputError(f"{argument} is an array of {value.dtype}, not a typed random key: {remedy}")
    if str(jax.random.key_impl(value)) != _GENERATOR:  # others draw other numbers in a batch than one by one
        raise InputError(
            f"{argument} is a key of {jax.random.key_impl(value)}, whose numbers depend on how many chains run side by "
            f"side: make one with jax.random.key(0, impl={_GENERATOR!r})"
        )
    if value.shape != ():
        raise InputError(f"{argument} holds keys of shape {value.shape}: give one key, {remedy}")
    return value


def _number(argument: str, value) -> float:
    remedy = "give a number"
    scalar = isinstance(value, (numbers.Real, np.generic)) or (
        isinstance(value, (np.ndarray, jax.Array)) and value.ndim == 0
    )
    if isinstance(value, (bool, np.bool_)) or not scalar:
        raise InputError(f"{argument}={brief(value)} is a {type(value).__name__}: {remedy}")
    try:
        return float(value)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{argument}={brief(value)} does not fit a float: {remedy}") from None


def memory(argument: str, needed: int, remedy: str) -> None:
    """Raise ValueError if ``needed`` bytes are more than the free memory of this machine."""
    room(argument, needed, available_memory(), "memory", remedy)


def available_memory() -> int:
    """Bytes of memory that this process could still take, ``machine.available_memory``."""
    return machine.available_memory()


def room(argument: str, needed: int, available: int, place: str, remedy: str) -> None:
    """Raise ValueError if ``needed`` bytes are more than the ``available`` ones."""
    if needed > available:
        raise InputError(
            f"{argument} needs {needed / 2**30:.1f} GiB of {place} and {available / 2**30:.1f} GiB is free: "
            f"use {remedy}"
        )


def brief(value) -> str:
    """One short line that shows a value."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _sequence(argument: str, values, length: int | None) -> tuple:
    try:
        result = tuple(values)
    except TypeError:
        raise InputError(f"{argument}={brief(values)} is one value: give a tuple, one entry per layer") from None
    if not result:
        raise InputError(f"{argument}=() is empty: give one entry per layer")
    if length is not None and len(result) != length:
        raise InputError(f"{argument}={brief(result)} has {len(result)} entries: give {length}")
    return result
