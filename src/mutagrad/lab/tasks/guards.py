"""Data files looked through before they are read: what would take more memory than there is, or than it says, is refused."""

import io
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from mutagrad.lab.tasks.memory import of_host, words_of

__all__ = ["FETCH_AGAIN", "GZIP_MAGIC", "check_idx", "check_npz", "idx_shape", "refusal"]

FETCH_AGAIN = "fetch the file again"
GZIP_MAGIC = b"\x1f\x8b"

_REMEDY = "pass a file written by numpy.savez from arrays of numbers"
_MOST_DIRECTORY = 2**20
"""Bytes of an archive's directory; that of four arrays takes a few hundred."""
_MOST_HEADER = 10_000
"""Bytes of an array's header: NumPy parses no more."""
_IDX_HEADER = 4 + 4 * 64
_PIECE = 2**20


def refusal(path: Path, found: str, remedy: str) -> ValueError:
    """What to raise about a data file."""
    return ValueError(f"data: got {str(path)!r} with {found}; {remedy}")


class _Small(io.FileIO):
    """A file that reads no more than a directory's worth at a time."""

    def read(self, size: int | None = -1) -> bytes:
        most = _MOST_DIRECTORY + 1
        found = super().read(most if size is None or size < 0 else min(size, most))
        if len(found) == most:
            raise zipfile.BadZipFile("its directory is larger than that of any four arrays")
        return found


def check_npz(path: Path) -> None:
    """Refuse an .npz file that is not four arrays of numbers of the sizes that it says, or needs more memory than there is.

    Raises
    ------
    ValueError : in one line that names the file.
    """
    try:
        with _Small(path) as opened, zipfile.ZipFile(opened) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            if len(set(names)) != len(names):
                raise zipfile.BadZipFile("two of its members have one name")
            needed = sum(member.file_size for member in members)
            _compare(path, needed)
            for member in members:
                # Others inflate as much as they like at a time.
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise zipfile.BadZipFile(f"{member.filename} is compressed by method {member.compress_type}")
                with archive.open(member) as file:
                    needed += _copies(member.filename, file, member.file_size)
    except Exception as error:  # zipfile, zlib and NumPy each fail in ways of their own on a damaged file
        if str(error).startswith("data:"):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise refusal(path, f"contents that cannot be read ({reason})", _REMEDY) from None
    _compare(path, needed)


def _copies(name: str, file: IO[bytes], size: int) -> int:
    """Bytes of the copies that are made of an array: as float32 and the places where it is finite."""
    head = io.BytesIO(file.read(12 + _MOST_HEADER))
    if not head.getvalue().startswith(npy.MAGIC_PREFIX):
        raise ValueError(f"{name} is no array")
    version = npy.read_magic(head)
    length = int.from_bytes(head.read(2 if version == (1, 0) else 4), "little")
    if length > _MOST_HEADER:
        raise ValueError(f"{name} has a header of {length:,} bytes")
    head.seek(npy.MAGIC_LEN)
    shape, _, dtype = _header(head, version)
    if dtype.hasobject:
        raise ValueError(f"{name} is an array of Python objects, which would be unpickled")
    claimed, there = math.prod(shape) * dtype.itemsize, size - head.tell()
    if claimed != there:
        raise ValueError(f"{name} is an array of {claimed:,} bytes, by its header, in {there:,}")
    return math.prod(shape) * (4 + 1)


def _header(head: IO[bytes], version: tuple[int, int]) -> tuple[tuple[int, ...], bool, Any]:
    return npy.read_array_header_1_0(head) if version == (1, 0) else npy.read_array_header_2_0(head)


def _compare(path: Path, needed: int) -> None:
    there = of_host()
    if needed > there:
        found = f"arrays that take {words_of(needed)} of memory where {words_of(there)} are free"
        raise refusal(path, found, "pass fewer examples")


def check_idx(path: Path) -> None:
    """Refuse an IDX file that holds more than its header says, or needs more memory than there is.

    Raises
    ------
    ValueError : in one line that names the file.
    """
    with open(path, "rb") as file:
        head = file.read(_IDX_HEADER)
        is_zipped = path.suffix == ".gz" or head.startswith(GZIP_MAGIC)
        file.seek(0)
        stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            plain = stream.decompress(file.read(_PIECE), _IDX_HEADER) if is_zipped else head
            shape = idx_shape(path, plain)
            if shape is None:
                return  # what is cut short is said by who reads it
            claimed = 4 + 4 * len(shape) + math.prod(shape)
            size = claimed if is_zipped else min(claimed, path.stat().st_size)
            _compare(path, 6 * size)
            size = _inflated(stream, file, len(plain), claimed) if is_zipped else path.stat().st_size
        except zlib.error:
            return  # and so is what is damaged
    if size > claimed:
        found = "more data than its header says"
        raise refusal(path, found, f"expected {math.prod(shape)} bytes for its shape {shape}; {FETCH_AGAIN}")


def idx_shape(path: Path, content: bytes) -> tuple[int, ...] | None:
    """The shape in the header of an IDX file; ``None`` if that is cut short, and a ValueError if it is of another kind."""
    magic = content[:4]
    dimensions = int.from_bytes(magic[3:])
    if magic[:3] != b"\0\0\x08" or not 1 <= dimensions <= 64:  # NumPy has no more than 64
        raise refusal(path, f"magic number '{magic.hex()}'", "expected 00000801 to 00000840, IDX of unsigned bytes")
    start = 4 + 4 * dimensions
    if len(content) < start:
        return None
    return tuple(np.frombuffer(content[4:start], ">u4").tolist())


def _inflated(stream: Any, file: IO[bytes], number: int, most: int) -> int:
    """Bytes of gzip data, counted as far as they are no more than ``most``."""
    while number <= most and not stream.eof:
        piece = stream.unconsumed_tail or file.read(_PIECE)
        if not piece:
            break
        number += len(stream.decompress(piece, _PIECE))
    return number
