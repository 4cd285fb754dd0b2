"""Plans: what they expand to, what identifies a point, and what a user may get wrong."""

import re

import pytest

import gibbsformer as gf
from gibbsformer.sweeps import plan as plans

GOOD = {"axes": {"widths": [10, 100], "temperatures": [0.1]}, "compute": {"theory": True, "collapsed": {"draws": 7}}}


def ids(plan):
    return {point.id for point in plans.points(plans.checked(plan))}


def with_axes(**axes):
    return {"axes": GOOD["axes"] | axes, "compute": GOOD["compute"]}


def test_expansion():
    plan = {
        "axes": {
            "widths": [10, [3, 4, 5]],
            "seeds": [0, 1],
            "kernels": ["nuts", {"name": "nuts", "target": "weights"}],
        },
        "compute": {"theory": True, "weights": {"chains": 2}, "evidence": False},
    }
    normal = plans.checked(plan)
    points = list(plans.points(normal))
    assert plans.count(normal) == len(points) == len(ids(plan)) == 2 * 2 * (1 + 2)
    assert {point.settings["compute"] for point in points} == {"theory", "weights"}
    assert [p.settings["options"]["chains"] for p in points if p.settings["compute"] == "weights"] == [2] * 8
    assert plans.checked({"axes": {"widths": [1]}, "compute": {"theory": True}})["axes"]["temperatures"] == [0.01]


def test_identity_is_that_of_the_settings():
    before = ids(GOOD)
    assert before == ids(with_axes(seeds=[0], tasks=["hmm"], paths=["all"]))  # defaults, spelled out
    assert before < ids(with_axes(widths=[100, 10, 30]))  # more widths: the old points are among the new
    assert before < ids({**GOOD, "compute": {**GOOD["compute"], "evidence": True}})
    changed = ids({**GOOD, "compute": {"theory": True, "collapsed": {"draws": 8}}})
    assert len(before & changed) == 2  # the theory stays
    assert before.isdisjoint(ids(with_axes(temperatures=[0.2])))


def test_content_of_a_file_of_arrays_counts(tmp_path):
    path = tmp_path / "own.npz"
    path.write_bytes(b"one")
    one = ids(with_axes(tasks=[str(path)]))
    path.write_bytes(b"two")
    assert one.isdisjoint(ids(with_axes(tasks=[str(path)])))


def test_toml(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(
        "[axes]\nwidths = [10, 100]\ntemperatures = [0.1]\n[compute]\ntheory = true\n[compute.collapsed]\ndraws = 7\n"
    )
    assert ids(path) == ids(GOOD)


BAD = {
    "unknown table": ({"axis": {}}, "did you mean 'axes'"),
    "unknown axis": (with_axes(witdhs=[1]), "did you mean 'widths'"),
    "unknown quantity": ({**GOOD, "compute": {"colapsed": True}}, "did you mean 'collapsed'"),
    "unknown option": ({**GOOD, "compute": {"collapsed": {"drawz": 3}}}, "did you mean 'draws'"),
    "option of theory": ({**GOOD, "compute": {"theory": {"draws": 3}}}, "compute.theory.draws"),
    "unknown task": (with_axes(tasks=["hnm"]), "did you mean 'hmm'"),
    "unknown task option": (with_axes(tasks=[{"name": "hmm", "exampels": 3}]), "did you mean 'examples'"),
    "missing file": (with_axes(tasks=["none.npz"]), "'none.npz'"),
    "unknown kernel": (
        {"axes": {"widths": [1], "kernels": ["nutz"]}, "compute": {"weights": True}},
        "did you mean 'nuts'",
    ),
    "kernels without weights": (with_axes(kernels=["nuts"]), "axes.kernels and compute.weights go together"),
    "unknown word": (
        {"axes": {"widths": [1], "kernels": ["nuts"]}, "compute": {"weights": {"keep": "weight"}}},
        "did you mean 'weights'",
    ),
    "no widths": ({"compute": {"theory": True}}, "axes.widths"),
    "empty axis": (with_axes(temperatures=[]), "no points"),
    "nothing to compute": ({**GOOD, "compute": {"theory": False}}, "nothing to compute"),
    "one value": (with_axes(widths=10), "give a list"),
    "twice": (with_axes(widths=[10, 10]), "more than once"),
    "temperature": (with_axes(temperatures=[0.1, -1]), "axes.temperatures[1]=-1"),
    "width": (with_axes(widths=[0]), "axes.widths[0]=0"),
    "paths": (with_axes(paths=["good"]), "axes.paths[0]='good'"),
    "heads": (with_axes(paths=[{"heads": [0]}]), "counted from 1"),
    "no table": ({"axes": [1], "compute": {}}, "give a table"),
    "no file": ("none.toml", "cannot be read"),
    "no toml": (__file__, "is not TOML"),
    "no plan": (None, "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_plan_is_one_line_and_leaves_nothing(name, tmp_path):
    plan, said = BAD[name]
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        gf.sweep(plan, tmp_path / "out", progress=False)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
