"""The result of sampling: draws by name, in memory or in a file, and the views that users ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..models import OrderParameters, PathInputs, Posterior, checks
from . import schema


@dataclass(frozen=True, eq=False)
class Run:
    """Draws from a posterior.

    Attributes:
        posterior: what was sampled.
        variables: name -> array [chain, draw, ..]; arrays of a stored run are read from disk when indexed.
        stats: statistics per transition [chain, draw], ArviZ's names: lp, energy, acceptance_rate, n_steps, ..
        settings: how it was made: kernel and options, chains, warmup, precision, device, versions.
        test: (inputs, labels [Q]) given for test predictions, or None.
        path: the sample file, or None.
    """

    posterior: Posterior
    variables: Mapping[str, Any]
    stats: Mapping[str, Any]
    settings: dict[str, Any]
    test: tuple[PathInputs, np.ndarray] | None = None
    path: str | None = None

    @property
    def chains(self) -> int:
        """Number of chains."""
        return self.variables["U_a"].shape[0]

    @property
    def draws(self) -> int:
        """Draws per chain after warm-up."""
        return self.variables["U_a"].shape[1]

    @property
    def order_parameters(self) -> OrderParameters:
        """U_a [chain, draw] and U = (U_1, .., U_L), U_l [chain, draw, k_l, k_l], as float64 arrays."""
        L = self.posterior.network.depth
        read = lambda name: np.asarray(self.variables[name], dtype=np.float64)  # noqa: E731
        return OrderParameters(read("U_a"), tuple(read(f"U_{l}") for l in range(1, L + 1)))

    @property
    def weights(self) -> dict[str, Any]:
        """Weights by name, "V_0", "V_1", .., "a", each [chain, draw, ..]; from disk when indexed if stored.

        Raises:
            ValueError: the run kept no weights.
        """
        names = self.posterior.network.weight_shapes
        if "V_0" not in self.variables:
            raise checks.InputError("this run kept no weights: sample again with keep='weights'")
        return {name: self.variables[name] for name in names}

    def datasets(self, weights: bool = False) -> dict[str, Any]:
        """The draws in memory as xarray Datasets, with named axes.

        Args:
            weights: with V_0, V_1, .., a where they were kept, which may be large.

        Returns:
            ArviZ group ("posterior", "sample_stats", and "posterior_predictive" with test inputs) -> Dataset.
        """
        import xarray as xr

        table = schema.variables(self.posterior.network)
        labels = schema.coordinates(
            self.posterior.network, self.posterior.data.path_names, 0 if self.test is None else len(self.test[1])
        )
        names = schema.kept(
            self.posterior.network, self.variables, schema.WEIGHTS if weights else schema.ORDER_PARAMETERS_ONLY
        )
        arrays: dict[str, dict] = {"posterior": {}, "sample_stats": {}}
        for name in names:
            group, dims = table[name]
            arrays.setdefault(group, {})[name] = (("chain", "draw", *dims), np.asarray(self.variables[name]))
        for name, values in self.stats.items():
            arrays["sample_stats"][name] = (("chain", "draw"), np.asarray(values))
        first = self.chains * self.settings.get("distributed", {}).get("process", 0)
        index = {"chain": np.arange(first, first + self.chains), "draw": np.arange(self.draws)}
        return {
            group: xr.Dataset(content, coords=index | {d: labels[d] for d in _dims(content) if d in labels})
            for group, content in arrays.items()
        }

    def summary(self):
        """Mean, sd, quantiles, MCSE, ESS and R-hat of U_a and every entry of U_l.

        Returns:
            DataFrame of ``arviz.summary``, a row per entry, named by its paths.
        """
        import arviz

        data = self.datasets()["posterior"]
        return arviz.summary(data[[name for name in data if str(name).startswith("U_")]])

    def to_arviz(self):
        """The run for ArviZ, weights included where they were kept; a stored run is opened lazily from its file.

        Returns:
            InferenceData (ArviZ 0.x) or DataTree (ArviZ 1.x).
        """
        import arviz

        if self.path is not None:
            return arviz.from_netcdf(self.path)
        groups = self.datasets(weights=True)
        if arviz.__version__.startswith("0."):  # ArviZ 1 has the name too, for a DataTree
            return arviz.InferenceData(**groups)
        import xarray as xr

        return xr.DataTree.from_dict(groups)


def _dims(content):
    return {dim for dims, _ in content.values() for dim in dims}
