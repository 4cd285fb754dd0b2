# %% [markdown]
# # Five minutes
#
# What gibbsformer does, from top to bottom: a task, the large-N theory, exact draws from the posterior at finite
# width, both compared, and what the draws are good for. Nothing has to be prepared. On two CPU cores the cells take
# about a minute in all the first time, most of it compilation, which `gf.cache_programs()` saves the next time.

# %%
import jax
import matplotlib.pyplot as plt

import gibbsformer as gf

kept = gf.cache_programs()

# %% [markdown]
# ## A task
#
# A task has sequences, labels and fixed attention. This one is figure 2c of the paper: does a noisy Markov chain tend
# to stay in its state? Two layers of two heads give four *attention paths*, one head per layer. The path called
# "good" predicts the label on its own.

# %%
task = gf.tasks.hidden_markov_chain(key=jax.random.key(0))
posterior = task.posterior(width=10)
posterior

# %% [markdown]
# The network is linear in its weights once attention is fixed, so all that the data can tell is how paths are
# combined: the *order parameter* U, a matrix over pairs of paths. In the limit of infinite width U is a multiple of
# the identity, and no path is preferred.
#
# ## Theory
#
# At large width and many examples U concentrates. The theory finds where.

# %%
theory, limit = gf.theory.solve(posterior), gf.theory.gp(posterior)
theory

# %% [markdown]
# ## Exact draws
#
# At any width, the posterior of U is known in closed form, and the default kernel draws from it, with all weights
# integrated out.

# %%
run = gf.sample(posterior, key=jax.random.key(1), chains=4, warmup=100, draws=300, test=task.test_set)
run

# %% [markdown]
# Theory and draws, entry by entry. The theory is exact for N going to infinity, so large z at N = 10 measure what
# finite width adds.

# %%
gf.compare(run, theory).round(3)

# %% [markdown]
# ## What it is good for
#
# The mean prediction classifies the test chains. At N = 10 it uses the good path and its denoising partner; at
# infinite width it cannot.

# %%
predictions = {"GP limit": limit, "theory, N = 10": theory, "exact posterior, N = 10": run}
predictions = {name: gf.predict(source, task.test_inputs) for name, source in predictions.items()}
for name, prediction in predictions.items():
    error = gf.accuracy_error(prediction, task.test.y)
    print(f"{name:24} accuracy {gf.accuracy(prediction, task.test.y):.3f} ± {error:.3f}")

# %% [markdown]
# The order parameter as the theory has it and as it was drawn: off-diagonal entries couple paths, which the limit
# cannot do.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
gf.plot.order_parameters(theory, largest=12, colorbar=False, ax=axes[0]).set_title("theory")
gf.plot.order_parameters(run, largest=12, ax=axes[1]).set_title("posterior mean")
figure.savefig("quickstart.png", dpi=150)

# %% [markdown]
# ## On to ArviZ, and to your own data
#
# A run is an ArviZ data set. With the density of each label given all others, which is known in closed form,
# `arviz.loo` scores the network without a test set. To keep the draws, give `store="run.h5"` to `gf.sample`.

# %%
import arviz

arviz.loo(run.to_arviz(log_likelihood=True))

# %% [markdown]
# Next: [Your own sequences](own_sequences.md), or [which sampler when](../samplers.md). [The first
# hour](../first_hour.md) does the same from the command line.
