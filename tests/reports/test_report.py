"""A report holds what ``gf.compare`` says, nothing from outside, and escapes what files hold; its script works."""

import base64
import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import arviz
import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.cli import main
from gibbsformer.reports import content, drawing

HOSTILE = '<script>alert("x")</script> & "good"'
VOID = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """Tags with attributes, the text of table rows, and whether every element is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th", "a") and self.rows:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def run(make_small):
    """Exact draws of a problem whose first path has a name that is markup."""
    small = make_small(heads=(3,), widths=(4, 4), variances=(1.0, 1.0, 1.0))
    data = gf.PathInputs(small.posterior.data.xi, (HOSTILE, "b", "c"))
    test = gf.PathInputs(small.test[0].xi, data.path_names)
    posterior = gf.Posterior(small.network, data, small.posterior.y, 0.3)
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2, 60, 3, 4))
    draws = {"U_a": np.exp(rng.standard_normal((2, 60))), "U_1": w @ w.swapaxes(2, 3) / 4}
    draws |= {"path_weights": rng.standard_normal((2, 60, 3, 6)), "f": rng.standard_normal((2, 60, 4))}
    settings = {"kernel": "collapsed", "options": {}, "warmup": 5, "draws": 60, "chains": 2, "created": "2026-01-01"}
    settings |= {"device": "cpu", "key_data": [1, 2], "versions": {"jax": "0.10"}, "about": {"task": HOSTILE}}
    return gf.Run(posterior, draws, {}, settings, (test, small.test[1]))


def test_score_rows_by_hand():
    """z is sampled minus the row's value, in the Monte Carlo error and that of the test set; none where both are 0."""
    errors = {"monte_carlo": 0.03, "test_set": 0.04}
    found = {
        "accuracy": {"sampled": 0.9, "sampled_error": 0.02, "theory": 0.94, "gp": 0.8},
        "sampled_minus": {"theory": {"value": -0.04} | errors, "gp": {"value": 0.1} | errors},
    }
    sampled, theory, gp = content._score_rows(found)
    assert (sampled["value"], sampled["error"]) == (0.9, 0.02)
    assert [theory["value"], gp["value"]] == [0.94, 0.8]
    np.testing.assert_allclose([theory["z"], gp["z"]], [-0.8, 2.0], rtol=1e-9)  # rounding
    found["sampled_minus"]["theory"] = {"value": 0.0, "monte_carlo": 0.0, "test_set": 0.0}
    assert content._score_rows(found)[1]["z"] is None
    assert content._score_rows({}) == []


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    return gf.report([run, run], tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def page(written):
    return Page(written.read_text(encoding="utf-8"))


def test_page_is_whole_and_self_contained(page):
    assert page.open == []
    references = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert references
    assert all(r.startswith(("#", "data:image/png;base64,")) for r in references)
    assert {r[1:] for r in references if r[0] == "#"} <= {a.get("id") for _, a in page.tags}
    pictures = [r for r in references if r.startswith("data:")]
    assert len(pictures) == 4  # traces and ranks of both runs
    assert all(base64.b64decode(r.partition(",")[2]).startswith(b"\x89PNG") for r in pictures)
    identities = [a["id"] for _, a in page.tags if "id" in a]
    assert len(identities) == len(set(identities))
    assert all(a.get("alt") for tag, a in page.tags if tag == "img")
    assert all(a.get("aria-label") for tag, a in page.tags if tag == "svg")


def test_no_address_of_the_network(written):
    assert not re.search(r"(https?:)?//[a-z]+\.|@import|url\(", written.read_text(encoding="utf-8"))


def test_text_from_files_is_escaped(written, page):
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "<script>alert" not in written.read_text(encoding="utf-8")
    assert any(HOSTILE in cell for row in page.rows for cell in row)


def test_values_are_those_of_compare(run, page):
    table = gf.compare(run, gf.theory.solve(run.posterior))
    rows = {row[0]: row[1:] for row in page.rows if len(row) == 7}
    for entry, r in table.iterrows():
        shown = [f"{r['theory']:.4f}", f"{r['sampled']:.4f}", f"{r['mcse']:.4f}", f"{r['z']:.1f}", f"{r['ess']:.0f}"]
        assert rows[entry] == [*shown, f"{r['rhat']:.3f}"]
    prediction = gf.predict(run, run.test[0])
    shown = next(row for row in page.rows if row[0] == "sampled")
    score = gf.score(prediction, run.test[1])
    assert shown[1:3] == [f"{score.value:.4f}", f"{score.error:.4f}"]


def test_provenance_tells_every_setting(run):
    rows = dict(content.provenance(run))
    assert rows["created"] == "2026-01-01"
    assert rows["versions: jax"] == "0.10"
    assert rows["key_data"] == "1, 2"


def test_heat_map_tells_every_value_and_parses():
    U = np.array([[2.0, -0.5], [-0.5, 0.0]])
    svg = ElementTree.fromstring(str(drawing.heat_map(U, [HOSTILE, "b"], 2.0, "U_1, sampled", "map")))
    titles = [title.text for title in svg.iter("title")]
    assert titles == [f"U_1[{a}, {b}] = {v:.4g}" for a, row in zip((HOSTILE, "b"), U, strict=True)
                      for b, v in zip((HOSTILE, "b"), row, strict=True)]  # fmt: skip
    fills = [rect.get("style") for rect in svg.iter("rect")]
    assert "--plus) 100%" in fills[0]
    assert "--minus)" in fills[1]
    assert "--plus) 0%" in fills[3]


def test_bars_have_heights_in_proportion():
    svg = ElementTree.fromstring(str(drawing.bars({"a": np.array([0.2, 0.4])}, ["1", "2"], "head")))
    low, high = [float(rect.get("height")) for rect in svg.iter("rect") if rect.find("title") is not None]
    assert high / low == pytest.approx(2, rel=0.01)  # heights are printed with one decimal


def test_runs_that_did_not_converge_say_so(run):
    section = content.verdict(
        {"rhat": 1.2, "rhat_limit": 1.01, "ess_bulk": 12, "divergences": 3, "converged": False, "longest_stay": 7}, run
    )
    assert section.startswith("The chains have NOT converged: largest R-hat 1.200 (limit 1.01)")
    assert "at most 7 draws at one point" in section


@pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning", "ignore:invalid value:RuntimeWarning")
def test_a_broken_chain_is_reported(run, tmp_path):
    draws = {
        name: np.where(np.arange(2).reshape(2, *[1] * (v.ndim - 1)), np.nan, v) for name, v in run.variables.items()
    }
    page = gf.report(dataclasses.replace(run, variables=draws), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "The chains have NOT converged" in page
    assert "a chain holds NaN or infinity" in page
    assert "Trace and rank plots are left out" in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "missing.h5"], "missing.h5"),
        (["report", "missing.h5", "--out", "samples.h5"], "use a name such as report.html"),
        (["report", "missing.h5", "--out", "no/folder/r.html"], "create it first"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # the test process has already started XLA, after which the number of devices is fixed
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_too_few_draws_are_refused(run, tmp_path):
    short = dataclasses.replace(run, variables={name: v[:, :5] for name, v in run.variables.items()})
    with pytest.raises(ValueError, match="has 5 draws: a report needs 8 or more"):
        gf.report(short, tmp_path / "r.html")
    with pytest.raises(ValueError, match="is empty"):
        gf.report([], tmp_path / "r.html")


def test_in_a_browser(written, open_page):
    for scheme in ("light", "dark"):
        tab = open_page(written, scheme)
        tab.hover("svg.map .cell >> nth=4")
        assert tab.inner_text(".readout >> nth=0").startswith("U_1[b, b] = ")
        tab.focus("svg.map")
        tab.keyboard.press("ArrowRight")
        assert tab.inner_text(".readout >> nth=0").startswith("U_1[b, c] = ")
        tab.focus(".provenance summary")
        tab.keyboard.press("Enter")
        assert tab.is_visible("text=versions: jax >> nth=0")
        # nothing is wider than a narrow screen, and every picture was decoded
        assert tab.evaluate("document.documentElement.scrollWidth") <= 380
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_page_shows_several_outputs_skips_and_the_evidence(tmp_path, make_small):
    """Draws of the prior stand for those of the posterior: what is shown of them is the same."""
    small = make_small(heads=(2,), widths=(4, 4), variances=(1.0, 1.0, 1.0), residual=True, outputs=2)
    prior = gf.prior(small.network, draws=120, key=jax.random.key(0)).order_parameters
    fold = lambda values: values.reshape(2, 60, *values.shape[1:])  # noqa: E731
    weights = np.random.default_rng(0).standard_normal((2, 60)) / 10
    settings = {"kernel": "collapsed", "options": {}, "target": "collapsed", "keep": "order_parameters", "warmup": 5}
    settings |= {"draws": 60, "chains": 2, "until": None, "key_data": [0], "key_impl": "threefry2x32"}
    draws = {"U_a": fold(prior.U_a), "U_1": fold(prior.U[0]), "theta": np.zeros((2, 60, 1))}
    run = gf.Run(small.posterior, draws, {"log_weight": weights}, settings)
    page = Page(gf.report(run, tmp_path / "run.html").read_text(encoding="utf-8"))
    shares = {row[0]: row[1:] for row in page.rows if row and row[0] in ("0", "1")}
    table = gf.path_lengths(run).table
    for length in (0, 1):
        assert float(shares[str(length)][1]) == pytest.approx(table.loc[length, "U"], abs=1e-3)
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "strengths 1" in text
    assert "<dt>outputs</dt><dd>2</dd>" in text
    assert f"{run.log_evidence.value:.3f} ±" in text


def test_ranks_and_traces_do_not_need_arviz_to_draw(run, monkeypatch):
    monkeypatch.setattr(arviz, "plot_trace", None, raising=False)
    monkeypatch.setattr(arviz, "plot_rank", None, raising=False)
    from gibbsformer.reports import chains

    found = chains.plots(run)
    assert found["trace"].startswith("data:image/png")
    assert len(found["entries"]) == len(chains.worst(run))


def test_ranks_of_chains_that_agree_are_level():
    """Heights of two equal chains are near their lines; of two separate ones, far."""
    from matplotlib.figure import Figure

    from gibbsformer.reports import chains

    rng = np.random.default_rng(0)
    for shift, far in ((0.0, False), (10.0, True)):
        axes = Figure().subplots()
        chains._ranks(axes, rng.standard_normal((2, 1000)) + shift * np.arange(2)[:, None])
        heights = [patch.get_data().values - number for number, patch in enumerate(axes.patches)]
        assert (np.abs(heights).max() > 0.35) == far
