"""How the collapsed kernel decides to move, that it says so, and that its coordinates are the law they claim."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer.core.numerics import numerics
from gibbsformer.models import collapsed
from gibbsformer.sampler.guide import laplace
from gibbsformer.sampler.job import prepare
from gibbsformer.sampler.settings import RunSettings

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


def test_moves_follow_the_width(make_small):
    """Independent proposals where the posterior is Gaussian, kicks where it is not quite, NUTS without a mode."""
    move = lambda *widths: decided(make_small(heads=(2, 2), widths=widths, temperature=0.05).posterior)  # noqa: E731
    assert move(1000, 1000, 1000) == ("independent", None)
    narrow, kicks = move(6, 6, 6)
    assert narrow == "split"
    assert 2 <= kicks <= 8
    assert move(3, 6, 6) == ("nuts", None)


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
        ({"move": "nuts", "kicks": 2}, "kicks=2 are for move='split'"),
        ({"kicks": 0}, "kicks=0 must be a whole number, 1 or more"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        gf.Collapsed(**options)


def test_a_mode_is_asked_for_where_there_is_none(make_small):
    posterior = make_small(heads=(2, 2), widths=(3, 6, 6)).posterior
    for move in ("split", "independent"):
        with pytest.raises(ValueError, match=r"widths=\(3, 6, 6\).*use gf.Collapsed\(move='nuts'\)"):
            gf.sample(posterior, gf.Collapsed(move=move), **OPTIONS)


def test_the_decision_is_stored_and_resumed(make_small, tmp_path, monkeypatch):
    posterior = make_small(heads=(2, 2), widths=(8, 8, 8)).posterior
    whole = gf.sample(posterior, **OPTIONS | {"draws": 20}, store=tmp_path / "whole.h5")
    gf.sample(posterior, **OPTIONS, store=tmp_path / "part.h5")
    monkeypatch.setattr("gibbsformer.sampler.kernels.collapsed._trial", None)  # not tried again
    resumed = gf.resume(tmp_path / "part.h5", draws=20, progress=False)
    np.testing.assert_array_equal(resumed.variables["theta"], whole.variables["theta"])
    assert resumed.settings["options"] == whole.settings["options"]


def test_files_from_before_go_on_with_nuts(make_small):
    posterior = make_small(heads=(2, 2), widths=(8, 8, 8)).posterior
    run = gf.sample(posterior, gf.Collapsed(move="nuts"), **OPTIONS)
    settings = run.settings | {"options": {"max_doublings": 8, "target_acceptance": 0.75, "initial_step_size": 0.5}}
    assert RunSettings.from_stored(settings).resolved_kernel() == gf.Collapsed(move="nuts")


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


@pytest.mark.slow
def test_chains_do_not_depend_on_how_many_there_are(make_small):
    posterior = make_small(heads=(2, 2), widths=(8, 8, 8)).posterior
    few, many = (gf.sample(posterior, **OPTIONS | {"chains": chains}) for chains in (2, 6))
    np.testing.assert_allclose(many.variables["theta"][:2], few.variables["theta"], rtol=1e-9)
