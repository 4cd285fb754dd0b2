"""docs/benchmarks.md and its pictures, made from the saved records: ``python -m gibbsformer.benchmarks.page``.

Full runs only; of each suite a section per kind of machine. A kind of machine without a record is marked as not
measured.
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
from matplotlib import rc_context

from ..plot import style
from . import harness
from .suite import SUITES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PICTURES = "figures"
KINDS = {"cpu": "CPU", "gpu": "GPU"}
_HEAD = """# Benchmarks

Made from the records in `benchmarks/results/` by `python -m gibbsformer.benchmarks.page`; each is written by one
command, `gibbsformer bench SUITE --out benchmarks/results`. Without a name all suites run, `--minutes 10` stops them,
and `--quick` takes small sizes and says which ratios have grown since the last record of the same kind of machine.
Compare ratios within one table: times on shared machines are noisy."""
_MARKERS = "os^dvP*X"
_LONG = 14  # rows of a table beyond which it is behind a click


def text(folder: Path = harness.RESULTS) -> str:
    """The page, in Markdown."""
    parts = [_HEAD]
    for suite in SUITES:
        title, explanation = _introduction(suite)
        parts += [f"## {title}", f"`gibbsformer bench {suite}`", explanation]
        records = _records(folder, suite)
        for record in records:
            parts += _section(suite, record)
        measured = {record["platform"] for record in records}
        parts += [f"{name}: not measured." for platform, name in KINDS.items() if platform not in measured]
    return "\n\n".join(parts) + "\n"


def draw(table: harness.Table):
    """The picture of a table: lines against a number on logarithmic axes, or bars for names; None without a plot.

    ``table.plot`` has ``x`` and ``y`` (columns, several for y), ``label`` of the values, and ``where``
    (column -> value) for the rows that count.
    """
    if table.plot is None:
        return None
    x, where = table.plot["x"], table.plot.get("where", {})
    rows = [row for row in table.rows if all(row[key] == value for key, value in where.items())]
    names = isinstance(rows[0][x], str)
    if names:
        rows = [row for row in rows if row[table.plot["y"][0]] is not None]
    figure, (axes,) = style.new_figure(size=(6.4, 1.2 + 0.3 * len(rows)) if names else (4.6, 3.4))
    with rc_context(style.STYLE):
        shown = [column for column in table.plot["y"] if any(row[column] is not None for row in rows)]
        for i, column in enumerate(shown):
            values = [np.nan if row[column] is None else row[column] for row in rows]
            if names:
                height = 0.8 / len(shown)
                axes.barh(np.arange(len(rows)) + i * height, values, height, label=column)
            else:
                axes.plot([row[x] for row in rows], values, marker=_MARKERS[i], label=column)
        if names:
            axes.set_yticks(np.arange(len(rows)) + 0.4 - 0.4 / len(shown), [row[x] for row in rows])
            axes.invert_yaxis()
            axes.set_xscale("log")
            axes.set_xlabel(table.plot["label"])
        else:
            axes.set(xscale="log", yscale="log", xlabel=x, ylabel=table.plot["label"])
        conditions = ", ".join(f"{key}={value}" for key, value in where.items())
        axes.set_title("\n".join(filter(None, [table.title, conditions])))
        axes.legend()
    return figure


def write() -> list[Path]:
    """The page and its pictures; returns their paths."""
    page = DOCS / "benchmarks.md"
    page.write_text(text(), encoding="utf-8")
    paths = [page]
    for suite in SUITES:
        for record in _records(harness.RESULTS, suite):
            for i, table in enumerate(record["tables"]):
                figure = draw(harness.Table(**table)) if _has_picture(harness.Table(**table)) else None
                if figure is not None:
                    paths.append(DOCS / PICTURES / _picture(suite, record, i))
                    figure.savefig(paths[-1], dpi=110)
    return paths


def _has_picture(table: harness.Table) -> bool:
    """There is more than one value to compare."""
    if table.plot is None:
        return False
    where = table.plot.get("where", {})
    rows = [row for row in table.rows if all(row[key] == value for key, value in where.items())]
    return sum(any(row[column] is not None for column in table.plot["y"]) for row in rows) > 1


def _introduction(suite: str) -> tuple[str, str]:
    """Title and explanation: the first line of the module's docstring, and the rest."""
    source = Path(__file__).with_name(f"{suite}.py").read_text(encoding="utf-8")
    title, _, rest = (ast.get_docstring(ast.parse(source)) or suite).partition("\n")
    return title, rest.strip()


def _records(folder: Path, suite: str) -> list[dict]:
    return [record for path in sorted(folder.glob(f"{suite}.*.json")) if (record := harness.read(path))]


def _section(suite: str, record: dict) -> list[str]:
    """One record: machine, tables, pictures."""
    parts = [_machine(record)]
    for i, table in enumerate(harness.Table(**table) for table in record["tables"]):
        shown = table.render()
        if len(table.rows) > _LONG:
            summary = f"<summary>{table.title}: {len(table.rows)} rows</summary>"
            parts += ['<details markdown="1">', summary, shown, "</details>"]
        else:
            parts += [f"**{table.title}**", shown]
        parts += [table.note] if table.note else []
        if _has_picture(table):
            parts.append(f"![{table.title}]({PICTURES}/{_picture(suite, record, i)})")
    return parts


def _machine(record: dict) -> str:
    device = f"{record['cores']} CPU cores" if record["platform"] == "cpu" else record["device"]
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("jax", "numpyro", "blackjax"))
    peak = record["peak MiB"]
    sizes = [f"{peak[name]:,.0f} MiB on the {name}" for name in ("host", "device") if peak.get(name)]
    memory = f"; peak memory {' and '.join(sizes)}" if sizes else ""
    took = f"; {record['seconds'] / 60:.1f} minutes" if record.get("seconds") else ""
    return f"*{device}, {record['date'][:10]}, commit {record['commit']}; {versions}{took}{memory}*"


def _picture(suite: str, record: dict, i: int) -> str:
    return f"bench_{suite}_{record['kind']}_{i}.png"


if __name__ == "__main__":
    print("written: " + ", ".join(str(path) for path in write()))
