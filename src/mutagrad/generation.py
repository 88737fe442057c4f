"""A generation, from any mutation and selection rule: with one parent, or with several.

One generation is one direction of data: mutation → evaluation → selection → state. An offspring is (key, index); its
mutation is made again where it is needed, so the population is never stored when offspring are mapped.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import check, gauge, tree
from mutagrad.evaluation import Losses, check_mode, compare, evaluate, finite_reference, per_example, resolve_mode
from mutagrad.recombination import recombine
from mutagrad.selection import PARENT
from mutagrad.types import Algorithm, Definition, Info, LossFn, Mutation, Params, PopulationState, Selection, State

__all__ = ["mutation_selection"]


def _split(losses: Losses, num_parents: int) -> tuple[Losses, Losses]:
    """The losses of the parents, which are evaluated first, and those of the offspring."""
    return losses.take(slice(num_parents)), losses.take(slice(num_parents, None))


def _relative(parent_loss: jax.Array) -> jax.Array:
    """The parent's loss as selection sees it: 0, or +inf if it is not finite."""
    return jnp.where(jnp.isfinite(parent_loss), 0, jnp.inf).astype(parent_loss.dtype)


def _comparable(losses: Losses) -> jax.Array:
    """The losses of the offspring as selection sees them: relative to the parent, +inf if they are not finite."""
    is_finite = jnp.isfinite(losses.means) & jnp.isfinite(losses.differences)
    return jnp.where(is_finite, losses.differences, jnp.inf)


def _select(parts: Definition, key: jax.Array, losses: Losses, parent_loss: jax.Array) -> jax.Array:
    """The winner, −1 for the parent. An offspring without a finite loss never wins, whatever the rule says."""
    comparable = _comparable(losses)
    winner = jnp.asarray(parts.selection.select_fn(key, comparable, _relative(parent_loss)), jnp.int32)
    return jnp.where((winner >= 0) & jnp.isfinite(comparable)[winner], winner, PARENT)


def _change(losses: Losses, winner: jax.Array) -> jax.Array:
    """Loss of the next parent minus that of the reference, the best of the present ones."""
    best = jnp.ravel(winner)[0]
    return jnp.where(best >= 0, losses.differences[best], 0)


def _info(
    losses: Losses,
    differences: jax.Array,
    parent_loss: jax.Array,
    winner: jax.Array,
    loss_change: jax.Array,
    sigma: jax.Array,
) -> Info:
    measured = gauge.measure(differences, losses.variances, sigma)
    return Info(
        losses=losses.means,
        parent_loss=parent_loss,
        loss_differences=differences,
        loss_difference_variances=losses.variances,
        winner=winner,
        is_accepted=winner >= 0,
        loss_change=loss_change,
        sigma=sigma,
        num_nonfinite=jnp.sum(~jnp.isfinite(losses.means), dtype=jnp.int32),
        normalized_mutation_strength=measured.strength,
        hessian_trace=measured.hessian_trace,
        squared_grad_norm=measured.squared_grad_norm,
        squared_grad_noise=measured.squared_grad_noise,
        gradient_curvature=measured.gradient_curvature,
    )


def _initial_sigma(sigma: Any) -> jax.Array:
    return jnp.asarray(sigma, jnp.result_type(float))


def _single_parent(parts: Definition) -> Algorithm:
    def init(params: Params, loss_fn: LossFn | None = None) -> State:
        params = tree.check_params(params)
        parent_loss = None
        if not parts.reevaluate_parent:
            parent_loss = jnp.full((), jnp.nan) if loss_fn is None else per_example(loss_fn)(params)
        return State(params, _initial_sigma(parts.sigma), jnp.zeros((), jnp.int32), parent_loss)

    def cached_values(state: State, values_fn: Callable) -> jax.Array:
        cached = state.parent_loss
        assert cached is not None
        shape = jax.eval_shape(values_fn, state.params).shape
        if cached.ndim == 0 and shape == (1,):
            return jax.lax.cond(
                jnp.isnan(cached), lambda: values_fn(state.params).astype(cached.dtype), lambda: cached[None]
            )
        if shape != cached.shape:
            raise ValueError(
                f"reevaluate_parent: got False with {shape[0]} per-example losses and a cached parent loss of shape "
                f"{cached.shape}; call init(params, loss_fn) with a loss that never changes, or leave it True"
            )
        return cached

    def step(key: jax.Array, state: State, loss_fn: LossFn) -> tuple[State, Info]:
        mutation_key, selection_key = jax.random.split(key)
        num_offspring = parts.num_offspring

        def noise_of(index):
            return parts.mutation.sample_fn(jax.random.fold_in(mutation_key, index), state.params)

        def offspring(index, sigma=state.sigma):
            return tree.add_scaled(state.params, noise_of(index), sigma)

        if num_offspring == 1:
            only = offspring(0)  # one mutation fits in memory: do not make it twice

            def candidate(index):
                return tree.where(index == 0, state.params, only)
        else:
            # Candidate 0 is the parent: its mutation is multiplied by 0.
            def candidate(index):
                return offspring(jnp.maximum(index - 1, 0), jnp.where(index == 0, 0, state.sigma))

        values_fn = per_example(loss_fn)
        mode = resolve_mode(parts.evaluation, state.params, num_offspring)
        candidates = jnp.arange(num_offspring + 1)
        if parts.reevaluate_parent:
            of_parent, losses = _split(evaluate(values_fn, candidate, candidates, mode), 1)
            loss = of_parent.means[0]
        else:
            cached = cached_values(state, values_fn)
            losses = evaluate(values_fn, candidate, candidates[1:], mode, finite_reference(cached), keep_values=True)
            loss = jnp.mean(cached)
        winner = _select(parts, selection_key, losses, loss)

        def selected():
            return only if num_offspring == 1 else offspring(winner)

        if parts.selection.weights_fn is None:
            params = jax.lax.cond(winner >= 0, selected, lambda: state.params)
            change = _change(losses, winner)
        else:
            weights = parts.selection.weights_fn(_comparable(losses))
            proposed = recombine(state.params, noise_of, weights, state.sigma, mode)
            change = compare(values_fn(proposed), losses.reference)[0]
            # The recombinant is judged like any offspring: without a finite loss, the parent stays.
            is_finite = jnp.isfinite(change)
            winner = jnp.where(is_finite, winner, PARENT)
            params = tree.where(is_finite, proposed, state.params)
            change = jnp.where(is_finite, change, 0)
        parent_loss = None
        if losses.values is not None and state.parent_loss is not None:
            kept = jnp.where(winner >= 0, losses.values[winner], cached)
            parent_loss = kept.reshape(state.parent_loss.shape).astype(state.parent_loss.dtype)
        differences = losses.differences - _relative(loss)
        info = _info(losses, differences, loss, winner, change, state.sigma)
        return State(params, state.sigma, state.generation + 1, parent_loss), info

    return Algorithm(init, step, parts)


def _several_parents(parts: Definition) -> Algorithm:
    num_parents = parts.selection.num_winners

    def init(params: Params, loss_fn: LossFn | None = None) -> PopulationState:
        params = tree.check_params(params)
        parents = tree.map_floating(lambda leaf: jnp.broadcast_to(leaf, (num_parents, *leaf.shape)), params)
        return PopulationState(parents, _initial_sigma(parts.sigma), jnp.zeros((), jnp.int32))

    def step(key: jax.Array, state: PopulationState, loss_fn: LossFn) -> tuple[PopulationState, Info]:
        mutation_key, selection_key, parent_key = jax.random.split(key, 3)
        parent_of = jax.random.randint(parent_key, (parts.num_offspring,), 0, num_parents)

        def parent(index):
            return tree.map_floating(lambda leaf: leaf[index], state.parents)

        def candidate(index):
            params = parent(jnp.where(index < num_parents, index, parent_of[index - num_parents]))
            noise = parts.mutation.sample_fn(jax.random.fold_in(mutation_key, index - num_parents), params)
            return tree.add_scaled(params, noise, jnp.where(index < num_parents, 0, state.sigma))

        mode = resolve_mode(parts.evaluation, state.params, parts.num_offspring)
        candidates = jnp.arange(num_parents + parts.num_offspring)
        of_parents, losses = _split(evaluate(per_example(loss_fn), candidate, candidates, mode), num_parents)
        winners = _select(parts, selection_key, losses, of_parents.means[0])

        def survivor(winner):
            # Where fewer than num_parents offspring have a finite loss, the best parent fills the gap.
            return candidate(jnp.where(winner >= 0, winner + num_parents, 0))

        only_floating = jax.lax.map(lambda winner: _floating_leaves(survivor(winner)), winners)
        parents = _replace_floating(state.parents, only_floating)
        own = losses.differences - of_parents.differences[parent_of] - _relative(of_parents.means[parent_of])
        info = _info(losses, own, of_parents.means[0], winners, _change(losses, winners), state.sigma)
        return PopulationState(parents, state.sigma, state.generation + 1), info

    return Algorithm(init, step, parts)


def _floating_leaves(params: Params) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(params) if tree.is_floating(leaf)]


def _replace_floating(params: Params, leaves: list[jax.Array]) -> Params:
    replacement = iter(leaves)
    return tree.map_floating(lambda _: next(replacement), params)


def mutation_selection(
    mutation: Mutation | Callable,
    selection: Selection | Callable,
    num_offspring: int,
    *,
    sigma: Any = 1.0,
    reevaluate_parent: bool = True,
    evaluation: str | int = "auto",
) -> Algorithm:
    """An algorithm from a mutation and a selection rule, the library's or your own.

    Each generation makes ``num_offspring`` mutants of the parent, evaluates them on the loss that the parent faces, and
    lets the rule choose the next parent. All named algorithms are this function with their parts.

    Parameters
    ----------
    mutation : a `Mutation`, or a function ``sample_fn(key, params) -> noise``.
    selection : a `Selection`, or a function ``select_fn(key, losses, parent_loss) -> winner``; see `Selection`.
    num_offspring : M ≥ 1.
    sigma : mutation strength, which multiplies the noise [parameter]; 1 for a mutation with a scale of its own.
    reevaluate_parent : whether the parent's loss is computed anew each generation. ``False`` saves one evaluation in
        M + 1, for a loss that never changes.
    evaluation : "auto", "mapped", "vectorized" or the size of a chunk; see `mutagrad.evaluation`.

    Returns
    -------
    Algorithm

    Raises
    ------
    ValueError : if σ is not positive and finite, M < 1, M below the rule's number of winners, or a rule for one
        offspring is given several.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> def worst(key, losses, parent_loss):
    ...     return jnp.argmax(losses)
    >>> algorithm = mutagrad.mutation_selection(mutagrad.mutation.sphere(), worst, 4, sigma=0.1)
    >>> state = algorithm.init(jnp.zeros(3))
    >>> state, info = algorithm.step(jax.random.key(0), state, lambda x: jnp.sum(x**2))
    >>> bool(info.is_accepted)
    True
    """
    mutation = mutation if isinstance(mutation, Mutation) else Mutation(mutation)
    selection = selection if isinstance(selection, Selection) else Selection(selection)
    check.positive("sigma", sigma)
    num_offspring = check.count("num_offspring", num_offspring)
    if selection.acceptance_fn is not None and num_offspring != 1:
        raise ValueError(
            f"num_offspring: got {num_offspring} with {selection.name} selection, which judges one offspring; pass 1, "
            "or select with elitist, comma or boltzmann"
        )
    if selection.weights_fn is not None:
        jax.eval_shape(selection.weights_fn, jax.ShapeDtypeStruct((num_offspring,), jnp.result_type(float)))
        if not reevaluate_parent:
            raise ValueError(
                f"reevaluate_parent: got False with {selection.name} selection, whose next parent is none of the "
                "offspring; leave it True"
            )
    if selection.num_winners > num_offspring:
        raise ValueError(
            f"num_parents: got {selection.num_winners}, more than the {num_offspring} offspring of a generation; "
            "pass fewer parents or more offspring"
        )
    parts = Definition(sigma, mutation, selection, num_offspring, reevaluate_parent, check_mode(evaluation))
    if selection.num_winners > 1:
        if not reevaluate_parent:
            raise ValueError("reevaluate_parent: got False with several parents, which are not cached; leave it True")
        return _several_parents(parts)
    return _single_parent(parts)
