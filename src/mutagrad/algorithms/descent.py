"""The next parents, made of their ancestors: one way for a winner, K winners, a weighted mean and two parents."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import keys, tree
from mutagrad.offspring import Offspring
from mutagrad.types import Descent, Params

__all__ = ["best_ancestor", "check_means", "descend", "with_finite_ancestors"]

_INHERITANCE = ("copy", "blend", "leaf", "parameter")
_SMALL = 65_536
"""Numbers in a population that counts as small."""
_AT_ONCE = 32
"""Mutations of a small population that are added up in one piece: more would take the compiler long."""
_STREAM = 0x6D61
"""Folded into the selection key, so that inheritance and selection draw other numbers."""


def with_finite_ancestors(descent: Descent, is_finite: jax.Array, num_parents: int) -> Descent:
    """The same descent with the first parent in place of whoever cannot be an ancestor; a ValueError if it is no descent.

    These are offspring whose loss is not finite, and indices that no candidate has.
    """
    if not isinstance(descent, Descent):
        descent = Descent.of(descent)
    if not jnp.issubdtype(jnp.result_type(descent.ancestors), jnp.integer):
        raise ValueError(
            f"select_fn: got ancestors of {jnp.result_type(descent.ancestors)} back; return indices, of int32"
        )
    ancestors, shares = jnp.asarray(descent.ancestors, jnp.int32), jnp.asarray(descent.shares)
    if ancestors.shape != shares.shape or ancestors.ndim != 2 or ancestors.shape[0] != num_parents:
        raise ValueError(
            f"select_fn: got ancestors {ancestors.shape} with shares {shares.shape} back; return a Descent of shape "
            f"({num_parents}, ancestors), as many as next parents"
        )
    if descent.inheritance not in _INHERITANCE:
        raise ValueError(
            f"select_fn: got inheritance {descent.inheritance!r} back; return one of {', '.join(_INHERITANCE)}"
        )
    if descent.inheritance == "copy" and ancestors.shape[1] > 1:
        raise ValueError(
            f"select_fn: got {ancestors.shape[1]} ancestors with inheritance 'copy' back, which is of one; return 'blend'"
        )
    is_offspring = (ancestors >= 0) & (ancestors < is_finite.size)
    is_usable = is_offspring & is_finite[jnp.clip(ancestors, 0, is_finite.size - 1)]
    is_parent = (ancestors < 0) & (ancestors >= -num_parents)
    # A leaf, or a parameter, that comes whole from one of one comes from that one.
    is_copy = descent.inheritance != "blend" and ancestors.shape[1] == 1
    return Descent(jnp.where(is_usable | is_parent, ancestors, -1), shares, "copy" if is_copy else descent.inheritance)


def best_ancestor(descent: Descent, losses: jax.Array, parent_losses: jax.Array) -> jax.Array:
    """(K,) the ancestor with the largest share of each next parent; of several the one of the lowest loss."""
    ancestors, shares = descent.ancestors, descent.shares
    if ancestors.shape[1] == 1:
        return ancestors[:, 0]
    own = jnp.where(ancestors >= 0, losses[jnp.maximum(ancestors, 0)], parent_losses[-1 - jnp.minimum(ancestors, -1)])
    is_largest = shares == jnp.max(shares, axis=1, keepdims=True)
    best = jnp.argmin(jnp.where(is_largest, own, jnp.inf), axis=1)
    return jnp.take_along_axis(ancestors, best[:, None], axis=1)[:, 0]


def descend(key: jax.Array, offspring: Offspring, descent: Descent) -> Params:
    """The next parents; with several, leaves carry a leading axis (K,)."""
    number = len(descent.ancestors)

    def one(row: Any) -> Params:
        index, ancestors, shares = row
        if descent.inheritance == "copy":
            return _copy(offspring, ancestors[0])
        if descent.inheritance == "blend":
            return _blend(offspring, ancestors, shares) if ancestors.size > 1 else _part(offspring, ancestors, shares)
        own = jax.random.fold_in(jax.random.fold_in(key, _STREAM), index)
        return _inherit(own, offspring, ancestors, shares, descent.inheritance == "leaf")

    rows = (jnp.arange(number), descent.ancestors, descent.shares)
    if number == 1:
        return one(jax.tree.map(lambda each: each[0], rows))
    return jax.lax.map(one, rows)


def _copy(offspring: Offspring, ancestor: jax.Array) -> Params:
    def mutant() -> Params:
        return offspring.mutant(jnp.maximum(ancestor, 0))

    def parent() -> Params:
        return offspring.parent(-1 - jnp.minimum(ancestor, -1))

    if offspring.mutants is not None:
        return tree.where(ancestor >= 0, mutant(), parent())
    return jax.lax.cond(ancestor >= 0, mutant, parent)


def _part(offspring: Offspring, ancestors: jax.Array, shares: jax.Array) -> Params:
    """A blend of one: the ancestor itself where its share is 1, bit for bit."""
    if not _have_means(offspring.noise(0)):
        # A value without a mean is inherited whole, or not at all.
        return _copy(offspring, jnp.where(shares[0] == 0, -1, ancestors[0]))
    is_whole = shares[0] == 1
    return jax.lax.cond(is_whole, lambda: _copy(offspring, ancestors[0]), lambda: _blend(offspring, ancestors, shares))


def _blend(offspring: Offspring, ancestors: jax.Array, shares: jax.Array) -> Params:
    """Parent + σ Σ share · mutation, the mutations made again one at a time; summed in full precision and rounded once."""
    kinds = offspring.noise(0)
    check_means(offspring.parents, kinds)
    if offspring.parent_of is not None:
        return _blend_of_several(offspring, ancestors, shares)

    base, weights, indices = offspring.parents, jnp.where(ancestors < 0, 0, shares), jnp.maximum(ancestors, 0)
    if offspring.num_offspring * tree.size(base) <= _SMALL:
        # A small population is made at once, and added up many at a time.
        totals = _weighted_sum(base, weights, jax.vmap(offspring.noise)(indices), lambda made: made, _AT_ONCE)
    else:
        totals = _weighted_sum(base, weights, indices, offspring.noise)
    noise = jax.tree.map(_with_values, base, totals, kinds)
    return tree.add_scaled(base, noise, offspring.sigma)


def _weighted_sum(
    base: Params, weights: jax.Array, of_each: Any, noise_fn: Callable[[Any], Params], unroll: int = 1
) -> Params:
    """Σ weight · mutation, one after another; ``noise_fn`` makes a mutation of what ``of_each`` has of it."""

    def body(totals: Params, one: tuple) -> tuple[Params, None]:
        weight, each = one

        def add(total: jax.Array, noise: Any) -> jax.Array:
            if noise is None:
                return total
            values = noise.values if tree.has_own_change(noise) else noise
            return total + weight.astype(total.dtype) * jnp.asarray(values).astype(total.dtype)

        return tree.map_floating(add, totals, noise_fn(each)), None

    zeros = tree.map_floating(lambda leaf: jnp.zeros(leaf.shape, tree.compute_dtype(leaf)), base)
    return jax.lax.scan(body, zeros, (weights, of_each), unroll=min(unroll, weights.size))[0]


def _with_values(leaf: jax.Array, total: jax.Array, kind: Any) -> Any:
    """A sum of noise as noise that changes a leaf in the same way."""
    return dataclasses.replace(kind, values=total) if tree.has_own_change(kind) else total


def _has_no_mean(kind: Any) -> bool:
    return tree.has_own_change(kind) and not hasattr(kind, "values")


def _have_means(kinds: Params) -> bool:
    return not any(map(_has_no_mean, jax.tree.leaves(kinds, is_leaf=tree.has_own_change)))


def check_means(params: Params, kinds: Params) -> None:
    """Refuse a weighted mean of values that have none."""

    def check(path: Any, leaf: Any, kind: Any) -> None:
        if _has_no_mean(kind):
            raise ValueError(
                f"selection: got shares that blend, and params{jax.tree_util.keystr(path)} is discrete, so that its values have "
                "no mean; pass an algorithm that selects one ancestor (elitist), or selection.crossover"
            )

    jax.tree_util.tree_map_with_path(check, params, kinds)


def _blend_of_several(offspring: Offspring, ancestors: jax.Array, shares: jax.Array) -> Params:
    """Σ share · candidate, and what is short of 1 of the first parent, where parents differ."""
    first = offspring.parent(0)

    def body(totals: Params, one: tuple) -> tuple[Params, None]:
        ancestor, share = one

        def add(total: jax.Array, base: jax.Array, candidate: jax.Array) -> jax.Array:
            return total + share.astype(total.dtype) * (candidate.astype(total.dtype) - base.astype(total.dtype))

        return tree.map_floating(add, totals, first, _copy(offspring, ancestor)), None

    start = tree.map_floating(lambda leaf: leaf.astype(tree.compute_dtype(leaf)), first)
    totals = jax.lax.scan(body, start, (ancestors, shares))[0]
    return tree.map_floating(lambda leaf, total: total.astype(leaf.dtype), first, totals)


def _inherit(key: jax.Array, offspring: Offspring, ancestors: jax.Array, shares: jax.Array, by_leaf: bool) -> Params:
    """Every parameter, or leaf, of one ancestor, one ancestor made at a time."""
    bounds = jnp.cumsum(shares) / jnp.sum(shares)

    def chosen(key: jax.Array, leaf: jax.Array) -> jax.Array:
        draws = jax.random.uniform(key, () if by_leaf else leaf.shape, bounds.dtype)
        return jnp.minimum(jnp.searchsorted(bounds, draws, side="right"), shares.size - 1)

    first = offspring.parent(0)
    fast = keys.fast(key)
    leaves, structure = jax.tree.flatten(first)
    places = [chosen(jax.random.fold_in(fast, position), leaf) for position, leaf in enumerate(leaves)]
    choice = jax.tree.unflatten(structure, places)

    def body(kept: Params, one: tuple) -> tuple[Params, None]:
        position, ancestor = one

        def take(leaf: jax.Array, which: jax.Array, own: jax.Array) -> jax.Array:
            return jnp.where(which == position, own, leaf)

        return jax.tree.map(take, kept, choice, _copy(offspring, ancestor)), None

    return jax.lax.scan(body, first, (jnp.arange(shares.size), ancestors))[0]
