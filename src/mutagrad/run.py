"""evolve: the loop around an algorithm, what it records, checkpoints and progress."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from mutagrad import check
from mutagrad.batch_size import BatchSizeState
from mutagrad.batches import PERIOD, Minibatches
from mutagrad.types import Algorithm, Info, Params, Turns

__all__ = ["Result", "default_record", "evolve"]

_CHUNK_SECONDS = 0.25
_LONGEST_CHUNK = 4096
_CHECKPOINT_SECONDS = 60.0


class Result(NamedTuple):
    """What a run leaves.

    Attributes
    ----------
    params : the parent after the last generation.
    state : the algorithm's state, from which a run can go on.
    history : what ``record`` returned, stacked along a first axis of generations, as NumPy arrays.
    stopped : why the run ended: "generations", "batches" (the iterable was exhausted) or "interrupted" (Ctrl-C).
    """

    params: Params
    state: Any
    history: Any
    stopped: str


class Chunk(NamedTuple):
    """Some generations of a run: the state after them, and their records (NumPy, first axis generations)."""

    state: Any
    records: Any
    num_generations: int


def default_record(state: Any, info: Info) -> dict[str, jax.Array]:
    """What `evolve` keeps of every generation unless told otherwise: scalars only.

    ``loss`` of the parent and ``loss_change``, by how much the next parent's differs on the same batch; ``best_loss`` of the
    offspring, ``sigma``, ``normalized_mutation_strength``, ``success`` (the share of offspring no worse than the parent),
    ``is_accepted``, ``num_nonfinite``, ``batch_size`` if `mutagrad.adapt_batch_size` chooses it, and what
    `mutagrad.diagnostics.regime` pools: ``hessian_trace``, ``squared_grad_norm``, ``squared_grad_noise``,
    ``gradient_curvature``.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=4)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> sorted(mutagrad.default_record(state, info))[:3]
    ['best_loss', 'gradient_curvature', 'hessian_trace']
    """
    size = {"batch_size": state.batch_size} if isinstance(state, BatchSizeState) else {}
    return size | {
        "loss": info.parent_loss,
        "loss_change": info.loss_change,
        "best_loss": jnp.min(jnp.where(jnp.isfinite(info.losses), info.losses, jnp.inf)),
        "sigma": info.sigma,
        "normalized_mutation_strength": info.normalized_mutation_strength,
        "success": jnp.mean(info.loss_differences <= 0),
        "is_accepted": jnp.any(info.is_accepted),
        "num_nonfinite": info.num_nonfinite,
        "hessian_trace": info.hessian_trace,
        "squared_grad_norm": info.squared_grad_norm,
        "squared_grad_noise": info.squared_grad_noise,
        "gradient_curvature": info.gradient_curvature,
    }


def _first_line(loss: float) -> str:
    return (
        f"loss_fn: got {loss} at the start, before any mutation; start from params at which the loss is finite "
        "(check the data and the initial scale)"
    )


def generations(
    key: jax.Array,
    algorithm: Algorithm,
    state: Any,
    loss_fn: Callable,
    num_generations: int,
    batches: Any = None,
    record: Callable = default_record,
) -> Iterator[Chunk]:
    """Run generations and yield after about every quarter of a second.

    Generation t uses ``fold_in(key, t)``, so a run continued from a state is the run that was never stopped. The state is
    donated: do not use a chunk's state after asking for the next.
    """
    data: Any = None
    draw: Callable | None = None
    if isinstance(batches, Minibatches):
        draw, data = batches.draw, batches.data
    elif callable(batches):

        def draw(batch_key, _, __):
            return batches(batch_key)

    elif batches is not None:
        yield from _generations_of_iterable(key, algorithm, state, loss_fn, num_generations, iter(batches), record)
        return

    has_levels = isinstance(batches, Minibatches) and isinstance(batches.batch_size, tuple)
    if has_levels and not hasattr(state, "level"):
        raise ValueError(
            f"batches: got sizes {batches.batch_size} with an algorithm that does not choose among them; wrap it in "
            "mutagrad.adapt_batch_size(algorithm, batches)"
        )

    turns = algorithm.turns
    step_fn = algorithm.step if turns is None else turns.step

    def generation(level, key, state, data):
        step_key, batch_key = jax.random.split(jax.random.fold_in(key, state.generation))
        batch_loss_fn = loss_fn if draw is None else partial(_of_batch, loss_fn, draw(batch_key, data, level))
        state, info = step_fn(step_key, state, batch_loss_fn)
        return state, (record(state, info), info.parent_loss)

    length = max(1, min(num_generations, _LONGEST_CHUNK))

    # The number of generations is an argument, so that chunks of any length are one compiled program.
    @partial(jax.jit, donate_argnums=1, static_argnums=4)
    def chunk(key, state, data, number, level):
        shapes = jax.eval_shape(partial(generation, level), key, state, data)[1]
        records = jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), shapes)

        def body(index, carry):
            state, records = carry
            state, one = generation(level, key, state, data)
            return state, jax.tree.map(lambda buffer, value: buffer.at[index].set(value), records, one)

        if turns is None:
            return jax.lax.fori_loop(0, number, body, (state, records))
        return _turn_by_turn(turns, body, number, (state, records))

    completed, number = 0, 1
    while completed < num_generations:
        level = 0
        if has_levels:  # a size holds to the end of its period, wherever chunks end
            level, number = int(state.level), min(number, PERIOD - int(state.generation) % PERIOD)
        start = time.perf_counter()
        state, buffers = chunk(key, state, data, number, level)
        records, parent_loss = jax.tree.map(partial(_first_rows, number), buffers)
        if completed == 0 and not np.isfinite(parent_loss[0]):
            raise ValueError(_first_line(parent_loss[0]))
        seconds = time.perf_counter() - start
        yield Chunk(state, records, number)
        completed += number
        # The first call compiles, so it tells nothing of the speed.
        rate = number / seconds if completed > 1 else 2 / _CHUNK_SECONDS
        number = int(np.clip(rate * _CHUNK_SECONDS, 1, min(length, 8 * number, max(num_generations - completed, 1))))


def _turn_by_turn(turns: Turns, generation: Callable, number: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
    """``number`` generations, ``generation(index, (state, records))``, in loops of one turn.

    In the inner loop the resting groups are constant, so that XLA moves what is computed from them alone out of it.
    """

    def turn(carry):
        index, (state, records) = carry
        state = turns.begin(state)
        end = jnp.minimum(index + turns.remaining(state), number)
        return end, jax.lax.fori_loop(index, end, generation, (state, records))

    return jax.lax.while_loop(lambda carry: carry[0] < number, turn, (jnp.zeros_like(number), carry))[1]


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that a run can stop between two chunks; a second Ctrl-C interrupts as usual.

    Raising from the middle of a chunk would lose the state, which the chunk has already consumed.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def handle(number, frame):
        interrupted.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)


def _first_rows(number: int, buffer: jax.Array) -> np.ndarray:
    """Cut in NumPy: JAX would compile a slice for every length of chunk."""
    return np.array(np.asarray(buffer)[:number])


def _of_batch(loss_fn: Callable, batch: Any, params: Params) -> jax.Array:
    return loss_fn(params, batch)


def _constant_loss(loss_fn: Callable, batches: Any) -> Callable:
    """The loss that never changes, which an algorithm with ``reevaluate_parent=False`` may keep."""
    if batches is None:
        return loss_fn
    if isinstance(batches, Minibatches) and batches.batch_size is None:
        return partial(_of_batch, loss_fn, batches.data)
    raise ValueError(
        "reevaluate_parent: got False with batches that change, so the parent's kept loss would be of another batch; "
        "build the algorithm with reevaluate_parent=True, or use minibatches(data, None)"
    )


def _generations_of_iterable(
    key: jax.Array,
    algorithm: Algorithm,
    state: Any,
    loss_fn: Callable,
    num_generations: int,
    iterator: Iterator,
    record: Callable,
) -> Iterator[Chunk]:
    @partial(jax.jit, donate_argnums=1)
    def generation(key, state, batch):
        step_key, _ = jax.random.split(jax.random.fold_in(key, state.generation))
        state, info = algorithm.step(step_key, state, partial(_of_batch, loss_fn, batch))
        return state, record(state, info), info.parent_loss

    for completed in range(num_generations):
        batch = next(iterator, None)
        if batch is None:
            return
        state, records, parent_loss = generation(key, state, batch)
        if completed == 0 and not np.isfinite(parent_loss):
            raise ValueError(_first_line(float(parent_loss)))
        yield Chunk(state, jax.tree.map(lambda leaf: np.asarray(leaf)[None], records), 1)


def evolve(
    key: jax.Array,
    algorithm: Algorithm,
    params: Params,
    loss_fn: Callable,
    num_generations: int = 1000,
    batches: Any = None,
    record: Callable[[Any, Info], Any] | None = None,
    checkpoint: str | PathLike | None = None,
    progress: bool = True,
) -> Result:
    """Minimise a loss by mutation and selection: many generations, one compilation.

    Parameters
    ----------
    key : a key. Generation t uses ``fold_in(key, t)``: the same key gives the same run.
    algorithm : any algorithm, such as ``mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.01, num_offspring=20))``.
    params : pytree to start from.
    loss_fn : ``loss_fn(params)``, or ``loss_fn(params, batch)`` where there are batches; a scalar or per-example losses.
    num_generations : how many generations to run, those of a continued checkpoint counted in.
    batches : ``None``; or `mutagrad.minibatches`, of several sizes if the algorithm chooses among them; or a function
        ``batches(key) -> batch`` that JAX can trace; or an iterable of batches of one shape, one a generation (slower: every
        generation passes through Python).
    record : ``record(state, info) -> pytree of arrays`` kept of every generation; `default_record` unless given.
    checkpoint : a folder. The state is saved there about every minute and at the end; a run that finds a checkpoint goes
        on from it, bit for bit. Needs the ``lab`` extra (Orbax).
    progress : whether to show a progress bar (after two seconds).

    Returns
    -------
    Result : ``params``, ``state``, ``history``, ``stopped``. Ctrl-C ends the run after the current chunk of generations
        (about a quarter of a second) and returns what there is, with ``stopped == "interrupted"``.

    Raises
    ------
    ValueError : if an argument is outside its domain, the loss is not a floating scalar or vector, or not finite at the
        start.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.05, num_offspring=20)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(10), lambda x: jnp.sum(x**2), 100, progress=False)
    >>> result.history["loss"].shape, bool(result.history["loss"][-1] < 1.0)
    ((100,), True)
    """
    num_generations = check.count("num_generations", num_generations)
    record = record or default_record
    constant_loss_fn = None if algorithm.definition.reevaluate_parent else _constant_loss(loss_fn, batches)
    # The run donates its state to each next chunk; the caller's arrays are not to be consumed.
    state = jax.tree.map(jnp.copy, algorithm.init(params, constant_loss_fn))
    if checkpoint is not None:
        from mutagrad.checkpoint import restore_or, save

        state = restore_or(checkpoint, key, state)
    first = int(state.generation)
    chunks: list[Any] = []
    stopped = "generations"
    last_saved = time.monotonic()
    bar = tqdm(total=num_generations, initial=first, disable=not progress, delay=2.0, unit="gen")
    with bar, interruptible() as interrupted:
        for chunk in generations(key, algorithm, state, loss_fn, num_generations - first, batches, record):
            state = chunk.state
            chunks.append(chunk.records)
            bar.set_postfix(_postfix(chunk.records), refresh=False)
            bar.update(chunk.num_generations)
            if interrupted.is_set():
                stopped = "interrupted"
                break
            if checkpoint is not None and time.monotonic() - last_saved > _CHECKPOINT_SECONDS:
                save(checkpoint, key, state)
                last_saved = time.monotonic()
        else:
            stopped = "generations" if int(state.generation) >= num_generations else "batches"
    if checkpoint is not None and chunks:
        save(checkpoint, key, state)
    history = jax.tree.map(lambda *leaves: np.concatenate(leaves), *chunks) if chunks else None
    return Result(state.params, state, history, stopped)


def _postfix(records: Any) -> dict[str, str]:
    """Loss, σ and s for the progress bar, as far as they are recorded."""
    names = {"loss": "loss", "sigma": "σ", "normalized_mutation_strength": "s"}
    if not isinstance(records, dict):
        return {}
    return {short: f"{float(records[name][-1]):.3g}" for name, short in names.items() if name in records}
