"""The harness of the benchmarks: records, comparison with the last one, the page made from them, and one real suite."""

import importlib.util
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from gibbsformer.benchmarks import (
    SUITES,
    Measured,
    Options,
    Table,
    bench,
    examples,
    harness,
    limits,
    page,
    scaling,
    suite,
)
from gibbsformer.benchmarks import peers as peer_suite
from gibbsformer.cli import main
from gibbsformer.cli import parser as _parser
from gibbsformer.models.network import forward, path_weights

TABLE = Table("Cost against N", [{"N": 10, "ms": 1.0}, {"N": 100, "ms": None}], {"N": "", "ms": ".2f"},
              {"x": "N", "y": ["ms"], "label": "ms"}, "A note.")  # fmt: skip


def test_table_says_what_was_not_measured():
    assert TABLE.render().splitlines()[2:] == ["| 10 | 1.00 |", "| 100 | not measured |"]


def test_timing_keeps_compilation_apart():
    def slow_to_trace(x):
        time.sleep(0.2)
        return x + 1

    found = harness.timed(jax.jit(slow_to_trace), jnp.ones(3), repeats=3)
    assert found["first"] > 0.2 > 10 * found["median"]
    assert found["min"] <= found["median"] <= found["max"]


def test_peak_memory_is_that_of_now():
    harness.reset_peak_memory()
    before = harness.peak_memory()["host"]
    block = np.ones(40 * 2**17)  # 40 MiB
    assert harness.peak_memory()["host"] > before + 35
    del block


def test_record_and_comparison_with_the_last_one(tmp_path, monkeypatch):
    costs = iter(({"gradient": 1.0, "draw": 2.0}, {"gradient": 1.2, "draw": 5.0}))
    module = type(sys)("gibbsformer.benchmarks.made_up")
    module.measure = lambda options: Measured([TABLE], next(costs), {"repeats": 3})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(suite, "SUITES", ("made_up",))
    first, second = (bench(["made_up"], tmp_path)[0] for _ in range(2))
    assert first["slower"] is None
    assert "no earlier record" in suite.render(first)
    assert second["slower"] == {"draw": 2.5}
    assert "draw 2.5 x" in suite.render(second)
    record = json.loads((tmp_path / f"made_up.{harness.kind()}.json").read_text())
    assert record["ratios"] == {"gradient": 1.2, "draw": 5.0}
    assert record["settings"] == {"repeats": 3}
    assert record["versions"]["jax"] == jax.__version__
    assert Table(**record["tables"][0]) == TABLE
    # small and full sizes are compared with their own kind only
    assert harness.record_path(tmp_path, "made_up", True, harness.kind()).exists() is False


def test_out_of_time(tmp_path, capfd):
    found = bench(["gradient", "theory"], tmp_path, minutes=1e-9)
    assert [f["problem"] for f in found] == ["not run: no time left"] * 2
    assert "gradient: not run: no time left" in suite.render(found[0])


@pytest.mark.parametrize(("arguments", "message"), [
    (["gradiant"], "'gradient'"),
    (["gradient", "--minutes", "-1"], "minutes"),
    (["gradient", "--out", __file__], "cannot be used as a directory"),
    (["gradient", "oneshot", "--data", "omniglot=/nowhere"], "path='/nowhere'"),
    (["gradient", "oneshot", "--network", "nowhere.npz"], "network='nowhere.npz'"),
])  # fmt: skip
def test_bad_input(arguments, message, capsys, monkeypatch):
    # the test process has already started XLA, after which the number of devices is fixed
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    try:
        code = main(["bench", *arguments])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_every_suite_introduces_itself():
    for name in SUITES:
        title, explanation = page._introduction(name)
        assert title
        assert not title.endswith(".")
        assert len(explanation) > 80


def test_page_is_that_of_the_records():
    assert (page.DOCS / "benchmarks.md").read_text(encoding="utf-8") == page.text()
    for line in page.text().splitlines():
        if line.startswith("!["):
            assert (page.DOCS / line.split("(")[1].rstrip(")")).is_file(), line


def test_picture_of_lines_and_bars():
    lines = page.draw(TABLE)
    assert np.array_equal(lines.axes[0].lines[0].get_ydata(), [1.0, np.nan], equal_nan=True)
    bars = page.draw(Table("t", [{"who": "a", "k": 1, "n": 2.0}, {"who": "b", "k": 2, "n": 9.0}], {},
                           {"x": "who", "y": ["n"], "where": {"k": 1}, "label": ""}))  # fmt: skip
    assert [bar.get_width() for bar in bars.axes[0].patches] == [2.0]
    assert bars.axes[0].get_title() == "t\nk=1"
    gap = Table("t", [{"who": "a", "n": 2.0, "m": None}], {}, {"x": "who", "y": ["n", "m"], "label": ""})
    assert [text.get_text() for text in page.draw(gap).axes[0].get_legend().get_texts()] == ["n"]
    assert page.draw(TABLE._replace(plot=None)) is None


def test_exponent_of_known_growth():
    axis = scaling.Axis("n", (1, 2, 4, 8), (), None, {"f": 2})
    rows = [{"n": n, "f ms": 100 + 3.0 * n**2 if n < 2 else 3.0 * n**2} for n in axis.sizes]
    (found,) = scaling.exponents(axis, rows)
    assert found["fitted"] == pytest.approx(2)
    assert (found["from"], found["to"]) == (2, 8)


def test_largest_curvature():
    gradient = jax.grad(lambda w: -0.5 * (7 * w["a"][0] ** 2 + 2 * w["a"][1] ** 2 + 3 * w["b"] ** 2))
    found = peer_suite.largest_curvature(gradient, {"a": jnp.array([0.3, 0.1]), "b": jnp.array(0.2)})
    assert float(found) == pytest.approx(7, rel=1e-4)


def test_token_level_peer_has_the_density_of_the_posterior():
    """The peer samples what we sample: equal gradients, up to rounding."""
    import gibbsformer as gf
    from gibbsformer.benchmarks.gradient import token_level_log_density
    from gibbsformer.models.network import draw_prior

    task = gf.tasks.hidden_markov_chain(key=jax.random.key(0), examples=6, test_examples=2)
    posterior = task.posterior(5)
    weights = draw_prior(posterior.network, jax.random.key(1), jnp.float32)
    ours = jax.grad(posterior.log_density)(weights)
    theirs = jax.grad(token_level_log_density(task, posterior, "float32"))(weights)
    for name, gradient in ours.items():
        np.testing.assert_allclose(theirs[name], gradient, rtol=1e-3, atol=1e-3 * float(jnp.abs(gradient).max()))


def test_langevin_peer_has_the_variance_of_its_step(monkeypatch):
    """On a standard normal density a step of e = 1/2 has the stationary variance 1 / (1 - e / 2) = 4/3."""
    density = SimpleNamespace(log_density=lambda w: -0.5 * jnp.sum(w["a"] ** 2))
    start = {"a": jax.random.normal(jax.random.key(0), (peer_suite.CHAINS, 5000))}
    monkeypatch.setattr(peer_suite, "observed", lambda setting, weights: {"U_1": weights["a"]})
    found = peer_suite.langevin(peer_suite.Setting(None, density, start, 0.0))
    draws = found.draws["U_1"]
    assert draws.shape[:2] == (peer_suite.CHAINS, 4)  # as many as the least
    assert found.gradients == 4 * peer_suite.CHAINS * peer_suite.LANGEVIN_STEPS
    # draws are 256 steps apart, so independent: 5 standard errors of the variance of that many normal numbers
    assert abs((draws**2).mean() / (4 / 3) - 1) < 5 * np.sqrt(2 / draws.size)


def test_token_level_row_takes_the_mixing_of_the_contracted_one():
    """As many effective draws per draw, at the seconds and gradients of its own."""
    contracted = {"draws": 100, "ESS of U": 40.0, "ESS of f": 80.0}
    slow = {"draws": 5, "seconds": 10.0, "gradients per draw": 1000.0, "ESS of U": 20.0, "ESS of f": 20.0}
    found = peer_suite.as_contracted(slow, contracted)
    assert (found["ESS of U"], found["ESS of f"]) == (2.0, 4.0)
    assert (found["U /s"], found["f /s"]) == (0.2, 0.4)
    assert found["U per 1000 gradients"] == pytest.approx(2.0 / (5 * peer_suite.CHAINS))
    assert found["U /s in all"] is None


def test_numpyro_rows_have_their_patience(monkeypatch):
    """The ratio at stake rests on the mixing of the contracted run: it gets as much time as the token-level one."""
    budgets = []
    adapted = SimpleNamespace(step_size=jnp.ones(2), inverse_mass_matrix={"a": jnp.ones((2, 3))})

    def numpyro_nuts(setting, model, **tuned):
        budgets.append((model, setting.seconds))
        return None, SimpleNamespace(adapt_state=adapted)

    monkeypatch.setattr(peer_suite, "exact_start", lambda posterior, chains: {})
    monkeypatch.setattr(peer_suite, "token_level_model", lambda setting: "token level")
    monkeypatch.setattr(peer_suite, "numpyro_nuts", numpyro_nuts)
    monkeypatch.setattr(peer_suite, "as_contracted", lambda slow, contracted: slow)
    for name in ("ours", "blackjax_nuts", "langevin"):
        monkeypatch.setattr(peer_suite, name, lambda setting, *_, **options: budgets.append(("other", setting.seconds)))
    monkeypatch.setattr(peer_suite, "row", lambda N, name, found: {"sampler": name})
    task = SimpleNamespace(posterior=lambda N: SimpleNamespace(model="contracted"))
    rows = peer_suite.at_width(task, 10, 2.0, 12.0)
    assert len(rows) == len({r["sampler"] for r in rows}) == len(budgets) == 8
    assert set(budgets) == {("other", 2.0), ("contracted", 24.0), ("token level", 24.0)}


@pytest.mark.slow
def test_exact_draws_of_all_weights_are_timed_beside_their_normal_numbers(monkeypatch):
    """Every timed call returns all weights, new ones; shares are those of the times."""
    drawn, times = [], iter((1.0, 4.0, 2.0))

    def timed(call, key, weights):
        drawn.append(call(key, weights))
        assert {n: w.shape for n, w in drawn[-1].items()} == {n: w.shape for n, w in weights.items()}
        return {"median": next(times)}

    monkeypatch.setattr(limits.harness, "timed", timed)
    row = limits.exact_draw_row(10)
    assert row == {"N": 10, "normals ms": 1e3, "Gibbs sweep ms": 4e3, "lift ms": 2e3,
                   "normals / Gibbs sweep": 0.25, "normals / lift": 0.5}  # fmt: skip
    normals, sweep, lift = drawn
    assert float(jnp.std(normals["V_1"])) == pytest.approx(1.0, abs=0.25)  # 5 standard errors at 200 normal numbers
    posterior = limits.Case(N=10).posterior()
    # draws of the posterior fit the labels to sqrt(T) = 0.32, the prior's do not
    with jax.enable_x64(True):
        misfit = [float(jnp.std(forward(path_weights(w), posterior.data.flat) - posterior.y)) for w in drawn]
    assert max(misfit[1:]) < 0.5 < misfit[0]
    assert np.all(np.asarray(sweep["V_1"]) != np.asarray(lift["V_1"]))


def test_peers_of_many_examples_compute_the_same_number():
    """The log-likelihood of the GP limit, as a density of all labels."""
    rng = np.random.default_rng(0)
    xi, y = rng.standard_normal((30, 3, 2, 2)), rng.standard_normal(30)
    features = xi.reshape(30, -1)
    covariance = features @ features.T + examples.TEMPERATURE * np.eye(30)
    expected = scipy.stats.multivariate_normal(np.zeros(30), covariance).logpdf(y)
    np.testing.assert_allclose(examples.ours(xi, y)[1], expected, rtol=1e-10)
    if importlib.util.find_spec("gpytorch"):
        for cholesky in (True, False):
            np.testing.assert_allclose(examples.gpytorch(xi, y, cholesky)[1], expected, rtol=1e-3)


def test_suites_run_apart_tell_what_they_found(tmp_path, monkeypatch):
    """The child's own words are passed on, and a child that fails is said to."""
    said = iter((SimpleNamespace(stdout='[{"suite": "theory", "slower": null}]', returncode=0),
                 SimpleNamespace(stdout="", returncode=2)))  # fmt: skip
    asked = []
    monkeypatch.setattr(suite.subprocess, "run", lambda command, **options: asked.append(command) or next(said))
    found = bench(["theory", "gradient"], tmp_path, options=Options(quick=True, network="net.npz"))
    assert found[0] == {"suite": "theory", "slower": None}
    assert "exit code 2" in found[1]["problem"]
    for command, name in zip(asked, ("theory", "gradient"), strict=True):
        options = _parser().parse_args(command[3:])
        assert (options.suites, options.out, options.quick, options.network) == ([name], str(tmp_path), True, "net.npz")


@pytest.mark.slow
@pytest.mark.parametrize("name", SUITES)
def test_quick_suite(name, tmp_path):
    (found,) = bench([name], tmp_path, options=Options(quick=True))
    assert found["problem"] is None
    record = json.loads(harness.record_path(tmp_path, name, True, harness.kind()).read_text())
    assert all(value > 0 for value in record["ratios"].values())
    assert all(table["rows"] for table in record["tables"])


def test_a_suite_keeps_what_it_measured_in_its_time(monkeypatch):
    monkeypatch.setattr(harness, "_BEGAN", time.monotonic())
    options = Options(seconds=0.5)
    begun = time.monotonic()
    found = options.each((0.0, 0.1, 30.0, 0.0), lambda seconds: (time.sleep(seconds), seconds)[1])
    assert found == [0.0, 0.1]
    assert time.monotonic() - begun < 5
    assert options.each((0.0,), lambda seconds: seconds) == []  # its time is over
    assert Options().each((1, 2), lambda x: x) == [1, 2]


def test_shares_of_the_time(tmp_path, monkeypatch):
    """Every suite on a GPU is given its share, and what one leaves goes to those after it."""
    asked = []

    def run(command, timeout, **_):
        asked.append((command[4], float(command[command.index("--seconds") + 1]), timeout))
        return SimpleNamespace(stdout="", returncode=1)

    monkeypatch.setattr(suite.subprocess, "run", run)
    found = bench(out=tmp_path, minutes=9, options=Options(device="gpu"))
    assert [name for name, *_ in asked] == list(suite.ON_GPU) == [each["suite"] for each in found]
    shares = list(suite.ON_GPU.values())
    expected = [540 * share / sum(shares[i:]) for i, share in enumerate(shares)]
    np.testing.assert_allclose([seconds for _, seconds, _ in asked], expected, atol=2)
    assert all(seconds - 1 <= timeout <= 540 for _, seconds, timeout in asked)
    assert suite.summary(found).count("\n") == len(found) - 1


def test_a_missing_gpu_is_said_once(tmp_path):
    if jax.default_backend() != "cpu":
        pytest.skip("there is one")
    command = [
        sys.executable,
        "-m",
        "gibbsformer",
        "bench",
        "--device",
        "gpu",
        "--minutes",
        "5",
        "--out",
        str(tmp_path),
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr.count("JAX finds no GPU: install gibbsformer[cuda]") == 1


@pytest.mark.parametrize("name", ["chains", "gradient", pytest.param("large", marks=pytest.mark.slow), "kernels"])
def test_a_suite_without_time_says_so(tmp_path, name):
    (found,) = bench([name], tmp_path, options=Options(quick=True, seconds=0.0))
    assert found["problem"] == "nothing was measured in its time"
    assert found["record"] is None
    assert list(tmp_path.iterdir()) == []
