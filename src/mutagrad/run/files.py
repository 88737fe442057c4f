"""Files of folders that others may have made: what is no file, too large or no plain JSON is refused before it is read."""

import fnmatch
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["aside", "check_name", "check_plain", "contents", "parsed", "read_json", "shown"]

_MOST_TEXT = 2**24
"""Bytes of the largest JSON file that is read."""


def contents(path: Path, what: str, most: int) -> bytes:
    """The bytes of a file.

    Parameters
    ----------
    path : of the file; links are not followed. what : the argument that named it, for the message. most : bytes to read.

    Raises
    ------
    ValueError : if it is a link, a folder, a pipe or a device, or larger.
    OSError : if there is none, or it cannot be read.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        kind = (
            "link" if stat.S_ISLNK(found.st_mode) else "folder" if stat.S_ISDIR(found.st_mode) else "pipe or a device"
        )
        raise ValueError(f"{what}: got {str(path)!r}, which is a {kind}; put the file in its place")
    if found.st_size > most:
        raise ValueError(f"{what}: got {str(path)!r} of {found.st_size:,} bytes, more than is read; restore it")
    return path.read_bytes()


def read_json(path: Path, what: str) -> Any:
    """A JSON file; see `contents` and `parsed`."""
    data = contents(path, what, _MOST_TEXT)
    try:
        return parsed(data.decode())
    except ValueError as error:
        raise ValueError(f"{what}: got {str(path)!r}, which is damaged ({error}); restore it") from None


def parsed(text: str) -> Any:
    """JSON as its standard has it: names stand once, and there is no NaN.

    Raises
    ------
    ValueError : if it is anything else.

    >>> from mutagrad.run.files import parsed
    >>> parsed('{"sigma": 1, "sigma": 2}')
    Traceback (most recent call last):
    ...
    ValueError: 'sigma' stands twice
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:80]!r} stands twice")
        found[name] = value
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


def check_name(folder: Path, what: str) -> None:
    """Refuse a folder whose path, taken for a pattern, is not its own, as with "[1]" in it: Orbax would not find it again.

    Parameters
    ----------
    folder : resolved. what : the argument that named it, for the message.

    Raises
    ------
    ValueError : in one line with the remedy.
    """
    if not fnmatch.fnmatchcase(str(folder), str(folder)):
        raise ValueError(
            f"{what}: got {str(folder)!r}, whose brackets are a pattern to Orbax, so that no checkpoint there could be read "
            "back; pass a folder without [ and ] in its path, or rename it"
        )


def check_plain(folder: Path, what: str, is_own: Callable[[str], Any]) -> None:
    """Refuse a folder where a link, a pipe or a device stands in place of what a run reads or writes.

    Parameters
    ----------
    folder : to look at; one that is not there is plain. what : the argument that named it. is_own : which names a run uses.

    Raises
    ------
    ValueError : in one line that names what it is.
    """
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        other = [one.name for one in entries if is_own(one.name) and not _is_plain(one)]
    if other:
        raise ValueError(f"{what}: got {str(folder)!r}, whose {min(other)} is a link, a pipe or a device; remove it")


def _is_plain(entry: os.DirEntry) -> bool:
    return entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False)


def shown(text: str, longest: int = 200) -> str:
    """What a file says, as part of a line: without line breaks or what a terminal would obey.

    >>> from mutagrad.run.files import shown
    >>> shown("some\\nlines \\x1b[2J")
    'some lines ?[2J'
    """
    line = " ".join(text.split())[:longest]
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def aside(path: Path, why: str) -> Path:
    """A name beside a file under which nothing stands: why-NAME, why-2-NAME, …"""
    number, free = 1, path.with_name(f"{why}-{path.name}")
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{why}-{number}-{path.name}")
    return free
