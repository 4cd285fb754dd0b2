"""What users bring: arrays of other libraries, scalars of NumPy and JAX, given attention, processes, machines, JSON."""

import dataclasses
import json
import os
import pickle
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import xarray

import gibbsformer as gf
from gibbsformer.core import checks, machine
from gibbsformer.core.text import dumps, plain
from gibbsformer.sampler import resolve_kernel

rng = np.random.default_rng(0)
X = rng.standard_normal((36, 4, 6))
Y = np.sign(X.sum((1, 2)))
W = rng.standard_normal((2, 2, 4, 4))
KEY = jax.random.key(0)
OPTIONS = {"chains": 2, "warmup": 20, "draws": 10, "key": KEY, "progress": False}


def make_task(x=X, y=Y, attention=None):
    attention = gf.Attention([W[0], W[1]]) if attention is None else attention
    return gf.tasks.arrays(x[:24], y[:24], attention, x[24:], y[24:], readout="mean")


@pytest.fixture(scope="module")
def posterior():
    return make_task().posterior(6, 0.1)


class Tensor:
    """As PyTorch's: NumPy may not read it before it left its graph and its device."""

    def __init__(self, values, ready=(), wide=True):
        self.values, self.ready, self.wide, self.ndim = values, ready, wide, values.ndim

    def detach(self):
        return Tensor(self.values, (*self.ready, "detach"), self.wide)

    def cpu(self):
        return Tensor(self.values, (*self.ready, "cpu"), self.wide)

    def float(self):
        return Tensor(self.values, self.ready, True)

    def __array__(self, dtype=None, copy=None):
        if set(self.ready) != {"detach", "cpu"}:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if not self.wide:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return np.asarray(self.values, dtype)


FORMS = {
    "tensor": Tensor,
    "bfloat16 tensor": lambda a: Tensor(a, wide=False),
    "JAX": jnp.asarray,
    "Fortran order": np.asfortranarray,
    "list": lambda a: a.tolist(),
    "unmasked": np.ma.masked_array,
    "float32": lambda a: a.astype(np.float32),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_other_libraries(form):
    """At every entrance: attention as W and as (Q, K), x, y, xi, labels of the test set."""
    convert = FORMS[form]
    expected = gf.contract(X, gf.Attention([W[0], W[1]])).xi
    found = gf.contract(convert(X), gf.Attention([convert(W[0]), (convert(W[1]), convert(W[1]))]))
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(gf.contract(convert(X), gf.Attention([convert(W[0]), W[1]])).xi, expected, **close)
    assert found.xi.shape == expected.shape
    posterior = gf.Posterior(gf.Network(4, (2, 2), (6, 6, 6)), gf.PathInputs(convert(expected)), convert(Y), 0.1)
    np.testing.assert_allclose(posterior.data.xi, expected, **close)
    _, labels = posterior.checked_test((gf.PathInputs(expected[:3]), convert(Y[:3])))
    np.testing.assert_array_equal(labels, Y[:3])


def test_tables_and_named_axes():
    np.testing.assert_array_equal(checks.array("y", pandas.Series(Y), "P"), Y)
    np.testing.assert_array_equal(checks.array("y", pandas.Series(Y, dtype="Int64"), "P"), Y)
    named = xarray.DataArray(X.transpose(0, 2, 1), dims=("P", "S", "N_0"))
    np.testing.assert_array_equal(checks.array("x", named, "P, N_0, S"), X)
    other = xarray.DataArray(X, dims=("mail", "feature", "token"))  # names of their own say nothing of the order
    np.testing.assert_array_equal(checks.array("x", other, "P, N_0, S"), X)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ma.masked_array([1.0, 99.0], [False, True]), r"y is masked at index \(1,\)"),
        (pandas.Series([1, None], dtype="Int64"), r"y is nan at index \(1,\): every entry must be finite"),
        ([[1.0], [1.0, 2.0]], r"y is a list of entries of different lengths: give one array \[P\], padded"),
        (np.array([1 + 1j, 2]), r"y=.* \(complex128\) is not real numbers"),
        (Tensor(np.array(["a"])), r"y=.* is not real numbers"),
    ],
)
def test_arrays_that_cannot_be_used(value, message):
    with pytest.raises(checks.InputError, match=message) as caught:
        checks.array("y", value, "P")
    assert "\n" not in str(caught.value)


def test_tokens_are_columns_or_rows(tmp_path):
    """Which axis holds the tokens is asked where the shape does not say, and PyTorch's order is taken by name."""
    W = [np.random.default_rng(1).standard_normal((2, 4, 4))]
    rng = np.random.default_rng(2)
    x, square = rng.standard_normal((9, 4, 6)), rng.standard_normal((9, 4, 4))
    expected = gf.contract(x, gf.Attention(W)).xi
    np.testing.assert_array_equal(gf.contract(x.swapaxes(1, 2), gf.Attention(W), tokens="rows").xi, expected)
    with pytest.warns(gf.InputWarning, match=r"x has shape \(9, 4, 4\).*give tokens='columns' to confirm it"):
        gf.contract(square, gf.Attention(W))
    columns = gf.contract(square, gf.Attention(W), tokens="columns").xi
    np.testing.assert_array_equal(gf.contract(square.swapaxes(1, 2), gf.Attention(W), tokens="rows").xi, columns)
    named = xarray.DataArray(square.swapaxes(1, 2), dims=("P", "S", "N_0"))
    np.testing.assert_array_equal(gf.contract(named, gf.Attention(W)).xi, columns)
    arrays = {"x": square, "y": np.sign(square.sum((1, 2))), "W_1": W[0]}
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.warns(gf.InputWarning, match="tokens='rows'"):
        gf.tasks.load(tmp_path / "own.npz")
    np.savez(tmp_path / "own.npz", tokens="columns", **arrays)
    np.testing.assert_array_equal(gf.tasks.load(tmp_path / "own.npz").train_inputs.xi, columns)
    with pytest.raises(checks.InputError, match=r"x has input width 6 .* width 4 .*: give tokens='rows'"):
        gf.contract(x.swapaxes(1, 2), gf.Attention(W))
    with pytest.raises(checks.InputError, match=r"x=array.* is not real numbers"):
        gf.contract(x.astype(str), gf.Attention(W))
    with pytest.raises(checks.InputError, match="tokens='row' is not known: did you mean 'rows'"):
        gf.contract(x, gf.Attention(W), tokens="row")


def test_queries_and_keys_are_not_two_layers():
    Q, K = np.random.default_rng(4).standard_normal((2, 3, 4, 4))
    with pytest.warns(gf.InputWarning, match=r"give a list, \[W_1, W_2\], to confirm it, or \[\(Q, K\)\]"):
        gf.Attention((Q, K))
    with pytest.raises(checks.InputError, match=r"or a pair \(Q, K\)"):
        gf.Attention([Q[:, :2], K[:, :2]])
    assert len(gf.Attention([Q, K]).layers) == 2
    assert len(gf.Attention([(Q, K)]).layers) == 1


def test_a_single_array_is_not_a_list_of_layers():
    with pytest.raises(ValueError, match=r"layers is one array of shape \(2, 4, 4\): give a list of layers"):
        gf.Attention(W[0])
    np.testing.assert_array_equal(gf.contract(X, gf.Attention(W)).xi, gf.contract(X, gf.Attention([W[0], W[1]])).xi)


@pytest.mark.parametrize(
    "kernel",
    [
        gf.NUTS(max_doublings=np.int64(3)),
        gf.NUTS(max_doublings=3.0, target_acceptance=np.float32(0.75)),
        gf.HMC(target_acceptance=jnp.float32(0.8), integration_steps=jnp.int32(2)),
    ],
    ids=str,
)
def test_scalars_as_options(kernel):
    made = resolve_kernel(kernel)
    options = dataclasses.asdict(made)
    assert all(type(value) in (int, float) for value in options.values())
    assert made == type(kernel)(**options)
    assert all(options[name] == getattr(kernel, name) for name in options)


@pytest.mark.slow
def test_a_run_with_scalars_as_options(posterior, tmp_path):
    kernel = gf.NUTS(max_doublings=3.0, target_acceptance=np.float32(0.75))
    run = gf.sample(posterior, kernel, store=tmp_path / "run.h5", about={"seed": np.int64(3)}, **OPTIONS)
    assert run.settings["about"] == {"seed": 3}
    assert run.settings["options"]["max_doublings"] == 3


def test_scalars_and_arrays_elsewhere(posterior):
    asked = gf.until(ess=np.int64(400), rhat=jnp.float32(1.25))
    assert asked == (400, 1.25, None)
    assert type(asked.ess) is int
    task = make_task()
    assert task.posterior(np.array([6, 5, 4])).network.widths == (6, 5, 4)
    assert task.posterior(np.int64(6)).network.widths == (6, 6, 6)
    with pytest.raises(ValueError, match=r"max_doublings=8.5 must be a whole number"):
        gf.NUTS(max_doublings=8.5)


def patterns_of(x):
    return [np.asarray(a) for a in gf.Attention([W[0], W[1]])(checks.array("x", x, "P, N_0, S"))]


def test_keys_whose_numbers_depend_on_the_batch_are_refused(posterior):
    with pytest.raises(checks.InputError, match=r"key is a key of rbg.*impl='threefry2x32'"):
        gf.sample(posterior, key=jax.random.key(0, impl="rbg"))


def test_given_patterns_and_a_test_set():
    halves = X[:12], X[12:24]  # as many of either
    expected = gf.tasks.arrays(halves[0], Y[:12], gf.Attention([W[0], W[1]]), halves[1], Y[12:24])
    both = gf.Attention.given(patterns_of(halves[0]), test=patterns_of(halves[1]))
    found = gf.tasks.arrays(halves[0], Y[:12], both, halves[1], Y[12:24])
    np.testing.assert_allclose(found.train_inputs.xi, expected.train_inputs.xi, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.test_inputs.xi, expected.test_inputs.xi, rtol=1e-5, atol=1e-7)
    alone = gf.tasks.arrays(halves[0], Y[:12], gf.Attention.given(patterns_of(halves[0])), halves[1], Y[12:24])
    with pytest.raises(ValueError, match="given for the training examples alone"):
        _ = alone.test_inputs
    with pytest.raises(ValueError, match="test has patterns of 1 layers and patterns has 2"):
        gf.Attention.given(patterns_of(X), test=patterns_of(X)[:1])


@pytest.mark.parametrize(
    "attention",
    [
        gf.Attention([W[0], (W[1], W[1])], hardmax=True),
        gf.Attention.given(patterns_of(X[:24]), test=patterns_of(X[24:])),
    ],
    ids=["W, and Q, K", "given"],
)
def test_what_is_sent_to_other_processes(attention):
    task = make_task(attention=attention)
    again = pickle.loads(pickle.dumps(task))
    np.testing.assert_array_equal(again.train_inputs.xi, task.train_inputs.xi)
    posterior = pickle.loads(pickle.dumps(task.posterior(6)))
    np.testing.assert_array_equal(posterior.y, task.posterior(6).y)


@pytest.mark.slow
def test_names_of_things_are_short(posterior):
    task, run = make_task(), gf.sample(posterior, **OPTIONS)
    for thing in (task, task.attention, posterior, posterior.data, run, gf.theory.solve(posterior)):
        assert len(repr(thing)) < 200, type(thing)
        assert "array(" not in repr(thing)


def strict(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.slow
def test_json_is_strict(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")  # the devices of this process stay
    found = {"a": np.float64("nan"), "b": [np.inf, jnp.float32(1.5)], "c": np.arange(3), "d": (True, None, "x")}
    assert strict(dumps(found)) == {"a": None, "b": [None, 1.5], "c": [0, 1, 2], "d": [True, None, "x"]}
    assert plain(np.bool_(True)) is True
    from gibbsformer.cli import main

    path = tmp_path / "g.h5"
    task = ["--task", "hmm", "--width", "4", "--kernel", "gibbs"]
    main(["sample", *task, "--chains", "2", "--warmup", "2", "--draws", "3", "--json", "--quiet", "--out", str(path)])
    assert strict(capsys.readouterr().out)
    main(["inspect", str(path), "--json"])
    assert strict(capsys.readouterr().out)
    import h5py

    with h5py.File(path) as file:
        for name in ("settings", "report"):
            strict(file.attrs[name])


GIB = 2**30


def files_of(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": f"MemTotal: 9 kB\nMemAvailable: {8 * 2**20} kB\n"}, 8),
        (
            {
                "proc/meminfo": f"MemAvailable: {8 * 2**20} kB\n",
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/memory.max": str(4 * GIB),
                "sys/fs/cgroup/job/memory.current": str(3 * GIB),
                "sys/fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {GIB}\n",
                "sys/fs/cgroup/job/step/memory.max": "max\n",
                "sys/fs/cgroup/job/step/memory.current": str(3 * GIB),
            },
            2,
        ),
        (
            {
                "proc/meminfo": f"MemAvailable: {8 * 2**20} kB\n",
                "proc/self/cgroup": "4:cpu:/x\n7:memory:/job\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": str(3 * GIB),
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": str(2 * GIB),
            },
            1,
        ),
    ],
    ids=["nothing is said", "machine", "version 2", "version 1"],
)
def test_memory_as_the_machine_leaves_it(tmp_path, monkeypatch, files, expected):
    def sysconf(name):
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(machine, "_ROOT", files_of(tmp_path, files))
    monkeypatch.setattr(os, "sysconf", sysconf)
    assert checks.available_memory() == (sys.maxsize if expected is None else expected * GIB)


def test_a_limit_of_the_address_space_is_seen():
    before = resource.getrlimit(resource.RLIMIT_AS)
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**35, 2**35))\n"
    code += "from gibbsformer.core import machine; print(machine.available_memory())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(found.stdout) < 2**35
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not restrict cores")
def test_cores_are_those_allowed():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    code += "from gibbsformer.core import machine; print(machine.cores())"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
