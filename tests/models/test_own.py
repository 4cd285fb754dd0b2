"""``gf.Model``: its density and prior, what it refuses, and what a sample file says of it."""

import functools
import pickle
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import gibbsformer as gf
from gibbsformer.models import own_keeping, own_space
from gibbsformer.models.solvable import check_solvable

rng = np.random.default_rng(2)
X = rng.standard_normal((7, 3))
Y = rng.standard_normal(7)


@pytest.fixture
def own(monkeypatch):
    """The module of own networks, importable by name."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import own_networks

    return own_networks


def linear(**options):
    options = {"shapes": {"w": (3,)}, "variances": 1.0, "forward": lambda w, x: x @ w["w"]} | options
    return gf.Model(**{name: value for name, value in options.items() if value is not None})


def test_density_by_hand(own, x64):
    posterior = own.model().posterior(X, Y, 0.3)
    w = {name: np.asarray(each) for name, each in posterior.model.draw(jax.random.key(1)).items()}
    f = np.tanh(X @ w["W"].T) @ w["a"]
    expected = scipy.stats.norm.logpdf(Y, f, np.sqrt(0.3)).sum()
    expected += scipy.stats.norm.logpdf(w["W"], 0, np.sqrt(1 / 3)).sum()
    expected += scipy.stats.norm.logpdf(w["a"], 0, np.sqrt(0.5)).sum()
    np.testing.assert_allclose(posterior.log_density(w), expected, rtol=1e-12)  # float64


def test_density_of_several_outputs_and_of_a_prior_of_ones_own(own, x64):
    model = gf.Model(
        forward=lambda w, x: jnp.stack([x @ w["W"][0], x @ w["W"][1]], 1) * w["a"][:2],
        log_prior=own.log_laplace,
        draw_prior=own.draw_laplace,
    )
    assert model.shapes == {"W": (4, 3), "a": (4,)}
    posterior = model.posterior(X, np.stack([Y, -Y], 1), 0.3)
    w = model.draw(jax.random.key(1))
    f = np.stack([X @ w["W"][0], X @ w["W"][1]], 1) * np.asarray(w["a"][:2])
    expected = scipy.stats.norm.logpdf(np.stack([Y, -Y], 1), f, np.sqrt(0.3)).sum()
    expected += (
        scipy.stats.laplace.logpdf(np.asarray(w["W"])).sum() + scipy.stats.laplace.logpdf(np.asarray(w["a"])).sum()
    )
    expected += 16 * np.log(2)  # the prior as given is not normalised
    np.testing.assert_allclose(posterior.log_density(w), expected, rtol=1e-12)  # float64


def test_batches_estimate_the_gradient_without_bias(own, x64):
    """The mean over all batches of three of the seven examples is the whole gradient."""
    posterior = own.model().posterior(X, Y, 0.3)
    data, w = posterior.weight_data("float64"), posterior.model.draw(jax.random.key(1))
    gradient = posterior.target().minibatch_gradient
    batches = jnp.asarray([[i, j, k] for i in range(7) for j in range(i) for k in range(j)])
    found = jax.vmap(lambda b: gradient(data, w, b))(batches)
    whole = jax.grad(posterior.log_density)(w)
    for name in whole:
        np.testing.assert_allclose(found[name].mean(0), whole[name], rtol=1e-10)  # float64


def test_a_column_is_a_vector_and_classes_are_signs():
    model = linear(forward=lambda w, x: (x @ w["w"])[:, None])
    posterior = model.posterior(X, np.where(Y > 0, "up", "down"), 0.1)
    assert posterior.classes == ("down", "up")
    np.testing.assert_array_equal(posterior.y, np.sign(Y))
    assert model.posterior(X, Y[:, None], 0.1).y.shape == (7,)
    _, test_labels = posterior.checked_test((X[:2], ["up", "down"]))
    assert test_labels.tolist() == ["up", "down"]
    assert posterior.encoded(test_labels).tolist() == [1, -1]


def test_several_classes_are_one_hot():
    model = linear(shapes={"w": (3, 3)})
    names = np.array(["a", "b", "c", "a", "b", "c", "a"])
    posterior = model.posterior(X, names, 0.1)
    assert posterior.classes == ("a", "b", "c")
    np.testing.assert_array_equal(posterior.y, np.eye(3)[[0, 1, 2, 0, 1, 2, 0]])
    found, test = restored(posterior, (X[:2], np.array(["c", "a"])))
    assert found.classes == posterior.classes
    np.testing.assert_array_equal(found.y, posterior.y)
    assert test[1].tolist() == ["c", "a"]
    with pytest.raises(ValueError, match=r"y \(7,\) holds .*, and the network has outputs=3: give"):
        model.posterior(X, Y, 0.1)


def test_whole_numbers_stay_whole():
    """Tokens by number, that an embedding looks up."""
    model = linear(forward=lambda w, x: w["w"][x].sum(1))
    posterior = model.posterior(np.array([[0, 1], [2, 2]]), [1.0, 2.0], 0.1)
    assert posterior.weight_data("float32").x.dtype == jnp.int32
    with pytest.raises(ValueError, match=r"test inputs have shape .* dtype float64"):
        posterior.checked_inputs([[0.5, 1.0]])


def test_equal_models_are_one_target(own):
    assert own.model() == own.model()
    assert own.model().posterior(X, Y, 0.3).target() is own.model().posterior(X[:4], Y[:4], 0.1).target()
    assert own.model() != own.model(variances=1.0)
    partial = functools.partial(own.mlp, slope=2.0)
    assert own.model(partial) == own.model(functools.partial(own.mlp, slope=2.0))
    assert own.model(partial) != own.model()
    assert own.model() != 3
    pickled = pickle.loads(pickle.dumps(own.model()))  # for worker processes
    assert pickled == own.model()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"forward": 3}, "forward is a int: give a function"),
        ({"variances": None}, "the prior must be given once: give variances="),
        ({"log_prior": lambda w: 0.0}, "the prior must be given once"),
        ({"variances": None, "log_prior": lambda w: 0.0}, "log_prior and draw_prior belong together: give both"),
        ({"variances": {"w": 1.0, "v": 1.0}}, r"variances are given for \['v', 'w'\] and shapes for \['w'\]: give one"),
        ({"variances": {"w": -1.0}}, r"variances\['w'\]=-1.0 must be a finite number above 0"),
        ({"variances": {}}, "variances are given for"),
        ({"shapes": {}}, "shapes={}: give a shape for each array"),
        ({"shapes": (3,)}, "give a shape for each array by name"),
        ({"shapes": {"w": (3, 0)}}, r"shapes\['w'\]=0 must be a whole number, 1 or more"),
        ({"shapes": {"a/b": (3,)}}, "weight 'a/b' is no name that a file can hold: use letters"),
        ({"shapes": {"f": (3,)}}, "weight 'f' has the name of something else that is recorded: choose another"),
        ({"shapes": {"w": (3,), "w_dim_0": ()}}, "weight 'w_dim_0' has the name of another array, 'w'"),
        ({"observables": lambda w: w}, "observable 'w' has the name of another array"),
        ({"observables": lambda w: w["w"]}, "observables returns an array of shape .*: make it return arrays by name"),
        ({"observables": lambda w: w["u"]}, "observables fails for .*KeyError.*: make it work"),
        (
            {"variances": None, "log_prior": lambda w: w["w"], "draw_prior": lambda key: {"w": jnp.zeros(3)}},
            "log_prior returns an array of shape .*: make it return one number",
        ),
        (
            {"variances": None, "log_prior": lambda w: 0.0, "draw_prior": lambda key: {"w": jnp.zeros(4)}},
            "draw_prior draws arrays of shapes .*: give shapes=",
        ),
        (
            {"variances": None, "log_prior": lambda w: 0.0, "draw_prior": lambda key: jnp.zeros(4)},
            "draw_prior returns an array of shape .*, float64: make it return arrays by name",
        ),
    ],
)
def test_bad_models_are_one_line(options, said):
    with pytest.raises(gf.core.checks.InputError, match=said) as refused:
        linear(**options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda w, x: x @ w["w"][:2], r"forward fails for .*\(7, 3\), float64 \(TypeError: .*: make it work"),
        (lambda w, x: x * w["w"], r"forward returns \(7, 3\): y \(7,\) holds real values, .*: give"),
        (lambda w, x: w["w"], r"forward returns an array of shape \(3,\), float64 .*: make it return real outputs"),
        (lambda w, x: x.sum(), "make it return real outputs"),
        (lambda w, x: (x @ w["w"] > 0), "an array of shape .*, bool .*: make it return real"),
        (lambda w, x: "f", "forward fails for|is not"),
        (lambda w, x: jnp.log(x @ w["w"]), "forward gives nan for example .* at a draw of the prior.*: make it finite"),
        (lambda w, x: jnp.sign(x @ w["w"]), "forward does not depend on the weights, or has no gradient .*: make"),
        (lambda w, x: x[:, 0], "forward does not depend on the weights"),
        (lambda w, x: x @ w["w"] + jnp.sqrt(w["w"][0] - w["w"][0]), "gradient in 'w' is NaN .*: make forward diff"),
        (lambda w, x: x @ np.asarray(w["w"]), "forward fails for .*TracerArrayConversionError.*: make it work"),
        (
            lambda w, x: jax.lax.while_loop(lambda c: c.sum() < 9.0, lambda c: 2 * c, (x @ w["w"]) ** 2),
            "forward has no gradient in the weights .*: write it with differentiable",
        ),
    ],
)  # fmt: skip
def test_forward_passes_that_cannot_be_sampled(forward, said):
    with pytest.raises(gf.core.checks.InputError, match=said) as refused:
        linear(forward=forward).posterior(X, Y, 0.1)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((X, Y[:5], 0.1), "x has 7 examples and y 5 labels: give one label each"),
        ((X, np.stack([Y, Y], 1), 0.1), r"outputs of shape \(7,\) .* y has shape \(7, 2\): make them the same"),
        ((X, Y, 0.0), "temperature=0.0 must be"),
        ((X * np.nan, Y, 0.1), "x is nan at index"),
        ((X, Y, 0.1, (1, 2, 3)), "classes=.* must be two"),
    ],
)
def test_bad_data(arguments, said):
    with pytest.raises(gf.core.checks.InputError, match=said):
        linear().posterior(*arguments)


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (X, "test is a ndarray: give"),
        ((X[:, :2], Y), "test inputs have shape"),
        ((X, Y[:3]), "test has labels of shape .* 7 inputs"),
    ],
)
def test_bad_test_examples(test, said):
    with pytest.raises(gf.core.checks.InputError, match=said):
        linear().posterior(X, Y, 0.1).checked_test(test)


def test_an_array_that_is_not_used_is_worth_a_warning():
    with pytest.warns(gf.InputWarning, match="forward has no gradient in 'v' at a draw of the prior: check"):
        linear(shapes={"w": (3,), "v": (2,)}).posterior(X, Y, 0.1)


def test_matrices_that_are_factorised_are_noticed():
    """Where LAPACK is called by several devices of a CPU, it can hang (``sampler.driver``)."""

    def solves(w, x):
        return jnp.linalg.solve(jnp.eye(3) + jnp.outer(w["w"], w["w"]), x.T).T @ w["w"]

    assert linear(forward=solves).posterior(X, Y, 0.1).target().lapack
    assert not linear().posterior(X, Y, 0.1).target().lapack


def test_which_training_outputs_are_recorded():
    assert own_space.shown(1).tolist() == [0]
    assert own_space.shown(3).tolist() == [0, 1, 2]
    assert own_space.shown(101)[[0, -1]].tolist() == [0, 100]
    assert len(own_space.shown(101)) == 8


def test_what_needs_the_solvable_network_is_refused_in_one_line():
    posterior = linear().posterior(X, Y, 0.1)
    key = jax.random.key(0)
    calls = [
        lambda: gf.theory.solve(posterior),
        lambda: gf.theory.gp(posterior),
        lambda: gf.theory.grid(posterior, [2], [0.1]),
        lambda: gf.evidence(posterior, key=key, method="importance"),
        lambda: gf.sample(posterior, "gibbs", key=key),
        lambda: gf.sample(posterior, "split", key=key),
        lambda: gf.sample(posterior, "nuts", key=key, target="collapsed"),
        lambda: gf.sample(posterior, "nuts", key=key, init="collapsed"),
    ]
    for call in calls:
        with pytest.raises(gf.core.checks.InputError) as refused:
            call()
        assert "\n" not in str(refused.value)
    with pytest.raises(
        ValueError, match=r"the theory needs the solvable network of a gf.Posterior, and .* ModelPosterior"
    ):
        calls[0]()
    with pytest.raises(ValueError, match=r"a cake needs .*posterior is a int: give gf.Posterior"):
        check_solvable("a cake", 3)


def restored(posterior, test=None, **options):
    settings, arrays = posterior.stored(test)
    flat = {name: array for group in arrays.values() for name, (_, array) in group.items()}
    return gf.models.ModelPosterior.restored(settings, flat, {}, **options)


def test_an_importable_model_is_found_again(own):
    options = {"log_prior": own.log_laplace, "draw_prior": own.draw_laplace, "variances": None}
    for model in (own.model(), own.model(functools.partial(own.mlp, slope=0.5)), own.model(**options)):
        found, test = restored(model.posterior(X, Y > 0, 0.2), (X[:2], np.array([True, False])))
        assert found.model == model
        assert found.temperature == 0.2
        assert found.classes == (False, True)
        assert test[1].tolist() == [True, False]


def test_functions_that_changed_are_refused(own, monkeypatch):
    posterior = own.model().posterior(X, Y, 0.2)
    settings, arrays = posterior.stored(None)
    flat = {name: array for group in arrays.values() for name, (_, array) in group.items()}
    monkeypatch.setattr(own, "mlp", lambda w, x: 1.01 * jnp.tanh(x @ w["W"].T) @ w["a"])
    with pytest.raises(ValueError, match=r"own_networks:mlp, .* changed since the file was written.*give model="):
        gf.models.ModelPosterior.restored(settings, flat, {})


def test_a_function_that_is_gone_leaves_the_draws_readable(own, monkeypatch):
    posterior = own.model().posterior(X, Y, 0.2)
    settings, arrays = posterior.stored(None)
    flat = {name: array for group in arrays.values() for name, (_, array) in group.items()}
    settings["model"]["functions"]["forward"]["function"] = "own_networks:no_such"
    found, _ = gf.models.ModelPosterior.restored(settings, flat, {})
    assert set(found.target().describe(found, 0).variables) > {"W", "a", "norm", "f_train"}
    with pytest.raises(ValueError, match=r"forward='own_networks:no_such' cannot be imported .*give model= to gf.open"):
        found.log_density({"W": jnp.zeros((4, 3)), "a": jnp.zeros(4)})
    again, _ = gf.models.ModelPosterior.restored(settings, flat, {}, model=own.model())
    assert again.model == own.model()


def test_a_crafted_file_names_no_function_of_the_standard_library(own):
    posterior = own.model().posterior(X, Y, 0.2)
    settings, arrays = posterior.stored(None)
    flat = {name: array for group in arrays.values() for name, (_, array) in group.items()}
    settings["model"]["functions"]["forward"] = {"function": "os.path:join", "options": {}}
    found, _ = gf.models.ModelPosterior.restored(settings, flat, {})
    assert found.model.forgotten


def test_a_lambda_is_found_in_its_own_process_alone(monkeypatch):
    model = linear()
    posterior = model.posterior(X, Y, 0.2)
    assert restored(posterior)[0].model is model
    settings, arrays = posterior.stored(None)
    flat = {name: array for group in arrays.values() for name, (_, array) in group.items()}
    same = linear(forward=lambda w, x: x @ w["w"])
    other = linear(forward=lambda w, x: x @ (2 * w["w"]))
    monkeypatch.setattr(own_keeping, "_KNOWN", [])  # as in another process
    found, _ = gf.models.ModelPosterior.restored(settings, flat, {})
    with pytest.raises(
        ValueError, match=r"forward is a lambda \(line \d+ of .*\), which a file cannot hold: give model="
    ):
        found.log_density({"w": jnp.zeros(3)})
    assert gf.models.ModelPosterior.restored(settings, flat, {}, model=same)[0].model is same
    for wrong, said in (
        (other, "model is not the one that was sampled, as the log-density .*: give the same functions"),
        (linear(variances=2.0), "model is not the one that was sampled"),
        (linear(shapes={"w": (4,)}), "model has weights .* and the file .*: give the one"),
        (3, "model is a int: give the gf.Model"),
    ):
        with pytest.raises(ValueError, match=said):
            gf.models.ModelPosterior.restored(settings, flat, {}, model=wrong)


def test_numpyro_has_the_same_density(own, x64):
    from numpyro.infer.util import log_density

    for options in ({}, {"variances": None, "log_prior": own.log_laplace, "draw_prior": own.draw_laplace}):
        posterior = own.model(**options).posterior(X, Y, 0.3)
        w = posterior.model.draw(jax.random.key(1))
        found, _ = log_density(posterior.numpyro_model, (), {}, w)
        np.testing.assert_allclose(found, posterior.log_density(w), rtol=1e-12)  # float64


def test_modules_that_are_not_installed_or_are_something_else(monkeypatch):
    for name, make in (("equinox", gf.Model.from_equinox), ("flax", gf.Model.from_flax)):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ValueError, match=f"{name} is not installed: install it with pip"):
            make(3, variances=1.0)
