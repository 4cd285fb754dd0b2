"""The attacks themselves: each way to fail is counted as what it is, and a few trials of each kind find nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# what a command does -> what that is called; the last line is what the harness prints
CASES = """
import os, signal, sys, time
from tests.attack import child, processes
from tests.attack.outcomes import Attack, Outcome, render, tally, worst

def say(code, *lines):
    print(*lines, sep="\\n", file=sys.stderr)
    return code

ways = {
    "equal": lambda _: say(0, "gibbsformer: run.h5 needs 1 GiB of disk, 9 GiB are free"),
    "refused": lambda _: say(2, "gibbsformer: x=1 is wrong: give 2"),
    "refused too": lambda _: say(2, "gibbsformer: run.h5 needs 9 GiB of disk, 1 GiB are free: use another disk"),
    "traceback": lambda _: [][0],
    "traceback of two lines": lambda _: say(2, "gibbsformer: this", "and that"),
    "traceback of silence": lambda _: 1,
    "traceback of an escape": lambda _: say(2, "gibbsformer: \\x1b[2J"),
    "crash": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": lambda _: time.sleep(60),
}
found = []
for name, child.main in ways.items():
    found.append(processes.run("verb", seconds=1.0))
    assert found[-1].kind == name.split()[0], (name, found[-1])
assert worst(found).kind == "crash"
rows = {may: tally(Attack("any", None, may_refuse=may), iter(found))[0] for may in (True, False)}
assert (rows[True]["refused"], rows[True]["wrong"]) == (2, 0)
assert (rows[False]["refused"], rows[False]["wrong"]) == (0, 2)
print(render({"any": rows[True]}, {"any": 1.2}))
"""


def test_what_comes_of_a_command_is_counted_as_what_it_is():
    done = subprocess.run([sys.executable, "-c", CASES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    heads, row = (line.split() for line in done.stdout.splitlines())
    assert dict(zip(heads[1:], map(int, row[1:]), strict=True)) == {
        "trials": 9, "equal": 1, "refused": 2, "wrong": 0, "traceback": 4, "hang": 1, "crash": 1, "outside": 0,
        "seconds": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_a_few_trials_of_each_kind():
    command = [sys.executable, "-m", "tests.attack", "--trials", "2", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) > 15
