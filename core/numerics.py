"""The numerical setting of one computation, whatever the user's global one: precision and threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
from threadpoolctl import threadpool_limits


def full_precision() -> contextlib.AbstractContextManager:
    """Matrix products of float32 numbers traced inside this block keep float32 precision on a GPU.

    By default they are TF32 there, with 10 bits of mantissa.
    """
    return jax.default_matmul_precision("float32")


@contextlib.contextmanager
def numerics() -> Iterator[None]:
    """Float64 enabled inside this block, with one BLAS thread per LAPACK call; float32 is asked for by dtype, and full.

    BLAS threads that wait for a core taken by another process made a batch of factorisations over 10 times slower (2
    shared cores, 4 matrices of 100 x 100), and gained nothing at 600 x 600.
    """
    with jax.enable_x64(True), full_precision(), threadpool_limits(limits=1, user_api="blas"):
        yield
