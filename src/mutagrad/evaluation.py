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

VECTORIZED_ON_CPU = 4096
"""On a CPU, "auto" vectorises while M × N, the numbers in a population, is no larger than this."""


class Losses(NamedTuple):
    """Losses of M offspring.

    Means (M,); means of the paired differences (M,), and the sampling variance of these (M,); all values (M, B), if kept.
    """

    means: jax.Array
    differences: jax.Array
    variances: jax.Array
    values: jax.Array | None


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


def evaluate(
    values_fn: Callable[[Params], jax.Array],
    offspring_fn: Callable[[jax.Array], Params],
    num_offspring: int,
    reference: jax.Array,
    mode: str | int,
    keep_values: bool = False,
) -> Losses:
    """Losses of offspring 0 … M−1, and mean and sampling variance of their paired differences from the reference.

    Parameters
    ----------
    values_fn : per-example losses of given params, from `per_example`.
    offspring_fn : makes the parameters of offspring ``index``.
    num_offspring : M.
    reference : (B,) finite per-example losses to subtract before averaging.
    mode : "vectorized", "mapped" or the size of a chunk.
    keep_values : whether to return all (M, B) per-example losses.
    """

    def one(index):
        values = values_fn(offspring_fn(index))
        differences = values - reference.astype(values.dtype)
        difference = jnp.mean(differences)
        variance = jnp.sum(jnp.square(differences - difference)) / (values.size * max(values.size - 1, 1))
        return jnp.mean(values), difference, variance, (values if keep_values else None)

    indices = jnp.arange(num_offspring)
    if num_offspring == 1:
        return Losses(*jax.tree.map(lambda leaf: leaf[None], one(indices[0])))
    if mode == "vectorized":
        return Losses(*jax.vmap(one)(indices))
    return Losses(*jax.lax.map(one, indices, batch_size=mode if isinstance(mode, int) else None))


def resolve_mode(mode: str | int, params: Params, num_offspring: int) -> str | int:
    """What "auto" stands for on this machine, for this model and population."""
    if mode != "auto":
        return mode
    on_cpu = jax.default_backend() == "cpu"
    return "mapped" if on_cpu and num_offspring * tree.size(params) > VECTORIZED_ON_CPU else "vectorized"
