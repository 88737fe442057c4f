"""Evaluation of ordinary Python losses: in this process, in workers, or through any pool of ``concurrent.futures``."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np

from mutagrad import check
from mutagrad.evaluation.futures import outcomes_through
from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.workers import Workers
from mutagrad.failures import Failure
from mutagrad.offspring import Offspring
from mutagrad.worker import call, call_many

__all__ = ["Evaluated", "Kept", "NoMore", "Outside", "executor"]

_POLICIES = {"exception": "skip", "nonfinite": "skip", "timeout": "skip", "worker": "retry", "shape": "stop"}
"""What is done with an evaluation that failed, by the kind of failure."""


class Kept(Protocol):
    """Evaluations of an unfinished generation, as `mutagrad.run.kept` has them on disk."""

    def has_some(self) -> bool:
        """Whether there are evaluations of an earlier sitting that have not been taken."""

    def take(self, index: int, params: Any) -> Any:
        """The outcome of a candidate in an earlier sitting; ``None`` if it is not known."""

    def mark(self, index: int, params: Any) -> None:
        """A candidate is now evaluated."""

    def add(self, index: int, outcome: Any) -> None:
        """Keep the outcome of a candidate that was marked."""

    def ended(self) -> None:
        """All of the generation are known."""


class Evaluated(list):
    """Outcomes in the order of the candidates: arrays, or `Failure`; ``counts`` of the failures and of what was tried again."""

    counts: Counter


class Outside:
    """``evaluate_fn`` of `executor`: what happens to the evaluations of one generation."""

    counts_failures = True

    def __init__(
        self,
        pool: Any,
        is_batched: bool,
        timeout: float | None,
        policies: Mapping[str, str],
        retries: int,
        per_task: int,
        kept: Kept | None,
        stop_fn: Callable[[], bool] = lambda: False,
    ):
        self._pool, self._is_batched, self._timeout, self._per_task = pool, is_batched, timeout, per_task
        self._policies, self._retries, self._kept, self._stop_fn = policies, retries, kept, stop_fn

    def __repr__(self) -> str:
        # The same for any pool: a run may go on with another.
        return "mutagrad.executor()"

    def within(self, kept: Kept | None, stop_fn: Callable[[], bool]) -> "Outside":
        """The same within a run: it looks first at what is kept, keeps what it evaluates, and gives up when told to stop."""
        own = self._pool, self._is_batched, self._timeout, self._policies, self._retries, self._per_task
        return Outside(*own, kept, stop_fn)

    def __call__(self, loss_fn: Callable, offspring: Offspring) -> "Evaluated | np.ndarray":
        """The outcomes of all candidates."""
        candidates = _Whole(offspring) if self._is_batched else _Single(offspring)
        evaluated = self._evaluated(loss_fn, candidates, getattr(offspring, "num_before", 1))
        if not self._is_batched:
            return evaluated
        if isinstance(evaluated[0], np.ndarray) and not evaluated.counts:
            return evaluated[0]
        whole = Evaluated(
            [evaluated[0]] * len(offspring) if isinstance(evaluated[0], Failure) else np.atleast_1d(evaluated[0])
        )
        # A call is of as many evaluations as there are candidates.
        whole.counts = Counter({kind: number * len(whole) for kind, number in evaluated.counts.items()})
        return whole

    def _evaluated(self, loss_fn: Callable, candidates: Sequence[Any], parents: int) -> Evaluated:
        kept = self._kept
        found: list[Any] = [None] * len(candidates)
        if kept is not None:
            found = [kept.take(index, one) for index, one in enumerate(candidates)] if kept.has_some() else found
            candidates = _Marked(candidates, kept)
        attempts: Counter = Counter()
        todo = deque(index for index, one in enumerate(found) if one is None)
        for index, outcome in self._outcomes(loss_fn, 1 + self._is_batched, candidates, todo):
            if index < 0:
                if self._stop_fn():
                    raise NoMore
                continue
            attempts[index] += 1
            if self._is_to_be_tried_again(outcome, attempts[index], self._is_of_parent(outcome, index, parents)):
                todo.append(index)
                continue
            found[index] = outcome
            if kept is not None:
                kept.add(index, outcome)
        if kept is not None:
            kept.ended()
        # Among candidates the lengths are compared when all have come.
        for index in _of_other_length(found):
            found[index] = Failure(
                f"got {found[index].size} losses back where the first candidate has another number", "shape"
            )
            self._is_to_be_tried_again(found[index], self._retries + 1, False)
        result = Evaluated(found)
        result.counts = Counter(one.kind for one in found if isinstance(one, Failure))
        if (again := sum(attempts.values()) - len(attempts)) > 0:
            result.counts["retry"] = again
        return result

    def _outcomes(
        self, loss_fn: Callable, rank: int, candidates: Sequence[Any], todo: deque[int]
    ) -> Iterator[tuple[int, Any]]:
        if isinstance(self._pool, Workers):
            return self._pool.outcomes(loss_fn, rank, candidates, todo, self._timeout)
        if self._pool is None:
            return _here(partial(call, loss_fn, rank), candidates, todo)
        return outcomes_through(self._pool, partial(call_many, loss_fn, rank), candidates, todo, self._per_task)

    def _is_of_parent(self, outcome: Any, index: int, parents: int) -> bool:
        """Whether a failure is of a parent; parents are the first candidates, and the first rows where one call is of all."""
        if not self._is_batched:
            return index < parents
        if isinstance(outcome, Failure):
            return True
        return not np.all(np.isfinite(np.asarray(np.atleast_1d(outcome)[:parents], np.float64)))

    def _is_to_be_tried_again(self, outcome: Any, attempts: int, is_parent: bool) -> bool:
        is_failure = isinstance(outcome, Failure)
        kind = outcome.kind if is_failure else "nonfinite"
        policy = self._policies[kind]
        # Without its loss a parent would be replaced by any offspring, and it had one before.
        policy = "retry" if policy == "skip" and is_parent else policy
        if policy == "skip" or not (is_failure or not np.all(np.isfinite(np.asarray(outcome, np.float64)))):
            return False
        if policy == "retry":
            return attempts <= self._retries
        what = f"got {outcome if np.ndim(outcome) == 0 else 'losses that are not finite'} back"
        if is_failure:
            what = outcome.words if kind == "shape" else f"an evaluation {outcome.words}"
        remedy = (
            "return floating losses: a number, or a vector of one for each example"
            if kind == "shape"
            else f"the run stops there, as on_failure={{{kind!r}: 'stop'}} asks for"
        )
        raise ValueError(f"loss_fn: {what}; {remedy}")


class NoMore(StopIteration):
    """The run was told to stop, and this generation is not ended."""


class _Single(Sequence):
    """The candidates of a generation, each made when it is asked for, as NumPy arrays."""

    def __init__(self, offspring: Any):
        self._offspring = offspring

    def __len__(self) -> int:
        return len(self._offspring)

    def __getitem__(self, index: Any) -> Any:
        return jax.tree.map(np.asarray, self._offspring[index])


class _Whole(_Single):
    """All candidates of a generation at once, as one."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        if index:
            raise IndexError(index)
        return jax.tree.map(np.asarray, self._offspring.stacked())


class _Marked(_Single):
    """Candidates that are noted when they are asked for."""

    def __init__(self, candidates: Sequence[Any], kept: Kept):
        self._offspring, self._kept = candidates, kept

    def __getitem__(self, index: Any) -> Any:
        params = self._offspring[index]
        self._kept.mark(index, params)
        return params


def executor(
    pool: int | Executor | None = None,
    *,
    is_batched: bool = False,
    timeout: float | None = None,
    on_failure: str | Mapping[str, str] | None = None,
    retries: int = 2,
    per_task: int = 1,
) -> Evaluator:
    """Evaluate an ordinary Python loss: NumPy, a simulator, a subprocess.

    ``loss_fn(params)``, or ``loss_fn(params, batch)``, is called with NumPy arrays and returns a number, or a vector of
    per-example losses. A failed evaluation has the loss NaN: it loses, and the history of `mutagrad.evolve` counts it. Where
    `mutagrad.adapt_sigma` sets σ, a loss with noise of its own is found out: a parent is evaluated twice now and then, and
    always once there is noise, and σ follows what steps are worth in evaluations that did not select them.

    Parameters
    ----------
    pool : a number of processes, which are started when first needed, replaced when they die, and given the loss once, and
        again where it changes. They import it; what is defined in a notebook, a lambda or a closure is sent with the data that
        it uses. Or any ``concurrent.futures.Executor``: processes, which must be able to import the loss, threads, a cluster's.
        Without one, candidates are evaluated one by one in this process.
    is_batched : whether the loss takes all candidates of a generation at once, floating leaves with a leading axis (n,), and
        returns (n,) losses, or (n, examples). It is then called once a generation.
    timeout : how long an evaluation may take [s]; its process is then ended. For a number of processes alone: nothing ends what
        another pool, or this process, evaluates.
    on_failure : what to do with an evaluation that failed, "skip" (it loses), "retry" (the same params and batch again, up to
        ``retries`` times, then skip) or "stop" (the run ends, and keeps what it has); one for all kinds, or some of
        ``{"exception": "skip", "nonfinite": "skip", "timeout": "skip", "worker": "retry", "shape": "stop"}``, which are the
        defaults. "nonfinite" is a loss that is NaN or infinite, "worker" a process that died, "shape" what is no number and no
        vector of numbers, or a vector of another length than the parent's. A parent's is tried again where others are skipped:
        it had a loss before, and without one any offspring would replace it.
    retries : how often an evaluation is tried again at most.
    per_task : evaluations in one task of an ``Executor``, one after another: for losses that take less than handing out a task, a
        millisecond in processes of this machine, more in a cluster. What the history says is the same.

    Returns
    -------
    Evaluator, for the ``evaluation`` argument of `mutagrad.evolve`.

    Raises
    ------
    ValueError : if ``pool`` is none, or an argument is outside its domain.

    >>> import jax, numpy as np, mutagrad
    >>> def simulate(params):                                            # any Python: no JAX in it
    ...     return float(np.abs(params["x"] - 3.0).sum())
    >>> algorithm = mutagrad.elitist(sigma=0.3, num_offspring=10)
    >>> result = mutagrad.evolve(
    ...     jax.random.key(0), algorithm, {"x": np.zeros(3)}, simulate, 60, evaluation=mutagrad.executor(), progress=False
    ... )
    >>> simulate(result.params) < 1.5
    True
    """
    is_number = pool is not None and hasattr(pool, "__index__") and not isinstance(pool, bool)
    if (is_number and int(pool) < 1) or not (pool is None or is_number or hasattr(pool, "submit")):  # type: ignore[arg-type]
        raise ValueError(
            f"pool: got {pool!r}; pass a number of processes, a concurrent.futures.Executor, or None for this process"
        )
    if timeout is not None:
        check.positive("timeout", timeout)
        if not is_number:
            where = "this process" if pool is None else f"a {type(pool).__name__}"
            raise ValueError(
                f"timeout: got {timeout!r} for {where}, which cannot end an evaluation; pass a number of processes as pool"
            )
    check.flag("is_batched", is_batched)
    retries, per_task = check.count("retries", retries, 0), check.count("per_task", per_task)
    if per_task > 1 and (is_number or pool is None or is_batched):
        where = "is_batched=True" if is_batched else "this process" if pool is None else "a number of processes"
        raise ValueError(f"per_task: got {per_task} with {where}; pass a concurrent.futures.Executor as pool, or 1")
    # Where another pool has lost a worker, it takes no more work.
    lane = Workers(int(pool)) if is_number else pool  # type: ignore[arg-type]
    outside = Outside(lane, is_batched, timeout, _policies(on_failure), retries, per_task, None)
    return Evaluator(outside, is_traceable=False)


def _policies(asked: Any) -> dict[str, str]:
    known = ("skip", "retry", "stop")
    asked = dict.fromkeys(_POLICIES, asked) if isinstance(asked, str) else asked or {}
    for kind, policy in asked.items() if isinstance(asked, Mapping) else [("", asked)]:
        if kind not in _POLICIES or policy not in known:
            raise ValueError(
                f"on_failure: got {asked!r}; pass 'skip', 'retry' or 'stop', or one of them for some of {', '.join(_POLICIES)}"
            )
    return _POLICIES | dict(asked)


def _of_other_length(found: Sequence[Any]) -> list[int]:
    arrays = {index: one.shape for index, one in enumerate(found) if isinstance(one, np.ndarray)}
    first = next(iter(arrays.values()), ())
    return [index for index, shape in arrays.items() if shape != first]


def _here(own: Callable, candidates: Sequence[Any], todo: deque[int]) -> Iterator[tuple[int, Any]]:
    while todo:
        index = todo.popleft()
        yield index, own(candidates[index])
