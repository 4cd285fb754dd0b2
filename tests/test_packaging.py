"""What is installed: all that is imported is declared, one version, a wheel made from the source archive is whole.
Workflows, commit hooks and the lock file agree with the project."""

import ast
import datetime
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gibbsformer as gf
from gibbsformer import sweeps
from gibbsformer.cli import parser as _parser

CHECKOUT = Path(__file__).parents[1]
PACKAGE = Path(gf.__file__).parent
if not (CHECKOUT / "pyproject.toml").is_file():
    pytest.skip("no checkout", allow_module_level=True)

MAKEFILE = (CHECKOUT / "Makefile").read_text()
WORKFLOWS = {"tests.yml": ["make check", "make test"], "docs.yml": ["make docs"], "wheel.yml": ["python -m build"]}
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
PYTHONS = [last for c in PROJECT["classifiers"] if "." in (last := c.rpartition(" :: ")[2])]
MODULE_OF = {"pillow": "PIL"}  # distributions whose module has another name
BROUGHT = {"arviz_stats": "arviz", "jaxlib": "jax", "markupsafe": "jinja2"}  # modules that come with what is declared


def files(*suffixes: str) -> dict[str, Path]:
    """Files of the package by name in it; a search does not follow links, which the rooms of a checkout are."""
    folders = [path for path in PACKAGE.iterdir() if path.is_dir()]
    found = [*PACKAGE.glob("*"), *(path for folder in folders for path in folder.rglob("*"))]
    return {path.relative_to(PACKAGE).as_posix(): path for path in sorted(found) if path.suffix in suffixes}


def modules_of(requirements) -> set[str]:
    names = (re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements)
    return {MODULE_OF.get(name, name.replace("-", "_")) for name in names}


def imported(path: Path) -> set[str]:
    """Modules of other distributions that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.partition(".")[0])
    return {BROUGHT.get(name, name) for name in found} - sys.stdlib_module_names - {"gibbsformer"}


def test_imports_are_declared_and_extras_are_imported_in_one_place():
    needed = {name: imported(path) for name, path in files(".py").items()}
    assert len(needed) > 100
    base, extra = modules_of(PROJECT["dependencies"]), modules_of(PROJECT["optional-dependencies"]["sweeps"])
    beyond = {name: modules - base for name, modules in needed.items() if modules - base}
    peers = {"gpytorch", "torch"}  # measured where they are installed
    assert beyond == {
        "sweeps/clusters.py": extra, "tasks/digits.py": {"sklearn"}, "benchmarks/examples.py": peers,
    }  # fmt: skip
    assert base <= set().union(*needed.values()) | {"h5netcdf"}  # xarray imports it for our files


def test_without_the_extra_one_line_says_which(monkeypatch, tmp_path):
    plan = {"axes": {"widths": [3]}, "compute": {"theory": True}}
    for missing, call in [
        ("distributed", lambda: sweeps.sweep(plan, tmp_path / "out", workers=2)),
        ("dask", lambda: sweeps.sweep(plan, tmp_path / "out", scheduler="tcp://localhost:1")),
        ("dask", lambda: sweeps.local_cluster(2)),
        ("dask_jobqueue", lambda: sweeps.job_cluster("slurm")),
    ]:
        with monkeypatch.context() as without:
            without.setitem(sys.modules, missing, None)
            with pytest.raises(ValueError, match=r"not installed: run pip install 'gibbsformer\[sweeps\]'") as raised:
                call()
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_the_version_is_written_once_and_cited():
    assert gf.__version__ == version("gibbsformer")
    cited = re.findall(r"^version: (\S+)$", (CHECKOUT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == [PROJECT["version"]]
    assert f"## {PROJECT['version']} " in (CHECKOUT / "CHANGELOG.md").read_text()
    said = re.compile(rf"[\"']{re.escape(PROJECT['version'])}[\"']")
    assert not [name for name, path in files(".py").items() if said.search(path.read_text())]


def test_the_changelog_starts_with_the_current_version():
    headings = re.findall(r"^## (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    released = [heading.split(" - ") for heading in headings if heading != "Unreleased"]
    assert headings.index("Unreleased") == 0
    assert released[0][0] == PROJECT["version"]
    dates = [datetime.date.fromisoformat(date) for _, date in released]
    assert dates == sorted(dates, reverse=True)
    changes = set(re.findall(r"^### (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE))
    assert changes <= {"Added", "Changed", "Deprecated", "Fixed", "Removed", "Security"}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*  ## \S", MAKEFILE, re.MULTILINE))


def recipe(target: str) -> list[str]:
    """Command lines of one target, with the variables that they use replaced by their values."""
    lines = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in lines.splitlines()]


def test_every_make_target_is_described():
    assert make_targets() == set(re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[1].split())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_run_what_exists(name):
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / name).read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    ran = []
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        assert job.get("strategy", {}).get("matrix", {}).get("python", PYTHONS) == PYTHONS
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "owner/action@v1"))
            assert str(step.get("with", {}).get("python-version", PYTHONS[0])) in [*PYTHONS, "${{ matrix.python }}"]
            for line in step.get("run", "").splitlines():
                ran.append(command := shlex.split(line))
                if command[0] == "make":
                    assert set(command[1:]) <= make_targets(), line
                elif command[0].endswith("/gibbsformer") and "--version" not in command:
                    _parser().parse_args(command[1:])  # stops the test if there is no such option
    assert set(WORKFLOWS[name]) <= {" ".join(command) for command in ran}


def test_hooks_are_the_checks_of_make_check():
    config = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"] if hook["language"] != "pygrep"]
    assert {hook["language"] for hook in hooks} == {"system"}
    tools = [" ".join(w for w in hook["entry"].split() if not w.startswith("-")) for hook in hooks]
    checks = [" ".join(w for w in line.split() if not w.startswith("-") and w != ".") for line in recipe("check")]
    assert sorted(tools) == sorted(checks)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_file_has_every_dependency_within_its_bounds(python):
    text = (CHECKOUT / "requirements.lock").read_text()
    assert not re.search(r"[/@\\]", text), "a host or a path of the machine that wrote it"
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.9"}
    pins: dict[str, str] = {}
    for line in re.findall(r"^[^#\n]+", text, re.MULTILINE):
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate(environment):
            assert canonicalize_name(pin.name) not in pins, f"{pin.name} has two versions"
            ((operator, pinned),) = [(part.operator, part.version) for part in pin.specifier]
            assert operator == "=="
            pins[canonicalize_name(pin.name)] = pinned
    unlocked = {"pretrained", "modules"}  # PyTorch has many builds; libraries that pin others
    extras = {k: v for k, v in PROJECT["optional-dependencies"].items() if k not in unlocked}
    for line in chain(PROJECT["dependencies"], *extras.values()):
        wanted = Requirement(line)
        if wanted.name != "gibbsformer":
            assert canonicalize_name(wanted.name) in pins, f"{line} is not locked: run make lock"
            assert pins[canonicalize_name(wanted.name)] in wanted.specifier, f"{line} has changed: run make lock"


@pytest.mark.slow  # downloads the build backend
def test_a_wheel_made_from_the_source_archive_holds_the_package(tmp_path):
    pytest.importorskip("build")
    # a copy without what earlier builds left, which setuptools would take for files to include
    copy, ignored = (
        tmp_path / "copy",
        shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "demo", "__pycache__"),
    )
    shutil.copytree(CHECKOUT, copy, symlinks=True, ignore=ignored)
    # the archive first, and the wheel from it: links to the rooms are files there
    command = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(f"gibbsformer-{PROJECT['version']}.dist-info/METADATA").decode()
    assert held == {f"gibbsformer/{name}" for name in files(".py", ".typed", ".html", ".css", ".js", ".json")}
    assert "Requires-Dist: jax[cuda13]" in metadata
