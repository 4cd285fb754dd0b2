"""The sweep part of a report: its numbers are those of ``gf.open_sweep``, and any two axes can be looked at."""

import json
import re

import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.__main__ import main
from gibbsformer.reports import sweep
from gibbsformer.sweeps import folder, plan, result

HOSTILE = "</script><b>path</b>"
WIDTHS, TEMPERATURES, SEEDS = [10, 100, 1000], [0.01, 0.1], [0, 1]


def value(width, temperature, seed, quantity):
    """A number that tells where it comes from."""
    return 0.5 + np.log10(width) / 10 + temperature + 0.02 * seed + (0.001 if quantity == "collapsed" else 0)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The folder of a sweep whose results are written by hand, all but (N, T, seed) = (1000, 0.1, 1)."""
    out = tmp_path_factory.mktemp("swept") / "out"
    axes = {"widths": WIDTHS, "temperatures": TEMPERATURES, "seeds": SEEDS, "paths": ["all", [HOSTILE]]}
    normal = plan.checked({"axes": axes, "compute": {"theory": True, "collapsed": True}})
    points = list(plan.points(normal))
    with folder.held(out, normal, points):
        for point in points:
            at = point.settings
            if (at["width"], at["temperature"], at["seed"]) == (1000, 0.1, 1):
                continue
            accuracy = value(at["width"], at["temperature"], at["seed"], at["compute"])
            values = {"accuracy": accuracy, "paths": ["a"], "U_1": np.ones((1, 1)), "U_a": 2.0}
            more = {
                "theory": {"accuracy_gp": 0.4, "action": -1.0},
                "collapsed": {"accuracy_error": 0.01, "U_a_mcse": 0.3},
            }
            result.write(
                out / "points" / f"{point.id}.h5", at, {"seconds": 1.0}, values | more[at["compute"]]
            )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def written(swept, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch:  # XLA may have been started, after which its devices are fixed
        patch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
        assert main(["report", str(swept), "--out", str(out)]) == 0
    return out


def test_numbers_are_those_of_the_dataset(swept, written):
    page = written.read_text(encoding="utf-8")
    (text,) = re.findall(r'<script type="application/json" class="data">(.*?)</script>', page)
    held, data = json.loads(text), gf.open_sweep(swept)
    assert held["axes"]["paths"] == ["all", HOSTILE]
    assert next(iter(held["quantities"])) == "accuracy"
    accuracy = held["quantities"]["accuracy"]
    assert list(accuracy) == ["theory", "exact posterior", "GP limit"]
    for source, name in (("theory", "theory"), ("exact posterior", "exact"), ("GP limit", "gp")):
        expected = data[f"accuracy_{name}"]
        assert accuracy[source]["dims"] == list(expected.dims)
        found = np.array(accuracy[source]["values"], float).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-5)  # six digits are written
    assert accuracy["theory"]["errors"] is None
    assert set(accuracy["exact posterior"]["errors"]) == {0.01, None}
    assert set(held["quantities"]["U_a"]["exact posterior"]["errors"]) == {0.3, None}
    assert not {"U_1", "accuracy_error", "U_a_mcse"} & set(held["quantities"])


def test_page_says_how_far_the_sweep_is_and_loads_nothing(written):
    page = written.read_text(encoding="utf-8")
    assert "44 of 48 points are finished" in page
    assert '<p class="quiet">1 sweep; gibbsformer' in page
    assert "<b>path" not in page
    assert not re.search(r"(src|href)=\"[^#]", page)


def test_what_cannot_be_reported(tmp_path):
    with pytest.raises(ValueError, match="holds no sweep"):
        gf.report(tmp_path, tmp_path / "r.html")
    normal = plan.checked({"axes": {"widths": [3]}, "compute": {"theory": True}})
    with folder.held(tmp_path / "out", normal, list(plan.points(normal))):
        pass
    with pytest.raises(ValueError, match="no finished point: run the sweep first"):
        gf.report(tmp_path / "out", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_failed_point_is_told(swept, monkeypatch):
    monkeypatch.setattr(sweep, "failures", lambda folder: [{"error": "MemoryError: no room"}])
    assert sweep.section(swept)["failed"] == ["MemoryError: no room"]


def test_in_a_browser(written, open_page):
    tab = open_page(written, "dark")
    rows = lambda: [line.split("\t") for line in tab.inner_text(".sweep-values").splitlines()]  # noqa: E731
    tab.click("text=Values of the map")
    caption = lambda: tab.inner_text(".lines-caption")  # noqa: E731
    assert caption().endswith("GP limit, dashed line; means over seeds; bars are their standard deviation.")

    # mean over seeds with their standard deviation; a seed that is not finished is left out
    assert rows()[0][1:] == ["10", "100", "1000"]
    assert rows()[1] == ["0.01", *(f"{value(N, 0.01, 0.5, 'theory'):.4g} ± 0.01414" for N in WIDTHS)]
    assert rows()[2][3] == f"{value(1000, 0.1, 0, 'theory'):.4g}"
    tab.hover(".sweep-map .cell >> nth=2")
    readout = lambda: tab.inner_text(".readout >> nth=0")  # noqa: E731
    assert readout() == "accuracy, theory, width N = 1000, temperature T = 0.1: 0.9 (1 of 2 seeds)"
    tab.focus(".sweep-map")
    tab.keyboard.press("ArrowDown")
    assert readout().startswith("accuracy, theory, width N = 1000, temperature T = 0.01: 0.82 ± 0.01414")

    # one seed: Monte Carlo errors, and a point that is not there
    tab.select_option("select[name=seed]", "1")
    tab.select_option("select[name=source]", "exact posterior")
    assert rows()[1][1] == f"{value(10, 0.01, 1, 'collapsed'):.4g} ± 0.01"
    assert rows()[2][3] == "–"
    assert caption().endswith("; bars are Monte Carlo standard errors.")

    # axes: choosing the other's exchanges them, a third one is a choice of its own
    tab.select_option("select[name=x]", "temperature")
    assert rows()[0] == ["width N \\ temperature T", "0.01", "0.1"]
    tab.select_option("select[name=y]", "seed")
    assert tab.locator("select[name=seed]").count() == 0
    tab.select_option("select[name=width]", "2")
    assert [row[2] for row in rows()[1:]] == [f"{value(1000, 0.1, 0, 'collapsed'):.4g} ± 0.01", "–"]
    assert tab.evaluate("document.activeElement.name") == "width"  # focus stays where it was

    # lines: theory, exact posterior and GP limit over two temperatures, for each seed
    marks = tab.locator(".sweep-lines .cell")
    assert marks.count() == 2 * 2
    assert marks.locator(".target").count() == 3 * 4 - 3  # one point is not finished
    tab.focus(".sweep-lines")
    tab.keyboard.press("ArrowRight")
    theory, exact = (f"{value(1000, 0.01, 0, quantity):.4g}" for quantity in ("theory", "collapsed"))
    told = f"theory {theory}; exact posterior {exact} ± 0.01; GP limit 0.4"
    assert tab.inner_text(".readout >> nth=1") == f"accuracy, temperature T = 0.01, seed = 0: {told}"
    heights = [float(marks.nth(i).locator(".target").first.get_attribute("cy")) for i in (0, 1)]
    assert heights[0] > heights[1]  # accuracy rises with temperature here, and y points down

    tab.select_option("select[name=quantity]", "U_a")
    assert "2 ± 0.3" in tab.inner_text(".sweep-values")
    tab.select_option("select[name=quantity]", "action")
    assert (
        caption() == "action over temperature T (logarithmic): theory, solid line."
    )  # without samples there are no bars
    assert tab.evaluate("document.documentElement.scrollWidth") <= 380
