"""A generation, from any mutation and selection rule: ask, evaluate, tell.

One generation is one direction of data: mutation → evaluation → selection → state. An offspring is (key, index); its
mutation is made again where it is needed, so the population is never stored when offspring are mapped.
"""
# ruff: noqa: E501

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mutagrad import check, estimates, keys, law
from mutagrad.algorithms.descent import best_ancestor, descend, with_finite_ancestors
from mutagrad.algorithms.start import first_state
from mutagrad.evaluation.local import resolve
from mutagrad.evaluation.losses import Losses, number_told, told
from mutagrad.offspring import Offspring
from mutagrad.types import (
    Algorithm,
    Definition,
    Descent,
    Info,
    LossFn,
    Mutation,
    Params,
    PopulationState,
    Selection,
    State,
)

__all__ = ["assemble", "common_descent", "mutation_selection", "widened"]


def _ask(definition: Definition, key: jax.Array, state: Any, is_resampled: Any) -> tuple[Offspring, jax.Array]:
    """The candidates of a generation, and the key of its selection."""
    key, number = check.key(key), definition.selection.num_parents
    parent_of = None
    if number == 1:
        mutation_key, selection_key = keys.split(key)
        # On the same batch the parent before has the loss that it had.
        is_needless = is_resampled is False and not definition.validate
        everyone, kept = state.params, None if definition.reevaluate_parent else state.parent_loss
        previous = None if is_needless else state.previous
    else:
        mutation_key, selection_key, parent_key = keys.split(key, 3)
        parent_of = jax.random.randint(keys.fast(parent_key), (definition.num_offspring,), 0, number)
        everyone, previous, kept = state.parents, None, None
        present = jax.tree.leaves(everyone)[0].shape[0]
        if present != number:
            raise ValueError(
                f"state: got {present} parents for an algorithm with num_parents={number}; go on with the algorithm that made it, "
                "or start anew from its params"
            )
    offspring = Offspring(
        key=mutation_key,
        parents=everyone,
        previous=previous,
        sigma=state.sigma,
        parent_of=parent_of,
        mutants=None,
        parent_losses=kept,
        sample_fn=definition.mutation.sample_fn,
        num_parents=number,
        num_offspring=definition.num_offspring,
    )
    return offspring, selection_key


def _relative(parent_losses: jax.Array) -> jax.Array:
    """A parent's loss as selection sees it: 0, or +inf if it is not finite."""
    return jnp.where(jnp.isfinite(parent_losses), 0, jnp.inf).astype(parent_losses.dtype)


def _tell(
    definition: Definition, offspring: Offspring, key: jax.Array, state: Any, losses: Losses, is_resampled: Any
) -> tuple[Any, Info]:
    """The next state, from who descends from whom."""
    number, cached = offspring.num_parents, offspring.parent_losses
    of_offspring = losses.take(slice(offspring.num_before, None))
    if cached is None:
        of_parents = losses.take(slice(number))
        parent_losses = of_parents.means
        parent_differences = jnp.where(jnp.isfinite(parent_losses), of_parents.differences, jnp.inf)
    else:
        parent_losses = jnp.mean(cached)[None]
        parent_differences = _relative(parent_losses)
    is_finite = jnp.isfinite(of_offspring.means) & jnp.isfinite(of_offspring.differences)
    comparable = jnp.where(is_finite, of_offspring.differences, jnp.inf)
    # The reference itself is 0, whatever the rounding of its difference from itself.
    seen = jnp.concatenate([_relative(parent_losses[:1]), parent_differences[1:]])
    chosen = definition.selection.select_fn(key, comparable, seen)
    descent = with_finite_ancestors(chosen, is_finite, definition.selection.num_parents)
    if cached is not None and descent.inheritance != "copy":
        raise ValueError(
            f"reevaluate_parent: got False with {definition.selection.name} selection, whose next parent may be none of the "
            "candidates, so that its loss is not known; return an index, or Descent.of one, or leave it True"
        )
    winner = best_ancestor(descent, comparable, seen)
    has_offspring = jnp.any((descent.ancestors >= 0) & (descent.shares != 0), axis=1)
    following = descend(key, offspring, descent)
    if descent.ancestors.shape[1] == 1:
        first = winner[0]
        of_parent = seen[jnp.clip(-1 - first, 0, number - 1)]
        change = jnp.where(first >= 0, of_offspring.differences[jnp.maximum(first, 0)], of_parent)
        change = jnp.where(jnp.isfinite(change), change, 0)
        if descent.inheritance != "copy":
            change = jnp.where((first < 0) | (descent.shares[0, 0] == 1), change, jnp.nan)
    else:
        change = jnp.full((), jnp.nan, comparable.dtype)
    if offspring.parent_of is None:
        own = of_offspring.differences - _relative(parent_losses)[0]
    else:
        of = offspring.parent_of
        own = of_offspring.differences - of_parents.differences[of] - _relative(parent_losses)[of]
    validated = jnp.full((), jnp.nan, comparable.dtype)
    if number > 1:
        after: Any = PopulationState(following, state.sigma, state.generation + 1)
    else:
        kept = None if cached is None else _kept_losses(of_offspring, winner[0], cached)
        previous = state.previous
        if offspring.previous is not None:
            before = losses.take(slice(number, number + 1))
            is_known = jnp.isfinite(before.means[0]) & jnp.isfinite(parent_losses[0])
            validated = jnp.where(is_known, -before.differences[0], jnp.nan)
            # A step to where the loss is not finite is taken back.
            has_failed = ~jnp.isfinite(parent_losses[0]) & jnp.isfinite(before.means[0]) & ~has_offspring[0]
            following = _merged(following, previous, has_failed)
            previous = _merged(previous, state.params, ~has_failed)
        elif previous is not None:
            previous = _merged(previous, state.params, jnp.bool_(True))
        after = State(following, state.sigma, state.generation + 1, kept, previous)
    found = estimates.estimates(estimates.moments(own, of_offspring.variances, state.sigma), state.sigma)
    info = Info(
        losses=of_offspring.means,
        parent_loss=parent_losses[0],
        loss_differences=own,
        loss_difference_variances=of_offspring.variances,
        winner=winner if number > 1 else jnp.where(has_offspring, winner, -1)[0],
        is_accepted=has_offspring if number > 1 else has_offspring[0],
        loss_change=change,
        validated_change=validated,
        sigma=state.sigma,
        num_nonfinite=jnp.sum(~jnp.isfinite(of_offspring.means), dtype=jnp.int32),
        num_examples=jnp.asarray(losses.num_examples, jnp.int32),
        is_resampled=jnp.asarray(is_resampled, bool),
        normalized_mutation_strength=found.strength,
        hessian_trace=found.hessian_trace,
        squared_grad_norm=found.squared_grad_norm,
        squared_grad_noise=found.squared_grad_noise,
        gradient_curvature=found.gradient_curvature,
        descent=descent,
    )
    return after, info


def _kept_losses(of_offspring: Losses, winner: jax.Array, cached: jax.Array) -> jax.Array:
    assert of_offspring.values is not None
    return jnp.where(winner >= 0, of_offspring.values[jnp.maximum(winner, 0)], cached).astype(cached.dtype)


def _merged(leaves: Params, others: Params, is_other: jax.Array) -> Params:
    """The leaves, or where ``is_other`` those of the other tree; a leaf that either has not is that of the first."""

    def choose(leaf: Any, other: Any) -> Any:
        return leaf if other is None or leaf is None else jnp.where(is_other, other, leaf)

    return jax.tree.map(choose, leaves, others, is_leaf=lambda leaf: leaf is None)


def common_descent(definitions: Sequence[Definition]) -> Callable[[Descent], Descent]:
    """A function that gives the descents of several rules one shape, so that one program may return any of them.

    What it adds is the first parent, with a share of 0. Where the rules mix several ancestors in different ways, it says "mixed".
    """

    def of(definition: Definition) -> Descent:
        rule = definition.selection

        def select(key: jax.Array, losses: jax.Array, parent_losses: jax.Array) -> Descent:
            chosen = rule.select_fn(key, losses, parent_losses)
            return with_finite_ancestors(chosen, jnp.isfinite(losses), rule.num_parents)

        example = jnp.zeros(definition.num_offspring), jnp.zeros(rule.num_parents)
        return jax.eval_shape(select, jax.random.key(0), *example)

    kinds = [of(definition) for definition in definitions]
    number = max(kind.ancestors.shape[1] for kind in kinds)
    dtype = jnp.result_type(*(kind.shares.dtype for kind in kinds))
    ways = {kind.inheritance for kind in kinds if kind.ancestors.shape[1] > 1}
    inheritance = ways.pop() if len(ways) == 1 else "mixed" if ways else "blend"
    if all(kind.inheritance == "copy" for kind in kinds):
        inheritance = "copy"

    def unified(descent: Descent) -> Descent:
        wide = widened(descent, number)
        return Descent(wide.ancestors, wide.shares.astype(dtype), inheritance)

    return unified


def widened(descent: Descent, number: int) -> Descent:
    """The same descent with so many ancestors: those added are the first parent, with a share of 0."""
    room = ((0, 0), (0, number - descent.ancestors.shape[1]))
    ancestors = jnp.pad(descent.ancestors, room, constant_values=-1)
    return Descent(ancestors, jnp.pad(descent.shares, room), descent.inheritance)


def assemble(definition: Definition) -> Algorithm:
    """The algorithm of a definition: init, ask, tell, and step, which is their composition."""

    def init(params: Params, loss_fn: LossFn | None = None) -> Any:
        return first_state(definition, params, loss_fn)

    def ask(key: jax.Array, state: Any, *, is_resampled: Any = True) -> Offspring:
        return _ask(definition, key, state, is_resampled)[0]

    def tell(key: jax.Array, state: Any, losses: Any, *, is_resampled: Any = True) -> tuple[Any, Info]:
        offspring, selection_key = _ask(definition, key, state, is_resampled)
        if number_told(losses) != len(offspring):
            # Whoever asked did not say that the batch is the same, or says so only now.
            other = _ask(definition, key, state, is_resampled is False)
            offspring, selection_key = other if number_told(losses) == len(other[0]) else (offspring, selection_key)
        losses = told(losses, len(offspring), offspring.parent_losses)
        return told_step(offspring, selection_key, state, losses, is_resampled)

    @jax.jit
    def told_step(
        offspring: Offspring, key: jax.Array, state: Any, losses: Losses, is_resampled: Any
    ) -> tuple[Any, Info]:
        return _tell(definition, offspring, key, state, losses, is_resampled)

    def step(
        key: jax.Array, state: Any, loss_fn: LossFn, *, is_resampled: Any = True, evaluation: Any = None
    ) -> tuple[Any, Info]:
        offspring, selection_key = _ask(definition, key, state, is_resampled)
        evaluator = resolve(evaluation, definition.evaluation)
        offspring = evaluator.prepared(offspring)
        losses = told(evaluator.evaluate_fn(loss_fn, offspring), len(offspring), offspring.parent_losses)
        return _tell(definition, offspring, selection_key, state, losses, is_resampled)

    return Algorithm(init, ask, tell, step, definition)


def mutation_selection(
    mutation: Mutation | Callable[..., Any],
    selection: Selection | Callable[..., Any],
    num_offspring: int,
    *,
    sigma: Any = 1.0,
    reevaluate_parent: bool = True,
    evaluation: Any = "auto",
) -> Algorithm:
    """An algorithm from a mutation and a selection rule, the library's or your own.

    Each generation makes ``num_offspring`` mutants of the parent, evaluates them on the loss that the parent faces, and
    lets the rule say who the next parents descend from. All named algorithms are this function with their parts.

    Parameters
    ----------
    mutation : a `Mutation`, or a function ``sample_fn(key, params) -> noise``.
    selection : a `Selection`, or a function ``select_fn(key, losses, parent_losses)`` that returns an index, or a
        `Descent`; see `Selection`.
    num_offspring : M ≥ 1.
    sigma : mutation scale, which multiplies the noise [parameter]; 1 for a mutation with a scale of its own.
    reevaluate_parent : whether the parent's loss is computed anew each generation. ``False`` saves one evaluation in
        M + 1, for a loss that never changes; ``init`` then needs the loss.
    evaluation : "auto", "mapped", "vectorized", the size of a chunk, or a `mutagrad.evaluation.Evaluator`: what ``step`` and
        `mutagrad.evolve` use unless they are given another one.

    Returns
    -------
    Algorithm

    Raises
    ------
    ValueError : if σ is not positive and finite in float32, M < 1, M is below the rule's number of parents, or the rule
        judges one offspring and is given several.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> def worst(key, losses, parent_losses):
    ...     return jnp.argmax(losses)
    >>> algorithm = mutagrad.mutation_selection(mutagrad.mutation.sphere(), worst, 4, sigma=0.1)
    >>> state = algorithm.init(jnp.zeros(3))
    >>> state, info = algorithm.step(jax.random.key(0), state, lambda x: jnp.sum(x**2))
    >>> bool(info.is_accepted)
    True
    """
    density: Mutation = _part("mutation", mutation, Mutation, "mutagrad.mutation.gaussian()")
    rule: Selection = _part("selection", selection, Selection, "mutagrad.selection.elitist()")
    check.scale("sigma", sigma)
    num_offspring = check.count("num_offspring", num_offspring)
    if isinstance(rule.law, law.Acceptance) and num_offspring != 1:
        raise ValueError(
            f"num_offspring: got {num_offspring} with {rule.name} selection, which judges one offspring; pass 1, "
            "or select with elitist, comma or boltzmann"
        )
    weights = rule.law.weights if isinstance(rule.law, law.RankWeights) else None
    is_blend = weights is not None
    if weights is not None and len(weights) != num_offspring:
        raise ValueError(f"weights: got {len(weights)} for {num_offspring} offspring; pass one for each")
    if rule.num_parents > num_offspring:
        raise ValueError(
            f"num_parents: got {rule.num_parents}, more than the {num_offspring} offspring of a generation; "
            "pass fewer parents or more offspring"
        )
    if not reevaluate_parent and (is_blend or rule.num_parents > 1):
        raise ValueError(
            f"reevaluate_parent: got False with {rule.name} selection, whose next parents are several or none of the "
            "offspring; leave it True"
        )
    resolve(evaluation)
    # A recombinant is none of the candidates: what its step was worth is seen when it is a parent.
    return assemble(Definition(sigma, density, rule, num_offspring, reevaluate_parent, is_blend, evaluation))


def _part(name: str, value: Any, kind: type, example: str) -> Any:
    if isinstance(value, kind):
        return value
    is_factory = getattr(value, "__module__", "").startswith(f"mutagrad.{name}")
    is_other = value in (Mutation, Selection, Algorithm) or isinstance(value, Mutation | Selection | Algorithm)
    if not callable(value) or is_factory or is_other:
        raise ValueError(f"{name}: got {value!r}; pass one such as {example}, or a function of your own")
    return kind(value)
