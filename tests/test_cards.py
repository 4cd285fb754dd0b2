"""What results look like at a prompt and in a notebook: short, no arrays, every text escaped."""

import dataclasses
import shutil
import sys
import types
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core import cards, console

DATA = Path(__file__).parent / "data" / "schema_1.h5"
LONGEST = 8000  # characters of a table
EVIL = "<script>alert(1)</script>&'\"\x1b[31m"


class Reader(HTMLParser):
    """Text of a table; a tag that is not closed in its place is an error."""

    def __init__(self, markup: str):
        super().__init__()
        self.open, self.tags, self.text = [], set(), []
        self.feed(markup)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Everything with a table of its own, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old file, of few draws
        run = gf.open(shutil.copy(DATA, tmp_path_factory.mktemp("run")))
    posterior = run.posterior
    theory = gf.theory.solve(posterior)
    return {
        "network": posterior.network,
        "posterior": posterior,
        "run": run,
        "theory": theory,
        "limit": gf.theory.gp(posterior),
        "grid": gf.theory.grid(posterior, (4, 30), (0.3,)),
        "prediction": gf.predict(theory, run.test[0]),
        "order_parameters": run.order_parameters,
        "alignment": gf.alignment(theory),
        "sweep": gf.sweeps.Sweep("folder", 3, 2, ({"settings": {"compute": "theory", "N": 3}, "error": EVIL},)),
        "examples": gf.tasks.Examples(np.ones((5, 3, 4)), posterior.y),
    }


NAMES = (
    "network", "posterior", "run", "theory", "limit", "grid", "prediction", "order_parameters", "alignment", "sweep",
    "examples",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_that_ends_in_it_is_short(shown, name):
    thing = shown[name]
    read = Reader(thing._repr_html_())
    assert len(read.text) < 60
    assert "array(" not in thing._repr_html_()
    assert len(thing._repr_html_()) < LONGEST
    assert "\n" not in repr(thing)
    assert len(repr(thing)) < 300


def test_tables_say_what_counts(shown):
    text = {name: " ".join(Reader(shown[name]._repr_html_()).text) for name in NAMES}
    assert "collapsed, 2 chains x 20 draws after" in text["run"]
    assert "[2, 20, 2, 2]" in text["run"]
    assert "P = 5" in text["posterior"]
    assert f"{shown['theory'].action:.4g}" in text["theory"]
    assert "action" not in text["limit"]
    assert "2 of 2 converged" in text["grid"]


def test_everything_is_escaped(shown):
    for markup in (cards.card(EVIL, [(EVIL, EVIL)], EVIL), shown["sweep"]._repr_html_()):
        read = Reader(markup)
        assert "script" not in read.tags
        assert "<script>alert(1)</script>" in "".join(read.text)
        assert "\x1b" not in markup
    names = gf.PathInputs(np.ones((2, 3, 1)), (EVIL.replace("\x1b", ""),))
    posterior = gf.Posterior(gf.Network(3, (1,), (4, 4)), names, np.array([1.0, 2.5]), 0.1)
    assert "script" not in Reader(posterior._repr_html_()).tags


def test_long_text_is_cut():
    assert len(cards.brief("x" * 10_000)) == 300
    assert cards.line("It", {"a": np.ones((2, 3)), "b": 0.123456, "c": None}) == "It(a [2, 3], b=0.1235)"


def test_a_theory_that_failed_says_so(shown):
    failed = dataclasses.replace(shown["theory"], converged=False, gradient_norm=0.1)
    assert "raise the temperature" in " ".join(Reader(failed._repr_html_()).text)


def test_progress_in_a_notebook_is_a_widget(monkeypatch):
    class Shell:
        config = types.MappingProxyType({"IPKernelApp": {}})

    made = []
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=Shell))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=lambda **k: made.append(k)))
    monkeypatch.setattr(console.importlib.util, "find_spec", lambda name: None)
    assert isinstance(console.bar(total=3, unit="draw", desc="sample"), console.Lines)  # no ipywidgets: a line
    monkeypatch.setattr(console.importlib.util, "find_spec", lambda name: name)
    console.bar(total=3, unit="draw", desc="sample")
    assert made == [{"total": 3, "initial": 0, "unit": "draw", "desc": "sample"}]
    monkeypatch.setattr(Shell, "config", {})  # IPython in a terminal
    assert isinstance(console.bar(total=3, unit="draw", desc="sample"), console.Lines)
