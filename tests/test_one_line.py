"""What the tables promise: a new verb, figure or benchmark suite is one module or function, and one line.

Kernels and targets: tests/sampler/test_own_code.py. Tasks: tests/tasks/test_named.py.
"""

import sys
import types

import pytest

import gibbsformer as gf
from gibbsformer import cli, figures
from gibbsformer.benchmarks import harness, suite


@pytest.fixture(autouse=True)
def _one_device(monkeypatch):
    """The command line leaves the devices of a process as they are where they were set."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")


def test_a_verb(monkeypatch, capsys):
    module = types.ModuleType("gibbsformer.cli.greet")
    module.HELP = "say hello"
    module.add_arguments = lambda parser: parser.add_argument("--name", default="you", help="whom to greet")
    module.run = lambda options: print(f"hello {options.name}") or 0
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cli, "VERBS", (*cli.VERBS, "greet"))
    assert cli.main(["greet", "--name", "Ada"]) == 0
    assert capsys.readouterr().out == "hello Ada\n"


def test_a_figure(monkeypatch, tmp_path):
    def blank(folder, options):
        path = folder / "blank.csv"
        path.write_text("N\n10\n")
        return [path]

    monkeypatch.setitem(figures.FIGURES, "9z", blank)
    assert gf.figures.figure("9z", tmp_path, progress=False) == [tmp_path / "blank.csv"]


def test_a_suite(monkeypatch, tmp_path):
    module = types.ModuleType("gibbsformer.benchmarks.nothing")
    module.__doc__ = "Nothing: one table\n"
    module.measure = lambda options: harness.Measured(
        [harness.Table("count", [{"a": 1}], {"a": "d"})], {"one": 1.0}, {}
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(suite, "SUITES", (*suite.SUITES, "nothing"))
    (found,) = suite.bench(["nothing"], tmp_path)
    assert found["problem"] is None
    assert found["tables"][0].startswith("count")
