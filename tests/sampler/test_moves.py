"""How the collapsed kernel decides to move, that it says so, and that its coordinates are the law they claim."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core.numerics import numerics
from gibbsformer.models import collapsed
from gibbsformer.models.target import Guide
from gibbsformer.sampler.convergence import longest_stay
from gibbsformer.sampler.guide import laplace
from gibbsformer.sampler.job import prepare
from gibbsformer.sampler.kernels import NUTS
from gibbsformer.sampler.kernels.kernel import Setting
from gibbsformer.sampler.mode import log_density, mode, prior_scales
from gibbsformer.sampler.settings import RunSettings
from gibbsformer.sampler.weights import run_evidence
from gibbsformer.theory.energy import derivative_data

KEY = jax.random.key(2)
OPTIONS = {"key": KEY, "chains": 2, "warmup": 2, "draws": 8, "progress": False}


def decided(posterior, **options):
    """(move, kicks) of a run that is prepared but not made."""
    kernel = gf.Collapsed(**options)
    with numerics():
        settings = RunSettings.checked(
            posterior, kernel, key=KEY, target=None, keep=None, chains=2, warmup=2, draws=8, thin=1, until=None,
            precision="auto", init=None, chains_at_once=None, about=None, distributed=False,
        )  # fmt: skip
        found = prepare(posterior, kernel, settings, None, KEY).settings.options
    return found["move"], found["kicks"]


@pytest.mark.parametrize(
    ("without", "two", "measured", "fitted", "metric", "coordinates", "move", "least", "most"),
    [
        (0.95, None, None, None, True, 14, "split", 0, 0),
        (0.8, None, None, None, True, 14, "split", 0, 0),  # a fit costs more than it brings
        (0.3, 0.9, None, 0.49, True, 14, "split", 1, 3),
        (0.3, None, None, 0.8, True, 14, "surrogate", 4, 4),
        (0.05, 0.5, 0.9, 0.0, True, 14, "split", 3, 6),
        (0.0, 0.01, 0.9, 0.0, True, 14, "nuts", None, None),
        (0.0, 0.01, 0.9, 0.0, False, 100, "split", 6, 8),
        (0.0, 0.01, 0.9, 0.7, False, 100, "surrogate", 4, 4),
        (0.0, 0.05, 0.9, 0.0, True, 14, "nuts", None, None),
        (0.0, 0.05, 0.9, None, True, 1085, "split", 6, 8),  # trajectories of NUTS grow with the number of coordinates
        (0.0, 0.05, 0.01, None, True, 1085, "nuts", None, None),  # two kicks promised more than eight keep
        (0.37, 0.32, 0.72, 0.5, False, 13, "nuts", None, None),  # widths 3, 2, 4 of four paths: chains get stuck
        (0.37, 0.32, 0.95, 0.5, False, 13, "split", 4, 8),
        (0.0, 0.05, 0.5, None, False, 1000, "nuts", None, None),  # a tree of NUTS has at most 255 gradients
    ],
)
def test_moves_follow_the_acceptance(
    monkeypatch, without, two, measured, fitted, metric, coordinates, move, least, most
):
    """No kicks where the posterior is Gaussian, the more the less it is; NUTS where it has a metric and is better.

    Kicks by a surrogate where all else promises little and it more. None stands for what is not tried.
    """
    rates = {0: without, 2: two}
    monkeypatch.setattr(
        "gibbsformer.sampler.kernels.collapsed._measured", lambda setting, key, kicks: rates.get(kicks, measured)
    )
    guide = Guide(*3 * (jnp.zeros(coordinates),), SimpleNamespace(acceptance=fitted))
    setting = SimpleNamespace(data=SimpleNamespace(guide=guide), target=SimpleNamespace(metric_known=metric))
    found = gf.Collapsed().decided(lambda kernel: setting, KEY)
    assert found.move == move
    assert least is found.kicks is None or least <= found.kicks <= most
    assert gf.Collapsed(kicks=7).decided(lambda kernel: setting, KEY).kicks == 7


@pytest.mark.slow
def test_moves_follow_the_width(make_small):
    posterior = make_small(heads=(2, 2), widths=(1000, 1000, 1000), temperature=0.05).posterior
    assert decided(posterior) == ("split", 0)


@pytest.mark.slow
def test_what_is_asked_for_is_done(make_small):
    posterior = make_small(widths=(7, 6, 4)).posterior
    assert decided(posterior, move="split", kicks=5) == ("split", 5)
    assert decided(posterior, kicks=3)[0] == "split"
    assert decided(posterior, move="independent") == ("independent", None)
    assert decided(posterior, move="chees") == ("chees", None)
    assert decided(posterior, move="nuts") == ("nuts", None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"move": "slit"}, "move='slit' is not known: did you mean 'split'"),
        ({"move": "nuts", "kicks": 2}, "kicks=2 are for move='split' or 'surrogate', not 'nuts': leave them out"),
        ({"kicks": -1}, "kicks=-1 must be a whole number, 0 or more"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        gf.Collapsed(**options)


def test_widths_below_the_paths_leave_a_mode_too(make_small):
    """Trapezoidal factors: where chi of one degree of freedom has no mode as it is, its cube root has one."""
    posterior = make_small(heads=(2, 2), widths=(2, 1, 3), temperature=0.1).posterior
    with numerics():
        shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
        assert shape.singular
        guide = laplace(posterior, straight=True)
        force = jax.grad(lambda s: log_density(shape, data, s))(guide.centre)
        assert np.abs(guide.spread.T @ force).max() < 1e-4


def test_the_decision_is_stored_and_resumed(make_small, tmp_path, monkeypatch):
    posterior = make_small(heads=(2, 2), widths=(8, 8, 8)).posterior
    whole = gf.sample(posterior, **OPTIONS | {"draws": 20}, store=tmp_path / "whole.h5")
    gf.sample(posterior, **OPTIONS, store=tmp_path / "part.h5")
    monkeypatch.setattr("gibbsformer.sampler.kernels.collapsed._measured", None)  # not tried again
    resumed = gf.resume(tmp_path / "part.h5", draws=20, progress=False)
    np.testing.assert_array_equal(resumed.variables["theta"], whole.variables["theta"])
    assert resumed.settings["options"] == whole.settings["options"]


@pytest.mark.slow
def test_files_from_before_go_on_with_nuts(make_small):
    posterior = make_small(heads=(2, 2), widths=(8, 8, 8)).posterior
    run = gf.sample(posterior, gf.Collapsed(move="nuts"), **OPTIONS)
    settings = run.settings | {"options": {"max_doublings": 8, "target_acceptance": 0.75, "initial_step_size": 0.5}}
    assert RunSettings.from_stored(settings).resolved_kernel() == gf.Collapsed(move="nuts")


@pytest.mark.slow
def test_straight_coordinates_are_those_of_the_same_law(make_small):
    """Jacobian by JAX, inverse by composition, and the guide is at the mode with the inverse Hessian there."""
    posterior = make_small(heads=(2,), widths=(8, 7), variances=(0.7, 1.3, 0.9), temperature=0.05).posterior
    with numerics():
        shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
        theta = 0.3 * jax.random.normal(KEY, (shape.size,))
        s = collapsed.straightened(shape, theta)
        np.testing.assert_allclose(collapsed.unstraightened(shape, s), theta, rtol=1e-12)
        density = lambda t: collapsed.log_density(shape, data, t)  # noqa: E731
        straight = lambda s: collapsed.straight_log_density(shape, density, s)  # noqa: E731
        jacobian = jnp.linalg.slogdet(jax.jacfwd(lambda s: collapsed.unstraightened(shape, s))(s))[1]
        np.testing.assert_allclose(straight(s), density(theta) + jacobian, rtol=1e-12)
        outside = s.at[0].set(-0.1)
        assert straight(outside) == -np.inf
        assert np.isfinite(jax.grad(straight)(outside)).all()

        guide = laplace(posterior, straight=True)
        gradient = jax.grad(straight)(guide.centre)
        assert np.abs(guide.spread.T @ gradient).max() < 1e-4  # in standard deviations
        precision = -jax.jacfwd(jax.grad(straight))(guide.centre)
        np.testing.assert_allclose(guide.covariance @ precision, np.eye(shape.size), atol=1e-6)


def test_the_mode_is_found_from_any_width(make_small):
    """Newton's steps from the prior mean end where the gradient vanishes, also where they have far to go."""
    for widths, temperature in (((6, 6, 6), 1e-4), ((1000, 700, 500), 3.0)):
        posterior = make_small(heads=(2, 2), widths=widths, temperature=temperature).posterior
        with numerics():
            shape, data = collapsed.layout(posterior.network), posterior.collapsed_data()
            found = mode(shape, data, derivative_data(posterior.reduction.data.flat))
            assert found.found
            force = jax.grad(lambda s: log_density(shape, data, s))(found.s)  # noqa: B023
            assert np.abs(prior_scales(shape, data.widths) * force).max() < 1e-5
            assert np.linalg.eigvalsh(found.precision)[0] > 0


def test_nuts_in_whitened_coordinates_is_nuts_with_the_dense_metric(make_small):
    """One transition of both from one point: the same momentum, the same trajectory, the same choice."""
    posterior = make_small(heads=(2, 2), widths=(8, 8, 8), temperature=0.05).posterior
    with numerics():
        target = posterior.target("collapsed")
        data = target.data(posterior, "float64")._replace(guide=laplace(posterior))
        setting = Setting(target, data, 0, 1)
        kernel = gf.Collapsed(move="nuts").mover()
        state = kernel.init(setting, KEY, data.guide.position(0.5 * jnp.ones(data.guide.centre.shape)))
        dense = NUTS.move(kernel, setting, KEY, state.chain, jnp.asarray(0.4), data.guide.covariance)
        whitened = kernel.move(setting, KEY, state.chain, jnp.asarray(0.4), state.inverse_mass_matrix)
    for one, other in zip(jax.tree.leaves(dense[0]), jax.tree.leaves(whitened[0]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    assert dense[1].num_integration_steps == whitened[1].num_integration_steps


def test_evidence_is_a_by_product_of_independent_proposals(make_small):
    posterior = make_small(heads=(2,), widths=(40, 30), variances=(0.7, 1.3, 0.9), temperature=0.5).posterior
    options = OPTIONS | {"draws": 500}
    run = gf.sample(posterior, gf.Collapsed(move="independent"), **options)
    found, expected = run.log_evidence, gf.evidence(posterior, key=KEY, method="importance")
    assert found.pareto_k < 0.7
    assert 0 < found.error < 0.05
    assert abs(found.value - expected.log_evidence) < 4 * np.hypot(found.error, expected.error)
    without = gf.sample(posterior, gf.Collapsed(move="split"), **options).log_evidence
    assert without.value is None
    assert "use gf.evidence" in without.reason
    few = gf.sample(posterior, gf.Collapsed(move="independent"), **OPTIONS).log_evidence
    assert few.value is None
    assert "16 proposals are too few" in few.reason
    heavy = run_evidence(np.random.default_rng(0).standard_cauchy((4, 500)) * 3)
    assert heavy.value is None
    assert "Pareto k" in heavy.reason


def test_longest_stay_is_counted():
    lp = np.array([[1.0, 2, 2, 2, 3, 3], [1, 2, 3, 4, 5, 6]])
    stay = lambda lp: longest_stay(SimpleNamespace(stats={"lp": lp}))  # noqa: E731
    assert stay(lp) == 3
    assert stay(lp[1:]) == 1
    assert stay(np.ones((1, 7))) == 7
    assert longest_stay(SimpleNamespace(stats={})) == 0


def test_a_chain_that_stays_is_named(make_small):
    """Proposals from a Gaussian that is far too narrow are accepted once in a long while."""
    run = gf.sample(make_small(heads=(2,), widths=(3, 3), variances=(0.7, 1.3, 0.9), temperature=1e-3).posterior,
                    gf.Collapsed(move="independent"), **OPTIONS | {"draws": 600})  # fmt: skip
    lp = np.array(run.stats["lp"])
    lp[0, 100:200] = lp[0, 100]
    stuck = dataclasses.replace(run, stats=dict(run.stats) | {"lp": lp})
    problems = gf.diagnostics.convergence(stuck).problems
    assert any("stayed at one point for" in line and "use move='split'" in line for line in problems)


@pytest.mark.slow
def test_chains_do_not_depend_on_how_many_there_are(make_small):
    posterior = make_small(heads=(2, 2), widths=(8, 8, 8)).posterior
    few, many = (gf.sample(posterior, **OPTIONS | {"chains": chains}) for chains in (2, 6))
    np.testing.assert_allclose(many.variables["theta"][:2], few.variables["theta"], rtol=1e-9)
