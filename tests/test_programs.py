"""Compiled programs are kept for later processes, and not where that is turned off."""

import os
import subprocess
import sys

import pytest

import gibbsformer as gf

CODE = """
import jax, gibbsformer as gf
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(gf.cache_programs({folder}))
jax.jit(lambda x: x + 1)(1.0)
"""


@pytest.mark.parametrize(("given", "switch"), [(True, "true"), (False, "true"), (True, "false")])
def test_programs_are_kept(tmp_path, given, switch):
    folder = tmp_path / "kept"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "JAX_ENABLE_COMPILATION_CACHE": switch}
    code = CODE.format(folder=repr(str(folder)) if given else "")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    where = found.stdout.strip()
    assert where.startswith(str(folder if given else tmp_path / "gibbsformer"))
    assert bool(os.listdir(where)) == (switch == "true")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ValueError, match=r"folder=.* cannot be used as a directory"):
        gf.cache_programs(tmp_path / "kept")
