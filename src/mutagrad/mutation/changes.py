"""How a leaf that is no plain real array is changed by a mutation of scale σ: jumps between values, and walls that reflect."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Categories", "Jumps", "Reflected", "jumps_of", "mirrored"]

_WIDEST = 4.0
"""σ, in widths of the range, from which on changes are taken to be no wider: all values are then equally likely."""


@dataclasses.dataclass(frozen=True)
class Categories:
    """Values without an order: a mutation replaces one by any other; see `mutagrad.mutation.categories`.

    Attributes
    ----------
    values : the values, as a ``range``.
    """

    values: range

    def __repr__(self) -> str:
        return f"categories({self.values})"


def _word(dtype: Any) -> np.dtype:
    """The unsigned integers in which a leaf's arithmetic is exact."""
    return np.dtype(np.uint64 if jnp.dtype(dtype).itemsize == 8 else np.uint32)


def mirrored(place: jax.Array, number: jax.Array | int) -> jax.Array:
    """A place on a line, reflected into 0 … number − 1 at −½ and at number − ½: a step out of the range is no step."""
    place = jnp.mod(place, 2 * number)
    return jnp.where(place < number, place, 2 * number - 1 - place)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("bits", "scale"),
    meta_fields=("first", "step", "number", "is_ordered"),
)
@dataclasses.dataclass(frozen=True)
class Jumps:
    """The mutation of a discrete leaf: one word of random bits a site, of which σ makes a jump.

    With μ = (σ · scale/step)², a site of ordered values jumps k places with probability (1−q)/(1+q) q^|k|, of variance μ:
    q = μ/(μ + 1 + √(1+2μ)). A site of K categories changes with probability (K−1)/K · (1 − exp(−Kμ/(K−1))), to any other.

    Attributes
    ----------
    bits : uint32, of the shape of the leaf: the lowest is the sign, the others a uniform number.
    scale : σ is multiplied by it; a number, or one a site.
    first, step, number : the values are first, first + step, …, so many.
    is_ordered : whether they have an order.
    """

    bits: jax.Array
    scale: jax.Array
    first: int
    step: int
    number: int
    is_ordered: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the leaf."""
        return self.bits.shape

    @property
    def rate(self) -> jax.Array:
        """Sites that mutate in the mean, over σ², for small σ: Σ (scale/step)², and Σ scale² of categories."""
        step = abs(self.step) if self.is_ordered else 1
        return jnp.sum(jnp.broadcast_to(jnp.square(self.scale / step), self.shape))

    def scaled(self, factor: jax.Array) -> "Jumps":
        """The same jumps with σ multiplied by a number, or by one a site."""
        return dataclasses.replace(self, scale=self.scale * factor)

    def applied(self, leaf: jax.Array, sigma: jax.Array) -> jax.Array:
        """The leaf after the mutation; with −σ it jumps as far in the opposite direction."""
        sigma = jnp.asarray(sigma, jnp.float32) * self.scale.astype(jnp.float32)
        place = self._place(leaf)
        uniform = ((self.bits >> 1).astype(jnp.float32) + 0.5) * 2.0**-31
        sign = jnp.where(self.bits & 1, 1, -1) * jnp.where(sigma < 0, -1, 1)
        sigma = jnp.minimum(jnp.abs(sigma) / (abs(self.step) if self.is_ordered else 1), _WIDEST * self.number)
        jump = self._ordered(uniform, sigma) if self.is_ordered else self._unordered(uniform, sigma)
        moved = place + sign * jump
        moved = mirrored(moved, self.number) if self.is_ordered else jnp.mod(moved, self.number)
        return jnp.where(moved == place, leaf, self._value(moved, leaf))

    def _place(self, leaf: jax.Array) -> jax.Array:
        """Which of the values each site has, exactly: integers are subtracted modulo their words."""
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            wide = leaf if leaf.dtype.itemsize >= 4 else leaf.astype(jnp.float32)
            return jnp.round((wide - self.first) / self.step).astype(jnp.int32)
        word = _word(leaf.dtype)
        ahead = leaf.astype(word) - np.asarray(self.first % 2 ** (8 * word.itemsize)).astype(word)
        ahead = ahead if self.step > 0 else jnp.negative(ahead)
        return (ahead // np.asarray(abs(self.step)).astype(word)).astype(jnp.int32)

    def _value(self, place: jax.Array, leaf: jax.Array) -> jax.Array:
        """The values at these places, in the dtype of the leaf."""
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            wide = leaf.dtype if leaf.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
            return (place.astype(wide) * self.step + self.first).astype(leaf.dtype)
        word = _word(leaf.dtype)
        first, step = (np.asarray(one % 2 ** (8 * word.itemsize)).astype(word) for one in (self.first, self.step))
        return (place.astype(word) * step + first).astype(leaf.dtype)

    def _ordered(self, uniform: jax.Array, sigma: jax.Array) -> jax.Array:
        mean_square = jnp.square(sigma)
        rest = 1 + jnp.sqrt(1 + 2 * mean_square)
        ratio = mean_square / (mean_square + rest)
        change = 2 * ratio / (1 + ratio)
        log_ratio = jnp.log1p(-rest / (mean_square + rest))
        places = 1 + jnp.floor(jnp.log(uniform / change) / log_ratio)
        return jnp.where(uniform < change, places, 0).astype(jnp.int32)

    def _unordered(self, uniform: jax.Array, sigma: jax.Array) -> jax.Array:
        others = self.number - 1
        change = others / self.number * -jnp.expm1(-self.number / others * jnp.square(sigma))
        which = 1 + jnp.minimum(jnp.floor(uniform / change * others), others - 1)
        return jnp.where(uniform < change, which, 0).astype(jnp.int32)


@partial(jax.tree_util.register_dataclass, data_fields=("values", "scale"), meta_fields=("low", "high"))
@dataclasses.dataclass(frozen=True)
class Reflected:
    """The mutation of a real leaf between walls, which reflect it.

    Attributes
    ----------
    values : noise of the shape of the leaf; σ times it is added.
    scale : σ is multiplied by it; a number, or one a parameter.
    low, high : the walls; either may be infinite.
    """

    values: Any
    scale: jax.Array
    low: float
    high: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the leaf."""
        return jnp.shape(self.values)

    def scaled(self, factor: jax.Array) -> "Reflected":
        """The same mutation with σ multiplied by a number, or by one a parameter."""
        return dataclasses.replace(self, scale=self.scale * factor)

    def applied(self, leaf: jax.Array, sigma: jax.Array) -> jax.Array:
        """The leaf after the mutation, summed in float32 at least and rounded once."""
        dtype = leaf.dtype if leaf.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
        most = float(jnp.finfo(leaf.dtype).max)
        low, high = (float(np.asarray(np.clip(wall, -most, most)).astype(leaf.dtype)) for wall in (self.low, self.high))
        low, high = (low if low > -most else -math.inf), (high if high < most else math.inf)
        width = high - low
        sigma = jnp.asarray(sigma).astype(dtype) * self.scale.astype(dtype)
        if width < most / 16:
            sigma = jnp.clip(sigma, -_WIDEST * width, _WIDEST * width)
        moved = leaf.astype(dtype) + sigma * jnp.asarray(self.values).astype(dtype)
        return _folded(moved, low, high, most).astype(leaf.dtype)


def _folded(moved: jax.Array, low: float, high: float, most: float) -> jax.Array:
    """Reflected as often as it takes; what did not reach a wall is not rounded again."""
    width = high - low
    if width < most / 16:
        along = jnp.mod(moved - low, 2 * width)
        folded = low + jnp.where(along > width, 2 * width - along, along)
        return jnp.where((moved >= low) & (moved <= high), moved, jnp.clip(folded, low, high))
    # Walls too far apart to be met twice.
    if low > -math.inf:
        moved = jnp.where(moved < low, low + (low - moved), moved)
    if high < math.inf:
        moved = jnp.where(moved > high, high - (moved - high), moved)
    return moved


def jumps_of(noise: Any) -> list[Jumps]:
    """The noise of the discrete leaves."""
    leaves = jax.tree.leaves(noise, is_leaf=lambda leaf: isinstance(leaf, Jumps))
    return [leaf for leaf in leaves if isinstance(leaf, Jumps)]
