"""A small sample file of known content, and what its draws must be."""

import json
from functools import cache

import numpy as np

from gibbsformer.store import Column, SampleFile
from gibbsformer.store.reading import reading

CHAINS, DRAWS = 2, 3  # draws per commit
COLUMNS = {
    "U_1": Column("posterior", ("path_1", "path_1_prime"), (2, 2), np.float64),
    "V_0": Column("posterior", ("width_1", "input"), (50, 40), np.float32),
    "f": Column("posterior_predictive", ("test_example",), (5,), np.float64),
    "diverging": Column("sample_stats", (), (), bool),
}
LABELS = {
    **{name: np.array(["(1)", "(2)"], dtype=object) for name in ("path_1", "path_1_prime")},
    "width_1": np.arange(50),
    "input": np.arange(40),
    "test_example": np.arange(5),
}
CONSTANTS = {
    "constant_data": {"xi": (("example", "input"), np.arange(120.0).reshape(3, 40))},
    "observed_data": {"y": (("example",), np.array([1.0, -1.0, 1.0]))},
}


def create(path, settings=None, **options) -> SampleFile:
    settings = {"kernel": "toy", "chains": CHAINS, "key_data": [0, 0], "draws": 30} | (settings or {})
    return SampleFile.create(path, COLUMNS, LABELS, CONSTANTS, settings, options.pop("chains", CHAINS), **options)


@cache
def draws(commit: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Draws that the commit of this number, from 1, brings."""
    rng = np.random.default_rng([seed, commit])
    values = {name: rng.normal(size=(CHAINS, DRAWS, *c.shape)).astype(c.dtype) for name, c in COLUMNS.items()}
    return values | {"diverging": rng.random((CHAINS, DRAWS)) < 0.5}


@cache
def state(commit: int) -> list[np.ndarray]:
    """Sampler state after it, with every awkward value and dtype."""
    rng = np.random.default_rng([99, commit])
    odd = np.array([np.nan, -0.0, np.inf, -np.nan, 5e-324])
    return [rng.normal(size=(2, 700)), rng.integers(0, 2**32, (2, 2), np.uint32), np.array(commit),
            odd, np.array([True, False]), odd.astype(np.float32), np.zeros((2, 0))]  # fmt: skip


def append(file: SampleFile, commit: int) -> None:
    file.append(draws(commit), state(commit), 10 * commit, {"verdict": {"commit": commit}})


def commits_in(path) -> int:
    """Number of commits a file holds; AssertionError if it is not exactly what those commits brought."""
    with reading(path) as file:
        commits, ragged = divmod(len(file["posterior/draw"]), DRAWS)
        assert not ragged
        assert file["sampler_state"].attrs.get("step", 0) == 10 * commits
        if commits:
            assert json.loads(file.attrs["verdict"]) == {"commit": commits}
        for name, column in COLUMNS.items():
            values = file[column.group][name][()]
            assert values.shape[1] == len(file[column.group]["draw"]) == DRAWS * commits
            for commit in range(1, commits + 1):
                part = values[:, DRAWS * (commit - 1) : DRAWS * commit]
                assert np.array_equal(part, draws(commit)[name]), f"{name} of commit {commit}"
    return commits


def check_resumes(path, commits: int) -> None:
    """AssertionError unless the file goes on after this many commits as if nothing had happened."""
    with SampleFile.resume(path) as file:
        assert (file.length, file.step) == (DRAWS * commits, 10 * commits)
        assert file.columns == COLUMNS
        expected = state(commits) if commits else []
        assert len(file.state) == len(expected)
        for leaf, wanted in zip(file.state, expected, strict=True):
            assert (leaf.dtype, leaf.shape, leaf.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())
        append(file, commits + 1)
    assert commits_in(path) == commits + 1
