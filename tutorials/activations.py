# %% [markdown]
# # Attention that reads activations
#
# In the solvable network, attention is a function of the bare inputs. Here logits also depend on the activations of
# the layer below, with a scale c. When does that matter? In a checkout, `python tutorials/activations.py` runs the same
# code and writes activations.png to the current directory; `--quick` takes few draws.
#
# Before: [Five minutes](quickstart.md). [A network of your own](../own_network.md) describes the model and how to
# write another one.

# %%
import sys

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import gibbsformer as gf

quick = "--quick" in sys.argv
rng = np.random.default_rng(0)

# %% [markdown]
# A token has a noisy value and a one-hot code of its position. The label of a sequence is the sign of the value before
# the last.

# %%
P, Q, S, N = 30, 200, 5, 6
value = rng.standard_normal((P + Q, S))
x = np.concatenate([value[:, None] + 0.3 * rng.standard_normal((P + Q, 1, S)), np.eye(S)[None].repeat(P + Q, 0)], 1)
y = np.sign(value[:, -2])
N_0 = x.shape[1]

# %% [markdown]
# The frozen part of the logits is x(s)^T W x(t). Head 1 attends to the token before, head 2 to the token itself.

# %%
W = np.zeros((2, N_0, N_0))
W[0, 1:, 1:], W[1, 1:, 1:] = 3 * np.eye(S, k=1), 3 * np.eye(S)

# %% [markdown]
# With frozen attention alone the network is solvable. The theory and exact draws say what to compare with.

# %%
data, data_test = (gf.contract(part, gf.Attention([W])) for part in (x[:P], x[P:]))
frozen = gf.Posterior(gf.Network(N_0, (2,), (N, N)), data, y[:P], temperature=0.1)
theory = gf.theory.solve(frozen)
exact = gf.sample(frozen, key=jax.random.key(0), warmup=100, draws=1000, progress=False)
U_exact = gf.diagnostics.moments(exact.order_parameters.U[0])
f_exact = gf.predict(exact, data_test)

# %% [markdown]
# With c above 0 the value weights can no longer be integrated out, and only gradient-based kernels are left. The order
# parameter becomes an observable, the same function of the weights as before.


# %%
def order_parameter(w):
    W_1 = jnp.einsum("i,hij->hj", w["a"], w["V_1"]) / jnp.sqrt(N)
    return {"U_1": W_1 @ W_1.T / N}


def sampled(scale):
    model = gf.models.attention_from_activations(N_0, (2,), N, scale=scale, frozen=[W], observables=order_parameter)
    run = gf.sample(
        model.posterior(x[:P], y[:P], temperature=0.1),
        gf.NUTS(max_doublings=7),
        key=jax.random.key(1),
        chains=2 if quick else 4,
        warmup=50 if quick else 300,
        draws=40 if quick else 500,
        test=(x[P:], y[P:]),
        progress=False,
    )
    return gf.diagnostics.moments(np.asarray(run.variables["U_1"])), gf.predict(run, x[P:])


scales = (0, 1) if quick else (0, 0.2, 0.5, 1)
found = [sampled(scale) for scale in scales]

# %% [markdown]
# At c = 0 the draws of all weights are those of the solvable network, within Monte Carlo error: z is of order 1.

# %%
z = (found[0][0]["mean"] - U_exact["mean"]) / np.hypot(found[0][0]["mcse"], U_exact["mcse"])
print(f"c = 0 against exact draws of U_1: z = {np.round(z[np.triu_indices(2)], 1)}")
for scale, (U, f) in zip(scales, found, strict=True):
    away = np.sqrt(np.mean((f.mean - f_exact.mean) ** 2))
    print(
        f"c = {scale}: U_1 of the good path {U['mean'][0, 0]:.2f} +- {U['mcse'][0, 0]:.2f}, mean prediction away from "
        f"frozen attention's by {away:.3f}, accuracy {gf.accuracy(f, y[P:]):.3f} +- {gf.accuracy_error(f, y[P:]):.3f}"
    )

# %% [markdown]
# Left, the order parameter of the values; right, the test accuracy, both against c. Error bars are two Monte Carlo
# standard errors.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
at = np.arange(len(scales))
for entry, colour, name in (((0, 0), "#0072B2", "good, good"), ((0, 1), "#999999", "good, other"),
                            ((1, 1), "#D55E00", "other, other")):  # fmt: skip
    mean, error = (np.array([U[quantity][entry] for U, _ in found]) for quantity in ("mean", "mcse"))
    left.errorbar(at, mean, 2 * error, color=colour, fmt="o-", label=name)
    left.axhline(U_exact["mean"][entry], color=colour, linewidth=0.8)
    left.axhline(theory.U[0][entry], color=colour, linewidth=0.8, linestyle=":")
left.set(xlabel="scale $c$ of the dependence", ylabel="order parameter $U_1$")
left.set_title("lines: frozen attention, exact; dotted: large-N theory", fontsize=8)
accuracy = [gf.accuracy(f, y[P:]) for _, f in found]
error = [2 * gf.accuracy_error(f, y[P:]) for _, f in found]
right.errorbar(at, accuracy, error, color="#0072B2", fmt="o-", label="attention reads activations")
right.axhline(gf.accuracy(f_exact, y[P:]), color="black", linewidth=0.8, label="frozen attention, exact")
right.axhline(gf.accuracy(gf.predict(theory, data_test), y[P:]), color="black", linestyle=":", label="large-N theory")
right.set(xlabel="scale $c$ of the dependence", ylabel="test accuracy")
for axes in (left, right):
    axes.set_xticks(at, [f"{scale:g}" for scale in scales])
    axes.legend(fontsize=8)
figure.savefig("activations.png", dpi=150)

# %% [markdown]
# At c = 3 and above, four chains of 500 draws no longer agree with each other, so the figure stops at c = 1.
