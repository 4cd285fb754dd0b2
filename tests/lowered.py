"""Run a little of everything with ``jax.jit`` watched, lower every program for CUDA as well, and print what is in it.

Run as a script; a line of JSON for each program: name, case, custom calls, types of matrix products, host transfers.
"""

import json
import re
import sys
import warnings

import jax

seen = {}
case = ""


class Watched:
    """A jitted function that is lowered for CUDA wherever it is lowered or called."""

    def __init__(self, function, **options):
        self.function, self.name = function, getattr(function, "__name__", type(function).__name__)
        self.jitted = original(function, **options)

    def __call__(self, *arguments, **named):
        if not any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((arguments, named))):
            look(self.name, self.jitted, arguments, named)
        return self.jitted(*arguments, **named)

    def lower(self, *arguments, **named):
        look(self.name, self.jitted, arguments, named)
        return self.jitted.lower(*arguments, **named)

    def __getattr__(self, name):
        return getattr(self.jitted, name)


def look(name, jitted, arguments, named):
    key = name, case
    if key in seen or any(name == other and name not in ("start", "advance") for other, _ in seen):
        return  # seen with other data
    text = jitted.trace(*arguments, **named).lower(lowering_platforms=("cuda",)).as_text()
    record = {
        "custom calls": sorted(set(re.findall(r"custom_call @([\w.$]+)", text))),
        "products": sorted(set(re.findall(r"dot_general.*-> tensor<([\dx]*f\d+)>", text))),
        "rounded": len(re.findall(r"dot_general.*precision = \[DEFAULT.*xf32>$", text, re.MULTILINE)),
        "transfers": sorted(set(re.findall(r"stablehlo\.(send|recv|infeed|outfeed)", text))),
    }
    seen[key] = record


original = jax.jit
jax.jit = lambda function=None, **options: (
    Watched(function, **options) if callable(function) else lambda f: Watched(f, **options)
)

import numpy as np

import gibbsformer as gf
from gibbsformer.core.numerics import numerics
from gibbsformer.sampler import driver
from gibbsformer.sampler.job import prepare
from gibbsformer.sampler.settings import RunSettings

KEY = jax.random.key(0)


def problem_of(posterior, kernel, target, test):
    """What the driver is given."""
    settings = RunSettings.checked(
        posterior, kernel, key=KEY, target=target, keep=None, chains=4, warmup=2, draws=1, thin=2, until=None,
        precision="auto" if needs_float64(posterior, kernel, target) else "float32", init=None, chains_at_once=None,
        about=None, distributed=False,
    )  # fmt: skip
    return prepare(posterior, kernel, settings, test, KEY).problem


def needs_float64(posterior, kernel, target):
    return kernel.float64_only or posterior.target(target).float64_only


def main():
    global case
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    attention = gf.Attention(list(rng.standard_normal((2, 2, 4, 4)) / 2))
    case = "contraction"
    inputs = gf.contract(rng.standard_normal((8, 4, 3)), attention)
    posterior = gf.Posterior(gf.Network(4, (2, 2), (6, 5, 4)), inputs, rng.choice([-1.0, 1.0], 8), 0.3)
    test = (inputs, posterior.y)
    for name, kind in gf.KERNELS.items():
        options = {"sgld": {"step_size": 1e-3}, "sghmc": {"step_size": 1e-3}, "collapsed": {"move": "nuts"}}
        kernel = kind(**options.get(name, {}))
        for target in posterior.targets:
            if not all(getattr(posterior.target(target), need) for need in kernel.needs):
                continue
            others = {"collapsed": ("collapsed", "split"), "marginal": ("nuts", "chees", "mclmc")}.get(target)
            if others and name not in others:
                continue  # nothing new: the kernel was seen with other targets, the target with other kernels
            case = f"{name}, {target}, {'float64' if needs_float64(posterior, kernel, target) else 'float32'}"
            with numerics():
                problem = problem_of(posterior, kernel, target, test)
                start = driver.jitted(driver._start, problem.plan, 0)
                arrays = (problem.data, problem.keys, problem.keys, None)
                look("start", start.jitted, arrays, {})
                state = jax.eval_shape(start.jitted, *arrays)
                advance = driver.jitted(driver._advance, problem.plan, 4)
                count = jax.ShapeDtypeStruct((), "int32")
                look("advance", advance.jitted, (problem.data, problem.test, problem.keys, state, count, count), {})
    case = "log-density alone"
    weights = {n: jax.ShapeDtypeStruct(s, "float32") for n, s in posterior.network.weight_shapes.items()}
    look("log_density", original(jax.grad(posterior.log_density)), (weights,), {})
    case = "lifting"
    gf.sample(posterior, key=KEY, chains=2, warmup=2, draws=1, progress=False)  # with its trial
    run = gf.sample(posterior, "split", key=KEY, chains=2, warmup=2, draws=1, progress=False)
    gf.lift(run, key=KEY, progress=False)
    case = "theory"
    gf.theory.grid(posterior, (5, 50), (0.1, 1.0))
    gf.predict(gf.theory.solve(posterior), inputs)
    gf.predict(run, inputs)
    gf.predict(gf.theory.gp(posterior), inputs)
    case = "evidence"
    gf.evidence(posterior, key=KEY, particles=32, repeats=1, method="smc")
    gf.evidence(posterior, key=KEY, particles=32, repeats=1, method="importance")
    case = "training"
    gf.training.train(gf.tasks.characters_by_name("glyphs").split(), key=KEY, steps=1, progress=False)
    for (name, where), record in seen.items():
        print(json.dumps({"name": name, "case": where} | record))


if __name__ == "__main__":
    sys.exit(main())
