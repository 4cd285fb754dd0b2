"""The command line: text and JSON, exit codes, one line on stderr for what a user got wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import h5py
import numpy as np
import pytest
import xarray as xr

import gibbsformer as gf
from gibbsformer.cli import main

VERBS = (
    "demo", "sample", "resume", "theory", "figure", "evidence", "compare", "report", "inspect", "merge", "export",
    "train",
)  # fmt: skip


@pytest.fixture(scope="module")
def own_arrays(tmp_path_factory):
    """A tiny task of a user's own arrays."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("cli") / "own.npz"
    x = rng.standard_normal((12, 4, 5))
    arrays = {"x": x[:8], "y": np.sign(x[:8, 0].sum(1)), "x_test": x[8:], "y_test": np.sign(x[8:, 0].sum(1))}
    np.savez(path, W_1=rng.standard_normal((2, 4, 4)), Q_2=np.ones((1, 3, 4)), K_2=np.ones((1, 3, 4)), **arrays)
    return path


@pytest.fixture(scope="module")
def sampled(own_arrays):
    out = own_arrays.parent / "run.h5"
    options = ["--width", "3", "--temperature", "0.5", "--warmup", "50", "--draws", "60", "--chains", "2"]
    command = ["sample", "--task", str(own_arrays), *options, "--seed", "1", "--out", str(out), "--quiet"]
    return out, command


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    # the test process has already started XLA, after which the number of devices is fixed
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")


@pytest.mark.slow
def test_a_terminated_command_stores_what_there_is_and_says_how_to_continue(sampled, tmp_path, capsys):
    _, command = sampled
    out = tmp_path / "run.h5"
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    timer = threading.Thread(target=_terminate_once_there_are_draws, args=(out,), daemon=True)
    timer.start()
    try:
        assert main([*command, "--draws", "10000000", "--out", str(out)]) == 130
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert f"interrupted; continue with: gibbsformer resume {out}" in capsys.readouterr().err
    assert 0 < gf.open(out).draws < 10**7


def _terminate_once_there_are_draws(path):
    while True:
        time.sleep(0.1)
        if path.exists() and gf.open(path).draws:
            os.kill(os.getpid(), signal.SIGTERM)
            return


def test_few_draws_are_said_and_not_compared(sampled, tmp_path, capsys):
    _, command = sampled
    assert main([*command, "--draws", "3", "--out", str(tmp_path / "run.h5"), "--require-converged"]) == 3
    assert capsys.readouterr().out.startswith("3 draws in ")


def test_sample_then_compare_and_inspect(sampled, capsys):
    out, command = sampled
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "collapsed: 2 chains x 60 draws" in text
    assert "U_1[(1 1), (2 1)]" in text
    assert "test accuracy" in text
    for verb in ("compare", "inspect"):
        assert main([verb, str(out)]) == 0
        assert capsys.readouterr().out
        assert main([verb, str(out), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["draws"] == 60
    assert found["complete"] is True
    assert found["settings"]["about"]["seed"] == 1

    page = out.with_suffix(".html")
    assert main(["report", str(out), "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"written: {page}\n"
    with h5py.File(out) as file:
        assert f">{file.attrs['uuid']}<" in page.read_text()

    # again: refused, unless told to overwrite; then 3, since 60 draws are too few
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--overwrite" in error
    assert main([*command, "--overwrite", "--require-converged"]) == 3
    assert "! ESS falls to" in capsys.readouterr().out


def test_resume_merge_export_and_verify(own_arrays, capsys, tmp_path):
    options = ["--task", str(own_arrays), "--width", "3", "--temperature", "0.5", "--warmup", "5", "--draws", "10"]
    options += ["--chains", "2", "--quiet", "--kernel", "hmc", "--option", "integration_steps=3", "--thin", "2"]
    files = []
    for seed in ("1", "2"):
        files.append(str(tmp_path / f"{seed}.h5"))
        assert main(["sample", *options, "--out", files[-1], "--seed", seed]) == 0
    assert main(["resume", files[0], "--draws", "15", "--quiet"]) == 0
    assert "2 chains x 15 draws" in capsys.readouterr().out
    assert main(["inspect", files[0], "--verify", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["complete"]
    assert found["settings"]["options"]["integration_steps"] == 3
    assert found["verified"]["draws"] == 15
    assert main(["inspect", files[0], "--verify"]) == 0
    assert "MiB with checksums" in capsys.readouterr().out

    everything = str(tmp_path / "all.h5")
    about = ["--out", everything]
    assert main(["merge", *files, *about]) == 2  # different seeds are recorded as different runs
    assert "about" in capsys.readouterr().err
    assert main(["merge", files[0], files[0], *about]) == 2
    assert "same key" in capsys.readouterr().err
    part = tmp_path / "part.nc"
    assert main(["export", files[0], "--variables", "U_a", "--thin", "5", "--out", str(part), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": str(part)}
    with xr.open_dataset(part, group="posterior", engine="h5netcdf") as data:
        assert dict(data.sizes) == {"chain": 2, "draw": 3}


def test_stops_early_when_told_to(own_arrays, capsys, tmp_path):
    command = ["sample", "--task", str(own_arrays), "--width", "3", "--temperature", "0.5", "--chains", "2", "--quiet"]
    out = str(tmp_path / "run.h5")
    assert main([*command, "--draws", "50000", "--until-ess", "100", "--out", out, "--require-converged"]) in (0, 3)
    capsys.readouterr()
    assert main(["inspect", out]) == 0
    assert "stopped: ESS and R-hat as asked" in capsys.readouterr().out


def test_theory(own_arrays, capsys):
    assert main(["theory", "--task", str(own_arrays), "--width", "5", "--temperature", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["converged"] is True
    assert np.shape(found["U_1"]) == (2, 2)
    assert set(found["accuracy"]) == {"theory", "gp"}
    assert main(["theory", "--task", str(own_arrays), "--width", "5", "--temperature", "0.5"]) == 0
    assert "theory at N = [5, 5, 5], T = 0.5: converged" in capsys.readouterr().out


@pytest.mark.slow
def test_evidence(own_arrays, capsys):
    command = ["evidence", "--task", str(own_arrays), "--width", "5", "--temperature", "0.5", "--particles", "32"]
    assert main([*command, "--repeats", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["repeats"]) == 2
    assert 0 < found["error"] < 1
    assert set(found["accuracy"]) == {"theory"}
    assert main([*command, "--repeats", "2"]) == 0
    assert f"log evidence   {found['log_evidence']:.3f} +- {found['error']:.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["theory", "--task", "hnm"], "did you mean 'hmm'"),
        (["theory", "--task", "figs"], "choose one of hmm, one-shot, digits, teacher, FILE.npz"),
        (["theory", "--task", "missing.npz"], "'missing.npz'"),
        (["theory", "--width", "0"], "width=0"),
        (["theory", "--temperature", "-1"], "temperature=-1.0"),
        (["theory", "--temperature", "nan"], "temperature=nan"),
        (["evidence", "--particles", "1"], "particles=1"),
        (["evidence", "--repeats", "0"], "repeats=0"),
        (["theory", "--width", "ten"], "invalid int value: 'ten'"),
        (["sample", "--kernel", "nutz", "--out", "r.h5"], "did you mean 'nuts'"),
        (["sample", "--kernel", "nuts"], "--out"),
        (["sample", "--kernel", "nuts", "--option", "max_doubling=3", "--out", "r.h5"], "did you mean 'max_doublings'"),
        (["sample", "--kernel", "nuts", "--option", "max_doublings", "--out", "r.h5"], "NAME=VALUE"),
        (["sample", "--kernel", "gibbs", "--option", "steps=3", "--out", "r.h5"], "has none"),
        (["sample", "--kernel", "sgld", "--option", "batch_size=9", "--out", "r.h5"], "batch_size=9"),
        (["sample", "--until-rhat", "0.9", "--out", "r.h5"], "rhat=0.9"),
        (["sample", "--thin", "0", "--out", "r.h5"], "thin=0"),
        (["resume", "missing.h5"], "missing.h5"),
        (["merge", "a.h5", "--out", "b.h5"], "two files or more"),
        (["export", "missing.h5", "--out", "b.nc"], "missing.h5"),
        (["sample", "--draws", "0", "--out", "r.h5"], "draws=0"),
        (["sample", "--chains", "0", "--out", "r.h5"], "chains=0"),
        (["sample", "--out", "no/such/folder/r.h5"], "out='no/such/folder/r.h5' is in directory "),
        (
            ["report", "r.h5", "--out", "no/r.html"],
            "out='no/r.html' is in directory ",
        ),
        (["report", "r.h5", "--out", "r.pdf"], "out='r.pdf' must end in .html"),
        (["train", "--data", "omniglot=no/such", "--out", "n.safetensors"], "data='omniglot=no/such': path='no/such'"),
        (["sample", "--precision", "float16", "--out", "r.h5"], "precision='float16'"),
        (["compare", "missing.h5"], "missing.h5"),
        (["inspect", __file__], "is not an HDF5 file"),
        (["thoery"], "theory"),
        ([], "VERB"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_2(own_arrays, arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if arguments[:1] == ["sample"]:
        arguments = [*arguments, "--task", str(own_arrays)]  # faster than the default
    try:
        code = main(arguments)
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", VERBS)
def test_help(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_module_runs():
    done = subprocess.run([sys.executable, "-m", "gibbsformer", "--help"], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in VERBS)


def test_residual_option():
    from gibbsformer.cli import parser
    from gibbsformer.cli.options import problem

    for words, expected in (([], (0.0, 0.0)), (["--residual"], (1.0, 1.0)), (["--residual", "0", "2"], (0.0, 2.0))):
        task, posterior = problem(parser().parse_args(["theory", "--task", "hmm", *words]))
        assert task.residual == posterior.network.residual == expected


@pytest.mark.slow
def test_every_verb_takes_residual_networks(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((6, 4, 3)), "y": rng.standard_normal(6), "residual": np.array([1.0, 0.5])}
    arrays |= {"W_1": rng.standard_normal((1, 4, 4)), "W_2": rng.standard_normal((2, 4, 4))}
    np.savez(tmp_path / "own.npz", **arrays, x_test=arrays["x"][:3], y_test=arrays["y"][:3])
    files = [str(tmp_path / f"{name}.h5") for name in ("one", "two")]
    shared = ["--task", str(tmp_path / "own.npz"), "--width", "6", "--temperature", "0.5"]
    for seed, path in enumerate(files):
        sizes = ["--chains", "2", "--warmup", "20", "--draws", "20", "--quiet"]
        assert main(["sample", *shared, "--seed", str(seed), "--out", path, *sizes]) == 0
    page, exported = str(tmp_path / "page.html"), str(tmp_path / "U.nc")
    for command in (
        ["resume", files[0], "--draws", "25", "--quiet"], ["resume", files[1], "--draws", "25", "--quiet"],
        ["inspect", files[0], "--verify"], ["compare", files[0]],
        ["report", files[0], "--out", page], ["export", files[0], "--variables", "U_1", "--out", exported],
        ["theory", *shared], ["evidence", *shared, "--particles", "32", "--repeats", "2"],
    ):  # fmt: skip
        assert main(command) == 0, command
    assert "U_1[(skip skip), (skip skip)]" in capsys.readouterr().out
    assert "(skip 1)" in (tmp_path / "page.html").read_text()
    assert gf.open(files[0]).posterior.network.residual == (1.0, 0.5)
    assert main(["theory", *shared, "--residual"]) == 2
    assert "residual=True is not an option of a file of arrays" in capsys.readouterr().err
