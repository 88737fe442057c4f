"""Any pytree: nested, empty leaves, mixed precision, one parameter; whatever the tree, the laws of a step hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mutagrad

FLOATS = ("float16", "bfloat16", "float32")
OTHERS = ("int32", "bool", "uint8")

shapes = st.lists(st.integers(0, 3), max_size=2).map(tuple)
floating = st.builds(lambda shape, dtype: jnp.full(shape, 0.5, dtype), shapes, st.sampled_from(FLOATS))
other = st.builds(lambda shape, dtype: jnp.ones(shape, dtype), shapes, st.sampled_from(OTHERS))
trees = st.recursive(
    floating | other | st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=4,
).map(lambda tree: {"always": jnp.ones(2), "tree": tree})


def loss_fn(params):
    leaves = [jnp.sum(leaf.astype(jnp.float32)) for leaf in jax.tree.leaves(params) if mutagrad.tree.is_floating(leaf)]
    return jnp.sum(jnp.stack(leaves))


@settings(max_examples=8)
@given(tree=trees, sigma=st.sampled_from([1e-6, 0.1, 1e6]))
def test_a_step_keeps_the_tree_and_moves_only_floating_leaves(tree, sigma):
    algorithm = mutagrad.comma(sigma, 2)
    state = algorithm.init(tree)
    new, info = jax.jit(lambda key, state: algorithm.step(key, state, loss_fn))(jax.random.key(0), state)
    assert jax.tree.structure(new.params) == jax.tree.structure(tree)
    for before, after in zip(jax.tree.leaves(tree), jax.tree.leaves(new.params), strict=True):
        assert before.dtype == after.dtype
        assert before.shape == after.shape
        if not mutagrad.tree.is_floating(before):
            assert jnp.array_equal(before, after)
    assert int(info.winner) in (0, 1) or sigma == 1e6  # float16 may overflow at σ = 10⁶, and then loses
    assert int(info.num_nonfinite) == 0 or sigma == 1e6


def test_float64_leaves_are_mutated_in_float64():
    with jax.enable_x64(True):
        algorithm = mutagrad.comma(1e-12, 3)
        state = algorithm.init({"a": jnp.ones(4, jnp.float64), "b": jnp.ones(4, jnp.float32)})
        new, _ = algorithm.step(jax.random.key(0), state, lambda p: jnp.sum(p["a"]) + jnp.sum(p["b"].astype(float)))
        assert new.params["a"].dtype == jnp.float64
        assert 0 < float(jnp.max(jnp.abs(new.params["a"] - 1))) < 1e-10
        assert jnp.array_equal(new.params["b"], jnp.ones(4, jnp.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_leaves_are_rounded_once(dtype):
    params = jnp.linspace(0.5, 2, 64).astype(dtype)
    algorithm = mutagrad.comma(0.05, 1)
    new, _ = algorithm.step(jax.random.key(0), algorithm.init(params), lambda x: jnp.sum(x.astype(jnp.float32)))
    mutation_key, _ = jax.random.split(jax.random.key(0))
    noise = mutagrad.mutation.gaussian().sample_fn(jax.random.fold_in(mutation_key, 0), params)
    assert noise.dtype == jnp.float32
    expected = (params.astype(jnp.float32) + jnp.float32(0.05) * noise).astype(dtype)
    np.testing.assert_array_equal(new.params.astype(jnp.float32), expected.astype(jnp.float32))


def test_one_parameter_converges():
    algorithm = mutagrad.adapt_sigma(mutagrad.greedy(1.0))
    result = mutagrad.evolve(
        jax.random.key(0), algorithm, jnp.asarray(5.0), lambda x: jnp.square(x - 2), 400, progress=False
    )
    assert abs(float(result.params) - 2) < 1e-2


def test_paired_differences_where_the_difference_of_means_has_lost_its_digits():
    # One example with a loss of 10⁷ gives the mean an ulp of 10⁻³; the others make differences of 10⁻⁵.
    slopes = jnp.linspace(0.5, 1.5, 1000)

    def losses(x):
        return jnp.where(jnp.arange(1000) == 0, 1e7, slopes * x)

    algorithm = mutagrad.elitist(1e-5, 8)
    state = algorithm.init(jnp.zeros(()))
    _, paired = algorithm.step(jax.random.key(0), state, losses)
    _, scalar = algorithm.step(jax.random.key(0), state, lambda x: jnp.mean(losses(x)))
    mutation_key, _ = jax.random.split(jax.random.key(0))
    mutants = [
        float(
            jnp.float32(1e-5)
            * mutagrad.mutation.gaussian().sample_fn(jax.random.fold_in(mutation_key, i), jnp.zeros(()))
        )
        for i in range(8)
    ]
    exact = np.array(mutants) * np.mean(np.asarray(slopes, np.float64)[1:]) * 999 / 1000
    np.testing.assert_allclose(paired.loss_differences, exact, rtol=1e-5)
    assert int(paired.winner) == int(np.argmin(exact))
    assert np.all(np.asarray(scalar.loss_differences) == 0)
