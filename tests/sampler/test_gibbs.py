"""The Gibbs sampler's pieces: the kernel of every block against Jacobians of the network, contracted activations, and
draws of a block against the mean and covariance of its Gaussian conditional in closed form."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.models import blocks
from gibbsformer.models.network import effective_weights, forward, path_weights
from gibbsformer.models.weight_space import log_density
from gibbsformer.sampler.kernels.kernel import Setting

pytestmark = pytest.mark.usefixtures("x64")

RELATIVE = 1e-10  # float64 rounding of sums of up to a few thousand terms
SHAPES = {
    "one layer": {"heads": (3,), "widths": (4, 2), "variances": (0.7, 1.3, 0.9)},
    "two layers": {"heads": (2, 3), "widths": (4, 3, 5)},
    "three layers": {"heads": (2, 1, 3), "widths": (7, 3, 4, 2), "variances": (0.7, 1.3, 0.9, 1.1, 0.6)},
}


def jacobian(problem, data, name):
    """Phi [P, entries of the block], f = Phi block with the other blocks at the problem's weights."""
    f = lambda block: forward(path_weights(problem.weights | {name: block}, problem.network.residual), data.xi)  # noqa: E731
    return np.asarray(jax.jit(jax.jacobian(f))(problem.weights[name])).reshape(data.y.size, -1)


def between(problem, data, name):
    """(A [q, i], z [h, q, j, P]) of a block: the weights above it contracted, and what enters it."""
    W = {"a": jnp.eye(problem.network.outputs)} | {
        f"V_{l}": w / math.sqrt(w.shape[1])
        for l, w in enumerate(effective_weights(problem.weights, problem.network.residual))
    }
    shaped = {n: problem.weights[n].reshape(shape) for n, shape in blocks.block_shapes(problem.network).items()}
    skips = dict(zip(shaped, blocks.block_skips(problem.network), strict=True))
    z = dict(zip(shaped, blocks.block_inputs(data.xi, shaped, skips.values()), strict=True))[name]
    return W[name], z[1:] if skips[name] else z


@pytest.mark.parametrize("shape", SHAPES)
def test_block_kernel_is_the_gram_matrix_of_gradients(make_small, shape):
    problem = make_small(**SHAPES[shape])
    data = problem.posterior.weight_data(jnp.float64)
    for name in problem.network.weight_shapes:
        Phi = jacobian(problem, data, name)
        expected = Phi @ Phi.T
        kernel = jax.jit(blocks.block_kernel)(*between(problem, data, name))
        np.testing.assert_allclose(kernel, expected, rtol=RELATIVE, atol=RELATIVE * np.abs(expected).max())


@pytest.mark.parametrize("name", ["V_0", "V_1", "V_2", "a"])
def test_block_draws_have_the_conditional_mean_and_covariance(make_small, batched, assert_within, name):
    """mean s^2 Phi^T (s^2 Phi Phi^T + T)^{-1} y, covariance s^2 - s^4 Phi^T (..)^{-1} Phi."""
    problem = make_small(heads=(2, 1), widths=(3, 2, 3), N_0=3, P=4, temperature=0.02)
    data, draws = problem.posterior.weight_data(jnp.float64), 20_000
    variance = dict(zip(problem.network.weight_shapes, problem.network.variances, strict=True))[name]
    draw = partial(blocks.draw_block, data, *between(problem, data, name), variance)
    found = np.asarray(batched(draw, jax.random.split(jax.random.key(0), draws))).reshape(draws, -1)

    Phi = jacobian(problem, data, name)
    gain = variance * np.linalg.solve(variance * Phi @ Phi.T + 0.02 * np.eye(4), Phi).T
    mean = gain @ problem.posterior.y
    covariance = variance * (np.eye(len(mean)) - gain @ Phi)
    scale = np.diag(covariance)
    assert_within((found.mean(0) - mean) / np.sqrt(scale / draws), f"mean of {name} ")
    # the variance of a product of jointly Gaussian x_i x_j is S_ii S_jj + S_ij^2
    errors = np.sqrt((np.outer(scale, scale) + covariance**2) / draws)
    centred = found - mean
    assert_within((centred.T @ centred / draws - covariance) / errors, f"covariance of {name} ")


def test_sweep_records_the_log_density_of_the_new_weights_and_draws_every_block(small):
    data = small.posterior.weight_data(jnp.float64)
    kernel = gf.Gibbs()
    setting = Setting(small.posterior.target("weights"), data, warmup=0, chains=1)
    step = jax.jit(lambda key, w: kernel.step(setting, key, jnp.int32(0), w))
    new, stats = step(jax.random.key(0), small.weights)
    np.testing.assert_allclose(stats["lp"], log_density(small.network, data, new), rtol=1e-12)
    for name, shape in small.network.weight_shapes.items():
        assert new[name].shape == shape
        # a continuous law repeats no entry
        assert np.sum(np.asarray(new[name]) == np.asarray(small.weights[name])) == 0, math.prod(shape)
    assert list(new) == list(small.network.weight_shapes)


def test_variances_follow_the_network_and_not_the_order_of_names(make_small):
    """JAX sorts the names of a state that goes through a loop, and from ten layers on V_10 sorts before V_2."""
    tiny = 1e-8
    problem = make_small(heads=(1, 2), widths=(2, 3, 2), variances=(1.0, tiny, 1.0, 1.0), N_0=2, P=2)
    kernel = gf.Gibbs()
    setting = Setting(problem.posterior.target("weights"), problem.posterior.weight_data(jnp.float64), 0, 1)
    state = dict(reversed(problem.weights.items()))
    new, _ = kernel.step(setting, jax.random.key(0), jnp.int32(0), state)
    sizes = {name: float(jnp.abs(w).max()) for name, w in new.items()}
    assert sizes.pop("V_1") < 10 * math.sqrt(tiny)
    assert min(sizes.values()) > 100 * math.sqrt(tiny)
