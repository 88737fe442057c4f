"""What is refused where it enters, in one line; and what ends a run with everything kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad import mutation as density
from mutagrad import selection

KEY = jax.random.key(0)
ALGORITHM = mutagrad.elitist(0.1, 4)


def loss_fn(x):
    return jnp.sum(jnp.square(x))


def evolved(number=5, algorithm=ALGORITHM, start=None, loss_fn=loss_fn, batches=None, **options):
    start = jnp.ones(3) if start is None else start
    return mutagrad.evolve(KEY, algorithm, start, loss_fn, number, batches, progress=False, **options)


def of_rule(select_fn):
    return mutagrad.mutation_selection(density.gaussian(), select_fn, 4, sigma=0.1)


REFUSED = {
    "a string as algorithm": (lambda: evolved(algorithm="elitist"), "algorithm: got 'elitist'; pass an algorithm"),
    "a function as algorithm": (lambda: evolved(algorithm=mutagrad.elitist), "algorithm: got .*; pass an algorithm"),
    "a string to adapt": (lambda: mutagrad.adapt_sigma("elitist"), "algorithm: got 'elitist'"),
    "a string to schedule": (lambda: mutagrad.schedule_sigma("elitist", lambda t: 0.1), "algorithm: got 'elitist'"),
    "a string as optimiser": (lambda: mutagrad.as_gradient_transformation("comma", KEY), "algorithm: got 'comma'"),
    "a string as mutation": (
        lambda: mutagrad.elitist(0.1, 4, mutation="gaussian"),
        "mutation: got 'gaussian'; pass one",
    ),
    "a class as mutation": (lambda: mutagrad.elitist(0.1, 4, mutation=mutagrad.Mutation), "mutation: got .*; pass one"),
    "a maker as mutation": (lambda: mutagrad.elitist(0.1, 4, mutation=density.gaussian), "mutation: got .*; pass one"),
    "a maker as selection": (
        lambda: mutagrad.mutation_selection(density.gaussian(), selection.comma, 4),
        "selection: got .*; pass one",
    ),
    "a rule as mutation": (
        lambda: mutagrad.elitist(0.1, 4, mutation=selection.comma()),
        "mutation: got comma; pass one",
    ),
    "a string as selection": (
        lambda: mutagrad.mutation_selection(density.gaussian(), "comma", 4),
        "selection: got 'comma'; pass one",
    ),
    "a Result of a wrapper for what it wraps": (
        lambda: evolved(9, start=evolved(algorithm=mutagrad.adapt_sigma(ALGORITHM))),
        "params: got the Result of another algorithm",
    ),
    "a Result of an algorithm for its wrapper": (
        lambda: evolved(9, algorithm=mutagrad.adapt_sigma(ALGORITHM), start=evolved()),
        "params: got the Result of another algorithm",
    ),
    "data as a tuple": (
        lambda: evolved(loss_fn=lambda x, batch: loss_fn(x), batches=(np.ones(4), np.ones(4))),
        "batches: got a tuple",
    ),
    "a file as checkpoint": (lambda: evolved(checkpoint=__file__), "checkpoint: got .*, which is a file"),
    "an index that is a float": (
        lambda: evolved(algorithm=of_rule(lambda key, losses, parents: jnp.float32(1))),
        "select_fn: got float32 back; return an index",
    ),
    "ancestors that are floats": (
        lambda: evolved(
            algorithm=of_rule(lambda key, losses, parents: mutagrad.Descent(jnp.zeros((1, 1)), jnp.ones((1, 1))))
        ),
        "select_fn: got ancestors of float32 back",
    ),
    "noise of another shape": (
        lambda: evolved(algorithm=mutagrad.elitist(0.1, 4, mutation=mutagrad.Mutation(lambda key, x: jnp.ones(1)))),
        r"mutation: got noise of shape \(1,\) for params of shape \(3,\)",
    ),
    "σ adapted twice": (
        lambda: mutagrad.adapt_sigma(mutagrad.adapt_sigma(ALGORITHM)),
        "algorithm: got one whose σ is adapted or scheduled already",
    ),
    "σ scheduled and adapted": (
        lambda: mutagrad.adapt_sigma(mutagrad.schedule_sigma(ALGORITHM, lambda t: 0.1)),
        "algorithm: got one whose σ is adapted or scheduled already",
    ),
    "σ too small": (lambda: mutagrad.elitist(1e-50, 4), "sigma: got 1e-50; pass a number from"),
    "σ too large": (lambda: mutagrad.elitist(1e50, 4), r"sigma: got 1e\+50; pass a number from"),
    "σ of an array": (lambda: mutagrad.elitist(np.ones(2), 4), "sigma: got .*; pass one number"),
    "a loss without arguments": (
        lambda: evolved(loss_fn=lambda: 0.0),
        r"loss_fn: got one that cannot be called as loss_fn\(params\)",
    ),
    "a loss of a batch without batches": (
        lambda: evolved(loss_fn=lambda x, batch: x),
        r"loss_fn: got one .* as loss_fn\(params\): .*needs batches=",
    ),
    "a loss without a batch": (
        lambda: evolved(batches=mutagrad.minibatches(jnp.ones(4), 2)),
        r"loss_fn: got one that cannot be called as loss_fn\(params, batch\)",
    ),
    "no loss": (lambda: evolved(loss_fn=3.0), "loss_fn: got 3.0; pass a function"),
    "a string as batches": (lambda: evolved(loss_fn=lambda x, b: x, batches="mnist"), "batches: got 'mnist'"),
    "a number as batches": (lambda: evolved(loss_fn=lambda x, b: x, batches=3), "batches: got 3"),
    "a string as record": (lambda: evolved(record="loss"), "record: got 'loss'; pass a function"),
    "a string as observer": (lambda: evolved(observers=["x"]), "observers: got"),
    "one observer": (lambda: evolved(observers=lambda chunk: None), "observers: got"),
    "no generations": (lambda: evolved(0), "num_generations: got 0"),
    "a part of a generation": (lambda: evolved(1.5), "num_generations: got 1.5"),
    "evaluation": (lambda: evolved(evaluation="fast"), "evaluation: got 'fast'; pass 'auto'"),
    "a plateau of nothing": (lambda: mutagrad.stop_on_plateau(0), "num_generations: got 0"),
    "no seconds": (lambda: mutagrad.stop_after(0), "seconds: got 0"),
    "no parents": (lambda: mutagrad.parents([]), "parents: got none"),
    "parents unlike": (lambda: mutagrad.parents([jnp.ones(2), jnp.ones(3)]), "parents: got trees of different"),
    "parents of other structure": (lambda: mutagrad.parents([jnp.ones(2), {"a": jnp.ones(2)}]), "parents: got trees"),
    "too many parents": (
        lambda: ALGORITHM.init(mutagrad.parents([jnp.ones(2)] * 2)),
        "params: got 2 parents for an algorithm with 1",
    ),
    "too few parents": (
        lambda: mutagrad.truncation(0.1, 8, 3).init(mutagrad.parents([jnp.ones(2)] * 2)),
        "params: got 2 parents for an algorithm with 3",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    build, words = REFUSED[name]
    with pytest.raises(ValueError, match=f"^{words}") as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("evaluation", ["vectorized", "mapped", 2])
@pytest.mark.parametrize("build", [mutagrad.elitist, mutagrad.weighted_recombination])
def test_leaves_of_no_size_work(build, evaluation):
    start = {"empty": jnp.zeros((0, 3)), "w": jnp.ones(4), "none": jnp.zeros(0, jnp.float16)}
    result = evolved(30, build(0.1, 4, evaluation=evaluation), start, lambda p: jnp.sum(p["w"] ** 2))
    assert result.params["empty"].shape == (0, 3)
    assert result.params["none"].dtype == jnp.float16
    assert float(jnp.sum(result.params["w"] ** 2)) < 4


def test_leaves_of_no_size_work_with_two_parents():
    start = {"empty": jnp.zeros((0, 3)), "w": jnp.ones(4)}
    for inheritance in ("parameter", "leaf"):
        rule = selection.crossover(2, inheritance)
        algorithm = mutagrad.mutation_selection(density.gaussian(), rule, 4, sigma=0.1)
        assert evolved(10, algorithm, start, lambda p: jnp.sum(p["w"] ** 2)).params["empty"].shape == (0, 3)


RECORDS = {
    "a scalar": lambda state, info: info.parent_loss,
    "a Python number": lambda state, info: 1.5,
    "a vector named loss": lambda state, info: {"loss": info.losses, "sigma": info.losses},
    "a matrix": lambda state, info: jnp.outer(info.losses, info.losses),
    "nested": lambda state, info: {"a": (info.losses, [state.params]), "n": state.generation},
    "nothing": lambda state, info: {},
    "none": lambda state, info: None,
    "empty": lambda state, info: jnp.zeros((0, 2)),
    "text as a name": lambda state, info: {"a/b ['c']": info.parent_loss},
}


@pytest.mark.parametrize("progress", [False, True])
@pytest.mark.parametrize("name", RECORDS)
def test_a_record_of_any_shape(name, progress):
    result = mutagrad.evolve(KEY, ALGORITHM, jnp.ones(3), loss_fn, 10, record=RECORDS[name], progress=progress)
    assert int(result.state.generation) == 10
    for leaf in jax.tree.leaves(result.history):
        assert leaf.shape[0] == 10
    assert "10 generations" in repr(result)


@pytest.mark.parametrize("name", ["a vector named loss", "nested", "text as a name", "a scalar"])
def test_a_record_of_any_shape_goes_on_from_a_checkpoint(name, tmp_path):
    for number in (3, 10):
        result = evolved(number, record=RECORDS[name], checkpoint=tmp_path / "run")
    uncut = evolved(10, record=RECORDS[name])
    assert jax.tree.structure(result.history) == jax.tree.structure(uncut.history)
    jax.tree.map(np.testing.assert_array_equal, result.history, uncut.history)


def bad_batches():
    yield from [np.ones(2, np.float32)] * 7
    raise OSError("disk\nfull")


def raising_observer(chunk):
    if chunk.generation >= 7:
        raise RuntimeError("no connection")


def test_an_iterable_that_raises_keeps_the_run():
    class Batches:
        def __iter__(self):
            return bad_batches()

    with pytest.raises(mutagrad.RunError, match="after generation .*; error.result holds the run") as caught:
        evolved(50, loss_fn=lambda x, batch: jnp.sum(x**2) + jnp.sum(batch), batches=Batches())
    assert "\n" not in str(caught.value)
    kept = caught.value.result
    assert isinstance(caught.value.__cause__, OSError)
    assert int(kept.state.generation) == len(kept.history["loss"]) == 7


def test_a_batch_of_another_shape_keeps_the_run():
    batches = [np.ones(2, np.float32)] * 7 + [np.ones((3, 2), np.float32)]

    def loss(x, batch):
        return jnp.sum(x**2) + batch  # a vector, and then a matrix

    with pytest.raises(mutagrad.RunError, match="loss_fn: got shape") as caught:
        evolved(50, loss_fn=loss, batches=batches)
    assert len(caught.value.result.history["loss"]) == 7


def test_a_loss_that_raises_stop_iteration_does_not_end_the_batches():
    def loss(x, batch):
        if batch.shape == (3,):
            next(iter(()))
        return jnp.sum(x**2) + jnp.sum(batch)

    batches = [np.ones(2, np.float32)] * 7 + [np.ones(3, np.float32)]
    with pytest.raises(mutagrad.RunError, match="StopIteration after generation 7") as caught:
        evolved(50, loss_fn=loss, batches=batches)
    assert len(caught.value.result.history["loss"]) == 7


def test_a_loss_that_raises_keeps_the_run():
    calls = []

    def raising(x):
        def check(values):
            calls.append(1)
            if len(calls) > 40:
                raise FloatingPointError("simulator")
            return values

        return jnp.sum(jax.pure_callback(check, jax.ShapeDtypeStruct(x.shape, x.dtype), x) ** 2)

    with pytest.raises(mutagrad.RunError, match="; error.result holds the run") as caught:
        evolved(1000, mutagrad.elitist(0.1, 4, evaluation="mapped"), loss_fn=raising)
    assert "\n" not in str(caught.value)
    kept = caught.value.result
    assert int(kept.state.generation) == len(kept.history["loss"]) > 0
    assert np.all(np.isfinite(kept.params))


def test_an_observer_that_raises_keeps_the_run():
    with pytest.raises(mutagrad.RunError, match="RuntimeError: no connection after generation") as caught:
        evolved(10**6, observers=[raising_observer])
    kept = caught.value.result
    assert kept.stopped == "error"
    assert int(kept.state.generation) == len(kept.history["loss"]) >= 7


def test_an_error_before_anything_happened_is_itself():
    def record(state, info):
        raise KeyError("no such field")

    with pytest.raises(KeyError, match="no such field"):
        evolved(record=record)


def test_an_observer_that_returns_something_else_than_a_text_ends_the_run_with_everything_kept():
    with pytest.raises(mutagrad.RunError, match="observers: got .False. back; return a text") as caught:
        evolved(observers=[lambda chunk: False])
    assert len(caught.value.result.history["loss"]) == int(caught.value.result.state.generation) > 0
