"""Data files of somebody else: nothing in them decides what is run, or how much memory is taken, whoever loads them."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from mutagrad.lab.tasks import guards
from mutagrad.lab.tasks.data import load
from mutagrad.lab.tasks.idx import read_idx


def saved(path, **changes):
    rng = np.random.default_rng(0)
    np.savez_compressed(path, **{"x_train": rng.normal(size=(20, 2)), "y_train": np.arange(20) % 2} | changes)
    return path


def with_member(path, content, size=None, method=zipfile.ZIP_DEFLATED):
    """An archive whose x_train.npy has these contents, of which the directory says another size."""
    saved(path)
    with zipfile.ZipFile(path) as whole:
        labels = whole.read("y_train.npy")
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("x_train.npy", content)
        file.writestr("y_train.npy", labels)
    if size is not None:
        data = bytearray(path.read_bytes())
        place = data.find(b"PK\x01\x02")
        data[place + 24 : place + 28] = size.to_bytes(4, "little")
        path.write_bytes(data)
    return path


def header(descr, shape):
    output = io.BytesIO()
    npy.write_array_header_1_0(output, {"descr": descr, "fortran_order": False, "shape": shape})
    return output.getvalue()


class Writes:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_what_is_right_is_loaded(tmp_path):
    assert len(load(str(saved(tmp_path / "a.npz"))).train_targets) == 16
    assert load(str(saved(tmp_path / "b.npz", y_train=10**9 * (np.arange(20) % 2)))).classes == (0, 10**9)


@pytest.mark.parametrize(
    ("content", "size", "method", "words"),
    [
        (header("<f8", (10**12,)), None, 8, "an array of 8,000,000,000,000 bytes, by its header, in 0"),
        (header("<f8", (2**62, 2**62)), None, 8, "by its header"),
        (header("<f8", (2,)) + bytes(17), None, 8, "an array of 16 bytes, by its header, in 17"),
        (b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + b"{}", None, 8, "a header of 4,294,967,295 bytes"),
        (header("<f8", (20, 2)) + bytes(320), 2**32 - 2, 8, "arrays that take .* of memory where 1 GB are free"),
        (header("<f8", (10**6,)) + bytes(8 * 10**6), 448, 8, "Bad CRC-32"),
        (header("<f8", (20, 2)) + bytes(320), None, zipfile.ZIP_BZIP2, "x_train.npy is compressed by method 12"),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(content, size, method, words, tmp_path, monkeypatch):
    monkeypatch.setattr(guards, "of_host", lambda: 1e9)
    monkeypatch.setattr(np, "load", lambda *given, **options: pytest.fail("it was loaded"))
    with pytest.raises(ValueError, match=rf"^data: got '.*a\.npz' with .*({words}).*; pass"):
        load(str(with_member(tmp_path / "a.npz", content, size, method)))


def test_objects_are_not_unpickled(tmp_path):
    content = header("|O", (1,)) + pickle.dumps([Writes(tmp_path / "unpickled")])
    with pytest.raises(ValueError, match="an array of Python objects, which would be unpickled"):
        load(str(with_member(tmp_path / "a.npz", content)))
    assert not (tmp_path / "unpickled").exists()


def test_a_directory_of_a_million_names_is_not_read(tmp_path):
    (tmp_path / "a.npz").write_bytes(
        bytes(2**21) + b"PK\x05\x06" + bytes(4) + b"\xff\xff" * 2 + (2**21).to_bytes(4, "little") + bytes(6)
    )
    with pytest.raises(ValueError, match="its directory is larger than that of any four arrays"):
        load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("is_zipped", [False, True])
def test_idx_files_that_hold_more_than_they_say(is_zipped, tmp_path, monkeypatch):
    monkeypatch.setattr(type(tmp_path), "read_bytes", lambda path: pytest.fail("it was read"))
    monkeypatch.setattr(guards, "of_host", lambda: 1e5)
    name = "labels" + ".gz" * is_zipped
    for content, words in (
        (
            bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(10**6),
            r"more data than its header says; expected 9 bytes for its shape \(9,\)",
        ),
        (bytes([0, 0, 8, 1, 0, 1, 0, 0]) + bytes(2**16), "arrays that take 0.393 MB of memory where 0.1 MB are free"),
    ):
        (tmp_path / name).write_bytes(gzip.compress(content) if is_zipped else content)
        with pytest.raises(ValueError, match=rf"^data: got '.*{name}' with {words}"):
            read_idx(tmp_path / name)
    # What a header claims is not there in a plain file, and may be in a zipped one.
    content = bytes([0, 0, 8, 2]) + b"\xff" * 8
    (tmp_path / name).write_bytes(gzip.compress(content) if is_zipped else content)
    with pytest.raises(*((ValueError,) if is_zipped else (pytest.fail.Exception,)), match="PB of memory|it was read"):
        read_idx(tmp_path / name)
