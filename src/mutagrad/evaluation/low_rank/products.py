"""Products with a matrix that is not formed, and its sums and multiples: what all offspring share, and a thin correction."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import quax
from jax import lax
from jax.extend.core import primitives as operations
from jaxtyping import ArrayLike

from mutagrad.evaluation.low_rank.matrix import LowRank, labelled, note


def _product(array: Any, matrix: LowRank, is_first: bool, dimension_numbers: Any, **params: Any) -> jax.Array:
    """array · matrix, or matrix · array: what all offspring share, and a thin correction.

    The array comes first whatever the order: a model that is mapped over its examples has the matrix first, and turns the product
    round afterwards.
    """
    (contract, own_contract), (batch, own_batch) = (
        (pair[1], pair[0]) if is_first else (pair[0], pair[1]) for pair in dimension_numbers
    )
    array = jnp.asarray(array)
    numbers = ((own_contract, contract), (own_batch, batch))
    shared = operations.dot_general_p.bind(array, matrix.base, dimension_numbers=numbers, **params)
    labels = list(range(array.ndim))
    of_matrix = [array.ndim + axis for axis in range(matrix.base.ndim)]
    for mine, other in zip((*contract, *batch), (*own_contract, *own_batch), strict=True):
        of_matrix[mine] = labels[other]
    free = [axis for axis in labels if axis not in (*own_contract, *own_batch)]
    free_of_matrix = [label for axis, label in enumerate(of_matrix) if axis not in (*contract, *batch)]
    note(product=(math.prod(array.shape[axis] for axis in (*own_batch, *free)), matrix.base.size))
    factors = [one for factor in (matrix.left, matrix.right) for one in labelled(factor, of_matrix, matrix.base.shape)]
    thin = jnp.einsum(
        array,
        labels,
        *factors,
        [*own_batch, *free, *free_of_matrix],
        precision=params.get("precision"),
        preferred_element_type=params.get("preferred_element_type"),
    )
    total = shared + thin.astype(shared.dtype)
    if is_first:
        return total
    first, second = len(own_batch), len(own_batch) + len(free)
    order = [*range(first), *range(second, total.ndim), *range(first, second)]
    return jnp.transpose(total, order)


@quax.register(operations.dot_general_p)
def _(first: ArrayLike, second: LowRank, *, dimension_numbers: Any, **params: Any) -> Any:
    return _product(first, second, True, dimension_numbers, **params)


@quax.register(operations.dot_general_p)
def _(first: LowRank, second: ArrayLike, *, dimension_numbers: Any, **params: Any) -> Any:
    return _product(second, first, False, dimension_numbers, **params)


@quax.register(operations.conv_general_dilated_p)
def _(images: ArrayLike, kernel: LowRank, **params: Any) -> Any:
    numbers = params["dimension_numbers"]
    to, out = numbers.rhs_spec[0], numbers.out_spec[1]
    others = [axis for axis in range(kernel.base.ndim) if axis != to]
    is_plain = params["feature_group_count"] == params["batch_group_count"] == 1
    for inner, outer in ((kernel.left, kernel.right), (kernel.right, kernel.left)):
        if is_plain and inner.shape[to] == 1 and all(outer.shape[axis] == 1 for axis in others):
            thin = jnp.moveaxis(lax.squeeze(inner, [to]), -1, to)
            convolve = operations.conv_general_dilated_p.bind
            some = convolve(images, thin, **params)
            columns = lax.squeeze(outer, others).astype(some.dtype)
            return convolve(images, kernel.base, **params) + jnp.moveaxis(
                jnp.moveaxis(some, out, -1) @ columns.T, -1, out
            )
    return LowRank.default(operations.conv_general_dilated_p, (images, kernel), params)


@quax.register(operations.convert_element_type_p)
def _(matrix: LowRank, *, new_dtype: Any, **params: Any) -> Any:
    if not jnp.issubdtype(new_dtype, jnp.floating):
        return LowRank.default(operations.convert_element_type_p, (matrix,), {"new_dtype": new_dtype, **params})
    return matrix.changed(lambda one, is_factor: one.astype(new_dtype))


@quax.register(operations.neg_p)
def _(matrix: LowRank) -> Any:
    return LowRank(-matrix.base, -matrix.left, matrix.right)


def _times(operation: Any, is_first: bool) -> Callable[..., Any]:
    """The matrix times a number, or over one."""

    def rule(first: Any, second: Any, **params: Any) -> Any:
        matrix, number = (first, second) if is_first else (second, first)
        if jnp.ndim(number):
            return LowRank.default(operation, (first, second), params)
        left = operation.bind(*((matrix.left, number) if is_first else (number, matrix.left)), **params)
        return LowRank(
            operation.bind(*((matrix.base, number) if is_first else (number, matrix.base)), **params),
            left,
            matrix.right,
        )

    return rule


def _plus(operation: Any) -> Callable[..., Any]:
    """The matrix plus an array, or less one."""

    def rule(first: LowRank, second: ArrayLike, **params: Any) -> Any:
        if jnp.broadcast_shapes(first.base.shape, jnp.shape(second)) != first.base.shape:
            return LowRank.default(operation, (first, second), params)
        return LowRank(operation.bind(first.base, second, **params), first.left, first.right)

    return rule


def _rule(first: Any, second: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the types by which quax finds it."""

    def rule(one, other, **params):
        return function(one, other, **params)

    rule.__annotations__ = {"one": first, "other": second}
    return rule


for _operation in (operations.mul_p, operations.div_p):
    quax.register(_operation)(_rule(LowRank, ArrayLike, _times(_operation, True)))
quax.register(operations.mul_p)(_rule(ArrayLike, LowRank, _times(operations.mul_p, False)))
for _operation in (operations.add_p, operations.sub_p):
    quax.register(_operation)(_rule(LowRank, ArrayLike, _plus(_operation)))
quax.register(operations.add_p)(
    _rule(ArrayLike, LowRank, lambda one, other, **params: _plus(operations.add_p)(other, one, **params))
)


@quax.register(operations.sub_p)
def _(first: ArrayLike, second: LowRank, **params: Any) -> Any:
    return _plus(operations.add_p)(LowRank(-second.base, -second.left, second.right), first, **params)
