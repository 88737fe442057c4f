"""Evaluations since the last checkpoint, on disk as they come, so that a run that goes on does not make them again.

A row is a digest of the generation of a candidate, of its place there and of its numbers, and what its evaluation gave. A run
that goes on makes the same candidates, and so finds each, those of a noisy loss too. Whatever is damaged or missing, nothing of
one generation, and of its batch, is taken for another's.
"""

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mutagrad.failures import Failure
from mutagrad.run import journal
from mutagrad.run.identity import mark

__all__ = ["KeptEvaluations", "fingerprint"]

_KINDS = ("", "exception", "timeout", "worker", "shape")
_MOST = 2**26
"""Bytes that are kept between two checkpoints."""
_WORTH = 1e-3
"""Evaluations that take less, of a generation in the mean [s], are sooner made again than kept."""
_EARLIER = "in an earlier sitting"
_MOST_OPEN = 8
"""Files for losses of other shapes and dtypes that are open at a time."""


class KeptEvaluations:
    """Those of one run, as `mutagrad.evaluation.pool.Kept` asks for them.

    Parameters
    ----------
    folder : of the run, which it alone writes to. generation : that is evaluated first. of : what the evaluations are of, in
        words that another run or another loss does not have. failed_fn : told of an error, when something cannot be written.
    """

    def __init__(self, folder: Path, generation: int, of: str, failed_fn: Callable[[Exception], None]):
        self._folder, self._generation, self._of, self._failed_fn = folder, generation, of, failed_fn
        # Each with the number of its file and of its rows.
        self._journals: dict[str, tuple[journal.Journal, int, int]] = {}
        self._bytes, self._is_on = 0, True
        self._marks: dict[int, bytes] = {}
        self._start = 0.0
        self._earlier: dict[int, dict[bytes, Any]] = defaultdict(dict)
        # The last generation in each file.
        self._last = {number: self._read(path) for number, path in sorted(_files(folder).items())}
        self._number = max(self._last, default=-1) + 1

    def has_some(self) -> bool:
        """Whether there are evaluations of this generation from an earlier sitting."""
        return self._generation in self._earlier

    def take(self, index: int, params: Any) -> Any:
        """The outcome of a candidate in an earlier sitting; ``None`` if it is not known."""
        return self._earlier[self._generation].get(_mark(self._generation, index, params))

    def mark(self, index: int, params: Any) -> None:
        """A candidate is now evaluated."""
        if not self._marks:
            self._start = time.monotonic()
        if self._is_on:
            self._marks[index] = _mark(self._generation, index, params)

    def add(self, index: int, outcome: Any) -> None:
        """Keep the outcome of a candidate that was marked."""
        if not self._is_on:
            return
        is_failure = isinstance(outcome, Failure)
        loss = np.float64(np.nan) if is_failure else outcome
        row: dict[str, np.ndarray] = {
            "of": np.frombuffer(self._marks[index], np.uint64)[None],
            "generation": np.asarray([self._generation], np.int64),
            "kind": np.asarray([_KINDS.index(outcome.kind) if is_failure else 0], np.uint8),
            "loss": np.asarray(loss)[None],
        }
        self._bytes += sum(one.nbytes for one in row.values())
        try:
            self._append(row)
        except OSError as error:
            self._bytes = _MOST
            self._failed_fn(error)
        if self._bytes >= _MOST:
            self._stop()

    def ended(self) -> None:
        """All of a generation are known."""
        if self._marks and (time.monotonic() - self._start) / len(self._marks) < _WORTH:
            self._stop()
        self._marks = {}
        self._earlier.pop(self._generation, None)
        self._generation += 1

    def begin(self) -> None:
        """Keep what follows in other files: a checkpoint begins here."""
        self.close()
        self._bytes, self._is_on = 0, True

    def forget(self, generation: int) -> None:
        """Remove the files in which nothing is of that generation or later."""
        for number in [number for number, last in self._last.items() if last < generation]:
            _path(self._folder, number).unlink(missing_ok=True)
            del self._last[number]

    def close(self) -> None:
        """Sync what was kept."""
        own, self._journals = self._journals, {}
        for one, _, _ in own.values():
            try:
                one.close()
            except OSError as error:
                self._failed_fn(error)

    def _stop(self) -> None:
        """Keep no more up to the next checkpoint."""
        self._is_on = False
        self.close()

    def _append(self, row: dict[str, Any]) -> None:
        """To the file for rows of this kind."""
        kind = f"{row['loss'].dtype} {row['loss'].shape}"
        if kind not in self._journals:
            if len(self._journals) == _MOST_OPEN:
                self.close()
            number, self._number = self._number, self._number + 1
            self._last[number] = self._generation
            opened = journal.Journal(_path(self._folder, number), row, {"of": self._of}, sync_seconds=0.1)
            self._journals[kind] = opened, number, 0
        opened, number, rows = self._journals[kind]
        opened.append(rows, row)
        self._journals[kind], self._last[number] = (opened, number, rows + 1), self._generation

    def _read(self, path: Path) -> int:
        """Take the rows of a journal from the first generation on; the last generation in it, -1 if it serves nothing."""
        try:
            found = journal.read(path)
            of, generation, kind, loss = (found.columns[name] for name in ("of", "generation", "kind", "loss"))
        except (OSError, ValueError, KeyError):
            return -1
        kinds = [(one.dtype, one.shape[1:]) for one in (of, generation, kind)]
        is_right = kinds == [(np.uint64, (2,)), (np.int64, ()), (np.uint8, ())] and loss.ndim < 4
        if found.attributes != {"of": self._of} or not is_right or np.any(kind >= len(_KINDS)):
            return -1
        # Rows that are lost have no digest.
        for row in np.flatnonzero((generation >= self._generation) & np.any(of, axis=1)):
            outcome = _failed(_KINDS[kind[row]]) if kind[row] else np.asarray(loss[row])
            self._earlier[int(generation[row])][of[row].tobytes()] = outcome
        return int(np.max(generation, initial=-1))


def _failed(kind: str) -> Failure:
    return Failure(f"{'something' if kind == 'exception' else 'failed'} {_EARLIER}", kind)


def _path(folder: Path, number: int) -> Path:
    return folder / f"evaluations-{number}.journal"


def _files(folder: Path) -> dict[int, Path]:
    """Journals by their numbers."""
    found = {path.stem.removeprefix("evaluations-"): path for path in folder.glob("evaluations-*.journal")}
    return {int(name): path for name, path in found.items() if name.isascii() and name.isdecimal()}


def fingerprint(loss_fn: Any) -> str:
    """The name of a loss and the code of its own body, as far as they can be seen."""
    while isinstance(loss_fn, partial):
        loss_fn = loss_fn.func
    name = getattr(loss_fn, "__qualname__", type(loss_fn).__qualname__)
    code = getattr(loss_fn, "__code__", None) or getattr(type(loss_fn).__call__, "__code__", None)
    return f"{name} {hashlib.sha256(_code_of(code)).hexdigest()[:16]}"


def _code_of(code: Any) -> bytes:
    if code is None:
        return b""
    # The order of a set is another in every process.
    constants = [sorted(map(repr, one)) if isinstance(one, frozenset) else one for one in code.co_consts]
    inner = [_code_of(one) if hasattr(one, "co_code") else repr(one).encode() for one in constants]
    return b"|".join([code.co_code, repr(code.co_names).encode(), *inner])


def _mark(generation: int, index: int, params: Any) -> bytes:
    """16 bytes of a candidate and its place."""
    return mark(params, f"{generation} {index} ")
