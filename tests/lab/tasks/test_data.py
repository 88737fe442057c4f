"""Data sets by name, from damaged files too, and inputs as a network sees them."""

import gzip
import hashlib
import os
import re
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from refusals import assert_refused

from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.idx import read_idx
from mutagrad.lab.tasks.inputs import principal_components, standardized

quick = settings(deadline=None, database=None, max_examples=100)

MNIST_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def idx_bytes(array):
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


# IDX


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file"


arrays_of_bytes = npst.arrays(np.uint8, npst.array_shapes(max_dims=5, max_side=6))
compressions = st.sampled_from([lambda plain: plain, gzip.compress])


@quick
@given(arrays_of_bytes, compressions)
def test_idx_reads_back_what_was_written(scratch, array, compress):
    scratch.write_bytes(compress(idx_bytes(array)))
    read = read_idx(scratch)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array, strict=True)


@quick
@given(arrays_of_bytes, compressions, st.data())
def test_idx_cut_short_anywhere_is_refused(scratch, array, compress, data):
    content = compress(idx_bytes(array))
    scratch.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert_refused(ValueError, lambda: read_idx(scratch), repr(str(scratch)), "expected")


@quick
@given(arrays_of_bytes, compressions, st.binary(min_size=1, max_size=40))
def test_idx_with_bytes_appended_is_refused(scratch, array, compress, surplus):
    scratch.write_bytes(compress(idx_bytes(array)) + surplus)
    assert_refused(ValueError, lambda: read_idx(scratch), repr(str(scratch)), "expected")


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_cut_short_or_lengthened_at_every_byte(scratch, compress):
    content = compress(idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    for length in range(len(content)):
        scratch.write_bytes(content[:length])
        assert_refused(ValueError, lambda: read_idx(scratch))
    for last in range(256):  # zeros after gzip data are what the gzip module would let pass
        scratch.write_bytes(content + bytes([last]))
        assert_refused(ValueError, lambda: read_idx(scratch))


def test_idx_appended_within_gzip_is_refused(scratch):
    scratch.write_bytes(gzip.compress(idx_bytes(np.ones((2, 3), np.uint8)) + b"\0"))
    assert_refused(ValueError, lambda: read_idx(scratch), "more data", "expected 6", "(2, 3)")


def test_idx_damaged_in_gzip_data_or_checksum_is_refused(scratch):
    content = gzip.compress(idx_bytes(np.arange(200, dtype=np.uint8)))
    for position in range(10, len(content)):  # the first ten bytes are header, with a time stamp that may be anything
        scratch.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        assert_refused(ValueError, lambda: read_idx(scratch), scratch, "gzip")


def test_idx_named_gz_must_be_gzip(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(idx_bytes(np.ones(3, np.uint8)))
    assert_refused(ValueError, lambda: read_idx(path), path, "damaged gzip data", "fetch the file again")


@pytest.mark.parametrize("magic", ["00000d01", "00000800", "00000841", "01000801", "00010801", "504b0304"])
def test_idx_of_another_kind_is_refused(scratch, magic):
    scratch.write_bytes(bytes.fromhex(magic) + idx_bytes(np.ones(3, np.uint8))[4:])
    assert_refused(ValueError, lambda: read_idx(scratch), scratch, f"magic number '{magic}'", "IDX of unsigned bytes")


def test_idx_with_absurd_dimensions_is_refused_without_allocating(scratch):
    scratch.write_bytes(b"\0\0\x08\x40" + b"\xff" * 256)
    assert_refused(ValueError, lambda: read_idx(scratch), scratch, "0 bytes of data", (2**32 - 1) ** 64)
    scratch.write_bytes(b"\0\0\x08\x02" + b"\0\0\0\0" + b"\xff" * 4)
    assert_refused(ValueError, lambda: read_idx(scratch), scratch, "shape (0, 4294967295)", "1 or more")


def test_idx_missing(tmp_path):
    assert_refused(FileNotFoundError, lambda: read_idx(tmp_path / "none"), tmp_path / "none", "pass the path")
    assert_refused(FileNotFoundError, lambda: read_idx(tmp_path), tmp_path, "not a file")


# MNIST


def write_mnist(folder, images=None, labels=None, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    compress = gzip.compress if suffix else bytes
    for part, number in (("train", 7), ("t10k", 5)):
        pixels = random.integers(0, 256, (number, 28, 28), np.uint8) if images is None else images
        classes = random.integers(0, 10, number, np.uint8) if labels is None else labels
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(compress(idx_bytes(pixels)))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(compress(idx_bytes(classes)))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inner", ["", "mnist"])
def test_mnist_is_scaled_to_plus_minus_one(tmp_path, suffix, inner):
    write_mnist(tmp_path / inner, suffix=suffix)
    data = load("mnist", tmp_path)
    pixels = read_idx(tmp_path / inner / f"train-images-idx3-ubyte{suffix}").astype(float)
    labels = read_idx(tmp_path / inner / f"t10k-labels-idx1-ubyte{suffix}")
    assert (data.name, data.classes) == ("mnist", tuple(range(10)))
    assert data.train_inputs.shape == (7, 28, 28)
    assert data.test_inputs.shape == (5, 28, 28)
    assert data.train_inputs.dtype == data.test_inputs.dtype == np.float32
    assert data.train_targets.dtype == data.test_targets.dtype == np.int32
    np.testing.assert_allclose(data.train_inputs, (pixels / 255 - 0.5) / 0.5, rtol=2**-24, atol=2**-54)
    np.testing.assert_array_equal(data.test_targets, labels)
    assert (data.train_inputs.min(), data.train_inputs.max()) == (-1, 1)


def test_mnist_folder_argument_then_environment_then_default(tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.delenv("MUTAGRAD_DATA", raising=False)
    for place, label in (("shared/data/mnist", 1), ("environment", 2), ("argument", 3)):
        folder = tmp_path / place
        write_mnist(folder, np.ones((1, 28, 28), np.uint8), np.full(1, label, np.uint8))
    assert load("mnist").train_targets == [1]
    monkeypatch.setenv("MUTAGRAD_DATA", str(tmp_path / "environment"))
    assert load("mnist").train_targets == [2]
    assert load("mnist", data_dir=tmp_path / "argument").train_targets == [3]
    monkeypatch.setenv("MUTAGRAD_DATA", "")
    assert load("mnist").train_targets == [1]


def test_mnist_missing_names_file_folders_and_remedy(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    both = (repr(str(tmp_path)), repr(str(tmp_path / "mnist")), "--data-dir", "MUTAGRAD_DATA")
    assert_refused(FileNotFoundError, lambda: load("mnist", tmp_path), "t10k-labels-idx1-ubyte", *both)
    monkeypatch.setenv("MUTAGRAD_DATA", str(tmp_path / "elsewhere"))
    where = (tmp_path / "elsewhere", tmp_path / "elsewhere" / "mnist")
    assert_refused(FileNotFoundError, lambda: load("mnist"), "train-images-idx3-ubyte", *where)


@pytest.mark.parametrize(
    ("images", "labels", "mentions"),
    [
        (np.ones((4, 28, 28), np.uint8), np.arange(3, dtype=np.uint8), ("4 images", "expected 3", "fetch")),
        (np.ones((3, 28, 27), np.uint8), np.arange(3, dtype=np.uint8), ("shape (3, 28, 27)", "(n, 28, 28)")),
        (np.ones((3, 784), np.uint8), np.arange(3, dtype=np.uint8), ("shape (3, 784)", "(n, 28, 28)")),
        (np.ones((3, 28, 28), np.uint8), np.array([9, 11, 10], np.uint8), ("label 11", "of 2 (of 3)", "0 to 9")),
        (np.ones((3, 28, 28), np.uint8), np.ones((3, 1), np.uint8), ("shape (3, 1)", "shape (n,)")),
    ],
)
def test_mnist_of_disagreeing_files_is_refused(tmp_path, images, labels, mentions):
    write_mnist(tmp_path, images, labels)
    assert_refused(ValueError, lambda: load("mnist", tmp_path), tmp_path, "-ubyte", *mentions)


def test_mnist_itself():
    root = os.environ.get("MUTAGRAD_DATA") or Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = next((f for f in (Path(root), Path(root, "mnist")) if list(f.glob("train-images-idx3-ubyte*"))), None)
    if folder is None:
        pytest.skip(f"no MNIST in {root}; set MUTAGRAD_DATA to the folder that holds it")
    for name, md5 in MNIST_FILES.items():
        path = folder / name if (folder / name).exists() else folder / f"{name}.gz"
        assert hashlib.md5(idx_bytes(read_idx(path))).hexdigest() == md5
    data = load("mnist", root)
    assert data.train_inputs.shape == (60000, 28, 28)
    assert data.test_inputs.shape == (10000, 28, 28)
    assert data.train_targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test_targets[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train_inputs.mean(dtype=float) == pytest.approx(2 * 0.1306604762738429 - 1, abs=1e-7)


# digits


def test_digits_are_all_there_once_and_in_proportion():
    from sklearn.datasets import load_digits

    data = load("digits")
    assert (data.name, data.classes) == ("digits", tuple(range(10)))
    assert data.train_inputs.shape == (1437, 8, 8)
    assert data.test_inputs.shape == (360, 8, 8)
    assert data.train_inputs.dtype == data.test_inputs.dtype == np.float32
    assert data.train_targets.dtype == data.test_targets.dtype == np.int32

    def rows(inputs, labels):
        return sorted(map(tuple, np.column_stack([inputs.reshape(len(inputs), -1), labels]).tolist()))

    source = load_digits()
    inputs = np.concatenate([data.train_inputs, data.test_inputs])
    labels = np.concatenate([data.train_targets, data.test_targets])
    assert rows(inputs * 8 + 8, labels) == rows(source.images, source.target)
    counts = np.bincount(source.target)
    assert np.all(np.abs(np.bincount(data.test_targets) - 360 * counts / 1797) < 1)
    again = load("digits")
    assert all(np.array_equal(one, other) for one, other in zip(data, again, strict=True))


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert_refused(ImportError, lambda: load("digits"), "scikit-learn", "pip install 'mutagrad[lab]'")


@pytest.mark.parametrize("name", ["foo", "MNIST", "", "data.npy", "archive.npz/file"])
def test_unknown_name(name):
    with pytest.raises(ValueError, match=rf"^data: got {re.escape(repr(name))}; pass digits, mnist or the path of an"):
        load(name)


def test_principal_components_are_scaled_by_the_root_of_their_deviation():
    """Uncorrelated, of mean 0, variances in proportion to the deviations of the components, 1 on average."""
    data = load("digits")
    reduced, transform, words = principal_components(data, 12)
    assert words == "12 principal components of 64"
    flat = data.train_inputs.reshape(len(data.train_inputs), -1).astype(float)
    deviations = np.sqrt(np.linalg.eigvalsh(np.cov(flat.T))[::-1][:12])
    np.testing.assert_allclose(reduced.train_inputs.mean(axis=0), 0, atol=1e-5)
    expected = np.diag(deviations / deviations.mean())
    np.testing.assert_allclose(np.cov(reduced.train_inputs.T.astype(float)), expected, atol=1e-4)
    again = (data.test_inputs.reshape(len(data.test_inputs), -1) - transform["mean"]) @ transform["directions"]
    np.testing.assert_allclose(reduced.test_inputs, again, atol=1e-5)


def test_standardised_inputs_have_mean_0_and_deviation_1_over_the_training_examples():
    data = load("digits")
    found, arrays, words = standardized(data)
    train = data.train_inputs.reshape(1437, -1).astype(float)
    constant = train.std(axis=0) == 0
    assert 0 < constant.sum() < 64
    new = found.train_inputs.reshape(1437, -1).astype(float)
    np.testing.assert_allclose(new.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(new.std(axis=0), ~constant, atol=1e-5)
    assert not found.test_inputs.reshape(360, -1)[:, constant].any()
    again = (data.test_inputs - arrays["mean"]) * arrays["factor"]
    np.testing.assert_allclose(found.test_inputs, again, rtol=1e-4, atol=1e-5)
    assert words == f"64 standardised to mean 0 and deviation 1, {constant.sum()} of them constant and set to 0"


def test_inputs_of_very_different_sizes_are_standardised(tmp_path):
    """A constant that rounding would call variable, and a feature whose squares float32 cannot hold."""
    columns = np.array([[0.1, 1e30, 2000], [0.1, 3e30, 2001], [0.1, 2e30, 2002]])
    np.savez(
        tmp_path / "data.npz",
        x_train=columns,
        y_train=np.arange(3),
        x_test=columns + np.array([1, 0, 0]),
        y_test=np.arange(3),
    )
    found = standardized(load(tmp_path / "data.npz")).data
    assert not found.train_inputs[:, 0].any()
    assert not found.test_inputs[:, 0].any()
    np.testing.assert_allclose(found.train_inputs[:, 1:].std(axis=0), 1, rtol=1e-5)


def test_digits_as_numbers_to_predict():
    data = load("digits", task="regression")
    assert data.is_regression
    assert (data.train_targets.dtype, data.num_outputs) == (np.float64, 1)
    with pytest.raises(ValueError, match="task: got 'ranking'; pass one of classification, regression"):
        load("digits", task="ranking")
