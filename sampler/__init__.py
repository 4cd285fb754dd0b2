"""Samplers: kernels by name, and the one driver loop that runs them."""

from __future__ import annotations

from ..models import checks
from .collapsed import Collapsed
from .gibbs import Gibbs
from .hmc import HMC
from .kernel import Kernel, Target
from .nuts import NUTS
from .run import Run

KERNELS = {kernel.name: kernel for kernel in (Collapsed, Gibbs, NUTS, HMC)}


def resolve_kernel(kernel) -> Kernel:
    """A kernel by name, or the object itself.

    Raises:
        ValueError: an unknown name (the nearest is offered), or an object that is no kernel.
    """
    if isinstance(kernel, str):
        return KERNELS[checks.nearest("kernel", kernel, KERNELS)]()
    if isinstance(kernel, type) or not all(hasattr(kernel, part) for part in ("target", "init", "step", "position")):
        raise checks.InputError(
            f"kernel={kernel!r} is no kernel: give a name ({', '.join(KERNELS)}) or a kernel object"
        )
    return kernel


__all__ = ["HMC", "KERNELS", "NUTS", "Collapsed", "Gibbs", "Kernel", "Run", "Target", "resolve_kernel"]
