"""Draws from the prior: order parameters of a network, and outputs and labels of a posterior's examples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from ..core import cards, checks
from ..core.numerics import numerics
from ..models import Network, OrderParameters, Posterior
from ..models.collapsed import draw_prior, layout, order_parameters
from ..models.pointwise import prior_path_weights
from ..models.records import labels, variables
from ..models.residual import path_names
from ..models.solvable import check_solvable
from ..theory import outputs
from .arviz_groups import made_of

_BLOCK = 64 * 2**20  # bytes of path weights made at a time


@dataclass(frozen=True, eq=False)
class Prior:
    """Draws from the prior of a network, from ``gf.prior``.

    Attributes:
        network: whose prior it is.
        order_parameters: U_a [draw], or [draw, m, m], and U = (U_1, .., U_L), U_l [draw, k_l m, k_l m].
        f: outputs on the training examples [draw, P], or [draw, P, m]; None of a network alone.
        y: labels f + N(0, T) [draw, P], or [draw, P, m], real numbers also where labels are classes; None of a network
            alone.
        path_names: names of the paths.
        classes: of the labels; () for real values.
    """

    network: Network
    order_parameters: OrderParameters
    f: np.ndarray | None
    y: np.ndarray | None
    path_names: tuple[str, ...]
    classes: tuple = ()

    @property
    def draws(self) -> int:
        """Number of draws, which are independent."""
        return len(self.order_parameters.U[0])

    def __repr__(self) -> str:
        return f"Prior({self.network}, {self.draws} draws{'' if self.y is None else f' of {self.y.shape[1]} labels'})"

    def _repr_html_(self) -> str:
        U_a, U = self.order_parameters
        rows = {"U_a": U_a} | {f"U_{l}": values for l, values in enumerate(U, start=1)} | {"f": self.f, "y": self.y}
        return cards.card(f"Prior: {self.draws} draws", rows.items())

    def datasets(self) -> dict[str, xr.Dataset]:
        """The draws as xarray Datasets with the axes of a run, as one chain.

        Returns:
            ArviZ group ("prior", and "prior_predictive" of a posterior) -> Dataset.
        """
        described = variables(self.network)
        named = labels(self.network, self.path_names, 0, self.classes)
        U_a, U = self.order_parameters
        groups: dict[str, dict[str, Any]] = {"prior": {"U_a": (described["U_a"].dims, U_a)}}
        groups["prior"] |= {f"U_{l}": (described[f"U_{l}"].dims, each) for l, each in enumerate(U, start=1)}
        if self.y is not None:
            dims = ("example", "output") if self.y.ndim == 3 else ("example",)
            groups["prior_predictive"] = {"y": (dims, self.y), "f": (dims, self.f)}
        index = {"chain": [0], "draw": np.arange(self.draws)}
        found = {}
        for group, content in groups.items():
            arrays = {name: (("chain", "draw", *dims), values[None]) for name, (dims, values) in content.items()}
            used = {dim for dims, _ in content.values() for dim in dims if dim in named}
            found[group] = xr.Dataset(arrays, coords=index | {dim: named[dim] for dim in used})
        return found

    def to_arviz(self):
        """The draws for ArviZ: groups ``prior`` and, of a posterior, ``prior_predictive``.

        Returns:
            InferenceData (ArviZ 0.x) or DataTree (ArviZ 1.x).
        """
        return made_of(self.datasets())


def prior(source: Posterior | Network, *, draws: int = 1000, key: jax.Array) -> Prior:
    """Independent draws from the prior: what the network says before it has seen a label.

    Order parameters come from their exact law at any width, outputs from the Gaussian process that they leave,
    f | U_1 ~ N(0, sigma_0^2 sum U_1 C), labels from y = f + N(0, T).

    Args:
        source: a posterior, whose labels are not looked at; or a network, which has order parameters alone.
        draws: number of draws.
        key: typed random key.

    Returns:
        Prior; ``run.to_arviz(prior=..)`` takes it.

    Raises:
        ValueError: neither of the two, the posterior of a model of one's own or of a reduction, draws below 1.

    Source: docs/model.md, sections 3 and 4.
    """
    draws = checks.count("draws", draws)
    checks.random_key("key", key)
    network = source if isinstance(source, Network) else getattr(source, "network", None)
    if not isinstance(source, Network):
        check_solvable("gf.prior", source)
        source.check_examples("gf.prior", "give posterior.network, for draws of order parameters alone")
    assert isinstance(network, Network)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    shape = layout(network)
    with numerics():
        theta = jnp.asarray(draw_prior(shape, network.widths, rng, draws))
        found = _order_parameters(shape, jnp.asarray(network.variances, float), theta)
        U = OrderParameters(np.asarray(found.U_a), tuple(np.asarray(each) for each in found.U))
    if isinstance(source, Network):
        return Prior(network, U, None, None, path_names(network.branches, network.residual))
    f = _outputs(source, U.U[0], key)
    y = f + np.sqrt(source.temperature) * rng.standard_normal(f.shape)
    return Prior(network, U, f, y, source.data.path_names, source.classes or ())


def _outputs(posterior: Posterior, U: np.ndarray, key) -> np.ndarray:
    keys, N_0 = jax.random.split(key, len(U)), posterior.network.input_width
    size = max(1, min(len(U), _BLOCK // (8 * U.shape[-1] * N_0)))
    parts = []
    with numerics():
        variance = jnp.asarray(posterior.network.variances[0], float)
        for start in range(0, len(U), size):
            B = np.asarray(
                _path_weights(N_0, variance, keys[start : start + size], jnp.asarray(U[start : start + size]))
            )
            parts.append(outputs(B, posterior.data))
    return np.concatenate(parts)


@partial(jax.jit, static_argnums=0)
def _order_parameters(shape, variances, theta):
    return jax.lax.map(lambda t: order_parameters(shape, variances, t), theta)


@partial(jax.jit, static_argnums=0)
def _path_weights(input_width, variance, keys, U):
    return jax.lax.map(lambda one: prior_path_weights(one[0], one[1], variance, input_width), (keys, U))
