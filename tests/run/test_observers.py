"""The loop as an iterator and those who look on; what a run costs besides: no second compilation, no memory."""

import gc
import resource
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

KEY = jax.random.key(0)
ALGORITHM = mutagrad.elitist(0.1, 4)


def loss_fn(x):
    return jnp.sum(jnp.square(x))


def evolved(number=200, loss_fn=loss_fn, batches=None, start=None, **options):
    options.setdefault("progress", False)
    key, algorithm = options.pop("key", KEY), options.pop("algorithm", ALGORITHM)
    start = jnp.ones(3) if start is None else start
    return mutagrad.evolve(key, algorithm, start, loss_fn, number, batches, **options)


class Watch:
    """Keeps the chunks that it sees, and whether it was closed."""

    def __init__(self, answer=lambda chunk: None):
        self.chunks, self.closed, self.answer = [], 0, answer

    def __call__(self, chunk):
        self.chunks.append(chunk)
        return self.answer(chunk)

    def close(self):
        self.closed += 1


def test_generations_is_what_evolve_runs_on():
    chunks = list(mutagrad.generations(KEY, ALGORITHM, ALGORITHM.init(jnp.ones(3)), loss_fn, 300))
    result = evolved(300)
    assert sum(chunk.num_generations for chunk in chunks) == 300
    assert [chunk.generation for chunk in chunks] == np.cumsum([c.num_generations for c in chunks]).tolist()
    np.testing.assert_array_equal(np.concatenate([c.records["loss"] for c in chunks]), result.history["loss"])
    np.testing.assert_array_equal(chunks[-1].state.params, result.params)
    assert all(type(leaf) is np.ndarray for chunk in chunks for leaf in jax.tree.leaves(chunk.records))


def test_an_observer_sees_every_generation_once():
    watch, seen = Watch(), []
    result = evolved(300, observers=[watch, lambda chunk: seen.append(chunk.generation)])
    np.testing.assert_array_equal(np.concatenate([c.records["loss"] for c in watch.chunks]), result.history["loss"])
    assert seen == [chunk.generation for chunk in watch.chunks]
    assert watch.closed == 1


def test_a_text_stops_the_run_and_is_kept():
    watch = Watch(lambda chunk: "enough" if chunk.generation >= 20 else None)
    result = evolved(10**6, observers=[watch])
    assert result.stopped == "enough"
    assert int(result.state.generation) == len(result.history["loss"]) == watch.chunks[-1].generation < 10**6
    assert sum(chunk.generation >= 20 for chunk in watch.chunks) == 1
    assert watch.closed == 1
    assert repr(result).startswith("Result(stopped by enough after ")


def test_observers_are_closed_when_the_run_fails():
    watch = Watch()

    def raising(chunk):
        if chunk.generation > 5:
            raise OSError

    with pytest.raises(mutagrad.RunError):
        evolved(observers=[watch, raising])
    assert watch.closed == 1


def test_stop_at_loss():
    result = evolved(
        10**6, algorithm=mutagrad.adapt_sigma(ALGORITHM, "success", 0.2), observers=[mutagrad.stop_at_loss(1e-3)]
    )
    assert result.stopped == "loss 0.001"
    assert result.history["loss"][-1] <= 1e-3
    assert int(result.state.generation) < 10**6


def test_stop_on_plateau():
    """A loss that falls to a floor: not before the floor, and within two spans and a chunk after it."""
    ends = []

    def floored(x):
        return jnp.maximum(jnp.sum(jnp.square(x)), 0.5)

    result = evolved(
        10**6, floored, observers=[mutagrad.stop_on_plateau(50), lambda chunk: ends.append(chunk.generation)]
    )
    assert result.stopped == "a plateau of 50 generations"
    loss = result.history["loss"].astype(float)
    before, now = loss[-100:-50].mean(), loss[-50:].mean()
    assert before - now <= 0.01 * before
    if len(ends) > 1 and ends[-2] >= 100:
        earlier = loss[: ends[-2]]
        assert earlier[-100:-50].mean() - earlier[-50:].mean() > 0.01 * earlier[-100:-50].mean()


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([4, np.inf, 4, 4, 2, 2, 2, 2], False),
        ([4, 4, 4, 4, 2, np.nan, 2, 2], False),
        ([np.nan] * 4 + [2, 2, 2, 2], False),
        ([4, np.inf, 4, 4, 4, 4, 4, 4], True),
        ([4, 4, 4, 4] + [np.inf] * 4, True),
        ([np.inf] * 8, True),
    ],
)
def test_a_loss_that_is_not_finite_is_no_plateau(losses, stops):
    stop = mutagrad.stop_on_plateau(4)
    said = [stop(mutagrad.Chunk(None, {"loss": np.float32([loss])}, 1)) for loss in losses]
    assert said == [None] * 7 + ["a plateau of 4 generations" if stops else None]


def test_stop_on_failures():
    """Whether the loss fails for good, or for fewer generations on end than were asked for, wherever chunks end."""

    def failing(x, generation):
        return jnp.where((generation >= 20) & (generation % 50 != 0), jnp.nan, 1.0) * jnp.sum(jnp.square(x))

    def run(number):
        return mutagrad.evolve(
            KEY, ALGORITHM, jnp.ones(3), failing, 400, lambda key, generation: generation, progress=False,
            observers=[mutagrad.stop_on_failures(number)],
        )  # fmt: skip

    result = run(49)
    assert result.stopped.startswith("no offspring had a finite loss for 49 generations; try a smaller σ")
    assert 69 <= int(result.state.generation) < 400
    assert run(50).stopped == "generations"


def test_stop_after():
    result = evolved(10**9, record=lambda state, info: info.parent_loss, observers=[mutagrad.stop_after(0.5)])
    assert result.stopped == "0.5 seconds"


@pytest.mark.parametrize("stop", [mutagrad.stop_at_loss(0.1), mutagrad.stop_on_plateau(3)])
def test_stopping_by_a_loss_needs_one_recorded(stop):
    run = mutagrad.generations(KEY, ALGORITHM, ALGORITHM.init(jnp.ones(3)), loss_fn, 3, record=lambda s, i: i.losses)
    chunk = next(run)
    with pytest.raises(ValueError, match="^record: got records without 'loss'.*; record what mutagrad.default_record"):
        stop(chunk)


def test_a_history_of_ones_own():
    history = mutagrad.History()
    assert history.records is None
    for chunk in mutagrad.generations(KEY, ALGORITHM, ALGORITHM.init(jnp.ones(3)), loss_fn, 90):
        history(chunk)
    np.testing.assert_array_equal(history.records["loss"], evolved(90).history["loss"])


# ----------------------------------------------------------------------------------------------------------------------
# Compilation and memory
# ----------------------------------------------------------------------------------------------------------------------

COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **rest: COMPILED.append(name) if name.endswith("backend_compile_duration") else None
)
DATA = jnp.arange(12.0)


def of_batch(x, batch):
    return jnp.square(jnp.sum(x) - batch)


KINDS = {
    "plain": lambda: {},
    "mapped": lambda: {"evaluation": "mapped"},
    "minibatches": lambda: {"batches": mutagrad.minibatches(DATA, 4), "loss_fn": of_batch},
    "a list": lambda: {"batches": [np.ones(4, np.float32)] * 60, "loss_fn": of_batch},
    "executor": lambda: {"evaluation": mutagrad.executor(), "loss_fn": lambda_free_loss},
    "record": lambda: {"record": kept},
}


def lambda_free_loss(x):
    return np.float32(np.sum(np.square(x)))


def batched_loss(x):
    return np.sum(np.square(x), axis=1)


def kept(state, info):
    return {"losses": info.losses}


@pytest.mark.parametrize("name", KINDS)
def test_a_second_run_compiles_nothing(name):
    """Same functions and shapes; another key, start and number of generations, and new objects for data and evaluator."""
    evolved(33, **KINDS[name]())
    key, start, options = jax.random.key(1), jnp.full(3, 2.0, jnp.float32), KINDS[name]()
    COMPILED.clear()
    evolved(57, start=start, key=key, **options)
    assert COMPILED == []


def test_python_numbers_compile_no_more_than_arrays():
    """The type of a Python number gives way to others, that of an array does not: a run must not see both."""
    evolved(20, start=jnp.ones(()))
    start = 2.0
    COMPILED.clear()
    result = evolved(20, start=start)
    assert COMPILED == []
    assert not result.params.weak_type


def test_the_counter_counts():
    COMPILED.clear()
    evolved(5, loss_fn=lambda x: jnp.sum(jnp.square(x) + 0.5))
    assert len(COMPILED) > 0


class Stream:
    """Batches without end, made when asked for."""

    def __iter__(self):
        while True:
            yield np.ones(64, np.float32)


@pytest.mark.parametrize("kind", ["a stream", "executor"])
def test_generations_through_python_leak_nothing(kind):
    """What grows is the history: 15 numbers a generation, in buffers that double. 30 kB a generation were lost once.

    The record is below 64 bytes; old and new buffer live together when they double: below 200. For the pages of the
    allocator, which grow for some seconds at first, 1 kB a generation is left. A row kept as Python objects would be more than
    15 blocks.
    """
    first, number = {"a stream": (5000, 14_000), "executor": (600, 2500)}[kind]
    options = (
        {"batches": Stream(), "loss_fn": of_batch}
        if kind == "a stream"
        else {"evaluation": mutagrad.executor(is_batched=True), "loss_fn": batched_loss}
    )
    marks = []

    def measure(chunk):
        if chunk.generation >= (first, number - 500, np.inf)[len(marks)]:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            marks.append((chunk.generation, sys.getallocatedblocks(), pages * resource.getpagesize()))

    evolved(number, observers=[measure], **options)
    middle, last = marks
    generations = last[0] - middle[0]
    assert generations > 1000
    assert (last[1] - middle[1]) / generations < 5, "Python objects a generation"
    assert (last[2] - middle[2]) / generations < 1200, "bytes a generation"
