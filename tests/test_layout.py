"""The package's layout: links to the folders of the checkout, one-directional imports, an import without effects."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import gibbsformer

PACKAGE = Path(gibbsformer.__file__).parent
CHECKOUT = Path(__file__).resolve().parents[1]

# From bottom to top: a folder may import those before it, never those after.
ORDER = (
    "core",
    "models",
    "tasks",
    "theory",
    "store",
    "sampler",
    "diagnostics",
    "evidence",
    "training",
    "heads",
    "plot",
    "figures",
    "sweeps",
    "reports",
    "benchmarks",
)
INSIDE = ("cli",)  # of the package, not a link: above all others
# Independence that the order alone does not give.
NEVER = {"theory": {"store", "sampler"}, "store": {"models", "tasks", "theory"}, "training": {"sampler", "diagnostics"}}
ALLOWED = {folder: set(ORDER[:i]) - NEVER.get(folder, set()) for i, folder in enumerate(ORDER)}


@pytest.mark.parametrize("folder", ALLOWED)
def test_folder_of_the_package_is_the_folder_of_the_checkout(folder):
    linked = CHECKOUT / "gibbsformer" / folder
    if not (CHECKOUT / "gibbsformer").is_dir():
        pytest.skip("these tests run without a checkout of the package")
    target = CHECKOUT / folder
    assert target.is_dir(), f"{target} is missing: the code of gibbsformer.{folder} lives there"
    assert linked.is_symlink(), (
        f"{linked} is no symbolic link: restore it (`git checkout gibbsformer/{folder}`; on Windows with "
        "`git config core.symlinks true` first), or the package misses this folder"
    )
    assert linked.readlink() == Path("..", folder), f"{linked} points to {linked.readlink()}, not to ../{folder}"
    assert linked.resolve() == target.resolve()
    assert (linked / "__init__.py").is_file(), f"{target} has no __init__.py: it is no package"


def test_every_folder_of_the_package_has_rules():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ALLOWED) | set(INSIDE), "give the new folder its place in ORDER"


def imported_folders(path: Path) -> set[str]:
    """Folders of the package that one module imports, wherever in the file, relatively or by full name."""
    folders = set()
    outside = len(path.relative_to(PACKAGE).parts)  # dots of a relative import that leads out of the folder
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == outside:
            names = [f"gibbsformer.{node.module or alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            whole = node.module == "gibbsformer"
            names = [f"gibbsformer.{alias.name}" for alias in node.names] if whole else [node.module]
        else:
            assert getattr(node, "level", 0) < outside, f"{path}: imports from outside the package"
            continue
        folders |= {name.split(".")[1] for name in names if name.startswith("gibbsformer.")}
    return folders


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder):
    modules = sorted((PACKAGE / folder).rglob("*.py"))
    assert modules
    for path in modules:
        forbidden = imported_folders(path) - ALLOWED[folder] - {folder}
        assert not forbidden, f"{folder}/{path.name} imports {sorted(forbidden)}: {folder} may import {ALLOWED[folder]}"


def private_imports(path: Path) -> list[str]:
    """Names and modules beginning with an underscore that a module imports from another folder."""
    found, outside = [], len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == outside:
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found += [name for name in names if name.startswith("_") and name != "__version__"]
    return found


@pytest.mark.parametrize("folder", ALLOWED)
def test_no_private_import_across_folders(folder):
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        assert not private_imports(path), f"{folder}/{path.name} imports {private_imports(path)} of another folder"


PROBE = """
import json, logging, random
import jax, numpy as np

def state():
    root = logging.getLogger()
    return {
        "x64": bool(jax.config.jax_enable_x64),
        "level": root.level,
        "handlers": [repr(h) for h in root.handlers],
        "filters": len(root.filters),
        "disabled": logging.root.manager.disable,
        "numpy": [str(part) for part in np.random.get_state()],
        "python": hash(random.getstate()),
        "errors": np.geterr(),
        "prng": str(jax.config.jax_default_prng_impl),
        "matmul": str(jax.config.jax_default_matmul_precision),
        "threefry": bool(jax.config.jax_threefry_partitionable),
    }

np.random.seed(7)
before = state()
import gibbsformer
print(json.dumps([before, state()]))
"""


def test_import_changes_no_global_state():
    found = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    before, after = json.loads(found.stdout.splitlines()[-1])
    assert before == after
    assert found.stderr == ""


LATE = ("jax", "numpy", "scipy", "h5py", "arviz", "matplotlib", "pandas", "xarray", "gibbsformer.sampler")


@pytest.mark.parametrize("start", ["import gibbsformer", "from gibbsformer.cli import parser; parser().format_help()"])
def test_nothing_heavy_is_imported_at_the_start(start):
    code = f"{start}\nimport sys; print([name for name in {LATE} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "before", ["", "import gibbsformer.evidence.estimate", "import gibbsformer.evidence as e", "gibbsformer.sweep"]
)
def test_evidence_is_the_function_whatever_was_imported(before):
    """A folder has its name, which the import system would put in its place."""
    code = f"import gibbsformer\n{before}\nfrom gibbsformer import evidence\nimport gibbsformer as gf\n"
    code += "assert evidence is gf.evidence\nassert evidence.__module__ == 'gibbsformer.evidence.estimate'"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_type_checkers_see_the_public_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(gibbsformer.__all__)


def test_public_names_exist():
    for name in gibbsformer.__all__:
        assert hasattr(gibbsformer, name), name
    for folder in ALLOWED:
        module = importlib.import_module(f"gibbsformer.{folder}")
        for name in module.__all__:
            assert hasattr(module, name), f"{folder}.{name}"
