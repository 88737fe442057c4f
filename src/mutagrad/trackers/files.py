"""Trackers that write files: JSON lines and CSV."""

import csv as standard
import io
import json
import math
import os
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from mutagrad import notice
from mutagrad.trackers.tracker import Row, Tracker

__all__ = ["csv", "json_lines"]


class _File:
    """A file that is written at its end, and only whole pieces: what was written of a piece that failed is taken back."""

    def __init__(self, path: Path):
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._end = os.fstat(self._file.fileno()).st_size

    def write(self, text: str) -> None:
        self._file.truncate(self._end)
        # A lone half of a character becomes its escape.
        data = text.encode(errors="backslashreplace")
        written = 0
        # A nearly full disk takes a part, and says so by its number alone.
        while written < len(data):
            written += self._file.write(data[written:])
        self._end += len(data)

    def close(self) -> None:
        try:
            self._file.truncate(self._end)
        finally:
            self._file.close()


def _in_a_folder(path: str | PathLike) -> Path:
    """The path, in a folder that is there: a folder that cannot be made is told before the run begins."""
    if not isinstance(path, str | PathLike):
        raise ValueError(f"path: got {path!r}; pass the name of a file")
    path = Path(path)
    if path.exists() and not path.is_file():
        what = "folder" if path.is_dir() else "pipe or device"
        raise ValueError(f"path: got the {what} {path}; pass the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _free(path: Path) -> Path:
    """A name beside ``path`` that no file has: run.1.jsonl for run.jsonl."""
    number = 1
    while (other := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    return other


def _set_aside(path: Path, name: str) -> None:
    other = _free(path)
    path.rename(other)
    if (beside := path.with_name(path.name + ".json")).exists():
        beside.rename(other.with_name(other.name + ".json"))
    notice.warn(f"{name}: {path.name} held another run; it is {other.name} now")


def _whole_lines(path: Path) -> Iterator[str]:
    """The lines of a file; a last one without its end was cut off by a kill, and is left out."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        yield from (line for line in file if line.endswith("\n"))


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Write a file anew, whole or not at all."""
    new = path.with_name(path.name + ".tmp")
    with open(new, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        file.writelines(lines)
    new.replace(path)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    """JSON has no NaN, which is null here, and no infinity, which is a text that ``float`` reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


class json_lines(Tracker):
    r"""Write one JSON object a line: ``{"config": …}``, then rows, then ``{"summary": …}``.

    ``pandas.read_json(path, lines=True)``, DuckDB and jq read it. A number is written with as many digits as give it back
    exactly. NaN is ``null``, infinities are the texts "Infinity" and "-Infinity": so every line is JSON.

    Parameters
    ----------
    path : of the file. A run that goes on from generation t keeps the rows before t, and writes those from t on again. A file
        of a run with other settings, or a new run's file that has rows, is set aside under another name, with a warning.
    options : ``every``, ``algorithm`` and ``config``, as `Tracker` has them.

    >>> import json, pathlib, tempfile, jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad import trackers
    >>> algorithm, path = mutagrad.elitist(sigma=0.1, num_offspring=4), pathlib.Path(tempfile.mkdtemp(), "run.jsonl")
    >>> result = mutagrad.evolve(
    ...     jax.random.key(0), algorithm, jnp.ones(3), lambda x: jnp.sum(x**2), 100, progress=False,
    ...     observers=[trackers.json_lines(path, every=10, algorithm=algorithm)],
    ... )
    >>> first, *rows, last = map(json.loads, path.read_text().splitlines())
    >>> first["config"]["num_offspring"], len(rows), last["summary"]["num_generations"]
    (4, 10, 100)
    >>> all(row["loss"] == result.history["loss"][row["generation"]] for row in rows)
    True
    """

    def __init__(self, path: str | PathLike, **options: Any):
        super().__init__(**options)
        self._path = _in_a_folder(path)

    def open(self, start: int) -> None:
        """Keep the rows before ``start``."""
        first = _json({"config": self.config}) + "\n"
        lines = list(_whole_lines(self._path)) if self._path.exists() else []
        if lines and (start == 0 or lines[0] != first):
            _set_aside(self._path, self._name)
            lines = []
        _replace(self._path, [first, *(line for line in lines if _generation(line) < start)])
        self._file = _File(self._path)

    def write(self, rows: list[Row]) -> None:
        """Write rows."""
        self._file.write("".join(_json(row) + "\n" for row in rows))
        rows.clear()

    def end(self, summary: Row) -> None:
        """Write the summary."""
        try:
            self._file.write(_json({"summary": summary}) + "\n")
        finally:
            self._file.close()


def _generation(line: str) -> float:
    """Of a row; settings, the summary and what is no JSON come after all rows."""
    try:
        return json.loads(line).get("generation", math.inf)
    except (ValueError, AttributeError):
        return math.inf


class csv(Tracker):
    r"""Write a table of comma-separated values, with a header; settings and summary go to ``path`` + ".json" beside it.

    ``pandas.read_csv`` and spreadsheets read it. A number is written with as many digits as give it back exactly; NaN
    and infinities as ``nan``, ``inf`` and ``-inf``.

    Parameters
    ----------
    path : of the file; what is there already is treated as by `json_lines`. Its columns are those that are recorded first.
    options : ``every``, ``algorithm`` and ``config``, as `Tracker` has them.

    >>> import csv, pathlib, tempfile, jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad import trackers
    >>> algorithm, path = mutagrad.elitist(sigma=0.1, num_offspring=4), pathlib.Path(tempfile.mkdtemp(), "run.csv")
    >>> result = mutagrad.evolve(
    ...     jax.random.key(0), algorithm, jnp.ones(3), lambda x: jnp.sum(x**2), 100, progress=False,
    ...     observers=[trackers.csv(path, every=1)],
    ... )
    >>> rows = list(csv.DictReader(path.read_text().splitlines()))
    >>> [float(row["loss"]) for row in rows] == result.history["loss"].tolist()
    True
    """

    def __init__(self, path: str | PathLike, **options: Any):
        super().__init__(**options)
        self._path = _in_a_folder(path)
        self._beside = self._path.with_name(self._path.name + ".json")

    def open(self, start: int) -> None:
        """Keep the rows before ``start``."""
        self._names = list(self._last)
        header = _row_text(self._names)
        lines = list(_whole_lines(self._path)) if self._path.exists() else []
        if lines and (start == 0 or lines[0] != header or self._has_other_settings()):
            _set_aside(self._path, self._name)
            lines = []
        _replace(self._path, [header, *(line for line in lines[1:] if _first_column(line) < start)])
        _replace(self._beside, [_json({"config": self.config}) + "\n"])
        self._file = _File(self._path)

    def _has_other_settings(self) -> bool:
        try:
            return json.loads(self._beside.read_text())["config"] != json.loads(_json(self.config))
        except (OSError, ValueError, KeyError):
            return False

    def write(self, rows: list[Row]) -> None:
        """Write rows."""
        self._file.write("".join(_row_text([row[name] for name in self._names]) for row in rows))
        rows.clear()

    def end(self, summary: Row) -> None:
        """Write the summary."""
        self._file.close()
        _replace(self._beside, [_json({"config": self.config, "summary": summary}) + "\n"])


def _first_column(line: str) -> float:
    first = line.partition(",")[0]
    return int(first) if first.isdecimal() else math.inf


def _row_text(values: list[Any]) -> str:
    text = io.StringIO()
    standard.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
