"""The hidden Markov chain task with learned queries and keys, started at the hand-made heads and away from them.

python tutorials/learned_attention.py [--quick]   writes learned_attention.png to the current directory
"""

import sys

import jax
import matplotlib.pyplot as plt
import numpy as np

import gibbsformer as gf

quick = "--quick" in sys.argv
widths = (10,) if quick else (10, 100)
warmup, draws, chains = (20, 20, 2) if quick else (250, 250, 4)

# 1. Figure 2c's task, smaller and easier: 8 states, which change more rarely or more often, and 40 features. Layer 1
# has a head that compares a token with the one before, and a random head; layer 2 a uniform and a random one. The good
# path takes the first head of both layers. Queries and keys of width 9 give the hand-made heads exactly, and the best
# approximation of the random ones.
task = gf.tasks.hidden_markov_chain(
    key=jax.random.key(0), length=8, features=40, examples=60, test_examples=400, stay=(0.9, 0.1)
)
x, y = task.train.x, task.train.y
N_0, G, T = x.shape[1], 9, 0.1
values = gf.LearnedAttention.around(task.attention, G).means(N_0)
sizes = [np.mean([np.mean(values[f"{name}_{l}"] ** 2) for name in "QK"]) for l in (1, 2)]

# 2. Three posteriors of queries and keys: near the heads; anywhere, as large as the heads, started at them; and the
# same, started at a draw of the prior.
near = gf.LearnedAttention.around(task.attention, G, [size / 100 for size in sizes])
anywhere = gf.LearnedAttention((2, 2), G, sizes, path_names=task.attention.path_names)
start = {name: np.repeat(each[None], chains, 0) for name, each in values.items()}
ARMS = {
    "near the heads": (near, None),
    "started at the heads": (anywhere, start),
    "started at the prior": (anywhere, None),
}


def network(N):
    return gf.Network(N_0, (2, 2), (N, N, N))


def learned(N, attention, init):
    """What is ``measured`` of learned attention."""
    posterior = attention.posterior(network(N), x, y, temperature=T)
    run = gf.sample(posterior, gf.HMC(integration_steps=12), key=jax.random.key(N), chains=chains, warmup=warmup,
                    draws=draws, init=init, progress=False)  # fmt: skip
    return measured(run, task.test.x)


def frozen(N):
    """The same with the heads frozen, by exact draws."""
    posterior = near.posterior(network(N), x, y, temperature=T).frozen(values)
    run = gf.sample(posterior, key=jax.random.key(N), warmup=100, draws=400, progress=False)
    return measured(run, gf.contract(task.test.x, near.frozen(values)))


def measured(run, inputs):
    """Test accuracy, its error, U_1 of the good path as a share of the trace by chain, and the run."""
    U, prediction = run.order_parameters.U[0], gf.predict(run, inputs)
    share = (U[..., 0, 0] / np.trace(U, axis1=2, axis2=3)).mean(1)
    return gf.accuracy(prediction, task.test.y), gf.accuracy_error(prediction, task.test.y), share, run


found = {}
for N in widths:
    found[N] = {"frozen": frozen(N)} | {name: learned(N, *arm) for name, arm in ARMS.items()}
    for name, (accuracy, error, share, run) in found[N].items():
        lp, worst = np.asarray(run.stats["lp"]).mean(1).round(0), gf.diagnostics.convergence(run)
        print(
            f"N = {N}, {name}: accuracy {accuracy:.3f} +- {error:.3f}, good path's share of U by chain "
            f"{share.round(2)}, log-density by chain {lp}, R-hat {worst.rhat:.2f}, ESS {worst.ess_bulk:.0f}"
        )

# 3. Log evidence of learned against frozen heads. Particles come from the prior by tempering, and no chain has to find
# its way.
for N in widths:
    learning = near.posterior(network(N), x, y, temperature=T)
    for name, posterior in (("frozen", learning.frozen(values)), ("near the heads", learning)):
        each = gf.evidence(posterior, key=jax.random.key(2), particles=32 if quick else 64, repeats=1 if quick else 2)
        print(f"N = {N}, {name}: log evidence {each.log_evidence:.2f} +- {each.error:.2f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
names = list(found[widths[0]])
for i, N in enumerate(widths):
    at = np.arange(len(names)) + 0.25 * i
    accuracy, error = np.array([found[N][name][:2] for name in names]).T
    left.errorbar(at, accuracy, 2 * error, fmt="o", label=f"N = {N}")
    for k, name in enumerate(names):
        shares = found[N][name][2]
        right.plot(np.full(len(shares), at[k]), shares, "o", color=f"C{i}", label=f"N = {N}" if k == 0 else None)
left.set(ylabel="test accuracy")
right.set(ylabel="share of the good path in tr $U_1$, by chain")
for axes in (left, right):
    axes.set_xticks(
        np.arange(len(names)) + 0.125 * (len(widths) - 1), [n.replace(" ", "\n", 1) for n in names], fontsize=8
    )
    axes.legend(fontsize=8)
figure.savefig("learned_attention.png", dpi=150)
