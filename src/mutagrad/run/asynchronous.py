"""evolve_asynchronously: a run without generations that wait, for evaluations of unequal cost."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mutagrad import check
from mutagrad.evaluation.arrivals import Arrivals, mean_of
from mutagrad.evaluation.losses import check_loss_fn
from mutagrad.evaluation.pool import Outside, executor
from mutagrad.failures import Failure
from mutagrad.law import Acceptance, OrderStatistic
from mutagrad.run.evolve import Result, RunError
from mutagrad.run.hints import Hints, say_if_done
from mutagrad.run.identity import identity_of
from mutagrad.run.kept import fingerprint
from mutagrad.run.lock import locked
from mutagrad.run.loop import Chunk
from mutagrad.run.observers import History, Observer, Progress
from mutagrad.run.signals import interruptible
from mutagrad.run.steady import KINDS, Course, KeptArrivals
from mutagrad.types import Algorithm, Definition

__all__ = ["evolve_asynchronously"]

_PARENTS = 2
"""The parent is evaluated twice at the start, when workers have nothing else to do: a loss with noise is seen there."""
_CHUNK_SECONDS = 0.25
_NAME = "arrivals.journal"


def evolve_asynchronously(
    key: jax.Array,
    algorithm: Algorithm,
    params: Any,
    loss_fn: Callable,
    num_generations: int = 1000,
    *,
    evaluation: Any = None,
    num_in_flight: int | None = None,
    observers: Sequence[Observer] = (),
    checkpoint: str | PathLike | None = None,
    progress: bool = True,
) -> Result:
    """Minimise an ordinary Python loss whose evaluations take unequal times: no worker waits for another.

    A steady state. W mutants are evaluated at a time. When one ends it is judged at once: it becomes the parent if its loss is no
    higher than that of the parent of this moment. Then a mutant of the parent, whoever that is now, is evaluated. So a mutant may
    have been born from a parent that has been replaced meanwhile, and has to make good what was gained since: with W in flight
    the drift of an evaluation is about 1/√W of what it is with one, `mutagrad.theory.steady_state_gain`. That is more than
    an evaluation of (1+W) gives where times are exponential, and a fifth less where all take the same time.

    Parameters
    ----------
    key : a key. The mutant of a birth depends on it and on the parent alone; who arrives first is up to the workers.
    algorithm : `mutagrad.elitist` or `mutagrad.greedy`, or `mutagrad.adapt_sigma` of one. Its M births share a row of the
        history, and σ is set when the last of them has been judged; what is selected does not depend on M.
    params : pytree to start from, or the `Result` of such a run, which goes on.
    loss_fn : ``loss_fn(params)`` of NumPy arrays; a number, or a vector of per-example losses, whose mean counts. The same
        params give the same loss: the parent's is kept.
    num_generations : births over M, those of a continued run counted in.
    evaluation : `mutagrad.executor`, with its pool and its policies for what fails.
    num_in_flight : W, as many as the pool has workers; 1 in this process.
    observers : as of `mutagrad.evolve`.
    checkpoint : a folder. Every evaluation is written there as it ends, and a run that finds them goes on from all of them; what
        was in flight is evaluated again. One process writes to it at a time.
    progress : whether to show a progress bar (after two seconds).

    Returns
    -------
    Result. Its history has the columns of `mutagrad.default_record` and ``num_accepted``, ``staleness`` (evaluations that ended
    between the birth of a mutant and its end, in the mean) and the failures by kind. ``loss`` is that of the parent when the last
    of the M was judged; slopes and curvatures are of mutants beside the parents that they were born from.
    Ctrl-C, SIGTERM and SIGHUP end the run within a second, without what is in flight.

    Raises
    ------
    ValueError : if an argument is outside its domain, the loss is not finite at the start, or is another one the second time.
    RunError : if an evaluation fails that is to stop the run, or an observer raises; its ``result`` holds the run so far.

    Domain: losses without noise, and without batches; use `mutagrad.evolve` for these.

    >>> import jax, numpy as np, mutagrad
    >>> def simulate(params):
    ...     return float(np.sum(np.square(params["x"] - 3.0)))
    >>> algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=10))
    >>> result = mutagrad.evolve_asynchronously(
    ...     jax.random.key(0), algorithm, {"x": np.zeros(5)}, simulate, 60, progress=False     # evaluation=mutagrad.executor(8)
    ... )
    >>> simulate(result.params) < 0.1
    True
    """
    key, algorithm = check.key(key), check.algorithm(algorithm)
    num_generations = check.count("num_generations", num_generations)
    check_loss_fn(loss_fn, False)
    definition, arrivals = _definition(algorithm), _arrivals(evaluation)
    width = _width(arrivals, num_in_flight)
    observers = observers if callable(observers) else list(observers)
    if callable(observers) or not all(callable(observer) for observer in observers):
        raise ValueError(
            "observers: got something else than a list of functions of a chunk; pass such as [mutagrad.stop_after(60)]"
        )
    past, evaluations = None, 0
    state, done, first = params, 0, 0
    if isinstance(params, Result):
        state, past, evaluations = params.state, params.history, params.num_evaluations
        done = int(state.generation)
        # Keys of births that an interrupted run has used, and that nobody knows of.
        first = done + 1 + -(-width // definition.num_offspring)
    else:
        state = algorithm.init(params)
    if getattr(state, "parent_loss", None) is not None:
        raise ValueError(
            "algorithm: got one with reevaluate_parent=False; leave that out, since the parent's loss is kept here"
        )
    with ExitStack() as held:
        kept = None
        if checkpoint is not None:
            folder = Path(checkpoint)
            held.enter_context(locked(folder, "checkpoint"))
            of = {**identity_of(key, algorithm, state), "loss": fingerprint(loss_fn), "kind": "asynchronous"}
            kept = held.enter_context(KeptArrivals(folder / _NAME, of))
        run = _Run(Course(key, algorithm, state, first), past, evaluations)
        run.live_again([] if kept is None else kept.rows)
        watching: list[Any] = []
        if progress:
            watching = [Progress(num_generations, run.generation), Hints(algorithm, state.params, None)]
            say_if_done(run.generation, num_generations)
        births = max(0, num_generations - done) * definition.num_offspring
        return run.through(arrivals, loss_fn, births, width, [*watching, *observers], kept)


def _definition(algorithm: Algorithm) -> Definition:
    """Of an algorithm that keeps the best; others are refused."""
    definition = algorithm.definition
    if not isinstance(definition, Definition):
        raise ValueError(f"algorithm: {definition.reason}; pass mutagrad.elitist, or mutagrad.adapt_sigma of it")
    law = definition.selection.law
    keeps_best = isinstance(law, OrderStatistic) and law.num_winners == 1 and law.keeps_parent
    is_greedy = isinstance(law, Acceptance) and law.inverse_temperature == float("inf")
    if not keeps_best and not is_greedy:
        raise ValueError(
            f"algorithm: got {definition.selection.name} selection, where a mutant is judged by itself; pass mutagrad.elitist, "
            "or mutagrad.adapt_sigma of it"
        )
    return definition


def _arrivals(evaluation: Any) -> Arrivals:
    evaluation = executor() if evaluation is None else evaluation
    outside = getattr(evaluation, "evaluate_fn", None)
    if not isinstance(outside, Outside):
        raise ValueError(f"evaluation: got {evaluation!r}; pass mutagrad.executor(pool)")
    arrivals = Arrivals(outside)
    if arrivals.is_batched:
        raise ValueError(
            "evaluation: got an executor with is_batched=True, whose candidates end together; leave that out"
        )
    return arrivals


def _width(arrivals: Arrivals, num_in_flight: int | None) -> int:
    if num_in_flight is None:
        if arrivals.has_pool:
            raise ValueError("num_in_flight: got None with a pool; pass the number of its workers")
        return 1
    width = check.count("num_in_flight", num_in_flight)
    if width > 1 and not arrivals.has_pool:
        raise ValueError(f"num_in_flight: got {width} without a pool; pass evaluation=mutagrad.executor({width})")
    return width


class _Candidates(Sequence):
    """Parents first, then the births of a course, each born when it is asked for."""

    def __init__(self, course: Course):
        self._course, self._parent = course, jax.tree.map(np.asarray, course.state.params)

    def __len__(self) -> int:
        return _PARENTS + self._course.num_born

    def __getitem__(self, index: Any) -> Any:
        return self._parent if index < _PARENTS else self._course.mutant(index - _PARENTS)


class _Run:
    """A course, what is known of it, and who looks at it."""

    def __init__(self, course: Course, past: Any, evaluations: int):
        self._course, self._history, self._evaluations = course, History(past), evaluations
        self._parents: list[float] = []
        self._rows: list[dict[str, np.ndarray]] = []
        self._asked, self._since = 0, time.monotonic()

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
        arrivals: Arrivals,
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
            stream = arrivals.stream(loss_fn, _Candidates(self._course), todo, _PARENTS)
            try:
                self._ask(todo, births, width)
                for index, outcome, attempts in stream:
                    if index >= 0:
                        loss, retries = mean_of(outcome), attempts - 1
                        kind = outcome.kind if isinstance(outcome, Failure) else ""
                        if kept is not None:
                            kept.add(self._course.num_born, index, loss, kind, retries)
                        self._ended(index, loss, kind, retries)
                        self._ask(todo, births, width)
                    stopped = interrupted.reason
                    if not stopped and time.monotonic() - self._since > _CHUNK_SECONDS:
                        stopped = self._shown(watching)
                    if stopped:
                        break
                self._shown(watching)
            except Exception as error:
                failed = error
            finally:
                stream.close()
                for observer in watching:
                    getattr(observer, "close", lambda: None)()
        if failed is not None:
            if not np.isfinite(self._course.loss):
                raise failed
            words = " ".join(str(failed).split())
            message = f"evolve_asynchronously: {words} after generation {self.generation}; error.result holds the run up to it"
            raise RunError(message, self._result("error")) from failed
        return self._result(stopped or "generations")

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
        if not np.isfinite(loss):
            what = f"an evaluation that failed ({kind})" if kind else "a loss that is not finite"
            raise ValueError(f"loss_fn: got {what} of the params to start from; start where it is finite")
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
        chunk = Chunk(self._course.state, records, len(self._rows))
        self._rows = []
        self._history(chunk)
        reasons = [reason for observer in watching if (reason := observer(chunk)) is not None]
        if not all(isinstance(reason, str) for reason in reasons):
            raise ValueError(f"observers: got {reasons!r} back; return a text, which stops the run, or None")
        return reasons[0] if reasons else ""
