"""Each block's P x P kernel is Phi Phi^T, with Phi built explicitly as the Jacobian of f in that block."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gibbsformer.models.network import forward, path_weights
from gibbsformer.sampler.gibbs import block_kernel

NETWORKS = {
    "L=1": {"heads": (2,), "widths": (4, 3), "variances": (0.7, 1.3, 0.9)},
    "L=2": {"heads": (2, 3), "widths": (4, 3, 5)},
    "L=3": {"heads": (2, 1, 2), "widths": (3, 5, 4, 2), "variances": (0.7, 1.3, 0.9, 1.1, 0.8)},
}


@pytest.mark.parametrize("case", NETWORKS)
def test_block_kernel_is_the_gram_matrix_of_the_jacobian(make_small, case, x64):
    small = make_small(**NETWORKS[case])
    data = small.posterior.weight_data(jnp.float64)
    for name, block in small.weights.items():
        output = lambda b, name=name: forward(path_weights(small.weights | {name: b}), data.xi)  # noqa: E731
        Phi = jax.jacobian(output)(block).reshape(len(data.y), -1)
        expected = np.asarray(Phi @ Phi.T)
        # float64 rounding of sums of at most 100 terms
        np.testing.assert_allclose(
            block_kernel(data, small.weights, name), expected, rtol=1e-10, atol=1e-12 * expected.max(), err_msg=name
        )
