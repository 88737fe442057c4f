"""Losses of the offspring of one generation, compared with their parent example by example.

An offspring is an index: ``offspring_fn(index)`` makes its parameters. Three ways to evaluate them give the same losses
up to the rounding of differently compiled arithmetic:

- "vectorized": all at once by ``vmap``; M models in memory. Fastest on an accelerator and for tiny models.
- "mapped": one after another by ``lax.map``; one model and one mutation in memory, whatever M.
- a whole number: mapped in chunks of so many.

"auto" chooses by the measurements of benchmarks/results/evaluation.md.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check, tree
from mutagrad.types import LossFn, Params

VECTORIZED_ON_CPU = 65_536
"""On a CPU, "auto" vectorises while M × N, the numbers in a population, is no larger than this."""


class Losses(NamedTuple):
    """Losses of n candidates.

    Means (n,); means of the paired differences (n,), and the sampling variance of these (n,); all values (n, B), if kept;
    the reference (B,) of the differences.
    """

    means: jax.Array
    differences: jax.Array
    variances: jax.Array
    values: jax.Array | None
    reference: jax.Array

    def take(self, which: slice) -> "Losses":
        """Those of some of the candidates."""
        values = None if self.values is None else self.values[which]
        return Losses(self.means[which], self.differences[which], self.variances[which], values, self.reference)


def check_mode(evaluation: Any) -> str | int:
    """The ``evaluation`` argument of an algorithm, or a ValueError."""
    if evaluation in ("auto", "mapped", "vectorized"):
        return evaluation
    remedy = "pass 'auto', 'mapped', 'vectorized' or a whole number, the size of a chunk"
    return check.count("evaluation", evaluation, 1, remedy)


def per_example(loss_fn: LossFn) -> Callable[[Params], jax.Array]:
    """The loss as a vector of per-example losses in at least float32; a scalar loss is one example.

    Raises
    ------
    ValueError : when called, if the loss is not a floating scalar or a floating vector of one example or more.
    """

    def values(params):
        loss = loss_fn(params)
        try:
            loss = jnp.asarray(loss)
        except (TypeError, ValueError):
            raise ValueError(
                f"loss_fn: got a {type(loss).__name__} back; return a floating scalar or a vector of per-example losses"
            ) from None
        if not jnp.issubdtype(loss.dtype, jnp.floating):
            raise ValueError(f"loss_fn: got {loss.dtype} back; return floating losses (cast with .astype(jnp.float32))")
        if loss.ndim > 1:
            raise ValueError(
                f"loss_fn: got shape {loss.shape} back; return a scalar or one loss per example, of rank 1 "
                "(average over the other axes)"
            )
        if loss.size == 0:
            raise ValueError("loss_fn: got no losses, shape (0,); pass a batch of at least one example")
        return jnp.atleast_1d(loss).astype(tree.compute_dtype(loss))

    return values


def finite_reference(values: jax.Array) -> jax.Array:
    """Per-example losses to subtract: zeros in place of a parent whose own loss is not finite."""
    return jnp.where(jnp.isfinite(jnp.mean(values)), values, 0)


def compare(values: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of the paired differences of per-example losses (B,) from a reference (B,), and its sampling variance."""
    differences = values - reference.astype(values.dtype)
    difference = jnp.mean(differences)
    # A float: the product of two large sizes is no int32.
    variance = jnp.sum(jnp.square(differences - difference)) / float(values.size * max(values.size - 1, 1))
    return difference, variance


def evaluate(
    values_fn: Callable[[Params], jax.Array],
    candidate_fn: Callable[[jax.Array], Params],
    candidates: jax.Array,
    mode: str | int,
    reference: jax.Array | None = None,
    keep_values: bool = False,
) -> Losses:
    """Losses of candidates, and mean and sampling variance of their paired differences from a reference.

    The parent is a candidate like its offspring, so that one compiled program evaluates both: two programs may round
    differently, and at small σ that offset would drown the differences.

    Parameters
    ----------
    values_fn : per-example losses of given params, from `per_example`.
    candidate_fn : makes the parameters of a candidate.
    candidates : (n,) integers, the candidates.
    mode : "vectorized", "mapped" or the size of a chunk.
    reference : (B,) finite per-example losses to subtract before averaging; those of the first candidate unless given.
    keep_values : whether to return all (n, B) per-example losses.
    """

    def compared(values, reference):
        difference, variance = compare(values, reference)
        return jnp.mean(values), difference, variance, values if keep_values else None

    def values_of(candidate):
        return values_fn(candidate_fn(candidate))

    if mode == "mapped" and candidates.size > 1:
        # One after another, reduced at once: no more than two vectors of losses in memory.
        def body(reference, candidate):
            values = values_of(candidate)
            if reference_is_first:
                reference = jnp.where(candidate == candidates[0], finite_reference(values), reference)
            return reference, compared(values, reference)

        reference_is_first = reference is None
        shape = jax.eval_shape(values_of, candidates[0])
        start = jnp.zeros(shape.shape, shape.dtype) if reference is None else reference
        used, (means, differences, variances, kept) = jax.lax.scan(body, start, candidates)
        return Losses(means, differences, variances, kept, used)
    if mode == "vectorized" or candidates.size == 1:
        values = jax.vmap(values_of)(candidates)
    else:
        values = jax.lax.map(values_of, candidates, batch_size=mode if isinstance(mode, int) else None)
    first = finite_reference(values[0]) if reference is None else reference
    means, differences, variances, kept = jax.vmap(lambda one: compared(one, first))(values)
    return Losses(means, differences, variances, kept, first)


def resolve_mode(mode: str | int, params: Params, num_offspring: int) -> str | int:
    """What "auto" stands for on this machine, for this model and population."""
    if mode != "auto":
        return mode
    on_cpu = jax.default_backend() == "cpu"
    return "mapped" if on_cpu and num_offspring * tree.size(params) > VECTORIZED_ON_CPU else "vectorized"
