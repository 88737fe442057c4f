"""Which genome carries which mutation, one bit each: (n, L/32) words of 32 mutations, and random masks of the same shape."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import keys

__all__ = ["WORD", "column_counts", "crossover_mask", "pack", "random_mask", "unpack"]

WORD = 32
_PRECISION = 24
"""Binary digits of a probability that random masks keep: it is rounded to 2⁻²⁴."""


def unpack(words: jax.Array) -> jax.Array:
    """(…, L/32) words as (…, L) booleans."""
    places = jnp.arange(WORD, dtype=jnp.uint32).reshape(*[1] * words.ndim, WORD)
    return (jnp.right_shift(words[..., None], places) & 1).astype(bool).reshape(*words.shape[:-1], -1)


def pack(bits: jax.Array) -> jax.Array:
    """(…, L) booleans as (…, L/32) words."""
    parts = bits.reshape(*bits.shape[:-1], -1, WORD)
    places = jnp.arange(WORD, dtype=jnp.uint32).reshape(*[1] * (parts.ndim - 1), WORD)
    return jnp.sum(jnp.left_shift(parts.astype(jnp.uint32), places), axis=-1, dtype=jnp.uint32)


@jax.jit
def column_counts(words: jax.Array) -> jax.Array:
    """(L,) int32, how many of the n genomes carry each mutation."""
    return jnp.sum(unpack(words), axis=0, dtype=jnp.int32)


def random_mask(key: jax.Array, shape: tuple[int, ...], share: float) -> jax.Array:
    """Words of the given shape whose bits are 1 with a probability, each by itself.

    The binary digits of the probability, last to first, say whether a random word is joined by "or" (1) or by "and" (0): each
    halves the chance so far, and adds a half where the digit is 1. Half needs one random word, another share 24 at most.
    """
    digits = round(share * 2**_PRECISION)
    if digits <= 0 or digits >= 2**_PRECISION:
        return jnp.full(shape, 0 if digits <= 0 else 2**WORD - 1, jnp.uint32)
    number = _PRECISION - (digits & -digits).bit_length() + 1
    digits >>= _PRECISION - number
    random = jax.random.bits(keys.fast(key), (number, *shape), jnp.uint32)
    # The last digit is 1, and half of the bits of a word are.
    mask = random[0]
    for place in range(1, number):
        mask = mask | random[place] if digits >> place & 1 else mask & random[place]
    return mask


def crossover_mask(key: jax.Array, number: int, positions: jax.Array, rate: float) -> jax.Array:
    """(n, L/32) words of alternating blocks along a chromosome: what of each genome comes from the second parent.

    Crossovers are a Poisson process (Haldane): between neighbouring mutations at a distance d their number is odd with
    probability ½(1 − e^{−2Rd}). Which parent gives the first block is a fair coin.

    Parameters
    ----------
    number : n genomes. positions : (L,) from 0 to 1, in any order. rate : R, mean number of crossovers.
    """
    order = jnp.argsort(positions)
    distances = jnp.diff(positions[order], prepend=-jnp.inf)
    odd = -jnp.expm1(-2 * rate * distances) / 2 if rate > 0 else jnp.zeros_like(positions).at[0].set(0.5)
    switches = jax.random.uniform(keys.fast(key), (number, len(positions))) < odd[None]
    along = jax.lax.associative_scan(jnp.logical_xor, switches, axis=1)
    return pack(along[:, jnp.argsort(order)])


def words_for(mutations: float) -> int:
    """How many words hold so many mutations."""
    return max(1, math.ceil(mutations / WORD))


def bit_of(slots: np.ndarray | jax.Array) -> tuple[jax.Array, jax.Array]:
    """The word of each slot, and its bit in it."""
    slots = jnp.asarray(slots)
    return slots // WORD, jnp.left_shift(jnp.uint32(1), (slots % WORD).astype(jnp.uint32))
