"""Sample files made by others: data outside the file, odd attributes and absurd shapes are one line, and nothing is
written outside the file."""

import json
import shutil

import h5py
import jax
import numpy as np
import pytest

import gibbsformer as gf
from gibbsformer import store
from gibbsformer.core import checks


@pytest.fixture
def path(small, tmp_path):
    path = tmp_path / "run.h5"
    options = {"chains": 2, "warmup": 2, "draws": 4, "key": jax.random.key(0), "progress": False}
    gf.sample(small.posterior, "gibbs", store=path, test=small.test, keep="order_parameters", **options)
    return path


def external_link(file, victim):
    del file["posterior/U_1"]
    with h5py.File(victim.with_suffix(".other.h5"), "w") as other:
        other["U_1"] = np.ones((2, 4, 6, 6))
    file["posterior/U_1"] = h5py.ExternalLink(str(victim.with_suffix(".other.h5")), "U_1")


def soft_link(file, victim):
    file["posterior/U_9"] = h5py.SoftLink("/posterior/U_1")


def external_storage(file, victim):
    del file["observed_data/y"]
    file["observed_data"].create_dataset("y", (7,), "f8", external=[(str(victim), 0, 56)])


def virtual(file, victim):
    del file["posterior/U_a"]
    layout = h5py.VirtualLayout((2, 4), "f8")
    layout[:] = h5py.VirtualSource(str(victim), "x", (2, 4))
    file["posterior"].create_virtual_dataset("U_a", layout)


def external_state(file, victim):
    state = file["sampler_state"]
    place = next(name for name in state if isinstance(state[name], h5py.Dataset))
    shape, dtype = state[place].shape, state[place].dtype
    del state[place]
    size = int(np.prod(shape)) * dtype.itemsize
    state.create_dataset(place, shape, dtype, external=[(str(victim), 0, max(size, 1))])


def absurd_shape(file, victim):
    del file["observed_data/y"]
    file["observed_data"].create_dataset("y", (10**10,), "f8")


def absurd_draws(file, victim):
    """More draws than anybody has, in chunks that are not there."""
    for name in ("posterior/draw", "posterior/U_1", "posterior/U_a"):
        file[name].resize(10**11, axis=file[name].ndim > 1)


def absurd_depth(file, victim):
    group = file["observed_data"]
    for _ in range(2000):
        group = group.create_group("a")


FAULTS = (external_link, soft_link, external_storage, virtual, external_state, absurd_shape, absurd_draws, absurd_depth)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_data_outside_the_file(path, tmp_path, fault):
    victim = tmp_path / "victim.txt"
    victim.write_bytes(b"precious" * 100)
    with h5py.File(path, "r+") as file:
        fault(file, victim)
    for use in (
        lambda: gf.open(path), lambda: gf.resume(path, draws=6, progress=False), lambda: store.verify(path),
        lambda: store.export(path, tmp_path / "out.nc"), lambda: store.merge([path, path], tmp_path / "both.h5"),
    ):  # fmt: skip
        with pytest.raises(checks.InputError, match=r"is not to be trusted|is damaged") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert victim.read_bytes() == b"precious" * 100
    assert not (tmp_path / "out.nc").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("settings", "[]", "attribute 'settings' is not what"),
        ("settings", "{", "attribute 'settings' is not what"),
        ("settings", 7, "attribute 'settings' is not what"),
        ("schema_version", "abc", "schema version 'abc'"),
        ("schema_version", [1, 2], "schema version"),
        ("schema", 3, "attribute 'schema' is not what"),
    ],
)
def test_attributes_of_the_wrong_type(path, name, value, message):
    with h5py.File(path, "r+") as file:
        file.attrs[name] = value
    uses = [lambda: gf.open(path), lambda: gf.resume(path, draws=6, progress=False)]
    if name != "settings":  # which verify does not read
        uses.append(lambda: store.verify(path))
    for use in uses:
        with pytest.raises(checks.InputError, match=message) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_attributes_of_others_are_left_alone(path):
    with h5py.File(path, "r+") as file:
        file.attrs["note"], file.attrs["place"] = "text", 7
        file.attrs["settings"] = np.array([file.attrs["settings"]], dtype=object)  # as xarray writes them back
        file.attrs["schema_version"] = np.array([3])
    run = gf.open(path)
    assert run.draws == 4
    assert "note" not in run.settings
    assert json.dumps(run.settings["options"]) == "{}"


def test_groups_and_datasets_of_others_are_left_alone(path):
    with h5py.File(path, "r+") as file:
        file["posterior/mine/U_1"] = np.arange(3)
        file["posterior/other"] = np.arange(4.0)
        file["observed_data/mine"] = 1.0
        file["observed_data/more/y"] = 1.0
        file["notes/text"] = "hello"
        for i in range(20):
            file.attrs[f"note {i}"] = "text " * 100
    run = gf.open(path)
    assert "other" not in run.variables
    assert store.verify(path).draws == run.draws == 4
    longer = gf.resume(path, draws=6, progress=False)
    store.export(path, path.with_name("part.nc"))
    np.testing.assert_array_equal(longer.variables["U_1"][:, :4], run.variables["U_1"])
    with h5py.File(path) as file:
        assert file["notes/text"].asstr()[()] == "hello"
        assert file.attrs["note 3"] == "text " * 100


def test_files_that_arviz_has_written_again(path):
    """To another name, and over itself; they open and verify, and resume says what they are.

    Over a file that is open there ArviZ writes half a file at best, which is one line here.
    """
    import arviz

    run, again = gf.open(path), path.with_name("again.h5")
    before = {name: np.asarray(values) for name, values in {**run.variables, **run.stats}.items()}
    data = arviz.from_netcdf(str(path))
    data.to_netcdf(str(again))
    half = path.with_name("half.h5")
    shutil.copy(path, half)
    with pytest.raises((OSError, KeyError)):
        arviz.from_netcdf(str(half)).to_netcdf(str(half))
    try:
        assert gf.open(half).draws == 4
    except checks.InputError as error:
        assert "\n" not in str(error)  # noqa: PT017  either may be left
    data.close()
    whole = arviz.from_netcdf(str(again))
    whole.load() if hasattr(whole, "load") else None
    whole.close()
    whole.to_netcdf(str(path))
    for each in (again, path):
        found = gf.open(each)
        assert found.settings == run.settings
        for name, values in before.items():
            np.testing.assert_array_equal({**found.variables, **found.stats}[name], values)
        assert store.verify(each).draws == 4
        with pytest.raises(checks.InputError, match="was written again by another program: resume the file it came"):
            gf.resume(each, draws=6, progress=False)
        store.export(each, each.with_name("part.nc"), overwrite=True)
