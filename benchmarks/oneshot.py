"""Sixteen attention paths, P=600: what a gradient, a Hessian, the theory's grid of (N, T) and exact draws cost.

    python benchmarks/oneshot.py --data glyphs --network net.safetensors [--draws 250] [--quick]

One-shot images read through a trained network's attention (``gibbsformer train``). The step of plain Adam on all
weights of a network of width N stands beside them: what training, or Langevin dynamics, pays per step.
"""

from __future__ import annotations

import argparse
import time

import harness
import jax
import jax.numpy as jnp
import numpy as np
import optax

import gibbsformer as gf
from gibbsformer.figures.one_shot import EXAMPLES, TEMPERATURES, WIDTHS
from gibbsformer.models.network import draw_prior, forward, path_weights
from gibbsformer.models.numerics import numerics
from gibbsformer.theory import saddle

CHAINS, WARMUP = 4, 50


def derivatives(posterior) -> list[dict]:
    """Seconds of the action's gradient and Hessian."""
    with numerics():
        problem = saddle._prepare(posterior, None)
        theta = np.zeros(problem.shape.size)
        gradient = harness.timed(lambda: saddle._action(problem.shape, problem.data, theta))
        hessian = harness.timed(lambda: saddle._hessian(problem.shape, problem.data, problem.parts, theta))
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


def main(options) -> None:
    trained = gf.training.load(options.network)
    task = gf.tasks.one_shot(
        gf.tasks.characters_by_name(options.data), trained.attention, jax.random.key(0), train=EXAMPLES
    )
    test, labels = task.test_set
    rows = derivatives(task.posterior(100)) + [adam(task, N) for N in (100, 1000)]
    widths, temperatures = (WIDTHS[::9], TEMPERATURES[::9]) if options.quick else (WIDTHS, TEMPERATURES)
    start = time.perf_counter()
    grid = gf.theory.grid(task.posterior(10), widths, temperatures)
    rows.append({"what": f"theory, {len(widths)} x {len(temperatures)} grid", "seconds": time.perf_counter() - start})
    steps = [t.iterations for row in grid.theories for t in row]
    accuracies = [[gf.accuracy(gf.predict(t, test), labels) for t in row] for row in grid.theories]
    gp = [gf.accuracy(gf.predict(gf.theory.gp(task.posterior(10, T)), test), labels) for T in temperatures]
    best = temperatures[int(np.argmax(accuracies[len(widths) // 2]))]
    start = time.perf_counter()
    run = gf.sample(
        task.posterior(100, best), key=jax.random.key(1), chains=CHAINS, warmup=WARMUP, draws=options.draws,
        progress=False,
    )  # fmt: skip
    name = f"collapsed, N=100, T={best:g}, {CHAINS} chains x {options.draws} draws after {WARMUP}"
    rows.append({"what": name, "seconds": time.perf_counter() - start})
    sampled = gf.predict(run, test)
    shown = {
        "converged": f"{int(grid.converged.sum())} of {grid.converged.size}", "most Newton steps": max(steps),
        "widths": widths, "temperatures": temperatures, "theory accuracy": accuracies, "gp accuracy": gp,
        "exact accuracy": (gf.accuracy(sampled, labels), gf.accuracy_error(sampled, labels)),
        "theory accuracy there": gf.accuracy(gf.predict(gf.theory.solve(task.posterior(100, best)), test), labels),
        "least ESS": float(gf.diagnostics.moments(run.order_parameters.U[0])["ess_bulk"].min()),
        "leapfrog steps a draw": float(np.mean(np.asarray(run.stats["n_steps"]))),
        "trained": trained.accuracy, "data": options.data, "steps": trained.step,
    }  # fmt: skip
    print(harness.table(rows, {"what": "", "seconds": ".3f"}))
    print(shown)
    print(harness.save("oneshot", rows, **shown))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--network", required=True)
    parser.add_argument("--draws", type=int, default=250)
    parser.add_argument("--quick", action="store_true")
    main(parser.parse_args())
