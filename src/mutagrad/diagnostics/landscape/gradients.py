"""Gradients of the whole data, part by part, and angles of minibatch gradients to it (theory.md 8)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import keys, tree
from mutagrad.diagnostics.checks import computing
from mutagrad.diagnostics.landscape.points import fast_options, kept
from mutagrad.estimate import Estimate
from mutagrad.evaluation.losses import per_example
from mutagrad.types import Params

__all__ = ["BatchAngles", "batch_angles", "dot", "full_gradient"]

_AT_ONCE = 256
"""Examples that a gradient of all the data sees at a time."""
_FEWEST_SINGLES = 200


class BatchAngles(NamedTuple):
    """Angles between gradients of minibatches of one size and the gradient of all the data.

    Attributes
    ----------
    batch_size : B.
    cosines : (n,) of n batches.
    cosine : their mean and its standard error.
    predicted : 1/√(1 + TrC/(B|g|²)), with the error that TrC has.
    angle, predicted_angle : mean angle, and that of the predicted cosine [degree].
    """

    batch_size: int
    cosines: np.ndarray
    cosine: Estimate
    predicted: Estimate
    angle: Estimate
    predicted_angle: Estimate


def dot(first: Params, second: Params) -> jax.Array:
    """Scalar product over the floating leaves."""
    both = zip(tree.floating_only(first), tree.floating_only(second), strict=True)
    products = [jnp.sum(a.astype(tree.compute_dtype(a)) * b.astype(tree.compute_dtype(a))) for a, b in both]
    dtype = jnp.result_type(*products)
    return sum((one.astype(dtype) for one in products), jnp.zeros((), dtype))


def _gradient_fn(loss_fn: Callable, sample_fn: Callable) -> Callable:
    def gradient(params: Params, *batch: Any) -> Params:
        leaves = tree.floating_only(params)

        def mean(leaves: list) -> jax.Array:
            called = computing(lambda params: loss_fn(params, *batch))
            return jnp.mean(per_example(called)(tree.with_floating(params, leaves)))

        found = jax.grad(mean)([leaf.astype(leaf.dtype) for leaf in leaves])
        noise = jax.eval_shape(sample_fn, jax.random.key(0), params)
        moves = jax.tree.leaves(jax.tree.map(tree.is_mutated, params, noise))
        floating = [own for leaf, own in zip(jax.tree.leaves(params), moves, strict=True) if tree.is_floating(leaf)]
        return [leaf if own else jnp.zeros_like(leaf) for leaf, own in zip(found, floating, strict=True)]

    return gradient


def full_gradient(loss_fn: Callable, sample_fn: Callable, params: Params, data: Any, number: int) -> list:
    """Gradient of the mean loss by the floating leaves, 0 for those that do not mutate.

    That of data is summed in parts, so that memory is that of 256 examples.
    """
    if data is None:
        return kept(_whole_program, loss_fn, sample_fn)(params)
    size, total = min(_AT_ONCE, number), kept(_total_program, loss_fn, sample_fn)
    whole = number // size * size
    sums = total(params, jax.tree.map(lambda leaf: leaf[:whole], data), size)
    if whole < number:
        rest = total(params, jax.tree.map(lambda leaf: leaf[whole:], data), number - whole)
        sums = [a + b for a, b in zip(sums, rest, strict=True)]
    return [one / number for one in sums]


def _whole_program(loss_fn: Callable, sample_fn: Callable) -> Callable:
    return jax.jit(_gradient_fn(loss_fn, sample_fn), compiler_options=fast_options())


def _total_program(loss_fn: Callable, sample_fn: Callable) -> Callable:
    gradient = _gradient_fn(loss_fn, sample_fn)

    @partial(jax.jit, compiler_options=fast_options(), static_argnums=2)
    def total(params: Params, data: Any, size: int) -> list:
        parts = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), data)
        empty = [jnp.zeros(leaf.shape, tree.compute_dtype(leaf)) for leaf in tree.floating_only(params)]

        def add(sums: list, part: Any) -> Any:
            found = gradient(params, part)
            return [a + b.astype(a.dtype) * size for a, b in zip(sums, found, strict=True)], None

        return jax.lax.scan(add, empty, parts)[0]

    return total


def batch_angles(
    key: jax.Array,
    loss_fn: Callable,
    sample_fn: Callable,
    params: Params,
    data: Any,
    number: int,
    gradient: list,
    batch_sizes: tuple[int, ...],
    num_batches: int,
) -> tuple[tuple[BatchAngles, ...], Estimate]:
    """Angles for several batch sizes, and TrC from gradients of single examples [loss²/parameter²].

    Batches are drawn with replacement, as `mutagrad.minibatches` draws them.
    """
    of_size = kept(_batches_program, loss_fn, sample_fn)

    def call(size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        found = of_size(jax.random.fold_in(key, size), params, data, gradient, number, size, count)
        products, squares = (np.asarray(part, np.float64) for part in found)
        return products, squares

    square = float(dot(gradient, gradient))
    count = max(_FEWEST_SINGLES, num_batches)
    singles = call(1, count)[1] - square
    trace = Estimate(float(singles.mean()), float(singles.std(ddof=1) / math.sqrt(count)), "loss²/parameter²")
    found = []
    for size in batch_sizes:
        products, squares = call(size, num_batches)
        with np.errstate(divide="ignore", invalid="ignore"):
            cosines = np.clip(products / np.sqrt(squares * square), -1, 1)
        ratio = trace.value / (size * square) if square > 0 else math.nan
        predicted = 1 / math.sqrt(1 + ratio) if ratio > -1 else math.nan
        error = predicted**3 / 2 * trace.error / (size * square) if square > 0 else math.nan
        sine = math.sqrt(max(1 - predicted**2, 0))
        found.append(
            BatchAngles(
                size,
                cosines,
                _mean(cosines),
                Estimate(predicted, error),
                _mean(np.degrees(np.arccos(cosines)), "degree"),
                Estimate(
                    math.degrees(math.acos(min(predicted, 1.0))), math.degrees(error / sine) if sine else 0.0, "degree"
                ),
            )
        )
    return tuple(found), trace


def _batches_program(loss_fn: Callable, sample_fn: Callable) -> Callable:
    gradient_fn = _gradient_fn(loss_fn, sample_fn)

    @partial(jax.jit, compiler_options=fast_options(), static_argnums=(4, 5, 6))
    def of_size(
        key: jax.Array, params: Params, data: Any, gradient: list, number: int, size: int, count: int
    ) -> tuple[jax.Array, jax.Array]:
        """Products with the gradient, and squares, of so many batches of one size out of so many examples."""

        def one(index: jax.Array) -> Any:
            rows = jax.random.randint(keys.fold_in(key, index), (size,), 0, number)
            found = gradient_fn(params, jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=0, mode="clip"), data))
            return dot(found, gradient), dot(found, found)

        return jax.lax.map(one, jnp.arange(count))

    return of_size


def _mean(values: np.ndarray, unit: str = "") -> Estimate:
    values = values[np.isfinite(values)]
    if not len(values):
        return Estimate(math.nan, math.nan, unit)
    return Estimate(
        float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan, unit
    )
