"""history.zarr as another folder may have it: looked through before it is opened, so that none decides what is run or taken.

Zarr knows codecs that unpickle, and sizes that no disk has room for. Only what `write_history` writes is read.
"""

from pathlib import Path
from typing import Any

from mutagrad.lab.tasks.memory import of_host, words_of
from mutagrad.run.files import check_plain, contents, read_json, shown

__all__ = ["read"]

_CODECS = ["bytes", "zstd", "crc32c"]
_ITEM = {"bool": 1, "int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "float16": 2, "int32": 4, "uint32": 4, "float32": 4}
_ITEM |= {"int64": 8, "uint64": 8, "float64": 8}
_OF_GROUP = {"attributes", "zarr_format", "node_type"}
_OF_ARRAY = _OF_GROUP | {
    *("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "dimension_names"),
    "storage_transformers",
}
_LARGEST_CHUNK = 2**20
_ZSTD = b"\x28\xb5\x2f\xfd"
_HEAD = 18
"""Bytes of a Zstandard frame's header, at most."""


def read(path: Path) -> Any:
    """A history as an xarray Dataset in memory.

    Raises
    ------
    ValueError : if it is damaged, or of anything but what a run writes, or larger than memory.
    """
    import xarray

    try:
        needed = _check(path)
    except (TypeError, KeyError, AttributeError, OSError, ValueError) as error:
        if str(error).startswith("run:"):
            raise
        raise _refusal(path, f"metadata that no run writes ({error})") from None
    if needed > (there := of_host()):
        raise _refusal(path, f"{words_of(needed)} where {words_of(there)} of memory are free")
    try:
        with xarray.open_zarr(path, consolidated=False, zarr_format=3, chunks=None) as history:
            return history.load()
    except MemoryError:
        raise
    except Exception as error:  # Zarr, its codecs and xarray each fail in ways of their own on a damaged file
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise _refusal(path, f"contents that cannot be read ({reason})") from None


def _refusal(path: Path, found: str) -> ValueError:
    return ValueError(f"run: got {str(path)!r} with {found}; restore it, or the journals of the run")


def _check(path: Path) -> int:
    """Bytes that the arrays take; raises for what no run writes."""
    check_plain(path, "run", str)
    group = read_json(path / "zarr.json", "run")
    if not (group.keys() <= _OF_GROUP and group["node_type"] == "group" and group["zarr_format"] == 3):
        raise _refusal(path, "a group that no run writes")
    found = [_check_array(folder) for folder in sorted(path.iterdir()) if folder.is_dir()]
    # A column of one value has no chunks; the generations have all of theirs.
    if max((number for number, _, _ in found), default=0) > max((held for _, _, held in found), default=0):
        raise _refusal(path, "more generations than its files hold")
    return sum(number * item for number, item, _ in found)


def _check_array(folder: Path) -> tuple[int, int, int]:
    """Numbers of an array, bytes of one, and the numbers that its chunks hold."""
    check_plain(folder, "run", str)
    said = read_json(folder / "zarr.json", "run")
    (number,), (size,) = said["shape"], said["chunk_grid"]["configuration"]["chunk_shape"]
    item = _ITEM.get(said["data_type"]) if isinstance(said["data_type"], str) else None
    codecs = [one["name"] for one in said["codecs"]]
    are_plain = all(isinstance(one.get("configuration", {}), dict) for one in said["codecs"])
    is_known = (
        said.keys() <= _OF_ARRAY
        and (said["node_type"], said["zarr_format"], said.get("storage_transformers", [])) == ("array", 3, [])
        and said["chunk_grid"]["name"] == "regular"
        and said["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
        and said["attributes"].keys() <= {"_FillValue"}
        and len(said["dimension_names"]) == 1
        and type(number) is type(size) is int
        and 0 <= number < 2**40
        and 0 < size <= _LARGEST_CHUNK
    )
    if item is None or codecs != _CODECS or not are_plain or not is_known:
        what = f"dtype {said['data_type']!r}"[:80] if item is None else f"codecs {', '.join(map(str, codecs))}"
        raise _refusal(folder, f"{shown(what)} or a shape that no run writes")
    chunks = sorted((folder / "c").iterdir()) if (folder / "c").is_dir() else []
    for chunk in chunks:
        _check_chunk(chunk, size * item)
    return number, item, len(chunks) * size


def _check_chunk(path: Path, size: int) -> None:
    """A chunk holds as many bytes as its array says, in a single frame of Zstandard that says so too."""
    head = contents(path, "run", 2 * size + 1024)[:_HEAD]
    if _inflated(head) != size:
        raise _refusal(path, f"a chunk that does not say that it holds {size:,} bytes")


def _inflated(head: bytes) -> int | None:
    """Bytes that a frame says it holds (RFC 8878, 3.1.1.1)."""
    if not head.startswith(_ZSTD) or len(head) < _HEAD // 2:
        return None
    flag, is_single = head[4] >> 6, head[4] >> 5 & 1
    start = 5 + (not is_single) + (0, 1, 2, 4)[head[4] & 3]
    width = (is_single, 2, 4, 8)[flag]
    return int.from_bytes(head[start : start + width], "little") + 256 * (width == 2) if width else None
