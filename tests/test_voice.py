"""Errors, warnings and help texts: one line that shows the value and says what to do."""

import argparse
import ast
import re
from pathlib import Path

import pytest

import gibbsformer as gf
from gibbsformer.cli import parser as _parser

PACKAGE = Path(gf.__file__).parent
# What to do is said by a verb in the imperative, or by text that is passed in.
REMEDY = re.compile(
    r"\b(give|use|make|must|choose|raise|remove|leave|add|see|check|close|create|run|wait|look|sample|resume|lift|put"
    r"|upgrade|overwrite|write|continue|keep|ask|solve|start|merge|install|draw)\b|\{(remedy|_REMEDY|what|error|where|theory\.problem)\}"
)
LINE_BREAK = re.compile(r"\n")


def spoken(source: str) -> list[str]:
    """What a module raises as InputError or warns of; values in braces, as they stand in the code."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args]
    named = [c.args[0] for c in calls if ast.unparse(c.func).endswith(("InputError", "warnings.warn", "SchedulerLost"))]
    return [text for text in map(literal, named) if text]


def literal(node) -> str:
    """The text of a string or f-string, nothing of other expressions."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    parts = node.values if isinstance(node, ast.JoinedStr) else []
    return "".join(
        literal(part) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}" for part in parts
    )


def faults(text: str) -> list[str]:
    return ["no remedy"] * (not REMEDY.search(text)) + ["more than one line"] * bool(LINE_BREAK.search(text))


def test_every_message_is_one_line_with_a_remedy():
    folders = [path for path in PACKAGE.iterdir() if path.is_dir()]
    found = {text: path for folder in folders for path in folder.rglob("*.py") for text in spoken(path.read_text())}
    assert len(found) > 150
    wrong = [
        f"{path.parent.name}/{path.name}: {faults(text)} in {text!r}" for text, path in found.items() if faults(text)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_option_has_a_help_text_of_one_line():
    (verbs,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    helped = {f"{name} {a.dest}": a.help for name, verb in verbs.choices.items() for a in verb._actions}
    assert len(helped) > 90
    assert not [name for name, text in helped.items() if not text or LINE_BREAK.search(text)]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("raise checks.InputError(f'x={x}: give a number')", []),
        ("raise checks.InputError(f'x={x} ' 'is wrong')", ["no remedy"]),
        ("warnings.warn('give a name\\nof it', W)", ["more than one line"]),
    ],
)
def test_the_check_finds_what_is_wrong(source, found):
    (text,) = spoken(source)
    assert faults(text) == found
