"""The candidates of a generation, their matrices by their factors: all of them share the products with the parent's."""

import importlib.util
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import keys, tree
from mutagrad.evaluation.losses import Losses, of_values, per_example
from mutagrad.mutation.low_rank import Factored, Factors
from mutagrad.offspring import Offspring, draw
from mutagrad.types import LossFn, Params

__all__ = ["ROWS", "evaluate", "is_factored", "values_of"]

ROWS = 256
"""Rows of a matrix product from which on more of them make it no faster."""


def is_factored(offspring: Offspring) -> bool:
    """Whether the candidates are a parent and mutations that have factors, which the library can use."""
    if not isinstance(getattr(offspring, "sample_fn", None), Factored):
        return False
    if offspring.parent_of is not None or offspring.mutants is not None:
        return False
    if importlib.util.find_spec("quax") is None:
        warnings.warn(
            "mutation: low-rank matrices are formed, which takes many times as long, since quax is not installed; install "
            "mutagrad[low-rank], or pass formed=True",
            stacklevel=2,
        )
        return False
    return True


def evaluate(loss_fn: LossFn, offspring: Offspring, mode: str | int) -> Losses:
    """Losses of the candidates as `mutagrad.evaluation.local` has them: the parent's matrices times the inputs of all offspring
    at once, and a thin correction for each.

    Parameters
    ----------
    loss_fn, offspring : as evaluators have them.
    mode : "vectorized", "mapped", the size of a chunk, or "auto": on a CPU as many candidates at a time as make products of
        `ROWS` rows (docs/decisions.md); elsewhere all.
    """
    reference = offspring.parent_losses
    is_pair = offspring.previous is not None
    numbers = jnp.arange(len(offspring) - is_pair)
    if mode == "auto":
        mode = _chunk(loss_fn, offspring, len(numbers))
    if mode == "mapped":
        values = jax.lax.map(values_of(loss_fn, offspring), jnp.arange(len(offspring)))
        return of_values(values, reference, reference is not None)

    def one(index: jax.Array) -> jax.Array:
        return _values(loss_fn, _candidate(offspring, index))

    values = jax.lax.map(one, numbers, batch_size=mode) if isinstance(mode, int) else jax.vmap(one)(numbers)
    if is_pair:
        # Of other matrices: it shares no product.
        before = jax.vmap(lambda index: _values(loss_fn, _candidate(offspring, index, True)))(numbers[:1])
        values = jnp.concatenate([values[:1], before, values[1:]])
    return of_values(values, reference, reference is not None)


def values_of(loss_fn: LossFn, offspring: Offspring) -> Callable[[jax.Array], jax.Array]:
    """A function of the index of a candidate: its per-example losses."""

    def values(index: jax.Array) -> jax.Array:
        if offspring.previous is None:
            return _values(loss_fn, _candidate(offspring, index))
        # The parent, the one before, and then the offspring.
        own = jnp.where(index > 0, index - 1, 0)
        return _values(loss_fn, _candidate(offspring, own, index == 1))

    return values


_drawn = keys.alone(draw, static_argnums=0)
"""Alone, or a factor would be drawn again for every row of a product that it is fused with."""


def _candidate(offspring: Offspring, index: jax.Array, is_previous: Any = None) -> Params:
    """The parent (index 0, where it is a candidate) or an offspring, with factors in place of matrices."""
    num_before = int(offspring.num_before > 0)
    number = jnp.maximum(index - num_before, 0)
    sigma = jnp.where(index < num_before, 0, offspring.sigma)
    parents = offspring.parents
    if is_previous is not None:
        parents = jax.tree.map(
            lambda leaf, old: leaf if old is None else jnp.where(is_previous, old, leaf),
            parents,
            offspring.previous,
            is_leaf=lambda leaf: leaf is None,
        )
    assert isinstance(offspring.sample_fn, Factored)
    noise = _drawn(offspring.sample_fn.factors, offspring.key, number, offspring.parents)

    def changed(leaf: Any, own: Any) -> Any:
        # What is inherited is rounded to narrow leaves: so is what is evaluated.
        if isinstance(own, Factors) and leaf.dtype.itemsize >= 4:
            return _rules().LowRank(leaf, own.left * sigma.astype(own.left.dtype), own.right)
        return tree.add_scaled(leaf, own, sigma)

    return jax.tree.map(changed, parents, noise)


def _chunk(loss_fn: LossFn, offspring: Offspring, number: int) -> str | int:
    """How many candidates to evaluate at a time."""
    if jax.default_backend() != "cpu":
        return "vectorized"
    rows = []

    def noted(index: jax.Array) -> jax.Array:
        values, seen = _followed(loss_fn, _candidate(offspring, index))
        rows.append(seen.rows())
        return values

    jax.eval_shape(noted, jnp.zeros((), jnp.int32))
    size = -(-ROWS // rows[0])
    return "vectorized" if size >= number else "mapped" if size == 1 else size


def _values(loss_fn: LossFn, candidate: Params) -> jax.Array:
    """Per-example losses of a candidate."""
    values, seen = _followed(loss_fn, candidate)
    if seen.formed:
        warnings.warn(
            f"loss_fn: low-rank mutations are formed for {', '.join(sorted(seen.formed))}, a whole matrix for each offspring; "
            "the other operations need none (docs/low_rank.md)",
            stacklevel=2,
        )
    return values


def _rules() -> Any:
    """What quax is told of matrices; imported where there are any, so that nothing else depends on it."""
    return import_module("mutagrad.evaluation.low_rank.programs")


def _followed(loss_fn: LossFn, candidate: Params) -> tuple[jax.Array, Any]:
    """Per-example losses of a candidate, and what the loss did with its matrices."""
    rules = _rules()
    try:
        with rules.noting() as seen:
            return rules.traced(per_example(loss_fn), candidate), seen
    except rules.Unfollowed as error:
        raise ValueError(
            f"loss_fn: matrices of low rank cannot be followed through it ({str(error)[:200]}); pass "
            "mutation.low_rank(rank, formed=True)"
        ) from error
