"""Figures by one command: what is written, that numbers are those of theory and samples, and bad requests."""

import jax
import numpy as np
import pandas as pd
import pytest

import gibbsformer as gf
from gibbsformer.cli import parser
from gibbsformer.figures import FIGURES, assembly, figure, one_shot, runs
from gibbsformer.figures.hidden_markov import HiddenMarkov
from gibbsformer.figures.options import Options
from gibbsformer.figures.runs import Job, complete

SMALL = {"widths": (10,), "examples": 12, "draws": 20, "progress": False}
PICTURES = ("png", "svg", "pdf")


def test_every_panel_of_the_captions_has_its_letter(capsys):
    letters = {"1": "abcd", "2": "abcde", "3": "abcdef"}
    expected = {*letters, *(f"{n}{letter}" for n, each in letters.items() for letter in each), "residual", "heads"}
    assert set(FIGURES) == expected
    with pytest.raises(SystemExit):
        parser().parse_args(["figure", "--help"])
    assert "2d was what is below in 2c; 3d and 3f are in 3e; 3e is 3f" in capsys.readouterr().out


@pytest.mark.slow
def test_figure_2_and_its_numbers(tmp_path):
    files = figure("2", tmp_path, seeds=(3,), **SMALL)
    names = [f"figure_2.{kind}" for kind in PICTURES] + [f"figure_2{end}.csv" for end in "abcde"]
    names += [f"figure_2{letter}_order_parameters.csv" for letter in "ce"]
    assert sorted(path.name for path in files) == sorted(names)
    assert all(path.stat().st_size > 0 for path in files)
    table = pd.read_csv(tmp_path / "figure_2c.csv")
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
    U = pd.read_csv(tmp_path / "figure_2c_order_parameters.csv").set_index("entry")
    np.testing.assert_allclose(U.loc["U_1[good, denoising]", "theory"], solved.U[0][0, 2])
    states = pd.read_csv(tmp_path / "figure_2a.csv")
    stays = states.groupby(["chain", "y"])["state"].apply(lambda s: (s.diff().dropna() == 0).mean())
    assert stays.groupby("y").mean().loc[1] > stays.groupby("y").mean().loc[-1], "class +1 stays more often"
    created = run.settings["created"]
    drawn = figure("1", tmp_path, seeds=(3,), **SMALL)  # uses the runs that are there
    assert [path.name for path in drawn] == [
        *(f"figure_1.{k}" for k in PICTURES),
        *(f"figure_1{e}.csv" for e in "abcd"),
    ]
    assert gf.open(tmp_path / "exact_2c_N10_seed3.h5").settings["created"] == created
    overlap = pd.read_csv(tmp_path / "figure_1b.csv")
    W = overlap.filter(like="w_").to_numpy()
    np.testing.assert_allclose(overlap.filter(like="U ").to_numpy(), W @ W.T / 10)


def test_overlap_panel(tmp_path):
    files = figure("2d", tmp_path, examples=12, progress=False)
    assert [path.name for path in files] == [*(f"figure_2d.{kind}" for kind in PICTURES), "figure_2d.csv"]
    table = pd.read_csv(files[-1])
    posterior = gf.tasks.hidden_markov_chain(key=jax.random.key(0), examples=12).posterior(10)
    for name, source in (("GP limit", gf.theory.gp(posterior)), ("$N=10$", gf.theory.solve(posterior))):
        ours = table[table["kernel"] == name]["overlap"]
        np.testing.assert_allclose(ours, gf.alignment(source).overlaps, rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_one_shot_figure(tmp_path, monkeypatch):
    config = gf.training.Config(heads=(2, 2), key_width=4, width=8, channels=1, batch=4, steps=3, lead_in=0)
    characters = gf.tasks.glyphs()
    net = tmp_path / "net.safetensors"
    trained = gf.training.train(characters, config, key=jax.random.key(0), out=net, progress=False)
    monkeypatch.setattr(one_shot, "TEST_EXAMPLES", 40)
    options = SMALL | {"temperatures": (0.1, 1.0), "network": net}
    files = figure("3", tmp_path, **options)
    assert [path.name for path in files[:3]] == [f"figure_3_glyphs.{kind}" for kind in PICTURES]
    read = {letter: pd.read_csv(tmp_path / f"figure_3{letter}_glyphs.csv") for letter in "abcdef"}
    task = gf.tasks.one_shot(characters, trained.attention, jax.random.key(0), train=12, test=40, channels=1)
    values = {k: v for k, v in trained.weights.items() if k[0] in "Va"}
    pruned = read["f"]
    start = pruned[(pruned["network"] == "trained network") & (pruned["heads_removed"] == 0)]["accuracy"]
    f = gf.pruning_curve(values, *task.test_set, [])[0]
    np.testing.assert_allclose(start, f, atol=1e-12)
    np.testing.assert_allclose(read["e"]["score_of_trained_weights"], gf.head_scores(values), rtol=1e-6)
    np.testing.assert_allclose(read["e"]["drop"], gf.head_drops(values, *task.test_set), atol=1e-12)
    solved = gf.theory.solve(task.posterior(10, read["c"]["T"][0]))
    np.testing.assert_allclose(read["c"]["theory"], solved.U[0].ravel(), rtol=1e-5)
    np.testing.assert_allclose(read["e"]["score"], gf.head_scores(solved), rtol=1e-5)
    run = gf.open(tmp_path / "exact_glyphs_N10_seed0.h5")
    np.testing.assert_allclose(read["c"]["samples"], run.order_parameters.U[0].mean((0, 1)).ravel())
    images, labels = one_shot.OneShot(tmp_path, Options(network=str(net), examples=12, progress=False)).drawings(0)
    tokens = gf.tasks.one_shot.__globals__["tokens"]
    table = gf.tasks.one_shot.__globals__["codes"](1)
    np.testing.assert_allclose(tokens(images[None], np.array([labels]), table)[0], task.train.x[0])


@pytest.mark.slow
def test_figure_of_heads(tmp_path, monkeypatch):
    config = gf.training.Config(heads=(2, 2), key_width=4, width=8, channels=1, batch=4, steps=3, lead_in=0)
    characters, net = gf.tasks.glyphs(), tmp_path / "net.safetensors"
    trained = gf.training.train(characters, config, key=jax.random.key(0), out=net, progress=False)
    monkeypatch.setattr("gibbsformer.figures.heads.TEST_EXAMPLES", 40)
    files = figure("heads", tmp_path, seeds=(0, 3), network=net, temperatures=(0.5,), **SMALL)
    names = [
        *(f"figure_heads_glyphs.{kind}" for kind in PICTURES),
        *(f"figure_heads_glyphs{e}.csv" for e in ("", "_curves")),
    ]
    assert [path.name for path in files] == names
    curves = pd.read_csv(files[-1])
    task = gf.tasks.one_shot(characters, trained.attention, jax.random.key(3), train=12, test=40, channels=1)
    posterior = task.posterior(10, 0.5)
    scores = {
        "order parameter, theory, N = 10": gf.head_scores(gf.theory.solve(posterior)),
        "order parameter, exact posterior, N = 10": gf.head_scores(gf.open(tmp_path / "heads_glyphs_N10_seed3.h5")),
        "gradient": gf.heads.by_gradient(trained.weights, posterior.data, task.train.y, by_layer=False),
    }
    for name, score in scores.items():
        expected = gf.pruning_curve(trained.weights, *task.test_set, gf.pruning_order(score))
        mine = curves[(curves["score"] == name) & (curves["seed"] == 1)]["value"]
        np.testing.assert_allclose(mine, expected, atol=1e-12)
    table = pd.read_csv(files[-2]).set_index("score")
    assert len(table) == 8
    assert table["error"].notna().all()
    with pytest.raises(ValueError, match="figure heads takes one"):
        figure("heads", tmp_path, network=net, temperatures=(0.5, 1.0), progress=False)


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


@pytest.fixture
def job(small, tmp_path):
    options = {"chains": 2, "warmup": 10, "draws": 20, "about": {"seed": 1}}
    return Job(tmp_path / "run.h5", small.posterior, gf.Collapsed(move="independent"), jax.random.key(0), options)


@pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")
def test_runs_are_reused_continued_or_made_again(job, small, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gibbsformer.figures.runs.sample", stopped_after(8))
        with pytest.raises(KeyboardInterrupt):
            complete([job], progress=False)
    assert gf.open(job.path).draws == 8
    (run,) = complete([job], progress=True).values()
    assert "1 run: 0 finished" in (said := capsys.readouterr().err)
    assert "1 begun, 0 to make; if interrupted, the same command continues them" in said
    assert "collapsed at N=4, from draw 8" in said
    assert run.draws == 20
    straight = gf.sample(job.posterior, job.kernel, key=job.key, progress=False, **job.options)
    np.testing.assert_array_equal(run.order_parameters.U_a, straight.order_parameters.U_a)
    created = run.settings["created"], run.settings["uuid"]
    (again,) = complete([job, job], progress=True).values()
    assert (again.settings["created"], again.settings["uuid"]) == created
    assert "1 run: 1 finished" in capsys.readouterr().err
    other = gf.Posterior(small.network, small.posterior.data, -small.posterior.y, small.posterior.temperature)
    changed = (job._replace(posterior=other), job._replace(options=job.options | {"about": {"seed": 2}}))
    changed += (
        job._replace(kernel=gf.Collapsed(move="chees")),
        job._replace(options=job.options | {"draws": 19}),
    )
    assert runs._found(job) is not None
    assert [runs._found(each) for each in changed] == [None] * 4
    (new,) = complete(changed[:1], progress=False).values()
    assert new.settings["uuid"] != created[1]
    np.testing.assert_array_equal(gf.open(job.path).posterior.y, other.y)


def stopped_after(draws):
    """``sample`` that is interrupted once the file holds so many draws."""

    def sample(posterior, kernel, **options):
        whole = options.pop("draws")
        gf.sample(posterior, kernel, draws=draws, **options)
        run = gf.open(options["store"])
        return type(run)(run.posterior, run.variables, run.stats, run.settings | {"draws": whole, "ended": "interrupt"})

    return sample


def test_time_left_comes_from_the_cost_of_what_is_done(job, monkeypatch, capsys):
    now = iter([0.0, 3.0, 3.0, 4.0, 4.0, 5.0])
    monkeypatch.setattr("gibbsformer.figures.runs.time.perf_counter", lambda: next(now))
    monkeypatch.setattr("gibbsformer.figures.runs._finish", lambda left, progress: None)
    jobs = [job._replace(path=job.path.with_name(f"{i}.h5")) for i in range(2)]
    complete([*jobs, job._replace(kernel=gf.ChEES(), path=job.path.with_name("c.h5"))], progress=True)
    said = capsys.readouterr().err
    assert "run 1 of 3 took 3.0 s; about 3 s for the others, no estimate yet for chees" in said
    assert "run 2 of 3 took 1.0 s; no estimate yet for chees" in said


def test_a_quick_look_replaces_nothing(tmp_path):
    kept = {}
    for quick in (True, False):
        made = HiddenMarkov(tmp_path, Options(widths=(10,), examples=12, quick=quick))
        kept[quick] = {job.path for job in made.jobs("2c", (10,), weights=True)}
    assert [len(paths) for paths in kept.values()] == [2, 2]
    assert not kept[True] & kept[False]


def test_a_page_holds_its_panels(tmp_path):
    """A plan of two panels: letters on the page, none on a panel alone, runs asked for once."""
    asked = []

    class Nothing:
        suffix = "_s"

        def __init__(self, folder, options):
            self.runs = {}

    def draw(place, made):
        place.subplots().plot([0, 1])
        return {"": pd.DataFrame({"x": [1]}), "_more": pd.DataFrame({"y": [2]})}

    panel = assembly.Panel(draw, (3, 2), lambda made: asked.append(made) or [])
    plan = assembly.Plan(
        "8",
        Nothing,
        {"a": panel, "b": panel},
        (6, 2),
        lambda page: dict(zip("ab", assembly.split(page, 1, 2), strict=True)),
    )
    made = plan.figures()
    assert set(made) == {"8", "8a", "8b"}
    files = made["8"](tmp_path, Options(progress=False))
    assert len(asked) == 2
    assert [path.name for path in files[3:]] == [
        f"figure_8{letter}{end}_s.csv" for letter in "ab" for end in ("", "_more")
    ]
    assert "(a)" in files[1].read_text()
    alone = made["8b"](tmp_path, Options(progress=False))
    assert [path.name for path in alone] == [
        *(f"figure_8b_s.{k}" for k in PICTURES),
        "figure_8b_s.csv",
        "figure_8b_more_s.csv",
    ]
    assert "(b)" not in alone[1].read_text()


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


def test_a_quick_look_takes_the_ends_of_the_widths_once():
    quick = Options(quick=True)
    assert quick.widths_or((10, 30, 100)) == (10, 100)
    assert quick.widths_or((30,)) == (30,)
    assert Options().widths_or((10, 30, 100)) == (10, 30, 100)
    assert quick._replace(widths=(5, 6, 7)).widths_or((10,)) == (5, 6, 7)
