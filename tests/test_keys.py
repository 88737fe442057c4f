"""Keys whose bits fuse give the numbers of JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mutagrad import keys

SHAPES = [(), (1,), (5,), (7, 3), (2, 3, 4), (0,), (70_001,)]


def data(key):
    return np.asarray(jax.random.key_data(key))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_bits(shape, dtype):
    key = jax.random.key(3)
    np.testing.assert_array_equal(jax.random.bits(keys.fast(key), shape, dtype), jax.random.bits(key, shape, dtype))


def test_bits_of_64():
    with jax.enable_x64(True):
        key = jax.random.key(2**40 + 3)
        np.testing.assert_array_equal(
            jax.random.bits(keys.fast(key), (9,), "uint64"), jax.random.bits(key, (9,), "uint64")
        )
        np.testing.assert_array_equal(jax.random.normal(keys.fast(key), (9,)), jax.random.normal(key, (9,)))


@pytest.mark.parametrize(
    "draw_fn",
    [
        jax.random.normal,
        jax.random.uniform,
        jax.random.rademacher,
        lambda key, shape: jax.random.gamma(key, 2.5, shape),
        lambda key, shape: jax.random.randint(key, shape, 0, 1000),
    ],
)
def test_distributions(draw_fn):
    key = jax.random.key(4)
    np.testing.assert_array_equal(draw_fn(keys.fast(key), (6, 5)), draw_fn(key, (6, 5)))


@pytest.mark.parametrize("number", [0, 1, 7, 2**31 - 1])
def test_fold_in(number):
    key = jax.random.key(5)
    np.testing.assert_array_equal(data(keys.fold_in(key, number)), data(jax.random.fold_in(key, number)))


@pytest.mark.parametrize("number", [1, 2, 3, 100])
def test_split(number):
    key = jax.random.key(6)
    np.testing.assert_array_equal(data(keys.split(key, number)), data(jax.random.split(key, number)))


def test_many_keys_at_once():
    several = jax.random.split(jax.random.key(7), 5)
    wanted = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, 1), (3,)))(several)
    found = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(keys.fast(key), 1), (3,)))(several)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(data(jax.vmap(keys.split)(several)), data(jax.vmap(jax.random.split)(several)))


def test_numbers_from_the_middle():
    key = jax.random.key(8)
    late = keys.starting_at(keys.fast(key), jnp.asarray(40))
    np.testing.assert_array_equal(jax.random.normal(late, (60,)), jax.random.normal(key, (100,))[40:])


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_other_kinds_are_left_alone(kind):
    key = jax.random.key(9, impl=kind)
    assert keys.fast(key) is key
    np.testing.assert_array_equal(data(keys.split(key)), data(jax.random.split(key)))
    np.testing.assert_array_equal(data(keys.fold_in(key, 3)), data(jax.random.fold_in(key, 3)))


def test_threefry_of_old():
    with jax.threefry_partitionable(False):
        key = jax.random.key(10)
        assert keys.fast(key) is key
        np.testing.assert_array_equal(data(keys.split(key, 3)), data(jax.random.split(key, 3)))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the compiler of a CPU")
def test_a_chain_of_keys_is_no_single_piece_of_code():
    def last(key):
        for _ in range(5):
            key = keys.fold_in(key, 3)
        return jax.random.normal(keys.fast(key), (9,))

    assert jax.jit(last).lower(jax.random.key(0)).compile().as_text().count(" call(") >= 4


def test_more_numbers_than_a_word_counts():
    """Their shape: the numbers are JAX's own, of counters of two words."""
    program = jax.make_jaxpr(lambda key: jax.random.bits(keys.fast(key), (keys.COUNTERS,), "uint8"))(jax.random.key(0))
    assert program.out_avals[0].shape == (2**32,)
