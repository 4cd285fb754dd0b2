"""Figure 1 of arXiv:2405.15926: paths, order parameter and kernel, drawn from the hidden Markov chain task."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase

from .. import plot, theory
from ..core.text import literal
from ..diagnostics import path_kernels, renormalized_kernel
from ..models.network import effective_weights
from ..sampler import lift
from . import schemes
from .assembly import Panel, Plan, split
from .hidden_markov import HEADS, HiddenMarkov

_COMPONENTS = 30


def paths(place: FigureBase, made: HiddenMarkov) -> Mapping[str, pd.DataFrame]:
    """(a) The network as a sum over attention paths; the width of a line tells U of that path with itself."""
    solved, names, U = _narrow(made)
    diagonal = np.diag(U)
    index = [tuple(map(int, np.unravel_index(i, solved.posterior.network.heads))) for i in range(len(names))]
    lines = [
        schemes.Line(heads, colour, 0.8 + 2.2 * np.sqrt(value / diagonal.max()), f"{literal(name)}, {value:.2f}")
        for name, heads, colour, value in zip(names, index, schemes.PATH_COLOURS, diagonal, strict=True)
    ]
    axes = place.subplots()
    schemes.network(axes, HEADS["2c"], lines)
    axes.text(1.5, -1.2, r"$f(x)=\sum_\pi w^\pi \cdot V_0\,\xi^\pi(x)$", ha="center", va="top")
    title = rf"path $\pi$ and $U^{{\pi\pi}}$ at $N={made.narrow}$"
    legend = axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=2, title=title)
    legend.get_title().set_fontsize("small")
    heads = [" ".join(str(h + 1) for h in each) for each in index]
    return {"": pd.DataFrame({"path": names, "heads": heads, "U": diagonal})}


def order_parameter(place: FigureBase, made: HiddenMarkov) -> Mapping[str, pd.DataFrame]:
    """(b) The effective weights of every path in one exact draw, and U, their overlap for each pair of paths."""
    N, seed = made.narrow, made.options.seeds[0]
    run = lift(made.exact("2c", seed, N), key=jax.random.key(seed), draws=1, progress=False)
    drawn = {name: jnp.asarray(values[0, 0]) for name, values in run.weights.items()}
    W = np.asarray(effective_weights(drawn)[0], np.float64)
    U, names = W @ W.T / N, [literal(name) for name in run.posterior.data.path_names]
    left, right = place.subplots(1, 2, width_ratios=(1, 1))
    largest = np.abs(W).max()
    left.imshow(W, cmap="PuOr", vmin=-largest, vmax=largest, aspect="auto")
    left.set_box_aspect(1)
    left.set_yticks(range(len(names)), names)
    left.set(xticks=[0, N - 1], xticklabels=["1", str(N)], xlabel="unit $i$")
    left.set_title(r"effective weights $w^\pi_i$")
    left.tick_params(length=0)
    plot.order_parameters(U, names=names, colorbar=False, ax=right)
    right.set(xticks=[], yticks=[], title=r"$U^{\pi\pi'}=w^\pi\cdot w^{\pi'}/N$")
    table = pd.DataFrame(W, columns=[f"w_{i}" for i in range(1, N + 1)])
    table.insert(0, "path", list(run.posterior.data.path_names))
    return {"": table.join(pd.DataFrame(U, columns=[f"U {name}" for name in run.posterior.data.path_names]))}


def kernel_alignment(place: FigureBase, made: HiddenMarkov) -> Mapping[str, pd.DataFrame]:
    """Overlap of the leading kernel principal components with the labels, finite width against the GP limit."""
    table = made.overlaps("2c")
    mean = table.groupby(["kernel", "component"], sort=False)["overlap"].mean()
    axes = place.subplots()
    plot.alignment({name: mean[name].to_numpy() for name in table["kernel"].unique()}, _COMPONENTS, ax=axes)
    return {"": table}


def kernels(place: FigureBase, made: HiddenMarkov) -> Mapping[str, pd.DataFrame]:
    """(d) The kernel as a weighted sum of path-path kernels: equal weights of same paths in the GP limit."""
    solved, names, U = _narrow(made)
    limit = theory.gp(solved.posterior)
    C = path_kernels(solved.posterior.data).to_numpy()
    sources = {"GP limit": limit, f"$N={made.narrow}$": solved}
    above, under = split(place, 2, 1, hspace=0.02)
    for part, (name, source) in zip((above, under), sources.items(), strict=True):
        total = renormalized_kernel(source).to_numpy()
        weight = r"C^{\pi\pi}" if source is limit else r"U^{\pi\pi'}C^{\pi\pi'}"
        titles = (f"{name}: ${weight}$", "sum: $K$")
        schemes.kernel_sum(part, C, np.asarray(source.U[0]), total, names, titles)
    rows = [
        {"path": p, "path_prime": q, "U": U[i, j], "U_gp": limit.U[0][i, j], "mean_C": C[i, j].mean(),
         "norm_UC": np.linalg.norm(U[i, j] * C[i, j])}
        for i, p in enumerate(names) for j, q in enumerate(names)
    ]  # fmt: skip
    return {"": pd.DataFrame(rows)}


def _narrow(made: HiddenMarkov) -> tuple[theory.Theory, tuple[str, ...], np.ndarray]:
    """The theory of the first seed at the least N, names of paths, and U."""
    solved = made.theories("2c", made.options.seeds[0], (made.narrow,))[made.narrow]
    return solved, solved.train.path_names, np.asarray(solved.U[0])


def _places(figure: Figure) -> Mapping[str, FigureBase]:
    above, under = split(figure, 2, 1, height_ratios=(1, 1.5))
    a, b = split(above, 1, 2, width_ratios=(1, 1.15))
    c, d = split(under, 1, 2, width_ratios=(1, 1.15))
    return {"a": a, "b": b, "c": c, "d": d}


PLAN = Plan(
    "1",
    HiddenMarkov,
    {
        "a": Panel(paths, (4.6, 3.2)),
        "b": Panel(order_parameter, (5.6, 2.6), lambda made: made.jobs("2c", (made.narrow,))),
        "c": Panel(kernel_alignment, (4.6, 3.2)),
        "d": Panel(kernels, (4.6, 4.6)),
    },
    (7.1, 6.2),
    _places,
)
