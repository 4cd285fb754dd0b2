"""Real processes that append and are stopped; run as a script by test_crash.py.

killed.py kill FOLDER TRIALS SEED         SIGKILL at random moments; says how many trials were fine
killed.py interrupt FOLDER TRIALS SEED    the same with Ctrl-C
killed.py full PATH BYTES                 append until the file would be larger than that
killed.py copies FOLDER BYTES             merge and export, with files no larger than that
killed.py fork PATH                       fork a process that ends while the file is open
"""

import os
import random
import resource
import signal
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import toy

from gibbsformer import cli
from gibbsformer.store import SampleFile, export, merge


def write(path: Path, acknowledge) -> None:
    file = SampleFile.resume(path) if path.exists() else toy.create(path)
    with file:
        first = file.length // toy.DRAWS + 1
        for commit in range(first, first + 1000):
            toy.append(file, commit)
            acknowledge()


def trial(path: Path, number: int, rng: random.Random) -> None:
    """Let a process append, stop it, and check the file; AssertionError if it is not as it must be."""
    before = toy.commits_in(path) if path.exists() else 0
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            write(path, lambda: os.write(sender, b"."))
        except KeyboardInterrupt:
            sys.exit(0)  # through the interpreter's whole shutdown
        os._exit(3)  # nobody stopped it
    os.close(sender)
    time.sleep(rng.uniform(0.0, 0.25))
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    acknowledged = before
    while received := os.read(receiver, 1000):
        acknowledged += len(received)
    os.close(receiver)
    assert status in (0, number), f"the process ended with status {status}"
    if not path.exists():
        assert acknowledged == 0
        return
    commits = toy.commits_in(path)
    assert acknowledged <= commits <= acknowledged + 1, f"{acknowledged} acknowledged, {commits} found"
    toy.check_resumes(path, commits)


def trials(folder: Path, count: int, seed: int, number: int) -> None:
    rng = random.Random(seed)
    for i in range(count):
        trial(folder / f"{i // 4}.h5", number, rng)  # each file is stopped four times
    print(count)


def full(path: Path, limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    file = toy.create(path)
    for commit in range(1, 1000):
        try:
            toy.append(file, commit)
        except OSError as error:
            print(commit - 1, error.strerror)
            break
    try:
        toy.append(file, commit)
    except OSError as error:
        print(error.strerror)
    # not closed: the interpreter's shutdown has to cope


def copies(folder: Path, limit: int) -> None:
    """Merge and export, of a few MB, where no file may be larger than that: what they say."""
    paths = [folder / "a.h5", folder / "b.h5"]
    for i, path in enumerate(paths):
        with toy.create(path, {"key_data": [0, i]}) as file:
            for commit in range(1, 40):
                toy.append(file, commit)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for copy in (lambda: merge(paths, folder / "all.h5"), lambda: export(paths[0], folder / "part.nc")):
        try:
            copy()
        except ValueError as error:
            print(error)
    sys.exit(cli.main(["export", str(paths[0]), "--out", str(folder / "part.nc")]))


def forked(path: Path) -> None:
    file = toy.create(path)
    toy.append(file, 1)
    if (child := os.fork()) == 0:
        sys.exit(0)
    os.waitpid(child, 0)
    toy.append(file, 2)
    assert path.with_name("run.h5.lock").exists()
    file.close()
    print(toy.commits_in(path))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    match sys.argv[1:]:
        case ["kill", folder, count, seed]:
            trials(Path(folder), int(count), int(seed), signal.SIGKILL)
        case ["interrupt", folder, count, seed]:
            trials(Path(folder), int(count), int(seed), signal.SIGINT)
        case ["fork", path]:
            forked(Path(path))
        case ["copies", folder, limit]:
            copies(Path(folder), int(limit))
        case ["full", path, limit]:
            full(Path(path), int(limit))
