"""Mutations of low rank: a few random numbers for a whole matrix, which a loss can be evaluated on without forming it."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import check, keys, law, tree
from mutagrad.noise import draw
from mutagrad.types import Mutation, Params

__all__ = ["Factored", "Factors", "low_rank"]


@partial(jax.tree_util.register_dataclass, data_fields=("left", "right"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Factors:
    """The noise of a leaf of shape S by its factors: Σ_r left[…, r] · right[…, r], which is not formed.

    Attributes
    ----------
    left : of shape S with 1 in place of the axes that ``right`` has, and a last axis of r.
    right : of shape S with 1 in place of the axes that ``left`` has, and a last axis of r.
    """

    left: jax.Array
    right: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the leaf."""
        return jnp.broadcast_shapes(self.left.shape[:-1], self.right.shape[:-1])

    def applied(self, leaf: jax.Array, sigma: jax.Array) -> jax.Array:
        """The leaf after the mutation, formed; summed in float32 at least and rounded once."""
        return tree.add_scaled(leaf, self.formed(), sigma)

    def scaled(self, factor: jax.Array) -> Any:
        """The same noise times a number; times one a parameter it is formed."""
        return self.formed() * factor if jnp.ndim(factor) else Factors(self.left * factor, self.right)

    def formed(self) -> jax.Array:
        """The noise itself."""
        rank = self.left.shape[-1]
        rows = self.left.reshape(-1, rank)
        return (rows @ self.right.reshape(-1, rank).T).reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class Factored:
    """A ``sample_fn`` whose noise can also be had by its factors.

    Attributes
    ----------
    sample_fn : as in `mutagrad.Mutation`.
    factors : ``factors(key, params)``, the same noise with `Factors` in place of the leaves that have them.
    """

    sample_fn: Any
    factors: Any

    def __call__(self, key: jax.Array, params: Params) -> Params:
        """The noise, formed."""
        return self.sample_fn(key, params)


@dataclasses.dataclass(frozen=True)
class _LowRank:
    """Draws noise whose matrices are of one rank, formed, or by their factors."""

    rank: int

    def __call__(self, key: jax.Array, params: Params) -> Params:
        made = self.factors(key, params)
        return jax.tree.map(
            lambda one: one.formed() if isinstance(one, Factors) else one,
            made,
            is_leaf=lambda one: isinstance(one, Factors),
        )

    def factors(self, key: jax.Array, params: Params) -> Params:
        """The noise, its matrices by their factors."""
        return tree.map_with_keys(self._of_leaf, keys.fast(key), params)

    def _of_leaf(self, key: jax.Array, leaf: jax.Array) -> Any:
        dtype, place = tree.compute_dtype(leaf), _split(leaf.shape, self.rank)
        if place == 0:
            return draw(jax.random.normal, key, leaf.shape, dtype)
        rows, columns = leaf.shape[:place], leaf.shape[place:]
        left, right = (
            draw(jax.random.normal, jax.random.fold_in(key, side), (math.prod(shape), self.rank), dtype)
            for side, shape in enumerate((rows, columns))
        )
        right = right / jnp.asarray(math.sqrt(self.rank), dtype)
        ones = (1,) * len(rows), (1,) * len(columns)
        return Factors(left.reshape(*rows, *ones[1], self.rank), right.reshape(*ones[0], *columns, self.rank))


def _split(shape: tuple[int, ...], rank: int) -> int:
    """How many axes of a leaf are the rows of a matrix, the others being its columns; 0 for one that is drawn whole.

    The first axis against the others, or the last, whichever takes fewer numbers: the kernels of a convolution are matrices of
    output channels against all else, whether their layout has those first or last.
    """
    if len(shape) < 2 or math.prod(shape) == 0:
        return 0
    if len(shape) == 2:
        return 1
    place = min(1, len(shape) - 1, key=lambda at: math.prod(shape[:at]) + math.prod(shape[at:]))
    numbers = rank * (math.prod(shape[:place]) + math.prod(shape[place:]))
    return place if numbers < math.prod(shape) else 0


def low_rank(rank: int = 1, *, formed: bool = False) -> Mutation:
    """Mutations A Bᵀ/√r of matrix leaves, with A (m, r) and B (n, r) standard normal; gaussian on vectors and numbers.

    Unit variance per parameter and uncorrelated entries, with r(m + n) random numbers in place of mn. Entries of one
    matrix are uncorrelated but not independent. A leaf of more axes (the kernel of a convolution, the heads of an attention) is
    a matrix too, its first axis against the others or its last, whichever takes fewer numbers; it is gaussian if that saves
    none.

    A loss that JAX can trace is evaluated without forming the matrices, if quax is installed (``mutagrad[low-rank]``): all
    offspring share the product x W of a layer, and each adds its own (x A) Bᵀ. The model needs no change.

    Parameters
    ----------
    rank : r ≥ 1.
    formed : whether every matrix is formed all the same. Leaves of less than 32 bits always are, since a parameter is rounded to
        them when it is inherited.

    Returns
    -------
    Mutation

    Raises
    ------
    ValueError : if ``rank`` < 1.

    See Also
    --------
    docs/low_rank.md : what a loss may do with a matrix that is not formed.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> noise = mutagrad.mutation.low_rank(2).sample_fn(jax.random.key(0), {"w": jnp.zeros((6, 5)), "b": jnp.zeros(6)})
    >>> int(jnp.linalg.matrix_rank(noise["w"])), noise["b"].shape
    (2, (6,))
    """
    density = _LowRank(check.count("rank", rank))
    if not isinstance(formed, bool):
        raise ValueError(f"formed: got {formed!r}; pass True or False")
    sample_fn = density.__call__ if formed else Factored(density, density.factors)
    options = {"rank": rank, **({"formed": True} if formed else {})}
    return Mutation(sample_fn, "low_rank", options, law.IndependentEntries())
