"""Peers: effective draws of U and of f per second, against what others use

One run on one machine: reference task of figure 2c (P=100, T=0.01), 4 chains from exact starts, float32 but for the
exact samplers, which need float64. ESS is the least bulk-ESS over entries of U_1, or over f of 100 test inputs.
Seconds per draw exclude warm-up and compilation; "in all" includes both. Every row has a time budget for its draws.

- `collapsed`: ours, U alone; `collapsed, weights`: the same with all weights lifted and f drawn. `gibbs`, `nuts`:
  ours too.
- `NumPyro nuts, contracted`: NumPyro's NUTS on our NumPyro model of all weights.
- `NumPyro nuts, token level`: NumPyro's NUTS on the network as published, the approach of the paper's scripts. A
  transition takes too long for a warm-up and for many draws: step size and metric are those of the contracted run,
  and so is the number of effective draws per draw, density and kernel being the same; what is measured is the time of
  a draw. In a full run both have twelve times the budget, so that mixing is measured over more
  draws.
- `BlackJAX nuts, bare`: BlackJAX's NUTS and window adaptation on our log-density, without our driver.
- `Langevin, bare`: x + e grad + sqrt(2 e) noise on the contracted gradient, e half of 1 / (largest curvature), 256
  steps a draw: biased at any e.

On a GPU: `split`, and NumPyro's NUTS, few draws of each.

ESS of a run so short that it has not mixed is an overestimate. Where a peer is too slow to be run its draws are
bounded.

To take from it: integrating all weights out is worth three orders of magnitude at N=10, and more the wider the network.
Contraction over paths alone is worth one.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import numpyro

import gibbsformer as gf

from ..models.network import forward, order_parameters, path_weights
from . import harness
from .gradient import token_level_log_density
from .harness import Measured, Options, Table
from .kernels import exact_start

CHAINS, TEST = 4, 100
WARMUP = 60
KEEP = "order_parameters"
LANGEVIN_STEPS = 256
TOKEN_LEVEL, CONTRACTED = "NumPyro nuts, token level", "NumPyro nuts, contracted"
BOUND_WIDTH = 1000


class Setting(NamedTuple):
    """What all peers are given."""

    task: Any
    posterior: gf.Posterior
    start: dict  # exact weights [chains, ..], float32
    seconds: float  # budget of the draws

    @property
    def xi(self):
        """Test inputs of f."""
        return jnp.asarray(self.task.test_inputs.flat[:TEST], jnp.float32)


def observed(setting: Setting, weights) -> dict:
    """U_1 and f of one set of weights."""
    return {"U_1": order_parameters(weights).U[0], "f": forward(path_weights(weights), setting.xi)}


class Timed(NamedTuple):
    """Draws [chain, draw, ..] of U_1 and f, gradients in all, seconds of the draws, and of everything."""

    draws: dict
    gradients: float
    seconds: float
    in_all: float


def repeat(setting: Setting, step: Callable, state, begun: float) -> tuple[Timed, Any]:
    """Call a compiled ``step`` (state -> state, observed of all chains, gradients) until the budget is spent."""
    state, *_ = jax.block_until_ready(step(state))  # compiles
    found, gradients, start = [], 0.0, time.perf_counter()
    while time.perf_counter() - start < setting.seconds or len(found) < 4:
        state, seen, used = jax.block_until_ready(step(state))
        found.append(seen)
        gradients += float(used)
    now = time.perf_counter()
    draws = {name: np.stack([np.asarray(seen[name]) for seen in found], axis=1) for name in found[0]}
    return Timed(draws, gradients, now - start, now - begun), state


def ours(setting: Setting, kernel, **options) -> Timed:
    """A kernel of ours through ``gf.sample``."""
    test = (setting.task.test_inputs, setting.task.test.y)
    sample = partial(
        gf.sample, setting.posterior, kernel, key=jax.random.key(1), chains=CHAINS, progress=False, test=test, **options
    )

    def seconds(**asked):
        start = time.perf_counter()
        run = sample(**asked)
        return time.perf_counter() - start, run

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gf.ConvergenceWarning)
        first, _ = seconds(draws=1)  # compiles
        warm, _ = seconds(draws=1)
        most = 1000 if options["keep"] == "weights" else 100_000  # weights of more would fill the memory
        whole, run = seconds(draws=most, until=gf.until(seconds=setting.seconds + warm))
    draws = {"U_1": np.asarray(run.order_parameters.U[0])}
    if "f" in run.variables:
        draws["f"] = np.asarray(run.variables["f"])[:, :, :TEST]
    steps = np.asarray(run.stats["n_steps"]).sum() if "n_steps" in run.stats else np.nan
    return Timed(draws, float(steps), whole - warm, first + whole - warm)


def numpyro_nuts(setting: Setting, model, step_size=0.1, metric=None, warmup=WARMUP) -> tuple[Timed, Any]:
    """NumPyro's NUTS, its chains side by side, a transition at a time."""
    begun = time.perf_counter()
    kernel = numpyro.infer.NUTS(
        model, step_size=step_size, inverse_mass_matrix=metric, adapt_step_size=warmup > 0, adapt_mass_matrix=warmup > 0
    )
    keys = jax.random.split(jax.random.PRNGKey(3), CHAINS)
    state = kernel.init(keys, warmup, setting.start, (), {})
    transition = jax.jit(lambda state: kernel.sample(state, (), {}))
    for _ in range(warmup):
        state = transition(state)

    @jax.jit
    def step(state):
        state = kernel.sample(state, (), {})
        return state, jax.vmap(partial(observed, setting))(state.z), state.num_steps.sum()

    return repeat(setting, step, state, begun)


def token_level_model(setting: Setting):
    """The published network as a NumPyro model over its weights."""
    log_density = token_level_log_density(setting.task, setting.posterior, "float32")

    def model():
        shapes = setting.posterior.network.weight_shapes.items()
        flat = numpyro.distributions.ImproperUniform(numpyro.distributions.constraints.real, (), ())
        weights = {name: numpyro.sample(name, flat.expand(shape)) for name, shape in shapes}
        numpyro.factor("log_density", log_density(weights))  # prior included

    return model


def blackjax_nuts(setting: Setting) -> Timed:
    """BlackJAX's NUTS after its own window adaptation."""
    begun = time.perf_counter()
    log_density = setting.posterior.log_density
    adaptation = blackjax.window_adaptation(blackjax.nuts, log_density, initial_step_size=0.1)
    keys = jax.random.split(jax.random.key(3), CHAINS)
    (states, parameters), _ = jax.jit(jax.vmap(lambda k, w: adaptation.run(k, w, num_steps=WARMUP)))(
        keys, setting.start
    )
    kernel = blackjax.nuts.build_kernel()

    def one(key, state, parameters):
        return kernel(key, state, log_density, **parameters)

    @jax.jit
    def step(carry):
        key, states = carry
        key, now = jax.random.split(key)
        states, information = jax.vmap(one)(jax.random.split(now, CHAINS), states, parameters)
        seen = jax.vmap(partial(observed, setting))(states.position)
        return (key, states), seen, information.num_integration_steps.sum()

    return repeat(setting, step, (jax.random.key(4), states), begun)[0]


def langevin(setting: Setting) -> Timed:
    """Full-batch gradient descent with noise: the unadjusted Langevin algorithm."""
    begun = time.perf_counter()
    gradient = jax.grad(setting.posterior.log_density)
    step_size = 0.5 / largest_curvature(gradient, jax.tree.map(lambda w: w[0], setting.start))

    def move(carry, _):
        key, weights = carry
        key, now = jax.random.split(key)
        flat, tree = jax.tree.flatten(weights)
        noise = [jax.random.normal(k, w.shape) for k, w in zip(jax.random.split(now, len(flat)), flat, strict=True)]
        new = lambda w, g, n: w + step_size * g + jnp.sqrt(2 * step_size) * n  # noqa: E731
        return (key, jax.tree.map(new, weights, jax.vmap(gradient)(weights), jax.tree.unflatten(tree, noise))), None

    @jax.jit
    def step(carry):
        carry, _ = jax.lax.scan(move, carry, length=LANGEVIN_STEPS)
        return carry, jax.vmap(partial(observed, setting))(carry[1]), CHAINS * LANGEVIN_STEPS

    return repeat(setting, step, (jax.random.key(4), setting.start), begun)[0]


@partial(jax.jit, static_argnums=0)
def largest_curvature(gradient, weights):
    """Largest eigenvalue of minus the Hessian of a log-density, by the power method."""
    norm = lambda v: jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(v)))  # noqa: E731

    def apply(v, _):
        size = norm(v)
        v = jax.tree.map(lambda x: x / size, v)
        _, Hv = jax.jvp(gradient, (weights,), (v,))
        return jax.tree.map(jnp.negative, Hv), None

    v, _ = jax.lax.scan(apply, jax.tree.map(jnp.ones_like, weights), length=100)
    return norm(v)


def row(N: int, name: str, found: Timed) -> dict:
    """Effective draws per second, gradient, and second of everything."""
    least = lambda x: float(gf.diagnostics.moments(x)["ess_bulk"].min())  # noqa: E731
    ess = least(found.draws["U_1"])
    ess_f = least(found.draws["f"]) if "f" in found.draws else None
    count = found.draws["U_1"].shape[1]
    return {
        "N": N, "sampler": name, "draws": count, "seconds": found.seconds, "seconds in all": found.in_all,
        "ms per draw of 4 chains": 1e3 * found.seconds / count, "ESS of U": ess, "ESS of f": ess_f,
        "U /s": ess / found.seconds, "f /s": ess_f and ess_f / found.seconds, "U /s in all": ess / found.in_all,
        "U per 1000 gradients": None if np.isnan(found.gradients) else 1e3 * ess / found.gradients,
        "gradients per draw": None if np.isnan(found.gradients) else found.gradients / count / CHAINS,
    }  # fmt: skip


def as_contracted(slow: dict, contracted: dict) -> dict:
    """The token-level row with the mixing of the contracted one: effective draws per draw are those of the same law."""
    scale = slow["draws"] / contracted["draws"]
    slow |= {f"ESS of {name}": scale * contracted[f"ESS of {name}"] for name in ("U", "f")}
    slow |= {f"{name} /s": slow[f"ESS of {name}"] / slow["seconds"] for name in ("U", "f")}
    per_gradient = slow["gradients per draw"] * CHAINS * slow["draws"] / 1e3
    return slow | {"U per 1000 gradients": slow["ESS of U"] / per_gradient, "U /s in all": None}


def tuning(state) -> dict:
    """Step size and metric that NumPyro's warm-up found."""
    adapted = state.adapt_state
    metric = {name: jnp.mean(values, 0) for name, values in adapted.inverse_mass_matrix.items()}
    return {"step_size": float(jnp.median(adapted.step_size)), "metric": metric, "warmup": 0}


def on_gpu(task, N: int, options: Options, rows: list[dict]) -> None:
    """Add the kernel for many chains, and NumPyro's NUTS on the published network, as far as the time goes."""
    posterior = task.posterior(N)

    def ours_alone():
        rows.append(row(N, "split", ours(Setting(task, posterior, {}, 4.0), "split", warmup=WARMUP, keep=KEEP)))

    def theirs():
        start = {name: jnp.asarray(w, jnp.float32) for name, w in exact_start(posterior, CHAINS).items()}
        setting = Setting(task, posterior, start, 4.0)
        contracted, state = numpyro_nuts(setting, posterior.model, warmup=20)
        rows.append(row(N, CONTRACTED, contracted))
        slow, _ = numpyro_nuts(setting, token_level_model(setting), **tuning(state))
        rows.append(as_contracted(row(N, TOKEN_LEVEL, slow), rows[-1]))

    options.each((ours_alone, theirs), lambda add: add())


def at_width(task, N: int, seconds: float, patience: float) -> list[dict]:
    """A row per sampler; NumPyro's have ``patience`` times the budget."""
    posterior = task.posterior(N)
    start = {name: jnp.asarray(w, jnp.float32) for name, w in exact_start(posterior, CHAINS).items()}
    setting = Setting(task, posterior, start, seconds)
    rows = [
        row(N, "collapsed", ours(setting, "collapsed", warmup=WARMUP, keep=KEEP)),
        row(N, "collapsed, weights", ours(setting, "collapsed", warmup=WARMUP, keep="weights")),
        row(N, "gibbs", ours(setting, "gibbs", warmup=WARMUP, init=start, keep=KEEP)),
        row(N, "nuts", ours(setting, "nuts", warmup=WARMUP, init=start, keep=KEEP, precision="float32")),
    ]
    patient = setting._replace(seconds=patience * seconds)
    contracted, state = numpyro_nuts(patient, posterior.model)
    rows.append(row(N, CONTRACTED, contracted))
    slow, _ = numpyro_nuts(patient, token_level_model(setting), **tuning(state))
    rows.append(as_contracted(row(N, TOKEN_LEVEL, slow), rows[-1]))
    print(f"peers: N={N}, token level done", file=sys.stderr, flush=True)
    rows.append(row(N, "BlackJAX nuts, bare", blackjax_nuts(setting)))
    rows.append(row(N, "Langevin, bare", langevin(setting)))
    return rows


def bound(task, rows: list[dict]) -> tuple[dict, dict]:
    """At a width too large to run it: our row, and the most that the token-level peer can reach.

    A draw of it counts as effective, and costs as many gradients as at the largest width that was run.
    """
    posterior = task.posterior(BOUND_WIDTH)
    with jax.enable_x64(False):
        weights = gf.models.draw_prior(posterior.network, jax.random.key(1), jnp.float32)
        gradient = jax.jit(jax.grad(token_level_log_density(task, posterior, "float32")))
        seconds = harness.timed(gradient, weights, repeats=3)["median"]
    steps = [r for r in rows if r["sampler"] == TOKEN_LEVEL][-1]["gradients per draw"]
    setting = Setting(task, posterior, {}, rows[0]["seconds"])
    exact = row(BOUND_WIDTH, "collapsed", ours(setting, "collapsed", warmup=WARMUP, keep=KEEP))
    least = dict.fromkeys(exact) | {"N": BOUND_WIDTH, "sampler": f"{TOKEN_LEVEL} (bound, not run)"}
    return exact, least | {"gradients per draw": steps, "U /s": 1 / (steps * seconds)}


def measure(options: Options) -> Measured:
    """Every sampler at N=10 and 100, and a bound at N=1000; N=10 alone when quick."""
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
    widths, seconds, patience = ((10,), 3.0, 1.0) if options.quick else ((10, 100), 15.0, 12.0)
    if options.on_gpu:
        widths, seconds = (10,) if options.quick else (100, 10), 4.0
    rows = []
    if options.on_gpu:
        for N in widths:
            on_gpu(task, N, options, rows)
    else:
        for N in widths:
            rows += at_width(task, N, seconds, patience)
    if not options.quick and not options.on_gpu:
        rows += bound(task, rows)
    for N in {r["N"] for r in rows}:
        slowest = next((r for r in rows if r["N"] == N and r["sampler"].startswith(TOKEN_LEVEL)), None)
        for r in (r for r in rows if r["N"] == N):
            r["times token level"] = slowest and r["U /s"] / slowest["U /s"]
    columns = {
        "N": "", "sampler": "", "draws": "", "ms per draw of 4 chains": ".3g", "ESS of U": ".0f", "ESS of f": ".0f",
        "U /s": ".3g", "f /s": ".3g", "U per 1000 gradients": ".3g", "U /s in all": ".3g", "times token level": ".3g",
    }  # fmt: skip
    tables = [
        Table(
            f"Effective draws, N={N}", [r for r in rows if r["N"] == N], columns,
            {"x": "sampler", "y": ["U /s", "f /s"], "label": "effective draws per second"},
        )
        for N in sorted({r["N"] for r in rows})
    ]  # fmt: skip
    ratios = {
        f"token level / {r['sampler']}, N={r['N']}": r["times token level"] ** -1
        for r in rows if r["N"] == widths[0] and r["sampler"] != TOKEN_LEVEL and r["times token level"]
    }  # fmt: skip
    first = harness.first_of(rows)
    times = (
        f", {first['times token level']:,.0f} times NumPyro's NUTS, token level" if first["times token level"] else ""
    )
    headline = f"{first['sampler']}, {CHAINS} chains, N={first['N']}: {first['U /s']:,.0f} draws of U per second{times}"
    return Measured(tables, ratios, {"chains": CHAINS, "warmup": WARMUP, "seconds": seconds}, headline)
