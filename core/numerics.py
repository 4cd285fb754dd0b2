"""The numerical setting of one computation, whatever the user's global one: precision and threads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
from threadpoolctl import threadpool_limits

_HOST_EXAMPLES = 1000


def full_precision() -> contextlib.AbstractContextManager:
    """Matrix products of float32 numbers traced inside this block keep float32 precision on a GPU.

    By default they are TF32 there, with 10 bits of mantissa.
    """
    return jax.default_matmul_precision("float32")


def on_host(examples: int) -> contextlib.AbstractContextManager:
    """A single small problem on a GPU's host: what is made inside this block is computed by the CPU.

    On an H100 the theory's programs took 26 s to compile at P = 100 and 3 s on its host, where they run in
    milliseconds. Nothing changes above ``_HOST_EXAMPLES`` examples, or where there is no GPU or no other device.
    """
    with contextlib.suppress(RuntimeError):
        if examples <= _HOST_EXAMPLES and jax.default_backend() != "cpu":
            return jax.default_device(jax.local_devices(backend="cpu")[0])
    return contextlib.nullcontext()


@contextlib.contextmanager
def numerics() -> Iterator[None]:
    """Float64 enabled inside this block, with one BLAS thread per LAPACK call; float32 is asked for by dtype.

    BLAS threads that wait for a core taken by another process made a batch of factorisations over 10 times slower (2
    shared cores, 4 matrices of 100 x 100), and gained nothing at 600 x 600.
    """
    with jax.enable_x64(True), full_precision(), threadpool_limits(limits=1, user_api="blas"):
        yield
