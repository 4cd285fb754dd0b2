"""How a run is made: every option of ``sample`` that its draws depend on, checked once, stored with the draws and read
back by ``resume``. A new option is a field here and an argument of ``sample``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import jax
import numpy as np

from ..core import checks, classes
from ..core.text import plain
from ..models.target import KEEP, WEIGHTS, Sampleable, Target
from .kernels import KERNELS, Kernel, resolve_kernel
from .monitor import Until
from .processes import Share, share

PRECISIONS = ("auto", "float32", "float64")
GIVEN = "given"  # ``init``: positions from the user
_PACKAGES = ("gibbsformer", "jax", "numpyro", "blackjax", "numpy", "h5py", "arviz")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run, as its file holds them (``stored``, ``from_stored``).

    Attributes:
        kernel, options, kernel_class: name and options of the kernel; ``module:Class`` of one not in ``KERNELS``.
        target, keep: the target sampled, and what its records hold.
        share: the chains of this process among all of the run.
        warmup, draws, thin, until, precision, chains_at_once: as for ``sample``.
        init: None, ``"collapsed"``, or ``"given"`` for positions from the user.
        key_data, key_impl: the random key.
        about, created, device, versions: where the run comes from.
        lifted_from_draws: draws per chain of the run that this one was lifted from, or None.
    """

    kernel: str
    options: Mapping[str, Any]
    kernel_class: str | None = None
    target: str
    keep: str = WEIGHTS
    share: Share
    warmup: int
    draws: int
    thin: int = 1
    until: Until | None = None
    precision: str = "float64"
    init: str | None = None
    chains_at_once: int | None = None
    key_data: Any = ()
    key_impl: Any = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    created: Any = None
    device: Any = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lifted_from_draws: int | None = None

    @property
    def chains(self) -> int:
        """Chains of this process."""
        return len(self.share.own)

    @classmethod
    def checked(
        cls, posterior: Sampleable, kernel: Kernel, *, key, target, keep, chains, warmup, draws, thin, until,
        precision, init, chains_at_once, about, distributed,
    ) -> RunSettings:  # fmt: skip
        """Settings from the arguments of ``sample``, or ValueError in one line."""
        checks.random_key("key", key)
        chains, draws = checks.count("chains", chains), checks.count("draws", draws)
        if chains < kernel.minimum_chains:
            raise checks.InputError(
                f"chains={chains}: kernel {kernel.name!r} learns from the spread between chains, use "
                f"{kernel.minimum_chains} or more"
            )
        kernel.check(posterior)
        if until is not None and not isinstance(until, Until):
            raise checks.InputError(f"until={checks.brief(until)} is a {type(until).__name__}: give gf.until(ess=400)")
        found = chosen_target(posterior, kernel, target, keep)
        own = share(chains, distributed)
        own.check(kernel.mover(), until)
        return cls(
            kernel=kernel.name,
            options=_plain("kernel", dataclasses.asdict(kernel)),
            kernel_class=None if KERNELS.get(kernel.name) is type(kernel) else classes.name_of(type(kernel)),
            target=found.name,
            keep=keep or found.keep,
            share=own,
            warmup=checks.count("warmup", warmup, least=0),
            draws=draws,
            thin=checks.count("thin", thin),
            until=until,
            precision=_chosen_precision(precision, kernel, found),
            init=init if init is None or isinstance(init, str) else GIVEN,
            chains_at_once=None if chains_at_once is None else checks.count("chains_at_once", chains_at_once),
            key_data=np.asarray(jax.random.key_data(key)).ravel().tolist(),
            key_impl=str(jax.random.key_impl(key)),
            about=_plain("about", dict(about or {})),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            device=jax.local_devices()[0].device_kind,
            versions={name: version(name) for name in _PACKAGES},
        )

    def stored(self) -> dict[str, Any]:
        """Plain values by name, as a file holds them."""
        names = (field.name for field in dataclasses.fields(self) if field.name != "share")
        values = {name: getattr(self, name) for name in names}
        for name in ("kernel_class", "lifted_from_draws"):
            if values[name] is None:
                del values[name]
        return values | {"chains": self.chains, "until": self.until and self.until._asdict()} | self.share.settings

    @classmethod
    def from_stored(cls, values: Mapping[str, Any]) -> RunSettings:
        """Settings from a file's; of schema 1 too, where the target was an option of the kernel called space."""
        known = {field.name for field in dataclasses.fields(cls)} & values.keys()
        options, target, until = dict(values["options"]), values.get("target"), values.get("until")
        if target is None:
            target = options.pop("space", None) or _TARGETS_OF_SCHEMA_1.get(values["kernel"], "marginal")
        if values["kernel"] == "collapsed":
            options = {"move": "nuts"} | options  # of a file from before there were others
        return cls(
            **{name: values[name] for name in known - {"options", "until", "target"}},
            options=options,
            target=target,
            until=Until(**until) if until else None,
            share=Share.of_settings(values),
        )

    def resolved_kernel(self) -> Kernel:
        """The kernel, imported if it is not one of ``KERNELS``."""
        if self.kernel_class is None:
            return resolve_kernel(self.kernel, self.options)
        return classes.load("kernel", self.kernel_class, lambda kind: issubclass(kind, Kernel))(**self.options)

    def key(self) -> jax.Array:
        """The random key."""
        return jax.random.wrap_key_data(jax.numpy.asarray(self.key_data, "uint32"), impl=self.key_impl)


_TARGETS_OF_SCHEMA_1 = {"collapsed": "collapsed", "gibbs": "weights", "sgld": "weights", "sghmc": "weights"}


def chosen_target(posterior: Sampleable, kernel: Kernel, name: str | None, keep: str | None) -> Target:
    """The target of a name, or the first of the posterior's that has what the kernel needs.

    Raises:
        ValueError: the posterior has no such target, or the target lacks what the kernel needs.
    """
    if keep is not None:
        checks.nearest("keep", keep, KEEP)
    if name is not None:
        checks.nearest("target", name, posterior.targets)
    fitting = [each for each in posterior.targets if all(getattr(posterior.target(each), n) for n in kernel.needs)]
    if fitting and name in (None, *fitting):
        return posterior.target(name or fitting[0], keep)
    needed = ", ".join(need.replace("_", " ") for need in kernel.needs)
    if not fitting:
        raise checks.InputError(
            f"kernel={kernel.name!r} needs a target with {needed}, which this posterior lacks (the network of a "
            "gf.Posterior has it): choose another kernel, such as 'nuts'"
        )
    raise checks.InputError(
        f"target={name!r} does not offer what kernel {kernel.name!r} needs ({needed}): use target={fitting[0]!r}"
    )


def _chosen_precision(precision: str, kernel: Kernel, target: Target) -> str:
    checks.nearest("precision", precision, PRECISIONS)
    float64_only = kernel.float64_only or target.float64_only
    if precision == "auto":
        return "float64" if float64_only or jax.default_backend() == "cpu" else "float32"
    if float64_only and precision != "float64":
        raise checks.InputError(f"precision={precision!r} is not enough for kernel {kernel.name!r}: leave it out")
    return precision


def _plain(argument: str, values: dict) -> dict:
    """Values that JSON can hold, or ValueError."""
    values = plain(values)
    try:
        json.dumps(values)
    except (TypeError, ValueError) as error:
        raise checks.InputError(
            f"{argument}={checks.brief(values)} cannot be stored ({error}): give plain values"
        ) from None
    return values
