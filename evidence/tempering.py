r"""The log evidence of a posterior, log p(y | N, T, heads), by tempered sequential Monte Carlo.

    p(y) = integral p(y | theta) p(theta) d theta      (docs/model.md, sections 4 and 6)

theta are the order parameters' coordinates, with queries and keys where these are learned, or the weights of a model of
the user's own (``problems``).

Particles start at exact draws of the prior and pass through p(theta) p(y | theta)^beta, beta from 0 to 1: weigh,
resample, move by Hamiltonian Monte Carlo. Each step multiplies the evidence by the mean weight. A first replicate
finds the betas (each leaves an effective sample size of 0.8 of the particles), metrics, step sizes and numbers of
moves; the replicates that count repeat them as they are, so each is an unbiased estimate of p(y), and they are
independent. The same particles give the thermodynamic integral of E_beta[log p(y | theta)] over beta: another
estimator, with other errors (reweighted as here it is that of bridge sampling, with geometric bridges).

Standard errors come from lineages, the particles that descend from one draw of the prior. Multinomial resampling
makes them independent to leading order, so the sums of first-order contributions over lineages spread as the error
does: poor mixing shows as correlation within lineages. Hundreds of them estimate the error far better than a few
replicates.
Sources: Del Moral, Doucet and Jasra 2006; Chan and Lai 2013, Lee and Whiteley 2018 (lineages); Gelman and Meng 1998
(thermodynamic integrals and bridges).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.stats
from scipy.special import logsumexp, softmax

from .problems import Problem, problem_of

_ESS = 0.8  # effective sample size after a change of beta, as a share: errors stay near Gaussian
_ACCEPTANCE = 0.8  # aim of the first pass's step sizes
_MIN_ACCEPTANCE = 0.6  # below it the first pass repeats its moves with a smaller step
_AUTOCORRELATION = 0.5  # of particles before and after their moves; above it the first pass doubles the moves ..
_MAX_MOVES = 8  # .. up to this
_ATTEMPTS = 10  # of both together: a step is then down by a factor of 50
_TRAJECTORY = np.pi / 2  # length in whitened coordinates: a quarter of a period, after which a Gaussian is forgotten
_JITTER = 0.2  # step sizes vary by this share, so that no direction comes back to where it was
_BATCH = 64  # particles moved at a time, ..
_BATCH_BYTES = 2 * 2**20  # .. fewer where their P x P matrices would not fit in caches


class Cloud(NamedTuple):
    """Particles with what a move needs to start and a weight to be formed: no gradient is computed twice."""

    theta: jax.Array  # [n, D]
    log_likelihood: jax.Array  # [n]
    gradient: jax.Array  # [n, D], of the log-likelihood
    lineage: jax.Array  # [n], index of the prior draw a particle descends from


class Step(NamedTuple):
    """One change of beta and the tuning of the move after it."""

    before: Any
    beta: Any
    root: Any  # [D, D], lower Cholesky factor of the particles' covariance: whitens the move; or deviations [D]
    inverse_root: Any
    step_size: Any
    steps: Any  # leapfrog steps of a move
    moves: Any


class Pass(NamedTuple):
    """One pass from prior to posterior, as arrays on the host."""

    log_likelihood: np.ndarray  # [S + 1, n], particles at each beta
    lineage: np.ndarray  # [S + 1, n]
    acceptance: np.ndarray  # [S]


def tempered(posterior, key: jax.Array, particles: int, repeats: int) -> tuple[np.ndarray, list[Pass]]:
    """Inverse temperatures of the path [S + 1], and the replicates that follow it.

    It belongs inside ``core.numerics.numerics()``.

    Args:
        posterior: what is integrated, of any kind that ``problems`` knows.
        key: typed random key.
        particles: of each replicate.
        repeats: replicates, after a first one that tunes and does not count.
    """
    program = _Program.of(posterior, particles)
    path = program.explore(jax.random.fold_in(key, 0))
    passes = [program.follow(jax.random.fold_in(key, r + 1), path) for r in range(repeats)]
    return np.array([0.0, *(step.beta for step in path)]), passes


@dataclass(frozen=True, eq=False)
class _Program:
    """The compiled parts with one posterior's arrays bound."""

    problem: Problem
    data: Any
    particles: int
    batch: int

    @classmethod
    def of(cls, posterior, particles: int) -> _Program:
        problem, data, P = problem_of(posterior)
        most = min(_BATCH, max(2, _BATCH_BYTES // (8 * P * P)))
        batch = max(n for n in range(1, most + 1) if particles % n == 0)
        return cls(problem, data, particles, batch)

    def explore(self, key) -> list[Step]:
        """The first pass: betas, metrics and step sizes, each from the particles at hand."""
        cloud = self._start(key)
        path: list[Step] = []
        beta, step_size = 0.0, min(1.0, 1.6 * cloud.theta.shape[1] ** -0.25)
        while beta < 1:
            log_likelihood = np.asarray(cloud.log_likelihood)
            following = _next_beta(beta, log_likelihood)
            roots = _roots_of_covariance(np.asarray(cloud.theta), softmax((following - beta) * log_likelihood))
            moves = 1
            for _ in range(_ATTEMPTS):
                steps = max(1, round(_TRAJECTORY / step_size))
                step = Step(*map(np.asarray, (beta, following, *roots, step_size, steps, moves)))
                moved, acceptance, autocorrelation = self._move(key, len(path), cloud, step)
                if acceptance < _MIN_ACCEPTANCE:
                    step_size *= np.exp(acceptance - _ACCEPTANCE)
                elif autocorrelation > _AUTOCORRELATION and moves < _MAX_MOVES:
                    moves *= 2
                else:
                    break
            step_size *= np.exp(acceptance - _ACCEPTANCE)
            path.append(step)
            beta, cloud = following, moved
        return path

    def follow(self, key, path: list[Step]) -> Pass:
        """A pass along a path that is given."""
        cloud = self._start(key)
        clouds, acceptance = [cloud], []
        for i, step in enumerate(path):
            cloud, accepted, _ = self._move(key, i, cloud, step)
            clouds.append(cloud)
            acceptance.append(accepted)
        stack = lambda name: np.stack([np.asarray(getattr(c, name)) for c in clouds])  # noqa: E731
        return Pass(stack("log_likelihood"), stack("lineage"), np.array(acceptance))

    def _start(self, key) -> Cloud:
        rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, 0))).ravel())
        theta = jnp.asarray(self.problem.draw_prior(self.data, rng, self.particles))
        log_likelihood, gradient = _evaluate(self.problem, self.batch, self.data, theta)
        if not np.isfinite(log_likelihood).all():
            self.problem.refuse(self.data)
        return Cloud(theta, log_likelihood, gradient, jnp.arange(self.particles))

    def _move(self, key, i, cloud, step) -> tuple[Cloud, float, float]:
        moved, *found = _advance(self.problem, self.batch, self.data, jax.random.fold_in(key, i + 1), cloud, step)
        return moved, *map(float, found)


def _next_beta(beta, log_likelihood) -> float:
    """The beta at which the effective sample size has fallen to its share of the particles, 1 at most."""
    target = np.log(_ESS * len(log_likelihood))
    surplus = lambda log_step: log_ess(np.exp(log_step) * log_likelihood) - target  # noqa: E731
    longest = np.log(1 - beta)
    if surplus(longest) >= 0:
        return 1.0
    spread = log_likelihood.max() - log_likelihood.min()  # weights within exp(1e-3) of each other: ESS above its share
    return beta + np.exp(scipy.optimize.brentq(surplus, np.log(1e-3 / spread), longest))


def log_ess(log_weights):
    return 2 * logsumexp(log_weights, axis=-1) - logsumexp(2 * log_weights, axis=-1)


def _roots_of_covariance(theta, weights):
    """Lower Cholesky factor of the weighted covariance, shrunk to its diagonal where they are few; and its inverse.

    With fewer particles than coordinates the diagonal is all that they know: standard deviations, and their inverses.
    """
    centred = theta - weights @ theta
    n, D = theta.shape
    if n < D:
        deviations = np.sqrt(weights @ centred**2)
        return deviations, 1 / deviations
    covariance = (weights[:, None] * centred).T @ centred
    shrinkage = D / (D + _ESS * n)
    root = np.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * np.diag(np.diag(covariance)))
    return root, np.linalg.inv(root)


def _times(root, z):
    """root z, of a matrix or of the diagonal of one."""
    return root @ z if root.ndim == 2 else root * z


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate(problem: Problem, batch: int, data, theta):
    # batches divide the particles: a shorter last one would be a second, independent factorisation
    return jax.lax.map(jax.value_and_grad(partial(problem.log_likelihood, data)), theta, batch_size=batch)


@partial(jax.jit, static_argnums=(0, 1))
def _advance(problem: Problem, batch: int, data, key, cloud: Cloud, step: Step):
    """Weigh, resample and move: (particles at step.beta, mean acceptance, autocorrelation over the moves)."""
    from blackjax.smc import resampling  # not above: its import starts XLA, after which devices cannot be chosen

    key_resample, key_moves = jax.random.split(key)
    n = len(cloud.lineage)
    weights = jax.nn.softmax((step.beta - step.before) * cloud.log_likelihood)
    parents = resampling.multinomial(key_resample, weights, n)
    cloud = jax.tree.map(lambda x: x[parents], cloud)

    def move(i, carry):
        moved, acceptance = carry
        keys = jax.random.split(jax.random.fold_in(key_moves, i), n)
        one = lambda a: _hamiltonian_move(problem, data, step, *a)  # noqa: E731
        moved, accepted = jax.lax.map(one, (keys, moved), batch_size=batch)
        return moved, acceptance + accepted.mean() / step.moves

    moved, acceptance = jax.lax.fori_loop(0, step.moves, move, (cloud, jnp.zeros(())))
    return moved, acceptance, _autocorrelation(cloud, moved)


def _autocorrelation(before: Cloud, after: Cloud) -> jax.Array:
    """Largest correlation over particles between what they were and are: in theta, and in the log-likelihood.

    With more coordinates than particles the largest is noise, and their mean stands for them.
    """
    standard = []
    for cloud in (before, after):
        values = jnp.column_stack([cloud.theta, cloud.log_likelihood])
        values = values - values.mean(0)
        standard.append(values / jnp.linalg.norm(values, axis=0))
    found = jnp.sum(standard[0] * standard[1], axis=0)
    n, D = before.theta.shape
    return jnp.nanmax(found if n >= D else jnp.stack([jnp.nanmean(found[:-1]), found[-1]]))


def _hamiltonian_move(problem, data, step: Step, key, particle: Cloud) -> tuple[Cloud, jax.Array]:
    """One HMC transition of one particle, in coordinates z whitened around it: theta = its own + root z."""
    import blackjax

    beta = step.beta
    prior = partial(problem.log_prior, data)

    def log_density(z):
        theta = particle.theta + _times(step.root, z)
        return prior(theta) + beta * problem.log_likelihood(data, theta)

    key_size, key_move = jax.random.split(key)
    value, gradient = jax.value_and_grad(prior)(particle.theta)
    start = blackjax.mcmc.hmc.HMCState(
        jnp.zeros_like(particle.theta),
        value + beta * particle.log_likelihood,
        _times(step.root.T, gradient + beta * particle.gradient),
    )
    step_size = step.step_size * jax.random.uniform(key_size, minval=1 - _JITTER, maxval=1 + _JITTER)
    end, info = blackjax.hmc.build_kernel()(
        key_move, start, log_density, step_size, jnp.ones_like(particle.theta), step.steps
    )
    # The likelihood and its gradient are the density less the prior: their rounding error is that of the prior over
    # beta, and enters multiplied by beta.
    theta = particle.theta + _times(step.root, end.position)
    value, gradient = jax.value_and_grad(prior)(theta)
    end_gradient = (_times(step.inverse_root.T, end.logdensity_grad) - gradient) / beta
    return Cloud(theta, (end.logdensity - value) / beta, end_gradient, particle.lineage), info.acceptance_rate


def log_mean_weights(betas: np.ndarray, found: Pass) -> tuple[float, float]:
    """(log of the product of mean weights, its standard error) of one pass."""
    log_weights = np.diff(betas)[:, None] * found.log_likelihood[:-1]
    value, contributions = _log_means(log_weights)
    return value, _error_by_lineages(contributions, found.lineage[:-1])


def thermodynamic_integral(betas: np.ndarray, found: Pass) -> tuple[float, float]:
    """(integral of E_beta[log p(y | theta)] over beta, its standard error) of one pass.

    At each beta the expectation is that of the particles at the nearest beta of the path, reweighted. Its integral over
    half a step is the log of a mean weight, so no rule of integration is needed and there is no error of one.
    """
    half = 0.5 * np.diff(betas)[:, None]
    forward, contributions = _log_means(half * found.log_likelihood[:-1])
    backward, others = _log_means(-half * found.log_likelihood[1:])
    lineages = np.concatenate([found.lineage[:-1], found.lineage[1:]])
    return forward - backward, _error_by_lineages(np.concatenate([contributions, -others]), lineages)


def _log_means(log_weights) -> tuple[float, np.ndarray]:
    """(sum over rows of log mean weight, first-order contributions of particles, which average to 0 in each row)."""
    means = logsumexp(log_weights, axis=1, keepdims=True) - np.log(log_weights.shape[1])
    return float(means.sum()), np.exp(log_weights - means) - 1


def _error_by_lineages(contributions, lineage) -> float:
    """Standard error of the sum over betas of means over particles, from contributions [betas, n] of mean 0."""
    n = contributions.shape[1]
    sums = np.bincount(lineage.ravel(), contributions.ravel() / n, minlength=n)
    return float(np.sqrt(np.sum(sums**2) * n / (n - 1)))
