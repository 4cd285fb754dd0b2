"""What is installed: all that is imported is declared, one version, a wheel made from the source archive is whole."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import gibbsformer as gf
from gibbsformer import sweeps

CHECKOUT = Path(__file__).parents[1]
PACKAGE = Path(gf.__file__).parent
if not (CHECKOUT / "pyproject.toml").is_file():
    pytest.skip("no checkout", allow_module_level=True)

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
MODULE_OF = {"pillow": "PIL"}  # distributions whose module has another name
BROUGHT = {"jaxlib": "jax", "markupsafe": "jinja2"}  # modules that come with what is declared


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
    assert beyond == {"sweeps/executors.py": extra}
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
