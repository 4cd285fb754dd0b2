"""One-shot images: sixteen attention paths, P=600

What a gradient, a Hessian, the theory's grid of (N, T) and exact draws cost. Images are read through the attention of
a trained network (`--network FILE`, from `gibbsformer train`; without one, 2,000 steps of training come first). The
step of plain Adam on all weights of a network of width N stands beside them: what training, or Langevin dynamics,
pays.

To take from it: a grid of theories takes a minute, exact draws at one point of it several.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import gibbsformer as gf

from ..core.numerics import numerics
from ..figures.one_shot import EXAMPLES, TEMPERATURES, WIDTHS
from ..models.network import draw_prior, forward, path_weights
from ..theory import saddle
from . import harness
from .harness import Measured, Options, Table

CHAINS, WARMUP, DRAWS = 4, 50, 250
TRAINING_STEPS = 2000


def derivatives(posterior) -> list[dict]:
    """Seconds of the action's gradient and Hessian."""
    with numerics():
        problem = saddle.prepare(posterior, None)
        theta = np.zeros(problem.shape.size)
        gradient = harness.timed(lambda: saddle._action(problem.shape, problem.data, theta))
        hessian = harness.timed(lambda: saddle._action_hessian(problem.shape, problem.data, problem.parts, theta))
    return [
        {"what": f"gradient of the action ({len(theta)} coordinates)", "seconds": gradient["median"]},
        {"what": "Hessian of the action", "seconds": hessian["median"]},
    ]


def adam(task, N: int) -> dict:
    """Seconds of a full-batch Adam step on all weights, float32, contracted over paths."""
    posterior = task.posterior(N)
    with jax.enable_x64(False):
        xi, y = jnp.asarray(task.train_inputs.flat, jnp.float32), jnp.asarray(posterior.y, jnp.float32)
        weights = draw_prior(posterior.network, jax.random.key(0), jnp.float32)
        optimiser = optax.adam(1e-3)

        @jax.jit
        def step(weights, state):
            gradient = jax.grad(lambda w: jnp.sum((forward(path_weights(w), xi) - y) ** 2))(weights)
            updates, state = optimiser.update(gradient, state)
            return optax.apply_updates(weights, updates), state

        found = harness.timed(step, weights, optimiser.init(weights))
    return {"what": f"Adam step on {posterior.network.weight_count} weights, N={N}", "seconds": found["median"]}


def measure(options: Options) -> Measured:
    """Costs, and accuracies of theory, GP limit and exact posterior; few points and draws when quick."""
    quick = options.quick
    characters = gf.tasks.characters_by_name(options.data)
    if options.network:
        trained = gf.training.load(options.network, "network")
    else:
        steps = 100 if quick else 300 if options.on_gpu else TRAINING_STEPS
        trained = gf.training.train(characters, key=jax.random.key(0), steps=steps, progress=False)
    examples = 100 if quick else EXAMPLES
    task = gf.tasks.one_shot(characters, trained.attention, jax.random.key(0), train=examples)
    test, labels = task.test_set
    rows = derivatives(task.posterior(100)) + [adam(task, N) for N in (100, 1000)]
    coarse = 9 if quick else 3 if options.on_gpu else 1
    widths, temperatures = WIDTHS[::coarse], TEMPERATURES[::coarse]
    start = time.perf_counter()
    grid = gf.theory.grid(task.posterior(10), widths, temperatures)
    rows.append({"what": f"theory, {len(widths)} x {len(temperatures)} grid", "seconds": time.perf_counter() - start})
    steps = [t.iterations for row in grid.theories for t in row]
    accuracies = [[gf.accuracy(gf.predict(t, test), labels) for t in row] for row in grid.theories]
    gp = [gf.accuracy(gf.predict(gf.theory.gp(task.posterior(10, T)), test), labels) for T in temperatures]
    best = temperatures[int(np.argmax(accuracies[len(widths) // 2]))]
    draws = 20 if quick else DRAWS
    start = time.perf_counter()
    run = gf.sample(
        task.posterior(100, best), key=jax.random.key(1), chains=CHAINS, warmup=WARMUP, draws=draws, progress=False
    )
    name = f"collapsed, N=100, T={best:g}, {CHAINS} chains x {draws} draws after {WARMUP}"
    rows.append({"what": name, "seconds": time.perf_counter() - start})
    sampled = gf.predict(run, test)
    shown = {
        "trained": trained.accuracy, "data": options.data.partition("=")[0], "steps": trained.step,
        "converged": f"{int(grid.converged.sum())} of {grid.converged.size}", "most Newton steps": max(steps),
        "exact accuracy": (gf.accuracy(sampled, labels), gf.accuracy_error(sampled, labels)),
        "theory accuracy there": gf.accuracy(gf.predict(gf.theory.solve(task.posterior(100, best)), test), labels),
        "least ESS": float(gf.diagnostics.moments(run.order_parameters.U[0])["ess_bulk"].min()),
        "leapfrog steps a draw": float(np.mean(np.asarray(run.stats["n_steps"]))),
    }  # fmt: skip
    by_width = [
        {"N": N, **{f"T={T:g}": a for T, a in zip(temperatures, row, strict=True)}}
        for N, row in [*zip(widths, accuracies, strict=True), ("GP", gp)]
    ]
    unit = harness.unit()
    note = (
        f"{shown['converged']} points converged, in at most {shown['most Newton steps']} Newton steps. Accuracy of the "
        f"exact posterior at N=100, T={best:g}: {shown['exact accuracy'][0]:.3f} +- {shown['exact accuracy'][1]:.3f} "
        f"(theory {shown['theory accuracy there']:.3f}); least ESS {shown['least ESS']:.0f}, "
        f"{shown['leapfrog steps a draw']:.0f} leapfrog steps a draw."
    )
    return Measured(
        [
            Table(f"Seconds, P={examples}", rows, {"what": "", "seconds": ".3f"}, note=note),
            Table("Accuracy of the theory", by_width, {"N": "", **dict.fromkeys(list(by_width[0])[1:], ".3f")}),
        ],
        {f"{r['what']} / unit": r["seconds"] / unit for r in rows},
        shown,
        ", ".join(f"{r['what']} {r['seconds']:.2g} s" for r in rows[-2:]),
    )
