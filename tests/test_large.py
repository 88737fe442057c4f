"""Large models: what one generation holds beside the state."""

import weakref

import jax
import jax.numpy as jnp
import pytest

import mutagrad
from mutagrad.run import chunks

WIDTH, DEPTH = 256, 4


def loss(params):
    x = jnp.ones((1, WIDTH), params[0].dtype)
    for weight in params:
        x = jnp.tanh(x @ weight)
    return jnp.mean(x.astype(jnp.float32))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the order in which a CPU makes leaves")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_generation_holds_one_leaf_of_a_candidate(dtype):
    """In float32, in which 16-bit leaves are multiplied on a CPU; all leaves of a candidate at once would be four."""
    options = chunks._options()
    assert options is not None
    algorithm = mutagrad.elitist(0.1, 4, mutation=mutagrad.mutation.rademacher(), evaluation="mapped")
    state = jax.eval_shape(algorithm.init, [jnp.zeros((WIDTH, WIDTH), dtype)] * DEPTH)
    step = jax.jit(lambda key, state: algorithm.step(key, state, loss), donate_argnums=1)
    program = step.lower(jax.random.key(0), state).compile(compiler_options=options)
    assert program.memory_analysis().temp_size_in_bytes < 1.5 * 4 * WIDTH**2


def test_evolve_lets_go_of_the_params_that_it_started_from():
    held, is_gone = [jnp.ones(5)], []
    start = weakref.ref(held[0])

    def look(chunk):
        is_gone.append(start() is None)

    algorithm = mutagrad.elitist(0.1, 4)
    mutagrad.evolve(
        jax.random.key(0), algorithm, held.pop(), lambda x: jnp.sum(x**2), 3, observers=[look], progress=False
    )
    assert set(is_gone) == {True}
