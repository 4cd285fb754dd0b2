"""What the command line says where nobody, a file, a full disk or a terminal listens; names as they were given."""

import argparse
import contextlib
import errno
import html
import itertools
import json
import os
import re
import resource
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

import gibbsformer as gf
from gibbsformer.cli import main
from gibbsformer.cli.output import show
from gibbsformer.core import checks, console, files
from gibbsformer.core.text import literal, visible
from gibbsformer.reports import chains
from gibbsformer.sweeps import result

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
NAMES = (r"$\frac{$", r"a\$b$", "<b>&", "50 %_^")  # what mathtext or HTML would take for their own


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")


@pytest.fixture(scope="module")
def own_arrays(tmp_path_factory):
    """A task of a user's own arrays, its test set included, in a file."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("console") / "own.npz"
    x = rng.standard_normal((12, 4, 5))
    y = np.sign(x[:, 0].sum(1))
    np.savez(path, W_1=rng.standard_normal((2, 4, 4)), x=x[:8], y=y[:8], x_test=x[8:], y_test=y[8:])
    return path


@pytest.fixture
def plan(own_arrays, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(f"[axes]\ntasks = [{json.dumps(str(own_arrays))}]\nwidths = [3, 30]\ntemperatures = [0.5]\n")
    path.write_text(path.read_text() + "[compute]\ntheory = true\n")
    return path


def named_run(own_arrays, names, path):
    arrays = np.load(own_arrays)
    W = np.concatenate([arrays["W_1"]] * 2)
    attention = gf.Attention([W], path_names=names)
    task = gf.tasks.arrays(*(arrays[n] for n in ("x", "y")), attention, arrays["x_test"], arrays["y_test"])
    return task, gf.sample(
        task.posterior(3, 0.5), chains=2, warmup=5, draws=20, key=jax.random.key(0), store=path, progress=False,
        test=task.test_set,
    )  # fmt: skip


def drawn(figure, path):
    """The texts of a figure that hold a dollar sign, as they are drawn."""
    gf.plot.save(figure, path.parent, path.name)
    text = html.unescape(path.with_suffix(".svg").read_text())
    return {name for name in NAMES if name in text}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")
def test_names_are_drawn_as_they_are(own_arrays, tmp_path, monkeypatch):
    task, run = named_run(own_arrays, NAMES, None)
    axes = gf.plot.order_parameters(np.eye(4), names=task.train_inputs.path_names, ax=Figure().subplots())
    assert drawn(axes.figure, tmp_path / "map") == set(NAMES)
    data = xr.Dataset(
        {"accuracy_exact": (("paths", "temperature", "width"), np.ones((4, 1, 2)))},
        {"paths": list(NAMES), "temperature": [0.5], "width": [3, 30]},
    )
    assert drawn(gf.sweeps.lines(data, colours="paths", temperature=0.5), tmp_path / "lines") == set(NAMES)
    axes = gf.plot.accuracy(gp=dict.fromkeys(NAMES, 0.5), ax=Figure().subplots())
    assert drawn(axes.figure, tmp_path / "accuracy") == set(NAMES)
    titles = []
    monkeypatch.setattr(chains, "_uri", lambda figure: titles.extend(axes.get_title() for axes in figure.axes))
    entries = chains.plots(run)["entries"]
    assert any("$" in entry for entry in entries)
    assert all("$" not in title.replace(r"\$", "") for title in titles)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning")
def test_a_report_of_odd_names(own_arrays, tmp_path):
    page = gf.report(named_run(own_arrays, NAMES, tmp_path / "run.h5")[1], tmp_path / "page.html").read_text()
    assert "<b>&" not in page
    assert all(name in html.unescape(page) for name in NAMES)


@pytest.mark.parametrize("name", ["nul\0", "\x1b[2J", "two\nlines", "\u202eleft"])
def test_names_that_cannot_be_printed_are_refused(name):
    for make in (
        lambda: gf.Attention([np.ones((2, 4, 4))], path_names=("a", name)),
        lambda: gf.Attention.given([np.ones((3, 2, 4, 4)) / 4], path_names=("a", name)),
        lambda: gf.PathInputs(np.ones((3, 4, 2)), path_names=("a", name)),
    ):
        with pytest.raises(checks.InputError, match=r"path_names\[1\]=.* cannot be printed: leave it out") as raised:
            make()
        assert str(raised.value).isprintable()


def test_escapes_for_terminals_are_made_visible(capsys, tmp_path):
    assert visible("\x1b[2Ja\tb\nc\x9b\u202e\udce9é") == "\\x1b[2Ja\\tb\nc\\x9b\\u202e\\udce9é"
    assert literal(r"$\$") == r"\$\\$"
    evil = str(tmp_path / "\x1b]0;evil\x07.h5")
    for arguments in (["inspect", evil], ["report", evil, "--out", str(tmp_path / "r.html")], ["\x1b[2J"]):
        with contextlib.suppress(SystemExit):
            assert main(arguments) == 2
        captured = capsys.readouterr()
        assert visible(captured.err + captured.out) == captured.err + captured.out


def test_escapes_in_results(capsys):
    show(argparse.Namespace(json=False), {}, lambda _: "a\x1b[2Jb")
    show(argparse.Namespace(json=True), {"name": "a\x1b[2Jb"}, str)
    assert capsys.readouterr().out == 'a\\x1b[2Jb\n{"name": "a\\u001b[2Jb"}\n'


def test_a_line_a_minute(capsys, monkeypatch):
    clock = itertools.count(0.0, 25.0)
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.bar(total=10, unit="draw", desc="compile") as bar:
        bar.set_description("sample")
        for _ in range(10):
            bar.update()
            bar.set_postfix({"failed": 2}, refresh=False)
    lines = capsys.readouterr().err.splitlines()
    assert 2 < len(lines) < 8
    assert all(
        re.fullmatch(r"sample: \d+/10 draws, \d\d:\d\d so far(, \d\d:\d\d left)?(, failed 2)?", l) for l in lines
    )
    assert lines[-1].startswith("sample: 10/10 draws")
    with console.bar(total=10, unit="draw", desc="none", initial=10):
        pass
    with console.bar(total=10, unit="draw", desc="none", disable=True) as bar:
        bar.update()
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_progress_without_a_terminal_is_lines(own_arrays, tmp_path, capsys):
    out = str(tmp_path / "run.h5")
    command = ["sample", "--task", str(own_arrays), "--width", "3", "--warmup", "5", "--draws", "20", "--out", out]
    assert main(command) == 0
    room, line = capsys.readouterr().err.splitlines()
    assert "needs" in room
    assert line.startswith("sample: 25/25 draws")


def run_cli(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options):
    command = [sys.executable, "-m", "gibbsformer", *map(str, arguments)]
    return subprocess.Popen(command, stdout=stdout, stderr=stderr, text=True, **options)


def closed_pipe():
    """The end to write to of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def test_a_closed_pipe_is_silent(plan, tmp_path, monkeypatch, capsys):
    """Work goes on when nobody reads what it says, and the exit code is its own."""
    failing = tmp_path / "failing.toml"
    failing.write_text(plan.read_text().replace("[3, 30]", '[3]\npaths = ["all", ["no"]]'))
    for name in ("stdout", "stderr"):
        for command, code in (
            (["sweep", str(failing), "--out", str(tmp_path / name)], 1),
            (["sweep", str(plan), "--out", str(tmp_path / f"{name} json"), "--json"], 0),
            (["inspect", str(tmp_path / "missing.h5")], 2),
        ):
            with os.fdopen(closed_pipe(), "w") as closed, monkeypatch.context() as piped:
                piped.setattr(sys, name, closed)
                assert main(command) == code
    assert len(gf.open_sweep(tmp_path / "stderr json")["width"]) == 2
    capsys.readouterr()


def test_a_pipe_that_closes_before_the_work_is_done(monkeypatch, own_arrays):
    def leave(*_, **__):
        raise BrokenPipeError

    monkeypatch.setattr(gf.theory, "solve", leave)
    assert main(["theory", "--task", str(own_arrays), "--width", "3"]) == 141


@pytest.mark.slow
def test_the_end_of_a_process_is_silent(own_arrays, plan, tmp_path):
    pipe, task = closed_pipe(), ["--task", own_arrays, "--width", 3, "--temperature", 0.5]
    out = tmp_path / "run.h5"
    for command in (
        ["--help"], ["theory", *task], ["theory", *task, "--json"], ["sweep", plan, "--out", tmp_path / "out"],
        ["sample", *task, "--warmup", 5, "--draws", 20, "--out", out], ["resume", out, "--draws", 30],
        ["inspect", out], ["compare", out, "--json"], ["export", out, "--out", tmp_path / "part.nc"],
        ["report", out, "--out", tmp_path / "page.html"],
    ):  # fmt: skip
        process = run_cli(*command, stdout=pipe)
        said = process.communicate(timeout=300)[1].splitlines()
        progress = ("sweep: ", "sample: ", "gibbsformer: run.h5 needs")
        assert [line for line in said if not line.startswith(progress)] == [], command
        assert process.returncode == 0, command
    assert run_cli("sample", *task, "--draws", 20, "--out", tmp_path / "b.h5", stdout=pipe, stderr=pipe).wait(300) == 0
    assert gf.open(tmp_path / "b.h5").draws == 20


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_results_that_cannot_be_printed(own_arrays, monkeypatch, capsys):
    with open("/dev/full", "w") as full, monkeypatch.context() as printed:
        printed.setattr(sys, "stdout", full)
        assert main(["theory", "--task", str(own_arrays), "--width", "3"]) == 1
    one_line(capsys)


def refuse(*_, **__):
    raise FULL


def one_line(capsys):
    said = capsys.readouterr().err.splitlines()
    (line,) = [line for line in said if not line.startswith(("sweep: ", "train: "))]
    assert line.startswith("gibbsformer: No space left on device: free some space")


@pytest.mark.parametrize("place", [(result, "write"), (files, "write")], ids=["result", "index"])
def test_a_full_disk_ends_a_sweep_in_one_line(place, plan, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert main(["sweep", str(plan), "--out", str(out)]) == 0
    first, _ = sorted((out / "points").iterdir())
    first.unlink()
    capsys.readouterr()
    with monkeypatch.context() as full:
        full.setattr(*place, refuse)
        assert main(["sweep", str(plan), "--out", str(out)]) == 1
    one_line(capsys)
    assert not first.exists()
    assert main(["sweep", str(plan), "--out", str(out)]) == 0


def test_a_full_disk_ends_training_and_reports_in_one_line(characters, plan, tmp_path, monkeypatch, capsys):
    tiny = gf.training.Config(heads=(1,), key_width=4, width=8, channels=1, batch=8, steps=4)
    monkeypatch.setattr(gf.tasks, "characters_by_name", lambda name: characters)
    monkeypatch.setitem(gf.training.CONFIGS, "small", tiny)
    out, page, network = tmp_path / "out", tmp_path / "page.html", tmp_path / "net.safetensors"
    assert main(["sweep", str(plan), "--out", str(out)]) == 0
    page.write_text("old")
    capsys.readouterr()
    monkeypatch.setattr(os, "fsync", refuse)
    assert main(["report", str(out), "--out", str(page)]) == 1
    one_line(capsys)
    assert page.read_text() == "old"
    assert main(["train", "--data", "glyphs", "--out", str(network)]) == 1
    one_line(capsys)
    assert not network.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "page.html", "plan.toml"]


@pytest.mark.slow
@pytest.mark.parametrize("bytes_left", [100, 3000, 9000])
def test_a_disk_that_is_really_full(bytes_left, plan, tmp_path):
    """Files of this process may not grow beyond a limit, as on a full disk: one line, no crash at its end."""
    out = tmp_path / "ready"
    gf.sweep(plan, out, progress=False)
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, bytes_left))}
    commands = [
        ("sweep", plan, "--out", tmp_path / "out"),
        ("report", out, "--out", tmp_path / "page.html"),
        ("train", "--data", "glyphs", "--steps", 2, "--out", tmp_path / "net.safetensors", "--quiet"),
    ]
    for command in commands:
        process = run_cli(*command, **limit)
        said = process.communicate(timeout=300)[1].splitlines()
        assert process.returncode == 1, (command, said)
        (line,) = [line for line in said if not line.startswith("sweep: ")]
        assert re.match(r"gibbsformer: (.*: )?File too large: free some space", line)
    assert not list(tmp_path.rglob(".*"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system in memory of so many KiB, and a function that makes it large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("file systems cannot be mounted here")

    def resize(KiB):
        subprocess.run(["mount", "-o", f"remount,size={KiB}k", folder], check=True)

    yield folder, resize
    subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("KiB", "workers"), [(8, 1), (20, 2)])
def test_a_small_disk(small_disk, KiB, workers, plan, tmp_path):
    """Sweep, report and training end in one line, without a crash of the interpreter, and go on once there is room."""
    if workers > 1:
        pytest.importorskip("cryptography")
    folder, resize = small_disk
    resize(KiB)
    plan.write_text(plan.read_text().replace("[3, 30]", "[3, 30, 31, 32]"))
    ready = gf.sweep(plan, tmp_path / "ready", progress=False).folder
    sweep = ("sweep", plan, "--out", folder / "out", "--workers", workers, "--quiet")
    train = ("train", "--data", "glyphs", "--steps", 2, "--out", folder / "net.safetensors", "--quiet")
    report = ("report", ready, "--out", folder / "page.html")
    for command in (sweep, train, report):
        process = run_cli(*command)
        said = process.communicate(timeout=300)[1].splitlines()
        assert process.returncode == 1, (command, said)
        assert [bool(re.match(r"gibbsformer: (.*: )?No space left on device: free", line)) for line in said] == [True]
    resize(10_000)
    for command in (sweep, train, report):
        process = run_cli(*command)
        assert process.communicate(timeout=300)[1] == ""
        assert process.returncode == 0
