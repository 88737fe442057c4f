"""What a run starts from: one parent or several, and the state of the first generation."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mutagrad import check, tree
from mutagrad.algorithms.descent import check_means
from mutagrad.compiler import check_compiler
from mutagrad.evaluation.losses import check_losses
from mutagrad.law import RankWeights
from mutagrad.types import Definition, LossFn, Params, PopulationState, State

__all__ = ["Parents", "first_state", "parents"]


class Parents(NamedTuple):
    """Several parents to start from; see `parents`."""

    stacked: Params
    number: int


def parents(several: Sequence[Params]) -> Parents:
    """Several parents to start from, for an algorithm with as many: pass the result in place of the params.

    Parameters
    ----------
    several : K pytrees of one structure, with leaves of the same shapes; leaves that do not mutate are those of the first.

    Raises
    ------
    ValueError : if there are none, or they differ in structure or shapes.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.truncation(sigma=0.1, population_size=8, num_parents=2)
    >>> algorithm.init(mutagrad.parents([jnp.zeros(3), jnp.ones(3)])).parents.shape
    (2, 3)
    """
    checked = [tree.check_params(params, is_discrete=True) for params in several]
    if not checked:
        raise ValueError("parents: got none; pass one pytree of params or more")
    kinds = [jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), params) for params in checked]
    if any(kind != kinds[0] for kind in kinds[1:]):
        raise ValueError("parents: got trees of different structure, shapes or dtypes; pass params of one model")
    first, *others = checked
    return Parents(jax.tree.map(lambda *leaves: _stacked(leaves), first, *others), len(checked))


def _stacked(leaves: Sequence[jax.Array]) -> jax.Array:
    """`jax.numpy.stack`, whose program of as many arguments as there are leaves takes seconds to compile, without a program."""
    first = leaves[0]
    is_known = all(check.is_concrete(leaf) for leaf in leaves) and not jnp.issubdtype(first.dtype, jax.dtypes.extended)
    if not is_known or len(set().union(*(leaf.devices() for leaf in leaves))) > 1:
        return jnp.stack(leaves)
    together = np.stack([np.asarray(leaf) for leaf in leaves])
    return jax.device_put(together, first.sharding if first.committed else None)


def _initial_sigma(sigma: Any) -> jax.Array:
    return jnp.asarray(sigma, jnp.result_type(float))


def first_state(definition: Definition, params: Params, loss_fn: LossFn | None) -> State | PopulationState:
    """The state that a run starts from; a ValueError if the params cannot be mutated."""
    check_compiler()
    number = definition.selection.num_parents
    sigma, generation = _initial_sigma(definition.sigma), jnp.zeros((), jnp.int32)
    if isinstance(params, Parents):
        if params.number != number:
            raise ValueError(
                f"params: got {params.number} parents for an algorithm with {number}; pass {number}, or one"
            )
        stacked = definition.mutation.checked(params.stacked)
        params = jax.tree.map(lambda leaf: leaf[0], stacked)
        if number > 1:
            return PopulationState(_of_first(definition, stacked, params), sigma, generation)
    params = definition.mutation.checked(params)
    if isinstance(definition.selection.law, RankWeights):
        check_means(params, jax.eval_shape(definition.mutation.sample_fn, jax.random.key(0), params))
    if number > 1:
        stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *leaf.shape)), params)
        return PopulationState(stacked, sigma, generation)
    parent_loss = None
    if not definition.reevaluate_parent:
        if loss_fn is None:
            raise ValueError(
                "loss_fn: got None with reevaluate_parent=False; pass init(params, loss_fn) the loss, which never changes"
            )
        parent_loss = check_losses(loss_fn(params))
    previous = definition.mutation.mutated(params) if definition.validate else None
    return State(params, sigma, generation, parent_loss, previous)


def _of_first(definition: Definition, stacked: Params, first: Params) -> Params:
    """Several parents, in which leaves that do not mutate are those of the first."""
    own = definition.mutation.mutated(first)

    def shared(leaf: Any, leaves: Any, mutated: Any) -> Any:
        return jnp.broadcast_to(leaf, leaves.shape) if mutated is None else leaves

    return jax.tree.map(shared, first, stacked, own, is_leaf=lambda leaf: leaf is None)
