"""What README and docs print can be typed: the README's session runs, commands parse, names and arguments exist."""

import argparse
import ast
import inspect
import os
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest

import gibbsformer as gf
from gibbsformer.cli import parser as _parser

CHECKOUT = Path(__file__).parents[1]
README = CHECKOUT / "README.md"
PAGES = [README, CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md"))] if README.is_file() else []


def test_python_session(tmp_path, monkeypatch, capsys):
    if not README.is_file():
        pytest.skip("no checkout")
    (session,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    namespace: dict = {}
    exec(compile(session, "README.md", "exec"), namespace)  # a failure shows the line
    assert "U_1[good, denoising]" in capsys.readouterr().out
    # the fresh draw of this key: theory 0.949, GP 0.808
    assert (
        namespace["gf"].accuracy(
            namespace["gf"].predict(namespace["run"], namespace["data_test"]), namespace["task"].test.y
        )
        > 0.9
    )
    assert namespace["weights"]["V_0"].shape == (4, 25, 10, 231)


@pytest.mark.slow
def test_first_hour_from_top_to_bottom(tmp_path, monkeypatch, capfd):
    """Every block as it stands, in one directory, in a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    namespace: dict = {}
    for language, block in re.findall(
        r"^```(sh|python)\n(.*?)^```", (CHECKOUT / "docs" / "first_hour.md").read_text(), re.MULTILINE | re.DOTALL
    ):
        if language == "sh":
            subprocess.run(["bash", "-euc", block], check=True)
        else:
            exec(compile(block, "first_hour.md", "exec"), namespace)
    shown = capfd.readouterr().out
    assert "NOT" not in shown
    assert "!" not in shown
    assert shown.count("\nconverged") >= 2
    assert re.search(r"U_1\[good, denoising\] +-\d\.\d+ +-\d\.\d+ ", shown)
    assert (tmp_path / "report.html").stat().st_size > 10_000


def commands(text: str) -> list[str]:
    """Command lines of fenced and indented blocks, and those in the text; optional parts in brackets count too."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)) + re.sub(
        r"^(?! {4}).*", "", text, flags=re.MULTILINE
    )
    lines = re.findall(r"^\s*(gibbsformer .*|make .*|python (?:benchmarks|tutorials)/.*)$", blocks, re.MULTILINE)
    inline = re.findall(r"`((?:gibbsformer [a-z]+ |make |python (?:benchmarks|tutorials)/)[^`]+)`", text)
    return [re.sub(r"[\[\]]", "", re.sub(r"  +.*|#.*", "", line)) for line in lines + inline]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(page.read_text()):
        program, *arguments = shlex.split(command)
        if program == "make":
            assert {word for word in arguments if "=" not in word} <= targets, command
        elif program == "python":
            assert (CHECKOUT / arguments[0]).is_file(), command
        else:
            try:
                _parser().parse_args(arguments)
            except SystemExit as stopped:
                if stopped.code:  # not --help
                    pytest.fail(f"{command}: stderr says what is wrong")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_use_what_exists(page):
    for block in python_blocks(page.read_text()):
        tree = ast.parse(block)  # a failure shows the line
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and dotted(node):
                resolve(dotted(node), block)
            if isinstance(node, ast.Call) and dotted(node.func):
                check_keywords(node, resolve(dotted(node.func), block))
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "gibbsformer":
                for alias in node.names:
                    resolve([*node.module.split(".")[1:], alias.name], block)


def test_the_checks_find_what_is_wrong():
    page = (
        "    gibbsformer theory [--json]  gone\n`make demo`\n```sh\nmake test # x\n```\ngibbsformer says a sentence\n"
    )
    assert sorted(commands(page)) == ["gibbsformer theory --json", "make demo", "make test "]
    with pytest.raises(AssertionError, match=r"theory\.solv"):
        resolve(["theory", "solv"], "")
    with pytest.raises(AssertionError, match="chain"):
        check_keywords(ast.parse("gf.sample(p, chain=4)").body[0].value, gf.sample)


def dotted(node) -> list[str]:
    """["theory", "solve"] of gf.theory.solve; nothing for what does not start at the package."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return names[::-1] if isinstance(node, ast.Name) and node.id == "gf" else []


def resolve(names: list[str], where: str):
    found = gf
    for name in names:
        public = name in getattr(found, "__all__", [name]) or inspect.ismodule(getattr(found, name, None))
        assert public and hasattr(found, name), f"{'.'.join(names)} is no public name:\n{where}"  # noqa: PT018
        found = getattr(found, name)
    return found


def check_keywords(call: ast.Call, function) -> None:
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for keyword in call.keywords:
        assert keyword.arg in parameters, f"{keyword.arg}= of {ast.unparse(call)}"


def test_reference_pages_are_complete():
    if not PAGES:
        pytest.skip("no checkout")
    listed = re.findall(r"^::: gibbsformer\.(\S+)$", (CHECKOUT / "docs" / "api.md").read_text(), re.MULTILINE)
    public = {n for n in gf.__all__ if not isinstance(getattr(gf, n), types.ModuleType | dict)}
    # a function with the name of a module or folder is listed under its module, which the site would show otherwise
    parts = [name.split(".") for name in listed]
    full = {name[-1] for name in parts if name[0] == "evidence" or name[-1:] == name[-2:-1]}
    assert public <= set(listed) | full
    assert len(listed) == len(set(listed))
    actions = [a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)]
    shown = re.findall(r"^\| `([a-z]+)` \|", (CHECKOUT / "docs" / "command_line.md").read_text(), re.MULTILINE)
    assert set(shown) == set(actions[0].choices)
