"""evolve: same key, same run; batches, records, checkpoints; and what it refuses."""

import os
import pickle
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

pytestmark = pytest.mark.permissive  # the losses are a user's

DATA = (jnp.arange(30.0).reshape(10, 3) / 30, jnp.arange(10.0) / 10)
ALGORITHM = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 8))
"""One for all runs, which so share their compiled programs."""


def squares(params, batch):
    inputs, targets = batch
    return jnp.square(inputs @ params["w"] - targets)


def run(num_generations=40, key=0, **arguments):
    arguments.setdefault("batches", mutagrad.minibatches(DATA, 4))
    return mutagrad.evolve(
        jax.random.key(key), ALGORITHM, {"w": jnp.zeros(3)}, squares, num_generations, progress=False, **arguments
    )


def same(a, b):
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_same_key_same_run_and_another_key_another():
    first, second = run(), run()
    assert same(first.state, second.state)
    assert same(first.history, second.history)
    assert not same(first.params, run(key=1).params)


def test_history_has_one_row_per_generation_whatever_the_chunks():
    result = run(123)
    assert {len(values) for values in result.history.values()} == {123}
    assert int(result.state.generation) == 123
    assert result.stopped == "generations"
    # The parent's loss is that of the recorded generation: the run is its own prefix.
    np.testing.assert_array_equal(result.history["loss"][:40], run(40).history["loss"])


def test_compiles_once():
    traces = []

    def loss_fn(params, batch):
        traces.append(1)
        return squares(params, batch)

    algorithm = mutagrad.elitist(0.1, 8)
    counts = []
    for num_generations in (1, 300):
        traces.clear()
        mutagrad.evolve(
            jax.random.key(0),
            algorithm,
            {"w": jnp.zeros(3)},
            loss_fn,
            num_generations,
            mutagrad.minibatches(DATA),
            progress=False,
        )
        counts.append(len(traces))
    assert counts[0] == counts[1]


def test_evolve_is_the_loop_over_step():
    algorithm = mutagrad.elitist(0.1, 8)

    def loss_fn(x):
        return jnp.sum(jnp.square(x))

    result = mutagrad.evolve(jax.random.key(3), algorithm, jnp.ones(4), loss_fn, 25, progress=False)
    state = algorithm.init(jnp.ones(4))
    step = jax.jit(lambda key, state: algorithm.step(key, state, loss_fn))
    for generation in range(25):
        step_key, _ = jax.random.split(jax.random.fold_in(jax.random.key(3), generation))
        state, _ = step(step_key, state)
    np.testing.assert_allclose(result.params, state.params, rtol=1e-6)


def test_batches_as_a_function_and_as_an_iterable():
    drawn = run(30, batches=lambda key: jax.tree.map(lambda leaf: leaf[:4], DATA))
    listed = run(30, batches=[jax.tree.map(lambda leaf: leaf[:4], DATA)] * 20)
    assert drawn.stopped == "generations"
    assert listed.stopped == "batches"
    assert int(listed.state.generation) == 20
    np.testing.assert_allclose(listed.history["loss"], drawn.history["loss"][:20], rtol=1e-5)


def test_minibatches_are_uniform_draws():
    batches = mutagrad.minibatches(jnp.arange(10), 1000)
    counts = np.bincount(np.asarray(batches.draw(jax.random.key(0), batches.data)), minlength=10)
    # χ² with 9 degrees of freedom exceeds 27.9 once in a thousand.
    assert np.sum((counts - 100) ** 2 / 100) < 27.9


def test_record_chooses_what_is_kept():
    result = run(10, record=lambda state, info: {"w": state.params["w"], "losses": info.losses})
    assert result.history["w"].shape == (10, 3)
    assert result.history["losses"].shape == (10, 8)
    np.testing.assert_array_equal(result.history["w"][-1], result.params["w"])


def test_checkpoint_goes_on_bit_for_bit(tmp_path):
    whole = run(60)
    run(25, checkpoint=tmp_path / "c")
    continued = run(60, checkpoint=tmp_path / "c")
    assert same(continued.state, whole.state)
    assert len(continued.history["loss"]) == 60
    np.testing.assert_array_equal(continued.history["loss"], whole.history["loss"])
    with pytest.raises(ValueError, match="another key"):
        run(60, key=1, checkpoint=tmp_path / "c")


def test_callers_arrays_survive():
    params = {"w": jnp.zeros(3)}
    mutagrad.evolve(jax.random.key(0), mutagrad.greedy(0.1), params, lambda p: jnp.sum(p["w"] ** 2), 5, progress=False)
    assert params["w"].sum() == 0


@pytest.mark.parametrize(
    ("loss_fn", "words"),
    [
        (lambda x: jnp.ones((2, 2)) * x[0], r"loss_fn: got shape \(2, 2\)"),
        (lambda x: jnp.int32(1), "loss_fn: got int32"),
        (lambda x: jnp.zeros(0), "loss_fn: got no losses"),
        (lambda x: x[0] * jnp.nan, "loss_fn: got a loss that is not finite at the start"),
        (lambda x: x[0] + jnp.inf, "loss_fn: got a loss that is not finite at the start"),
        (lambda x: "loss", "loss_fn: got a str back"),
    ],
)
def test_bad_losses(loss_fn, words):
    with pytest.raises(ValueError, match=words) as caught:
        mutagrad.evolve(jax.random.key(0), mutagrad.elitist(0.1, 4), jnp.ones(2), loss_fn, 5, progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"n": jnp.arange(3)}, "no floating leaf"),
        ({}, "no floating leaf"),
        ({"w": jnp.array([1.0, jnp.nan])}, r"params\['w'\]: got 1 of 2 values NaN"),
        ({"f": print}, r"params\['f'\]: got builtin_function"),
        ({"z": jnp.ones(2, complex)}, r"params\['z'\]: got complex64"),
    ],
)
def test_bad_params(params, words):
    with pytest.raises(ValueError, match=words) as caught:
        mutagrad.elitist(0.1, 4).init(params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: mutagrad.greedy(0.0), "sigma: got 0.0"),
        (lambda: mutagrad.greedy(float("nan")), "sigma: got nan"),
        (lambda: mutagrad.greedy("big"), "sigma: got 'big'"),
        (lambda: mutagrad.metropolis(0.1, -1.0), "beta: got -1.0"),
        (lambda: mutagrad.metropolis(0.1, float("nan")), "beta: got nan"),
        (lambda: mutagrad.elitist(0.1, 0), "num_offspring: got 0"),
        (lambda: mutagrad.elitist(0.1, 2.5), "num_offspring: got 2.5"),
        (lambda: mutagrad.truncation(0.1, 4, 5), "num_parents: got 5"),
        (lambda: mutagrad.truncation(0.1, 4, 0), "num_parents: got 0"),
        (lambda: mutagrad.fixation(0.1, 1.0, 0), "population_size: got 0"),
        (lambda: mutagrad.fixation(0.1, 1.0, 5, "fisher"), "model: got 'fisher'"),
        (lambda: mutagrad.elitist(0.1, 4, evaluation="fast"), "evaluation: got 'fast'"),
        (lambda: mutagrad.minibatches(jnp.zeros((3, 2)), 0), "batch_size: got 0"),
        (lambda: mutagrad.minibatches((jnp.zeros(3), jnp.zeros(2)), 1), r"data: got arrays of \[2, 3\] examples"),
        (lambda: mutagrad.minibatches(jnp.zeros((0, 2)), 1), "data: got arrays"),
        (lambda: run(0), "num_generations: got 0"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


SCRIPT = """
import jax, jax.numpy as jnp, mutagrad, numpy as np, sys
algorithm = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 8))
result = mutagrad.evolve(jax.random.key(0), algorithm, {"w": jnp.ones((3, 4))}, lambda p: jnp.sum(p["w"] ** 4), 50,
                         progress=False)
sys.stdout.write(np.asarray(result.params["w"]).tobytes().hex())
"""


def test_two_processes_agree_to_the_bit():
    outputs = {
        subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) == 3 * 4 * 8


def test_ctrl_c_returns_what_there_is():
    def record(state, info):
        jax.debug.callback(lambda generation: generation == 3 and os.kill(os.getpid(), signal.SIGINT), state.generation)
        return info.parent_loss

    result = mutagrad.evolve(
        jax.random.key(0),
        mutagrad.elitist(0.1, 4),
        jnp.ones(3),
        lambda x: jnp.sum(x**2),
        10**7,
        record=record,
        progress=False,
    )
    assert result.stopped == "interrupted"
    assert len(result.history) == int(result.state.generation) < 10**7
    assert np.all(np.isfinite(result.params))


def test_cached_parent_loss_with_data_that_never_change():
    cached = mutagrad.elitist(0.1, 8, reevaluate_parent=False)
    arguments = (jax.random.key(0), {"w": jnp.zeros(3)}, squares, 30)
    key, params, loss_fn, number = arguments
    results = [
        mutagrad.evolve(key, algorithm, params, loss_fn, number, mutagrad.minibatches(DATA), progress=False)
        for algorithm in (cached, mutagrad.elitist(0.1, 8))
    ]
    np.testing.assert_allclose(results[0].params["w"], results[1].params["w"], rtol=1e-5)
    changing, words = mutagrad.minibatches(DATA, 4), "reevaluate_parent: got False with batches that change"
    for start in (params, results[0]):
        with pytest.raises(ValueError, match=words):
            mutagrad.evolve(key, cached, start, loss_fn, 60, changing, progress=False)
    with pytest.raises(ValueError, match=words):
        next(mutagrad.generations(key, cached, results[0].state, loss_fn, 60, batches=changing))


@pytest.mark.parametrize("wrapped", [lambda algorithm: algorithm, mutagrad.adapt_sigma])
def test_a_kept_loss_is_not_believed_by_an_algorithm_that_evaluates_its_parent(wrapped):
    """It is of another loss here: the parent's loss of the first generation is that of the params, by the new loss."""

    def kept_of(loss_fn, start, reevaluate):
        algorithm = wrapped(mutagrad.elitist(0.1, 4, reevaluate_parent=reevaluate))
        return mutagrad.evolve(jax.random.key(0), algorithm, start, loss_fn, 6 if reevaluate else 5, progress=False)

    first = kept_of(lambda x: jnp.sum(x**2), jnp.ones(3), False)
    then = kept_of(lambda x: jnp.sum(x**2) + 10, first, True)
    np.testing.assert_allclose(then.history["loss"][5], np.sum(np.square(first.params)) + 10, rtol=1e-6)
    assert then.num_evaluations == first.num_evaluations + 5


def test_a_batch_of_more_examples_than_a_product_of_int32_allows():
    """70,000 per-example losses: their number times itself is no int32. The sampling variance is that of NumPy."""
    targets = jax.random.normal(jax.random.key(0), (70_000,))
    algorithm = mutagrad.elitist(sigma=0.1, num_offspring=4)
    _, info = algorithm.step(jax.random.key(1), algorithm.init(jnp.ones(())), lambda x: (x - targets) ** 2)
    assert bool(jnp.all(info.loss_difference_variances > 0))
    # ℓ(x + ε) − ℓ(x) = ε(2x + ε − 2y): its variance over y is 4ε² Var(y), and the loss differences tell ε.
    mean, variance = float(targets.mean()), float(targets.var(ddof=1))
    for change, found in zip(info.loss_differences, info.loss_difference_variances, strict=True):
        roots = np.roots([1.0, 2 * (1 - mean), -float(change)])
        epsilon = roots[np.argmin(np.abs(roots))]
        np.testing.assert_allclose(float(found), 4 * epsilon**2 * variance / 70_000, rtol=1e-3)


class Closing:
    """An observer whose end takes so long that the user presses Ctrl-C again."""

    def __init__(self, *numbers):
        self.numbers, self.closed = numbers, 0

    def __call__(self, chunk):
        return None

    def close(self):
        self.closed += 1
        for number in self.numbers:
            signal.raise_signal(number)
            time.sleep(0.6)  # later than one that is passed on twice


def ended(number=8, **options):
    return mutagrad.evolve(
        jax.random.key(0),
        mutagrad.elitist(0.1, 4),
        jnp.ones(3),
        lambda x: jnp.sum(x**2),
        number,
        progress=False,
        **options,
    )


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGHUP, "hung up")])
@pytest.mark.filterwarnings("ignore:evolve. SIGHUP")
def test_a_signal_while_a_run_ends_loses_nothing(tmp_path, number, reason):
    slow, other = Closing(number), Closing()
    result = ended(checkpoint=tmp_path, observers=[slow, other])
    assert (result.stopped, len(result.history["loss"]), other.closed) == (reason, 8, 1)
    assert (tmp_path / "8.json").exists()


def test_a_second_ctrl_c_while_a_run_ends_comes_when_all_is_saved(tmp_path):
    slow, other = Closing(signal.SIGINT, signal.SIGINT), Closing()
    with pytest.raises(KeyboardInterrupt):
        ended(checkpoint=tmp_path, observers=[slow, other])
    assert (slow.closed, other.closed) == (1, 1)
    assert (tmp_path / "8.json").exists()
    assert len(ended(checkpoint=tmp_path).history["loss"]) == 8


def test_memory_that_is_too_small_for_the_history_costs_no_state(tmp_path, monkeypatch):
    def none_left(own):
        raise MemoryError

    other = Closing()
    with monkeypatch.context() as small:
        small.setattr("mutagrad.run.saved.Saved.records", property(none_left))
        with pytest.raises(MemoryError):
            ended(checkpoint=tmp_path, observers=[other])
    assert other.closed == 1
    assert len(ended(checkpoint=tmp_path).history["loss"]) == 8


def test_an_error_of_a_run_is_pickled_with_its_result():
    def broken(chunk):
        raise KeyError("broken")

    with pytest.raises(mutagrad.RunError) as caught:
        ended(observers=[broken])
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (mutagrad.RunError, str(caught.value))
    assert same(again.result.params, caught.value.result.params)


def test_observers_may_come_from_a_generator():
    seen = []
    ended(observers=(seen.append for _ in range(1)))
    assert seen
