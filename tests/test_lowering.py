"""Every compiled program of the package lowers for CUDA, on a machine without one, to what a GPU runs by itself."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gibbsformer as gf

pytestmark = pytest.mark.slow  # a minute
FACTORISATIONS = {"cusolver_potrf_ffi", "cusolver_geqrf_ffi", "cusolver_orgqr_ffi"}
ON_CUDA = FACTORISATIONS | {"cusolver_getrf_ffi", "cu_lu_pivots_to_permutation"}
CHAINS = 4


@pytest.fixture(scope="module")
def programs() -> list[dict]:
    script = Path(__file__).with_name("lowered.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kernel_and_every_part_is_there(programs):
    kernels = {p["case"].partition(",")[0] for p in programs if p["name"] == "advance" and "," in p["case"]}
    assert kernels == set(gf.KERNELS)
    names = {p["name"] for p in programs}
    assert {
        "symmetric_blocks",
        "_action",
        "_curvature",
        "_predictor",
        "_evaluate",
        "_accepted",
        "_log_weights",
        "observe",
        "accuracy",
    } <= names


def test_nothing_returns_to_the_host(programs):
    for program in programs:
        assert not program["transfers"], program
        assert set(program["custom calls"]) <= ON_CUDA, program  # no callback, no LAPACK


def test_kernels_factorise_matrices_and_nothing_else(programs):
    for program in programs:
        if program["name"] in ("start", "advance"):
            assert set(program["custom calls"]) <= FACTORISATIONS, program
            on_weights = ", weights, " in program["case"] and "gibbs" not in program["case"]
            assert not (on_weights and program["custom calls"]), program


def test_float32_programs_multiply_in_float32(programs):
    """Sums over weights are float64, a number a chain; no matrix is."""
    found = [p for p in programs if p["case"].endswith(", weights, float32") and p["name"] == "advance"]
    assert len(found) > 5
    for program in found:
        wide = [shape for shape in program["products"] if shape.endswith("f64")]
        sizes = [re.findall(r"\d+(?=x)", shape) for shape in wide]
        assert all(size in ([], [str(CHAINS)]) for size in sizes), program
    densities = [*found, *(p for p in programs if p["name"] == "log_density")]
    assert len(densities) == len(found) + 1
    assert not [p for p in densities if p["rounded"]]  # to TF32, which a GPU takes for float32 unless told otherwise
    single = [p for p in programs if p["case"] == "training"]
    assert single
    assert not any(shape.endswith("f64") for p in single for shape in p["products"])
