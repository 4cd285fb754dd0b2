"""Which score finds the heads that matter: all of them compared, on the Bayesian network and on MiniLM itself.

python tutorials/minilm_heads.py MODEL MAILS [P Q SEEDS]   writes minilm_heads.png and minilm_heads.csv

MODEL and MAILS are those of minilm_spam.py. P and Q are the numbers of training and test e-mails, drawn from 2 (P + Q)
for each of so many SEEDS: 200, 400 and 5 if left out.
"""

import sys
from functools import partial

import jax
import numpy as np
import pandas as pd
from mails import read_mails

import gibbsformer as gf

model, mails, *size = sys.argv[1:]
P, Q, seeds = map(int, size or (200, 400, 5))

# 1. Four heads of layers 5 and 6, of which every method has scores in minutes.
texts, y = read_mails(mails, 2 * (P + Q))
read = gf.Attention.from_transformers(model, texts, layers=(5, 6), heads=[(1, 2, 3, 4)] * 2, max_length=64)
data = read.contract("mean")
network = gf.Network(data.input_width, (4, 4), (100, 100, 100))

found = {"Bayesian network": [], "MiniLM": []}
for seed in range(seeds):
    train, test = np.split(np.random.default_rng(seed).permutation(len(texts))[: P + Q], [P])

    # 2. Scores by the order parameter, evidence, gradients and leaving out; heads are removed from the theory.
    posterior = gf.Posterior(network, data.like(data.xi[train]), y[train], temperature=0.1)
    theory = gf.theory.solve(posterior)
    scores = gf.heads.all_scores(posterior, theory, key=jax.random.key(seed))
    test_set = data.like(data.xi[test]), y[test]
    found["Bayesian network"].append(gf.heads.compare(theory, scores, test_set, seed=seed))

    # 3. MiniLM with a classification head: the same orders, and its own by gradients and leaving out.
    own = gf.heads.Classifier(read, y, train)
    scores |= {"gradient": own.by_gradient(by_layer=False), "gradient, divided by layer": own.by_gradient()}
    scores |= {"leave one out": own.by_leaving_out()}
    without = partial(own.accuracy, test)
    found["MiniLM"].append(gf.heads.compare(without, scores, seed=seed, random=3, progress=True))

# 4. The area under accuracy against heads removed, with standard errors over seeds.
joined = {name: first.join(*others) for name, (first, *others) in found.items()}
table = pd.concat({name: each.table for name, each in joined.items()}, names=["network"])
table.to_csv("minilm_heads.csv")
print(table.round(4))
figure, axes = gf.plot.style.new_figure(columns=2, size=(5.2, 5.0))
for ax, (name, each) in zip(axes, joined.items(), strict=True):
    gf.plot.pruning(each, ax=ax).set_title(name)
gf.plot.save(figure, ".", "minilm_heads")
