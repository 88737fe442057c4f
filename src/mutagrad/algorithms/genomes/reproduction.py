"""Who is born of whom: parents drawn by fitness within demes, genomes that mix, mutations that arise, are fixed and are lost."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import keys
from mutagrad.algorithms.genomes import bits, draw
from mutagrad.algorithms.genomes.genomes import FREE, GenomeState, effect_of
from mutagrad.types import Params

__all__ = ["Rules", "Turnover", "reproduce"]


class Rules(NamedTuple):
    """How genomes reproduce; see `mutagrad.population`.

    Attributes
    ----------
    mutation_rate : per genome that is born. recombination, rate : "free", "none", "crossover" or "transfer", and its rate.
    num_replaced : how many genomes are born in a generation. num_demes : D. migration : share of births from other demes.
    """

    mutation_rate: float
    recombination: str
    rate: float
    num_replaced: int
    num_demes: int
    migration: float


class Turnover(NamedTuple):
    """What became of mutations and genomes in a generation.

    Attributes
    ----------
    parents : (n, 2) int32, the genomes of the generation before that each genome comes from. Without recombination both are one;
        for a genome that was not replaced both are itself.
    from_second : (n, L/32) words, which mutations of each genome come from the second of its parents.
    owners : (L,) int32, the genome in which the mutation of a slot arose now; −1 where none did.
    is_fixed : (L,) whether the mutation of a slot was fixed now.
    ages : (L,) age of the mutation of a slot [generations], −1 where there is none.
    num_new, num_fixed, num_lost : int32, mutations that arose, became part of all genomes, and of none.
    num_dropped : int32, mutations that found no free slot, and so did not arise.
    """

    parents: jax.Array
    from_second: jax.Array
    owners: jax.Array
    is_fixed: jax.Array
    ages: jax.Array
    num_new: jax.Array
    num_fixed: jax.Array
    num_lost: jax.Array
    num_dropped: jax.Array


def _weights(fitness: jax.Array, num_demes: int) -> jax.Array:
    """(D, m) relative fitness; alike where none of a deme has any."""
    rows = fitness.reshape(num_demes, -1)
    return jnp.where(jnp.max(rows, axis=1, keepdims=True) > 0, rows, 1)


def _demes_of_parents(key: jax.Array, own: jax.Array, rules: Rules) -> jax.Array:
    """The deme that each birth has its parents from: its own, or another one where it migrates."""
    if rules.num_demes == 1 or rules.migration == 0:
        return own
    first, second = keys.split(key)
    migrates = jax.random.uniform(keys.fast(first), own.shape) < rules.migration
    other = jax.random.randint(keys.fast(second), own.shape, 1, rules.num_demes)
    return jnp.where(migrates, (own + other) % rules.num_demes, own)


def _mask(key: jax.Array, state: GenomeState, number: int, rules: Rules) -> jax.Array:
    """(d, L/32) words, what the genomes that are born have from the second parent."""
    shape = (number, state.carriers.shape[1])
    if rules.recombination == "none":
        return jnp.zeros(shape, jnp.uint32)
    if rules.recombination == "crossover":
        return bits.crossover_mask(key, number, state.positions, rules.rate)
    return bits.random_mask(key, shape, rules.rate)


def _poisson(key: jax.Array, mean: float) -> jax.Array:
    # JAX draws it from threefry keys alone.
    words = jax.random.bits(keys.fast(key), (2,), jnp.uint32)
    return jax.random.poisson(jax.random.wrap_key_data(words, impl="threefry2x32"), mean, dtype=jnp.int32)


def reproduce(
    key: jax.Array,
    state: GenomeState,
    fitness: jax.Array,
    rules: Rules,
    sample_fn: Callable[[jax.Array, Params], Params],
) -> tuple[GenomeState, Turnover]:
    """The next generation.

    Parameters
    ----------
    fitness : (n,) of every genome, 0 or more, on any scale.
    """
    number, size = state.population_size, state.population_size // rules.num_demes
    deaths, first, second, migration, mixing, arising = keys.split(key, 6)
    born = jnp.arange(number)
    if rules.num_replaced == 1:
        born = jax.random.randint(keys.fast(deaths), (1,), 0, number)
    elif rules.num_replaced < number:
        born = jax.random.permutation(keys.fast(deaths), number)[: rules.num_replaced]
    weights = _weights(fitness, rules.num_demes)
    demes = _demes_of_parents(migration, born // size, rules)
    mothers = draw.by_weight(first, weights, demes)
    fathers = mothers if rules.recombination == "none" else draw.by_weight(second, weights, demes)
    mask = _mask(mixing, state, len(born), rules)
    words = (state.carriers[fathers] & mask) | (state.carriers[mothers] & ~mask)
    everyone = jnp.arange(number, dtype=jnp.int32)
    parents = jnp.stack([everyone, everyone], axis=1).at[born].set(jnp.stack([mothers, fathers], axis=1))
    state, owners, num_dropped = _mutated(
        arising, state._replace(carriers=state.carriers.at[born].set(words)), born, rules.mutation_rate
    )
    # As many as an integer holds, and no more.
    dropped = jnp.minimum(state.num_dropped, jnp.iinfo(jnp.int32).max - num_dropped) + num_dropped
    state, turnover = _folded(state._replace(generation=state.generation + 1, num_dropped=dropped), sample_fn)
    return state, turnover._replace(
        parents=parents,
        from_second=jnp.zeros_like(state.carriers).at[born].set(mask),
        owners=owners,
        num_new=jnp.sum(owners >= 0, dtype=jnp.int32),
        num_dropped=num_dropped,
    )


def _mutated(
    key: jax.Array, state: GenomeState, born: jax.Array, rate: float
) -> tuple[GenomeState, jax.Array, jax.Array]:
    """The state with new mutations in genomes that were born, whose they are (−1: none is new), and how many found no slot."""
    counting, owning, seeding = keys.split(key, 3)
    wanted = _poisson(counting, rate * len(born))
    is_free = ~state.is_segregating
    rank = jnp.cumsum(is_free) - 1
    is_new = is_free & (rank < wanted)
    owners = born[jax.random.randint(keys.fast(owning), is_new.shape, 0, len(born))]
    word, bit = bits.bit_of(jnp.arange(len(is_new)))
    # Bits of free slots are 0 in all genomes, so that adding sets them.
    carriers = state.carriers.at[owners, word].add(jnp.where(is_new, bit, 0))
    seeds = jax.random.bits(keys.fast(seeding), state.seeds.shape, jnp.uint32)
    return (
        state._replace(
            carriers=carriers,
            seeds=jnp.where(is_new[:, None], seeds, state.seeds),
            scales=jnp.where(is_new, state.sigma, state.scales),
            births=jnp.where(is_new, state.generation + 1, state.births),
        ),
        jnp.where(is_new, owners, -1).astype(jnp.int32),
        wanted - jnp.sum(is_new, dtype=jnp.int32),
    )


def _folded(state: GenomeState, sample_fn: Callable[[jax.Array, Params], Params]) -> tuple[GenomeState, Turnover]:
    """Mutations that all carry become part of the ancestor, and those that none carries leave the table."""
    counts = bits.column_counts(state.carriers)
    is_fixed = state.is_segregating & (counts == state.population_size)
    is_lost = state.is_segregating & (counts == 0)
    ages = jnp.where(state.is_segregating, state.generation - state.births, -1)

    def add(carry: tuple) -> tuple:
        left, ancestor = carry
        slot = jnp.argmax(left)
        effect = effect_of(sample_fn, state.seeds[slot], state.scales[slot], ancestor)

        def added(leaf: Any, change: Any) -> Any:
            return leaf if change is None else (leaf.astype(change.dtype) + change).astype(leaf.dtype)

        moved = jax.tree.map(added, ancestor, effect, is_leaf=lambda leaf: leaf is None)
        return left.at[slot].set(False), moved

    _, ancestor = jax.lax.while_loop(lambda carry: jnp.any(carry[0]), add, (is_fixed, state.ancestor))
    kept = ~bits.pack(is_fixed)
    after = state._replace(
        ancestor=ancestor,
        carriers=state.carriers & kept[None],
        births=jnp.where(is_fixed | is_lost, FREE, state.births),
    )
    none = jnp.zeros((), jnp.int32)
    number_fixed, number_lost = (jnp.sum(one, dtype=jnp.int32) for one in (is_fixed, is_lost))
    unknown = jnp.zeros((0, 2), jnp.int32), jnp.zeros((0, 0), jnp.uint32), jnp.zeros(0, jnp.int32)
    return after, Turnover(*unknown, is_fixed, ages, none, number_fixed, number_lost, none)
