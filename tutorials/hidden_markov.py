# %% [markdown]
# # Accuracy against width
#
# The main figure of the paper (arXiv:2405.15926) in about forty lines: test accuracy on the hidden Markov chain task
# against the width N, for the large-N theory, the GP limit and the exact posterior. In a checkout, `python
# tutorials/hidden_markov.py` runs the same code and writes hidden_markov.png to the current directory; with `--quick`
# it takes one width and few draws.
#
# Before: [Five minutes](quickstart.md). Next: [Your own sequences](own_sequences.md). `gibbsformer figure 2c` makes
# the figure with all its curves and several seeds ([Reproducing figures](../reproducing.md)).

# %%
import sys

import jax
import matplotlib.pyplot as plt

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


def accuracy(source):
    """Test accuracy of a theory or a run, with its Monte Carlo standard error (0 for a theory)."""
    prediction = gf.predict(source, task.test_inputs)
    return gf.accuracy(prediction, task.test.y), gf.accuracy_error(prediction, task.test.y)


theory, exact = [], []
for N in widths:
    posterior = task.posterior(N)  # N_1 = N_2 = N_3 = N, temperature 0.01
    theory.append(accuracy(gf.theory.solve(posterior))[0])
    draws = 100 if quick else 1000
    run = gf.sample(posterior, key=jax.random.fold_in(key, N), warmup=100, draws=draws, progress=False)
    exact.append(accuracy(run))
    print(f"N = {N:4d}: theory {theory[-1]:.3f}, exact posterior {exact[-1][0]:.3f} +- {exact[-1][1]:.3f}")
limit = accuracy(gf.theory.gp(posterior))[0]  # N goes to infinity at fixed P, so this does not depend on the width
print(f"GP limit: {limit:.3f}")

figure, axes = plt.subplots(figsize=(5, 3.5), layout="constrained")
axes.axhline(limit, color="#D55E00", label="GP limit")
axes.plot(widths, theory, color="#0072B2", marker="x", label="theory")
axes.errorbar(widths, *zip(*exact, strict=True), color="black", fmt="o", capsize=3, label="exact posterior")
axes.set(xscale="log", xlabel="width $N$", ylabel="test accuracy")
axes.legend()
figure.savefig("hidden_markov.png", dpi=150)
