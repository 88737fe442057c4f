"""Evaluations since the last checkpoint, on disk as they come, so that a run that goes on does not make them again.

A row is a digest of where a candidate stood in its generation and of its numbers, and what its evaluation gave. A run that goes
on makes the same candidates in the same order, so that it finds each where it was, those of a noisy loss too.
"""

import hashlib
import time
from collections import defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mutagrad.failures import Failure
from mutagrad.run import journal

__all__ = ["KeptEvaluations", "fingerprint"]

_KINDS = ("", "exception", "timeout", "worker", "shape")
_MOST = 2**26
"""Bytes that are kept between two checkpoints."""
_WORTH = 1e-3
"""Evaluations that take less, of a generation in the mean [s], are sooner made again than kept."""
_EARLIER = "in an earlier sitting"


class KeptEvaluations:
    """Those of one run, as `mutagrad.evaluation.pool.Kept` asks for them.

    Parameters
    ----------
    folder : of the run, which it alone writes to. position : in the files, from which on the evaluations of an earlier sitting
        are taken; ``None`` for none. of : what the evaluations are of, in words that another run or another loss does not have.
    failed_fn : told of an error, when something cannot be written.
    """

    def __init__(self, folder: Path, position: list[int] | None, of: str, failed_fn: Callable[[Exception], None]):
        self._folder, self._of, self._failed_fn = folder, of, failed_fn
        self._journal: journal.Journal | None = None
        self._columns: dict[str, Any] = {}
        self._rows, self._bytes, self._is_on = 0, 0, True
        self._marks: dict[int, bytes] = {}
        self._start = 0.0
        self._earlier: dict[bytes, deque] = defaultdict(deque)
        self._ends: deque[list[int]] = deque()
        files = _files(folder)
        # A number that is left out stands for what was not kept.
        self._number = max(files, default=-2) + 2
        number, first = position or [-1, 0]
        while number in files and self._read(number, files[number], first):
            number, first = number + 1, 0
            self._number = max(files) + 1

    def has_some(self) -> bool:
        """Whether there are evaluations of an earlier sitting that have not been taken."""
        return bool(self._earlier)

    def take(self, index: int, params: Any) -> Any:
        """The outcome of a candidate in an earlier sitting; ``None`` if it is not known."""
        mark = _mark(index, params)
        known = self._earlier.get(mark)
        if known is None:
            return None
        # Of whole generations as many are taken as stand before the others.
        self._ends[0][1] += 1
        if self._ends[0][1] == self._ends[0][2]:
            self._ends.popleft()
        outcome = known.popleft()
        if not known:
            del self._earlier[mark]
        return outcome

    def mark(self, index: int, params: Any) -> None:
        """A candidate is now evaluated."""
        if not self._marks:
            self._start = time.monotonic()
            if self._earlier:
                # The earlier sitting took another course from here on.
                self._earlier.clear()
                self._ends.clear()
                self._break()
        if self._is_on:
            self._marks[index] = _mark(index, params)

    def add(self, index: int, outcome: Any) -> None:
        """Keep the outcome of a candidate that was marked."""
        if not self._is_on:
            return
        is_failure = isinstance(outcome, Failure)
        loss = np.float64(np.nan) if is_failure else outcome
        row: dict[str, np.ndarray] = {
            "of": np.frombuffer(self._marks[index], np.uint64)[None],
            "kind": np.asarray([_KINDS.index(outcome.kind) if is_failure else 0], np.uint8),
            "loss": np.asarray(loss)[None],
        }
        self._bytes += sum(one.nbytes for one in row.values())
        try:
            self._opened(row).append(self._rows, row)
            self._rows += 1
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

    @property
    def position(self) -> list[int] | None:
        """A file and a row, from which on the evaluations that follow are kept; ``None`` if they are not. Between generations."""
        if self._ends:
            return self._ends[0][:2]
        if not self._is_on:
            return None
        return [self._number, 0] if self._journal is None else [self._number - 1, self._rows]

    def begin(self) -> None:
        """Keep what follows in another file: a checkpoint begins here."""
        self.close()
        self._bytes, self._is_on = 0, True

    def forget(self, oldest: int) -> None:
        """Remove the files before one."""
        for number, path in _files(self._folder).items():
            if number < oldest:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Sync what was kept."""
        own, self._journal = self._journal, None
        self._columns = {}
        if own is not None:
            own.close()

    def _stop(self) -> None:
        """Keep no more up to the next checkpoint; what there is is whole up to here, and serves."""
        self._is_on = False
        self._break()

    def _break(self) -> None:
        """Leave out a number."""
        self.close()
        self._number += 1

    def _opened(self, row: dict[str, Any]) -> journal.Journal:
        """The file for rows of this kind: a loss whose shape changes begins another."""
        kinds = {name: (one.dtype, one.shape[1:]) for name, one in row.items()}
        if self._journal is None or kinds != self._columns:
            self.close()
            path = self._folder / f"evaluations-{self._number}.journal"
            self._journal, self._columns = journal.Journal(path, row, {"of": self._of}, sync_seconds=0.1), kinds
            self._rows, self._number = 0, self._number + 1
        return self._journal

    def _read(self, file: int, path: Path, first: int) -> bool:
        """Take the rows of a journal from one on; whether all of them were whole, so that the next may follow."""
        try:
            found = journal.read(path)
            of, kind, loss = (found.columns[name] for name in ("of", "kind", "loss"))
        except (OSError, ValueError, KeyError):
            return False
        is_right = (
            of.dtype == np.uint64
            and of.shape[1:] == (2,)
            and kind.dtype == np.uint8
            and kind.ndim == 1
            and loss.ndim < 4
        )
        if found.attributes != {"of": self._of} or not is_right or np.any(kind >= len(_KINDS)):
            return False
        number = found.lost[0].start if found.lost else len(kind)
        if first < number:
            self._ends.append([file, first, number])
        for mark, which, one in zip(of[first:number], kind[first:number], loss[first:number], strict=True):
            outcome = Failure(_EARLIER, _KINDS[which]) if which else np.asarray(one)
            self._earlier[mark.tobytes()].append(outcome)
        return not found.lost


def _files(folder: Path) -> dict[int, Path]:
    """Journals by their numbers."""
    found = {path.stem.removeprefix("evaluations-"): path for path in folder.glob("evaluations-*.journal")}
    return {int(name): path for name, path in found.items() if name.isascii() and name.isdecimal()}


def fingerprint(loss_fn: Any) -> str:
    """The name of a loss and the code of its own body, as far as they can be seen."""
    while hasattr(loss_fn, "func"):
        loss_fn = loss_fn.func
    code = getattr(loss_fn, "__code__", None)
    name = getattr(loss_fn, "__qualname__", type(loss_fn).__qualname__)
    return f"{name} {hashlib.sha256(_code_of(code)).hexdigest()[:16]}"


def _code_of(code: Any) -> bytes:
    if code is None:
        return b""
    inner = [_code_of(one) if hasattr(one, "co_code") else repr(one).encode() for one in code.co_consts]
    return b"|".join([code.co_code, repr(code.co_names).encode(), *inner])


def _mark(index: int, params: Any) -> bytes:
    """16 bytes of a candidate and its place."""
    digest = hashlib.blake2b(index.to_bytes(8, "little"), digest_size=16)
    for leaf in jax.tree.leaves(params):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype.name} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
