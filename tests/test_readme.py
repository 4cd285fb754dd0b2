"""The README's Python session runs as printed."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


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
