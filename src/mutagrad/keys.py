"""Threefry keys whose random bits are ordinary array operations, so that the compiler fuses them with what uses them.

JAX lowers Threefry on a CPU to a loop over passes through memory. Written out as operations on each number it is part of the
one pass that makes, scales and adds the noise. The bits are those of JAX.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata

__all__ = ["alone", "fast", "fold_in", "is_fast", "is_threefry", "split", "starting_at"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
COUNTERS = 2**32
"""Numbers of one key that a counter of one word tells apart."""


def _hash(key: tuple[jax.Array, jax.Array], high: Any, low: Any) -> tuple[jax.Array, jax.Array]:
    """Threefry 2x32 of 20 rounds (Salmon et al. 2011) of a 64-bit counter."""
    first, second = key
    words = (first, second, first ^ second ^ _PARITY)
    x, y = high + first, low + second
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation)))
        x = x + words[(group + 1) % 3]
        y = y + words[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def alone(function: Callable, static_argnums: int | tuple[int, ...] = ()) -> Callable:
    """The function as a piece of code of its own, which the compiler of a CPU does not merge with what is around it."""

    def inlined(*args: Any) -> Any:
        with set_xla_metadata(inlineable="true"):
            return function(*args)

    compiled = jax.jit(inlined, static_argnums=static_argnums)

    def call(*args: Any) -> Any:
        if jax.default_backend() != "cpu":
            return compiled(*args)
        with set_xla_metadata(inlineable="false"):
            return compiled(*args)

    return call


_hash_alone = alone(_hash)
"""A chain of hashes in one piece would take the compiler seconds."""


def _seed(seed: jax.Array) -> jax.Array:
    data = jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))
    return jnp.concatenate([data, jnp.zeros(1, np.uint32)])


def _fold_in(key: jax.Array, data: Any) -> jax.Array:
    pair = _hash_alone((key[0], key[1]), np.uint32(0), data.astype(np.uint32))
    return jnp.stack([*pair, jnp.zeros_like(key[2])])


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    numbers = jnp.arange(math.prod(shape), dtype=np.uint32).reshape(shape)
    pair = _hash_alone((key[0], key[1]), np.uint32(0), numbers)
    return jnp.stack([*pair, jnp.zeros_like(numbers)], axis=-1)


def _random_bits(key: jax.Array, bit_width: int, shape: tuple[int, ...]) -> jax.Array:
    if math.prod(shape) >= COUNTERS:
        # Counters of two words, which nobody starts in the middle: JAX has them.
        return jax.random.bits(jax.random.wrap_key_data(key[:2], impl="threefry2x32"), shape, f"uint{bit_width}")
    low = key[2] + jax.lax.iota(np.uint32, math.prod(shape)).reshape(shape)
    first, second = _hash((key[0], key[1]), np.uint32(0), low)
    if bit_width == 64:
        return (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)
    return (first ^ second).astype(f"uint{bit_width}")


_FAST = jax.extend.random.define_prng_impl(
    key_shape=(3,), seed=_seed, split=_split, random_bits=_random_bits, fold_in=_fold_in, name="mutagrad", tag="mg"
)
"""Threefry as JAX's; the third word of a key is the counter that its numbers start at."""


def is_threefry(key: jax.Array) -> bool:
    """Whether a key is one of JAX's own, of the kind whose i-th number depends on the key and on i alone."""
    return str(jax.random.key_impl(key)) == "threefry2x32"


def fast(key: jax.Array) -> jax.Array:
    """The same key, as one whose bits fuse; any other kind of key is returned as it is."""
    if not (is_threefry(key) and jax.config.jax_threefry_partitionable):  # type: ignore[attr-defined]  # a flag, made at run time
        return key
    data = jax.random.key_data(key)
    start = jnp.zeros((*data.shape[:-1], 1), np.uint32)
    return jax.random.wrap_key_data(jnp.concatenate([data, start], axis=-1), impl=_FAST)


def is_fast(key: jax.Array) -> bool:
    """Whether `fast` made a key."""
    return jax.random.key_impl(key) == _FAST


def starting_at(key: jax.Array, counter: Any) -> jax.Array:
    """The key whose i-th number is number ``counter + i`` of this one, which `fast` made."""
    data = jax.random.key_data(key)
    return jax.random.wrap_key_data(data.at[2].set(counter.astype(np.uint32)), impl=_FAST)


def _plain(key: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(jax.random.key_data(key)[..., :2], impl="threefry2x32")


def fold_in(key: jax.Array, data: Any) -> jax.Array:
    """``jax.random.fold_in``."""
    other = fast(key)
    return jax.random.fold_in(key, data) if other is key else _plain(jax.random.fold_in(other, data))


def split(key: jax.Array, number: int = 2) -> jax.Array:
    """``jax.random.split``."""
    other = fast(key)
    return jax.random.split(key, number) if other is key else _plain(jax.random.split(other, number))
