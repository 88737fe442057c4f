"""What a run says once when it starts."""

import jax
import jax.numpy as jnp
import pytest

import mutagrad

DATA = jnp.arange(40.0).reshape(20, 2)


def said(capsys, params, loss_fn, batches=None, mutation=None, generations=30, **options):
    algorithm = mutagrad.elitist(0.1, 4, **({} if mutation is None else {"mutation": mutation}))
    mutagrad.evolve(jax.random.key(0), algorithm, params, loss_fn, generations, batches, **options)
    return [line for line in capsys.readouterr().err.splitlines() if "note:" in line]


def of_mean(x, batch):
    return jnp.mean((x["w"][None] - batch) ** 2)


def per_example(x, batch):
    return jnp.mean((x["w"][None] - batch) ** 2, axis=1)


PARAMS = {"w": jnp.zeros(2), "steps": jnp.zeros((), jnp.int32), "on": jnp.zeros(3, bool), "key": jax.random.key(1)}


def test_integers_that_stay_are_named_once(capsys):
    lines = said(capsys, PARAMS, lambda x: jnp.sum(x["w"] ** 2))
    assert len(lines) == 1
    assert "not mutated: params['on'] (bool), params['steps'] (int32);" in lines[0]


@pytest.mark.parametrize(
    ("mutation", "named"),
    [
        (mutagrad.mutation.discrete({"w": True, "steps": range(10), "on": True, "key": False}), ""),
        (mutagrad.mutation.discrete({"w": True, "steps": False, "on": True, "key": False}), "params['steps'] (int32);"),
    ],
)
def test_integers_that_mutate_are_not_named(capsys, mutation, named):
    lines = said(capsys, PARAMS, lambda x: jnp.sum(x["w"] ** 2), mutation=mutation)
    assert [named in line for line in lines] == ([True] if named else [])


@pytest.mark.parametrize("source", ["minibatches", "function"])
def test_a_mean_loss_on_batches(capsys, source):
    batches = mutagrad.minibatches(DATA, 8)
    if source == "function":
        # Whoever draws a batch may draw random numbers with it: what it holds is not known.
        assert said(capsys, {"w": jnp.zeros(2)}, of_mean, lambda key: DATA[:8]) == []
        return
    lines = said(capsys, {"w": jnp.zeros(2)}, of_mean, batches)
    assert len(lines) == 1
    assert "one loss per example" in lines[0]


@pytest.mark.parametrize("batch_size", [8, 1, None])
def test_where_there_is_nothing_to_say(capsys, batch_size):
    batches = mutagrad.minibatches(DATA, batch_size)
    assert said(capsys, {"w": jnp.zeros(2)}, per_example, batches) == []
    if batch_size != 8:
        assert said(capsys, {"w": jnp.zeros(2)}, of_mean, batches) == []
    assert said(capsys, PARAMS, lambda x: jnp.sum(x["w"] ** 2), progress=False) == []


def test_a_run_that_is_done_says_so(capfd):
    """Nothing would be seen to happen; a run that goes on, and one without progress, say nothing."""
    algorithm, key = mutagrad.elitist(0.1, 4), jax.random.key(0)

    def run(start, number, progress=True):
        result = mutagrad.evolve(key, algorithm, start, loss_of, number, progress=progress)
        return result, capfd.readouterr().err

    result, said = run(jnp.ones(3), 3)
    assert "nothing to do" not in said
    assert "num_generations=3 counts them in" in run(result, 3)[1]
    assert "nothing to do" not in run(result, 4)[1]
    assert run(result, 3, progress=False)[1] == ""


def test_warnings_point_at_the_line_that_called(recwarn):
    mutagrad.evolve(
        jax.random.key(0), mutagrad.elitist(0.1, 4), jnp.ones(3), fails_later, 3, progress=False,
        evaluation=mutagrad.executor(),
    )  # fmt: skip
    assert [warning.filename for warning in recwarn] == [__file__] * 2


def loss_of(params):
    return jnp.sum(params**2)


def fails_later(params):
    if float(params[0]) != 1:
        raise RuntimeError("no")
    return 1.0
