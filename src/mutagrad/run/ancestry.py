"""What a lineage keeps of a generation, and how the next parents are made of it again.

Where each next parent has one ancestor, that is the winner. Where it has several, it is who they are, and their shares unless
these are always the same. Of `mutagrad.weighted_recombination`, whose ancestors are all offspring, the losses are less than that.
"""

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check, keys, tree
from mutagrad.algorithms.descent import descend, with_finite_ancestors
from mutagrad.algorithms.generation import widened
from mutagrad.algorithms.genomes.genomes import GenomeState
from mutagrad.law import RankWeights
from mutagrad.offspring import Offspring
from mutagrad.types import Algorithm, Definition, Descent, Info, Params, UnknownDefinition

__all__ = ["Kind", "are_of", "checksum", "descending", "innermost", "kind_of", "next_parents", "recorder"]

Record = Callable[[Any, Info], dict[str, jax.Array]]


class Kind(NamedTuple):
    """Of a descent: ancestors of each next parent, how they mix, and the dtype of their shares."""

    num_ancestors: int = 1
    inheritance: str = "copy"
    dtype: Any = None


def kind_of(algorithm: Algorithm, key: jax.Array, state: Any) -> Kind:
    """The kind of descent of the next generation."""
    number = len(algorithm.ask(key, state))
    return _kind(jax.eval_shape(lambda losses: algorithm.tell(key, state, losses)[1], jnp.zeros(number)))


def _kind(info: Any) -> Kind:
    # An algorithm of the user's own may have an Info of its own.
    descent = getattr(info, "descent", None)
    return Kind() if descent is None else Kind(descent.ancestors.shape[1], descent.inheritance, descent.shares.dtype)


def _told(algorithm: Algorithm, state: Any) -> tuple[Any, Info]:
    """State and Info after a generation, as shapes: where algorithms take turns, with room for any of them."""
    key = jax.random.key(0)
    number = len(algorithm.ask(key, state))
    return jax.eval_shape(lambda state: algorithm.tell(key, state, jnp.zeros(number)), state)


def recorder(algorithm: Algorithm, state: Any) -> Record:
    """What to record of a generation, a function (state, info) -> arrays."""
    if isinstance(innermost(state), GenomeState):
        return _of_genomes
    kind, definition = _kind(_told(algorithm, state)[1]), algorithm.definition
    number = kind.num_ancestors
    if kind.inheritance == "copy":
        return _of_winners
    if isinstance(definition, UnknownDefinition):
        return partial(_of_ancestors, number, True)
    if isinstance(definition.selection.law, RankWeights):
        return _of_losses
    return partial(_of_ancestors, number, _constant_shares(definition) is None)


def are_of(algorithm: Algorithm, state: Any, columns: Mapping[str, Any]) -> bool:
    """Whether columns have the names and axes of those of the algorithm's lineage."""
    definition, recorded = algorithm.definition, jax.eval_shape(recorder(algorithm, state), *_told(algorithm, state))
    known = [{name: column.shape for name, column in recorded.items()}]
    if not isinstance(definition, UnknownDefinition) and definition.selection.num_parents == 1:
        # At first, lineages of any rule with several ancestors had the losses.
        known.append({"losses": (definition.num_offspring,), "parent_loss": (), "sigma": (), "checksum": ()})
    return {name: column.shape[1:] for name, column in columns.items()} in known


def next_parents(
    definition: Definition | UnknownDefinition, kind: Kind, key: jax.Array, offspring: Offspring, row: Mapping[str, Any]
) -> Params:
    """The next parents, if nothing is taken back. kind : of a row that has ancestors."""
    if "winner" in row:
        return descend(key, offspring, Descent.of(row["winner"].astype(jnp.int32)))
    # As the generation divided its key.
    own = keys.split(check.key(key), 3 if offspring.num_parents > 1 else 2)[1]
    if "losses" in row:
        assert not isinstance(definition, UnknownDefinition)
        losses = row["losses"]
        seen = jnp.where(jnp.isfinite(row["parent_loss"]), 0, jnp.inf).astype(losses.dtype)[None]
        chosen = definition.selection.select_fn(own, losses, seen)
        return descend(own, offspring, with_finite_ancestors(chosen, jnp.isfinite(losses), 1))
    ancestors = row["ancestors"][:, : kind.num_ancestors].astype(jnp.int32)
    if "shares" in row:
        shares = row["shares"][:, : kind.num_ancestors].astype(kind.dtype)
    else:
        assert not isinstance(definition, UnknownDefinition)
        shares = _constant_shares(definition)
        assert shares is not None
    return descend(own, offspring, Descent(ancestors, shares, kind.inheritance))


def _constant_shares(definition: Definition) -> jax.Array | None:
    """The shares of a rule that has the same always, whatever its key and the losses; otherwise ``None``."""
    rule = definition.selection

    def shares(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> jax.Array:
        chosen = rule.select_fn(key, losses, parent_losses)
        return jnp.asarray((chosen if isinstance(chosen, Descent) else Descent.of(chosen)).shares)

    with jax.ensure_compile_time_eval():
        example = jax.random.key(0), jnp.zeros(definition.num_offspring), jnp.zeros(rule.num_parents)
        program = jax.make_jaxpr(shares)(*example).jaxpr
        varies = set(program.invars)
        for step in program.eqns:
            # A number written into the program is no variable.
            if step.effects or any(isinstance(one, Hashable) and one in varies for one in step.invars):
                varies.update(step.outvars)
        return shares(*example) if varies.isdisjoint(program.outvars) else None


def _index_dtype(info: Info) -> Any:
    """Of as few bytes as there are offspring and parents."""
    return jnp.int8 if len(info.losses) < 128 else jnp.int16 if len(info.losses) < 2**15 else jnp.int32


def _of_winners(state: Any, info: Info) -> dict[str, jax.Array]:
    winner = jnp.where(info.is_accepted, info.winner, jnp.minimum(info.winner, -1))
    return {"winner": winner.astype(_index_dtype(info)), "sigma": info.sigma, "checksum": checksum(descending(state))}


def _of_ancestors(number: int, has_shares: bool, state: Any, info: Info) -> dict[str, jax.Array]:
    descent = widened(info.descent, number)
    shares = descent.shares if tree.is_floating(descent.shares) else descent.shares.astype(jnp.result_type(float))
    ancestors = descent.ancestors.astype(_index_dtype(info))
    row = {"ancestors": ancestors, "sigma": info.sigma, "checksum": checksum(descending(state))}
    return row | ({"shares": shares} if has_shares else {})


def _of_losses(state: Any, info: Info) -> dict[str, jax.Array]:
    is_finite = jnp.isfinite(info.losses)
    seen = jnp.where(jnp.isfinite(info.parent_loss), info.loss_differences, info.losses)
    losses = jnp.where(is_finite & jnp.isfinite(seen), seen, jnp.inf)
    return {
        "losses": losses,
        "parent_loss": info.parent_loss,
        "sigma": info.sigma,
        "checksum": checksum(descending(state)),
    }


def _of_genomes(state: Any, info: Info) -> dict[str, jax.Array]:
    return {"losses": info.losses, "checksum": checksum(descending(state))}


def innermost(state: Any) -> Any:
    """The state within all wrappers."""
    while hasattr(state, "inner"):
        state = state.inner
    return state


def descending(state: Any) -> Any:
    """What is handed from generation to generation."""
    own = innermost(state)
    if isinstance(own, GenomeState):
        return own
    return own.parents if hasattr(own, "parents") else own.params


def checksum(parents: Any) -> jax.Array:
    """A checksum of 32 bits of all numbers and their places, whole arithmetic throughout."""
    total = jnp.zeros((), jnp.uint32)
    for place, leaf in enumerate(jax.tree.leaves(parents)):
        leaf = jnp.asarray(leaf)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if leaf.dtype == bool or leaf.dtype.name in ("int4", "uint4", "int2", "uint2"):
            leaf = leaf.astype(jnp.int8)
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            leaf = jnp.stack([leaf.real, leaf.imag])
        width = leaf.dtype.itemsize
        words = jax.lax.bitcast_convert_type(leaf, {1: jnp.uint8, 2: jnp.uint16}.get(width, jnp.uint32)).reshape(-1)
        odd = 2 * jax.lax.iota(jnp.uint32, words.size) + 1
        total = total * jnp.uint32(0x9E3779B1) + jnp.sum(words.astype(jnp.uint32) * odd, dtype=jnp.uint32) + place
    return total
