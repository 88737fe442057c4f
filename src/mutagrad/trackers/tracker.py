"""What all trackers do: choose rows of a chunk, keep them until they are written, and let no failure end the run."""

import re
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mutagrad import check, notice, tree
from mutagrad.run.loop import Chunk
from mutagrad.types import UnknownDefinition

__all__ = ["Row", "Tracker", "settings"]

Row = dict[str, Any]
"""``generation`` t, and what was recorded of it: Python numbers."""

_MOST_WAITING = 100_000
"""Rows that wait to be written while the file or service fails; then the oldest are given up."""


_PAUSES = (1.0, 60.0)
"""Seconds before what failed is tried again: at first, and at most."""


def settings(algorithm: Any, config: Mapping[str, Any] | None) -> dict[str, Any]:
    """An algorithm in words, as a checkpoint has it, its parts where they are known, and the caller's own settings."""
    found: dict[str, Any] = {}
    if algorithm is not None:
        found["algorithm"] = _words(check.algorithm(algorithm))
        definition = algorithm.definition
        if not isinstance(definition, UnknownDefinition):
            found["num_offspring"] = definition.num_offspring
            found["mutation"], found["selection"] = _words(definition.mutation), _words(definition.selection)
            if definition.sigma is not None:
                found["sigma"] = _number(np.asarray(definition.sigma)) if np.ndim(definition.sigma) == 0 else None
    if config is not None and not isinstance(config, Mapping):
        raise ValueError(f"config: got {config!r}; pass a dictionary of settings")
    return found | _setting(dict(config or {}), ())


def _setting(value: Any, within: tuple[int, ...]) -> Any:
    """A setting as JSON can hold it, the same in every process."""
    if id(value) in within:
        raise ValueError(
            "config: got a setting that holds itself; pass numbers, texts, and lists and dictionaries of them"
        )
    if isinstance(value, Mapping):
        return {str(key): _setting(one, (*within, id(value))) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_setting(one, (*within, id(value))) for one in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array) and np.asarray(value).dtype.kind in "biuf":
        array = np.asarray(value)
        return _number(array) if array.ndim == 0 else array.tolist()
    return value if value is None or isinstance(value, bool | int | float | str) else _words(value)


def _words(part: Any) -> str:
    # A function in it has another address in every process.
    return re.sub(r" at 0x[0-9a-f]+", "", repr(part))


def _number(value: np.ndarray) -> Any:
    """A bool, an int, or a float that is the recorded one exactly: every float32 is a Python float."""
    return value.item() if value.dtype.kind in "biu" else float(value)


class Tracker:
    """An observer that writes rows; `json_lines`, `csv`, `tensorboard`, `wandb`, `trackio` and `mlflow` make one.

    A row is ``{"generation": t, "loss": …}`` with the record of generation t = 0, 1, …: the numbers that ``history[name][t]``
    holds. Recorded arrays that are no scalars are left out, with one warning.

    A write that fails does not end the run. It is one warning; the rows wait, the newest 100,000 of them, and are tried again
    after a second, after two, four and up to 60, and at the end. Of a run of several processes the first one writes.

    Parameters
    ----------
    every : ``None`` writes the last generation of each chunk, about four rows a second. A whole number n writes generations 0,
        n, 2n, …; 1 writes all. What is written with ``None`` depends on how fast the machine is.
    algorithm : the algorithm of the run, whose settings are then written once.
    config : further settings, a dictionary.

    Raises
    ------
    ValueError : if an argument is outside its domain, or if what is recorded is no scalar at all.
    """

    def __init__(self, *, every: int | None = None, algorithm: Any = None, config: Mapping[str, Any] | None = None):
        self.every = None if every is None else check.count("every", every)
        self.config = settings(algorithm, config)
        self._waiting: list[Row] = []
        self._last: Row = {}
        self._is_open = self._has_warned = self._is_closed = False
        self._given_up = self._number = 0
        self._pause, self._not_before = _PAUSES[0], -float("inf")

    # What a tracker of one kind does ----------------------------------------------------------------------------------

    def open(self, start: int) -> None:
        """Begin with generation ``start``: 0, or where a run goes on. Called once more if it fails."""

    def write(self, rows: list[Row]) -> None:
        """Write rows; those that are written leave the list, so that they are not written again."""
        raise NotImplementedError

    def end(self, summary: Row) -> None:
        """Write the summary and close."""

    # What all do ------------------------------------------------------------------------------------------------------

    def __call__(self, chunk: Chunk) -> None:
        """Write the rows of a chunk."""
        if jax.process_index() != 0:
            return
        if self._is_closed:
            if self._last:
                notice.warn(
                    f"{self._name}: its run has ended, and nothing of this one is written; make a new one for each run"
                )
                self._last = {}
            return
        start = chunk.generation - chunk.num_generations
        columns = self._columns(chunk)
        wanted = self._wanted(start, chunk.num_generations)
        self._waiting += [_row(columns, start, index) for index in wanted]
        self._number += len(wanted)
        self._last = _row(columns, start, chunk.num_generations - 1)
        if not self._is_open:
            self._start = start
        self._given_up += max(len(self._waiting) - _MOST_WAITING, 0)
        del self._waiting[:-_MOST_WAITING]
        if time.monotonic() >= self._not_before:
            self._try(self._send)

    def close(self) -> None:
        """Write what waits and the summary: the last generation's row, and how many generations were completed."""
        if jax.process_index() != 0 or not self._last or self._is_closed:
            return
        self._try(self._send)
        summary = {"num_generations": self._last["generation"] + 1} | self._last
        if self._is_open:
            self._try(lambda: self.end(summary))
        self._is_closed = True
        if lost := self._given_up + len(self._waiting):
            notice.warn(f"{self._name}: {lost:,} of {self._number:,} rows were not written")

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _send(self) -> None:
        if not self._is_open:
            self.open(self._start)
            self._is_open = True
        if self._waiting:
            self.write(self._waiting)

    def _try(self, write: Any) -> None:
        # Any Exception: what a service raises (of its transport, its server, its files) is no finite list.
        try:
            write()
            self._pause = _PAUSES[0]
        except Exception as error:
            self._not_before = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _PAUSES[1])
            if not self._has_warned:
                text = " ".join(str(error).split())[:200]
                notice.warn(
                    f"{self._name}: {type(error).__name__}: {text}; the run goes on, and its rows are tried again"
                )
            self._has_warned = True

    def _wanted(self, start: int, number: int) -> range:
        """Indices into a chunk."""
        if self.every is None:
            return range(number - 1, number)
        return range(-start % self.every, number, self.every)

    def _columns(self, chunk: Chunk) -> dict[str, np.ndarray]:
        leaves = {name: np.asarray(leaf) for name, leaf in tree.by_name(chunk.records).items()}
        if "generation" in leaves:
            raise ValueError("record: got one named generation, as the number of a row is; give it another name")
        columns = {name: leaf for name, leaf in leaves.items() if leaf.ndim == 1 and leaf.dtype.kind in "biuf"}
        if not columns:
            raise ValueError(f"record: got no scalars, and {self._name} writes scalars; record a dictionary of numbers")
        if not self._last and (others := sorted(leaves.keys() - columns.keys())):
            notice.warn(f"{self._name}: {', '.join(others)} left out, which are no scalars")
        return columns


def _row(columns: dict[str, np.ndarray], start: int, index: int) -> Row:
    return {"generation": start + index} | {name: _number(column[index]) for name, column in columns.items()}
