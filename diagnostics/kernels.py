"""Kernels as labelled arrays, and how well they align with the task (docs/model.md, sections 3 and 8)."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..core import cards, checks
from ..core.numerics import numerics
from ..models import PathInputs, Weights, order_parameters
from ..models.records import output_names
from ..models.residual import strengths
from ..models.solvable import check_solvable
from ..sampler import Run
from ..sampler.convergence import check_draws
from ..theory import Theory


class Alignment(NamedTuple):
    """Principal components of a kernel between training examples, and the labels in them.

    Attributes:
        eigenvalues: of the kernel without T [P], descending.
        overlaps: |v_k . y| / |y| [P] of the eigenvectors v_k in the same order; their squares sum to 1.
    """

    eigenvalues: np.ndarray
    overlaps: np.ndarray

    def __repr__(self) -> str:
        return cards.line("Alignment", self._asdict())

    def _repr_html_(self) -> str:
        rows = {"eigenvalues": cards.interval(self.eigenvalues), "overlaps": cards.interval(self.overlaps)}
        largest = int(np.argmax(self.overlaps))
        share = f"{100 * self.overlaps[largest] ** 2:.0f} % of |y|² in component {largest + 1}"
        return cards.card("Alignment of kernel and labels", (rows | {"largest overlap": share}).items())


def mean_order_parameter(source: Theory | Run | Weights) -> np.ndarray:
    """U_1 [H, H] of a theory, its posterior mean for a run, or U_1 of one set of weights.

    Args:
        source: a theory, a run, or value weights by name: "V_l" [H_l, N_{l+1}, N_l] and "a" [N_{L+1}] (V_0 not needed),
            and "residual" [L] where there are skip connections.
    """
    if isinstance(source, Theory):
        return source.U[0]
    if isinstance(source, Run):
        check_solvable("an order parameter", source.posterior)
        check_draws(source)
        return source.order_parameters.U[0].mean((0, 1), dtype=np.float64)
    weights, residual = weights_by_name(source)
    with numerics():
        return np.asarray(order_parameters({k: jnp.asarray(v, float) for k, v in weights.items()}, residual).U[0])


def weights_by_name(source, first_layer: bool = False) -> tuple[Weights, tuple[float, ...]]:
    """The weights V_1.., V_L and a of a network given by name, and V_0 where it is needed; other arrays are left out.

    Returns:
        (weights, (g_1, .., g_L)); the strengths of its skip connections are the entry "residual", none without it.

    Raises:
        ValueError: not weights by name, one missing, or shapes that do not follow one another.
    """
    if not isinstance(source, dict) or "V_1" not in source:
        raise checks.InputError(
            f"source is a {type(source).__name__}: give a theory, a run, or weights by name (V_0, V_1, .., a)"
        )
    depth = next(l for l in range(1, len(source) + 2) if f"V_{l + 1}" not in source)
    names = [*(["V_0"] if first_layer else []), *(f"V_{l}" for l in range(1, depth + 1)), "a"]
    missing = [name for name in names if name not in source]
    if missing:
        raise checks.InputError(f"source has weights {', '.join(source)}: {', '.join(missing)} missing, add them")
    shapes = {name: np.shape(source[name]) for name in names}
    chain = [shapes[f"V_{l}"] for l in range(1, depth + 1)]
    fits = all(len(shape) == 3 for shape in chain) and len(shapes["a"]) in (1, 2)
    fits = fits and all(low[1] == high[2] for low, high in itertools.pairwise([*chain, (1, 1, shapes["a"][-1])]))
    if first_layer:
        fits = fits and len(shapes["V_0"]) == 2 and shapes["V_0"][0] == chain[0][2]
    if not fits:
        raise checks.InputError(
            f"source has weights of shapes {shapes}: give V_0 [N_1, N_0], V_l [H_l, N_l+1, N_l], a [N_L+1] or "
            "[m, N_L+1]"
        )
    residual = strengths(np.asarray(source.get("residual", ())).tolist(), depth)
    for l, (g, shape) in enumerate(zip(residual, chain, strict=True), start=1):
        if g and shape[1] != shape[2]:
            raise checks.InputError(
                f"source has residual={residual} and V_{l} of shape {shape}: make N_{l} and N_{l + 1} equal, or g_{l} 0"
            )
    return {name: source[name] for name in names}, residual


def renormalized_kernel(
    source: Theory | Run, left: PathInputs | None = None, right: PathInputs | None = None
) -> xr.DataArray:
    """K(x, x') = sigma_0^2 sum U_1 C(x, x') between examples; for a run its posterior mean, as K is linear in U_1.

    Args:
        source: a theory (``theory.gp`` gives the GP kernel) or a run.
        left, right: inputs of all paths; default the training inputs for ``left``, and ``left`` for ``right``.

    Returns:
        DataArray [example, example_prime], or [example, output, example_prime, output_prime] of several outputs;
        natural units of f squared, without the temperature.

    Raises:
        ValueError: ``source`` is none of these, or ``left`` is missing where the posterior is of a ``gf.Reduction``.

    Source: docs/model.md, section 3.
    """
    check_solvable("a kernel between examples", source.posterior)
    if left is None:
        source.posterior.check_examples("left=None", "give left=gf.contract(x, attention) of the examples to look at")
        left = source.posterior.data
    right = left if right is None else right
    paths = source.paths if isinstance(source, Theory) else None
    x, x_prime = ((i if paths is None else i.select(paths)).flat for i in (left, right))
    U = mean_order_parameter(source)
    network = source.posterior.network
    if network.outputs == 1:
        values = network.variances[0] * (x @ U).reshape(len(x), -1) @ x_prime.reshape(len(x_prime), -1).T
        return xr.DataArray(values, dims=("example", "example_prime"), name="renormalized_kernel")
    H, m = x.shape[2], network.outputs
    values = np.einsum("pnh,hagb,qng->paqb", x, network.variances[0] * U.reshape(H, m, H, m), x_prime, optimize=True)
    names = list(output_names(network, source.posterior.classes or ()))
    return xr.DataArray(
        values,
        dims=("example", "output", "example_prime", "output_prime"),
        coords={"output": names, "output_prime": names},
        name="renormalized_kernel",
    )


def path_kernels(left: PathInputs, right: PathInputs | None = None) -> xr.DataArray:
    """C^{pi pi'}(x, x') = xi^pi(x) . xi^pi'(x'), with paths by name.

    Args:
        left, right: path-contracted inputs of P and P' examples; ``right`` defaults to ``left``.

    Returns:
        DataArray [path, path_prime, example, example_prime].

    Raises:
        ValueError: the two have different paths or input widths, or the array would not fit in memory.

    Source: docs/model.md, section 2.
    """
    right = left if right is None else right
    for name, inputs in (("left", left), ("right", right)):
        if not isinstance(inputs, PathInputs):
            raise checks.InputError(f"{name} is a {type(inputs).__name__}: give gf.contract(x, attention)")
    if left.xi.shape[1:] != right.xi.shape[1:]:
        raise checks.InputError(f"right has xi {right.xi.shape} and left {left.xi.shape}: give the same paths and N_0")
    checks.memory(
        f"path_kernels of {left.paths} paths and {len(left)} x {len(right)} examples",
        8 * left.paths**2 * len(left) * len(right),
        "fewer examples or paths (PathInputs.select)",
    )
    values = np.einsum("png,qnh->ghpq", left.flat, right.flat, optimize=True)
    names = {"path": list(left.path_names), "path_prime": list(right.path_names)}
    return xr.DataArray(
        values, dims=("path", "path_prime", "example", "example_prime"), coords=names, name="path_kernel"
    )


def alignment(source: Theory | Run | xr.DataArray | np.ndarray, y=None, output: int | None = None) -> Alignment:
    """How the principal components of a kernel between training examples overlap with the labels.

    Args:
        source: a theory, a run, or a kernel [P, P].
        y: labels [P]; those of the posterior by default.
        output: which of several outputs, by number from 0: its own block of the kernel, and its labels.

    Returns:
        Alignment; a kernel fit for the task has its largest overlaps at the front.

    Raises:
        ValueError: a kernel without labels, or of another size than the labels; a theory or run whose posterior is of
            a ``gf.Reduction``.

    Source: docs/model.md, section 8.
    """
    if isinstance(source, Theory | Run):
        check_solvable("alignment", source.posterior)
        source.posterior.check_examples("alignment", "give renormalized_kernel(.., left) of some examples, and their y")
        y = source.posterior.y if y is None else y
        outputs = source.posterior.network.outputs
        source = renormalized_kernel(source)
        if outputs > 1:
            index = _checked_output(output, outputs)
            source, y = source[:, index, :, index], np.asarray(y)[:, index] if np.ndim(y) == 2 else y
    if y is None:
        raise checks.InputError("y=None: a kernel alone does not know its labels, give y [P]")
    kernel, y = checks.array("kernel", source, "P, P"), checks.array("y", y, "P")
    if kernel.shape != (len(y), len(y)):
        raise checks.InputError(f"kernel has shape {kernel.shape} and y has {len(y)} labels: give a kernel [P, P]")
    values, vectors = np.linalg.eigh(kernel)
    return Alignment(values[::-1], np.abs(y @ vectors)[::-1] / np.linalg.norm(y))


def _checked_output(output, outputs: int) -> int:
    if output is None:
        raise checks.InputError(f"output=None, and the network has {outputs}: give one, 0 to {outputs - 1}")
    index = checks.count("output", output, least=0)
    if index >= outputs:
        raise checks.InputError(f"output={index} is out of range: give 0 to {outputs - 1}")
    return index
