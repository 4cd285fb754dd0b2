"""Docstrings of the public surface say what they must: every argument, what is returned, errors, shapes, sources.

Public are the functions and classes in ``__all__`` of the package and its rooms, with their methods and properties. A
method that overrides another says nothing anew: it has the docstring of the one it overrides.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

import gibbsformer as gf
from gibbsformer.core import checks
from gibbsformer.models import stored
from gibbsformer.sampler.kernels import adaptation

# arguments that are arrays wherever they occur, so that their shape is said
ARRAYS = {"x", "y", "xi", "x_test", "y_test", "U", "U_a", "patterns", "images", "labels"}
# formulas live here; files, progress, lists of options and drawings have no source but themselves
MATHEMATICAL = re.compile(
    r"gibbsformer\.(models\.(attention|paths|network|posterior)|theory\.\w+"
    r"|sampler\.(collapsed|gibbs|nuts|hmc|chees|mala|ghmc|mclmc|adjusted_mclmc|stochastic|tempering)"
    r"|diagnostics\.(kernels|heads|predictor|finite_width|selection|convergence)|tasks\.(hidden_markov|one_shot))"
)
# what the guides use beyond ``__all__``
IN_GUIDES = (
    (adaptation, ("AdaptedKernel", "metric")),
    (stored, ("split_heads", "split_in_projection")),
)
NO_CHECKS = {"InputError", "brief", "available_memory", "choose"}  # of ``checks``: they refuse nothing by themselves


def public() -> dict[str, Any]:
    """Public functions, classes, methods and properties by name."""
    rooms = [
        gf,
        *(importlib.import_module(f"gibbsformer.{m.name}") for m in pkgutil.iter_modules(gf.__path__) if m.ispkg),
    ]
    found: dict[str, Any] = {}
    for room in rooms:
        for name in room.__all__:
            thing = getattr(room, name)
            if not (inspect.isfunction(thing) or inspect.isclass(thing)) or thing in found.values():
                continue
            label = f"{room.__name__.removeprefix('gibbsformer').lstrip('.')}.{name}".lstrip(".")
            found[label] = thing
            if inspect.isclass(thing):
                members = {n: getattr(m, "__func__", m) for n, m in vars(thing).items() if not n.startswith("_")}
                own = inspect.isfunction, lambda m: isinstance(m, property | functools.cached_property)
                found |= {f"{label}.{n}": m for n, m in members.items() if any(is_own(m) for is_own in own)}
    return found | {f"{room.__name__}.{name}": getattr(room, name) for room, names in IN_GUIDES for name in names}


PUBLIC = public()


def sections(thing) -> dict[str, dict[str, str]]:
    """Section -> entry -> text of a docstring; a text without entries is the entry ""."""
    found: dict[str, dict[str, str]] = {"": {"": ""}}
    section, entry, names = "", "", re.compile(r"    ((?:\*{0,2}\w+(?:, )?)+): (.*)")
    for line in (inspect.getdoc(thing) or "").splitlines():
        title = re.fullmatch(r"(Args|Attributes|Returns|Raises|Yields):", line)
        if title or line.startswith("Source: "):
            section, entry = (title[1], "") if title else ("Source", "")
            found[section] = {"": line.removeprefix("Source: ") if not title else ""}
        elif section in ("Args", "Attributes") and (match := names.fullmatch(line)):
            entry = match[1]
            found[section][entry] = match[2]
        else:
            if line and not line.startswith(" ") and section not in ("", "Source"):
                section, entry = "", ""
            found[section][entry] += f" {line.strip()}"
    return found


def described(parts) -> dict[str, str]:
    """Argument or field -> text; "a, b: .." describes both."""
    entries = parts.get("Args", {}) | parts.get("Attributes", {})
    return {name.strip(" *"): text for names, text in entries.items() for name in names.split(",") if name}


def arguments(thing) -> dict[str, str]:
    """Argument or field -> annotation as text."""
    if not inspect.isclass(thing):
        parameters = inspect.signature(thing).parameters.values()
        return {p.name: str(p.annotation) for p in parameters if p.name not in ("self", "cls")}
    if dataclasses.is_dataclass(thing):
        return {f.name: str(f.type) for f in dataclasses.fields(thing) if f.init and not f.name.startswith("_")}
    return {name: str(thing.__annotations__[name]) for name in getattr(thing, "_fields", ())}


@functools.cache
def tree(function) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def returns(function) -> bool:
    """Whether there is something to say about what comes back."""
    ends = [n for n in ast.walk(tree(function)) if isinstance(n, ast.Return | ast.Yield) and n.value is not None]
    return bool(ends) and ast.unparse(ends[-1]) != "return ()"


def refuses(function: Callable, seen=frozenset()) -> bool:
    """Whether a function checks its input: itself, by ``checks``, or in functions of the package that it calls."""
    if function in seen or not function.__module__.startswith(("gibbsformer", __name__)):
        return False
    for node in ast.walk(tree(function)):
        if isinstance(node, ast.Raise) and node.exc is not None and "InputError" in ast.unparse(node.exc):
            return True
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called.startswith("checks."):
            if called.removeprefix("checks.") not in NO_CHECKS:
                return True
        elif inspect.isfunction(below := function.__globals__.get(called)) and refuses(below, seen | {function}):
            return True
    return False


def missing(thing) -> list[str]:
    """What a docstring lacks."""
    parts = sections(thing)
    if not parts[""][""].strip():
        return ["docstring"]
    if isinstance(thing, property | functools.cached_property) or (
        inspect.isclass(thing) and issubclass(thing, Exception)
    ):
        return []
    expected, told = arguments(thing), described(parts)
    real = set(expected) | set(getattr(thing, "__annotations__", {}))
    lacks = [f"argument {name}" for name in expected if name not in told]
    lacks += [f"argument {name} that does not exist" for name in told if name not in real and "Args" in parts]
    for name, annotation in expected.items():
        array = name in ARRAYS or (re.search(r"ndarray|\bArray\b", annotation) and "key" not in name)
        if array and "Float[" not in annotation and not re.search(r"\[|scalar|[Pp]ytree", told.get(name, "[")):
            lacks.append(f"shape of {name}")
    # without arguments it is like a property: its sentence says what comes back
    if expected and inspect.isfunction(thing) and returns(thing) and not {"Returns", "Yields"} & set(parts):
        lacks.append("Returns")
    checking = thing if inspect.isfunction(thing) else getattr(thing, "__post_init__", None)
    if checking is not None and refuses(checking) and "Raises" not in parts:
        lacks.append("Raises")
    method = "." in thing.__qualname__.rpartition("<locals>.")[2]
    if MATHEMATICAL.fullmatch(thing.__module__) and not method and not has_source(thing, parts):
        lacks.append("Source")
    return lacks


def has_source(thing, parts) -> bool:
    """Results, which list Attributes, need none: the function that makes them gives it."""
    return "Source" in parts or (inspect.isclass(thing) and "Attributes" in parts)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_is_complete(name):
    assert not missing(PUBLIC[name]), f"{name} lacks {missing(PUBLIC[name])}"


GOOD = """One sentence.

Args:
    x: sequences [P, N_0, S].
    key, width: numbers.

Returns:
    Something.

Raises:
    ValueError: a bad width.

Source: docs/model.md, section 2.
"""


def _checked(width):
    return checks.count("width", width)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", []),
        (GOOD, "", ["docstring"]),
        (" [P, N_0, S]", "", ["shape of x"]),
        ("key, width:", "key:", ["argument width"]),
        ("key, width:", "key, width, depth:", ["argument depth that does not exist"]),
        ("Returns:\n    Something.\n", "", ["Returns"]),
        ("Raises:\n    ValueError: a bad width.\n", "", ["Raises"]),
        ("Source: docs/model.md, section 2.", "", ["Source"]),
    ],
)
def test_the_check_finds_what_is_missing(old, new, said):
    def wanting(x, key: int, width: int = 3):
        return _checked(width)

    wanting.__doc__ = GOOD.replace(old, new)
    assert "Source" not in missing(wanting), "this module has no formulas"
    wanting.__module__ = "gibbsformer.models.paths"
    assert missing(wanting) == said
