"""MCMC kernels by name, one a file."""

from __future__ import annotations

import dataclasses

from ...core import checks
from ...core.text import plain
from .adjusted_mclmc import AdjustedMCLMC
from .chees import ChEES
from .collapsed import Collapsed
from .ghmc import GHMC
from .gibbs import Gibbs
from .hmc import HMC
from .kernel import EnsembleKernel, Kernel
from .mala import MALA
from .mclmc import MCLMC
from .nuts import NUTS
from .split import SplitHMC
from .stochastic import SGHMC, SGLD

KERNELS = {
    kernel.name: kernel
    for kernel in (Collapsed, Gibbs, NUTS, HMC, SplitHMC, ChEES, MALA, GHMC, MCLMC, AdjustedMCLMC, SGLD, SGHMC)
}


def resolve_kernel(kernel, options=None) -> Kernel:
    """A kernel object from its name.

    Args:
        kernel: a name in ``KERNELS``, or a kernel object, which is returned as it is.
        options: options by name, for a kernel by name.

    Returns:
        Kernel.

    Raises:
        ValueError: an unknown name or option (the nearest is offered), or an object that is not a kernel.
    """
    if isinstance(kernel, str):
        kind = KERNELS[checks.nearest("kernel", kernel, KERNELS)]
        known = [field.name for field in dataclasses.fields(kind)]
        for option in options or {}:
            if option == "space":
                raise checks.InputError(
                    f"option='space' is not an option of kernel {kernel!r}: give target='weights' or target='marginal' "
                    "(--target) instead"
                )
            if not known:
                raise checks.InputError(f"option={option!r}: kernel {kernel!r} has none, leave it out")
            checks.nearest("option", option, known)
        return _plain(kind(**options or {}))
    if not isinstance(kernel, Kernel):
        raise checks.InputError(
            f"kernel={kernel!r} is not a kernel: give a name ({', '.join(KERNELS)}) or a kernel object"
        )
    return _plain(kernel)


def _plain(kernel: Kernel) -> Kernel:
    """The kernel with numbers of NumPy and JAX among its options, and whole numbers written as 8.0, as Python's own."""
    changed = {}
    for field in dataclasses.fields(kernel):
        value = getattr(kernel, field.name)
        new = plain(value)
        if isinstance(new, float) and new.is_integer() and "float" not in str(field.type):
            new = int(new)
        if type(new) is not type(value) and not isinstance(value, tuple):
            changed[field.name] = new
    return dataclasses.replace(kernel, **changed) if changed else kernel


__all__ = [
    "GHMC",
    "HMC",
    "KERNELS",
    "MALA",
    "MCLMC",
    "NUTS",
    "SGHMC",
    "SGLD",
    "AdjustedMCLMC",
    "ChEES",
    "Collapsed",
    "EnsembleKernel",
    "Gibbs",
    "Kernel",
    "SplitHMC",
    "resolve_kernel",
]
