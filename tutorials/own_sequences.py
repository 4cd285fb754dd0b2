# %% [markdown]
# # Your own sequences
#
# From sequences x [P, N_0, S], labels y = +-1 and attention of your own to a posterior, a run and a prediction. The
# attention is defined in two ways, by weights and by functions of x, with the same result. In a checkout, `python
# tutorials/own_sequences.py` runs the same code and writes own_sequences.h5 and own_sequences.png to the current
# directory; `--quick` takes few draws.
#
# Next: [Reading draws with ArviZ](read_with_arviz.md). [Adding your own](../extending.md) has more about attention,
# tasks and kernels.

# %%
import sys

import jax
import matplotlib.pyplot as plt
import numpy as np

import gibbsformer as gf

quick = "--quick" in sys.argv
rng = np.random.default_rng(0)

# %% [markdown]
# The sequences x have shape [P, N_0, S], and token s is column s. Here a token consists of a marker (1 for one token
# of the sequence, 0 for the others), noisy features that encode a sign, and a one-hot code of its position. The label
# of a sequence, +1 or -1, is the sign of the token before the marked one.

# %%
P, S, features = 200, 10, 100
marked = rng.integers(1, S, P)
sign = rng.choice([-1.0, 1.0], (P, S))
x = np.zeros((P, 1 + features + S, S))
x[np.arange(P), 0, marked] = 1
x[:, 1 : 1 + features] = rng.standard_normal((P, features, S)) + sign[:, None] * 2.5 / np.sqrt(features)
x[:, 1 + features :] = np.eye(S)
y = sign[np.arange(P), marked - 1]
N_0 = x.shape[1]

# %% [markdown]
# Attention is a fixed function of the input. Each head of each layer has a pattern A[s, t], the weight of source
# token s for target token t. Its columns sum to 1 (the transpose of PyTorch's convention). Attention can be given by
# weights: either W [H, N_0, N_0], with the key on the left and the query on the right, or Q and K [H, G, N_0].

# %%
position = slice(1 + features, None)
W_1 = np.zeros((2, N_0, N_0))
W_1[0, position, position] = 100 * np.eye(S, k=1)  # head 1: the previous token (key position = query position - 1)
W_1[1, position, position] = 100 * np.eye(S)  # head 2: the token itself
Q_2, K_2 = np.zeros((2, 2, S, N_0))
Q_2[0, 0, position], K_2[0, 0, 0] = 1, 100  # head 1: every query attends to the marker
Q_2[1, :, position], K_2[1, :, position] = np.eye(S), 100 * np.eye(S)  # head 2: the token itself
names = ("before marked", "before last", "marked", "last")  # the token that each path (h_1, h_2) reads; h_1 slowest
by_weights = gf.Attention([W_1, (Q_2, K_2)], path_names=names)


# Attention can also be given by functions of x that return patterns [P, H, S, S] whose columns sum to 1.
def previous_and_own(x):
    previous = np.eye(S, k=1)
    previous[:, 0] = 1 / S  # the first token has no predecessor
    return np.broadcast_to(np.stack([previous, np.eye(S)]), (len(x), 2, S, S))


def marked_and_own(x):
    marker = np.broadcast_to(x[:, 0, :, None], (len(x), S, S))
    return np.stack([marker, np.broadcast_to(np.eye(S), marker.shape)], axis=1)


by_functions = gf.Attention([previous_and_own, marked_and_own], path_names=names)
difference = gf.contract(x, by_weights).xi - gf.contract(x, by_functions).xi
print(f"the two attentions differ by at most {np.abs(difference).max():.1e} in the inputs of the paths")

# %% [markdown]
# The task uses half of the sequences for training. The output of the network is read from the last token.

# %%
half = P // 2
task = gf.tasks.arrays(x[:half], y[:half], by_weights, x[half:], y[half:], readout="last", name="marker")

# %% [markdown]
# Make the posterior of a network of width N_1 = N_2 = N_3 = 10, solve its theory, and sample it. The run writes exact
# draws of the order parameters, and f on the test sequences, to a sample file.

# %%
posterior = task.posterior(10, temperature=0.1)
theory, limit = gf.theory.solve(posterior), gf.theory.gp(posterior)
run = gf.sample(
    posterior,
    key=jax.random.key(1),
    chains=4,
    warmup=100,
    draws=100 if quick else 500,
    test=task.test_set,
    store="own_sequences.h5",
    overwrite=True,
    progress=False,
)
print(gf.compare(run, theory)[["theory", "sampled", "mcse", "z"]].round(3))

# %% [markdown]
# A prediction is the mean and variance of f(x) over the posterior. The predicted class is the sign of the mean.

# %%
predictions = {"run": gf.predict(run, task.test_inputs)}
predictions |= {"theory": gf.predict(theory, task.test_inputs), "GP limit": gf.predict(limit, task.test_inputs)}
for name, prediction in predictions.items():
    error = gf.accuracy_error(prediction, task.test.y)  # Monte Carlo standard error, 0 for a theory
    print(f"test accuracy, {name}: {gf.accuracy(prediction, task.test.y):.3f} +- {error:.3f}")
print(gf.head_scores(run).round(2))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
mean, deviation = predictions["run"].mean, np.sqrt(predictions["run"].variance)
order = np.lexsort((mean, task.test.y))  # by class, then by prediction
for label, colour in ((-1, "#0072B2"), (1, "#D55E00")):
    place = np.flatnonzero(task.test.y[order] == label)
    at = order[place]
    left.errorbar(place, mean[at], deviation[at], color=colour, fmt=".", elinewidth=0.6, label=f"$y = {label:+d}$")
left.axhline(0, color="black", linewidth=0.8)
left.set(xlabel="test sequence, by class and prediction", ylabel="$f(x)$, mean and standard deviation")
left.legend()
gf.plot.order_parameters(run, ax=right)
figure.savefig("own_sequences.png", dpi=150)
