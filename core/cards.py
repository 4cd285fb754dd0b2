"""What results look like where a person meets them: one line at a prompt, a small table in a notebook; never an array.

A class says ``return cards.line(..)`` in ``__repr__`` and ``return cards.card(..)`` in ``_repr_html_``. The table takes
the colours of the page, so that it can be read on light and on dark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np

from .text import visible

_BOX = "border-left:3px solid #0072b2;padding:.1em .8em;margin:.3em 0;max-width:56em;overflow-x:auto"
_NAME = "text-align:left;padding:.05em 1.2em .05em 0;font-weight:normal;opacity:.7;vertical-align:top;border:none"
_VALUE = "text-align:left;padding:.05em 0;border:none"
_LONGEST = 300  # characters of a value


def card(title: str, rows: Iterable[tuple[str, Any]], problem: str | None = None) -> str:
    """A small table in HTML: a title, a row for each fact, and what is wrong.

    Args:
        title: name of what is shown.
        rows: (name, value); an array is shown by its shape, None not at all.
        problem: a sentence below the table, if something is wrong.

    Returns:
        Markup in which every text is escaped.
    """
    cells = "".join(
        f'<tr style="background:none"><th scope="row" style="{_NAME}">{_safe(name)}</th>'
        f'<td style="{_VALUE}">{_safe(brief(value))}</td></tr>'
        for name, value in rows
        if value is not None
    )
    below = f'<div role="note"><b>!</b> {_safe(problem)}</div>' if problem else ""
    return (
        f'<div class="gibbsformer" style="{_BOX}"><b>{_safe(title)}</b>'
        f'<table style="border:none;margin:.2em 0;font-size:90%"><tbody>{cells}</tbody></table>{below}</div>'
    )


def line(name: str, facts: Mapping[str, Any]) -> str:
    """One line of Python's kind, with shapes in place of arrays.

    Args:
        name: of the class.
        facts: values by name; those that are None are left out.

    Returns:
        ``Prediction(mean [1000], variance [1000])``.
    """
    shown = [
        f"{name} {brief(value)}" if np.ndim(value) else f"{name}={brief(value)}"
        for name, value in facts.items()
        if value is not None
    ]
    return f"{name}({', '.join(shown)})"


def brief(value: Any) -> str:
    """A value in a few words: a number with four digits, an array or a list of numbers by its shape."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 2]}.."
    if np.ndim(value):
        return f"[{', '.join(map(str, np.shape(value)))}]"
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def interval(values: Any) -> str:
    """Smallest and largest of some numbers, and how many there are, such as "-1.2 to 1.3 [1000]"."""
    found = np.asarray(values)
    return f"{np.min(found):.3g} to {np.max(found):.3g} {brief(found)}"


def _safe(text: str) -> str:
    return escape(visible(text))
