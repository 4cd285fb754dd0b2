"""What a user may get wrong: each is a ValueError of one line with the argument, its value, and the remedy."""

import re
import zipfile

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gibbsformer as gf

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
P, N_0, S = 4, 3, 5
X = RNG.standard_normal((P, N_0, S))
Y = RNG.choice([-1.0, 1.0], P)
W = RNG.standard_normal((2, N_0, N_0))
ATTENTION = gf.Attention([W, W])
DATA = gf.PathInputs(RNG.standard_normal((P, N_0, 2, 2)))
NETWORK = gf.Network(N_0, (2, 2), (3, 4, 5))
POSTERIOR = gf.Posterior(NETWORK, DATA, Y, 0.1)
TEST = (gf.PathInputs(RNG.standard_normal((2, N_0, 2, 2))), np.ones(2))

REMEDY = re.compile(
    r"\b(give|make|must|choose|raise|transpose|remove|upgrade|check|create|use|overwrite|takes any|counted from)\b"
)


def changed(array, value):
    result = np.array(array, dtype=float)
    result.flat[1] = value
    return result


def sample(posterior=POSTERIOR, kernel="hmc", key=KEY, **options):
    return gf.sample(
        posterior, kernel, key=key, **({"warmup": 1, "draws": 1, "chains": 1, "progress": False} | options)
    )


def uniform(columns):
    return lambda x: np.broadcast_to(columns / S, (len(x), 1, S, S))


def network(**options):
    return lambda: gf.Network(**({"input_width": N_0, "heads": (2, 2), "widths": (3, 4, 5)} | options))


def posterior(**options):
    return lambda: gf.Posterior(**({"network": NETWORK, "data": DATA, "y": Y, "temperature": 0.1} | options))


def markov(**options):
    small = {"key": KEY, "examples": 2, "test_examples": 2, "features": 4, "length": 3}
    return lambda: gf.tasks.hidden_markov_chain(**(small | options))


# id -> (call, what the message names, what it shows of the value)
CASES = {
    # network
    "heads zero": (network(heads=(2, 0)), "heads[1]", "0"),
    "heads negative": (network(heads=(-1, 2)), "heads[0]", "-1"),
    "heads one value": (network(heads=2), "heads", "2"),
    "heads none": (network(heads=()), "heads", "()"),
    "heads not whole": (network(heads=(2, 1.5)), "heads[1]", "1.5"),
    "heads text": (network(heads=("2", "2")), "heads[0]", "'2'"),
    "heads nested": (network(heads=((1, 2), (1, 2))), "heads[0]", "(1, 2)"),
    "widths too few": (network(widths=(3, 4)), "widths", "2 entries"),
    "widths zero": (network(widths=(3, 4, 0)), "widths[2]", "0"),
    "widths not whole": (network(widths=(3, 4.5, 5)), "widths[1]", "4.5"),
    "widths nan": (network(widths=(3, np.nan, 5)), "widths[1]", "nan"),
    "widths infinite": (network(widths=(3, np.inf, 5)), "widths[1]", "inf"),
    "widths truth value": (network(widths=(3, True, 5)), "widths[1]", "True"),
    "widths far too large": (network(widths=(3, 10**400, 5)), "widths[1]", None),
    "input_width zero": (network(input_width=0), "input_width", "0"),
    "input_width none": (network(input_width=None), "input_width", "None"),
    "input_width complex": (network(input_width=3 + 0j), "input_width", "3"),
    "variances zero": (network(variances=(1, 0, 1, 1)), "variances[1]", "0"),
    "variances negative": (network(variances=(1, 1, -2.0, 1)), "variances[2]", "-2.0"),
    "variances nan": (network(variances=(np.nan, 1, 1, 1)), "variances[0]", "nan"),
    "variances too many": (network(variances=(1,) * 5), "variances", "5 entries"),
    "variances one value": (network(variances=2.0), "variances", "2.0"),
    "variances matrix": (network(variances=np.ones((4, 2))), "variances[0]", None),
    # attention
    "attention no layers": (lambda: gf.Attention([]), "layers", None),
    "attention text": (lambda: gf.Attention("softmax"), "layers", None),
    "attention one layer unwrapped": (lambda: gf.Attention(W), "layers", "(2, 3, 3)"),
    "attention not square": (lambda: gf.Attention([np.ones((2, 3, 4))]), "layers[0]", "(2, 3, 4)"),
    "attention nan": (lambda: gf.Attention([changed(W, np.nan)]), "layers[0]", "nan"),
    "attention infinite": (lambda: gf.Attention([W, changed(W, np.inf)]), "layers[1]", "inf"),
    "attention ragged": (lambda: gf.Attention([[[1, 2], [3], [4, 5]]]), "layers[0]", "list"),
    "attention number": (lambda: gf.Attention([3.0]), "layers[0]", "()"),
    "query key disagree": (lambda: gf.Attention([(np.ones((2, 4, 3)), np.ones((2, 5, 3)))]), "layers[0]", "(2, 5, 3)"),
    "query nan": (lambda: gf.Attention([(changed(W, np.nan), W)]), "layers[0] Q", "nan"),
    "key rank": (lambda: gf.Attention([(W, W[0])]), "layers[0] K", "(3, 3)"),
    "given nan": (lambda: gf.Attention.given([np.full((P, 1, S, S), np.nan)]), "patterns[0]", "nan"),
    "given rank": (lambda: gf.Attention.given([np.ones((P, S, S))]), "patterns[0]", "(4, 5, 5)"),
    # contraction
    "x rank": (lambda: gf.contract(X[0], ATTENTION), "x", "(3, 5)"),
    "x nan": (lambda: gf.contract(changed(X, np.nan), ATTENTION), "x", "nan"),
    "x infinite": (lambda: gf.contract(changed(X, -np.inf), ATTENTION), "x", "-inf"),
    "x no examples": (lambda: gf.contract(X[:0], ATTENTION), "x", "(0, 3, 5)"),
    "x text": (lambda: gf.contract("train.npy", ATTENTION), "x", "str"),
    "x ragged": (lambda: gf.contract([[[1.0], [2.0, 3.0]]], ATTENTION), "x", "list"),
    "x complex": (lambda: gf.contract(X + 1j, ATTENTION), "x", "complex"),
    "x width": (lambda: gf.contract(X[:, :2], ATTENTION), "x", "(4, 2, 5)"),
    "x width query key": (lambda: gf.contract(X[:, :2], gf.Attention([(W, W)])), "x", "(4, 2, 5)"),
    "attention of wrong kind": (lambda: gf.contract(X, [W]), "attention", "list"),
    "readout unknown": (lambda: gf.contract(X, ATTENTION, "lst"), "readout", "'last'"),
    "readout number": (lambda: gf.contract(X, ATTENTION, -1), "readout", "-1"),
    "columns do not sum to 1": (
        lambda: gf.contract(X, gf.Attention([uniform(np.full((S, S), 2.0))])), "attention of layer 1", "by up to 1",
    ),
    "rows sum to 1 instead": (
        lambda: gf.contract(X, gf.Attention([W, uniform(np.arange(S)[None] / 2 * np.ones((S, 1)))])),
        "attention of layer 2", "transpose",
    ),
    "user attention nan": (
        lambda: gf.contract(X, gf.Attention([uniform(np.full((S, S), np.nan))])), "attention of layer 1", "NaN",
    ),
    "user attention shape": (
        lambda: gf.contract(X, gf.Attention([lambda x: np.ones((len(x), S, S))])), "attention of layer 1", "(4, 5, 5)",
    ),
    "user attention returns nothing": (
        lambda: gf.contract(X, gf.Attention([lambda x: None])), "attention of layer 1", "None",
    ),
    "given for fewer examples": (
        lambda: gf.contract(X, gf.Attention.given([np.full((3, 1, S, S), 1 / S)])),
        "attention of layer 1", "(3, 1, 5, 5)",
    ),
    "given for more examples": (
        lambda: gf.contract(
            np.ones((128, 1, 2)), gf.Attention.given([np.full((200, 1, 2, 2), 0.5)])
        ), "attention of layer 1", "200",
    ),
    "path names too few": (
        lambda: gf.contract(X, gf.Attention([W, W], path_names=("good", "bad"))), "path_names", "('good', 'bad')",
    ),
    "path names twice": (lambda: gf.PathInputs(DATA.xi, ("a", "b", "a", "c")), "path_names", "'a'"),
    # path inputs and sub-networks
    "xi rank": (lambda: gf.PathInputs(np.ones((3, 4))), "xi", "(3, 4)"),
    "xi nan": (lambda: gf.PathInputs(changed(DATA.xi, np.nan)), "xi", "nan"),
    "xi no examples": (lambda: gf.PathInputs(DATA.xi[:0]), "xi", "(0, 3, 2, 2)"),
    "path unknown": (lambda: DATA.select(["(1 11)"]), "path", "'(1 1)'"),
    "path out of range": (lambda: DATA.select([4]), "path", "4"),
    "path negative": (lambda: DATA.select([-1]), "path", "-1"),
    "paths none": (lambda: DATA.select([]), "paths", "()"),
    "paths twice": (lambda: DATA.select([0, "(1 1)"]), "paths", "(0, '(1 1)')"),
    "paths no sub-network": (lambda: gf.theory.solve(POSTERIOR, paths=[0, 1, 2]), "paths", "theory.gp"),
    "gp path unknown": (lambda: gf.theory.gp(POSTERIOR, paths=["good"]), "path", "'good'"),
    # posterior
    "y length": (posterior(y=Y[:3]), "y", "3"),
    "y nan": (posterior(y=changed(Y, np.nan)), "y", "nan"),
    "y infinite": (posterior(y=changed(Y, np.inf)), "y", "inf"),
    "y column": (posterior(y=Y[:, None]), "y", "(4, 1)"),
    "y text": (posterior(y=["cat", "dog", "cow", "dog"]), "y", "'cow'"),
    "data heads": (posterior(data=gf.PathInputs(np.ones((P, N_0, 4)))), "heads", "(4,)"),
    "data width": (posterior(data=gf.PathInputs(np.ones((P, 2, 2, 2)))), "input_width", "2"),
    "data of wrong kind": (posterior(data=X), "data", "ndarray"),
    "network of wrong kind": (posterior(network=(2, 2)), "network", "tuple"),
    "temperature zero": (posterior(temperature=0.0), "temperature", "0.0"),
    "temperature negative": (posterior(temperature=-1), "temperature", "-1"),
    "temperature nan": (posterior(temperature=np.nan), "temperature", "nan"),
    "temperature infinite": (posterior(temperature=np.inf), "temperature", "inf"),
    "temperature text": (posterior(temperature="0.1"), "temperature", "'0.1'"),
    "temperature numpy text": (posterior(temperature=np.str_("cold")), "temperature", "cold"),
    "temperature none": (posterior(temperature=None), "temperature", "None"),
    "temperature matrix": (posterior(temperature=np.eye(2)), "temperature", None),
    "temperature lost in rounding": (
        lambda: gf.theory.solve(
            gf.Posterior(NETWORK, gf.PathInputs(np.ones((P, N_0, 2, 2))), Y, 1e-300)
        ), "temperature", "1e-300",
    ),
    # keys
    "key int": (markov(key=0), "key", "0"),
    "key old style": (markov(key=jax.random.PRNGKey(0)), "key", "uint32"),
    "key numpy": (markov(key=np.zeros((2, 2), np.uint32)), "key", None),
    "key batch": (markov(key=jax.random.split(KEY, 3)), "key", "(3,)"),
    "key none": (markov(key=None), "key", "None"),
    "sample key int": (lambda: sample(key=7), "key", "7"),
    "sample key old style": (lambda: sample(key=jax.random.PRNGKey(0)), "key", "uint32"),
    "sample key batch": (lambda: sample(key=jax.random.split(KEY)), "key", "(2,)"),
    # tasks
    "task unknown": (lambda: gf.tasks.by_name("hmn", 0), "task", "'hmm'"),
    "variant unknown": (markov(variant="2d"), "variant", "2d"),
    "examples odd": (markov(examples=3), "examples", "3"),
    "examples zero": (markov(examples=0), "examples", "0"),
    "test_examples odd": (markov(test_examples=5), "test_examples", "5"),
    "features not whole": (markov(features=4.5), "features", "4.5"),
    "length one": (markov(length=1), "length", "1"),
    "stay outside": (markov(stay=(0.7, 1.3)), "stay", "(0.7, 1.3)"),
    "stay nan": (markov(stay=(np.nan, 0.3)), "stay", "nan"),
    "stay one value": (markov(stay=0.7), "stay", "0.7"),
    "stay one entry": (markov(stay=(0.7,)), "stay", "0.7"),
    "stay three entries": (markov(stay=(0.7, 0.3, 0.1)), "stay", "0.1"),
    "stay text": (markov(stay=("a", "b")), "stay", "'a'"),
    "noise negative": (markov(perpendicular_noise=-1.0), "perpendicular_noise", "-1.0"),
    "noise nan": (markov(perpendicular_noise=np.nan), "perpendicular_noise", "nan"),
    "task width zero": (lambda: markov()().posterior(0), "width", "0"),
    "task widths too few": (lambda: markov()().posterior((3, 3)), "widths", "2 entries"),
    "arrays labels": (lambda: gf.tasks.arrays(X, Y[:2], ATTENTION), "y", "2"),
    "arrays test labels missing": (lambda: gf.tasks.arrays(X, Y, ATTENTION, x_test=X), "y_test", None),
    "arrays test labels": (lambda: gf.tasks.arrays(X, Y, ATTENTION, X, Y[:1]), "y_test", "1"),
    "arrays test width": (lambda: gf.tasks.arrays(X, Y, ATTENTION, X[:, :2], Y), "x_test", "2"),
    "arrays x nan": (lambda: gf.tasks.arrays(changed(X, np.nan), Y, ATTENTION), "x", "nan"),
    "no test set": (lambda: gf.tasks.arrays(X, Y, ATTENTION).test_inputs, "test", None),
    # sampling
    "posterior of wrong kind": (lambda: sample(posterior=NETWORK), "posterior", "Network"),
    "kernel unknown": (lambda: sample(kernel="nutz"), "kernel", "'nuts'"),
    "kernel class": (lambda: sample(kernel=gf.NUTS), "kernel", "NUTS"),
    "kernel number": (lambda: sample(kernel=3), "kernel", "3"),
    "draws zero": (lambda: sample(draws=0), "draws", "0"),
    "draws not whole": (lambda: sample(draws=1.5), "draws", "1.5"),
    "draws beyond memory": (lambda: sample(draws=10**12), "draws", "1000000000000"),
    "chains zero": (lambda: sample(chains=0), "chains", "0"),
    "chains negative": (lambda: sample(chains=-2), "chains", "-2"),
    "warmup negative": (lambda: sample(warmup=-1), "warmup", "-1"),
    "chunk zero": (lambda: sample(chunk=0), "chunk", "0"),
    "keep unknown": (lambda: sample(keep="weight"), "keep", "'weights'"),
    "precision unknown": (lambda: sample(precision="float16"), "precision", "float16"),
    "test no pair": (lambda: sample(test=TEST[0]), "test", "PathInputs"),
    "test three entries": (lambda: sample(test=(*TEST, 1)), "test", "tuple"),
    "test sequences": (lambda: sample(test=(X, Y)), "test", "tuple"),
    "test labels": (lambda: sample(test=(TEST[0], Y)), "test", "4 labels"),
    "test labels nan": (lambda: sample(test=(TEST[0], [np.nan, 1.0])), "test labels", "nan"),
    "test heads": (lambda: sample(test=(gf.PathInputs(np.ones((2, N_0, 4))), [1, 1])), "test inputs", "(2, 3, 4)"),
    "store number": (lambda: sample(store=3), "store", "3"),
    "target acceptance": (lambda: gf.NUTS(target_acceptance=1.2), "target_acceptance", "1.2"),
    "step size": (lambda: gf.NUTS(initial_step_size=0.0), "initial_step_size", "0.0"),
    "doublings": (lambda: gf.NUTS(max_doublings=0), "max_doublings", "0"),
    "leapfrog steps": (lambda: gf.HMC(integration_steps=2.5), "integration_steps", "2.5"),
    "target": (lambda: sample(kernel="nuts", target="weight"), "target", "did you mean 'weights'"),
    "target of kernel": (lambda: sample(kernel="sgld", target="marginal"), "target", "use target='weights'"),
    "old space": (lambda: gf.sampler.resolve_kernel("nuts", {"space": "weights"}), "space", "target='weights'"),
    "batch": (lambda: sample(kernel=gf.SGLD(batch_size=9)), "batch_size", "9"),
    "sgld step": (lambda: gf.SGLD(step_size=-1.0), "step_size", "-1.0"),
    "friction": (lambda: gf.SGHMC(friction=0.0), "friction", "0.0"),
    "ensemble": (lambda: sample(kernel="ghmc", chains=2), "chains", "2"),
    "thin": (lambda: sample(thin=0), "thin", "0"),
    "chains at once": (lambda: sample(chains_at_once=0), "chains_at_once", "0"),
    "until": (lambda: sample(until=400), "until", "400"),
    "until nothing": (lambda: gf.until(), "until", None),
    "until rhat": (lambda: gf.until(rhat=1.0), "rhat", "1.0"),
    "until ess": (lambda: gf.until(ess=-1), "ess", "-1"),
    "progress": (lambda: sample(progress="bars"), "progress", "bars"),
    "init shapes": (lambda: sample(init={"a": np.ones(3)}), "init", "(3,)"),
    "init array": (lambda: sample(init=np.ones(3)), "init", "ndarray"),
    "init nan": (
        lambda: sample(init={n: np.full((4, *s), np.nan) for n, s in NETWORK.weight_shapes.items()}, chains=4), "init",
        "NaN",
    ),
    "resume draws": (lambda: gf.resume("none.h5"), "none.h5", None),
    # prediction
    "predict shape": (lambda: gf.predict(gf.theory.gp(POSTERIOR), gf.PathInputs(np.ones((2, N_0, 3)))), "data_test",
                      "(2, 3, 3)"),
    "predict sequences": (lambda: gf.predict(gf.theory.gp(POSTERIOR), X), "data_test", "(4, 3, 5)"),
    "accuracy labels": (lambda: gf.accuracy(gf.predict(gf.theory.gp(POSTERIOR), TEST[0]), Y), "y_test", "4"),
    "accuracy labels nan": (
        lambda: gf.accuracy(gf.predict(gf.theory.gp(POSTERIOR), TEST[0]), [1.0, np.nan]), "y_test", "nan",
    ),
}  # fmt: skip


def refused(call, argument, shown):
    """The message of the ValueError that ``call`` raises; it is one line with the argument, the value and a remedy."""
    with pytest.raises(ValueError) as found:  # noqa: PT011 - the message is looked at below
        call()
    message = str(found.value)
    assert "\n" not in message, f"more than one line: {message!r}"
    assert argument in message, f"{argument!r} is not named: {message!r}"
    assert shown is None or shown in message, f"{shown!r} is not shown: {message!r}"
    assert REMEDY.search(message), f"no remedy: {message!r}"
    assert found.value.__cause__ is None
    return message


@pytest.mark.parametrize("case", CASES)
def test_bad_input(case):
    refused(*CASES[case])


def test_nothing_is_corrected_silently():
    """Arguments near enough to good ones are taken as what they are."""
    lists = gf.Network(np.int64(3), [2], [3.0, np.float32(4)], np.ones(3))
    assert lists == gf.Network(3, (2,), (3, 4))
    assert hash(lists) == hash(gf.Network(3, (2,), (3, 4)))
    assert gf.Posterior(NETWORK, DATA, list(Y), np.float32(0.5)).temperature == 0.5
    assert gf.Posterior(NETWORK, DATA, jnp.asarray(Y), jnp.asarray(0.5)).temperature == 0.5


# sample files


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A sample file, whole."""
    path = tmp_path_factory.mktemp("stored") / "run.h5"
    sample(store=path, draws=3, kernel=gf.HMC(integration_steps=2))
    return path


def test_store_exists(tmp_path):
    path = tmp_path / "run.h5"
    path.write_bytes(b"precious")
    refused(lambda: sample(store=path), "store", "overwrite")
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_store_folder_missing(tmp_path):
    message = refused(lambda: sample(store=tmp_path / "nowhere" / "run.h5"), "store", "nowhere")
    assert "create it" in message
    assert list(tmp_path.iterdir()) == []


def test_store_is_a_folder(tmp_path):
    refused(lambda: sample(store=tmp_path), "store", "folder")
    refused(lambda: sample(store=tmp_path, overwrite=True), "store", "folder")


def test_folder_of_the_store_is_a_file(tmp_path):
    (tmp_path / "notes").write_text("text")
    refused(lambda: sample(store=tmp_path / "notes" / "run.h5"), "store", "notes")


@pytest.mark.parametrize(
    ("argument", "value"),
    [("draws", 0), ("draws", 10**12), ("kernel", "nutz"), ("test", (X, Y)), ("about", {"data": object()})],
)
def test_bad_input_leaves_no_file(tmp_path, argument, value):
    with pytest.raises(ValueError, match=argument):
        sample(store=tmp_path / "run.h5", **{argument: value})
    assert list(tmp_path.iterdir()) == []


def test_open_whole_file(stored):
    run = gf.open(stored)
    assert (run.chains, run.draws) == (1, 3)


def test_open_missing_file(tmp_path):
    refused(lambda: gf.open(tmp_path / "run.h5"), "run.h5", "does not exist")


def test_open_folder(tmp_path):
    refused(lambda: gf.open(tmp_path), tmp_path.name, None)


def test_open_text_file(tmp_path):
    (tmp_path / "run.h5").write_text("mean 0.5\n" * 1000)
    refused(lambda: gf.open(tmp_path / "run.h5"), "run.h5", "not an HDF5 file")


def test_open_empty_file(tmp_path):
    (tmp_path / "run.h5").touch()
    refused(lambda: gf.open(tmp_path / "run.h5"), "run.h5", None)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_open_truncated_file(stored, tmp_path, part):
    whole = stored.read_bytes()
    (tmp_path / "run.h5").write_bytes(whole[: int(part * len(whole))])
    refused(lambda: gf.open(tmp_path / "run.h5"), "run.h5", "truncated")


def test_open_foreign_hdf5(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["posterior/U_a"] = np.ones((1, 3))
    refused(lambda: gf.open(tmp_path / "run.h5"), "run.h5", "not a sample file")


def test_open_hdf5_of_another_schema(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file.attrs["schema"] = np.arange(3)
    refused(lambda: gf.open(tmp_path / "run.h5"), "run.h5", "not a sample file")


def test_open_newer_schema(stored, tmp_path):
    path = tmp_path / "run.h5"
    path.write_bytes(stored.read_bytes())
    with h5py.File(path, "r+") as file:
        newer = int(file.attrs["schema_version"]) + 1
        file.attrs["schema_version"] = newer
    refused(lambda: gf.open(path), "run.h5", str(newer))


@pytest.mark.parametrize("missing", ["posterior", "observed_data", "constant_data", "sampler_state"])
def test_open_file_without_one_group(stored, tmp_path, missing):
    path = tmp_path / "run.h5"
    path.write_bytes(stored.read_bytes())
    with h5py.File(path, "r+") as file:
        del file[missing]
    refused(lambda: gf.open(path), "run.h5", None)


@pytest.mark.parametrize("missing", ["schema_version", "settings"])
def test_open_file_without_one_attribute(stored, tmp_path, missing):
    path = tmp_path / "run.h5"
    path.write_bytes(stored.read_bytes())
    with h5py.File(path, "r+") as file:
        del file.attrs[missing]
    refused(lambda: gf.open(path), "run.h5", None)


# task files


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_task_file_missing(tmp_path):
    refused(lambda: gf.tasks.load(tmp_path / "task.npz"), "task", "task.npz")


def test_task_file_is_a_folder(tmp_path):
    refused(lambda: gf.tasks.load(tmp_path), "task", tmp_path.name)


def test_task_file_is_text(tmp_path):
    (tmp_path / "task.npz").write_text("x,y\n1,2\n")
    refused(lambda: gf.tasks.load(tmp_path / "task.npz"), "task", "not an .npz")


def test_task_file_is_one_array(tmp_path):
    with (tmp_path / "task.npz").open("wb") as file:
        np.save(file, X)
    refused(lambda: gf.tasks.load(tmp_path / "task.npz"), "task", "not an .npz")


def test_task_file_is_truncated(tmp_path):
    path = saved(tmp_path / "task.npz", x=X, y=Y, W_1=W)
    path.write_bytes(path.read_bytes()[:-100])
    refused(lambda: gf.tasks.load(path), "task", "not an .npz")


def test_task_file_is_damaged(tmp_path):
    path = saved(tmp_path / "task.npz", x=X, y=Y, W_1=W)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("x.npy").header_offset
    content[start + 300] ^= 0xFF
    path.write_bytes(content)
    refused(lambda: gf.tasks.load(path), "task", "not an .npz")


def test_task_file_with_pickles(tmp_path):
    path = saved(tmp_path / "task.npz", x=np.array([X, None], dtype=object), y=Y, W_1=W)
    refused(lambda: gf.tasks.load(path), "task", "task.npz")


@pytest.mark.parametrize(
    ("arrays", "shown"),
    [
        ({"x": X, "W_1": W}, "x, W_1"),
        ({"x": X, "y": Y}, "x, y"),
        ({"x": X, "y": Y, "Q_1": W}, "K_1"),
        ({"x": X, "y": Y, "K_1": W}, "K_1"),
        ({"x": X, "y": Y, "W_1": W, "W_3": W}, "W_3"),
        ({"x": X, "y": Y, "W_1": W, "K_2": W}, "K_2"),
        ({"x": X, "y": Y, "W_2": W}, "W_2"),
    ],
)
def test_task_file_lacks_an_array(tmp_path, arrays, shown):
    refused(lambda: gf.tasks.load(saved(tmp_path / "task.npz", **arrays)), "task", shown)


def test_task_file_with_wrong_shapes(tmp_path):
    refused(lambda: gf.tasks.load(saved(tmp_path / "task.npz", x=X, y=Y[:2], W_1=W)), "y", "2")
    refused(lambda: gf.tasks.load(saved(tmp_path / "task.npz", x=X, y=Y, W_1=W[0])), "layers[0]", "(3, 3)")
    refused(lambda: gf.tasks.load(saved(tmp_path / "task.npz", x=X, y=Y, W_1=W, x_test=X)), "y_test", None)
