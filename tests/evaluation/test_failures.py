"""Evaluations that fail, and what is done with each kind: by policy, counted, and the course of a run without them."""

import gc
import inspect
import os
import re
import signal
import subprocess
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import outside_losses as losses
import pytest

import mutagrad

ALGORITHM = mutagrad.elitist(sigma=0.1, num_offspring=4)
KINDS = {"die": "worker", "hang": "timeout", "raise": "exception", "nan": "nonfinite", "shape": "shape"}
COUNTS = {"die": "num_dead_workers", "hang": "num_timeouts", "raise": "num_exceptions", "shape": "num_misshapen"}


def run(loss_fn, evaluation, number=4, **options):
    return mutagrad.evolve(
        jax.random.key(0), ALGORITHM, jnp.ones(3), loss_fn, number, evaluation=evaluation, progress=False, **options
    )


@pytest.fixture(scope="module")
def whole():
    """The run in which nothing fails."""
    return run(losses.square, mutagrad.executor())


def quietly(loss_fn, evaluation, **options):
    """A run, and the first lines of what it warned of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = run(loss_fn, evaluation, **options)
    return result, [str(one.message) for one in found]


@pytest.mark.parametrize("what", KINDS)
def test_tried_again_the_run_is_the_one_without_failures(what, whole, tmp_path):
    """Of one worker, so that the calls come in their order: the 2nd, the 3rd and the 9th fail once."""
    loss_fn = losses.Sometimes(tmp_path, what, [1, 2, 8])
    result, said = quietly(loss_fn, mutagrad.executor(1, timeout=2.0, on_failure={KINDS[what]: "retry"}))
    np.testing.assert_array_equal(result.params, whole.params)
    np.testing.assert_array_equal(result.history["loss"], whole.history["loss"])
    assert int(result.history["num_retries"].sum()) == 3
    assert sum(int(result.history[name].sum()) for name in COUNTS.values()) == 0
    assert said == ["loss_fn: no evaluation was given up; 3 were made again; the history counts them"]


@pytest.mark.parametrize("what", COUNTS)
def test_passed_over_it_loses_and_is_counted_as_what_it_was(what, tmp_path):
    """The 3rd call, an offspring, fails for good."""
    loss_fn = losses.Sometimes(tmp_path, what, [2])
    result, said = quietly(loss_fn, mutagrad.executor(1, timeout=2.0, on_failure="skip"))
    counted = {name: result.history[name].tolist() for name in COUNTS.values()}
    assert counted == {name: [int(name == COUNTS[what]), 0, 0, 0] for name in COUNTS.values()}
    assert result.history["num_nonfinite"].tolist() == [1, 0, 0, 0]
    assert len(said) == 2
    assert said[1].startswith("loss_fn: 1 evaluation failed (1 ")


@pytest.mark.parametrize("what", KINDS)
def test_the_run_stops_where_that_is_asked_for_and_keeps_what_it_has(what, tmp_path):
    loss_fn = losses.Sometimes(tmp_path, what, [12])
    with pytest.raises(mutagrad.RunError, match="ValueError: loss_fn: ") as caught:
        run(loss_fn, mutagrad.executor(1, timeout=2.0, on_failure="stop"))
    assert "\n" not in str(caught.value)
    assert len(caught.value.result.history["loss"]) == 2


def test_one_that_always_kills_its_process_fails_after_the_retries():
    start = jnp.asarray([0.95, 0.0, 0.0])
    options = {"evaluation": mutagrad.executor(2, retries=1), "progress": False}
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        result = mutagrad.evolve(jax.random.key(0), ALGORITHM, start, losses.killer, 3, **options)
    dead, again = result.history["num_dead_workers"], result.history["num_retries"]
    np.testing.assert_array_equal(dead, again)
    np.testing.assert_array_equal(dead, result.history["num_nonfinite"])
    assert dead.sum() > 0
    assert float(result.params[0]) <= 1


def test_in_this_process_and_through_another_pool_what_raises_is_tried_again(whole, tmp_path):
    for name, pool in (("here", None), ("threads", "threads")):
        (folder := tmp_path / name).mkdir()
        loss_fn = losses.Sometimes(folder, "raise", [0, 3])
        if pool is None:
            result, _ = quietly(loss_fn, mutagrad.executor(on_failure="retry"))
        else:
            with ThreadPoolExecutor(3) as threads:
                result, _ = quietly(loss_fn, mutagrad.executor(threads, on_failure="retry"))
        np.testing.assert_array_equal(result.params, whole.params)
        assert int(result.history["num_retries"].sum()) == 2


def test_losses_of_another_number_are_misshapen(tmp_path):
    calls = []

    def loss_fn(params):
        calls.append(params)
        return np.square(params)[: 2 if len(calls) == 3 else 3]

    with pytest.raises(
        ValueError, match="^loss_fn: got 2 losses back where the first candidate has another number; return"
    ):
        run(loss_fn, mutagrad.executor())
    calls.clear()
    result, _ = quietly(loss_fn, mutagrad.executor(on_failure={"shape": "skip"}))
    assert result.history["num_misshapen"].tolist() == [1, 0, 0, 0]


def test_a_history_in_memory_goes_on_with_an_executor_and_without(whole):
    inside = run(lambda x: jnp.sum(x**2), "auto", 2)
    outside = mutagrad.evolve(
        jax.random.key(0), ALGORITHM, inside, losses.square, 4, evaluation=mutagrad.executor(), progress=False
    )
    again = mutagrad.evolve(jax.random.key(0), ALGORITHM, outside, lambda x: jnp.sum(x**2), 6, progress=False)
    assert outside.history["num_timeouts"].tolist() == [0] * 4
    assert again.history["num_timeouts"].tolist() == [0] * 6
    assert "num_timeouts" not in inside.history


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": 3}, "timeout: got 3 for this process, which cannot end an evaluation; pass a number of processes"),
        ({"pool": 2, "timeout": 0}, "timeout: got 0; pass a positive"),
        ({"retries": -1}, "retries: got -1; pass a whole number"),
        ({"on_failure": "ignore"}, "on_failure: got .*; pass 'skip', 'retry' or 'stop'"),
        (
            {"on_failure": {"timeouts": "skip"}},
            "on_failure: got .*some of exception, nonfinite, timeout, worker, shape",
        ),
        ({"on_failure": 3}, "on_failure: got 3; pass"),
        ({"is_batched": "yes"}, "is_batched: got 'yes'; pass True or False"),
    ],
)
def test_bad_arguments_get_one_line(options, words):
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        mutagrad.executor(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pool", [None, 1])
def test_what_says_nothing_of_itself_has_raised_all_the_same(pool):
    result, said = quietly(losses.unspeakable, mutagrad.executor(pool))
    assert result.history["num_exceptions"].tolist() == [4] * 4
    assert said[0].startswith("loss_fn: an evaluation raised Mute:  (outside_losses.py, line ")


@pytest.mark.parametrize("pool", [None, 1])
@pytest.mark.parametrize(
    ("helper", "loss_fn"), [("invert", losses.through_a_library), ("divide", losses.through_a_helper)]
)
def test_a_failure_says_in_which_line_of_its_users_it_arose(pool, helper, loss_fn):
    lines, first = inspect.getsourcelines(getattr(losses, helper))
    _, said = quietly(loss_fn, mutagrad.executor(pool))
    assert f"(outside_losses.py, line {first + len(lines) - 1})" in said[0]


def test_an_array_that_the_loss_fills_anew_is_each_time_what_it_was(whole):
    buffer = np.zeros(3)

    def loss_fn(params):
        return np.square(params, out=buffer, dtype=np.float64, casting="same_kind")

    found = run(loss_fn, mutagrad.executor(), 30)
    wanted = run(lambda params: np.square(params, dtype=np.float64), mutagrad.executor(), 30)
    np.testing.assert_array_equal(found.history["loss"], wanted.history["loss"])
    assert found.history["loss"][-1] < found.history["loss"][0]


def test_what_is_masked_is_no_loss_of_zero():
    """The mean of what is masked everywhere is masked, and 0 underneath."""

    def loss_fn(params):
        found = np.ma.masked_invalid(np.full(3, np.nan if params[0] != 1 else 2.0))
        return found.mean()

    result, _ = quietly(loss_fn, mutagrad.executor())
    assert result.history["loss"].tolist() == [2.0] * 4
    assert result.history["num_nonfinite"].tolist() == [4] * 4


def test_many_losses_of_which_one_stops_the_run_are_said_in_one_line():
    with pytest.raises(ValueError, match="^loss_fn: got losses that are not finite back; the run stops") as caught:
        run(lambda params: np.where(np.arange(300) == 7, np.nan, 1.0), mutagrad.executor(on_failure="stop"))
    assert "\n" not in str(caught.value)


def test_a_batched_loss_that_was_tried_again_and_returns_one_number_is_refused():
    calls = []

    def loss_fn(params):
        calls.append(1)
        return None if len(calls) == 1 else 3.0

    with pytest.raises(ValueError, match=r"^losses: got shape \(1,\) for 5 candidates"):
        run(loss_fn, mutagrad.executor(is_batched=True, on_failure="retry"))


def test_what_a_loss_imports_is_no_part_of_its_time(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(1.5)\nfrom outside_losses import square\n")
    (tmp_path / "imports_later.py").write_text(
        "class Loss:\n    def __setstate__(self, state):\n        import slow_to_import\n"
        "    def __getstate__(self):\n        return {'a': 1}\n"
        "    def __call__(self, params):\n        return float((params**2).sum())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import imports_later

    result, said = quietly(imports_later.Loss(), mutagrad.executor(1, timeout=1.0))
    assert not said
    assert result.history["num_timeouts"].tolist() == [0] * 4


posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes of POSIX")


@posix
def test_what_a_loss_has_started_ends_with_its_time():
    def sleeping():
        return set(subprocess.run(["pgrep", "-fx", "sleep 60"], stdout=subprocess.PIPE, text=True).stdout.split())

    before = sleeping()
    result, _ = quietly(losses.stuck, mutagrad.executor(1, timeout=0.5), number=1)
    assert result.history["num_timeouts"].tolist() == [4]
    assert not sleeping() - before


@posix
def test_a_worker_whose_pipe_a_fork_holds_is_known_to_be_dead():
    start = time.monotonic()
    result, _ = quietly(losses.forking, mutagrad.executor(2, retries=0), number=1)
    assert result.history["num_dead_workers"].tolist() == [4]
    # What was forked sleeps for a minute.
    assert time.monotonic() - start < 55


@posix
def test_a_fork_of_the_process_leaves_its_workers_alone(whole):
    evaluation = mutagrad.executor(1)
    run(losses.square, evaluation)
    (worker,) = evaluation.evaluate_fn._pool._workers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if not child:
        try:
            del evaluation
            gc.collect()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert worker.process.is_alive()


def test_a_run_in_which_all_offspring_fail_stops_and_says_of_what(tmp_path):
    """The parent of each generation is evaluated first."""
    calls = []

    def loss_fn(params):
        calls.append(params)
        if (len(calls) - 1) % 5:
            raise OSError("no licence")
        return losses.square(params)

    result, _ = quietly(loss_fn, mutagrad.executor(), number=100, observers=[mutagrad.stop_on_failures(3)])
    words = (
        r"no offspring had a finite loss for 3 generations \(of the last evaluations [\d,]+ raised\); try a smaller σ"
    )
    assert re.match(words, result.stopped)


def test_a_parent_that_fails_is_tried_again_and_keeps_its_place(whole):
    """Without its loss any offspring would replace it; an offspring that fails is passed over."""
    calls = []

    def loss_fn(params):
        calls.append(params)
        # The parent of the second generation, twice: it is tried again when the others are done.
        if len(calls) in (6, 11):
            raise OSError("busy")
        return losses.square(params)

    result, _ = quietly(loss_fn, mutagrad.executor())
    np.testing.assert_array_equal(result.history["loss"], whole.history["loss"])
    assert result.history["num_retries"].tolist() == [0, 2, 0, 0]
    assert result.history["num_exceptions"].tolist() == [0, 0, 0, 0]


def test_one_failure_at_the_start_ends_nothing(tmp_path):
    result, _ = quietly(losses.Sometimes(tmp_path, "raise", [0]), mutagrad.executor())
    assert len(result.history["loss"]) == 4


def interrupted_once(is_hanging):
    """Ctrl-C, when an evaluation hangs."""

    def ask():
        while not is_hanging():
            time.sleep(0.05)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=ask, daemon=True).start()


def test_a_run_that_is_asked_to_end_does_not_wait_for_a_worker_that_hangs(tmp_path, monkeypatch):
    monkeypatch.setattr("mutagrad.run.evolve._PATIENCE", 0.2)
    interrupted_once((tmp_path / "12").exists)
    loss_fn = losses.Sometimes(tmp_path, "hang", [12])
    result = run(loss_fn, mutagrad.executor(1), checkpoint=tmp_path / "run")
    assert (result.stopped, len(result.history["loss"])) == ("interrupted", 2)
    again = run(loss_fn, mutagrad.executor(1), checkpoint=tmp_path / "run")
    assert (again.stopped, len(again.history["loss"])) == ("generations", 4)


def test_a_run_that_is_asked_to_end_does_not_wait_for_another_pool(monkeypatch):
    """In its first generation: there is nothing yet."""
    monkeypatch.setattr("mutagrad.run.evolve._PATIENCE", 0.2)
    begun, ended = threading.Event(), threading.Event()

    def loss_fn(params):
        begun.set()
        return float(ended.wait(60))

    interrupted_once(begun.is_set)
    with ThreadPoolExecutor(1) as threads:
        result = run(loss_fn, mutagrad.executor(threads))
        ended.set()
    assert (result.stopped, result.history) == ("interrupted", None)
