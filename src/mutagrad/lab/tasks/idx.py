"""IDX files, the format of MNIST, read strictly: what is damaged is refused, never repaired."""

import math
import os
import zlib
from pathlib import Path

import numpy as np

from mutagrad.lab.tasks.guards import FETCH_AGAIN, GZIP_MAGIC, check_idx, idx_shape, refusal

__all__ = ["read_idx"]


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
    ValueError : if the file is not IDX of unsigned bytes, is cut short, damaged or too long, a dimension is zero, or it would
        take more memory than there is.
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
    check_idx(path)
    content = path.read_bytes()
    if path.suffix == ".gz" or content.startswith(GZIP_MAGIC):
        content = _gunzip(path, content)
    shape, start = idx_shape(path, content), 4 + 4 * content[3]
    if shape is None:
        raise refusal(path, f"{len(content)} bytes", f"expected an IDX header of {start}; {FETCH_AGAIN}")
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
