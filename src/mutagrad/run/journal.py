"""A file that only grows: rows of numbers in blocks with checksums, so that damage costs the damaged blocks alone.

A file is a sequence of blocks. A block is a head of 24 bytes and a payload. The head is, little-endian, the mark "MGJ1", the
bytes of the payload, its rows, the generation of the first of them, and the CRC-32 of the rest of the head and of the payload.
A block without rows describes the others, in JSON: names, dtypes and shapes of the columns, and what else its writer says; it
stands twice at the start of the file. The payload of the others is the columns, one after another.

Nothing is written over. Rows of a generation that is there already replace it and all that follow it, so that a run that goes on
from an earlier generation only appends.
"""

import json
import math
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mutagrad.run.files import contents, parsed
from mutagrad.run.sums import named, sync_folder

__all__ = ["MOST_READ", "Journal", "Rows", "read"]

_MARK = b"MGJ1"
_HEAD = struct.Struct("<4sIIQI")
MOST_READ = 2**33
"""Bytes of the largest file that is read: more would not fit into memory twice."""
_LARGEST = 2**28
"""Bytes of a block, or of one row if that is larger."""
_MOST_AXES, _LONGEST = 32, 64
"""Axes of a column, and letters of its dtype."""


class Rows(NamedTuple):
    """What a journal holds.

    Attributes
    ----------
    columns : by name, arrays (generations, …); rows of lost generations are NaN, or 0 where there is no NaN.
    attributes : what its writer said of it.
    lost : generations whose rows are damaged, as ranges from 0.
    """

    columns: dict[str, np.ndarray]
    attributes: dict[str, Any]
    lost: list[range]

    def first(self, number: int) -> "Rows":
        """Those of the first generations."""
        lost = [range(one.start, min(one.stop, number)) for one in self.lost if one.start < number]
        return Rows({name: column[:number] for name, column in self.columns.items()}, self.attributes, lost)


class _Block(NamedTuple):
    rows: int
    first: int
    start: int
    stop: int


class Journal:
    """Appends rows to a file. Use it as a context manager, or close it.

    Parameters
    ----------
    path : of the file, in a folder that exists.
    columns : by name, arrays (anything, …) whose dtypes and further axes are those of the rows.
    attributes : what to say in its head, as JSON holds it.
    sync_seconds : while rows come, so often they are forced to the disk; 0 for every time, infinity for at the end alone.

    Raises
    ------
    ValueError : if the file is there and is of other columns or attributes.
    OSError : if it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
        sync_seconds: float = 1.0,
    ):
        kinds = {name: [np.asarray(one).dtype.name, list(np.shape(one)[1:])] for name, one in sorted(columns.items())}
        head = {"columns": kinds, "attributes": dict(attributes or {})}
        self._path, self._names, self._sync_seconds, self._end = path, list(kinds), sync_seconds, 0
        if os.path.lexists(path) and (data := contents(path, "journal", MOST_READ)):
            if _described(data) != head:
                raise ValueError(
                    f"journal: got {str(path)!r}, which is damaged at its head, or of another run or other records; move it away"
                )
            # Behind the last whole block stands what could not be written to its end.
            self._end = max(block.stop for block in _blocks(data))
        self._path, self._descriptor = path, os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._synced = time.monotonic()
        try:
            with named(path):
                os.ftruncate(self._descriptor, self._end)
            if not self._end:
                text = json.dumps(head, sort_keys=True).encode()
                self._write(_block(0, 0, text) * 2)
                self.sync()
                sync_folder(path.parent)
        except OSError:
            os.close(self._descriptor)
            raise

    def append(self, first: int, columns: Mapping[str, Any]) -> None:
        """Append rows; what cannot be written whole is taken back.

        Parameters
        ----------
        first : generation of the first row.
        columns : by name, arrays (rows, …).

        Raises
        ------
        OSError : if there is no room; the file is as it was before.
        """
        arrays = [np.ascontiguousarray(columns[name]) for name in self._names]
        number = max((len(one) for one in arrays), default=0)
        step = max(_LARGEST * number // max(sum(one.nbytes for one in arrays), 1), 1)
        blocks = []
        for start in range(0, number, step):
            payload = b"".join(one[start : start + step].tobytes() for one in arrays)
            blocks.append(_block(min(step, number - start), first + start, payload))
        self._write(b"".join(blocks))
        if time.monotonic() - self._synced >= self._sync_seconds:
            self.sync()

    def _write(self, data: bytes) -> None:
        left, place = memoryview(data), self._end
        try:
            with named(self._path):
                while left:
                    written = os.pwrite(self._descriptor, left, place)
                    place, left = place + written, left[written:]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise
        self._end = place

    def read(self) -> Rows:
        """All that is whole in the file, as `read` does; also where the file was deleted or moved since it was opened."""
        with open(self._descriptor, "rb", closefd=False) as file:
            file.seek(0)
            return _rows(file.read(), self._path)

    def sync(self) -> None:
        """Force all that was appended to the disk."""
        with named(self._path):
            os.fsync(self._descriptor)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync, and close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                with named(self._path):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> Rows:
    """All that is whole in a journal, whether a process writes to it meanwhile or not.

    Raises
    ------
    ValueError : if the file is no journal, or damaged at its head.
    OSError : if it cannot be read.
    """
    return _rows(contents(path, "journal", MOST_READ), path)


def _rows(data: bytes, path: Path) -> Rows:
    head = _described(data)
    if head is None:
        raise ValueError(f"journal: got {str(path)!r}, which is none, or damaged at its head; restore it")
    kinds = {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, shape) in head["columns"].items()}
    sizes = {name: dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for name, (dtype, shape) in kinds.items()}
    pieces = _pieces(data, sum(sizes.values()))
    number = pieces[-1][0].first + pieces[-1][1] if pieces else 0
    columns = {name: np.zeros((number, *shape), dtype) for name, (dtype, shape) in kinds.items()}
    lost = _lost(pieces)
    for block, kept in pieces:
        place = block.start
        for name, (dtype, shape) in kinds.items():
            values = np.frombuffer(data, dtype, kept * sizes[name] // dtype.itemsize, place)
            columns[name][block.first : block.first + kept] = values.reshape(kept, *shape)
            place += block.rows * sizes[name]
    for gap in lost:
        for column in columns.values():
            if np.issubdtype(column.dtype, np.inexact) or column.dtype.name == "bfloat16":
                column[gap.start : gap.stop] = np.nan
    return Rows(columns, head["attributes"], lost)


def _pieces(data: bytes, size: int) -> list[tuple[_Block, int]]:
    """Blocks with how many of their rows count, in the order of generations: a later block replaces what follows its first."""
    pieces: list[tuple[_Block, int]] = []
    for block in _blocks(data):
        # No more is lost, all in all, than the file has room for; half of it may have been cut out.
        is_near = block.first <= 2 * (len(data) // max(size, 1)) + 1
        if not block.rows or block.stop - block.start != block.rows * size or not is_near:
            continue
        while pieces and pieces[-1][0].first >= block.first:
            pieces.pop()
        if pieces:
            last, kept = pieces[-1]
            pieces[-1] = last, min(kept, block.first - last.first)
        pieces.append((block, block.rows))
    return pieces


def _lost(pieces: list[tuple[_Block, int]]) -> list[range]:
    """Generations between blocks."""
    end, lost = 0, []
    for block, kept in pieces:
        if block.first > end:
            lost.append(range(end, block.first))
        end = block.first + kept
    return lost


def _block(rows: int, first: int, payload: bytes) -> bytes:
    start = _HEAD.pack(_MARK, len(payload), rows, first, 0)[:-4]
    return start + struct.pack("<I", zlib.crc32(payload, zlib.crc32(start))) + payload


def _blocks(data: bytes) -> Iterator[_Block]:
    """All whole blocks; what is damaged is passed over up to the next mark."""
    place = data.find(_MARK)
    while place >= 0:
        start = place + _HEAD.size
        if start > len(data):
            return
        _, length, rows, first, checksum = _HEAD.unpack_from(data, place)
        stop = start + length
        is_whole = stop <= len(data) and zlib.crc32(data[start:stop], zlib.crc32(data[place : start - 4])) == checksum
        if is_whole:
            yield _Block(rows, first, start, stop)
        place = data.find(_MARK, stop if is_whole else place + 1)


def _described(data: bytes) -> dict[str, Any] | None:
    """What the first whole block without rows says; ``None`` if there is none, or it says what no writer would."""
    block = next((block for block in _blocks(data) if not block.rows), None)
    if block is None:
        return None
    try:
        found = parsed(data[block.start : block.stop].decode())
        row = 0
        for dtype, shape in found["columns"].values():
            kind = np.dtype(dtype) if isinstance(dtype, str) and len(dtype) < _LONGEST else np.dtype(object)
            if kind.hasobject or not kind.itemsize:
                return None
            if len(shape) > _MOST_AXES or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
                return None
            row += kind.itemsize * math.prod(max(size, 1) for size in shape)
        is_right = isinstance(found["attributes"], dict) and row < 2**40
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found if is_right else None
