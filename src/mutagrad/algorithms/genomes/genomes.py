"""Genomes of a population: an ancestor that all share, a table of segregating mutations, and who carries which.

A mutation is a seed and a scale; its effect is made again where it is needed. So n genomes of N parameters with L segregating
mutations take n·L bits and one matrix of L effects, and never n·N numbers at once unless the loss is evaluated so.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, keys, tree
from mutagrad.algorithms.genomes import bits
from mutagrad.offspring import made, stacked
from mutagrad.types import Params

__all__ = ["FREE", "GenomeState", "Genomes", "effect_of", "effects_of"]

FREE = -1
"""The birth of a slot of the table that holds no mutation."""


class GenomeState(NamedTuple):
    """What a population of genomes needs for its next generation.

    Attributes
    ----------
    ancestor : pytree, the fixed part: the first genome with all mutations that everyone carries.
    carriers : (n, L/32) uint32, bit l of a genome says whether it carries mutation l.
    seeds : (L, 2) uint32, the seed of each segregating mutation.
    scales : (L,) σ with which each arose [parameter].
    births : (L,) int32, the generation whose genomes carried each first; −1 where a slot is free.
    sigma : scalar, the mutation scale of the mutations to come [parameter].
    generation : int32 scalar, generations completed.
    num_dropped : int32 scalar, mutations that found no free slot so far, and so did not arise; 2³¹ − 1 stands for more.
    density : uint32 scalar, a checksum of the density whose effects the seeds make.
    """

    ancestor: Params
    carriers: jax.Array
    seeds: jax.Array
    scales: jax.Array
    births: jax.Array
    sigma: jax.Array
    generation: jax.Array
    num_dropped: jax.Array
    density: jax.Array

    @property
    def params(self) -> Params:
        """The fixed part."""
        return self.ancestor

    @property
    def population_size(self) -> int:
        """n."""
        return self.carriers.shape[0]

    @property
    def capacity(self) -> int:
        """L, how many mutations may segregate at once."""
        return self.seeds.shape[0]

    @property
    def remarks(self) -> list[str]:
        """What a run that ends here says: how many mutations found no place."""
        number = int(self.num_dropped)
        if not number:
            return []
        return [
            f"capacity: {number:,} mutations did not arise, since there is room for {self.capacity:,} at once; pass "
            "mutagrad.population a larger one (a run that goes on: result.state.with_capacity)"
        ]

    @property
    def genotypes(self) -> jax.Array:
        """(n, L) whether each genome carries the mutation of each slot."""
        return bits.unpack(self.carriers)

    @property
    def is_segregating(self) -> jax.Array:
        """(L,) whether a slot holds a mutation; some genomes carry it, and some do not."""
        return self.births != FREE

    @property
    def frequencies(self) -> jax.Array:
        """(L,) the share of genomes that carry each mutation; 0 where a slot is free."""
        return bits.column_counts(self.carriers) / self.population_size

    @property
    def heterozygosity(self) -> jax.Array:
        """Σ 2p(1 − p): at how many mutations two genomes differ in the mean, drawn with replacement."""
        p = self.frequencies
        return jnp.sum(2 * p * (1 - p))

    @property
    def positions(self) -> jax.Array:
        """(L,) the place of each mutation on the chromosome, from 0 to 1."""
        return jax.vmap(_position)(self.seeds)

    def with_params(self, params: Params) -> "GenomeState":
        """The same state with another fixed part."""
        return self if params is None else self._replace(ancestor=params)

    def with_sigma(self, sigma: jax.Array) -> "GenomeState":
        """The same state with another scale of the mutations to come."""
        return self._replace(sigma=sigma)

    def with_genomes(self, indices: Any) -> "GenomeState":
        """The same state with these genomes alone, in this order: a bottleneck, founders of a colony, or growth by copies.

        Mutations that none of them carries are gone; those that all carry become part of the ancestor in the next generation. A
        record of the genealogy begins anew: go on with ``history=None``.

        Parameters
        ----------
        indices : (n',) of genomes; one may come again.

        Raises
        ------
        ValueError : for what is no list of indices from 0 to n − 1.

        >>> import jax.numpy as jnp, mutagrad
        >>> state = mutagrad.population(0.1, 1.0, 8, 0.1).init(jnp.zeros(2))
        >>> state.with_genomes([0, 5]).population_size
        2
        """
        number = self.population_size
        try:
            chosen = np.asarray(indices)
        except (ValueError, TypeError):  # ragged, or traced
            chosen = np.zeros(0)
        is_list = chosen.ndim == 1 and chosen.size and chosen.dtype.kind in "iu"
        if not is_list or chosen.min() < 0 or chosen.max() >= number:
            shown = " ".join(repr(indices).split())[:80]
            raise ValueError(f"indices: got {shown} of {number} genomes; pass a list of indices from 0 to {number - 1}")
        carriers = self.carriers[chosen]
        return self._replace(carriers=carriers, births=jnp.where(bits.column_counts(carriers) == 0, FREE, self.births))

    def with_capacity(self, capacity: int) -> "GenomeState":
        """The same state with room for so many mutations, rounded up to a multiple of 32; it has dropped none yet.

        Raises
        ------
        ValueError : for less room than there is.

        >>> import jax.numpy as jnp, mutagrad
        >>> state = mutagrad.population(0.1, 1.0, 8, 0.1, capacity=32).init(jnp.zeros(2))
        >>> state.capacity, state.with_capacity(100).capacity
        (32, 128)
        """
        more = bits.words_for(check.count("capacity", capacity)) - self.carriers.shape[1]
        if more < 0:
            raise ValueError(
                f"capacity: got {capacity} for a state with room for {self.capacity}; pass {self.capacity} or more"
            )
        slots = more * bits.WORD
        return self._replace(
            carriers=jnp.pad(self.carriers, ((0, 0), (0, more))),
            seeds=jnp.pad(self.seeds, ((0, slots), (0, 0))),
            scales=jnp.pad(self.scales, (0, slots)),
            births=jnp.pad(self.births, (0, slots), constant_values=FREE),
            num_dropped=jnp.zeros_like(self.num_dropped),
        )


def _key_of(seed: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(seed, impl="threefry2x32")


def _position(seed: jax.Array) -> jax.Array:
    # Fold 0 of the seed is the effect.
    return jax.random.uniform(keys.fold_in(_key_of(seed), 1))


def effect_of(
    sample_fn: Callable[[jax.Array, Params], Params], seed: jax.Array, scale: jax.Array, like: Params
) -> Params:
    """The effect of a mutation on every parameter; ``None`` for leaves that do not mutate."""
    zeros = jax.tree.map(jnp.zeros_like, like)
    noise = sample_fn(keys.fold_in(_key_of(seed), 0), zeros)

    def scaled(leaf: Any, change: Any) -> Any:
        if not tree.is_mutated(leaf, change):
            return None
        wide = leaf.astype(tree.compute_dtype(leaf))
        if tree.has_own_change(change):
            return change.applied(wide, scale)
        return (scale * jnp.asarray(change)).astype(wide.dtype)

    return jax.tree.map(scaled, zeros, noise, is_leaf=lambda leaf: leaf is None)


def effects_of(sample_fn: Callable[[jax.Array, Params], Params], state: GenomeState) -> Params:
    """The effects of all mutations, leaves with a leading axis (L,); those of free slots are 0."""
    scales = jnp.where(state.is_segregating, state.scales, 0)
    return jax.vmap(partial(effect_of, sample_fn), in_axes=(0, 0, None))(state.seeds, scales, state.ancestor)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("ancestor", "carriers", "effects"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Genomes:
    """The genomes of a population, none of them made yet: what ``ask`` returns.

    ``len(genomes)``, ``genomes[i]`` and iteration give the parameters of one genome at a time, ``genomes.stacked()`` all of them
    with a leading axis.

    Attributes
    ----------
    ancestor : pytree, the fixed part.
    carriers : (n, L/32) uint32, as in `GenomeState`.
    effects : pytree of (L, …) effects of the mutations; ``None`` at leaves that do not mutate.
    """

    ancestor: Params
    carriers: jax.Array
    effects: Params

    parent_losses = None
    num_parents = 0
    num_before = 0

    @property
    def num_offspring(self) -> int:
        """n."""
        return self.carriers.shape[0]

    def __len__(self) -> int:
        return self.num_offspring

    def __repr__(self) -> str:
        return f"Genomes({len(self):,} genomes, room for {self.carriers.shape[1] * bits.WORD:,} mutations)"

    def __getitem__(self, index: Any) -> Params:
        if check.is_concrete(index):
            try:
                index = operator.index(index)
            except TypeError:
                raise TypeError(f"genomes: got index {index!r}; pass a whole number, or use stacked()") from None
            if not -len(self) <= index < len(self):
                raise IndexError(f"genomes: got index {index}; there are {len(self)}")
            index %= len(self)
        return made(self, jnp.asarray(index, jnp.int32))

    def __iter__(self) -> Iterator[Params]:
        return (self[index] for index in range(len(self)))

    def candidate(self, index: jax.Array) -> Params:
        """A genome, by its index."""
        return self._plus(bits.unpack(self.carriers[index]))

    def _plus(self, shares: jax.Array) -> Params:
        """The ancestor and so much of each mutation, (L,), or (n, L) for several genomes at once."""

        def added(leaf: Any, effects: Any) -> Any:
            if effects is None:
                return leaf
            start = leaf.astype(effects.dtype)
            total = (start if shares.ndim == 1 else start[None]) + jnp.tensordot(
                shares.astype(effects.dtype), effects, 1
            )
            return total.astype(leaf.dtype)

        return jax.tree.map(added, self.ancestor, self.effects, is_leaf=lambda leaf: leaf is None)

    def parent(self, index: Any) -> Params:
        """The fixed part, of the shapes of every genome."""
        return self.ancestor

    def made(self) -> "Genomes":
        """The same genomes: their effects are made."""
        return self

    def rows(self) -> tuple[Params, Params]:
        """All genomes at once, and the axis of each leaf for ``vmap``: 0, or ``None`` for what all of them share."""
        axes = jax.tree.map(
            lambda leaf, effects: None if effects is None else 0,
            self.ancestor,
            self.effects,
            is_leaf=lambda leaf: leaf is None,
        )
        return self._plus(bits.unpack(self.carriers)), axes

    def stacked(self) -> Params:
        """All genomes at once: leaves that mutate or are floating with a leading axis (n,), the others as they are."""
        return stacked(self)

    def mean(self) -> Params:
        """The mean genome."""
        return self._plus(bits.column_counts(self.carriers) / len(self))

    def covariance(self, directions: Params) -> jax.Array:
        """(k, k) genetic covariance along directions: of the projections of all genomes, over n [parameter²].

        Parameters
        ----------
        directions : pytree of the structure of the params, leaves with a leading axis (k,).
        """

        wanted = jax.tree.structure(self.ancestor)
        got = jax.tree.structure(directions, is_leaf=lambda leaf: leaf is None)
        if wanted != got:  # type: ignore[operator]  # the stubs of PyTreeDef have no comparison
            raise ValueError(f"directions: got a tree {got}; pass one of the structure of the params, {wanted}")

        def along(leaf: Any, effects: Any, directions: Any) -> Any:
            if effects is None:
                return jnp.zeros(())
            shape = jnp.shape(directions)
            if shape[1:] != leaf.shape or not shape:
                raise ValueError(
                    f"directions: got a leaf of shape {shape} for one of {leaf.shape}; pass (k, *{leaf.shape})"
                )
            flat = effects.reshape(effects.shape[0], -1)
            return flat @ jnp.asarray(directions, flat.dtype).reshape(-1, flat.shape[1]).T

        parts = jax.tree.map(along, self.ancestor, self.effects, directions, is_leaf=lambda leaf: leaf is None)
        return _covariance(self.carriers, [part for part in jax.tree.leaves(parts) if part.ndim == 2])


@jax.jit
def _covariance(carriers: jax.Array, effects: list[jax.Array]) -> jax.Array:
    total = sum(effects[1:], effects[0])
    values = bits.unpack(carriers).astype(total.dtype) @ total
    centred = values - jnp.mean(values, axis=0, keepdims=True)
    return centred.T @ centred / len(carriers)
