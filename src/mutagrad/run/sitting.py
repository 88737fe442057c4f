"""A sitting of a steady state: evaluations as they come, what is kept of them, and who looks at the run."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mutagrad import notice
from mutagrad.evaluation.arrivals import Arrivals, mean_of
from mutagrad.evaluation.local import Evaluator
from mutagrad.failures import COUNTS, Failure
from mutagrad.run.ends import close_all, one_line
from mutagrad.run.evolve import Result, RunError
from mutagrad.run.hints import warn_at_the_end
from mutagrad.run.loop import Chunk
from mutagrad.run.observers import History, reason_to_stop
from mutagrad.run.records import Failures
from mutagrad.run.signals import interruptible
from mutagrad.run.steady import KINDS, Course, KeptArrivals

__all__ = ["Sitting"]

_PARENTS = 2
"""The parent is evaluated twice at the start, when workers have nothing else to do: a loss with noise is seen there."""
_CHUNK_SECONDS = 0.25


class _Candidates(Sequence):
    """Parents first, then the births of a course, each born when it is asked for."""

    def __init__(self, course: Course):
        self._course, self._parent = course, jax.tree.map(np.asarray, course.state.params)

    def __len__(self) -> int:
        return _PARENTS + self._course.num_born

    def __getitem__(self, index: Any) -> Any:
        return self._parent if index < _PARENTS else self._course.mutant(index - _PARENTS)


class Sitting:
    """A course, what is known of it, and who looks at it."""

    def __init__(self, course: Course, arrivals: Arrivals, past: Any, evaluations: int):
        self._course, self._arrivals, self._history, self._evaluations = course, arrivals, History(past), evaluations
        self._parents: list[float] = []
        self._rows: list[dict[str, np.ndarray]] = []
        self._asked, self._since, self._has_warned = 0, time.monotonic(), False
        self._failures = Failures(Evaluator(arrivals, is_traceable=False), past, {})

    @property
    def generation(self) -> int:
        """Generations that have ended."""
        return int(self._course.state.generation)

    def live_again(self, rows: Sequence[tuple[int, int, float, int, int]]) -> None:
        """What was evaluated in an earlier sitting happens once more, without evaluations."""
        for born, index, loss, kind, retries in rows:
            while self._course.num_born < born:
                self._course.mutant(self._course.num_born)
            self._ended(index, loss, KINDS[kind], retries)
        self._asked = self._course.num_born
        self._shown([])

    def through(
        self,
        loss_fn: Callable,
        births: int,
        width: int,
        watching: list[Any],
        kept: KeptArrivals | None,
    ) -> Result:
        """Evaluate up to so many births, so many at a time."""
        todo = deque(range(len(self._parents), _PARENTS if births else 0))
        todo.extend(_PARENTS + birth for birth in self._course.under_way)
        stopped, failed = "", None
        with interruptible() as interrupted:
            stream = self._arrivals.stream(loss_fn, _Candidates(self._course), todo, _PARENTS)
            try:
                self._ask(todo, births, width)
                for index, outcome, attempts in stream:
                    if index >= 0:
                        self._came(index, outcome, attempts - 1, kept)
                        self._ask(todo, births, width)
                    stopped = interrupted.reason
                    if not stopped and time.monotonic() - self._since > _CHUNK_SECONDS:
                        stopped = self._shown(watching)
                    if stopped:
                        break
                stopped = stopped or interrupted.reason
                last = self._shown(watching)
                stopped = stopped or last
            except Exception as error:
                # Of the loss, the pool, an observer or the disk: the run so far is not to be lost with it.
                failed = error
            finally:
                stream.close()
                not_closed = close_all(watching)
        failed = failed or not_closed
        if failed is not None:
            if not np.isfinite(self._course.loss):
                raise failed
            where = f"{one_line(failed)} after generation {self.generation}"
            message = f"evolve_asynchronously: {where}; error.result holds the run up to it"
            raise RunError(message, self._result("error")) from failed
        self._failures.warn()
        warn_at_the_end(self._course.state, stopped)
        return self._result(stopped or "generations")

    def _came(self, index: int, outcome: Any, retries: int, kept: KeptArrivals | None) -> None:
        """An evaluation has ended."""
        loss, kind, words = mean_of(outcome), "", ""
        if isinstance(outcome, Failure):
            kind, words = outcome.kind, outcome.words
        if index < _PARENTS and not np.isfinite(loss):
            what = words or f"gave {outcome}"
            raise ValueError(
                f"loss_fn: the evaluation of the params to start from {what}; start where the loss is finite"
            )
        if words and not self._has_warned:
            self._has_warned = True
            notice.warn(f"loss_fn: an evaluation {words}; it counts as failed, as later ones will")
        if kept is not None:
            kept.add(self._course.num_born, index, loss, kind, retries)
        self._ended(index, loss, kind, retries)

    def _result(self, stopped: str) -> Result:
        state = self._course.state
        return Result(state.params, state, self._history.records, stopped, self._evaluations)

    def _ask(self, todo: deque[int], births: int, width: int) -> None:
        """Keep so many in flight, once the parent's loss is known."""
        if len(self._parents) < _PARENTS:
            return
        while self._asked < births and self._asked - self._course.num_judged < width:
            todo.append(_PARENTS + self._asked)
            self._asked += 1

    def _ended(self, index: int, loss: float, kind: str, retries: int) -> None:
        self._evaluations += 1
        if index >= _PARENTS:
            row = self._course.judged(index - _PARENTS, loss, kind, retries)
            self._rows += [] if row is None else [row]
            return
        self._parents.append(loss)
        if len(self._parents) == _PARENTS:
            if self._parents[0] != self._parents[1]:
                raise ValueError(
                    f"loss_fn: got {self._parents[0]!r} and {self._parents[1]!r} for the same params; a loss with noise would "
                    "keep its luckiest parent here, so take its random numbers from a fixed seed, or pass it to mutagrad.evolve"
                )
            self._course.begin(loss)

    def _shown(self, watching: list[Any]) -> str:
        """Hand on what has come since; why an observer stops, if one does."""
        self._since = time.monotonic()
        if not self._rows:
            return ""
        records = {name: np.stack([row[name] for row in self._rows]) for name in self._rows[0]}
        failures = {name: records.pop(name) for name in COUNTS.values()}
        chunk = Chunk(self._course.state, records, len(self._rows), failures)
        chunk = chunk._replace(records=self._failures.beside(records, chunk))
        self._rows = []
        self._history(chunk)
        return reason_to_stop(watching, chunk)
