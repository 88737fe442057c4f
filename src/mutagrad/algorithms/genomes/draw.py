"""Draws in proportion to weights, however many there are: by sums of whole numbers, which are exact.

In float32 the sums of n weights are apart by n·2⁻²⁴ at their end, so that smaller differences of fitness would be lost. Sums
here have two words of 32 bits, and so have the numbers drawn.
"""

import jax
import jax.numpy as jnp

from mutagrad import keys

__all__ = ["by_weight"]

_LARGEST = 2.0**31
"""The whole number that the largest weight of a row becomes."""

Wide = tuple[jax.Array, jax.Array]
"""A number of 64 bits: its high word and its low one."""


def by_weight(key: jax.Array, weights: jax.Array, rows: jax.Array) -> jax.Array:
    """(d,) int32 indices into the flattened weights, each drawn within its row in proportion to the weights there.

    A weight counts to 2⁻³² of the largest in its row, and one of 0 is never drawn.

    Parameters
    ----------
    weights : (D, m), 0 or more, the largest of each row between 10⁻³⁷ and 10³⁷. rows : (d,) of each draw.
    """
    size = weights.shape[1]
    high, low = _sums(weights)
    words = jax.random.bits(keys.fast(key), (2, *rows.shape), jnp.uint32)
    place_high, place_low = _part((high[rows, -1], low[rows, -1]), (words[0], words[1]))

    def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        first, last = ends
        middle = (first + last) // 2
        above, below = high[rows, middle], low[rows, middle]
        is_passed = (above > place_high) | ((above == place_high) & (below > place_low))
        return jnp.where(is_passed, first, middle + 1), jnp.where(is_passed, middle, last)

    ends = jnp.zeros(rows.shape, jnp.int32), jnp.full(rows.shape, size - 1, jnp.int32)
    found, _ = jax.lax.fori_loop(0, (size - 1).bit_length(), halve, ends)
    return rows.astype(jnp.int32) * size + found


def _sums(weights: jax.Array) -> Wide:
    """(D, m) the sums of a row up to and with each weight, in whole numbers."""
    counts = jnp.round(weights / jnp.max(weights, axis=1, keepdims=True) * _LARGEST).astype(jnp.uint32)
    low = jnp.cumsum(counts, axis=1, dtype=jnp.uint32)
    # The low word has just passed 2³² where it is below what was added last.
    return jnp.cumsum(low < counts, axis=1, dtype=jnp.uint32), low


def _part(total: Wide, chance: Wide) -> Wide:
    """⌊total · chance / 2⁶⁴⌋: uniform from 0 to total − 1 if the chance is from all of its range."""
    high, low = _product(total[0], chance[0])
    (first, first_low), (second, second_low) = _product(total[1], chance[0]), _product(total[0], chance[1])
    carry, _ = _sum(first_low, second_low, _product(total[1], chance[1])[0])
    carry, low = _sum(low, first, second, carry)
    return high + carry, low


def _product(a: jax.Array, b: jax.Array) -> Wide:
    """The product of two words, by their halves."""
    a_high, a_low, b_high, b_low = a >> 16, a & 0xFFFF, b >> 16, b & 0xFFFF
    middle = a_high * b_low + (a_low * b_low >> 16)
    other = a_low * b_high + (middle & 0xFFFF)
    return a_high * b_high + (middle >> 16) + (other >> 16), a * b


def _sum(first: jax.Array, *others: jax.Array) -> Wide:
    """The sum of words."""
    high, low = jnp.zeros_like(first), first
    for word in others:
        low = low + word
        high = high + (low < word).astype(high.dtype)
    return high, low
