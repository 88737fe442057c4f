"""σ schedules and controllers, as wrappers around any algorithm."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check, tree
from mutagrad.control.progress import ProgressMemory, progress_rule
from mutagrad.control.recombination import EitherMemory, StepMemory, either_rule, recombination_rule
from mutagrad.control.strength import StrengthMemory, strength_rule, success_rule
from mutagrad.law import Acceptance, RankWeights
from mutagrad.mutation.changes import jumps_of
from mutagrad.theory.optimum import OVER_A_RUN, strength_over_a_run
from mutagrad.theory.progress import optimal_strength, success_rate
from mutagrad.types import Algorithm, Definition, Info, LossFn, Params, UnknownDefinition, WrappedState

__all__ = ["AdaptedState", "adapt_sigma", "schedule_sigma"]

_RULES = ("progress", "strength", "success")
_SMALLEST, _LARGEST = 1e-30, 1e30


class _Fields(NamedTuple):
    inner: Any
    memory: ProgressMemory | StrengthMemory | StepMemory | EitherMemory | None


class AdaptedState(_Fields, WrappedState):
    """The wrapped algorithm's state, and the controller's memory.

    Attributes
    ----------
    inner : state of the wrapped algorithm; ``params``, ``sigma`` and ``generation`` read through to it.
    memory : what the controller remembers.
    """

    __slots__ = ()


def schedule_sigma(algorithm: Algorithm, schedule: Callable[[jax.Array], Any]) -> Algorithm:
    """Let σ follow a schedule of the generation, such as those of Optax.

    Parameters
    ----------
    algorithm : any algorithm; its own σ is not used.
    schedule : ``schedule(generation) -> σ``, positive.

    Returns
    -------
    Algorithm

    >>> import jax, jax.numpy as jnp, optax, mutagrad
    >>> algorithm = mutagrad.elitist(sigma=0.1, num_offspring=4)
    >>> algorithm = mutagrad.schedule_sigma(algorithm, optax.exponential_decay(0.1, 10, 0.5))
    >>> state, info = algorithm.step(jax.random.key(0), algorithm.init(jnp.ones(3)), lambda x: jnp.sum(x**2))
    >>> round(float(info.sigma), 3)
    0.1
    """

    definition = _of_changing_sigma(algorithm)

    def scheduled(state: Any) -> Any:
        return state.with_sigma(jnp.asarray(schedule(state.generation), state.sigma.dtype))

    return algorithm.wrapped(algorithm.init, scheduled, lambda state, inner, info: (inner, info), definition)


def _of_changing_sigma(algorithm: Algorithm) -> Definition | UnknownDefinition:
    """The definition of an algorithm whose σ changes; a ValueError if it does so already."""
    definition = check.algorithm(algorithm).definition
    if isinstance(definition, UnknownDefinition):
        return definition
    if definition.sigma is None:
        raise ValueError(
            "algorithm: got one whose σ is adapted or scheduled already; wrap the algorithm inside it once"
        )
    return definition._replace(sigma=None)


def adapt_sigma(algorithm: Algorithm, rule: str | None = None, target: float | None = None) -> Algorithm:
    """Drive σ to where the algorithm gains most over a run, from losses that did not select its steps.

    Rule "progress", the default for algorithms whose next parent is one of the candidates: σ grows while the last step was
    worth more than what curvature takes from a mean offspring, and falls while it was worth less. There is no constant to
    choose. It holds on rough losses, noisy ones, and those of a fresh batch a generation. There, the parent before is
    evaluated on the new batch too, one evaluation more a generation, since the batch that selected a step flatters it. One
    generation in 16 looks at a quarter of σ, more often at first: there it is seen whether what offspring lose is curvature, or
    luck of a rough loss, which does not count. `info.sigma` is then that quarter, and ``state.sigma`` what the rule is at. In
    `mutagrad.evolve` with `mutagrad.executor` a loss that has noise of its own is treated so from where it is found out.
    For `mutagrad.weighted_recombination` pass it where the loss is rough and stays the same: its steps are judged so then, and
    on batches σ goes by "strength". On smooth losses of few parameters it is much slower than "strength" there.

    Rule "strength", the default for `mutagrad.weighted_recombination`, `mutagrad.truncation`, and one mutant that is accepted
    with a probability: s = σTrH/|∇U| is held at a target. The offspring's loss differences have mean ½σ²TrH and variance
    σ²|∇U|², which gives TrH and |∇U|. It is for smooth losses, on all the data or on large batches; with recombination on
    smaller ones too, from some 4 examples, where what steps deliver on the next batch tells their noise.

    Rule "success": ln σ grows with the share of offspring that lower the loss and falls below the target share (Rechenberg's
    rule for M = 1 with ``target=0.2``); it sees only the order of the losses.

    On a plateau, where every offspring has exactly the loss of its parent, σ grows and the parent stays.

    All find their way from a σ that is wrong by orders of magnitude, upwards by a tenth a generation while nothing is seen: in a
    run of some tens of generations σ hardly leaves its start. σ falls if more than half of the losses are not finite.
    Where most parameters are discrete, σ stays where an offspring has one mutation of these or more: below that most are copies.

    Parameters
    ----------
    algorithm : any algorithm; its σ is the starting value.
    rule : "progress", "strength" or "success"; unless given, "progress" where it is the default and no target is given.
    target : of "strength" and "success", the s or the share of successes to hold; unless given, 5/4 of the s at which a
        generation gains most on a loss with many curvature eigenvalues (`mutagrad.theory.optimal_strength` for (1+M)), and
        `mutagrad.theory.success_rate` of it: σ falls later anyway, and what a larger one loses along steep directions is
        regained then. For recombination it is the s at which a generation gains most.

    Returns
    -------
    Algorithm, whose state is an `AdaptedState`; with rules "progress" and "strength" its
    ``info.normalized_mutation_strength`` is the pooled estimate, defined for M = 1 too.

    Raises
    ------
    ValueError : if the rule is unknown or not for this algorithm, the target is out of its domain, or the best s of a user's
        own selection rule would be needed.

    Domain: "progress" knows noise only as well as it can be averaged: on batches far below the gradient noise scale
    TrC/|∇U|² it settles within some hundreds of generations, and where neither progress nor curvature stands out of the noise
    σ rises by at most 10⁴, and stays. On rough losses it needs about 10 offspring or more; with one, luck is hardly told from
    curvature, and σ may end too small. "strength" assumes ΔU nearly normal, and its s is off with few parameters
    (tests/control/test_sigma.py).
    Memory: around `mutagrad.weighted_recombination` the law of M offspring is computed once, which takes more than M² numbers:
    26 MiB for M = 100, 650 MiB and half a second for 400, 6 GB for 1,000.

    Source: theory.md 3 and 9, derived for this project; rule "success": Rechenberg 1973, [B01].

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=1e-4, num_offspring=20))
    >>> loss_fn = lambda x: 0.5 * jnp.sum(x**2)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(100), loss_fn, 100, progress=False)
    >>> bool(loss_fn(result.params) < 0.5 * loss_fn(jnp.ones(100)))
    True
    """
    definition = _of_changing_sigma(algorithm)
    if isinstance(definition, UnknownDefinition):
        raise ValueError(f"algorithm: {definition.reason}; adapt the σ of each algorithm inside it")
    if rule is None:
        rule = "progress" if target is None and _has_one_winner(definition) else "strength"
    check.choice("rule", rule, _RULES)
    if rule == "progress":
        return _by_progress(algorithm, definition, target)
    best = strength_over_a_run(definition) if target is None else check.positive("target", target)
    if rule == "success":
        share = float(success_rate(best)) if target is None else best
        if not 0 < share < 1:
            raise ValueError(f"target: got {share!r} with rule='success'; pass a share of offspring between 0 and 1")
        update = success_rule(definition.num_offspring, share)
        return _adapted(algorithm, definition, lambda sigma: None, update)
    if isinstance(definition.selection.law, RankWeights):
        return _adapted(algorithm, definition, StepMemory.first, recombination_rule(definition, best))
    return _adapted(algorithm, definition, StrengthMemory.first, strength_rule(definition, best))


def _has_one_winner(definition: Definition) -> bool:
    """Whether the next parent is one candidate, and the better of them by rank or weight, not by an acceptance law."""
    law = definition.selection.law
    is_chance = isinstance(law, Acceptance) and law.inverse_temperature != math.inf
    return definition.selection.num_parents == 1 and not isinstance(law, RankWeights) and not is_chance


def _by_progress(algorithm: Algorithm, definition: Definition, target: float | None) -> Algorithm:
    if target is not None:
        raise ValueError(f"target: got {target!r} with rule='progress', which has none; pass rule='strength'")
    if definition.selection.num_parents > 1:
        raise ValueError(
            f"rule: got 'progress' with {definition.selection.name} selection, whose next parents are several; pass "
            "rule='strength'"
        )

    is_sum = isinstance(definition.selection.law, RankWeights)
    kind, rule = (EitherMemory, either_rule) if is_sum else (ProgressMemory, progress_rule)

    def init(params: Params, loss_fn: LossFn | None = None) -> AdaptedState:
        inner = algorithm.init(params, loss_fn)
        if definition.reevaluate_parent and hasattr(inner, "with_previous"):
            inner = inner.with_previous(definition.mutation.mutated(inner.params))
        return AdaptedState(inner, kind.first(inner.sigma, not _is_discrete(definition, inner.params)))

    of_a_user = definition.selection.law is None
    number = definition.num_offspring
    strength = OVER_A_RUN * float(optimal_strength(number)) if of_a_user else strength_over_a_run(definition)
    return _adapted(algorithm, definition, kind.first, rule(definition, strength), init, _looking)


def _is_discrete(definition: Definition, params: Params) -> bool:
    """Whether most parameters are."""
    noise = jax.eval_shape(definition.mutation.sample_fn, jax.random.key(0), params)
    number = sum(math.prod(leaf.shape) for leaf in jumps_of(noise))
    return 2 * number > definition.mutation.num_mutated(params)


def _least_sigma(definition: Definition, params: Params) -> Any:
    """σ at which an offspring has one mutation of discrete parameters in the mean, if most are: below it most are copies."""
    if not _is_discrete(definition, params):
        return _SMALLEST
    # How often a site mutates hangs on no random number: the compiler leaves the draw out.
    noise = definition.mutation.sample_fn(jax.random.key(0), params)
    return jax.lax.rsqrt(jnp.maximum(sum(leaf.rate for leaf in jumps_of(noise)), _SMALLEST))


def _unmoved_on_a_plateau(before: Any, inner: Any, info: Info) -> tuple[Any, Info]:
    """The parent stays where every offspring has exactly its loss: σ grows there, and a parent that followed would be lost."""
    is_flat = jnp.all(info.loss_differences == 0) & jnp.isfinite(info.parent_loss)
    params = tree.where(is_flat, before.params, inner.params)
    is_accepted = info.is_accepted & ~is_flat
    descent = info.descent._replace(ancestors=jnp.where(is_flat, -1, info.descent.ancestors))
    return inner.with_params(params), info._replace(
        is_accepted=is_accepted, winner=jnp.where(is_accepted, info.winner, -1), descent=descent
    )


def _inner(state: AdaptedState) -> Any:
    return state.inner


def _looking(state: Any) -> Any:
    """The state inside, at a smaller σ where the generation that comes looks at one."""
    return state.inner.with_sigma(state.sigma * jnp.exp(-state.memory.look).astype(state.sigma.dtype))


def _adapted(
    algorithm: Algorithm,
    definition: Definition,
    first: Callable,
    update: Callable,
    init: Callable | None = None,
    before: Callable = _inner,
) -> Algorithm:
    def own_init(params: Params, loss_fn: LossFn | None = None) -> AdaptedState:
        inner = algorithm.init(params, loss_fn)
        return AdaptedState(inner, first(inner.sigma))

    def after(state: AdaptedState, inner: Any, info: Info) -> tuple[AdaptedState, Info]:
        if _has_one_winner(definition):
            inner, info = _unmoved_on_a_plateau(state.inner, inner, info)
        sigma, memory, strength = update(info, state.memory)
        if strength is not None:
            info = info._replace(normalized_mutation_strength=strength)
        sigma = jnp.clip(sigma, _least_sigma(definition, inner.params), _LARGEST).astype(inner.sigma.dtype)
        return AdaptedState(inner.with_sigma(sigma), memory), info

    return algorithm.wrapped(init or own_init, before, after, definition)
