"""Data files looked through before they are loaded: what would take more memory than there is, or than it says, is refused."""

import io
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from mutagrad.lab.tasks import data
from mutagrad.lab.tasks.dataset import Dataset
from mutagrad.lab.tasks.idx import refusal
from mutagrad.lab.tasks.mnist import _data_folders
from mutagrad.lab.training.room import of_host, words_of

__all__ = ["check_idx", "check_npz", "load"]

_REMEDY = "pass a file written by numpy.savez from arrays of numbers"
_MOST_DIRECTORY = 2**20
"""Bytes of an archive's directory; that of four arrays takes a few hundred."""
_MOST_HEADER = 10_000
"""Bytes of an array's header: NumPy parses no more."""
_IDX_HEADER = 4 + 4 * 255
_GZIP_MAGIC = b"\x1f\x8b"
_PIECE = 2**20


def load(
    name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None, task: str | None = None
) -> Dataset:
    """What `mutagrad.lab.tasks.data.load` does, after a look at the files: none decides how much memory is taken.

    Raises
    ------
    ValueError : also for a file that would take more memory than there is, or holds more than it says.

    >>> from mutagrad.lab.training.archive import load
    >>> load("digits").labels
    '0 to 9'
    """
    if name == "mnist":
        for path in _idx_files(data_dir):
            check_idx(path)
    elif Path(str(name)).suffix == ".npz":
        check_npz(Path(str(name)))
    return data.load(name, data_dir, task)


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
    if not path.is_file():
        return  # what is missing is said by who loads it
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
                    needed += _copies(file, member.file_size)
    except Exception as error:  # zipfile, zlib and NumPy each fail in ways of their own on a damaged file
        if str(error).startswith("data:"):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise refusal(path, f"contents that cannot be read ({reason})", _REMEDY) from None
    _compare(path, needed)


def _copies(file: IO[bytes], size: int) -> int:
    """Bytes of the copies that are made of an array: as float32 and the places where it is finite."""
    head = io.BytesIO(file.read(12 + _MOST_HEADER))
    version = npy.read_magic(head)
    length = int.from_bytes(head.read(2 if version == (1, 0) else 4), "little")
    if length > _MOST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")
    head.seek(npy.MAGIC_LEN)
    shape, _, dtype = _header(head, version)
    if dtype.hasobject:
        raise ValueError("an array of Python objects, which would be unpickled")
    claimed, there = math.prod(shape) * dtype.itemsize, size - head.tell()
    if claimed != there:
        raise ValueError(f"an array of {claimed:,} bytes, by its header, in {there:,}")
    return math.prod(shape) * (4 + 1)


def _header(head: IO[bytes], version: tuple[int, int]) -> tuple[tuple[int, ...], bool, Any]:
    return npy.read_array_header_1_0(head) if version == (1, 0) else npy.read_array_header_2_0(head)


def _compare(path: Path, needed: int) -> None:
    there = of_host()
    if needed > there:
        found = f"arrays that take {words_of(needed)} of memory where {words_of(there)} are free"
        raise refusal(path, found, "pass fewer examples")


def _idx_files(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Whatever of MNIST's files there is in the folders where it is looked for."""
    parts = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    names = [f"{part}{ending}" for part in parts for ending in ("", ".gz")]
    return [path for folder in _data_folders(data_dir) for name in names if (path := folder / name).is_file()]


def check_idx(path: Path) -> None:
    """Refuse an IDX file that holds more than its header says, or needs more memory than there is.

    Raises
    ------
    ValueError : in one line that names the file.
    """
    with open(path, "rb") as file:
        head = file.read(_IDX_HEADER)
        is_zipped = path.suffix == ".gz" or head.startswith(_GZIP_MAGIC)
        file.seek(0)
        stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            plain = stream.decompress(file.read(_PIECE), _IDX_HEADER) if is_zipped else head
            if plain[:3] != b"\0\0\x08":
                found = f"magic number '{plain[:4].hex()}'"
                raise refusal(path, found, "expected 00000801 to 00000840, IDX of unsigned bytes")
            dimensions = np.frombuffer(plain[4 : 4 + 4 * plain[3]], ">u4").tolist() if len(plain) > 3 else []
            claimed = 4 + 4 * len(dimensions) + math.prod(dimensions)
            _compare(path, 6 * claimed)
            size = _inflated(stream, file, len(plain), claimed) if is_zipped else path.stat().st_size
        except (zlib.error, ValueError) as error:
            if str(error).startswith("data:"):
                raise
            return  # what is damaged is said by who loads it
    if size > claimed:
        raise refusal(path, f"more than the {claimed:,} bytes of its header", "fetch the file again")


def _inflated(stream: Any, file: IO[bytes], number: int, most: int) -> int:
    """Bytes of gzip data, counted as far as they are no more than ``most``."""
    while number <= most and not stream.eof:
        piece = stream.unconsumed_tail or file.read(_PIECE)
        if not piece:
            break
        number += len(stream.decompress(piece, _PIECE))
    return number
