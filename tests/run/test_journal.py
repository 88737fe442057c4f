"""Journals: what is damaged is lost and nothing else; a later block replaces; no write is half done."""

import errno
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutagrad.run.journal import Journal, _block, read


def rows(first, stop, shift=0):
    numbers = np.arange(first, stop)
    return {
        "x": numbers.astype(np.float32) + shift,
        "pair": np.stack([numbers, -numbers], 1),
        "is_odd": numbers % 2 == 1,
    }


def written(path, *spans, attributes=None):
    with Journal(path, rows(0, 0), attributes) as file:
        for first, stop in spans:
            file.append(first, rows(first, stop))
    return path


def assert_holds(path, number, lost=()):
    found = read(path)
    assert found.lost == list(lost)
    kept = np.ones(number, bool)
    for gap in lost:
        kept[gap.start : gap.stop] = False
        assert np.all(np.isnan(found.columns["x"][gap.start : gap.stop]))
    for name, column in rows(0, number).items():
        assert found.columns[name].dtype == column.dtype
        np.testing.assert_array_equal(found.columns[name][kept], column[kept])
        assert len(found.columns[name]) == number


def test_rows_come_back(tmp_path):
    path = written(tmp_path / "a", (0, 7), (7, 8), (8, 30), attributes={"run": "a"})
    assert_holds(path, 30)
    assert read(path).attributes == {"run": "a"}
    written(path, (30, 31), attributes={"run": "a"})
    assert_holds(path, 31)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=12))
def test_a_run_that_goes_on_from_earlier_replaces_what_follows(tmp_path_factory, spans):
    """The rows are those of a list that is cut at the first of each block and extended."""
    path, wanted = tmp_path_factory.mktemp("journal") / "a", []
    with Journal(path, rows(0, 0)) as file:
        for shift, (first, number) in enumerate(spans):
            first = min(first, len(wanted))
            file.append(first, rows(first, first + number, 100 * shift))
            if number:
                wanted = wanted[:first] + [100 * shift + one for one in range(first, first + number)]
    np.testing.assert_array_equal(read(path).columns["x"], np.array(wanted, np.float32))


def test_every_bit_that_flips_costs_its_block_alone(tmp_path):
    """All bits of a file of four blocks: what is read is lost or right, and what is lost is one block."""
    spans = [(0, 5), (5, 9), (9, 10), (10, 14)]
    whole = written(tmp_path / "a", *spans).read_bytes()
    outcomes = set()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "b").write_bytes(damaged)
        found = read(tmp_path / "b")
        number = len(found.columns["x"])
        outcomes.add((number, tuple(found.lost)))
        assert_holds(tmp_path / "b", number, found.lost)
    assert outcomes == {(14, ()), (14, (range(5),)), (14, (range(5, 9),)), (14, (range(9, 10),)), (10, ())}


def test_every_truncation_keeps_what_was_whole(tmp_path):
    whole = written(tmp_path / "a", (0, 5), (5, 9)).read_bytes()
    numbers = []
    for size in range(len(whole) + 1):
        (tmp_path / "b").write_bytes(whole[:size])
        try:
            numbers.append(len(read(tmp_path / "b").columns["x"]))
        except ValueError:
            numbers.append(-1)
            continue
        # A writer goes on behind the last whole block.
        written(tmp_path / "b", (numbers[-1], 9))
        assert_holds(tmp_path / "b", 9)
    assert sorted(set(numbers)) == [-1, 0, 5, 9]
    assert numbers == sorted(numbers)


def test_a_full_disk_takes_nothing_that_was_there(tmp_path, monkeypatch):
    """A write that ends half way is taken back; the next one goes on."""
    path = written(tmp_path / "a", (0, 5))
    before = path.read_bytes()
    with Journal(path, rows(0, 0)) as file:
        real, room = os.pwrite, [20]

        def full(descriptor, data, place):
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(descriptor, bytes(data)[: room.pop()], place)

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            file.append(5, rows(5, 9))
        assert path.read_bytes() == before
        monkeypatch.undo()
        file.append(5, rows(5, 9))
    assert_holds(path, 9)


def test_other_columns_and_other_runs_are_refused(tmp_path):
    path = written(tmp_path / "a", (0, 5), attributes={"run": "a"})
    for columns, attributes in (({"x": np.zeros(0, np.float32)}, {"run": "a"}), (rows(0, 0), {"run": "b"})):
        with pytest.raises(ValueError, match=r"^journal: got '.*', which is damaged at its head, or of another run"):
            Journal(path, columns, attributes)
    assert_holds(path, 5)
    (tmp_path / "b").write_bytes(os.urandom(10_000))
    with pytest.raises(ValueError, match=r"^journal: got '.*', which is none, or damaged at its head; restore it$"):
        read(tmp_path / "b")


@pytest.mark.parametrize(
    "head",
    [
        b"[]", b"NaN", b"{}", b"[" * 100_000, b'{"columns": {"a": ["O", []]}, "attributes": {}}',
        b'{"columns": {"a": ["nonsense", []]}, "attributes": {}}', b'{"columns": {"a": ["S0", []]}, "attributes": {}}',
        b'{"columns": {"a": ["float32", [-1]]}, "attributes": {}}', b'{"columns": {"a": ["float32", [1e9]]}, "attributes": {}}',
        b'{"columns": {"a": ["float32", [1099511627775, 9]]}, "attributes": {}}', b'{"columns": {}, "attributes": []}',
    ],
)  # fmt: skip
def test_a_head_that_no_writer_makes(head, tmp_path):
    (tmp_path / "a").write_bytes(_block(0, 0, head) * 2)
    with pytest.raises(ValueError, match=r"which is none, or damaged at its head; restore it$"):
        read(tmp_path / "a")


def test_a_block_of_a_distant_generation_takes_no_memory(tmp_path):
    """Its checksum is right; the file has no room for what would lie between."""
    path = written(tmp_path / "a", (0, 5))
    payload = b"".join(np.ascontiguousarray(one).tobytes() for _, one in sorted(rows(0, 1).items()))
    path.write_bytes(path.read_bytes() + _block(1, 2**60, payload))
    assert_holds(path, 5)


def test_a_head_that_claims_terabytes_takes_no_memory(tmp_path):
    """A block of 2³² − 1 rows or bytes that is not there is damage."""
    path = written(tmp_path / "a", (0, 5))
    head = b"MGJ1" + (2**32 - 1).to_bytes(4, "little") * 2 + (2**63).to_bytes(8, "little") + b"0000"
    path.write_bytes(path.read_bytes() + head)
    assert_holds(path, 5)
