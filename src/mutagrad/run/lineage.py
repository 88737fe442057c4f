"""A run as its lineage: the start, and who won each generation; replayed bit for bit without evaluating the loss.

Of a generation a lineage holds the index of the winner, σ, and a checksum of the next parent: about ten bytes. The mutation is
made again from the key of the run. Crossover has the indices of mothers and fathers in place of winners. Of
`mutagrad.weighted_recombination`, and of populations of genomes, it holds the losses that selection saw.
"""

import dataclasses
from collections.abc import Callable
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, tree
from mutagrad.algorithms.genomes.genomes import GenomeState
from mutagrad.algorithms.start import Parents
from mutagrad.evaluation.local import Evaluator, resolve
from mutagrad.offspring import Offspring
from mutagrad.run import journal
from mutagrad.run.ancestry import Kind, are_of, checksum, descending, innermost, kind_of, next_parents, recorder
from mutagrad.run.begun import are_rows, begun
from mutagrad.run.checkpoint import folder_of
from mutagrad.run.loop import generation_key
from mutagrad.types import Algorithm, Params, UnknownDefinition

__all__ = ["NAME", "Replayed", "evaluator_of", "recorder", "replay", "start_of"]

NAME = "lineage.journal"
_AT_ONCE = 256
"""Generations of one compiled loop."""


class Replayed(NamedTuple):
    """A generation of a run, made again.

    Attributes
    ----------
    params : the parent after it, or the fixed part of a population.
    parents : what descends: the params, several parents, or the state of a population of genomes.
    generation : which one, the start being 0.
    num_bytes : of the lineage on disk. num_bytes_of_params : of one generation's parents.
    num_generations : that the lineage holds. last : the last one of them.
    """

    params: Params
    parents: Any
    generation: int
    num_bytes: int
    num_bytes_of_params: int
    num_generations: int
    last: int

    def to_start_from(self) -> Any:
        """What a new run starts from: the params, the parents, or the population with its variation."""
        if isinstance(self.parents, GenomeState):
            return self.parents
        several, one = jax.tree.leaves(self.parents), jax.tree.leaves(self.params)
        if all(np.shape(a) == np.shape(b) for a, b in zip(several, one, strict=True)):
            return self.params
        return Parents(self.parents, len(several[0]))

    def __repr__(self) -> str:
        each = self.num_bytes / max(self.num_generations, 1)
        return (
            f"Replayed(generation {self.generation:,} of {self.last:,}, bit for bit by its checksums; {each:.3g} "
            f"bytes a generation where its parameters take {self.num_bytes_of_params:,})"
        )


def replay(folder: str | PathLike, algorithm: Algorithm, params: Any, generation: int | None = None) -> Replayed:
    """Make a generation of a run again, from its start and its lineage.

    No loss is evaluated. Every generation is held against its checksum, so that what is returned is the run's own, bit for bit.

    Parameters
    ----------
    folder : that `mutagrad.evolve` was given as ``checkpoint``.
    algorithm : of the run. params : that the run started from, or the `mutagrad.Result` or `GenomeState` that it went on with.
    generation : up to which, from that of the start; the last one unless given.

    Returns
    -------
    Replayed: pass it to `mutagrad.evolve` in place of the params, and a new run starts from there.

    Raises
    ------
    ValueError : if there is no lineage, it is damaged before that generation, the run started from other params, or the algorithm
        or the version of JAX does not make what was made.

    >>> import tempfile, jax, jax.numpy as jnp, mutagrad
    >>> folder, algorithm = tempfile.mkdtemp(), mutagrad.adapt_sigma(mutagrad.elitist(sigma=0.1, num_offspring=8))
    >>> result = mutagrad.evolve(
    ...     jax.random.key(0), algorithm, jnp.ones(5), lambda x: jnp.sum(x**2), 30, checkpoint=folder, progress=False
    ... )
    >>> again = mutagrad.replay(folder, algorithm, jnp.ones(5))
    >>> bool(jnp.all(again.params == result.params))
    True
    """
    path = folder_of(folder) / NAME
    if not path.is_file():
        raise ValueError(f"lineage: got {str(folder)!r}, which holds none; pass the folder of a run that was saved")
    rows = journal.read(path)
    number = max((len(column) for column in rows.columns.values()), default=0)
    try:
        start = begun({name: value for name, value in rows.attributes.items() if name != "run"})
    except ValueError:
        raise ValueError(f"lineage: got {str(path)!r}, which does not say how its run began; restore it") from None
    if not are_rows(rows.columns):
        raise ValueError(f"lineage: got {str(path)!r}, which holds other rows than a lineage has; restore it")
    first = start.generation
    wanted = first + number if generation is None else check.count("generation", generation, 0)
    if not first <= wanted <= first + number:
        raise ValueError(f"generation: got {wanted}; the lineage holds those from {first} to {first + number}")
    for gap in rows.lost:
        if gap.start < wanted - first:
            raise ValueError(
                f"lineage: got {str(path)!r}, in which generations {first + gap.start + 1} to {first + gap.stop} are damaged; "
                f"replay up to {first + gap.start}, or take a checkpoint"
            )
    state = _first(check.algorithm(algorithm), params)
    if int(state.generation) != first or int(checksum(descending(state))) != start.checksum:
        raise ValueError("params: got others than the run started from; pass those, or the Result that it went on with")
    if not are_of(algorithm, state, rows.columns):
        raise ValueError(
            f"lineage: got {str(path)!r}, whose rows are not those of this algorithm; pass the algorithm of the run"
        )
    advance = _advance_of(algorithm, start.evaluation)
    previous = descending(state)
    for place in range(0, wanted - first, _AT_ONCE):
        some = {name: column[place : min(place + _AT_ONCE, wanted - first)] for name, column in rows.columns.items()}
        state, previous, is_same = advance(start.key, state, previous, some)
        if not np.all(is_same):
            at = first + place + int(np.argmin(is_same)) + 1
            raise ValueError(
                f"lineage: got {str(path)!r}, whose generation {at} is not made again by this algorithm with JAX "
                f"{jax.__version__}; pass the algorithm of the run, and use the versions that ran it"
            )
    parents = descending(state)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(parents))
    return Replayed(state.params, parents, wanted, path.stat().st_size, size, number, first + number)


def start_of(state: Any, key: jax.Array, evaluator: Evaluator) -> dict[str, Any]:
    """What a lineage says of how its run began, as JSON holds it."""
    return {
        "evaluation": evaluator.mode,
        "generation": int(state.generation),
        "checksum": int(checksum(descending(state))),
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "generator": str(jax.random.key_impl(key)),
    }


def evaluator_of(algorithm: Algorithm, evaluation: Any) -> Evaluator:
    """The evaluator of a run, as `mutagrad.generations` has it."""
    definition = algorithm.definition
    return resolve(evaluation, "auto" if isinstance(definition, UnknownDefinition) else definition.evaluation)


def _with_descending(state: Any, parents: Any) -> Any:
    """The state a generation later, with other parents."""
    if hasattr(state, "inner"):
        return state._replace(inner=_with_descending(state.inner, parents))
    name = "parents" if hasattr(state, "parents") else "params"
    return state._replace(**{name: parents}, generation=state.generation + 1)


def _first(algorithm: Algorithm, params: Any) -> Any:
    """The state that a run starts from; a kept loss of the parent plays no part in a lineage."""
    if isinstance(params, GenomeState):
        return params
    # A Result; params of the user's own may have a field of that name.
    if hasattr(state := getattr(params, "state", None), "generation"):
        return state
    definition = algorithm.definition
    keeps = not isinstance(definition, UnknownDefinition) and not definition.reevaluate_parent
    return algorithm.init(params, _no_loss if keeps else None)


def _no_loss(params: Params) -> jax.Array:
    return jnp.zeros(())


def _advance_of(algorithm: Algorithm, mode: Any) -> Callable:
    """A function of (key, state, previous parents, rows) that makes generations again."""
    definition, evaluator = algorithm.definition, Evaluator(lambda loss_fn, offspring: None, mode=mode)

    def after(
        kind: Kind, key: jax.Array, offspring: Offspring, state: Any, previous: Any, row: dict[str, jax.Array]
    ) -> tuple[tuple, jax.Array]:
        # σ as it was: controllers remember what is not needed here.
        offspring = dataclasses.replace(offspring, sigma=row["sigma"].astype(offspring.sigma.dtype))
        # Made at once where the run did: of some densities a mutant that is made alone differs in its last digit.
        following = next_parents(definition, kind, key, evaluator.prepared(offspring), row)
        is_same = checksum(following) == row["checksum"]
        # A step to where the loss was not finite was taken back.
        is_back = ~is_same & (checksum(previous) == row["checksum"])
        before = descending(state)
        following, previous = tree.where(is_back, previous, following), tree.where(is_back, previous, before)
        return (_with_descending(state, following), previous), is_same | is_back

    def kind_in(key: jax.Array, state: Any, row: dict[str, jax.Array]) -> Kind:
        return kind_of(algorithm, key, state) if "ancestors" in row else Kind()

    def body(key: jax.Array, carry: tuple, row: dict[str, jax.Array]) -> tuple[tuple, jax.Array]:
        state, previous = carry
        own = generation_key(key, state.generation)
        if isinstance(innermost(state), GenomeState):
            state, _ = algorithm.tell(own, state, row["losses"])
            return (state, previous), checksum(descending(state)) == row["checksum"]
        return after(kind_in(own, state, row), own, algorithm.ask(own, state), state, previous, row)

    @jax.jit
    def looped(key: jax.Array, state: Any, previous: Any, rows: dict[str, jax.Array], number: jax.Array) -> tuple:
        def one(index: jax.Array, carry: tuple) -> tuple:
            carry, is_same = carry
            carry, same = body(key, carry, {name: column[index] for name, column in rows.items()})
            return carry, is_same.at[index].set(same)

        carry, is_same = jax.lax.fori_loop(0, number, one, ((state, previous), jnp.zeros(_AT_ONCE, bool)))
        return (*carry, is_same)

    def together(key: jax.Array, state: Any, previous: Any, rows: dict[str, Any]) -> tuple[Any, Any, np.ndarray]:
        # Of one length, so that it is compiled once.
        number = len(rows["checksum"])
        rows = {name: np.resize(column, (_AT_ONCE, *column.shape[1:])) for name, column in rows.items()}
        state, previous, is_same = looped(key, state, previous, rows, jnp.int32(number))
        return state, previous, np.asarray(is_same)[:number]

    after_alone = jax.jit(after, static_argnums=0)

    def one_by_one(key: jax.Array, state: Any, previous: Any, rows: dict[str, Any]) -> tuple[Any, Any, np.ndarray]:
        is_same = []
        for position in range(len(rows["checksum"])):
            row = {name: jnp.asarray(column[position]) for name, column in rows.items()}
            own = generation_key(key, state.generation)
            kind, offspring = kind_in(own, state, row), algorithm.ask(own, state)
            (state, previous), same = after_alone(kind, own, offspring, state, previous, row)
            is_same.append(bool(same))
        return state, previous, np.asarray(is_same)

    def advance(key: jax.Array, state: Any, previous: Any, rows: dict[str, Any]) -> tuple[Any, Any, Any]:
        try:
            return together(key, state, previous, rows)
        except ValueError as error:
            # Of algorithms that take turns, the candidates depend on a number that must be known.
            if "traced state" not in str(error):
                raise
            return one_by_one(key, state, previous, rows)

    return advance
