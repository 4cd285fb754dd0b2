"""The page itself: template, style and script of this folder in one HTML text; everything from files is escaped."""

from __future__ import annotations

import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

_FOLDER = Path(__file__).parent


def render(sections: list[dict[str, Any]], sweeps: list[dict[str, Any]]) -> str:
    """HTML of a report with one section per run (``content.sections``) and per sweep (``sweep.section``)."""
    scripts = ("page.js", "sweep.js") if sweeps else ("page.js",)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template("page.html").render(
        sections=sections,
        sweeps=sweeps,
        about=" and ".join(_counted(each, name) for each, name in ((sections, "run"), (sweeps, "sweep")) if each),
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup("\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in scripts)),
        version=version("gibbsformer"),
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def number(value: float | None, digits: int) -> str:
    """A number with so many digits after the point; a dash for none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _counted(things: list, name: str) -> str:
    return f"{len(things)} {name}{'s' if len(things) > 1 else ''}"
