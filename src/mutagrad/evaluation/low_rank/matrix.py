"""A matrix W + A Bᵀ that is not formed: an array as quax has them, and what becomes of it where no rule follows it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import quax
from jax import lax

__all__ = ["LowRank", "Seen", "labelled", "note", "noting", "smaller"]


class Seen(NamedTuple):
    """What a program does with matrices.

    Attributes
    ----------
    formed : names of the operations that formed one.
    products : (rows, entries) of each product, rows of the array by a matrix of so many entries.
    """

    formed: set[str]
    products: list[tuple[int, int]]

    def rows(self) -> int:
        """Of the products, in the mean over the entries of their matrices; 1 if there are none."""
        entries = sum(size for _, size in self.products)
        return max(1, round(sum(rows * size for rows, size in self.products) / entries)) if entries else 1


_seen: ContextVar[Seen | None] = ContextVar("seen", default=None)


@contextmanager
def noting() -> Iterator[Seen]:
    """What programs that are followed within do with matrices."""
    noted = Seen(set(), [])
    token = _seen.set(noted)
    try:
        yield noted
    finally:
        _seen.reset(token)


def note(formed: str | None = None, product: tuple[int, int] | None = None) -> None:
    """Add to what is noted, if anybody asks."""
    noted = _seen.get()
    if noted is not None:
        noted.formed.update([] if formed is None else [formed])
        noted.products.extend([] if product is None else [product])


class LowRank(quax.ArrayValue):
    """base + Σ_r left[…, r] · right[…, r]: an array that all offspring share, and factors of their own.

    Attributes
    ----------
    base : of shape S.
    left, right : of shape S with 1 in place of some axes, and a last axis of r; every axis is whole in one of the two.
    """

    base: jax.Array
    left: jax.Array
    right: jax.Array

    def aval(self) -> Any:
        """Shape and dtype, as JAX asks for them."""
        return jax.typeof(self.base)

    def materialise(self) -> jax.Array:
        """The array itself."""
        return self.base + jnp.sum(self.left * self.right, axis=-1) if self.rank == 1 else self._summed()

    @property
    def rank(self) -> int:
        """How many products are summed."""
        return self.left.shape[-1]

    def _summed(self) -> jax.Array:
        axes = list(range(self.base.ndim))
        operands = [one for factor in (self.left, self.right) for one in labelled(factor, axes, self.base.shape)]
        return self.base + jnp.einsum(*operands, axes)

    @staticmethod
    def default(primitive: Any, values: Sequence[Any], params: dict[str, Any]) -> Any:
        """Any other operation: on the arrays themselves."""
        note(formed=str(primitive))
        return primitive.bind(*(one.materialise() if isinstance(one, LowRank) else one for one in values), **params)

    def changed(self, function: Callable[[jax.Array, bool], jax.Array]) -> Any:
        """The array and its factors after an operation; ``function(array, whether it is a factor)``."""
        return smaller(function(self.base, False), function(self.left, True), function(self.right, True))


def smaller(base: jax.Array, left: jax.Array, right: jax.Array) -> Any:
    """The array by its factors, or itself where these are as many numbers."""
    made = LowRank(base, left, right)
    return made if left.size + right.size < base.size else made.materialise()


def labelled(factor: jax.Array, labels: list[int], shape: tuple[int, ...]) -> tuple[jax.Array, list[int]]:
    """A factor for ``einsum`` without the axes that it has not, and the labels of those that it has; that of the rank is −1."""
    kept = [axis for axis, size in enumerate(shape) if factor.shape[axis] == size]
    dropped = [axis for axis in range(len(shape)) if axis not in kept]
    own = lax.squeeze(factor, dropped)
    if factor.shape[-1] == 1:
        return own[..., 0], [labels[axis] for axis in kept]
    return own, [*(labels[axis] for axis in kept), _RANK]


_RANK = 10_000
"""The label of the axis of the rank: no array has so many axes."""
