"""Evaluation through any pool of ``concurrent.futures``."""

import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from typing import Any

from mutagrad.evaluation.workers import not_sendable

__all__ = ["outcomes_through"]

_TICK = 1.0
"""How often it is asked whether to stop [s]."""
_SENT = "pass a function that the workers can import, and data that can be sent; or a number as pool, which takes any function"
_GO_ON = "go on from the last result with mutagrad.executor(8), whose processes are replaced, or with a new pool"


def outcomes_through(
    pool: Executor, own: Callable, candidates: Sequence[Any], todo: deque[int], per_task: int
) -> Iterator[tuple[int, Any]]:
    """Through a pool of ``concurrent.futures``, so many evaluations a task, in the order in which tasks end."""
    ended: queue.SimpleQueue = queue.SimpleQueue()
    going: dict[tuple[int, ...], Future] = {}
    try:
        while todo or going:
            while todo:
                task = tuple(todo.popleft() for _ in range(min(per_task, len(todo))))
                going[task] = future = _submitted(pool, own, [candidates[index] for index in task])
                future.add_done_callback(partial(lambda task, future: ended.put(task), task))
            try:
                task = ended.get(timeout=_TICK)
            except queue.Empty:
                yield -1, None
                continue
            yield from zip(task, _outcomes_of(going.pop(task), len(task)), strict=True)
    finally:
        for future in going.values():
            future.cancel()


def _submitted(pool: Executor, own: Callable, candidates: list[Any]) -> Future:
    try:
        return pool.submit(own, candidates)
    except BrokenExecutor as error:
        raise _dead(error) from None
    except RuntimeError as error:
        # So concurrent.futures says that it is shut down.
        raise RuntimeError(
            f"pool: it takes no more work ({error}); keep the run within the pool's with block"
        ) from None


def _outcomes_of(future: Any, number: int) -> list[Any]:
    try:
        found = future.result()
    except CancelledError:
        raise RuntimeError(f"pool: a task was cancelled; {_GO_ON}") from None
    except BrokenExecutor as error:
        raise _dead(error) from None
    except Exception as error:
        # The call itself is guarded: what is left could not be sent to a worker.
        raise not_sendable(f"{type(error).__name__}: {error}", _SENT) from None
    if not isinstance(found, list) or len(found) != number:
        raise RuntimeError(
            f"pool: got {type(found).__name__} back from a task of {number} evaluations; pass a pool whose submit(fn, argument) "
            "returns a future of fn(argument)"
        )
    return found


def _dead(error: Exception) -> RuntimeError:
    return RuntimeError(f"pool: a worker died ({' '.join(str(error).split())}); {_GO_ON}")
