"""evolve: a run from start to end, made of generations and observers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check
from mutagrad.algorithms.genomes.genomes import GenomeState
from mutagrad.evaluation.everyone import sees_everyone
from mutagrad.evaluation.losses import check_loss_fn
from mutagrad.run.ends import check_state, close_all, one_line, say_if_other_sigma
from mutagrad.run.hints import Hints, say_if_done, warn_at_the_end
from mutagrad.run.lineage import Replayed, evaluator_of, recorder
from mutagrad.run.loop import Chunk, default_record, generations
from mutagrad.run.minibatches import Minibatches, changes, check_kept_loss, constant_loss, later
from mutagrad.run.observers import History, Observer, Progress, checked_observers, reason_to_stop
from mutagrad.run.processes import agreed_text
from mutagrad.run.records import Failures, recorded, same_records
from mutagrad.run.repeats import Believed, was_noisy
from mutagrad.run.saved import Saved, is_consumed
from mutagrad.run.signals import interruptible, seconds_asked
from mutagrad.types import Algorithm, Info, Params, State

__all__ = ["Result", "RunError", "evolve"]


_PATIENCE = 5.0
"""Seconds that evaluations by Python may take to end their generation when the run is asked to end."""


class Result(NamedTuple):
    """What a run leaves; pass it to `mutagrad.evolve` in place of the params to go on.

    Attributes
    ----------
    params : the parent after the last generation.
    state : the algorithm's state, from which a run can go on.
    history : what ``record`` returned, stacked along a first axis of generations, as NumPy arrays.
    stopped : why the run ended: "generations", "batches" (the iterable was exhausted), "interrupted" (Ctrl-C), "terminated"
        (SIGTERM), "hung up" (SIGHUP, a closed terminal), or what an observer said.
    num_evaluations : of the loss, parents counted, without those that were tried again.
    """

    params: Params
    state: Any
    history: Any
    stopped: str
    num_evaluations: int = 0

    def __repr__(self) -> str:
        number = int(self.state.generation)
        loss = self.history.get("loss") if isinstance(self.history, dict) else None
        course = "" if loss is None or np.ndim(loss) != 1 or not len(loss) else f"; loss {loss[0]:.4g} → {loss[-1]:.4g}"
        return f"Result(stopped by {self.stopped} after {number:,} generations, {self.num_evaluations:,} evaluations{course})"


class RunError(RuntimeError):
    """A run that an error ended; ``result`` holds everything up to the last whole chunk of generations."""

    def __init__(self, message: str, result: Result):
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type["RunError"], tuple[str, Result]]:
        return type(self), (str(self), self.result)


def _start(algorithm: Algorithm, params: Any, loss_fn: Callable, batches: Any) -> tuple[Any, Any, int]:
    """State, history and evaluations to begin with."""
    if isinstance(params, Replayed):
        params = params.to_start_from()
    if isinstance(params, GenomeState):
        params = Result(params.params, params, None, "")
    keeps = check_kept_loss(algorithm, batches)
    if isinstance(params, Result):
        state, history, evaluations = params.state, params.history, params.num_evaluations
        check_state(algorithm, state)
        say_if_other_sigma(algorithm, state)
        state = state if keeps else _without_kept_loss(state)
    else:
        state = algorithm.init(params, constant_loss(loss_fn, batches) if keeps else None)
        history, evaluations = None, 0
    # A large state is donated to each next chunk; the caller's arrays are not to be consumed.
    return jax.tree.map(jnp.copy, state), history, evaluations


def _without_kept_loss(state: Any) -> Any:
    """The state of an algorithm that evaluates its parent anew, which would otherwise believe what another has kept."""
    if isinstance(state, State):
        return state._replace(parent_loss=None)
    return state._replace(inner=_without_kept_loss(state.inner)) if hasattr(state, "inner") else state


def evolve(
    key: jax.Array,
    algorithm: Algorithm,
    params: Any,
    loss_fn: Callable,
    num_generations: int = 1000,
    batches: Any = None,
    *,
    evaluation: Any = "auto",
    record: Callable[[Any, Info], Any] | None = None,
    observers: Sequence[Observer] = (),
    checkpoint: str | PathLike | None = None,
    progress: bool = True,
) -> Result:
    """Minimise a loss by mutation and selection: many generations, one compilation.

    Parameters
    ----------
    key : a key: the same key gives the same run. Generation t uses `mutagrad.generation_key` of it.
    algorithm : any algorithm, such as ``mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.01, num_offspring=20))``.
    params : pytree to start from; several parents as `mutagrad.parents`; a `Result`, whose run goes on; what `mutagrad.replay`
        made, for a new run from there; or the `GenomeState` of a population, which goes on from it.
    loss_fn : ``loss_fn(params)``, or ``loss_fn(params, batch)`` where there are batches; a scalar or per-example losses. With
        ``evaluation=mutagrad.executor()`` it may be any Python. As with ``jax.jit``, one function is one program: where data
        that it reads change between runs, pass another function, or the data as ``batches``.
    num_generations : how many generations to run, those of a continued run counted in.
    batches : ``None``; or `mutagrad.minibatches`, of several sizes if the algorithm chooses among them; or a function
        ``batches(key) -> batch`` that JAX can trace, or ``batches(key, generation)``, so that a loss may move; or an iterable of
        batches of one shape, one a generation (slower: every generation passes through Python). A run that goes on skips those
        that it has seen.
    evaluation : "auto" (the algorithm's own), "mapped", "vectorized", the size of a chunk, `mutagrad.executor`, or an
        `mutagrad.evaluation.Evaluator` of your own. With `mutagrad.contest` the loss sees the whole population.
    record : ``record(state, info) -> pytree of arrays`` kept of every generation; `default_record` unless given.
    observers : functions of a `mutagrad.Chunk`, called about four times a second; one that returns a text stops the run.
    checkpoint : a folder. History and lineage are written there as they come, the state about every minute and at the end; a
        run that finds a checkpoint goes on from the newest that is whole, bit for bit. One process writes to it at a time. Needs
        the ``lab`` extra (Orbax).
    progress : whether to show a progress bar (after two seconds).

    Returns
    -------
    Result. Ctrl-C, SIGTERM and SIGHUP end the run after the current chunk of generations (about a quarter of a second) and
    return what there is, with ``stopped == "interrupted"``, ``"terminated"`` or ``"hung up"``; the program goes on, which is a
    warning after SIGTERM and SIGHUP. A second Ctrl-C raises ``KeyboardInterrupt``.
    Where its state has remarks, such as mutations of a population that found no place, they are warnings at the end.

    Raises
    ------
    ValueError : if an argument is outside its domain, the loss is not a floating scalar or vector, or not finite at the
        start.
    RunError : if the loss, a batch, ``record`` or an observer raises later; its ``result`` holds the run so far.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.05, num_offspring=20)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(10), lambda x: jnp.sum(x**2), 100, progress=False)
    >>> result.history["loss"].shape, bool(result.history["loss"][-1] < 1.0)
    ((100,), True)
    """
    key, algorithm = check.key(key), check.algorithm(algorithm)
    num_generations = check.count("num_generations", num_generations)
    has_everyone = sees_everyone(evaluator_of(algorithm, evaluation), algorithm.definition)
    check_loss_fn(loss_fn, batches is not None, has_everyone)
    if batches is not None and (isinstance(batches, str) or not (callable(batches) or hasattr(batches, "__iter__"))):
        raise ValueError(
            f"batches: got {batches!r}; pass mutagrad.minibatches(data, batch_size), a function or an iterable"
        )
    if isinstance(batches, tuple) and not isinstance(batches, Minibatches):
        raise ValueError(
            "batches: got a tuple, which may be one batch or many; pass mutagrad.minibatches(data, batch_size) for data, or a "
            "list of batches"
        )
    if record is not None and not callable(record):
        raise ValueError(f"record: got {record!r}; pass a function record(state, info) -> arrays")
    observers = checked_observers(observers)
    state, past, evaluations = _start(algorithm, params, loss_fn, batches)
    # Where the caller has dropped them too, their memory is free from here on.
    del params
    record, evaluator = record or default_record, evaluator_of(algorithm, evaluation)
    if checkpoint is not None and jax.process_count() > 1:
        raise ValueError(
            "checkpoint: got one in a run of several processes, which is not saved yet; save the Result by hand"
        )
    with ExitStack() as held:
        saved = None
        if checkpoint is not None:
            saved = Saved(checkpoint, key, algorithm, state, recorder(algorithm, state), evaluator)
            held.callback(saved.release)
            state, past, evaluations = saved.restore(state, past, evaluations)
        if hasattr(evaluator.evaluate_fn, "within"):
            kept = None if saved is None else saved.kept(loss_fn, int(state.generation))
            own = evaluator.evaluate_fn.within(kept, lambda: seconds_asked() > _PATIENCE)
            evaluation = evaluator = evaluator._replace(evaluate_fn=own)
        if not evaluator.is_traceable and was_noisy(past):
            evaluation = evaluator._replace(evaluate_fn=Believed(evaluator.evaluate_fn))
        per_generation = len(algorithm.ask(key, state, is_resampled=changes(batches)))
        wanted = recorded(key, algorithm, state, per_generation, record, past)
        failures = Failures(evaluator, past, wanted)
        if past is not None:
            past = past if saved is not None else failures.before(past)
            past = same_records(past, failures.wanted(wanted), saved is not None)
            evaluations = evaluations or int(state.generation) * per_generation
        history = History(past) if saved is None else saved.goes_on(past)
        del past
        watching: list[Any] = [history] if saved is None else []
        if progress:
            watching += [Progress(num_generations, int(state.generation)), Hints(algorithm, state.params, batches)]
            say_if_done(int(state.generation), num_generations)
        watching += observers
        run = generations(
            key,
            algorithm,
            state,
            loss_fn,
            num_generations - int(state.generation),
            batches=later(batches, int(state.generation)),
            record=record if saved is None else saved.record(record),
            evaluation=evaluation,
        )
        return _observed(run, state, num_generations, history, saved, watching, failures, evaluations, per_generation)


def _observed(
    run: Iterator[Chunk],
    state: Any,
    num_generations: int,
    history: History | Saved,
    saved: Saved | None,
    watching: list[Any],
    failures: Failures,
    evaluations: int,
    per_generation: int,
) -> Result:
    """The chunks of a run shown to all that watch it, and what is left in the end."""
    first, repeats = int(state.generation), 0

    def made(state: Any) -> int:
        return evaluations + (int(state.generation) - first) * per_generation + repeats

    def result(stopped: str) -> Result:
        return Result(state.params, state, history.records, stopped, made(state))

    if saved is not None:
        saved.evaluations_fn = made
    # What cannot be made again comes first; an observer's close may take long, and be interrupted.
    stopped, closing = "", [*([] if saved is None else [saved]), *watching]
    with interruptible() as interrupted:
        try:
            for chunk in run:
                state, repeats = chunk.state, repeats + chunk.num_repeats
                records, descent = chunk.records if saved is not None else (chunk.records, None)
                chunk = chunk._replace(records=failures.beside(records, chunk))
                if saved is not None:
                    saved(chunk, descent)
                reason = reason_to_stop(watching, chunk)
                stopped = agreed_text(interrupted.reason or reason)
                if stopped:
                    break
            else:
                # A generation that takes long was given up.
                stopped = interrupted.reason if int(state.generation) < num_generations else ""
            outcome = result(stopped or ("generations" if int(state.generation) >= num_generations else "batches"))
        except Exception as error:
            number = int(state.generation) if not is_consumed(state) else -1
            try:
                kept = result("error") if number > first else None
            finally:
                failed = close_all(closing)
            also = "" if failed is None else f" ({one_line(failed)} when its observers were closed)"
            if number == first:
                raise
            if number < 0:
                raise RuntimeError(
                    f"evolve: {one_line(error)}{also}; the state was consumed, go on from the last checkpoint, if there is one"
                ) from error
            message = f"evolve: {one_line(error)} after generation {number}{also}; error.result holds the run up to it"
            assert kept is not None
            raise RunError(message, kept) from error
        except BaseException:
            close_all(closing)
            raise
        failed = close_all(closing)
    # Asked for while it ended.
    stopped = interrupted.reason or stopped
    outcome = outcome._replace(stopped=stopped or outcome.stopped)
    if failed is not None:
        raise RunError(
            f"evolve: {one_line(failed)} when the run had ended; error.result holds all of it", outcome
        ) from failed
    failures.warn()
    warn_at_the_end(outcome.state, stopped)
    return outcome
