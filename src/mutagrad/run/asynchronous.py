"""evolve_asynchronously: a run without generations that wait, for evaluations of unequal cost."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any

import jax

from mutagrad import check, keys
from mutagrad.evaluation.arrivals import Arrivals
from mutagrad.evaluation.losses import check_loss_fn
from mutagrad.evaluation.pool import Outside, executor
from mutagrad.law import Acceptance, OrderStatistic
from mutagrad.run.checkpoint import folder_of
from mutagrad.run.ends import check_state, say_if_other_sigma
from mutagrad.run.evolve import Result
from mutagrad.run.hints import Hints, say_if_done
from mutagrad.run.identity import identity_of, mark
from mutagrad.run.kept import fingerprint
from mutagrad.run.lock import locked
from mutagrad.run.observers import Observer, Progress, checked_observers
from mutagrad.run.sitting import Sitting
from mutagrad.run.steady import Course, KeptArrivals
from mutagrad.types import Algorithm, Definition

__all__ = ["evolve_asynchronously"]

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
    Ctrl-C, SIGTERM and SIGHUP end the run within a second, without what is in flight; without a pool, after the evaluation that
    goes on.

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
    observers = checked_observers(observers)
    own, past, evaluations, done = key, None, 0, 0
    if isinstance(params, Result):
        state, past, evaluations = params.state, params.history, params.num_evaluations
        _check_goes_on(algorithm, params)
        done = int(state.generation)
        # Births of the sitting before have used keys that nobody knows of: no generation of this one has such a key.
        own = keys.fold_in(keys.fold_in(key, evaluations), 1)
    else:
        state = algorithm.init(params)
    with ExitStack() as held:
        kept = None
        if checkpoint is not None:
            folder = folder_of(checkpoint)
            held.enter_context(locked(folder, "checkpoint"))
            _check_alone(folder)
            start = {"start": mark(state).hex(), "done": f"{done} {evaluations}", "loss": fingerprint(loss_fn)}
            kept = held.enter_context(KeptArrivals(folder / _NAME, identity_of(key, algorithm, state) | start))
        run = Sitting(Course(own, algorithm, state), arrivals, past, evaluations)
        run.live_again([] if kept is None else kept.rows)
        watching: list[Any] = []
        if progress:
            watching = [Progress(num_generations, run.generation), Hints(algorithm, state.params, None)]
            say_if_done(run.generation, num_generations)
        births = max(0, num_generations - done) * definition.num_offspring
        return run.through(loss_fn, births, width, [*watching, *observers], kept)


def _definition(algorithm: Algorithm) -> Definition:
    """Of an algorithm that keeps the best; others are refused."""
    definition = algorithm.definition
    if not isinstance(definition, Definition):
        raise ValueError(f"algorithm: {definition.reason}; pass mutagrad.elitist, or mutagrad.adapt_sigma of it")
    if not definition.reevaluate_parent:
        raise ValueError(
            "algorithm: got one with reevaluate_parent=False; leave that out, since the parent's loss is kept here"
        )
    law = definition.selection.law
    keeps_best = isinstance(law, OrderStatistic) and law.num_winners == 1 and law.keeps_parent
    is_greedy = isinstance(law, Acceptance) and law.inverse_temperature == float("inf")
    if not keeps_best and not is_greedy:
        raise ValueError(
            f"algorithm: got {definition.selection.name} selection, where a mutant is judged by itself; pass mutagrad.elitist, "
            "or mutagrad.adapt_sigma of it"
        )
    return definition


def _check_goes_on(algorithm: Algorithm, result: Result) -> None:
    """Refuse the Result of another algorithm or of `mutagrad.evolve`; say where its σ is another one."""
    check_state(algorithm, result.state)
    say_if_other_sigma(algorithm, result.state)
    past = result.history
    if past is not None and not (isinstance(past, dict) and "staleness" in past):
        raise ValueError(
            "params: got a Result with the history of mutagrad.evolve; start from result.params, or pass "
            "result._replace(history=None)"
        )


def _check_alone(folder: Path) -> None:
    """Refuse a folder that holds a run of `mutagrad.evolve`."""
    others = sorted(path.name for path in folder.glob("*.journal") if path.name != _NAME)
    if others:
        raise ValueError(
            f"checkpoint: got {str(folder)!r}, which holds a run of mutagrad.evolve ({others[0]}); pass another folder"
        )


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
