"""IDX files, the format of MNIST, read strictly: what is damaged is refused, never repaired."""

import math
import os
import zlib
from pathlib import Path

import numpy as np

__all__ = ["read_idx"]

FETCH_AGAIN = "fetch the file again"
_GZIP_MAGIC = b"\x1f\x8b"


def refusal(path: Path, found: str, remedy: str) -> ValueError:
    """What to raise about a data file."""
    return ValueError(f"data: got {str(path)!r} with {found}; {remedy}")


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, plain or compressed by gzip.

    An IDX file is two zero bytes, the type (8 for unsigned bytes), the number of dimensions, each dimension as a
    big-endian 32-bit number, and the data, the last dimension running fastest; nothing may be missing or follow.

    Parameters
    ----------
    path : the file, decompressed if its name ends in .gz or it begins as gzip data do.

    Returns
    -------
    uint8 array of the shape that the header gives.

    Raises
    ------
    ValueError : if the file is not IDX of unsigned bytes, is cut short, damaged or too long, or a dimension is zero.
    FileNotFoundError : if there is no such file.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "labels")
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"data: got {str(path)!r}, which is not a file; pass the path of an IDX file")
    content = path.read_bytes()
    if path.suffix == ".gz" or content.startswith(_GZIP_MAGIC):
        content = _gunzip(path, content)
    magic = content[:4]
    dimensions = int.from_bytes(magic[3:])
    if magic[:3] != b"\0\0\x08" or not 1 <= dimensions <= 64:  # NumPy has no more than 64
        raise refusal(path, f"magic number '{magic.hex()}'", "expected 00000801 to 00000840, IDX of unsigned bytes")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise refusal(path, f"{len(content)} bytes", f"expected an IDX header of {start}; {FETCH_AGAIN}")
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    if 0 in shape:
        raise refusal(path, f"shape {shape}", f"expected dimensions of 1 or more; {FETCH_AGAIN}")
    if len(content) - start != math.prod(shape):
        found = f"{len(content) - start} bytes of data"
        raise refusal(path, found, f"expected {math.prod(shape)} for the shape {shape} in its header; {FETCH_AGAIN}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _gunzip(path: Path, content: bytes) -> bytes:
    """The one member of a gzip file; unlike the gzip module, strict about what follows it, zeros included."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        plain = stream.decompress(content)
    except zlib.error as error:
        raise refusal(path, f"damaged gzip data ({error})", f"expected valid gzip data; {FETCH_AGAIN}") from None
    if not stream.eof:
        raise refusal(path, f"gzip data cut short at {len(content)} bytes", f"expected their end; {FETCH_AGAIN}")
    if stream.unused_data:
        found = f"{len(stream.unused_data)} bytes after the end of its gzip data"
        raise refusal(path, found, f"expected none; {FETCH_AGAIN}")
    return plain
