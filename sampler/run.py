"""The result of sampling: draws by name, in memory or in a file, and the views that users ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..core import cards, checks
from ..models import OrderParameters
from ..models.shown import posterior_rows
from ..models.target import MONITORED, WEIGHT, Records
from .arviz_groups import made_of
from .groups import log_likelihood as log_likelihoods
from .groups import new_labels
from .prior_draws import Prior
from .settings import RunSettings
from .weights import RunEvidence, run_evidence


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
        described: description of the variables; default that of the target.
        state: leaves [..] of the sampler state after the last draw, of a run in memory; ``save`` writes them.
    """

    posterior: Any
    variables: Mapping[str, Any]
    stats: Mapping[str, Any]
    settings: dict[str, Any]
    test: tuple[Any, np.ndarray] | None = None
    path: str | None = None
    described: Records | None = None
    state: tuple[np.ndarray, ...] = ()

    def __repr__(self) -> str:
        place = "in memory" if self.path is None else f"in {self.path}"
        return f"Run({self.settings.get('kernel')!r}, {self.chains} chains x {self.draws} draws {place})"

    def _repr_html_(self) -> str:
        made, report = self.made, self.settings.get("report") or {}
        sampler = f"{made.kernel}, {self.chains} chains x {self.draws} draws after {made.warmup} of warm-up"
        rows = {"sampler": sampler, "target": made.target} | dict(self.variables)
        found = {"largest R-hat": report.get("rhat"), "minimum ESS": report.get("ess")}
        found |= {"divergences": report.get("divergences"), "sample file": self.path}
        return cards.card("Run", (rows | found | posterior_rows(self.posterior)).items())

    @cached_property
    def made(self) -> RunSettings:
        """``settings``, by attribute."""
        return RunSettings.from_stored(self.settings)

    @cached_property
    def records(self) -> Records:
        """Group, axes, role and labels of every variable."""
        if self.described is not None:
            return self.described
        target = self.posterior.target(self.made.target, self.made.keep)
        return target.describe(self.posterior, 0 if self.test is None else len(self.test[1]))

    @property
    def file(self) -> Path:
        """The sample file as a path, of a stored run."""
        return Path(str(self.path))

    @property
    def chains(self) -> int:
        """Number of chains."""
        return next(iter(self.variables.values())).shape[0]

    @property
    def draws(self) -> int:
        """Draws per chain after warm-up."""
        return next(iter(self.variables.values())).shape[1]

    def refresh(self) -> Run:
        """The run as its file holds it now; ``gf.open`` fixed the draws that this one sees.

        Returns:
            A new Run.

        Raises:
            ValueError: the run has no file, or as ``gf.open``.
        """
        from .opening import open  # not above: it makes runs

        if self.path is None:
            raise checks.InputError("this run is in memory: refresh is for runs from gf.open or with store=")
        return open(self.path)

    def save(self, store: str | os.PathLike, overwrite: bool = False) -> Run:
        """Write a run in memory to a sample file, as ``sample(.., store=)`` would have: ``gf.resume`` continues it.

        Args:
            store: file to create.
            overwrite: replace an existing file.

        Returns:
            The run with its draws in the file.

        Raises:
            ValueError: the run has a file already, or the file exists, cannot be written or would not fit.
        """
        from .opening import save  # not above: it makes runs

        return save(self, store, overwrite)

    def names(self, role: str) -> tuple[str, ...]:
        """Recorded variables of a role.

        Args:
            role: ``"monitored"``, ``"weight"``, ``"prediction"`` or ``"state"``.

        Returns:
            Names, in the order in which the target describes them.
        """
        described = self.records.variables
        return tuple(name for name in described if name in self.variables and described[name].role == role)

    @property
    def monitored(self) -> tuple[str, ...]:
        """Variables on which convergence is judged."""
        return self.names(MONITORED)

    @property
    def order_parameters(self) -> OrderParameters:
        """U_a [chain, draw] and U = (U_1, .., U_L), U_l [chain, draw, k_l, k_l], as float64 arrays.

        Raises:
            ValueError: the posterior is of a network without order parameters.
        """
        if "U_a" not in self.variables:
            raise checks.InputError(
                f"run recorded {', '.join(self.variables)} and no order parameters, which only the solvable "
                f"network of a "
                "gf.Posterior has: use run.variables[name]"
            )
        L = self.posterior.network.depth
        read = lambda name: np.asarray(self.variables[name], dtype=np.float64)  # noqa: E731
        return OrderParameters(read("U_a"), tuple(read(f"U_{l}") for l in range(1, L + 1)))

    @property
    def log_evidence(self) -> RunEvidence:
        """Log evidence log p(y) in nats, with its standard error and Pareto k: a by-product of independent proposals.

        Its ``value`` is None for other moves and where the weights are not to be believed; ``reason`` says which.
        """
        weights = self.stats.get("log_weight")
        return run_evidence(None if weights is None else np.asarray(weights, np.float64))

    @property
    def weights(self) -> dict[str, Any]:
        """Weights by name, "V_0", "V_1", .., "a", each [chain, draw, ..]; read from disk when indexed if stored.

        Raises:
            ValueError: the run kept no weights.
        """
        kept = self.names(WEIGHT)
        if not kept:
            raise checks.InputError("this run kept no weights: sample again with keep='weights'")
        return {name: self.variables[name] for name in kept}

    @property
    def index(self) -> dict[str, np.ndarray]:
        """Numbers of the chains and draws, as coordinates."""
        first = self.made.share.own.start
        return {"chain": np.arange(first, first + self.chains), "draw": np.arange(self.draws)}

    @property
    def observed(self):
        """xarray Dataset of the labels as the network sees them: y, and y_test of a run with test examples."""
        import xarray as xr

        return xr.Dataset(self.posterior.stored(self.test)[1]["observed_data"])

    def datasets(self, weights: bool = False) -> dict[str, Any]:
        """The draws in memory as xarray Datasets, with named axes.

        Args:
            weights: with V_0, V_1, .., a where they were kept, which may be large.

        Returns:
            ArviZ group ("posterior", "sample_stats", and "posterior_predictive" with test inputs) -> Dataset.
        """
        import xarray as xr

        described, labels = self.records
        arrays: dict[str, dict] = {"posterior": {}, "sample_stats": {}}
        for name, values in self.variables.items():
            group, dims, role = described[name]
            if weights or role != WEIGHT:
                arrays.setdefault(group, {})[name] = (("chain", "draw", *dims), np.asarray(values))
        for name, values in self.stats.items():
            arrays["sample_stats"][name] = (("chain", "draw"), np.asarray(values))
        return {
            group: xr.Dataset(content, coords=self.index | {d: labels[d] for d in _dims(content) if d in labels})
            for group, content in arrays.items()
        }

    def summary(self):
        """Mean, sd, quantiles, MCSE, ESS and R-hat of every entry of the monitored variables, U_a and U_l.

        Returns:
            DataFrame of ``arviz.summary``, a row per entry, named by its paths.
        """
        import arviz

        return arviz.summary(self.datasets()["posterior"][list(self.monitored)])

    def to_arviz(
        self,
        log_likelihood: bool | str = False,
        *,
        posterior_predictive: bool = False,
        prior: Prior | None = None,
        key: jax.Array | None = None,
    ):
        """The run for ArviZ, weights included where they were kept; a stored run is opened lazily from its file.

        Args:
            log_likelihood: add the group of that name, ``y`` [chain, draw, example] in nats. ``"leave_one_out"``:
                log p(y_i | y_-i, U), f integrated out, the m outputs of an example together; ``arviz.loo`` estimates
                the predictive density of a left-out label from it. ``"f"``: log p(y_i | f_i) at draws of f, whose
                importance weights have heavy tails at low temperature. True: the former, or ``"f"`` for a model of
                one's own.
            posterior_predictive: add draws of labels to the group of that name: ``y`` of the training examples, as
                ``arviz.plot_ppc`` compares them with those observed, and ``y_test`` of test examples; real numbers
                f + N(0, T) also where labels are classes.
            prior: from ``gf.prior``: add groups ``prior`` and ``prior_predictive``.
            key: typed random key of what is drawn: new labels, and f where it was not recorded.

        Returns:
            InferenceData (ArviZ 0.x) or DataTree (ArviZ 1.x).

        Raises:
            ValueError: an unknown form of log-likelihood, one that needs order parameters where there are none, a
                missing key, a prior that is not from ``gf.prior``, or a posterior of a ``gf.Reduction``, which has no
                examples.

        Source: docs/model.md, section 3 (p(y_i | y_-i, U)); Buerkner, Gabry and Vehtari 2021 (its use in ``loo``).
        """
        import arviz

        groups: dict[str, Any] = {}
        if log_likelihood:
            groups["log_likelihood"] = log_likelihoods(self, log_likelihood, key)
        if posterior_predictive:
            groups["posterior_predictive"] = new_labels(self, key)
        if prior is not None:
            if not isinstance(prior, Prior):
                raise checks.InputError(f"prior is a {type(prior).__name__}: give gf.prior(posterior, key=key)")
            groups |= prior.datasets()
        if self.path is None:
            own = self.datasets(weights=True) | {"observed_data": self.observed}
            return made_of(groups, made_of(own))
        next(iter(self.variables.values()))[:0]  # refuses a file that was put in its place
        read = arviz.from_netcdf(self.path)
        return made_of(groups, read) if groups else read


def _dims(content):
    return {dim for dims, _ in content.values() for dim in dims}
