"""Noise of a pytree: the i-th number of a leaf depends on the key of the leaf and on i alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutagrad import noise

KEY = jax.random.key(11)
BLOCK = 2**18


def plainly(draw_fn, leaves, block=BLOCK):
    """Leaf by leaf, block by block, with JAX's own keys."""
    drawn = []
    for position, leaf in enumerate(leaves):
        key, size = jax.random.fold_in(KEY, position), leaf.size
        if size > block:
            blocks = [draw_fn(jax.random.fold_in(key, number), (block,)) for number in range(-(-size // block))]
            drawn.append(np.concatenate(blocks)[:size].reshape(leaf.shape))
        else:
            drawn.append(np.asarray(draw_fn(key, leaf.shape)))
    return drawn


def check(leaves, draw_fn=jax.random.normal):
    found = jax.jit(lambda key: noise.draw_with_keys(draw_fn, key, leaves))(KEY)
    for own, wanted in zip(found, plainly(draw_fn, leaves), strict=True):
        np.testing.assert_array_equal(own, wanted)


@pytest.mark.parametrize("draw_fn", [jax.random.normal, jax.random.rademacher])
@pytest.mark.parametrize("number", [3, 40])
def test_leaves_of_one_size_and_of_many(number, draw_fn):
    check([jnp.zeros((8, 8)) for _ in range(number)], draw_fn)
    check([jnp.zeros((3 + i, 2 + i % 7)) for i in range(number)], draw_fn)


def test_a_large_leaf_among_few():
    check([jnp.zeros(BLOCK + 5), jnp.zeros(7), jnp.zeros((3, BLOCK))])


def test_a_large_leaf_with_keys_of_another_kind():
    key = jax.random.fold_in(jax.random.key(1, impl="rbg"), 0)
    blocks = [jax.random.normal(jax.random.fold_in(key, block), (BLOCK,)) for block in range(2)]
    found = jax.jit(lambda key: noise.draw(jax.random.normal, key, (BLOCK + 5,), jnp.float32))(key)
    np.testing.assert_array_equal(found, np.concatenate(blocks)[: BLOCK + 5])


def test_large_leaves_among_many_small_ones():
    check([jnp.zeros(BLOCK + 5), *(jnp.zeros(7) for _ in range(20)), jnp.zeros((2, BLOCK))])


@settings(max_examples=3, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), min_size=17, max_size=24))
def test_any_shapes(shapes):
    check([jnp.zeros(shape) for shape in shapes])


def test_groups_that_are_drawn_one_after_another(monkeypatch):
    monkeypatch.setattr(noise, "_BLOCK", 64)
    leaves = [jnp.zeros((40, 10)) for _ in range(20)]
    found = noise.draw_with_keys(jax.random.normal, KEY, leaves)
    assert len(noise._together(leaves, True)) > 2
    for own, wanted in zip(found, plainly(jax.random.normal, leaves, 64), strict=True):
        np.testing.assert_array_equal(own, wanted)


@pytest.mark.parametrize("number", [2, 30])
def test_under_vmap_as_alone(number):
    leaves = [jnp.zeros((5, 3)) for _ in range(number)]
    several = jax.random.split(KEY, 4)
    together = jax.vmap(lambda key: noise.draw_with_keys(jax.random.normal, key, leaves))(several)
    for index in range(4):
        alone = noise.draw_with_keys(jax.random.normal, several[index], leaves)
        for own, wanted in zip(together, alone, strict=True):
            np.testing.assert_array_equal(own[index], wanted)


def test_leaves_of_other_kinds_among_many():
    leaves = [jnp.zeros(4, dtype) for dtype in ("float32", "int32", "bfloat16", "bool", "float16")] * 6
    found = noise.draw_with_keys(jax.random.normal, KEY, leaves)
    for position, (leaf, own) in enumerate(zip(leaves, found, strict=True)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            wanted = jax.random.normal(jax.random.fold_in(KEY, position), (4,), jnp.float32)
            np.testing.assert_array_equal(own, wanted)
            assert own.dtype == jnp.float32
        else:
            assert own.shape == ()


@pytest.mark.parametrize("kind", ["rbg", "unsafe_rbg"])
def test_keys_of_other_kinds(kind):
    key = jax.random.key(1, impl=kind)
    found = noise.draw_with_keys(jax.random.normal, key, [jnp.zeros(4)] * 20)
    np.testing.assert_array_equal(found[7], jax.random.normal(jax.random.fold_in(key, 7), (4,)))


def test_threefry_of_old_and_numbers_of_python():
    with jax.threefry_partitionable(False):
        found = noise.draw_with_keys(jax.random.normal, KEY, [jnp.zeros(3)] * 20)
        np.testing.assert_array_equal(found[7], jax.random.normal(jax.random.fold_in(KEY, 7), (3,)))
    assert noise.draw_with_keys(jax.random.normal, KEY, [1.0] * 20)[3].shape == ()


def test_the_rows_are_stored_once_beside_the_leaves():
    leaves = [jnp.zeros((300, 500)) for _ in range(20)]
    program = jax.jit(lambda key: noise.draw_with_keys(jax.random.normal, key, leaves)).lower(KEY).compile()
    assert program.memory_analysis().temp_size_in_bytes < 1.1 * 4 * sum(leaf.size for leaf in leaves)


def test_leaves_of_more_numbers_than_a_word_counts(monkeypatch):
    """They are drawn alone, by JAX's counters of two words; here with a word that counts to 100."""
    monkeypatch.setattr("mutagrad.keys.COUNTERS", 100)
    leaves = [*(jnp.zeros(9) for _ in range(20)), jnp.zeros(211), jnp.zeros(9)]
    assert sorted(map(len, (positions for _, positions in noise._together(leaves, True)))) == [1, 21]
    check(leaves, jax.random.rademacher)


def signs_plainly(key, size):
    """Sign i is bit i mod 32 of word i div 32 of a stream, whose blocks have keys of their own."""
    number = -(-size // 32)
    words = [np.asarray(jax.random.bits(key, (number,), "uint32"))]
    if number > BLOCK:
        blocks = [jax.random.fold_in(key, block) for block in range(-(-number // BLOCK))]
        words = [np.asarray(jax.random.bits(block, (BLOCK,), "uint32")) for block in blocks]
    bits = np.unpackbits(np.concatenate(words).view(np.uint8), bitorder="little")[:size]
    return 2.0 * bits - 1


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("number", [2, 17])
def test_a_sign_is_one_bit(number, kind):
    key = jax.random.key(3, impl=kind)
    leaves = [1.0, *(jnp.zeros((3 + i % 2, 11)) for i in range(number)), jnp.zeros((0, 2)), jnp.zeros(2, "int32")]
    found = jax.jit(lambda key: noise.signs(key, leaves))(key)
    for position, (leaf, own) in enumerate(zip(leaves[:-1], found[:-1], strict=True)):
        wanted = signs_plainly(jax.random.fold_in(key, position), np.size(leaf)).reshape(np.shape(leaf))
        np.testing.assert_array_equal(own, wanted)
    assert found[-1].shape == ()


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_signs_of_a_leaf_of_several_blocks(kind):
    key = jax.random.key(4, impl=kind)
    found = jax.jit(lambda key: noise.signs(key, jnp.zeros(32 * BLOCK + 5, jnp.bfloat16)))(key)
    np.testing.assert_array_equal(found, signs_plainly(jax.random.fold_in(key, 0), 32 * BLOCK + 5))


def test_signs_under_vmap_as_alone():
    leaves, several = [jnp.zeros((5, 9)), jnp.zeros(70)], jax.random.split(KEY, 4)
    together = jax.vmap(lambda key: noise.signs(key, leaves))(several)
    for index in range(4):
        for own, wanted in zip(together, noise.signs(several[index], leaves), strict=True):
            np.testing.assert_array_equal(own[index], wanted)


def test_signs_take_little_memory_beside_what_they_change():
    params = jnp.zeros((3000, 1000))
    program = jax.jit(lambda key, x: x + 0.1 * noise.signs(key, x), donate_argnums=1).lower(KEY, params).compile()
    assert program.memory_analysis().temp_size_in_bytes < 0.05 * params.nbytes
