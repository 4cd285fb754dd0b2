"""Figures by one command: what is written, that numbers are those of theory and samples, and bad requests."""

import jax
import numpy as np
import pandas as pd
import pytest

import gibbsformer as gf
from gibbsformer.figures import figure, hidden_markov, one_shot
from gibbsformer.figures.options import Options

SMALL = {"widths": (10,), "examples": 12, "draws": 20, "progress": False}


@pytest.mark.slow
def test_accuracy_figure_and_its_numbers(tmp_path):
    files = figure("2c", tmp_path, seeds=(3,), **SMALL)
    assert [path.name for path in files] == ["figure_2c.png", "figure_2c.svg", "figure_2c.csv"]
    assert all(path.stat().st_size > 0 for path in files)
    table = pd.read_csv(files[-1])
    assert table["N"].tolist() == [10]
    task = gf.tasks.hidden_markov_chain(key=jax.random.key(3), examples=12)
    test, labels = task.test_set
    row = table.iloc[0]
    solved = gf.theory.solve(task.posterior(10))
    np.testing.assert_allclose(row["theory"], gf.accuracy(gf.predict(solved, test), labels), atol=1e-12)
    good = gf.theory.gp(task.posterior(10), ("good",))
    np.testing.assert_allclose(row["gp good path"], gf.accuracy(gf.predict(good, test), labels), atol=1e-12)
    run = gf.open(tmp_path / "exact_2c_N10_seed3.h5")
    np.testing.assert_allclose(row["exact"], gf.accuracy(gf.predict(run, test), labels), atol=1e-12)
    weights = gf.open(tmp_path / "weights_2c_N10_seed3.h5")
    assert weights.settings["kernel"] == "chees"
    np.testing.assert_allclose(row["weights"], gf.accuracy(gf.predict(weights, test), labels), atol=1e-12)
    created = run.settings["created"]
    figure("2d", tmp_path, seeds=(3,), **SMALL)  # uses the runs that are there
    assert gf.open(tmp_path / "exact_2c_N10_seed3.h5").settings["created"] == created


def test_overlap_figure(tmp_path):
    table = pd.read_csv(figure("1c", tmp_path, examples=12, progress=False)[-1])
    posterior = gf.tasks.hidden_markov_chain(key=jax.random.key(0), examples=12).posterior(10)
    ours = table[table["kernel"] == "GP limit"]["overlap"]
    np.testing.assert_allclose(ours, gf.alignment(gf.theory.gp(posterior)).overlaps, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_one_shot_figures(tmp_path, monkeypatch):
    config = gf.training.Config(heads=(2, 2), key_width=4, width=8, channels=1, batch=4, steps=3, lead_in=0)
    characters = gf.tasks.glyphs()
    net = tmp_path / "net.safetensors"
    trained = gf.training.train(characters, config, key=jax.random.key(0), out=net, progress=False)
    monkeypatch.setattr(one_shot, "TEST_EXAMPLES", 40)
    options = SMALL | {"temperatures": (0.1, 1.0), "network": net}
    table = pd.read_csv(figure("3e", tmp_path, **options)[-1])
    task = gf.tasks.one_shot(characters, trained.attention, jax.random.key(0), train=12, test=40, channels=1)
    values = {k: v for k, v in trained.weights.items() if k[0] in "Va"}
    start = table[(table["network"] == "trained network") & (table["heads_removed"] == 0)]["accuracy"]
    f = gf.pruning_curve(values, *task.test_set, [])[0]
    np.testing.assert_allclose(start, f, atol=1e-12)
    scores = pd.read_csv(figure("3d", tmp_path, **options)[-1])
    np.testing.assert_allclose(scores["trained network"], gf.head_scores(values), rtol=1e-6)


def test_best_temperatures():
    """By hand: at N = 10 the action is least where the accuracy is not largest."""
    rows = [
        (10, 0.1, 0.7, 3),
        (10, 0.5, 0.9, 2),
        (10, 1.0, 0.8, 1),
        (20, 0.1, 0.6, 1),
        (20, 0.5, 0.6, 2),
        (20, 1.0, 0.7, 3),
    ]
    grid = pd.DataFrame(rows, columns=["N", "T", "accuracy", "action"])
    best = one_shot.best_temperatures(grid)
    assert best["T"].tolist() == [0.5, 1.0]
    assert best["accuracy"].tolist() == [0.9, 0.7]
    assert best["T_by_evidence"].tolist() == [1.0, 0.1]
    assert best["accuracy_by_evidence"].tolist() == [0.8, 0.6]


def test_a_quick_look_replaces_nothing(tmp_path, monkeypatch):
    kept = {True: set(), False: set()}
    for quick in kept:
        monkeypatch.setattr(hidden_markov, "finished_or_new", lambda path, *_, quick=quick, **__: kept[quick].add(path))
        options = Options(widths=(10,), examples=12, quick=quick)
        task, _, _ = hidden_markov._solved_and_sampled(tmp_path, options, "2c", 0, (10,))
        hidden_markov._weight_samples(tmp_path, options, "2c", task, 0, 10)
    assert [len(paths) for paths in kept.values()] == [2, 2]
    assert not kept[True] & kept[False]


def test_bad_requests(tmp_path):
    with pytest.raises(ValueError, match="figure='2f' is not known: did you mean"):
        figure("2f", tmp_path)
    with pytest.raises(ValueError, match=r"seeds=\(\) must list"):
        figure("2c", tmp_path, seeds=())
    with pytest.raises(ValueError, match=r"widths\[0\]=0 must be a whole number"):
        figure("2c", tmp_path, widths=(0,))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ValueError, match="cannot be used as a directory"):
        figure("2c", blocked)
    with pytest.raises(ValueError, match=r"network='no\.safetensors' does not exist"):
        figure("3b", tmp_path, network="no.safetensors")
