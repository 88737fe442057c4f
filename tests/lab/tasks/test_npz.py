"""Data of the user's own, in an .npz file: read as they are, or refused in one line."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import assert_refused

from mutagrad.lab.tasks.data import load

quick = settings(deadline=None, database=None, max_examples=100)


def contents(**changes):
    random = np.random.default_rng(2)
    arrays = {
        "x_train": random.normal(size=(6, 4, 2)),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": random.normal(size=(3, 4, 2)),
        "y_test": np.array([0, 1, 1]),
    } | changes
    return {key: array for key, array in arrays.items() if array is not None}


@pytest.fixture
def saved(tmp_path):
    def save(**changes):
        np.savez(tmp_path / "mine.npz", allow_pickle=True, **contents(**changes))
        return tmp_path / "mine.npz"

    return save


@pytest.mark.parametrize("as_name", [str, Path])
def test_npz_is_used_as_it_is(saved, as_name):
    arrays = contents(x_train=np.arange(48, dtype=np.uint8).reshape(6, 4, 2), y_test=np.array([0, 2, 1], np.uint8))
    path = saved(**arrays)
    data = load(as_name(path))
    assert (data.name, data.classes) == (str(path), (0, 1, 2))
    for array, key in zip(data, arrays, strict=False):
        dtype = np.float32 if key.startswith("x") else np.int32
        np.testing.assert_array_equal(array, arrays[key].astype(dtype), strict=True)


def test_npz_without_test_examples_is_divided(saved):
    number = 23
    path = saved(x_train=np.arange(number).reshape(-1, 1), y_train=np.arange(number) * 2, x_test=None, y_test=None)
    data = load(path)
    assert data.test_inputs.shape == (number // 5, 1)
    assert data.classes == tuple(range(0, 2 * number, 2))
    for inputs, places in ((data.train_inputs, data.train_targets), (data.test_inputs, data.test_targets)):
        np.testing.assert_array_equal(inputs[:, 0] * 2, np.array(data.classes)[places])
    together = np.concatenate([data.train_targets, data.test_targets])
    np.testing.assert_array_equal(np.sort(together), np.arange(number))
    assert not np.array_equal(together, np.sort(together))
    np.testing.assert_array_equal(load(path).test_targets, data.test_targets)


def test_npz_of_two_examples_keeps_one_for_each_use(saved):
    data = load(saved(x_train=np.zeros((2, 1)), y_train=np.arange(2), x_test=None, y_test=None))
    assert (len(data.train_targets), len(data.test_targets)) == (1, 1)


infinite = np.array([[np.nan, np.inf], [-np.inf, 1.0]])


@pytest.mark.parametrize(
    ("changes", "mentions"),
    [
        ({"x_train": None}, ("'x_test', 'y_test', 'y_train'", "pass x_train, y_train, x_test, y_test")),
        ({"y_test": None}, ("'x_test', 'x_train', 'y_train'", "pass x_train, y_train, x_test, y_test")),
        ({"x_test": None, "y_test": None, "X_test": np.ones(3)}, ("'X_test', 'x_train', 'y_train'", "pass x_train")),
        (dict.fromkeys(contents()), ("arrays named nothing", "pass x_train")),
        ({"x_train": np.array([1, "a"], object)}, ("an array of Python objects", "pass a file written by numpy.savez")),
        ({"x_train": np.array(["a", "b"])}, ("x_train of dtype <U1", "x_train.astype(numpy.float32)")),
        ({"x_test": np.ones((3, 4, 2), bool)}, ("x_test of dtype bool", "x_test.astype(numpy.float32)")),
        ({"x_test": np.ones((3, 4, 2), complex)}, ("x_test of dtype complex128", "pass real numbers")),
        ({"x_train": infinite, "y_train": np.arange(2)}, ("3 of 4 numbers in x_train", "pass finite inputs")),
        ({"x_test": np.full((3, 4, 2), 1e39)}, ("24 of 24 numbers in x_test", "pass finite inputs")),
        ({"x_train": np.ones((0, 4, 2))}, ("x_train of shape (0, 4, 2)", "at least one example")),
        ({"x_test": np.ones((3, 0))}, ("x_test of shape (3, 0)", "at least one number")),
        ({"x_train": np.array(1.0)}, ("x_train of shape ()", "at least one example")),
        ({"y_train": np.array([0.0, 1, 2, 0, 1, 2])}, ("y_train of dtype float64", "3 different whole", "say --task")),
        ({"y_train": np.array([0, 1, np.nan, 0, 1, 2])}, ("1 of 6 numbers in y_train NaN", "finite targets")),
        ({"y_train": np.full(6, 0.5), "y_test": np.ones(3)}, ("0.5 as the only target", "targets that differ")),
        ({"y_test": np.array([True, False, True])}, ("y_test of dtype bool", "y_test.astype(numpy.int32)")),
        ({"y_test": np.array(["a", "b", "c"])}, ("y_test of dtype <U1", "whole numbers for classes")),
        ({"y_test": np.array([0, -2, -1])}, ("label -2 in y_test", "first of 2 (of 3)", "--task regression")),
        ({"y_train": np.eye(6, dtype=int)}, ("y_train of shape (6, 6)", "shape (n,)")),
        ({"y_train": np.zeros(0, int)}, ("y_train of shape (0,)", "n ≥ 1")),
        ({"y_train": np.arange(5)}, ("6 examples in x_train and 5 targets in y_train", "one target for each")),
        ({"y_test": np.arange(4)}, ("3 examples in x_test and 4 targets in y_test", "one target for each")),
        ({"x_test": np.ones((3, 2, 4))}, ("shape (4, 2) in x_train and (2, 4) in x_test", "one shape")),
        ({"y_train": np.full(6, 3), "y_test": np.full(3, 3)}, ("3 as its only label", "two classes or more")),
    ],
)
def test_npz_of_invalid_arrays_is_refused(saved, changes, mentions):
    path = saved(**changes)
    assert_refused(ValueError, lambda: load(path), repr(str(path)), *mentions)


@pytest.mark.parametrize(
    ("train", "test", "classes", "words"),
    [
        ([1, 2, 3, 1, 2, 3], [3, 1, 2], (1, 2, 3), "1 to 3"),
        ([0, 4, 7, 0, 4, 7], [7, 0, 0], (0, 4, 7), "0, 4, 7"),
        ([0, 1, 0, 1, 0, 10**9], [0, 1, 1], (0, 1, 10**9), "0, 1, 1000000000"),
        (np.array([0, 1, 0, 1, 0, 2**64 - 1], np.uint64), [0, 1, 1], (0, 1, 2**64 - 1), f"0, 1, {2**64 - 1}"),
    ],
)
def test_the_classes_are_the_labels_that_occur(saved, train, test, classes, words):
    data = load(saved(y_train=np.array(train), y_test=np.array(test)))
    assert (data.classes, data.labels, data.num_outputs) == (classes, words, len(classes))
    assert [classes[place] for place in data.train_targets] == list(map(int, train))
    assert [classes[place] for place in data.test_targets] == test


def test_more_classes_than_a_network_has_outputs_are_refused(saved):
    many = np.arange(100_001)
    path = saved(x_train=np.zeros((len(many), 1)), y_train=many, x_test=None, y_test=None)
    assert_refused(ValueError, lambda: load(path), "100,001 different labels", "--task regression")
    assert load(path, task="regression").is_regression


def test_real_targets_are_predicted(saved):
    arrays = contents(y_train=np.linspace(-1, 3, 6), y_test=np.array([0.5, 0, 1], np.float32))
    data = load(saved(**arrays))
    assert (data.is_regression, data.num_outputs, data.labels) == (True, 1, "")
    np.testing.assert_array_equal(data.train_targets, arrays["y_train"], strict=True)
    np.testing.assert_array_equal(data.test_targets, arrays["y_test"].astype(float), strict=True)


def test_the_task_decides_about_whole_targets_stored_as_floats(saved):
    floats = {"y_train": np.array([1.0, 0, 1, 0, 1, 0]), "y_test": np.array([0.0, 1, 1])}
    path = saved(**floats)
    assert load(path, task="classification").classes == (0, 1)
    np.testing.assert_array_equal(load(path, task="classification").train_targets, [1, 0, 1, 0, 1, 0])
    assert load(path, task="regression").is_regression
    assert load(saved(y_train=np.arange(6), y_test=np.arange(3)), task="regression").is_regression
    path = saved(y_train=np.array([0.5, 0, 1, 0, 1, 0]), y_test=floats["y_test"])
    refused = ("label 0.5 in y_train", "first of 1 (of 6) not whole", "--task regression")
    assert_refused(ValueError, lambda: load(path, task="classification"), *refused)


def test_npz_missing_or_of_another_kind(tmp_path):
    path = tmp_path / "mine.npz"
    assert_refused(FileNotFoundError, lambda: load(path), path, "pass the path of an .npz file")
    assert_refused(FileNotFoundError, lambda: load("none.npz"), "'none.npz'", "pass the path of an .npz file")
    array = io.BytesIO()
    np.save(array, np.ones(3))
    for content in (b"", b"plain text", array.getvalue()):
        path.write_bytes(content)
        assert_refused(ValueError, lambda: load(path), path, "cannot be read", "pass a file written by numpy.savez")


def test_npz_of_members_that_are_not_arrays_is_refused(tmp_path):
    path = tmp_path / "mine.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key in contents():
            archive.writestr(f"{key}.npy", "text")
    assert_refused(ValueError, lambda: load(path), path, "x_train.npy is no array", "numpy.savez")


@pytest.fixture(scope="module", params=[np.savez, np.savez_compressed], ids=["stored", "compressed"])
def intact(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "mine.npz"
    request.param(path, **contents())
    return path, path.read_bytes(), load(path)


@quick
@given(st.data())
def test_npz_cut_short_anywhere_is_refused(intact, data):
    path, content, _ = intact
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert_refused(ValueError, lambda: load(path), path, "pass a file written by numpy.savez")


@quick
@given(st.data())
def test_npz_with_a_damaged_byte_is_refused_or_read_in_full(intact, data):
    path, content, expected = intact
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    assert_refused_or_equal(path, expected)


def test_npz_with_members_hidden_by_a_damaged_directory_is_refused(intact):
    """A wrong comment length hides x_test and y_test; the rest must not pass for a file without test examples."""
    path, content, _ = intact
    entry = content.index(b"y_train.npy", content.index(b"PK\1\2")) - 46
    hidden = 2 * (46 + len("x_test.npy"))
    path.write_bytes(content[: entry + 32] + bytes([hidden]) + content[entry + 33 :])
    assert_refused(ValueError, lambda: load(path), path, "y_train.npy has a comment", "numpy.savez")


@pytest.mark.parametrize(("before", "after"), [(b"(6, 4, 2)", b"(6, 4, 1)"), (b"<f8", b"<f4")])
def test_npz_with_a_damaged_array_header_is_refused(saved, before, after):
    """NumPy would read a smaller array, and stop before the end, where the checksum is compared."""
    path = saved(x_test=None, y_test=None)
    content = path.read_bytes()
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    assert_refused(ValueError, lambda: load(path), path, "Bad CRC-32 for file 'x_train.npy'", "numpy.savez")


def assert_refused_or_equal(path, expected):
    try:
        read = load(path)
    except ValueError as error:
        message = str(error)
    else:  # the byte was one of those that do not matter, such as a date
        for one, other in zip(read, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        return
    assert message.startswith(f"data: got {str(path)!r} with ")
    assert "\n" not in message
