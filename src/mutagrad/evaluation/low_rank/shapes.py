"""A matrix that is not formed, in another shape: transposed, reshaped, cut, looked up row by row; its factors follow."""

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import quax
from jax import lax
from jax.extend.core import primitives as operations
from jaxtyping import ArrayLike

from mutagrad.evaluation.low_rank.matrix import LowRank, smaller


@quax.register(operations.transpose_p)
def _(matrix: LowRank, *, permutation: Any) -> Any:
    return matrix.changed(lambda one, is_factor: jnp.transpose(one, (*permutation, *([len(permutation)] * is_factor))))


@quax.register(operations.rev_p)
def _(matrix: LowRank, *, dimensions: Any) -> Any:
    return matrix.changed(lambda one, is_factor: lax.rev(one, dimensions))


@quax.register(operations.squeeze_p)
def _(matrix: LowRank, *, dimensions: Any) -> Any:
    return matrix.changed(lambda one, is_factor: lax.squeeze(one, dimensions))


@quax.register(operations.broadcast_in_dim_p)
def _(matrix: LowRank, *dynamic: ArrayLike, shape: Any, broadcast_dimensions: Any, **params: Any) -> Any:
    if dynamic or any(shape[axis] != size for axis, size in zip(broadcast_dimensions, matrix.base.shape, strict=True)):
        own = {"shape": shape, "broadcast_dimensions": broadcast_dimensions, **params}
        return LowRank.default(operations.broadcast_in_dim_p, (matrix, *dynamic), own)

    def broadcast(one: jax.Array, is_factor: bool) -> jax.Array:
        if not is_factor:
            return lax.broadcast_in_dim(one, shape, broadcast_dimensions)
        own = [1] * len(shape)
        for axis, size in zip(broadcast_dimensions, one.shape, strict=False):
            own[axis] = size
        return lax.broadcast_in_dim(one, (*own, one.shape[-1]), (*broadcast_dimensions, len(shape)))

    left, right = broadcast(matrix.left, True), broadcast(matrix.right, True)
    # Every axis is whole in one factor: the new ones in the left.
    whole = [shape[axis] if axis not in broadcast_dimensions else left.shape[axis] for axis in range(len(shape))]
    return smaller(broadcast(matrix.base, False), jnp.broadcast_to(left, (*whole, left.shape[-1])), right)


@quax.register(operations.reshape_p)
def _(matrix: LowRank, *, new_sizes: Any, dimensions: Any, **params: Any) -> Any:
    groups = None if dimensions is not None else _groups(matrix.base.shape, new_sizes)
    if groups is None:
        own = {"new_sizes": new_sizes, "dimensions": dimensions, **params}
        return LowRank.default(operations.reshape_p, (matrix,), own)

    def reshaped(one: jax.Array, is_factor: bool) -> jax.Array:
        if not is_factor:
            return jnp.reshape(one, new_sizes)
        before, after = [], []
        for old, new in groups:
            sizes = [one.shape[axis] for axis in old]
            is_absent = all(size == 1 for size in sizes)
            before += sizes if is_absent else [matrix.base.shape[axis] for axis in old]
            after += [1 if is_absent else new_sizes[axis] for axis in new]
        return jnp.reshape(jnp.broadcast_to(one, (*before, one.shape[-1])), (*after, one.shape[-1]))

    return matrix.changed(reshaped)


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]] | None:
    """The smallest groups of neighbouring axes that a reshape makes of one another; ``None`` for an array without entries."""
    if 0 in old:
        return None
    groups, first, second = [], 0, 0
    while first < len(old) or second < len(new):
        mine: list[int] = []
        other: list[int] = []
        while True:
            sizes = [int(np.prod([shape[axis] for axis in axes])) for shape, axes in ((old, mine), (new, other))]
            if (mine or other) and sizes[0] == sizes[1]:
                break
            if second >= len(new) or (first < len(old) and sizes[0] <= sizes[1]):
                mine.append(first)
                first += 1
            else:
                other.append(second)
                second += 1
        groups.append((mine, other))
    return groups


@quax.register(operations.slice_p)
def _(matrix: LowRank, *, start_indices: Any, limit_indices: Any, strides: Any) -> Any:
    steps = strides or (1,) * len(start_indices)

    def sliced(one: jax.Array, is_factor: bool) -> jax.Array:
        at = [
            slice(None) if is_factor and one.shape[axis] != matrix.base.shape[axis] else slice(*bounds)
            for axis, bounds in enumerate(zip(start_indices, limit_indices, steps, strict=True))
        ]
        return one[tuple(at)]

    return matrix.changed(sliced)


@quax.register(lax.split_p)
def _(matrix: LowRank, *, sizes: Any, axis: int) -> Any:
    bounds = np.cumsum([0, *sizes])

    def cut(one: jax.Array, is_factor: bool, start: int, stop: int) -> jax.Array:
        return one if one.shape[axis] != matrix.base.shape[axis] else lax.slice_in_dim(one, start, stop, axis=axis)

    return [matrix.changed(partial(cut, start=int(start), stop=int(stop))) for start, stop in pairwise(bounds)]


@quax.register(operations.dynamic_slice_p)
def _(matrix: LowRank, *starts: ArrayLike, slice_sizes: Any) -> Any:
    def sliced(one: jax.Array, is_factor: bool) -> jax.Array:
        if not is_factor:
            return lax.dynamic_slice(one, starts, slice_sizes)
        at, sizes = [], []
        for axis, (start, size) in enumerate(zip(starts, slice_sizes, strict=True)):
            is_whole = one.shape[axis] == matrix.base.shape[axis]
            at.append(start if is_whole else jnp.zeros_like(start))
            sizes.append(size if is_whole else 1)
        return lax.dynamic_slice(one, (*at, jnp.zeros_like(starts[0])), (*sizes, one.shape[-1]))

    return matrix.changed(sliced)


@quax.register(operations.gather_p)
def _(matrix: LowRank, indices: ArrayLike, *, dimension_numbers: Any, slice_sizes: Any, **params: Any) -> Any:
    """Rows of a table, as an embedding takes them: those of the shared table, and of the thin factor."""
    numbers, base = dimension_numbers, matrix.base
    cut = [axis for axis, size in enumerate(slice_sizes) if size != base.shape[axis]]
    # A start on an axis that is taken whole is 0, or is made 0.
    is_sure = numbers.start_index_map == (*cut,) or params["mode"] != lax.GatherScatterMode.FILL_OR_DROP
    is_rows = is_sure and len(cut) == 1 and not numbers.operand_batching_dims
    if not is_rows or 1 not in (matrix.left.shape[cut[0]], matrix.right.shape[cut[0]]):
        own = {"dimension_numbers": dimension_numbers, "slice_sizes": slice_sizes, **params}
        return LowRank.default(operations.gather_p, (matrix, indices), own)

    (axis,) = cut
    is_left = matrix.left.shape[axis] == base.shape[axis]
    thin, other = (matrix.left, matrix.right) if is_left else (matrix.right, matrix.left)

    def rows(one: jax.Array, **options: Any) -> jax.Array:
        sizes = [slice_sizes[axis] if at == axis else size for at, size in enumerate(one.shape)]
        own = {**params, **options, "dimension_numbers": numbers, "slice_sizes": tuple(sizes)}
        return operations.gather_p.bind(one, indices, **own)

    out = rows(base)
    shape = [1] * out.ndim
    kept = [at for at in range(base.ndim) if at not in numbers.collapsed_slice_dims]
    for place, at in zip(numbers.offset_dims, kept, strict=True):
        shape[place] = other.shape[at]
    for number in range(matrix.rank):
        # What lies outside of the table is what the table has there, without a correction.
        out = out + rows(thin[..., number], fill_value=0) * other[..., number].reshape(shape)
    return out
