"""``gf.plot``: the axes hold the numbers that were given, and bad requests are told what to give."""

import jax
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

import gibbsformer as gf


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def theory(small):
    return gf.theory.solve(small.posterior)


@pytest.fixture(scope="module")
def classes(small):
    """(posterior of labels that are classes, its theory, test set)."""
    posterior = gf.Posterior(small.network, small.posterior.data, np.sign(small.posterior.y), 0.3)
    return posterior, gf.theory.solve(posterior), small.test


@pytest.fixture(scope="module")
def run(classes):
    return gf.sample(classes[0], "gibbs", key=jax.random.key(0), chains=2, warmup=20, draws=30, progress=False)


def heights(container):
    return [bar.get_height() for bar in container]


@pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")
def test_accuracy_of_theories_and_runs(classes, run, ax):
    posterior, theory, (inputs, y) = classes
    gp = {"all": gf.theory.gp(posterior), "half": 0.5}
    assert gf.plot.accuracy(theory, run, gp, test=(inputs, y), ax=ax) is ax
    solid, dashed, line, *_ = ax.lines
    assert solid.get_ydata()[0] == gf.accuracy(gf.predict(gp["all"], inputs), y)
    assert dashed.get_ydata()[0] == 0.5
    assert [each.get_linestyle() for each in (solid, dashed)] == ["-", "--"]
    assert line.get_xdata().tolist() == [4]
    assert line.get_ydata().tolist() == [gf.accuracy(gf.predict(theory, inputs), y)]
    dots = ax.containers[0].lines[0]
    assert dots.get_ydata().tolist() == [gf.accuracy(gf.predict(run, inputs), y)]
    assert dots.get_color() == "#000000"
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["GP limit, all", "GP limit, half", "theory", "samples"]
    assert ax.get_ylabel() == "test accuracy"


def test_accuracies_that_are_known(ax):
    table = pd.DataFrame({"value": [0.9, 0.8], "error": [0.01, 0.0]}, [10, 100])
    gf.plot.accuracy(table["value"], table, 0.7, weights=table.iloc[:1], kernel="NUTS", ax=ax)
    assert ax.lines[1].get_ydata().tolist() == [0.9, 0.8]
    (low, _), (high, _) = (cap.get_ydata() for cap in ax.containers[0].lines[1])
    np.testing.assert_allclose([low, high], [0.89, 0.91])
    assert "weight samples (NUTS)" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_real_labels_are_scored_by_r_squared(small, theory, ax):
    gf.plot.accuracy(theory, test=(small.test[0], np.array([0.3, -0.2, 1.5, 0.1])), ax=ax)
    assert ax.get_ylabel() == "test $R^2$"


@pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")
def test_order_parameters(small, theory, run, ax):
    gf.plot.order_parameters(theory, ax=ax)
    np.testing.assert_array_equal(ax.images[0].get_array(), theory.U[0])
    assert [text.get_text() for text in ax.get_yticklabels()] == list(small.posterior.data.path_names)
    upper = gf.plot.order_parameters(run, layer=2, largest=3.0, ax=Figure().subplots())
    np.testing.assert_allclose(upper.images[0].get_array(), run.order_parameters.U[1].mean((0, 1)))
    assert upper.images[0].norm.vmax == 3.0
    assert f"{theory.U[0][0, 1]:.2f}" in [text.get_text() for text in ax.texts]


def test_alignment(theory, ax):
    limit = gf.theory.gp(theory.posterior)
    gf.plot.alignment({"N": theory, "GP": gf.alignment(limit), "flat": np.ones(5)}, 5, ax=ax)
    first, second, third = map(heights, ax.containers)
    np.testing.assert_allclose(first, gf.alignment(theory).overlaps[:5])
    np.testing.assert_allclose(second, gf.alignment(limit).overlaps[:5])
    assert third == [1] * 5
    assert ax.containers[0][0].get_facecolor() == mpl.colors.to_rgba("#0072B2")


def test_head_scores_and_drops(theory, ax):
    scores = gf.head_scores(theory)
    drops = pd.Series([0.2, 0.0, -0.1, 0.05, np.nan], scores.index, name="accuracy_drop")
    gf.plot.head_scores(theory, drops, ax=ax)
    np.testing.assert_allclose(heights(ax.containers[0]), scores)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1.1", "1.2", "2.1", "2.2", "2.3"]
    lost = ax.figure.axes[-1]
    np.testing.assert_array_equal(heights(lost.containers[0]), drops)
    low, high = ax.get_ylim()
    assert low / high == pytest.approx(np.divide(*lost.get_ylim())), "the zeros are level"
    two = gf.plot.head_scores({"a": scores, "b": scores / 2}, ax=Figure().subplots())
    np.testing.assert_allclose(heights(two.containers[1]), scores / 2)


def test_pruning(ax):
    curves = pd.DataFrame({
        "seed": [0, 0, 1, 1, 0, 0], "score": ["a"] * 4 + ["b"] * 2, "heads_removed": [0, 1] * 3,
        "value": [0.9, 0.8, 0.7, 0.6, 0.9, 0.5],
    })  # fmt: skip
    gf.plot.pruning(gf.heads.Comparison(curves, "accuracy"), ax=ax)
    np.testing.assert_allclose(ax.containers[0].lines[0].get_ydata(), [0.8, 0.7])
    low = [segment[0, 1] for segment in ax.containers[0].lines[2][0].get_segments()]
    np.testing.assert_allclose(low, [0.7, 0.6])  # standard error of two values 0.2 apart: 0.1
    np.testing.assert_allclose(ax.containers[1].lines[0].get_ydata(), [0.9, 0.5])
    single = gf.plot.pruning(pd.Series([0.9, 0.4], pd.RangeIndex(2, name="heads_removed")), ax=Figure().subplots())
    np.testing.assert_allclose(single.containers[0].lines[0].get_ydata(), [0.9, 0.4])


def test_learning_curve():
    P, paths = [10, 100], ["(1)", "(2)"]
    U = np.arange(8.0).reshape(2, 2, 2) + 1
    data = xr.Dataset(
        {
            "r_squared_theory": ("examples", [0.1, 0.6]), "r_squared_exact": ("examples", [0.2, 0.5]),
            "bias_theory": ("examples", [0.4, 0.2]), "variance_theory": ("examples", [0.3, 0.1]),
            "U_1_theory": (("examples", "path", "path_prime"), U),
        },
        {"examples": P, "path": paths, "path_prime": paths},
    )  # fmt: skip
    score, error, diagonal = gf.plot.learning_curve(data, axes=Figure().subplots(1, 3))
    assert [line.get_ydata().tolist() for line in score.lines] == [[0.1, 0.6], [0.2, 0.5]]
    assert score.get_ylabel() == "test $R^2$"
    assert {line.get_label(): line.get_ydata().tolist() for line in error.lines} == {
        "bias": [0.4, 0.2], "variance": [0.3, 0.1],
    }  # fmt: skip
    assert [line.get_ydata().tolist() for line in diagonal.lines] == [[1, 5], [4, 8]]
    with pytest.raises(ValueError, match="data has no test score"):
        gf.plot.learning_curve(data.drop_vars(["r_squared_theory", "r_squared_exact"]))


def test_path_lengths():
    columns = {"paths": [1, 2], "U": [0.7, 0.3], "kernel": [0.6, 0.4], "prediction": [0.9, 0.1]}
    table = pd.DataFrame(columns, pd.Index([0, 1], name="length"))
    (shares,) = gf.plot.path_lengths(table, axes=[Figure().subplots()])
    assert [heights(bars) for bars in shares.containers] == [[0.7, 0.3], [0.6, 0.4], [0.9, 0.1]]
    table[["accuracy_alone", "accuracy_without"]] = [[0.8, 0.6], [0.5, 0.9]]
    _, scores = gf.plot.path_lengths(table, axes=Figure().subplots(1, 2))
    assert [heights(bars) for bars in scores.containers] == [[0.8, 0.5], [0.6, 0.9]]
    assert scores.get_ylabel() == "test accuracy"
    with pytest.raises(ValueError, match="axes must be 2 matplotlib axes"):
        gf.plot.path_lengths(table, axes=[Figure().subplots()])


def test_new_axes_have_our_style_and_change_no_settings(tmp_path):
    import matplotlib.pyplot as plt

    with mpl.rc_context({"backend": "Agg"}):
        before = dict(mpl.rcParams)
        axes = gf.plot.order_parameters(np.eye(2))
        assert plt.fignum_exists(axes.figure.number), "a notebook shows it"
        plt.close(axes.figure)
        assert {name: value for name, value in mpl.rcParams.items() if before[name] != value} == {}
    assert not axes.spines["top"].get_visible()
    files = gf.plot.save(axes.figure, tmp_path / "new", "map", ("png", "pdf"))
    assert [path.read_bytes()[:4] for path in files] == [b"\x89PNG", b"%PDF"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"folder='.*file' cannot be used as a directory .*: choose another name"):
        gf.plot.save(axes.figure, tmp_path / "file", "map")


def test_every_gp_limit_has_a_line(ax):
    gf.plot.accuracy(gp={f"set {i}": 0.5 + i / 100 for i in range(6)}, ax=ax)
    assert [line.get_ydata()[0] for line in ax.lines] == [0.5 + i / 100 for i in range(6)]


def test_bad_requests(theory, ax):
    for request, message in (
        (lambda: gf.plot.head_scores({}), "scores is empty"),
        (lambda: gf.plot.pruning({}), "curves is a dict: give gf.heads.compare"),
        (lambda: gf.plot.learning_curve(3), "data is a int: give what gf.learning_curve returns"),
        (lambda: gf.plot.path_lengths(3), "found is a int: give what gf.path_lengths returns"),
        (lambda: gf.plot.save(ax.figure, "folder", "a/b"), "name='a/b' must be the name of a file alone"),
        (lambda: gf.plot.save(ax.figure, "folder", "a", ["bmp"]), "kind='bmp' is not known"),
    ):
        with pytest.raises(ValueError, match=message):
            request()
    with pytest.raises(ValueError, match="test=None, and theory has theories"):
        gf.plot.accuracy(theory, ax=ax)
    with pytest.raises(ValueError, match="theory, samples and gp are None"):
        gf.plot.accuracy(ax=ax)
    with pytest.raises(ValueError, match="ax is a int"):
        gf.plot.order_parameters(np.eye(2), ax=3)
    with pytest.raises(ValueError, match="layer=3 does not exist: choose 1 to 2"):
        gf.plot.order_parameters(theory, layer=3, ax=ax)
    with pytest.raises(ValueError, match="names has 1 entries and the matrix 2 rows"):
        gf.plot.order_parameters(np.eye(2), names=["a"], ax=ax)
    with pytest.raises(ValueError, match="curves is a int"):
        gf.plot.pruning(3, ax=ax)
    scores = gf.head_scores(theory)
    with pytest.raises(ValueError, match="scores and drops are of different heads"):
        gf.plot.head_scores(scores, scores.iloc[:-1], ax=ax)
