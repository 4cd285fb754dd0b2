"""A small problem, and the commands that work on it; what their results must be, bit for bit."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np

from .outcomes import EQUAL, WRONG, Outcome
from .processes import run

WIDTH, WARMUP, DRAWS = 24, 21, 90
SAMPLE = ("--width", WIDTH, "--temperature", 0.5, "--kernel", "gibbs", "--chains", 2, "--warmup", WARMUP, "--quiet")


def arrays(folder: Path) -> Path:
    """A task of one layer of two heads in a file."""
    rng, path = np.random.default_rng(5), folder / "own.npz"
    x = rng.standard_normal((12, 4, 5))
    y = np.sign(x[:, 0].sum(1))
    np.savez(path, W_1=rng.standard_normal((2, 4, 4)), x=x[:8], y=y[:8], x_test=x[8:], y_test=y[8:])
    return path


def plan(folder: Path, task: Path, compute: str, seeds=(0, 1)) -> Path:
    """A plan of two widths."""
    path = folder / "plan.toml"
    path.write_text(
        f"[axes]\ntasks = [{json.dumps(str(task))}]\nwidths = [3, 30]\ntemperatures = [0.5]\nseeds = {list(seeds)}\n"
        + ('kernels = ["gibbs"]\n' if "weights" in compute else "")
        + f"[compute]\n{compute}\n"
    )
    return path


def characters(gf):
    """Twenty characters of four drawings of noise."""
    rng = np.random.default_rng(0)
    return gf.tasks.Characters(
        rng.random((80, 32, 32)), np.repeat(np.arange(20), 4), tuple(f"pattern {i}" for i in range(20)), "noise"
    )


def sample(task: Path, out: Path, draws: int = DRAWS, seed: int = 0) -> tuple:
    """The command that samples; of its draws one variable is large enough for checksums of its own."""
    return "sample", "--task", task, *SAMPLE, "--seed", seed, "--draws", draws, "--out", out


def done(*command) -> None:
    """Run a command that must succeed, to have something to attack."""
    outcome = run(*command)
    if outcome.kind != EQUAL:
        raise RuntimeError(f"nothing to attack: {outcome.said}")


def sampled(folder: Path, draws: int = DRAWS, name: str = "run.h5", seed: int = 0) -> Path:
    """A sample file."""
    done(*sample(arrays(folder), folder / name, draws, seed))
    return folder / name


def journaled(path: Path, folder: Path, commits: int = 3) -> Path:
    """A copy of a sample file whose last commits, three draws more, are in its journal, as after a crash."""
    import fcntl

    from gibbsformer.store import SampleFile

    copy, folder = folder / "held" / path.name, folder / "journaled"
    copy.parent.mkdir()
    folder.mkdir()
    shutil.copy(path, copy)
    with open(copy) as reader, SampleFile.resume(copy) as file:
        fcntl.flock(reader, fcntl.LOCK_SH)
        with h5py.File(path) as source:
            for commit in range(commits):
                values = {n: source[c.group][n][:, commit : commit + 1] for n, c in file.columns.items()}
                values = {n: v.astype(file.columns[n].dtype) for n, v in values.items()}
                file.append(values, file.state, file.step + 1)
        for name in os.listdir(copy.parent):
            if not name.endswith(".lock"):
                shutil.copy(copy.with_name(name), folder / name)
    return folder / path.name


def draws(path: Path) -> dict[str, np.ndarray]:
    """Every draw and statistic of a sample file, by a stock reader."""
    with h5py.File(path) as file:
        return {
            f"{group}/{name}": item[()]
            for group in ("posterior", "posterior_predictive", "sample_stats")
            for name, item in file[group].items()
            if item.ndim >= 2 and item.dims[0].label == "chain"
        }


def compare(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], whole: bool = True) -> str:
    """In what draws differ from those they must be the first of, or all; nothing if in nothing."""
    lengths = {values.shape[1] for values in found.values()}
    if found.keys() != wanted.keys() or len(lengths) != 1:
        return f"variables {sorted(found)} of lengths {lengths}"
    (length,) = lengths
    for name, values in wanted.items():
        if whole and length != values.shape[1]:
            return f"{length} draws instead of {values.shape[1]}"
        if not np.array_equal(found[name], values[:, :length], equal_nan=values.dtype.kind == "f"):
            return f"{name} differs"
    return ""


def digest(*parts) -> str:
    """Of arrays, texts and plain values."""
    found = hashlib.sha256()
    for part in parts:
        numbers = isinstance(part, np.ndarray) and part.dtype != object
        found.update(np.ascontiguousarray(part).tobytes() if numbers else repr(np.asarray(part).tolist()).encode())
    return found.hexdigest()


def snapshot(folder: Path) -> dict[str, bytes]:
    """Name -> content of the files in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def swept(folder: Path) -> dict[str, bytes]:
    """What a sweep found, by point; times and hosts aside."""
    from gibbsformer.sweeps import result

    found = {}
    for path in sorted((folder / "points").glob("[!.]*.h5")):
        values, _ = result.read(path)
        found[path.stem] = digest(*(each for item in sorted(values.items()) for each in item)).encode()
    return found


def network(path: Path) -> dict[str, bytes]:
    """All arrays of a network's file."""
    from safetensors.numpy import load_file

    return {name: values.tobytes() for name, values in load_file(path).items()}


def same(found, wanted, what: str) -> Outcome:
    """Equal, or wrong."""
    return Outcome(EQUAL) if found == wanted else Outcome(WRONG, f"{what} is not what it must be")
