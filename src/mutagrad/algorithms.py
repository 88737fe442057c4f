"""The named algorithms: assemblies of a mutation, a selection rule and a number of offspring.

One generation is one direction of data: mutation → evaluation → selection → state. An offspring is (key, index); its
mutation is made again where it is needed, so the population is never stored when offspring are mapped.
"""

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp

from mutagrad import check, tree
from mutagrad import mutation as mutations
from mutagrad import selection as selections
from mutagrad.evaluation import Losses, check_mode, evaluate, finite_reference, per_example, resolve_mode
from mutagrad.types import Algorithm, Info, LossFn, Mutation, Params, Parts, PopulationState, Selection, State

__all__ = [
    "boltzmann",
    "comma",
    "elitist",
    "fixation",
    "greedy",
    "logistic",
    "metropolis",
    "mutation_selection",
    "truncation",
]


def _split(losses: Losses, num_parents: int) -> tuple[Losses, Losses]:
    """The losses of the parents, which are evaluated first, and those of the offspring."""
    return jax.tree.map(lambda leaf: leaf[:num_parents], losses), jax.tree.map(lambda leaf: leaf[num_parents:], losses)


def _relative(parent_loss: jax.Array) -> jax.Array:
    """The parent's loss as selection sees it: 0, or +inf if it is not finite."""
    return jnp.where(jnp.isfinite(parent_loss), 0, jnp.inf).astype(parent_loss.dtype)


def _select(parts: Parts, key: jax.Array, losses: Losses, parent_loss: jax.Array) -> jax.Array:
    """The winner, −1 for the parent. An offspring without a finite loss never wins, whatever the rule says."""
    is_finite = jnp.isfinite(losses.means) & jnp.isfinite(losses.differences)
    relative = jnp.where(is_finite, losses.differences, jnp.inf)
    winner = jnp.asarray(parts.selection.select_fn(key, relative, _relative(parent_loss)), jnp.int32)
    return jnp.where((winner >= 0) & is_finite[winner], winner, selections.PARENT)


def measured_strength(differences: jax.Array) -> jax.Array:
    """2 mean/std of the finite loss differences, NaN where fewer than two are finite or all are equal (theory.md 3)."""
    is_finite = jnp.isfinite(differences)
    number = jnp.sum(is_finite, dtype=differences.dtype)
    mean = jnp.sum(jnp.where(is_finite, differences, 0)) / number
    variance = jnp.sum(jnp.where(is_finite, jnp.square(differences - mean), 0)) / (number - 1)
    return jnp.where((number > 1) & (variance > 0), 2 * mean * jax.lax.rsqrt(variance), jnp.nan)


def _info(losses: Losses, differences: jax.Array, parent_loss: jax.Array, winner: jax.Array, sigma: jax.Array) -> Info:
    return Info(
        losses=losses.means,
        parent_loss=parent_loss,
        loss_differences=differences,
        loss_difference_variances=losses.variances,
        winner=winner,
        is_accepted=winner >= 0,
        sigma=sigma,
        num_nonfinite=jnp.sum(~jnp.isfinite(losses.means), dtype=jnp.int32),
        normalized_mutation_strength=measured_strength(differences),
    )


def _initial_sigma(sigma: Any) -> jax.Array:
    return jnp.asarray(sigma, jnp.result_type(float))


def _single_parent(parts: Parts) -> Algorithm:
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

        def offspring(index, sigma=state.sigma):
            noise = parts.mutation.sample_fn(jax.random.fold_in(mutation_key, index), state.params)
            return tree.add_scaled(state.params, noise, sigma)

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

        params = jax.lax.cond(winner >= 0, selected, lambda: state.params)
        parent_loss = None
        if losses.values is not None and state.parent_loss is not None:
            kept = jnp.where(winner >= 0, losses.values[winner], cached)
            parent_loss = kept.reshape(state.parent_loss.shape).astype(state.parent_loss.dtype)
        info = _info(losses, losses.differences - _relative(loss), loss, winner, state.sigma)
        return State(params, state.sigma, state.generation + 1, parent_loss), info

    return Algorithm(init, step, parts)


def _several_parents(parts: Parts) -> Algorithm:
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
        info = _info(losses, own, of_parents.means[0], winners, state.sigma)
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
    if selection.num_winners > num_offspring:
        raise ValueError(
            f"num_parents: got {selection.num_winners}, more than the {num_offspring} offspring of a generation; "
            "pass fewer parents or more offspring"
        )
    parts = Parts(sigma, mutation, selection, num_offspring, reevaluate_parent, check_mode(evaluation))
    if selection.num_winners > 1:
        if not reevaluate_parent:
            raise ValueError("reevaluate_parent: got False with several parents, which are not cached; leave it True")
        return _several_parents(parts)
    return _single_parent(parts)


class Options(TypedDict, total=False):
    """Keyword arguments that every named algorithm takes; each is described in `mutation_selection`."""

    mutation: Mutation | Callable
    reevaluate_parent: bool
    evaluation: str | int


def _assemble(selection: Selection, num_offspring: int, sigma: Any, options: Options) -> Algorithm:
    rest: dict[str, Any] = {"mutation": mutations.gaussian(), **options}
    return mutation_selection(rest.pop("mutation"), selection, num_offspring, sigma=sigma, **rest)


def metropolis(sigma: Any, beta: Any, **options: Unpack[Options]) -> Algorithm:
    """One mutant, accepted with probability min(1, exp(−β ΔU)).

    For small βσ|∇U| it is gradient descent with learning rate βσ²/2, for large the normalised one with σ/√(2π); at any
    σ it samples exp(−βU).

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : inverse temperature β ≥ 0 [1/loss].
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [W21] eq. 1, 3 and 6.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.metropolis(sigma=0.1, beta=10.0)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> info.losses.shape
    (1,)
    """
    return _assemble(selections.metropolis(beta), 1, sigma, options)


def greedy(sigma: Any, **options: Unpack[Options]) -> Algorithm:
    """One mutant, accepted if it is no worse: (1+1), Metropolis at zero temperature.

    For small σ it is normalised gradient descent with learning rate σ/√(2π).

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [W21] eq. 6.

    >>> import mutagrad
    >>> mutagrad.greedy(sigma=0.1).parts.num_offspring
    1
    """
    return _assemble(selections.greedy(), 1, sigma, options)


def logistic(sigma: Any, beta: Any, **options: Unpack[Options]) -> Algorithm:
    """One mutant, accepted with probability 1/(1 + exp(β ΔU)) (Barker's rule).

    For small βσ|∇U| it is gradient descent with learning rate βσ²/4 per attempt, βσ²/2 per accepted step; at any σ it
    samples exp(−βU).

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : inverse temperature β ≥ 0 [1/loss].
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: theory.md 1, derived for this project, tested in tests/test_drift.py.

    >>> import mutagrad
    >>> mutagrad.logistic(sigma=0.1, beta=10.0).parts.selection.name
    'logistic'
    """
    return _assemble(selections.logistic(beta), 1, sigma, options)


def fixation(
    sigma: Any, beta: Any, population_size: int, model: str = "moran", **options: Unpack[Options]
) -> Algorithm:
    """One mutant at a time in a population of n, accepted with its probability of fixation.

    Population size is inverse temperature: the chain samples exp(−νβU) with ν = n − 1 for Moran, and 2(n − 1) for
    Wright–Fisher as far as selection is weak.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : strength of selection, fitness exp(−βU) [1/loss].
    population_size : n ≥ 1.
    model : "moran" or "wright_fisher".
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [SH05], [S22] second model; theory.md 6.

    >>> import mutagrad
    >>> mutagrad.fixation(sigma=0.1, beta=1.0, population_size=10).parts.selection.options["model"]
    'moran'
    """
    return _assemble(selections.fixation(beta, population_size, model), 1, sigma, options)


def boltzmann(sigma: Any, beta: Any, num_offspring: int, **options: Unpack[Options]) -> Algorithm:
    """One of M mutants and their parent, with probability ∝ exp(−β loss).

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    beta : inverse temperature β ≥ 0 [1/loss].
    num_offspring : M ≥ 1.
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [S22]; theory.md 2.

    >>> import mutagrad
    >>> mutagrad.boltzmann(sigma=0.1, beta=10.0, num_offspring=8).parts.num_offspring
    8
    """
    return _assemble(selections.boltzmann(beta), num_offspring, sigma, options)


def elitist(sigma: Any, num_offspring: int, **options: Unpack[Options]) -> Algorithm:
    """The best of M mutants if it is no worse than the parent: the (1+M) genetic algorithm.

    For small σ it is normalised gradient descent with learning rate c_M σ, c_M = E[max(0, Z_(M))].

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    num_offspring : M ≥ 1; M = 1 is `greedy`.
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [W26]; theory.md 2.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=20)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> bool(info.losses[info.winner] <= info.parent_loss)
    True
    """
    return _assemble(selections.elitist(), num_offspring, sigma, options)


def comma(sigma: Any, num_offspring: int, **options: Unpack[Options]) -> Algorithm:
    """The best of M mutants, even if it is worse than the parent: the (1,M) evolution strategy.

    For small σ it is normalised gradient descent with learning rate σ E[Z_(M)].

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    num_offspring : M ≥ 1; M = 1 is a random walk.
    **options : ``mutation``, ``reevaluate_parent``, ``evaluation``, as in `mutation_selection`.

    Source: [B01]; theory.md 2.

    >>> import mutagrad
    >>> mutagrad.comma(sigma=0.1, num_offspring=20).parts.selection.name
    'comma'
    """
    return _assemble(selections.comma(), num_offspring, sigma, options)


def truncation(sigma: Any, population_size: int, num_parents: int, **options: Unpack[Options]) -> Algorithm:
    """The best K of n mutants become parents; each mutant has a parent drawn uniformly among them: (K, n).

    The state is a `PopulationState`; its ``params`` are the best parent.

    Parameters
    ----------
    sigma : standard deviation of a mutation per parameter [parameter].
    population_size : n ≥ 1, mutants per generation.
    num_parents : K ≤ n, survivors per generation; 1 is `comma`.
    **options : ``mutation``, ``evaluation``, as in `mutation_selection`.

    Source: [B01]; Such et al. 2017 (arXiv 1712.06567), without its elite.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.truncation(sigma=0.1, population_size=20, num_parents=5)
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> state.parents.shape, state.params.shape
    ((5, 3), (3,))
    """
    population_size = check.count("population_size", population_size)
    return _assemble(selections.truncation(num_parents), population_size, sigma, options)
