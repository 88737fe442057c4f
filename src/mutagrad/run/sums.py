"""SHA-256 sums of files, and small files of JSON that know their own: what is damaged is not taken for whole."""

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mutagrad.run.files import read_json

__all__ = [
    "damaged", "files_of", "named", "read_signed", "sum_of_text", "sums_of", "sync_folder", "write_signed", "write_whole",
]  # fmt: skip

_OWN = "sha256"
_PIECE = 2**20
_MOST = 2**38
"""Bytes of the largest file whose sum is taken."""


def sums_of(folder: Path, names: Iterable[str] | None = None, sync: bool = False) -> dict[str, str]:
    """Sums of the files of a folder by their path in it, all of them unless named; links are not followed.

    Parameters
    ----------
    folder : of the files. names : paths in it. sync : whether to force each file, and its name, to the disk first.
    """
    found = sorted(files_of(folder)) if names is None else names
    result = {name: _sum(folder / name, sync) for name in found}
    for place in {(folder / name).parent for name in found} if sync else ():
        sync_folder(place)
    return result


def damaged(folder: Path, sums: Mapping[str, str | Collection[str]], is_all: bool = True) -> list[str]:
    """What is not as it was when the sums were taken, each in words.

    Parameters
    ----------
    folder : of the files. sums : as `sums_of` gives them, or several that a file may have. is_all : whether a file that has no
        sum is damage too.
    """
    present = set(files_of(folder))
    found = [f"{name} is missing" for name in sums.keys() - present]
    for name in sums.keys() & present:
        allowed = [sums[name]] if isinstance(sums[name], str) else sums[name]
        if _sum(folder / name) not in allowed:
            found.append(f"{name} was altered")
    added = present - sums.keys() if is_all else ()
    return sorted(found) + [f"{name} was added" for name in sorted(added)]


def sum_of_text(text: str) -> str:
    """The sum of a text file."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_signed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file with its own sum in it, whole or not at all."""
    write_whole(path, json.dumps(content | {_OWN: _signature(content)}, indent=1, sort_keys=True) + "\n")


def read_signed(path: Path) -> dict[str, Any] | None:
    """What `write_signed` wrote; ``None`` if there is no such file, or it was altered."""
    try:
        content = read_json(path, "run")
        is_whole = isinstance(content, dict) and content.pop(_OWN, None) == _signature(content)
    except (OSError, ValueError, RecursionError):
        return None
    return content if is_whole else None


def write_whole(path: Path, text: str) -> None:
    """Write a text file whole or not at all, also if the machine stops."""
    temporary = path.with_name(path.name + ".tmp")
    # A link that somebody left under that name is not followed.
    temporary.unlink(missing_ok=True)
    with named(path), open(temporary, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Force the names of a folder to the disk, as far as the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with named(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of the system that come from a file that is open say which it is."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _signature(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def files_of(folder: Path) -> list[str]:
    """Paths of all files in a folder, relative to it; a link to a folder is a file."""
    found = [
        Path(place, name)
        for place, folders, names in os.walk(folder)
        for name in (*names, *(one for one in folders if os.path.islink(os.path.join(place, one))))
    ]
    return [path.relative_to(folder).as_posix() for path in found]


def _sum(path: Path, sync: bool = False) -> str:
    # A pipe would be waited for, and a hole of a terabyte read for hours.
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST:
        return "no file"
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if sync:
            os.fsync(file.fileno())
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
