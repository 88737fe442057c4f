"""Chunks of generations: of one compiled program, or one generation at a time through Python."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import keys, notice
from mutagrad.evaluation.batches import of_batch
from mutagrad.evaluation.local import Evaluator
from mutagrad.evaluation.losses import told
from mutagrad.evaluation.pool import NoMore
from mutagrad.failures import COUNTS, Failure
from mutagrad.run.minibatches import PERIOD, Minibatches, changes, takes_generation
from mutagrad.run.processes import agreed_number
from mutagrad.run.repeats import Repeats
from mutagrad.run.rows import Rows

__all__ = ["ByIdentity", "Chunk", "compiled", "keys_of", "one_by_one"]

_CHUNK_SECONDS = 0.25
_LONGEST_CHUNK = 4096
_LARGE = 2**20
"""Numbers in a state from which on it is donated to the next chunk; a smaller one is kept, so that an error loses nothing."""


@lru_cache(maxsize=1)
def _options() -> dict[str, str] | None:
    """What the compiler is told of a program with a large state: on a CPU, to make one leaf of a candidate at a time."""
    if jax.default_backend() != "cpu":
        return None
    options = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    try:
        jax.jit(jnp.negative, compiler_options=options).lower(np.float32(0)).compile()
    except jax.errors.JaxRuntimeError:
        # A compiler that has no such option.
        return None
    return options


class Chunk(NamedTuple):
    """Some generations of a run: what an observer sees.

    Attributes
    ----------
    state : the algorithm's state after them.
    records : what ``record`` returned, stacked along a first axis of generations, as NumPy arrays.
    num_generations : in this chunk.
    failures : with `mutagrad.executor`, how many evaluations of each generation failed, by kind, which the history of
        `mutagrad.evolve` has too; otherwise ``None``.
    num_repeats : evaluations that were made only to see whether a loss in ordinary Python has noise of its own, and those that
        such noise asks for: of parents, once more.
    has_noise : whether such noise has been found.
    """

    state: Any
    records: Any
    num_generations: int
    failures: dict[str, np.ndarray] | None = None
    num_repeats: int = 0
    has_noise: bool = False

    @property
    def generation(self) -> int:
        """Generations completed since the start of the run."""
        return int(self.state.generation)


def keys_of(key: jax.Array, generation: Any) -> jax.Array:
    """(2,) keys of a generation of the run with this key: that of its step, and that of its batch."""
    return keys.split(keys.fold_in(key, generation))


_compiled_keys_of = jax.jit(keys_of)


class ByIdentity(NamedTuple):
    """Objects that are told apart by who they are, so that programs of them can be looked up."""

    objects: tuple

    def __hash__(self) -> int:
        return hash(tuple(map(id, self.objects)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and all(a is b for a, b in zip(self.objects, other.objects, strict=True))


def _evaluation_of(evaluator: Any, mode: Any) -> Any:
    return mode if evaluator is None else evaluator


@lru_cache(maxsize=16)
def _chunk_program(arguments: ByIdentity, mode: Any, draw_fn: Any, length: int, donates: bool) -> Callable:
    """The compiled program of a chunk: the same one for the same functions, whatever calls it."""
    algorithm, loss_fn, record, evaluator, _ = arguments.objects
    evaluation = _evaluation_of(evaluator, mode)

    def generation(level: int, key: jax.Array, state: Any, data: Any) -> tuple[Any, Any]:
        step_key, batch_key = keys_of(key, state.generation)
        own, is_resampled = loss_fn, False
        if draw_fn is not None:
            batch, is_resampled = draw_fn(batch_key, data, level, state.generation)
            own = of_batch(loss_fn, batch)
        state, info = algorithm.step(step_key, state, own, is_resampled=is_resampled, evaluation=evaluation)
        return state, Rows.of((record(state, info), info.parent_loss))

    # The number of generations is an argument, so that chunks of any length are one compiled program.
    @partial(
        jax.jit, donate_argnums=1 if donates else (), static_argnums=4, compiler_options=_options() if donates else None
    )
    def chunk(key: jax.Array, state: Any, data: Any, number: jax.Array, level: int) -> tuple[Any, Any]:
        row = jax.eval_shape(partial(generation, level), key, state, data)[1]
        rows = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), row)

        def body(index: jax.Array, carry: tuple) -> tuple:
            state, rows = carry
            state, row = generation(level, key, state, data)
            return state, jax.tree.map(lambda buffer, value: buffer.at[index].set(value), rows, row)

        return jax.lax.fori_loop(0, number, body, (state, rows))

    return chunk


def _draw_minibatch(batches: Minibatches) -> Callable:
    return _minibatch_drawer(batches.batch_size)


@lru_cache(maxsize=64)
def _minibatch_drawer(batch_size: Any) -> Callable:
    def draw(key: jax.Array, data: Any, level: int, generation: Any) -> tuple[Any, bool]:
        size = batch_size[level] if isinstance(batch_size, tuple) else batch_size
        return Minibatches(data, batch_size).draw(key, data, level), size is not None

    return draw


@lru_cache(maxsize=16)
def _function_drawer(batches: ByIdentity) -> Callable:
    function = batches.objects[0]
    is_moving = takes_generation(function)

    def draw(key: jax.Array, data: Any, level: int, generation: Any) -> tuple[Any, bool]:
        return (function(key, generation) if is_moving else function(key)), True

    return draw


def _drawer(batches: Any) -> tuple[Callable | None, Any]:
    """How to draw a batch and whether it is another one, and the data that it is drawn from."""
    if batches is None:
        return None, None
    if isinstance(batches, Minibatches):
        return _draw_minibatch(batches), batches.data
    return _function_drawer(ByIdentity((batches,))), None


def _first_line(reason: str = "") -> str:
    # An infinite mean is told as NaN, so that neither is named.
    why = f"; it {reason}" if reason else ""
    return (
        f"loss_fn: got a loss that is not finite at the start, before any mutation{why}; start from params, and a first batch, "
        "at which it is finite (check the data and the initial scale)"
    )


def _each_once(state: Any) -> Any:
    """The same state with a copy of what is in it twice: an array is donated once."""
    seen: set[int] = set()

    def own(leaf: Any) -> Any:
        is_known = id(leaf) in seen
        seen.add(id(leaf))
        return jnp.copy(leaf) if is_known else leaf

    return jax.tree.map(own, state)


def compiled(key: jax.Array, arguments: tuple, state: Any, num_generations: int, batches: Any) -> Iterator[Chunk]:
    """Chunks of one compiled program."""
    draw_fn, data = _drawer(batches)
    has_levels = isinstance(batches, Minibatches) and isinstance(batches.batch_size, tuple)
    # Of few lengths, so that runs of other lengths find the program compiled.
    length = min(1 << max(num_generations - 1, 0).bit_length(), _LONGEST_CHUNK)
    donates = sum(leaf.size for leaf in jax.tree.leaves(state)) > _LARGE
    state = _each_once(state) if donates else state
    *objects, mode = arguments
    program = _chunk_program(ByIdentity((*objects, None)), mode, draw_fn, length, donates)
    completed, number = 0, 1
    while completed < num_generations:
        start = time.perf_counter()
        number = min(number, num_generations - completed)
        level = 0
        if has_levels:
            # A size holds for a period, at whose end it is decided anew.
            level, number = int(state.level), min(number, PERIOD - int(state.generation) % PERIOD)
        number = agreed_number(number)
        state, rows = program(key, state, data, jnp.asarray(number, jnp.int32), level)
        records, parent_losses = rows.first(number)
        if completed == 0 and not np.isfinite(parent_losses[0]) and int(state.generation) == number:
            raise ValueError(_first_line())
        seconds = time.perf_counter() - start
        yield Chunk(state, records, number)
        completed += number
        # The first call compiles, so it tells nothing of the speed.
        rate = number / seconds if completed > 1 else 2 / _CHUNK_SECONDS
        number = int(np.clip(rate * _CHUNK_SECONDS, 1, min(length, 8 * number)))


@lru_cache(maxsize=16)
def _generation_program(arguments: ByIdentity, mode: Any, has_batches: bool, donates: bool) -> Callable:
    """The compiled program of one generation whose batch comes from outside."""
    algorithm, loss_fn, record, evaluator, _ = arguments.objects

    @partial(jax.jit, donate_argnums=1 if donates else (), compiler_options=_options() if donates else None)
    def generation(key: jax.Array, state: Any, batch: Any) -> tuple[Any, Any, jax.Array]:
        step_key, _ = keys_of(key, state.generation)
        own = of_batch(loss_fn, batch) if has_batches else loss_fn
        evaluation = _evaluation_of(evaluator, mode)
        state, info = algorithm.step(step_key, state, own, is_resampled=has_batches, evaluation=evaluation)
        return state, jax.tree.map(jnp.asarray, record(state, info)), info.parent_loss

    return generation


@lru_cache(maxsize=16)
def _tell_program(arguments: ByIdentity) -> Callable:
    algorithm, record = arguments.objects

    @jax.jit
    def tell(key: jax.Array, state: Any, losses: Any, is_resampled: Any) -> tuple[Any, Any, jax.Array]:
        state, info = algorithm.tell(key, state, losses, is_resampled=is_resampled)
        return state, jax.tree.map(jnp.asarray, record(state, info)), info.parent_loss

    return tell


@partial(jax.jit, static_argnums=0)
def _drawn(draw_fn: Callable, key: jax.Array, data: Any, generation: Any) -> Any:
    return draw_fn(key, data, 0, generation)[0]


def _batch_source(batches: Any) -> Callable[[jax.Array, Any], tuple[Any, bool]]:
    """``source(key, generation) -> (batch, whether it is another one)``; raises StopIteration when there are no more."""
    if batches is None:
        return lambda key, generation: (None, False)
    if isinstance(batches, Minibatches) or callable(batches):
        draw_fn, data = _drawer(batches)
        is_resampled = changes(batches)
        return lambda key, generation: (_drawn(draw_fn, key, data, generation), is_resampled)
    iterator = iter(batches)
    return lambda key, generation: (next(iterator), True)


def one_by_one(
    key: jax.Array, arguments: tuple, evaluator: Evaluator, state: Any, num_generations: int, batches: Any
) -> Iterator[Chunk]:
    """Chunks of generations that pass through Python: batches of an iterable, or losses that JAX cannot trace."""
    algorithm, loss_fn, record, *_, mode = arguments
    if isinstance(batches, Minibatches) and isinstance(batches.batch_size, tuple):
        raise ValueError("batches: got several sizes with an evaluator outside the program; pass batches of one size")
    donates = sum(leaf.size for leaf in jax.tree.leaves(state)) > _LARGE
    source, is_traceable = _batch_source(batches), evaluator.is_traceable
    if is_traceable:
        program = _generation_program(ByIdentity((*arguments[:-1], None)), mode, batches is not None, donates)
    else:
        tell = _tell_program(ByIdentity((algorithm, record)))
    rows: list[Any] = []
    is_counting = getattr(evaluator.evaluate_fn, "counts_failures", False)
    start, is_first, has_warned = time.perf_counter(), int(state.generation) == 0, False
    repeats, num_repeats = Repeats(getattr(evaluator.evaluate_fn, "is_noisy", False)), 0
    failed: Exception | None = None
    for completed in range(1, num_generations + 1):
        step_key, batch_key = _compiled_keys_of(key, state.generation)
        try:
            try:
                batch, is_resampled = source(batch_key, state.generation)
            except StopIteration:
                break
            if is_traceable:
                state, row, parent_loss = program(key, state, batch)
                reason = ""
            else:
                own = loss_fn if batches is None else of_batch(loss_fn, jax.tree.map(np.asarray, batch))
                generation, is_same = int(state.generation), not is_resampled
                more = is_same and repeats.is_due(generation)
                offspring = algorithm.ask(step_key, state, is_resampled=is_resampled or more)
                if more:
                    more = len(offspring) > len(algorithm.ask(step_key, state, is_resampled=False))
                raw = evaluator.evaluate_fn(own, offspring)
                reason = _first_failure(raw)
                counts = getattr(raw, "counts", Counter())
                losses = told(raw, len(offspring), offspring.parent_losses)
                if len(losses.means) != len(offspring):
                    raise ValueError(
                        f"losses: got {len(losses.means)} for {len(offspring)} candidates; let evaluate_fn return one for each"
                    )
                if is_same:
                    losses = repeats.seen(raw, losses, offspring, more)
                    is_resampled, num_repeats = repeats.is_noisy, num_repeats + more
                state, row, parent_loss = tell(step_key, state, losses, is_resampled)
        except NoMore:
            break
        except Exception as error:
            if not rows:
                raise
            failed = error
            break
        if is_first and not np.isfinite(parent_loss):
            raise ValueError(_first_line(reason))
        is_first = False
        if reason and not has_warned:
            has_warned = True
            notice.warn(f"loss_fn: an evaluation {reason}; it counts as failed, as later ones will")
        own_row = jax.tree.map(np.asarray, row)
        if is_counting:
            own_row = own_row, {name: np.int32(counts[kind]) for kind, name in COUNTS.items()}
        rows.append(own_row)
        if completed == 1 or time.perf_counter() - start > _CHUNK_SECONDS:
            yield _chunk_of(state, rows, is_counting, num_repeats, repeats.is_found)
            rows, start, num_repeats = [], time.perf_counter(), 0
    if rows:
        yield _chunk_of(state, rows, is_counting, num_repeats, repeats.is_found)
    if failed is not None:
        raise failed


def _first_failure(raw: Any) -> str:
    """What the first evaluation that raised said; "" if none did."""
    return next((one.words for one in raw if isinstance(one, Failure)), "") if isinstance(raw, list) else ""


def _chunk_of(state: Any, rows: list[Any], is_counting: bool, num_repeats: int, has_noise: bool) -> Chunk:
    stacked = jax.tree.map(_stacked_rows, *rows)
    records, failures = stacked if is_counting else (stacked, None)
    return Chunk(state, records, len(rows), failures, num_repeats, has_noise)


def _stacked_rows(*rows: np.ndarray) -> np.ndarray:
    return np.stack(rows)
