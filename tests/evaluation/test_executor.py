"""Ordinary Python losses, alone or through a pool, give the trajectory of the JAX loss that computes the same numbers."""

import contextlib
import multiprocessing
import re
import time
import warnings
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import exact_losses
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

NUMBER = 12


def evolved(loss_fn=exact_losses.numpy_loss, number=NUMBER, algorithm=None, start=None, **options):
    algorithm = mutagrad.elitist(0.25, 5) if algorithm is None else algorithm
    start = exact_losses.params() if start is None else start
    return mutagrad.evolve(jax.random.key(4), algorithm, start, loss_fn, number, progress=False, **options)


@pytest.fixture(scope="module")
def inside():
    """The JAX loss in the compiled program."""
    return evolved(exact_losses.jax_loss)


@pytest.fixture(scope="module")
def processes():
    # The workers are started anew: a fork of a process with JAX's threads in it may hang.
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@contextlib.contextmanager
def failing(first, last="the history counts them$"):
    """A run that says what the first failed evaluation did, and at the end how many there were; nothing else."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    texts = [str(one.message) for one in found]
    assert len(texts) == 2, texts
    assert re.search(first, texts[0]), texts
    assert re.search(last, texts[1]), texts


def assert_same_run(mine, theirs):
    for a, b in zip(jax.tree.leaves(mine.state), jax.tree.leaves(theirs.state), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("loss", "best_loss", "loss_change", "is_accepted", "num_nonfinite", "num_examples", "success"):
        np.testing.assert_array_equal(mine.history[name], theirs.history[name], err_msg=name)
    assert mine.num_evaluations == theirs.num_evaluations == NUMBER * 6
    assert np.any(mine.history["is_accepted"])


class Counting(ThreadPoolExecutor):
    """Threads that count their tasks."""

    tasks = 0

    def submit(self, function, /, *args, **kwargs):
        self.tasks += 1
        return super().submit(function, *args, **kwargs)


@pytest.mark.parametrize(("per_task", "tasks"), [(1, 6), (4, 2), (6, 1), (100, 1)])
def test_several_evaluations_in_one_task(inside, per_task, tasks):
    with Counting(2) as pool:
        assert_same_run(evolved(evaluation=mutagrad.executor(pool, per_task=per_task)), inside)
    assert pool.tasks == NUMBER * tasks


def test_one_that_fails_in_a_task_leaves_the_others_alone():
    worst = 1.1 * float(np.mean(exact_losses.numpy_loss(jax.tree.map(np.asarray, exact_losses.params()))))

    def raising(params):
        if np.mean(exact_losses.numpy_loss(params)) > worst:
            raise ZeroDivisionError("of one")
        return exact_losses.numpy_loss(params)

    with failing("of one"):
        alone = evolved(raising, evaluation=mutagrad.executor())
    with failing("of one"), ThreadPoolExecutor(2) as pool:
        together = evolved(raising, evaluation=mutagrad.executor(pool, per_task=3))
    assert 0 < together.history["num_exceptions"].sum() < 5 * NUMBER
    np.testing.assert_array_equal(alone.history["num_exceptions"], together.history["num_exceptions"])
    np.testing.assert_array_equal(alone.history["loss"], together.history["loss"])


def test_tasks_that_wait_are_not_done_when_the_run_ends():
    calls = []

    def third_time_fails(params):
        calls.append(params)
        if len(calls) == 3:
            raise ZeroDivisionError
        time.sleep(0.02)
        return 0.0

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="the run stops there"):
        evolved(
            third_time_fails,
            1,
            mutagrad.elitist(0.1, 40),
            jnp.ones(3),
            evaluation=mutagrad.executor(pool, on_failure="stop"),
        )
    # Those that a thread has begun are ended.
    assert len(calls) < 20


def test_a_pool_that_is_shut_down():
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(
        RuntimeError, match="^pool: it takes no more work .*; keep the run within the pool's with block$"
    ):
        evolved(evaluation=mutagrad.executor(pool))


def test_a_loss_that_returns_nothing():
    with pytest.raises(
        ValueError,
        match="^loss_fn: got a loss that is not finite at the start, before any mutation; it returned None; start",
    ):
        evolved(lambda params: None, evaluation=mutagrad.executor())


@pytest.mark.parametrize("options", [{}, {"pool": 2}, {"pool": "threads", "is_batched": True}])
def test_several_in_a_task_need_a_pool(options):
    with ThreadPoolExecutor(1) as threads:
        pool = threads if options.get("pool") == "threads" else options.get("pool")
        with pytest.raises(
            ValueError, match="^per_task: got 4 with .*; pass a concurrent.futures.Executor as pool, or 1$"
        ):
            mutagrad.executor(pool, per_task=4, is_batched=options.get("is_batched", False))


def test_the_losses_are_the_same_numbers():
    for seed in range(20):
        params = exact_losses.params()
        params["w"] = params["w"] + np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32)
        np.testing.assert_array_equal(jax.jit(exact_losses.jax_loss)(params), exact_losses.numpy_loss(params))


def test_one_by_one(inside):
    assert_same_run(evolved(evaluation=mutagrad.executor()), inside)


def test_threads(inside):
    with ThreadPoolExecutor(3) as pool:
        assert_same_run(evolved(evaluation=mutagrad.executor(pool)), inside)


def test_processes(inside, processes):
    assert_same_run(evolved(evaluation=mutagrad.executor(processes)), inside)


def test_a_whole_generation_in_one_call(inside):
    calls = []

    def counted(params):
        calls.append(params["w"].shape)
        return exact_losses.numpy_losses(params)

    assert_same_run(evolved(counted, evaluation=mutagrad.executor(is_batched=True)), inside)
    assert calls == [(6, 3, 4)] * NUMBER


def test_as_the_algorithms_own_evaluation(inside):
    algorithm = mutagrad.elitist(0.25, 5, evaluation=mutagrad.executor())
    assert_same_run(evolved(algorithm=algorithm), inside)


def test_batches_and_a_scalar_loss():
    """A batch from the data, the same for all candidates, as a function of the generation: outside as inside."""
    batches = mutagrad.minibatches(jnp.arange(32.0), 4)

    def loss(params, batch):
        return (batch - params.astype(batch.dtype)) ** 2

    def outside(params, batch):
        assert isinstance(batch, np.ndarray)
        assert isinstance(params, np.ndarray)
        return (batch - params) ** 2

    # On whole numbers every digit is exact.
    algorithm = mutagrad.elitist(1.0, 4, mutation=mutagrad.mutation.rademacher())
    runs = [
        mutagrad.evolve(jax.random.key(0), algorithm, np.float32(40.0), fn, 15, batches, evaluation=how, progress=False)
        for fn, how in ((loss, "auto"), (outside, mutagrad.executor()))
    ]
    np.testing.assert_array_equal(runs[0].history["loss"], runs[1].history["loss"])
    assert float(runs[0].params) == float(runs[1].params) < 40
    assert bool(np.all(runs[1].history["is_resampled"]))


def test_failures_are_nan_counted_and_never_win(processes):
    """The exception stays where it was raised: in this process, or a worker."""
    with failing("^loss_fn: an evaluation raised ArithmeticError: outside"):
        alone = evolved(exact_losses.failing_loss, 30, evaluation=mutagrad.executor())
    with failing("^loss_fn: an evaluation raised ArithmeticError: outside"):
        pooled = evolved(exact_losses.failing_loss, 30, evaluation=mutagrad.executor(processes))
    np.testing.assert_array_equal(alone.history["num_exceptions"], pooled.history["num_exceptions"])
    # The parent never fails here.
    np.testing.assert_array_equal(alone.history["num_exceptions"], alone.history["num_nonfinite"])
    np.testing.assert_array_equal(alone.history["num_nonfinite"], pooled.history["num_nonfinite"])
    assert 0 < alone.history["num_nonfinite"].sum() < 150
    assert alone.params["w"].max() <= 1.2
    np.testing.assert_array_equal(alone.params["w"], pooled.params["w"])


def test_a_loss_that_fails_at_the_start_says_why():
    start = exact_losses.params() | {"w": np.full((3, 4), 2.0, np.float32)}
    words = (
        "^loss_fn: got a loss that is not finite at the start, before any mutation; it raised ArithmeticError: outside"
    )
    with pytest.raises(ValueError, match=words) as caught:
        evolved(exact_losses.failing_loss, start=start, evaluation=mutagrad.executor())
    # The message of the user's exception has two lines.
    assert "\n" not in str(caught.value)


def test_a_dead_worker_ends_the_run_with_everything_kept():
    algorithm = mutagrad.elitist(0.02, 5)
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        pytest.raises(mutagrad.RunError, match="pool: a worker died.*; go on from the last result") as caught,
    ):
        evolved(exact_losses.dying_loss, 200, algorithm=algorithm, evaluation=mutagrad.executor(pool))
    assert "\n" not in str(caught.value)
    kept = caught.value.result
    number = int(kept.state.generation)
    assert kept.stopped == "error"
    assert number == len(kept.history["loss"]) > 0
    # What was kept is the run up to there, and goes on.
    whole = evolved(number=number + 3, algorithm=mutagrad.elitist(0.02, 5), evaluation=mutagrad.executor())
    onward = evolved(number=number + 3, algorithm=mutagrad.elitist(0.02, 5), start=kept, evaluation=mutagrad.executor())
    np.testing.assert_array_equal(onward.history["loss"], whole.history["loss"])


def test_what_cannot_be_sent_is_refused_in_one_line(processes):
    with pytest.raises(
        ValueError, match="^loss_fn: could not be sent to the pool .*; pass a function that the workers"
    ) as caught:
        evolved(lambda params: 0.0, evaluation=mutagrad.executor(processes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda params: float(np.abs(params["w"]).sum()),
        lambda params: np.sum(np.asarray(params["w"])),
        lambda params: 1.0 if params["w"].sum() > 0 else 0.0,
        lambda params: [1.0, 2.0][int(params["w"][0, 0] > 0)],
    ],
    ids=["float", "NumPy", "if", "index"],
)
def test_ordinary_python_without_an_executor_is_told_how(loss_fn):
    words = "^loss_fn: JAX cannot trace it .*; if it is ordinary Python, pass evaluation=mutagrad.executor"
    with pytest.raises(ValueError, match=words) as caught:
        evolved(loss_fn)
    assert "\n" not in str(caught.value)
    algorithm = mutagrad.elitist(0.1, 4)
    with pytest.raises(ValueError, match=words):
        algorithm.step(jax.random.key(0), algorithm.init(exact_losses.params()), loss_fn)
    assert evolved(loss_fn, 2, evaluation=mutagrad.executor()).stopped == "generations"


@pytest.mark.parametrize("pool", [0, -1, True, 2.5, "processes", mutagrad.executor])
def test_what_is_no_pool_is_refused(pool):
    with pytest.raises(ValueError, match="^pool: got .*; pass a number of processes, a concurrent.futures.Executor"):
        mutagrad.executor(pool)


def test_a_batched_loss_of_the_wrong_number_is_refused():
    with pytest.raises(ValueError, match=r"^losses: got shape \(1,\) for 6 candidates"):
        evolved(lambda params: np.zeros(1), evaluation=mutagrad.executor(is_batched=True))


SMALL = mutagrad.elitist(0.1, 4)


def test_a_generation_that_raises_as_a_whole_has_failed_as_a_whole():
    calls = []

    def flaky(params):
        calls.append(params)
        if 3 <= len(calls) <= 5:
            raise OSError("disk")
        return np.sum(np.square(params), axis=1)

    with failing("OSError: disk", "^loss_fn: 5 evaluations failed .5 raised.; 10 were made again; the history"):
        result = evolved(flaky, 6, SMALL, jnp.ones(3), evaluation=mutagrad.executor(is_batched=True))
    assert result.history["num_nonfinite"].tolist() == [0, 0, 4, 0, 0, 0]


@pytest.mark.parametrize(("row", "retries"), [(1, [0, 0, 0, 0]), (0, [0, 10, 0, 0])])
def test_of_a_whole_generation_only_a_parent_is_evaluated_again(row, retries):
    """An offspring where parameters are not allowed loses; a parent without its loss, in the second generation, does not."""
    calls = []

    def bounded(params):
        calls.append(params)
        values = np.sum(np.square(params), axis=1)
        if row or len(calls) in (2, 3):
            values[row] = np.inf
        return values

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = evolved(bounded, 4, SMALL, jnp.ones(3), evaluation=mutagrad.executor(is_batched=True))
    assert len(calls) == 4 + sum(retries) // 5
    assert np.ravel(result.history.get("num_retries", [0] * 4)).tolist() == retries


def test_none_is_a_failed_evaluation():
    calls = []

    def forgetful(params):
        calls.append(params)
        return None if len(calls) == 4 else float(np.sum(np.square(params)))

    with failing("an evaluation returned None", "^loss_fn: 1 evaluations? failed .1 raised.; the history"):
        result = evolved(forgetful, 3, SMALL, jnp.ones(3), evaluation=mutagrad.executor())
    assert result.history["num_nonfinite"].tolist() == [1, 0, 0]


def test_a_loss_that_ends_its_program_is_a_failed_evaluation():
    calls = []

    def simulator(params):
        calls.append(params)
        if len(calls) == 4:
            raise SystemExit(2)
        return float(np.sum(np.square(params)))

    with failing("SystemExit: 2", "^loss_fn: 1 evaluations? failed .1 raised.; the history"):
        result = evolved(simulator, 3, SMALL, jnp.ones(3), evaluation=mutagrad.executor())
    assert result.history["num_exceptions"].tolist() == [1, 0, 0]


class Canned:
    """A pool whose tasks end as they are told to."""

    def __init__(self, end):
        self._end = end

    def submit(self, fn, *arguments):
        future = Future()
        self._end(future, fn, arguments)
        return future


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda future, fn, arguments: future.cancel(), "a task was cancelled; go on from the last result"),
        (
            lambda future, fn, arguments: future.set_result([]),
            "got list back from a task of 1 evaluations; pass a pool",
        ),
        (lambda future, fn, arguments: future.set_result(None), "got NoneType back from a task of 1 evaluations"),
    ],
)
def test_a_pool_that_does_not_do_its_tasks(end, words):
    with pytest.raises(RuntimeError, match=f"^pool: {words}"):
        evolved(evaluation=mutagrad.executor(Canned(end)))
