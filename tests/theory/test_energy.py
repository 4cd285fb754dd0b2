"""The data's part of the action: both ways to its derivatives, against each other and against automatic ones."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gibbsformer.core import checks
from gibbsformer.models import collapsed
from gibbsformer.models.path_kernel import symmetric_blocks
from gibbsformer.sampler import guide
from gibbsformer.theory import energy


@pytest.fixture
def problem(small, x64):
    data = small.posterior.collapsed_data()
    rng = np.random.default_rng(0)
    A = rng.normal(size=(small.network.paths, small.network.paths))
    return small.posterior.data.flat, data, jnp.asarray(A @ A.T / len(A) + 0.3 * np.eye(len(A)))


def both_parts(xi):
    return (symmetric_blocks(jnp.asarray(xi)), None), (None, jnp.asarray(np.moveaxis(xi, 1, 2)))


def test_derivatives_are_those_of_the_energy(problem):
    xi, data, U = problem
    upper = np.triu_indices(len(U))

    def of_entries(entries):  # by the textbook, differentiated by JAX
        full = jnp.zeros_like(U).at[upper].set(entries)
        full = full + jnp.triu(full, 1).T
        A = data.variances[0] * jnp.einsum("png,gh,qnh->pq", xi, full, xi) + data.temperature * jnp.eye(len(xi))
        return jnp.linalg.slogdet(A)[1] + data.y @ jnp.linalg.solve(A, data.y)

    entries = U[upper]
    np.testing.assert_allclose(energy.energy(data, U), of_entries(entries), rtol=1e-12)
    expected = jax.grad(of_entries)(entries), jax.hessian(of_entries)(entries)
    for parts in both_parts(xi):
        for found, wanted in zip(energy.derivatives(data, parts, U), expected, strict=True):
            # rounding of solves with a condition number of about 1e3
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


def test_inputs_are_rotated_to_the_directions_they_span(make_small, x64):
    """Many examples: the way by inputs. Half of the input directions are copies, and must go; no other may."""
    small = make_small(P=60)
    posterior = dataclasses.replace(small.posterior, reduce=False)
    data, flat = posterior.collapsed_data(), posterior.data.flat
    twice = np.concatenate([flat, flat], axis=1) / np.sqrt(2)  # twice as wide, the same rank and kernels
    found = energy.derivative_data(twice)
    assert found[0] is None
    assert found[1].shape[-1] == np.linalg.matrix_rank(np.moveaxis(flat, 1, 2).reshape(-1, flat.shape[1]))
    U = jnp.eye(small.network.paths) + 0.1
    expected = energy.derivatives(data, both_parts(flat)[0], U)
    for one, other in zip(energy.derivatives(data, found, U), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10 * np.abs(other).max())  # rounding, as above


def test_few_examples_take_the_blocks(small):
    assert energy.derivative_data(small.posterior.data.flat)[1] is None


@pytest.mark.slow
def test_curvature_of_the_collapsed_density(small, x64):
    """The inverse of the first metric of collapsed chains, against forward over reverse through the factorisations."""
    shape, data = collapsed.layout(small.posterior.network, singular=False), small.posterior.collapsed_data()
    theta = jnp.asarray(np.random.default_rng(0).standard_normal(shape.size)) / 5
    expected = -jax.hessian(lambda t: collapsed.log_density(shape, data, t))(theta)
    found = guide._curvature(shape, data, energy.derivative_data(small.posterior.data.flat), theta)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_memory_of_the_theory_counts_its_hessians(monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda: 60 * 2**30)
    with pytest.raises(ValueError, match=r"theory of 256 paths needs \d+\.\d GiB of memory .* use fewer paths"):
        energy.derivative_data(np.ones((20, 4, 256)))
