"""A plan: axes, and what to compute at each place on them; checked and expanded into points.

A point is one quantity (theory, collapsed, weights or evidence) at one place: task, seed, paths, width, temperature,
and for weights the kernel. Its identity is the hash of the canonical JSON of these settings, defaults filled in, so
that the same point of two plans is the same file, and its random key, made of the identity, depends on nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..core import checks, files
from ..models.target import KEEP, ORDER_PARAMETERS
from ..sampler import resolve_kernel
from ..tasks import BUILT_IN
from ..tasks.named import SUFFIXES, check_options

AXES = {  # name in a plan -> name in a point and in the Dataset
    "tasks": "task", "seeds": "seed", "examples": "examples", "paths": "paths", "widths": "width",
    "temperatures": "temperature", "kernels": "kernel",
}  # fmt: skip
DEFAULT_AXES: dict[str, list] = {"tasks": ["hmm"], "seeds": [0], "paths": ["all"], "temperatures": [0.01]}
_CHAINS = {"chains": 4, "warmup": 100, "draws": 500, "thin": 1}
OPTIONS: dict[str, dict[str, Any]] = {
    "theory": {},
    "collapsed": _CHAINS,
    "weights": _CHAINS | {"keep": ORDER_PARAMETERS, "precision": "auto", "init": "prior"},
    "evidence": {"particles": 256, "repeats": 4},
}
_WORDS = {
    "keep": KEEP,
    "precision": ("auto", "float32", "float64"),
    "init": ("prior", "collapsed"),
}


class Point(NamedTuple):
    """One quantity at one place.

    Attributes:
        settings: plain values that fix its numbers.
        place: axis of the Dataset -> index along it.
        file: the task's file of arrays, where it has one; its content is in the settings, as a hash.
    """

    settings: dict[str, Any]
    place: dict[str, int]
    file: str | None

    @property
    def id(self) -> str:
        """Hash of the settings, the name of its files."""
        return identity(self.settings)


def canonical(settings) -> str:
    """JSON with sorted keys and no blanks: equal settings give equal text."""
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def identity(settings) -> str:
    """The name of the point with these settings."""
    return hashlib.sha256(canonical(settings).encode()).hexdigest()[:20]


def digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checked(plan: str | os.PathLike | Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A plan in its normal form: every axis, every option, plain values.

    Args:
        plan: a TOML file, or the same as a dict: ``{"axes": {"widths": [10, 100]}, "compute": {"theory": True}}``.
            Names of files in it are relative to the TOML file, those in a dict to the working directory.

    Raises:
        ValueError: a file that cannot be read, an unknown table, axis or option (the nearest is offered), a value out
            of range, an empty axis, nothing to compute.
    """
    raw = plan if isinstance(plan, Mapping) else _load(plan)
    # files that a plan names lie where it says, seen from the plan itself
    base = Path() if isinstance(plan, Mapping) else files.absolute("plan", plan, "such as plan.toml").parent
    for name in raw:
        checks.nearest("plan", name, ("axes", "compute"))
    axes, compute = (_table(name, raw.get(name, {})) for name in ("axes", "compute"))
    if "widths" not in axes:
        raise checks.InputError("plan has no axes.widths: give one width or more, such as widths = [10, 100]")
    for name in axes:
        checks.nearest("axes", name, AXES)
    quantities = {}
    for name, options in compute.items():
        checks.nearest("compute", name, OPTIONS)
        if options is not False:
            quantities[name] = _options(name, {} if options is True else _table(f"compute.{name}", options))
    if not quantities:
        raise checks.InputError(f"plan has nothing to compute: give one or more of {', '.join(OPTIONS)} as true")
    if ("weights" in quantities) != ("kernels" in axes):
        raise checks.InputError("axes.kernels and compute.weights go together: give both or neither")
    normal = {name: _axis(name, values, base) for name, values in (DEFAULT_AXES | dict(axes)).items()}
    return {"axes": {name: normal[name] for name in AXES if name in normal}, "compute": quantities}


def check_normal(normal: Any) -> None:
    """Raise ValueError unless this has the form of a checked plan."""
    tables = [normal.get(name) if isinstance(normal, dict) else None for name in ("axes", "compute")]
    if not all(isinstance(table, dict) for table in tables):
        raise ValueError("not a plan")
    axes, compute = (table or {} for table in tables)
    if not {*DEFAULT_AXES, "widths"} <= axes.keys() <= AXES.keys() or not compute.keys() <= OPTIONS.keys():
        raise ValueError("not a plan")
    if not all(isinstance(values, list) and values for values in axes.values()):
        raise ValueError("an axis without values")
    if not all(isinstance(task, dict) for task in axes["tasks"]) or ("weights" in compute) != ("kernels" in axes):
        raise ValueError("not a plan")


def points(normal: Mapping[str, Any]) -> Iterator[Point]:
    """The points of a checked plan, those of one task next to each other."""
    axes = normal["axes"]
    shared = [name for name in axes if name != "kernels"]
    for numbers in itertools.product(*(range(len(axes[name])) for name in shared)):
        place = {AXES[name]: i for name, i in zip(shared, numbers, strict=True)}
        where = {AXES[name]: axes[name][i] for name, i in zip(shared, numbers, strict=True)}
        file = where["task"].get("path")
        where["task"] = {name: value for name, value in where["task"].items() if name != "path"}
        for quantity, options in normal["compute"].items():
            settings = {"compute": quantity, "options": options, **where}
            if quantity != "weights":
                yield Point(settings, place, file)
                continue
            for i, kernel in enumerate(axes["kernels"]):
                yield Point(settings | {"kernel": kernel}, place | {"kernel": i}, file)


def count(normal: Mapping[str, Any]) -> int:
    """Number of points of a checked plan, without making them."""
    places = 1
    for name, values in normal["axes"].items():
        places *= len(values) if name != "kernels" else 1
    kernels = len(normal["axes"].get("kernels", ()))
    return places * sum(kernels if quantity == "weights" else 1 for quantity in normal["compute"])


def label(axis: str, value) -> Any:
    """Coordinate of an axis value in the Dataset: a number where it is one, text otherwise."""
    if axis == "task":
        name = value.get("file", value.get("name"))
        return " ".join([name, *(f"{k}={v}" for k, v in value.get("options", {}).items())])
    if axis == "kernel":
        return " ".join([value["name"], *(f"{k}={v}" for k, v in value["options"].items())])
    if axis == "paths" and isinstance(value, dict):
        return "heads " + " | ".join(",".join(map(str, layer)) for layer in value["heads"])
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _load(path) -> dict[str, Any]:
    shown = f"plan={checks.brief(str(path))}"
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (TypeError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise checks.InputError(f"{shown} cannot be read ({reason}): give a TOML file or a dict") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise checks.InputError(f"{shown} is not TOML ({error}): give tables [axes] and [compute]") from None


def _table(name: str, value) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise checks.InputError(f"{name}={checks.brief(value)} is a {type(value).__name__}: give a table")
    return value


def _options(quantity: str, given: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = dict(OPTIONS[quantity])
    for name, value in given.items():
        shown = f"compute.{quantity}.{name}"
        if not result:
            raise checks.InputError(f"{shown}: {quantity} has no options, write {quantity} = true and leave it out")
        checks.nearest(f"compute.{quantity}", name, result)
        if name in _WORDS:
            result[name] = checks.nearest(shown, value, _WORDS[name])
        else:
            result[name] = checks.count(shown, value, least=0 if name == "warmup" else 1)
    return result


def _axis(name: str, values, base: Path) -> list:
    argument = f"axes.{name}"
    if isinstance(values, (str, Mapping)) or not hasattr(values, "__iter__"):
        raise checks.InputError(f"{argument}={checks.brief(values)} is one value: give a list")
    read = functools.partial(_task, base=base) if name == "tasks" else _VALUES[name]
    result = [read(f"{argument}[{i}]", value) for i, value in enumerate(values)]
    if not result:
        raise checks.InputError(f"{argument}=[] is empty, so the plan has no points: give one value or more")
    texts = [canonical(value) for value in result]
    for text in texts:
        if texts.count(text) > 1:
            raise checks.InputError(f"{argument} holds {checks.brief(text)} more than once: remove the repeat")
    return result


def _width(argument: str, value):
    if isinstance(value, (list, tuple)):
        return list(checks.counts(argument, value))
    return checks.count(argument, value)


def _task(argument: str, value, base: Path) -> dict[str, Any]:
    name, options = _named(argument, value)
    if Path(name).suffix in SUFFIXES:
        if options:
            raise checks.InputError(f"{argument}={checks.brief(value)}: a file of arrays has no options, remove them")
        path, content = _file(argument, name, base, "give a built-in task or a file of arrays")
        return {"file": path.name, "sha256": content, "path": str(path)}
    checks.nearest(argument, name, (*BUILT_IN, *(f"FILE{suffix}" for suffix in SUFFIXES)))
    check_options(name, options)
    found: dict[str, Any] = {"name": name, "options": options}
    # workers may run in another directory
    if str(options.get("data", "")).startswith(_IMAGES):
        place = _place(f"{argument}.data", options["data"].removeprefix(_IMAGES), base)
        options["data"] = f"{_IMAGES}{place}"
    if "network" in options:
        remedy = "give a file of `gibbsformer train`"
        path, found["sha256"] = _file(f"{argument}.network", options["network"], base, remedy)
        options["network"] = str(path)
    return found


def _file(argument: str, value, base: Path, remedy: str) -> tuple[Path, str]:
    """A file that exists, and the hash of its content."""
    path = _place(argument, value, base)
    if not path.is_file():
        raise checks.InputError(f"{argument}={str(value)!r} does not exist ({path}): {remedy}")
    try:
        return path, digest(path)
    except OSError as error:
        raise checks.InputError(f"{argument}={str(value)!r} cannot be read ({error.strerror}): {remedy}") from None


def _place(argument: str, value, base: Path) -> Path:
    path = Path(value).expanduser() if isinstance(value, (str, os.PathLike)) else value
    return files.absolute(argument, base / path if isinstance(path, Path) else path)


def _kernel(argument: str, value) -> dict[str, Any]:
    name, options = _named(argument, value)
    if name == "collapsed":
        raise checks.InputError(f"{argument}='collapsed' has its own place: give compute.collapsed = true")
    target = {"target": options.pop("target")} if "target" in options else {}
    resolve_kernel(name, options)
    return {"name": name, "options": options} | target


def _named(argument: str, value) -> tuple[str, dict[str, Any]]:
    """(name, options) of a name, or of a table with a name and options."""
    if isinstance(value, (str, os.PathLike)):
        return str(value), {}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise checks.InputError(f"{argument}={checks.brief(value)}: give a name, or a table with a name and options")
    options = {name: option for name, option in value.items() if name != "name"}
    try:
        return value["name"], json.loads(json.dumps(options))
    except (TypeError, ValueError):
        raise checks.InputError(f"{argument}={checks.brief(value)} cannot be stored: give plain values") from None


def _paths(argument: str, value):
    """ "all", a list of path names or indices, or {"heads": [[1], [1, 2]]}: heads kept of each layer, from 1."""
    if isinstance(value, Mapping):
        for name in value:
            checks.nearest(argument, name, ("heads",))
        layers = value.get("heads", ())
        if not isinstance(layers, (list, tuple)) or not layers or not all(isinstance(h, (list, tuple)) for h in layers):
            raise checks.InputError(f"{argument}={checks.brief(value)}: give heads, a list per layer, counted from 1")
        return {"heads": [list(checks.counts(f"{argument}.heads[{l}]", heads)) for l, heads in enumerate(layers)]}
    if value == "all":
        return value
    if isinstance(value, str) or not isinstance(value, (list, tuple)) or not value:
        raise checks.InputError(
            f"{argument}={checks.brief(value)}: give 'all', a list of paths, or heads of each layer"
        )
    return [path if isinstance(path, str) else checks.count(argument, path, least=0) for path in value]


_IMAGES = "omniglot="  # data of this kind name a directory
_VALUES = {
    "seeds": lambda argument, value: checks.count(argument, value, least=0),
    "examples": checks.count,
    "paths": _paths,
    "widths": _width,
    "temperatures": checks.positive,
    "kernels": _kernel,
}
