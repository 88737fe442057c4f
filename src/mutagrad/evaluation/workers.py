"""Processes that evaluate: one that dies is replaced, one that takes too long is ended, and no other notices.

Each has a pipe of its own and one evaluation at a time. So it is known which evaluation a dead one had, and no lock can be left
held by it.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

import cloudpickle

from mutagrad.failures import Failure
from mutagrad.worker import serve

__all__ = ["Workers", "not_sendable"]


_START_SECONDS = 300.0
"""What a worker may take until it begins, or to import what a loss needs."""
_TICK = 1.0
"""How often it is looked for workers that are dead and whose pipes are held open by what they forked [s]."""
_MOST_STARTS = 20
"""Workers that may be killed one after another before one begins."""


class _Worker:
    """A process, the pipe to it, the loss that it was sent, and what it evaluates: an index, or ``None``."""

    def __init__(self, context: Any):
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True, name="mutagrad worker")
        with _without_false_file():
            self.process.start()
        theirs.close()
        self.index: int | None = None
        self.is_ready, self.due = False, time.monotonic() + _START_SECONDS
        self.function: bytes | None = None

    def stop(self) -> None:
        """End it, and what its loss has started, which is of its group."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Workers:
    """A number of processes, started when they are first needed, and ended with this object or with the interpreter.

    Parameters
    ----------
    number : of processes.
    """

    def __init__(self, number: int):
        # Begun anew: a fork of a process with JAX's threads in it may hang.
        self._context, self._number = multiprocessing.get_context("spawn"), number
        self._workers: list[_Worker] = []
        self._lock, self._failed_starts = threading.Lock(), 0
        self._loss_fn: Any = None
        self._function, self._is_whole = b"", False
        self._misnamed: set[bytes] = set()
        weakref.finalize(self, _stop, self._workers, os.getpid())

    def outcomes(
        self, loss_fn: Callable, rank: int, candidates: Sequence[Any], todo: deque[int], timeout: float | None
    ) -> Iterator[tuple[int, Any]]:
        """Indices of candidates and their outcomes as they come; what is added to ``todo`` meanwhile is evaluated too.

        At least once a second there is one of index -1, so that it can be seen whether to go on.
        """
        with self._lock:
            function = _pickled_by_name(loss_fn)
            self._is_whole = function is None or function in self._misnamed
            if function is None or self._is_whole:
                function = _pickled_whole(loss_fn)
            # One that is as before is not sent again: what it has loaded on its way stays loaded.
            self._function, self._loss_fn = self._function if self._function == function else function, loss_fn
            try:
                while todo or any(worker.index is not None for worker in self._workers):
                    self._send(rank, candidates, todo, timeout)
                    yield from self._received(todo)
                    yield -1, None
            finally:
                # Of a generation that is given up, nothing may come later.
                for worker in [one for one in self._workers if one.index is not None]:
                    self._remove(worker)

    def _send(self, rank: int, candidates: Sequence[Any], todo: deque[int], timeout: float | None) -> None:
        """Give the idle workers something to do, and start those that are missing."""
        needed = min(self._number, len(todo) + sum(one.index is not None for one in self._workers))
        while len(self._workers) < needed:
            self._workers.append(_Worker(self._context))
        loading = sum(one.function is self._function and not one.is_ready for one in self._workers)
        for worker in list(self._workers):
            if worker.index is not None or not worker.is_ready or not todo:
                continue
            is_new = worker.function is not self._function
            if is_new and loading >= len(todo):
                continue
            message = self._function if is_new else _pickled((rank, candidates[todo[0]]))
            try:
                worker.pipe.send_bytes(message)
            except OSError:
                # It died while it waited.
                self._remove(worker)
                continue
            if is_new:
                # What it imports with the loss is not part of an evaluation.
                worker.is_ready, worker.function = False, self._function
                worker.due = time.monotonic() + _START_SECONDS
                loading += 1
            else:
                worker.index = todo.popleft()
                worker.due = float("inf") if timeout is None else time.monotonic() + timeout

    def _received(self, todo: deque[int]) -> Iterator[tuple[int, Any]]:
        """What has come, or has failed to."""
        watched = [one for one in self._workers if one.index is not None or not one.is_ready]
        due = min((one.due for one in watched), default=float("inf"))
        pipes: dict[Any, _Worker] = {one.pipe: one for one in watched}
        for pipe in wait(list(pipes), min(max(due - time.monotonic(), 0), _TICK)):
            assert isinstance(pipe, Connection)
            yield from self._heard(pipes[pipe])
        for worker in watched:
            if worker not in self._workers or worker.pipe.poll():
                continue
            if worker.process.exitcode is not None:
                yield from self._lost(worker)
            elif time.monotonic() >= worker.due:
                self._remove(worker)
                if worker.index is None:
                    self._start_failed(worker.process.exitcode)
                else:
                    yield worker.index, Failure("took longer than its timeout", "timeout")

    def _heard(self, worker: _Worker) -> Iterator[tuple[int, Any]]:
        try:
            outcome, refused = ForkingPickler.loads(worker.pipe.recv_bytes())
        except (EOFError, OSError):
            yield from self._lost(worker)
            return
        if refused and worker.function is self._function:
            # What it holds is not what it was sent.
            self._remove(worker)
            if worker.index is not None or self._is_whole:
                raise not_sendable(refused)
            # It is not where its name says, such as what a script defines behind its guard.
            self._misnamed.add(self._function)
            self._function, self._is_whole = _pickled_whole(self._loss_fn), True
            return
        index, worker.index, worker.due = worker.index, None, float("inf")
        if index is not None:
            yield index, outcome
        elif not worker.is_ready:
            worker.is_ready, self._failed_starts = True, 0

    def _lost(self, worker: _Worker) -> Iterator[tuple[int, Any]]:
        """A worker has died."""
        self._remove(worker)
        if not worker.is_ready:
            self._start_failed(worker.process.exitcode)
        if worker.index is not None:
            yield worker.index, Failure(f"lost its process ({_end_of(worker.process.exitcode)})", "worker")

    def _start_failed(self, status: int | None) -> None:
        """A worker ended before it began: it was killed, or could not import what it needs."""
        self._failed_starts += 1
        if (status is None or status >= 0) or self._failed_starts >= _MOST_STARTS:
            raise RuntimeError(
                f"pool: a worker ended before it began ({_end_of(status)}); start the run of a script behind "
                "if __name__ == '__main__':, as Python's multiprocessing asks for, and see that there is memory for its workers"
            ) from None

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.stop()


def _stop(workers: list[_Worker], owner: int) -> None:
    # A fork of the process that started them has them too, and is to leave them alone.
    while workers and os.getpid() == owner:
        workers.pop().stop()


def _has_file() -> bool:
    """Whether there is a script that a worker imports too; a notebook, a prompt and standard input are none."""
    return os.path.isfile(getattr(sys.modules["__main__"], "__file__", None) or "")


def _pickled_by_name(loss_fn: Callable) -> bytes | None:
    """Where workers may be able to import it."""
    with contextlib.suppress(ValueError):
        return _pickled((loss_fn,)) if _has_file() else None
    return None


def _pickled_whole(loss_fn: Callable) -> bytes:
    """With all that it needs, where workers cannot import it: of a notebook or a prompt, a lambda, a closure."""
    return _pickled((loss_fn,), cloudpickle.dumps)


@contextlib.contextmanager
def _without_false_file() -> Iterator[None]:
    """Python says ``__file__ == "<stdin>"`` of what it reads there, and a process that begins anew would look for it."""
    main = vars(sys.modules["__main__"])
    name = None if _has_file() else main.pop("__file__", None)
    try:
        yield
    finally:
        if name is not None:
            main["__file__"] = name


def _pickled(what: Any, dumps: Callable = ForkingPickler.dumps) -> bytes:
    try:
        return bytes(dumps(what))
    except Exception as error:
        raise not_sendable(f"{type(error).__name__}: {error}") from None


def not_sendable(reason: str, remedy: str = "pass a function, and data, that can be pickled") -> ValueError:
    """What to raise where a loss, or what it is called with, cannot go to another process."""
    words = " ".join(reason.split())[:300]
    return ValueError(f"loss_fn: could not be sent to the pool ({words}); {remedy}")


def _end_of(status: int | None) -> str:
    return f"signal {-status}" if status is not None and status < 0 and os.name != "nt" else f"exit status {status}"
