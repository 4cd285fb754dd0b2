"""One byte changed anywhere is one line or nothing, never another number, name or setting without a word."""

import json
import warnings

import h5py
import numpy as np
import pytest

from gibbsformer.core import checks
from gibbsformer.store import SampleFile, description, export, heaps, merge, read, verify
from gibbsformer.store.reading import UncheckedWarning

COMMITS = 3


@pytest.fixture
def path(toy, tmp_path):
    with toy.create(tmp_path / "run.h5", {"temperature": 0.0125}) as file:
        for commit in range(1, COMMITS + 1):
            toy.append(file, commit)
    return tmp_path / "run.h5"


def content(path) -> tuple:
    """Everything that a reader gets."""
    found = read(path)
    arrays = found.draws | found.stats | found.constants
    return (
        found.settings, found.attributes, found.columns, found.step, {n: v.tolist() for n, v in found.labels.items()},
        {n: np.asarray(a).tobytes() for n, a in arrays.items()},
    )  # fmt: skip


def outcome(use):
    """What comes out, or None for one line."""
    try:
        return use()
    except checks.InputError as error:
        assert "\n" not in str(error)  # noqa: PT017  either is right
        return None


def flipped(path, position, mask=1):
    whole = bytearray(path.read_bytes())
    whole[position] ^= mask
    path.write_bytes(whole)


@pytest.mark.parametrize(
    "text", ["0.0125", '"kernel":"toy"', "V_0", "width_1", "(1)", "(2)", "U_1", "toy", '"commit": 3', "test_example"]
)
def test_a_byte_of_settings_names_and_labels(toy, path, text):
    """Each copy in the file, in heaps too; verify sees them all."""
    whole, before = path.read_bytes(), content(path)
    places = [i for i in range(len(whole)) if whole.startswith(text.encode(), i)]
    assert places or text == '"kernel":"toy"'
    for place in places:
        path.write_bytes(whole)
        flipped(path, place + 1)
        found = outcome(lambda: content(path))
        assert found in (before, None)
        checked = outcome(lambda: verify(path))
        resumed = outcome(lambda: SampleFile.resume(path).close())
        assert checked is None
        assert resumed is None or path.read_bytes()[place + 1] == whole[place + 1] ^ 1
        assert outcome(lambda: toy.check_resumes(path, COMMITS)) is None


@pytest.mark.parametrize("name", ["U_1", "f", "V_0", "xi", "y"])
def test_zeros_that_become_ones(toy, tmp_path, name):
    """Fletcher-32 does not tell 0000 from FFFF."""
    path = tmp_path / "run.h5"

    def zero(values):
        found = np.zeros_like(values)
        found.reshape(-1)[0] = 1
        return found

    zeros = {n: zero(v) for n, v in toy.draws(1).items()}
    constants = {g: {n: (d, zero(v)) for n, (d, v) in c.items()} for g, c in toy.CONSTANTS.items()}
    settings = {"kernel": "toy", "chains": 2, "key_data": [0, 0], "draws": 30}
    with SampleFile.create(path, toy.COLUMNS, toy.LABELS, constants, settings, 2) as file:
        file.append(zeros, toy.state(1), 1)
    with h5py.File(path, "r+") as file:
        column = toy.COLUMNS.get(name)
        group = "constant_data" if name == "xi" else "observed_data" if name == "y" else column.group
        chunk = file[group][name].id.get_chunk_info(0) if file[group][name].chunks else None
        place = file[group][name].id.get_offset() if chunk is None else chunk.byte_offset
    whole = bytearray(path.read_bytes())
    assert whole[place + 8 : place + 16] == bytes(8)
    whole[place + 12 : place + 14] = b"\xff\xff"
    path.write_bytes(whole)
    for use in (
        lambda: verify(path), lambda: export(path, tmp_path / "out.nc"),
        lambda: content(path) if name in ("V_0", "xi", "y") else SampleFile.resume(path),
    ):  # fmt: skip
        with pytest.raises(checks.InputError, match=r"is damaged.*checksum mismatch"):
            use()


@pytest.mark.parametrize("count", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_random_bytes(toy, path, count):
    """Half of them in HDF5's heap and around it: damage there could end HDF5 itself."""
    whole, before = path.read_bytes(), content(path)
    rng = np.random.default_rng(count)
    positions = [*rng.integers(0, len(whole), count // 2), *rng.integers(0, 8192, count // 2)]
    assert b"GCOL" in whole[:4096]
    for position in positions:
        path.write_bytes(whole)
        flipped(path, int(position), 1 << int(rng.integers(8)))
        assert outcome(lambda: content(path)) in (before, None)
        if outcome(lambda: verify(path)) is not None:
            assert outcome(lambda: content(path)) == before
        outcome(lambda: toy.check_resumes(path, COMMITS))


def test_heaps_are_walked_through_without_hdf5(toy, path):
    """Of each object that was there at first: its index, length and content; what others add is theirs."""
    with h5py.File(path, "r+") as file:
        for i in range(10):
            file.attrs[f"note {i}"] = f"a note {i} " * 20
        del file.attrs["note 3"]
    whole = path.read_bytes()
    with h5py.File(path) as file:
        noted = description.read(path, file).noted
        assert noted["heaps"]
        assert noted["texts"].keys() >= {"/posterior/path_1", "/posterior/path_1_prime"}
        for start, indices, _ in noted["heaps"]:
            at, flips = start + 16, [start, start + 4, start + 8]
            while (index := int.from_bytes(whole[at : at + 2], "little")) in indices:
                flips += [at, at + 1, at + 8, at + 10, at + 16]
                at += 16 + -(-int.from_bytes(whole[at + 8 : at + 16], "little") // 8) * 8
            assert index or len(flips) > 100
            copy = path.with_name("copy.h5")
            for place in flips:
                copy.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
                assert not heaps.sound(file, copy, noted), place
        assert heaps.sound(file, path, noted)


def test_old_files_say_what_is_not_protected(toy, path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path)
    with h5py.File(path, "r+") as file:
        del file["sampler_state/description"]
        del file["checksums/_small"]
    with pytest.raises(checks.InputError, match="its description is missing"):
        read(path)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 2
    with pytest.warns(UncheckedWarning, match="schema 2: its settings, labels and names have no checksums"):
        old = read(path)
    assert verify(path).draws == old.draws["U_1"].shape[1]
    toy.check_resumes(path, COMMITS)


def test_old_and_new_files_merge(toy, path, tmp_path):
    other, out = tmp_path / "other.h5", tmp_path / "all.h5"
    with toy.create(other, {"temperature": 0.0125, "key_data": [1, 1]}) as file:
        for commit in range(1, COMMITS + 1):
            toy.append(file, commit)
    with h5py.File(path, "r+") as file:
        del file["sampler_state/description"]
        del file["checksums/_small"]
        file.attrs["schema_version"] = 2
    for parts in ([path, other], [other, path]):
        merge(parts, out, overwrite=True)
        assert verify(out).draws == COMMITS * toy.DRAWS
        with h5py.File(out) as file:
            assert description.read(out, file).checked
        whole = out.read_bytes()
        flipped(out, whole.index(toy.draws(2)["U_1"][0, 0].tobytes()))
        with pytest.raises(checks.InputError, match="is damaged"):
            verify(out)
    assert json.loads(json.dumps(read(other).settings))["temperature"] == 0.0125
