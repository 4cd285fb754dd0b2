# %% [markdown]
# # Accuracy against width
#
# The main figure of the paper (arXiv:2405.15926) in a few lines: test accuracy on the hidden Markov chain task
# against the width N, for the large-N theory, the GP limit and the exact posterior. In a checkout, `python
# tutorials/hidden_markov.py` runs the same code and writes hidden_markov.png to the current directory; with `--quick`
# it takes one width and few draws.
#
# Before: [Five minutes](quickstart.md). Next: [Your own sequences](own_sequences.md). `gibbsformer figure 2c` makes
# the figure with all its curves and several seeds ([Reproducing figures](../reproducing.md)).

# %%
import sys

import jax

import gibbsformer as gf

quick = "--quick" in sys.argv
widths = (10,) if quick else (10, 30, 100, 300, 1000)
key = jax.random.key(0)

# %% [markdown]
# The task has 100 training chains and 1000 test chains with labels +-1. Its attention is fixed and has two layers of
# two heads. A path takes one head per layer, so there are four paths.

# %%
task = gf.tasks.hidden_markov_chain(key=key)
print("attention paths:", *task.train_inputs.path_names, sep="\n  ")

# %% [markdown]
# All widths N_1 = N_2 = N_3 = N are solved and sampled at the task's temperature, 0.01. The GP limit is that of N going
# to infinity at fixed P, so it does not depend on the width.

# %%
posteriors = [task.posterior(N) for N in widths]
theories = [gf.theory.solve(posterior) for posterior in posteriors]
limit = gf.theory.gp(posteriors[0])
draws = 100 if quick else 1000
runs = [
    gf.sample(posterior, key=jax.random.fold_in(key, N), warmup=100, draws=draws, progress=False)
    for N, posterior in zip(widths, posteriors, strict=True)
]

# %% [markdown]
# The narrower the network, the better it generalises: it learns which paths to use. Theory and exact posterior agree at
# all widths, within a few of the 1000 test chains.

# %%
for N, theory, run in zip(widths, theories, runs, strict=True):
    expected, exact = (gf.score(gf.predict(source, task.test_inputs), task.test.y) for source in (theory, run))
    print(f"N = {N:4d}: theory {expected.value:.3f}, exact posterior {exact.value:.3f} +- {exact.error:.3f}")

axes = gf.plot.accuracy(theories, runs, limit, test=task.test_set)
axes.figure.savefig("hidden_markov.png", dpi=150)
