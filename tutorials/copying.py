"""Copying a token by what it says or by where it stands: which attention the evidence prefers, against P.

python tutorials/copying.py [--quick]   writes copying.png to the current directory
"""

import sys

import jax
import matplotlib.pyplot as plt
import numpy as np

import gibbsformer as gf

quick = "--quick" in sys.argv
shares = (0.3, 0.6) if quick else (0.2, 0.3, 0.4, 0.5, 0.6)
examples = (6, 12) if quick else (6, 12, 24, 48, 96)
kinds = ("softmax",) if quick else ("softmax", "linear")

# 1. Five tokens, each with four features of content and a one-hot code of its place. The teacher reads one direction v
# of the content where the last token attends to: with some share the first token, whatever it says; with the rest the
# tokens whose feature 1 is like the last one's.
S, d, T, N, most, tested = 5, 4, 0.3, 30, 96, 400
rng = np.random.default_rng(0)
content, v = rng.standard_normal((most + tested, d, S)), rng.standard_normal(d)
noise = np.sqrt(T) * rng.standard_normal(len(content))
x = np.concatenate([content, np.broadcast_to(np.eye(S), (len(content), S, S))], axis=1)  # [P, N_0, S]
logits = 6 * content[:, 0] * content[:, 0, -1:]
by_content = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
by_place = np.broadcast_to(np.eye(S)[0], by_content.shape)


def labels(share):
    f = np.einsum("d,pds,ps->p", v, content, share * by_place + (1 - share) * by_content)
    return f / f.std() + noise


# 2. Three priors of one head's queries and keys: they see the content alone, the places alone, or both.
sees = {"content": (2.0, 1e-6), "places": (1e-6, 2.0), "both": (2.0, 2.0)}
network = gf.Network(d + S, (1,), (N, N), variances=(3.0, 1.0, 1.0))


def posterior(of, kind, share, P):
    attention = gf.LearnedAttention((1,), 1, [np.repeat(sees[of], (d, S))], kind=kind)
    return attention.posterior(network, x[:P], labels(share)[:P], temperature=T)


# 3. The evidence of places against content: tempered SMC over queries, keys and order parameters, all value weights
# integrated out. It tells which of the two the labels speak for, at every share and number of examples.
odds = {kind: np.zeros((len(shares), len(examples))) for kind in kinds}
for kind in kinds:
    for i, j in np.ndindex(odds[kind].shape):
        places, contents = (
            gf.evidence(posterior(of, kind, shares[i], examples[j]), key=jax.random.key(1), particles=64, repeats=1)
            for of in ("places", "content")
        )
        odds[kind][i, j] = places.log_evidence - contents.log_evidence
        error = np.hypot(places.error, contents.error)
        print(f"{kind}, share {shares[i]}, P = {examples[j]}: log odds of places {odds[kind][i, j]:.1f} +- {error:.1f}")


# 4. What a head that sees both looks at: correlations of its pattern with either part of the teacher's, by chain.
def looks_at(share, P):
    run = gf.sample(posterior("both", "softmax", share, P), gf.HMC(integration_steps=12), key=jax.random.key(1),
                    warmup=20 if quick else 300, draws=20 if quick else 200, progress=False)  # fmt: skip
    found = np.zeros((run.chains, 2))
    for chain in range(run.chains):
        for draw in range(0, run.draws, 10):
            heads = {name: np.asarray(run.variables[name])[chain, draw] for name in ("Q_1", "K_1")}
            pattern = run.posterior.attention.frozen(heads)(x[-tested:])[0][:, 0, :, -1]
            parts = by_place[-tested:], by_content[-tested:]
            found[chain] += [np.corrcoef(pattern.ravel(), part.ravel())[0, 1] for part in parts]
    return found / len(range(0, run.draws, 10))


middle = shares[len(shares) // 2]
overlaps = {P: looks_at(middle, P) for P in examples}
for P, found in overlaps.items():
    print(f"share {middle}, P = {P}: correlation with places and content by chain {found.round(2).tolist()}")

figure, axes = plt.subplots(1, len(kinds) + 1, figsize=(4 * len(kinds) + 4, 3.5), layout="constrained")
for ax, kind in zip(axes, kinds, strict=False):
    largest = np.abs(odds[kind]).max()
    image = ax.imshow(odds[kind], cmap="RdBu", vmin=-largest, vmax=largest, origin="lower", aspect="auto")
    gf.plot.style.written(ax, image, ".0f")
    ax.set_xticks(range(len(examples)), examples)
    ax.set_yticks(range(len(shares)), shares)
    ax.set(title=f"{kind} attention", xlabel="examples P", ylabel="teacher's share of places")
    figure.colorbar(image, label="log odds of places against content (nats)")
for part, name in enumerate(("places", "content")):
    for P, found in overlaps.items():
        axes[-1].plot([P] * len(found), found[:, part], "o", color=f"C{part}", label=name if examples[0] == P else None)
axes[-1].set(xscale="log", xlabel="examples P", ylabel="correlation with the teacher's pattern")
axes[-1].set_title(f"sees both, softmax, share {middle}")
axes[-1].legend(fontsize=8)
figure.savefig("copying.png", dpi=150)
