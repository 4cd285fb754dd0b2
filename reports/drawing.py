"""Heat maps and bars as inline SVG: every mark tells its value, colours follow the page's light or dark scheme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

_CELL, _LABEL, _MOST_CHARACTERS = 56, 7.0, 24


def heat_map(values: np.ndarray, names: Sequence[str], largest: float, title: str, identity: str) -> Markup:
    """A matrix [k, k] over pairs of paths, colours from -largest (blue) over 0 (background) to largest (red).

    The scale is asinh: linear up to about 1, then logarithmic. Each cell carries its value as a title.
    """
    k, short = len(names), [_brief(name) for name in names]
    cell = max(10, _CELL if k <= 6 else 360 // k)
    margin = 14 + _LABEL * max(len(name) for name in short)
    width = margin + cell * k + 2
    height = 22 + cell * k + margin * 0.75
    parts = [
        Markup(
            '<svg class="map" id="{}" viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" role="img" tabindex="0" '
            'aria-label="{}: heat map over pairs of {} paths, values in the table of order parameters" '
            'data-columns="{}"><text class="title" x="{:.0f}" y="14">{}</text>'
        ).format(identity, width, height, width, title, k, k, margin, title)
    ]
    for i, j in np.ndindex(k, k):
        value = float(values[i, j])
        share = np.arcsinh(abs(value)) / np.arcsinh(largest) if largest > 0 and np.isfinite(value) else 0.0
        x, y = margin + j * cell, 22 + i * cell
        label = f"{title[: title.index(',')]}[{names[i]}, {names[j]}] = {value:.4g}"
        parts.append(
            Markup(
                '<g class="cell" data-label="{}"><title>{}</title><rect x="{:.1f}" y="{}" width="{}" height="{}" '
                'style="fill: color-mix(in srgb, var(--{}) {:.0f}%, var(--card))"/>'
            ).format(label, label, x, y, cell - 1, cell - 1, "plus" if value >= 0 else "minus", 100 * share)
        )
        if k <= 6:
            parts.append(
                _text("value strong" if share > 0.8 else "value", x + cell / 2, y + cell / 2 + 4, f"{value:.2f}")
            )
        parts.append(Markup("</g>"))
    if k <= 32:
        for i, name in enumerate(short):
            middle = (i + 0.5) * cell
            parts.append(_text("row", margin - 6, 26 + middle, name))
            parts.append(_text("row", margin + middle + 4, 32 + k * cell, name, turned=True))
    return Markup("").join([*parts, Markup("</svg>")])


def bars(series: Mapping[str, np.ndarray], names: Sequence[str], axis: str) -> Markup:
    """Values in [0, 1] side by side, one colour and pattern per series [n], with a legend; title on every bar."""
    count = max(len(values) for values in series.values())
    group = max(14.0, min(60.0, 620.0 / count))
    left, top, tall = 34, 24, 150
    width = left + group * count + 8
    bar = 0.8 * group / len(series)
    label = f"bars over {axis}: " + "; ".join(
        f"{name} {', '.join(f'{v:.2f}' for v in s)}" for name, s in series.items()
    )
    parts = [
        Markup('<svg class="bars" viewBox="0 0 {:.0f} {}" width="{:.0f}" role="img" aria-label="{}">').format(
            max(width, 300), top + tall + 40, max(width, 300), label
        )
    ]
    for level in (0, 0.5, 1):
        y = top + tall * (1 - level)
        parts.append(Markup('<line class="grid" x1="{}" x2="{:.0f}" y1="{}" y2="{}"/>').format(left, width, y, y))
        parts.append(_text("row", left - 5, y + 4, f"{level:g}"))
    for s, (name, values) in enumerate(series.items()):
        parts.append(
            Markup('<rect class="bar s{}" x="{}" y="6" width="11" height="11"/>').format(s, left + 130 * s)
            + _text("key", left + 16 + 130 * s, 16, name)
        )
        for i, value in enumerate(values):
            high = tall * float(np.clip(np.nan_to_num(value), 0, 1))
            x, label = left + (i + 0.1) * group + s * bar, f"{name}, {axis} {names[i]}: {value:.3f}"
            mark = '<rect class="bar s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
            parts.append(Markup(mark).format(s, x, top + tall - high, bar, high, label))
    step = max(1, round(26 / group))
    for i in range(0, count, step):
        parts.append(
            Markup('<text class="tick" x="{:.1f}" y="{}">{}</text>').format(
                left + (i + 0.5) * group, top + tall + 15, names[i]
            )
        )
    parts.append(
        Markup('<text class="tick" x="{:.1f}" y="{}">{}</text></svg>').format(width / 2, top + tall + 33, axis)
    )
    return Markup("").join(parts)


def _brief(name: str) -> str:
    return name if len(name) <= _MOST_CHARACTERS else f"{name[: _MOST_CHARACTERS - 1]}…"


def _text(kind: str, x: float, y: float, text: str, turned: bool = False) -> Markup:
    turn = Markup(' transform="rotate(-40 {:.1f} {:.1f})"').format(x, y) if turned else ""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}"{}>{}</text>').format(kind, x, y, turn, text)
