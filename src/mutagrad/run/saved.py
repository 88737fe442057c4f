"""A run on disk: an observer that keeps its history and lineage in journals, and saves its state about every minute.

Of the history nothing is held in memory but what could not be written yet. It is read back once, through the file that is open:
that one is there to its end, also where the folder has been deleted under the run.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache
from os import PathLike
from typing import Any

import jax
import numpy as np

from mutagrad import notice, tree
from mutagrad.evaluation.local import Evaluator
from mutagrad.run import journal, lineage
from mutagrad.run.begun import begun
from mutagrad.run.checkpoint import Checkpoints, folder_of
from mutagrad.run.chunks import ByIdentity
from mutagrad.run.files import aside
from mutagrad.run.identity import identity_of
from mutagrad.run.kept import KeptEvaluations, fingerprint
from mutagrad.run.lock import locked
from mutagrad.run.loop import Chunk
from mutagrad.run.past import HISTORY, first_of, history_of, spans

__all__ = ["HISTORY", "Saved", "is_consumed", "last_state"]

_SECONDS = 60.0
_FIRST_SECONDS = 5.0


class Saved:
    """Keeps a run in a folder, which it alone writes to until it is closed.

    What cannot be written, since the disk is full or the folder gone, is said once and tried again; `close` raises what is left.

    Parameters
    ----------
    folder, key, algorithm : as in `mutagrad.evolve`. state : of the algorithm. recorder : of the lineage.
    evaluator : that the run uses.
    """

    def __init__(
        self,
        folder: str | PathLike,
        key: jax.Array,
        algorithm: Any,
        state: Any,
        recorder: Callable,
        evaluator: Evaluator,
    ):
        self._folder, self._key, self._recorder = folder_of(folder), key, recorder
        self._seconds = _SECONDS
        self._evaluator = evaluator
        self._held = ExitStack()
        self._held.enter_context(locked(self._folder, "checkpoint"))
        self._identity = identity_of(key, algorithm, state)
        self._checkpoints = Checkpoints(self._folder, self._identity)
        self._kept: KeptEvaluations | None = None
        self._run = secrets.token_hex(8)
        self._state: Any = None
        # The first checkpoint comes soon.
        self._last = time.monotonic() - max(self._seconds - _FIRST_SECONDS, 0)
        self._journals: dict[str, journal.Journal] = {}
        self._pending: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self._past: Any = None
        self._is_past_written = True
        self._like: Any = None
        self._number = 0
        self._start: dict[str, Any] = {}
        self._first = 0
        self.evaluations_fn: Callable[[Any], int] = lambda state: 0
        self._has_warned = False

    def restore(self, state: Any, history: Any, evaluations: int) -> tuple[Any, Any, int]:
        """State, history and evaluations of the newest whole checkpoint, or those given if there is none."""
        described = self._checkpoints.newest()
        if described is None:
            # What a run left that ended before its first checkpoint is made again.
            earlier = [self._set_aside(name, "earlier") for name in (HISTORY, lineage.NAME)]
            if any(earlier):
                self._say(
                    "a run ended here before its first checkpoint; it starts again (evaluations by Python that are kept are not "
                    "made again), and its journals are kept as earlier-…"
                )
            self._first = int(state.generation) - max(map(len, jax.tree.leaves(history)), default=0)
            self._start, self._is_past_written = lineage.start_of(state, self._key, self._evaluator), False
            return state, history, evaluations
        given = lineage.start_of(state, self._key, self._evaluator)
        state = self._checkpoints.restore(described, state)
        self._run, self._first = described["run"], described["first"]
        past = history_of(self._folder, described)
        if past.lost:
            self._say(f"{spans(past.lost, self._first)} of its history are lost to damage and are NaN, or 0, in it")
            self._rewrite(past.columns)
        own = self._lineage_start(int(state.generation))
        if own is None:
            self._say("its lineage is damaged or missing, and begins anew here")
            self._set_aside(lineage.NAME)
        if own and own["generation"] == given["generation"] and own["checksum"] != given["checksum"]:
            self._say(
                "its run began with other parameters than those given, and goes on with its own; for a run from these pass "
                "another folder"
            )
        self._start = own or lineage.start_of(state, self._key, self._evaluator)
        return state, past.columns, described["evaluations"]

    def _rewrite(self, columns: dict[str, Any]) -> None:
        """Put what is left of a damaged history in its place, and keep the damaged one."""
        path, new = self._folder / HISTORY, self._folder / f"{HISTORY}.new"
        new.unlink(missing_ok=True)
        with journal.Journal(new, columns, {"run": self._run}) as file:
            file.append(0, columns)
        if path.exists():
            kept = aside(path, "damaged")
            try:
                # A copy of a hole of a terabyte would fill the disk.
                os.link(path, kept)
            except OSError:  # not every file system has a second name for a file
                is_small = path.stat().st_size <= journal.MOST_READ
                shutil.copyfile(path, kept) if is_small else path.rename(kept)
        new.replace(path)

    def _lineage_start(self, generation: int) -> dict[str, Any] | None:
        """How the lineage began, in its own words; ``None`` if it is damaged, of another run, or of later generations."""
        try:
            found = journal.read(self._folder / lineage.NAME).attributes
            is_own = found.pop("run", None) == self._run and begun(found).generation <= generation
        except (OSError, ValueError):
            return None
        return found if is_own else None

    def kept(self, loss_fn: Callable, generation: int) -> KeptEvaluations:
        """Where the evaluations of a loss in ordinary Python are kept until the next checkpoint, from a generation on."""
        of = json.dumps([self._identity, fingerprint(loss_fn)], sort_keys=True)
        self._kept = KeptEvaluations(self._folder, generation, hashlib.sha256(of.encode()).hexdigest(), self._failed)
        return self._kept

    def goes_on(self, past: Any) -> "Saved":
        """Itself, with the history that the run goes on with, in the structure of its records."""
        self._past = past
        return self

    def record(self, record: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """What the loop is to record: (what ``record`` does, the lineage)."""
        return _both(ByIdentity((record, self._recorder)))

    def __call__(self, chunk: Chunk, descent: Any) -> None:
        """Append what was recorded and the lineage, and save the state if it is time to."""
        first = chunk.generation - chunk.num_generations
        self._like = jax.tree.map(lambda leaf: leaf[:0].copy(), chunk.records)
        self._number = chunk.generation - self._first
        self._append(HISTORY, first - self._first, tree.by_name(chunk.records))
        self._append(lineage.NAME, first - self._start["generation"], descent)
        self._state = chunk.state
        is_due = time.monotonic() - self._last > self._seconds
        if self._kept is not None and is_due:
            self._kept.begin()
        # Errors are of many kinds, from Orbax too; what is not saved in the end is raised by `close`.
        try:
            self._checkpoints.poll()
        except Exception as error:
            self._failed(error)
        try:
            if is_due:
                self._save()
        except Exception as error:
            self._failed(error)

    @property
    def records(self) -> Any:
        """Everything recorded so far: what is in the journal, and what waits to be written. To be asked for before `close`."""
        if self._like is None:
            return self._past
        waiting = self._pending.get(HISTORY, [])
        columns = self._written(waiting[0][0] if waiting else self._number)
        if waiting:
            columns = {
                name: np.concatenate([one, *(rows[name] for _, rows in waiting)]) for name, one in columns.items()
            }
        return tree.from_names(columns, self._like)

    def _written(self, number: int) -> dict[str, Any]:
        """What was recorded of the first generations, from the journal; before it could be opened, what the run began with."""
        if HISTORY not in self._journals:
            return tree.by_name(self._like if self._past is None else self._past)
        found = first_of(self._journals[HISTORY].read, self._run, self._kinds(), number)
        if found.lost:
            self._say(f"{spans(found.lost, self._first)} of its history cannot be read back and are NaN, or 0, in it")
        return found.columns

    def _kinds(self) -> dict[str, list]:
        return {name: [one.dtype.name, list(one.shape[1:])] for name, one in tree.by_name(self._like).items()}

    def close(self) -> None:
        """Save what has not been saved, and let others write to the folder."""
        try:
            if self._state is not None and not is_consumed(self._state):
                self._save()
                self._checkpoints.wait()
        except Exception as error:
            raise OSError(
                f"checkpoint: got {str(self._folder)!r}, which cannot be written ({_words(error)})"
            ) from error
        finally:
            self._state = None
            self.release()

    def release(self) -> None:
        """Let others write to the folder, without saving anything."""
        with ExitStack() as closing:
            closing.push(self._held)
            for one in self._journals.values():
                closing.callback(one.close)
            if self._kept is not None:
                closing.callback(self._kept.close)
            closing.callback(self._checkpoints.close)
            self._journals, self._kept = {}, None

    def _save(self) -> None:
        if not (self._folder / HISTORY).exists():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(self._folder))
        try:
            self._checkpoints.wait()
        except Exception as error:  # of the state before, which this one takes the place of
            self._failed(error)
        # A state is saved when what was recorded up to it is.
        for name, rows in self._pending.items():
            self._write(name, rows)
        for one in self._journals.values():
            one.sync()
        about = {"run": self._run, "start": self._start, "records": self._kinds(), "first": self._first}
        self._checkpoints.save(self._state, about | {"evaluations": self.evaluations_fn(self._state)})
        self._last = time.monotonic()
        if self._kept is not None and (sealed := self._checkpoints.sealed()):
            self._kept.forget(min(one["generation"] for one in sealed))

    def _append(self, name: str, first: int, columns: dict[str, Any]) -> None:
        self._pending.setdefault(name, []).append((first, columns))
        try:
            self._write(name, self._pending[name])
        except OSError as error:
            self._failed(error)

    def _write(self, name: str, rows: list[tuple[int, dict[str, Any]]]) -> None:
        """Append rows that wait to be written, and forget them."""
        while rows:
            if name not in self._journals:
                self._journals[name] = self._opened(name, rows)
            self._journals[name].append(*rows[0])
            rows.pop(0)

    def _opened(self, name: str, rows: list[tuple[int, dict[str, Any]]]) -> journal.Journal:
        path = self._folder / name
        about = {"run": self._run} | (self._start if name == lineage.NAME else {})
        opened = journal.Journal(path, rows[0][1], about)
        if name == HISTORY and self._past is not None:
            # Not whether the file is new: it is there when its first sync has failed.
            if not self._is_past_written:
                rows.insert(0, (0, tree.by_name(self._past)))
            self._past = None
        return opened

    def _failed(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._say(
                f"it cannot be written now ({_words(error)}); the run goes on, and tries again about every minute"
            )

    def _set_aside(self, name: str, why: str = "damaged") -> bool:
        """Keep a file under another name, so that it begins anew; whether there was one."""
        path = self._folder / name
        is_there = os.path.lexists(path)
        if is_there:
            path.rename(aside(path, why))
        return is_there

    def _say(self, what: str) -> None:
        notice.warn(f"checkpoint: got {str(self._folder)!r}: {what}")


@lru_cache(maxsize=64)
def _both(functions: ByIdentity) -> Callable[[Any, Any], Any]:
    """One function for the same two, so that the same program serves the next run."""
    record, recorder = functions.objects

    def recorded(state: Any, info: Any) -> tuple[Any, Any]:
        return record(state, info), recorder(state, info)

    return recorded


def last_state(folder: str | PathLike, key: jax.Array, algorithm: Any, state: Any) -> Any:
    """The state of the newest whole checkpoint, in the structure of ``state``, while a run writes to the folder or not.

    Raises
    ------
    ValueError : if there is none, or it is of another run.
    """
    place = folder_of(folder)
    checkpoints = Checkpoints(place, identity_of(key, algorithm, state))
    described = checkpoints.newest()
    if described is None:
        raise ValueError(f"checkpoint: got {str(folder)!r}, which holds none; let the run save itself first")
    return checkpoints.restore(described, state)


def is_consumed(state: Any) -> bool:
    """Whether a state was donated to a chunk that did not end."""
    return any(leaf.is_deleted() for leaf in jax.tree.leaves(state) if isinstance(leaf, jax.Array))


def _words(error: Exception) -> str:
    text = str(error).strip().splitlines()
    # As TensorStore says which error of the system it was.
    if found := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(found[1]))
    return getattr(error, "strerror", None) or (f"{type(error).__name__}: {text[-1][:160] if text else ''}")
