"""The candidates of one generation: an offspring is a key and an index, and its parameters are made when asked for."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import keys, tree
from mutagrad.types import Params

__all__ = ["Offspring"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("key", "parents", "previous", "sigma", "parent_of", "mutants", "parent_losses"),
    meta_fields=("sample_fn", "num_parents", "num_offspring"),
)
@dataclasses.dataclass(frozen=True)
class Offspring:
    """The candidates of one generation, none of them made yet: parents first, then offspring.

    ``len(offspring)``, ``offspring[i]`` and iteration give the parameters of the candidates one at a time, so that one model
    and one mutation are in memory; ``offspring.stacked()`` gives all of them with a leading axis.

    Attributes
    ----------
    key : of the mutations; offspring i has the key ``fold_in(key, i)``.
    parents : the parent; with several parents, leaves carry a leading axis (num_parents,).
    previous : the mutated leaves of the parent before, ``None`` for the others, if it is a candidate too: the second one.
    sigma : mutation scale [parameter].
    parent_of : (M,) the parent of each offspring; ``None`` with one parent.
    mutants : the offspring where they have been made, with a leading axis (M,); otherwise ``None``.
    parent_losses : (B,) kept losses of the parent; it is then no candidate.
    sample_fn : draws the mutation of an offspring, as in `mutagrad.Mutation`.
    num_parents, num_offspring : P and M.
    """

    key: jax.Array
    parents: Params
    previous: Params
    sigma: jax.Array
    parent_of: jax.Array | None
    mutants: Params
    parent_losses: jax.Array | None
    sample_fn: Callable[[jax.Array, Params], Params]
    num_parents: int
    num_offspring: int

    @property
    def num_before(self) -> int:
        """Candidates that are no offspring: the parents, and the parent before."""
        if self.parent_losses is not None:
            return 0
        return self.num_parents + (self.previous is not None)

    def __len__(self) -> int:
        return self.num_before + self.num_offspring

    def __getitem__(self, index: Any) -> Params:
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"offspring: got index {index}; there are {len(self)} candidates")
            index %= len(self)
        return made(self, jnp.asarray(index, jnp.int32))

    def __iter__(self) -> Iterator[Params]:
        return (self[index] for index in range(len(self)))

    def stacked(self) -> Params:
        """All candidates at once: leaves that are mutated or floating with a leading axis (n,), the others as they are."""
        return stacked(self)

    def rows(self) -> tuple[Params, Params]:
        """All candidates at once, and the axis of each leaf for ``vmap``: 0, or ``None`` for what all of them share."""
        made = self.made()
        parents, is_own = self.parents, lambda leaf: leaf is None
        if self.num_parents == 1:
            parents = jax.tree.map(lambda leaf: leaf[None], parents)
        axes = jax.tree.map(lambda leaf, mutants: None if mutants is None else 0, parents, made.mutants, is_leaf=is_own)
        if self.num_before == 0:
            return jax.tree.map(
                lambda leaf, mutants: leaf if mutants is None else mutants, self.parent(0), made.mutants, is_leaf=is_own
            ), axes

        def joined(leaf: Any, mutants: Any, previous: Any = None) -> Any:
            if mutants is None:
                return None if leaf is None else leaf[0]
            return jnp.concatenate([leaf] + ([] if previous is None else [previous[None]]) + [mutants])

        rest = (made.mutants,) if self.previous is None else (made.mutants, self.previous)
        return jax.tree.map(joined, parents, *rest, is_leaf=is_own), axes

    def parent(self, index: Any) -> Params:
        """A parent."""
        if self.parent_of is None:
            return self.parents
        return jax.tree.map(lambda leaf: leaf[index], self.parents)

    def noise(self, index: Any) -> Params:
        """The mutation of an offspring, in units of σ."""
        return draw(self.sample_fn, self.key, index, self.parents if self.parent_of is None else self.parent(0))

    def mutant(self, index: Any) -> Params:
        """An offspring, by its index among the offspring."""
        if self.mutants is not None:
            return self._of_mutants(index)
        base = self.parent(0 if self.parent_of is None else self.parent_of[index])
        return tree.add_scaled(base, self.noise(index), self.sigma)

    def candidate(self, index: jax.Array) -> Params:
        """A candidate, by its index among all of them.

        One program makes and evaluates parents and offspring alike, so that it rounds their losses alike: the mutation of a
        parent is multiplied by 0.
        """
        before, number = index < self.num_before, jnp.maximum(index - self.num_before, 0)
        if self.num_before == 0:
            return self.mutant(index)
        if self.mutants is not None:
            base = self._before(index)
            return jax.tree.map(
                lambda leaf, mutant: leaf if mutant is leaf else jnp.where(before, leaf, mutant),
                base,
                self._of_mutants(number),
            )
        base = self._before(index) if self.parent_of is None else self._base(index, number)
        return tree.add_scaled(base, self.noise(number), jnp.where(before, 0, self.sigma))

    def _before(self, index: jax.Array) -> Params:
        """The parent, or the one before where that is asked for."""
        if self.previous is None:
            return self.parent(jnp.minimum(index, self.num_parents - 1))
        is_previous = index == self.num_parents

        def choose(leaf: Any, old: Any) -> Any:
            return leaf if old is None else jnp.where(is_previous, old, leaf)

        return jax.tree.map(choose, self.parents, self.previous, is_leaf=lambda leaf: leaf is None)

    def _base(self, index: jax.Array, number: jax.Array) -> Params:
        assert self.parent_of is not None
        return self.parent(jnp.where(index < self.num_before, index, self.parent_of[number]))

    def _of_mutants(self, index: Any) -> Params:
        """Of those made: leaves without a leading axis are the parent's own, shared by all."""
        base = self.parent(0)
        return jax.tree.map(
            lambda leaf, made: leaf if made is None else made[index],
            base,
            self.mutants,
            is_leaf=lambda leaf: leaf is None,
        )

    def made(self) -> "Offspring":
        """The same candidates, the offspring made once: for a population that is small, or one mutant."""
        if self.mutants is not None:
            return self
        shared = jax.eval_shape(lambda: self.noise(0))

        def own(index: jax.Array) -> Params:
            def kept(leaf: Any, noise: Any) -> Any:
                return leaf if tree.is_mutated(leaf, noise) else None

            return jax.tree.map(kept, self.mutant(index), shared, is_leaf=lambda leaf: leaf is None)

        if self.num_offspring == 1:
            mutants = jax.tree.map(lambda leaf: leaf[None], own(jnp.zeros((), jnp.int32)))
        else:
            mutants = jax.vmap(own)(jnp.arange(self.num_offspring))
        return dataclasses.replace(self, mutants=mutants)


@jax.jit
def made(offspring: Any, index: jax.Array) -> Params:
    return offspring.candidate(index)


@jax.jit
def stacked(offspring: Any) -> Params:
    rows, axes = offspring.rows()

    def repeated(leaf: Any, axis: int | None) -> Any:
        if axis is not None or not tree.is_floating(leaf):
            return leaf
        return jnp.broadcast_to(leaf, (len(offspring), *leaf.shape))

    return jax.tree.map(repeated, rows, axes, is_leaf=lambda leaf: leaf is None)


def draw(sample_fn: Callable[[jax.Array, Params], Params], key: jax.Array, index: Any, params: Params) -> Params:
    """The mutation of offspring ``index``: the same numbers wherever it is made.

    The generator of rbg keys gives other numbers under ``vmap`` than alone. There it is kept out of ``vmap``: a mapped
    call becomes a loop. The compiler must not merge what draws a number with its product by σ, as it cannot where mutants are
    made in that loop: the last digits would be others.
    """
    if keys.is_threefry(key):
        return _checked(sample_fn(keys.fold_in(key, index), params), params)
    structure = jax.tree.structure(params)

    @jax.custom_batching.sequential_vmap
    def alone(data: jax.Array, index: Any, leaves: list) -> Params:
        own = jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))
        params = jax.tree.unflatten(structure, leaves)
        return jax.lax.optimization_barrier(_checked(sample_fn(jax.random.fold_in(own, index), params), params))

    return alone(jax.random.key_data(key), index, jax.tree.leaves(params))


def _checked(noise: Params, params: Params) -> Params:
    """The noise, or a ValueError if a leaf has another shape than what it mutates."""

    def check_shape(path: Any, leaf: Any, change: Any) -> None:
        shape = change.shape if tree.has_own_change(change) else jnp.shape(change) if change is not None else None
        if tree.is_mutated(leaf, change) and shape != leaf.shape:
            raise ValueError(
                f"mutation: got noise of shape {shape} for params{jax.tree_util.keystr(path)} of shape {leaf.shape}; "
                "return noise of the shape of each leaf, or None for one that stays as it is"
            )

    jax.tree_util.tree_map_with_path(check_shape, params, noise, is_leaf=lambda leaf: leaf is None)
    return noise
