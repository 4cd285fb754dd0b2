"""Path kernels straight from the inputs, block by block."""

import jax
import numpy as np
import pytest

from gibbsformer.models import input_blocks
from gibbsformer.models.path_kernel import PathKernel, blocks_pay, combine, pack, project


@pytest.mark.parametrize("bytes_at_once", [1, 8 * 6 * 3 * 2, 10**9])  # one direction, two of five, all
def test_blocks_give_the_whole(monkeypatch, x64, bytes_at_once):
    monkeypatch.setattr(input_blocks, "_BLOCK_BYTES", bytes_at_once)
    rng = np.random.default_rng(0)
    xi, U, G = rng.standard_normal((6, 5, 3)), rng.standard_normal((3, 3)), rng.standard_normal((6, 6))
    U, G = U + U.T, G + G.T
    kernel = PathKernel(None, jax.numpy.asarray(xi), 6, 3)
    np.testing.assert_allclose(combine(kernel, U), np.einsum("pnh,hg,qng->pq", xi, U, xi), rtol=1e-12, atol=1e-12)
    found = project(kernel, pack(jax.numpy.asarray(G)))
    np.testing.assert_allclose(found, np.einsum("pnh,pq,qng->hg", xi, G, xi), rtol=1e-12, atol=1e-12)


def test_what_is_stored_is_chosen_by_arithmetic():
    assert blocks_pay((600, 231, 16))  # 220 MiB
    assert blocks_pay((1000, 231, 16))  # 584 MiB, read in less time than 7.5 Gflop take
    assert not blocks_pay((1000, 384, 64))  # 8.7 GiB
    assert not blocks_pay((1000, 20, 64))  # inputs of few directions are contracted in less time
