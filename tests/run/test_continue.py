"""A run that is cut and goes on is the run that was never cut: state and whole history, bit for bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad

KEY = jax.random.key(0)
DATA = (jnp.arange(30.0).reshape(10, 3) / 30, jnp.arange(10.0) / 10)
ALGORITHM = mutagrad.adapt_sigma(mutagrad.elitist(0.1, 8), "success", target=0.2)
START = {"w": jnp.zeros(3)}
NUMBER, CUTS = 60, (1, 25, 60)


def squares(params, batch):
    inputs, targets = batch
    return jnp.square(jnp.sum(inputs * params["w"][None], axis=1) - targets)


def drawn(key):
    rows = jax.random.randint(key, (4,), 0, 10)
    return jax.tree.map(lambda leaf: leaf[rows], DATA)


def listed():
    """As many batches as there are generations, no two alike."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i % 7 : i % 7 + 3] + i / 100, DATA) for i in range(NUMBER)]


BATCHES = {
    "minibatches": mutagrad.minibatches(DATA, 4),
    "all the data": mutagrad.minibatches(DATA),
    "a function": drawn,
    "a list": listed(),
}


def evolved(number, batches, start=START, key=KEY, **options):
    return mutagrad.evolve(key, ALGORITHM, start, squares, number, batches, progress=False, **options)


@pytest.fixture(scope="module")
def whole():
    """One uninterrupted run for each kind of batches, made when it is asked for, serves all comparisons."""
    return functools.cache(lambda name: evolved(NUMBER, BATCHES[name]))


def assert_same(mine, theirs):
    assert jax.tree.structure(mine.state) == jax.tree.structure(theirs.state)
    for a, b in zip(jax.tree.leaves(mine.state), jax.tree.leaves(theirs.state), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert list(mine.history) == list(theirs.history)
    for name, column in theirs.history.items():
        assert len(column) == NUMBER
        np.testing.assert_array_equal(mine.history[name], column, err_msg=name)
    assert mine.num_evaluations == theirs.num_evaluations == NUMBER * 9


@pytest.mark.parametrize("name", BATCHES)
def test_a_result_goes_on(whole, name):
    result = START
    for number in CUTS:
        result = evolved(number, BATCHES[name], result)
        assert len(result.history["loss"]) == number
    assert_same(result, whole(name))


class Generations:
    """Counts the generations that a run makes itself, so that going on is told from starting over."""

    number = 0

    def __call__(self, chunk):
        self.number += chunk.num_generations


@pytest.mark.parametrize("name", ["minibatches", "a list"])
def test_a_checkpoint_goes_on(whole, name, tmp_path):
    before = 0
    for number in CUTS:
        made = Generations()
        result = evolved(number, BATCHES[name], checkpoint=tmp_path / "run", observers=[made])
        assert len(result.history["loss"]) == number
        assert made.number == number - before
        before = number
    assert_same(result, whole(name))
    # Nothing is left to do: the same result again.
    assert_same(evolved(NUMBER, BATCHES[name], checkpoint=tmp_path / "run"), whole(name))
    with pytest.raises(ValueError, match="^checkpoint: got .* saved by a run with another key"):
        evolved(NUMBER, BATCHES[name], key=jax.random.key(1), checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="^checkpoint: got .* where this run has"):
        evolved(NUMBER, BATCHES[name], {"w": jnp.zeros(3), "v": jnp.zeros(2)}, checkpoint=tmp_path / "run")


def test_a_raised_error_leaves_a_checkpoint_to_go_on_from(whole, tmp_path):
    def broken(chunk):
        if chunk.generation > 10:
            raise KeyError("disk")

    with pytest.raises(mutagrad.RunError, match="KeyError.*after generation"):
        evolved(NUMBER, BATCHES["minibatches"], checkpoint=tmp_path / "run", observers=[broken])
    made = Generations()
    result = evolved(NUMBER, BATCHES["minibatches"], checkpoint=tmp_path / "run", observers=[made])
    assert_same(result, whole("minibatches"))
    assert made.number < NUMBER


def test_an_iterator_is_refused_where_a_run_goes_on():
    first = evolved(5, iter(BATCHES["a list"]))
    assert first.stopped == "generations"
    with pytest.raises(
        ValueError, match="^batches: got an iterator for a run that goes on after 5 .*; pass an iterable"
    ) as caught:
        evolved(10, iter(BATCHES["a list"]), first)
    assert "\n" not in str(caught.value)


def test_an_iterable_that_ends_stops_the_run():
    result = evolved(NUMBER, BATCHES["a list"][:20])
    assert result.stopped == "batches"
    assert int(result.state.generation) == len(result.history["loss"]) == 20
    assert evolved(NUMBER, BATCHES["a list"], result).stopped == "generations"


def test_other_records_than_before_are_refused_or_kept_apart():
    first = evolved(5, BATCHES["minibatches"])
    with pytest.raises(ValueError, match="record") as caught:
        evolved(10, BATCHES["minibatches"], first, record=lambda state, info: info.parent_loss)
    assert "\n" not in str(caught.value)


def test_the_callers_result_survives():
    first = evolved(5, BATCHES["minibatches"])
    before = [np.array(leaf) for leaf in jax.tree.leaves((first.state, first.history))]
    evolved(40, BATCHES["minibatches"], first)
    for a, b in zip(jax.tree.leaves((first.state, first.history)), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_population_goes_on():
    algorithm = mutagrad.truncation(0.1, 8, 3)

    def run(number, start=START):
        return mutagrad.evolve(KEY, algorithm, start, squares, number, BATCHES["minibatches"], progress=False)

    cut, uncut = run(30, run(11)), run(30)
    np.testing.assert_array_equal(cut.state.parents["w"], uncut.state.parents["w"])
    np.testing.assert_array_equal(cut.history["loss"], uncut.history["loss"])


def test_evaluations_are_those_of_the_checkpoint_that_is_found(tmp_path):
    algorithm, key = mutagrad.elitist(0.1, 4), jax.random.key(0)

    def run(number, start, **options):
        return mutagrad.evolve(key, algorithm, start, lambda x: jnp.sum(x**2), number, progress=False, **options)

    run(50, jnp.ones(3), checkpoint=tmp_path / "saved")
    short = run(10, jnp.ones(3))
    made = Generations()
    assert run(60, short, checkpoint=tmp_path / "saved", observers=[made]).num_evaluations == 60 * 5
    assert made.number == 10


def test_leaves_without_entries_are_saved_and_found_again(tmp_path):
    algorithm, start = mutagrad.elitist(0.1, 4), {"a": jnp.ones(3), "z": jnp.zeros((0, 3))}

    def run(number, **options):
        return mutagrad.evolve(
            jax.random.key(0), algorithm, start, lambda p: jnp.sum(p["a"] ** 2), number, progress=False, **options
        )

    run(4, checkpoint=tmp_path / "saved")
    made = Generations()
    again = run(9, checkpoint=tmp_path / "saved", observers=[made])
    assert made.number == 5
    np.testing.assert_array_equal(again.params["a"], run(9).params["a"])
    assert again.params["z"].shape == (0, 3)


def test_a_save_that_fails_loses_nothing(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr("mutagrad.run.checkpoint.Checkpoints.save", full)
    closed = []

    class Watching:
        def __call__(self, chunk):
            return None

        def close(self):
            closed.append(True)

    with pytest.raises(
        mutagrad.RunError, match=r"cannot be written \(.*no space left\) when the run had ended"
    ) as caught:
        evolved(20, BATCHES["all the data"], checkpoint=tmp_path / "saved", observers=[Watching()])
    assert caught.value.result.history["loss"].shape == (20,)
    assert closed == [True]

    def broken(chunk):
        if chunk.generation > 5:
            raise KeyError("broken")

    with pytest.raises(mutagrad.RunError, match="KeyError.*no space left.* when its observers were closed"):
        evolved(20, BATCHES["all the data"], checkpoint=tmp_path / "other", observers=[broken])


def test_records_of_nothing_go_on_and_those_of_another_shape_are_refused():
    algorithm = mutagrad.elitist(0.1, 4)

    def run(number, start, record):
        return mutagrad.evolve(
            jax.random.key(0), algorithm, start, lambda x: jnp.sum(x**2), number, record=record, progress=False
        )

    assert run(9, run(5, jnp.ones(3), lambda state, info: {}), lambda state, info: {}).history == {}
    past = run(5, jnp.ones(3), lambda state, info: {"a": state.params})
    with pytest.raises(ValueError, match=r"record\['a'\]: got shape \(4,\) where the history .* has \(3,\)"):
        run(9, past, lambda state, info: {"a": jnp.zeros(4)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_in_x64_mode_a_run_goes_on_with_losses_of_either_dtype(tmp_path, dtype):
    """And a history of another dtype is refused still."""

    def run(number, **options):
        return mutagrad.evolve(
            KEY,
            mutagrad.elitist(0.1, 4),
            np.ones(3, dtype),
            lambda x: np.square(x).sum().astype(dtype),
            number,
            evaluation=mutagrad.executor(),
            checkpoint=tmp_path,
            progress=False,
            **options,
        )

    with jax.enable_x64(True):
        run(2)
        losses = run(4).history["best_loss"]
        assert (losses.dtype, len(losses)) == (dtype, 4)
        with pytest.raises(ValueError, match=r"record.*: got dtype int32 where the history .* has float"):
            run(5, record=lambda *given: mutagrad.default_record(*given) | {"best_loss": jnp.int32(0)})
