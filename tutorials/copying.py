"""Copying a token by what it says or by where it stands: which attention the evidence prefers, against P.

python tutorials/copying.py [--quick]   writes copying.png to the current directory
"""

import sys

import jax
import matplotlib.pyplot as plt
import numpy as np

import gibbsformer as gf

quick = "--quick" in sys.argv
examples = (20, 40) if quick else (10, 20, 40, 80, 160, 320)
particles, repeats = (32, 1) if quick else (64, 2)

# 1. Six tokens, each with eight features of content and a one-hot code of its place. The teacher reads one direction v
# of the content, with the attention of the last token: a share of it goes to the first token, whatever it says, and the
# rest to tokens whose feature 1 has the sign of the last one's.
S, d, share, T, N, G = 6, 8, 0.4, 0.05, 30, 2
rng = np.random.default_rng(0)
content = rng.standard_normal((examples[-1] + 400, d, S))
x = np.concatenate([content, np.broadcast_to(np.eye(S), (len(content), S, S))], axis=1)  # [P, N_0, S]
logits = 2 * content[:, 0] * content[:, 0, -1:]
semantic = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
positional = np.broadcast_to(np.eye(S)[0], semantic.shape)
pattern = share * positional + (1 - share) * semantic
v = rng.standard_normal(d)
y = np.einsum("d,pds,ps->p", v, content, pattern)
y = y / y.std() + np.sqrt(T) * rng.standard_normal(len(y))

# 2. Three priors of one head's queries and keys: they see the content alone, the places alone, or both.
sees = {"content": (0.5, 1e-6), "places": (1e-6, 1.0), "both": (0.5, 1.0)}
network = gf.Network(d + S, (1,), (N, N))


def posterior(of, kind, P):
    variances = [np.repeat(sees[of], (d, S))]
    return gf.LearnedAttention((1,), G, variances, kind=kind).posterior(network, x[:P], y[:P], temperature=T)


# 3. Their evidence: tempered SMC over queries, keys and order parameters, all value weights integrated out.
evidence = {}
for kind in ("softmax", "linear"):
    for of in sees:
        for P in examples:
            found = gf.evidence(posterior(of, kind, P), key=jax.random.key(P), particles=particles, repeats=repeats)
            evidence[kind, of, P] = found.log_evidence, found.error
            print(f"{kind}, {of}, P = {P}: log evidence {found.log_evidence:.2f} +- {found.error:.2f}", flush=True)


# 4. What heads that see both look at: the correlation of their pattern with either part of the teacher's, by chain.
def looks_at(P):
    run = gf.sample(posterior("both", "softmax", P), gf.HMC(integration_steps=12), key=jax.random.key(1), progress=False,
                    warmup=20 if quick else 300, draws=20 if quick else 200, test=(x[-400:], y[-400:]))  # fmt: skip
    scores = np.zeros((run.chains, 2))
    for chain in range(run.chains):
        for draw in range(0, run.draws, 10):
            heads = {name: np.asarray(run.variables[name])[chain, draw] for name in ("Q_1", "K_1")}
            learned = run.posterior.attention.frozen(heads)(x[-400:])[0][:, 0, :, -1]
            scores[chain] += [
                np.corrcoef(learned.ravel(), part[-400:].ravel())[0, 1] for part in (positional, semantic)
            ]
    return scores / len(range(0, run.draws, 10)), gf.score(gf.predict(run, x[-400:]), y[-400:]).value


overlaps = {}
for P in examples:
    overlaps[P], r_squared = looks_at(P)
    print(
        f"P = {P}: correlation with places, content by chain {overlaps[P].round(2).tolist()}, R^2 {r_squared:.3f}",
        flush=True,
    )

figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for ax, kind in zip(axes, ("softmax", "linear"), strict=False):
    for of, colour in (("places", "C0"), ("content", "C1")):
        value, error = np.array(
            [np.subtract(evidence[kind, of, P], (evidence[kind, "both", P][0], 0)) for P in examples]
        ).T
        ax.errorbar(examples, value, 2 * error, fmt="o-", color=colour, label=f"sees {of} alone")
    ax.axhline(0, color="0.6", lw=1)
    ax.set(xscale="log", xlabel="examples P", title=kind, ylabel="log evidence less that of both (nats)")
for part, (name, colour) in enumerate((("places", "C0"), ("content", "C1"))):
    for P in examples:
        axes[2].plot(
            [P] * len(overlaps[P]), overlaps[P][:, part], "o", color=colour, label=name if P == examples[0] else None
        )
axes[2].set(
    xscale="log", xlabel="examples P", title="softmax, sees both", ylabel="correlation with the teacher's pattern"
)
for ax in axes:
    ax.legend(fontsize=8)
figure.savefig("copying.png", dpi=150)
