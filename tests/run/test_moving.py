"""A loss that moves: batches that are told the generation, the same in a compiled chunk, one by one, and across a stop."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mutagrad
from mutagrad.run.minibatches import takes_generation


def place(key, generation):
    return 0.01 * generation.astype(float) + 0.1 * jax.random.normal(key, (3,))


def distance(x, target):
    return jnp.sum((x - target) ** 2)


def test_the_batch_is_that_of_its_generation():
    """By hand, with the keys of the run; in one program; through Python; in two sittings."""
    key, algorithm = jax.random.key(4), mutagrad.comma(sigma=0.1, num_offspring=6)
    state = algorithm.init(jnp.zeros(3))
    for generation in range(20):
        step_key, batch_key = jax.random.split(jax.random.fold_in(key, generation))
        target = place(batch_key, jnp.asarray(generation))
        state, _ = algorithm.step(step_key, state, partial(distance, target=target))
    run = partial(mutagrad.evolve, key, algorithm, progress=False)
    inside = run(jnp.zeros(3), distance, 20, place)
    np.testing.assert_allclose(inside.params, state.params, rtol=1e-5)
    outside = run(jnp.zeros(3), lambda x, t: float(np.sum((x - t) ** 2)), 20, place, evaluation=mutagrad.executor())
    np.testing.assert_allclose(outside.params, state.params, rtol=1e-5)
    again = run(run(jnp.zeros(3), distance, 9, place), distance, 20, place)
    np.testing.assert_array_equal(again.params, inside.params)


@pytest.mark.parametrize(
    ("function", "is_moving"),
    [
        (place, True),
        (lambda key: key, False),
        (lambda key, generation=0: key, False),
        (lambda *anything: anything, False),
        (jax.random.normal, False),
        (min, False),
    ],
)
def test_whether_a_function_asks_for_the_generation(function, is_moving):
    assert takes_generation(function) == is_moving
