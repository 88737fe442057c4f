"""The σ at which steps are worth most, by losses that did not select them: the rule "progress" of `mutagrad.adapt_sigma`.

In units of the spread of the offspring's losses, std(ΔU), a generation has a selection differential S (by how much the winner
is better than the mean offspring), a mutation load L (by how much curvature makes the mean offspring worse, σ²TrH/2), and a
response R (by how much the next offspring are better in the mean than these). With h² the share of the variance of the losses
that is heritable, which is what a slope explains, the breeder's equation is R = h²S − L. S grows like σ and L like σ², so that
R is largest where R = L. Roughness and noise are the part of the variance that is not heritable. See theory.md 9.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from scipy import special

from mutagrad.control.exponents import LOOK, Exponents, look
from mutagrad.control.response import Response, Running, Stay, nothing
from mutagrad.control.strength import StrengthMemory, strength_rule
from mutagrad.control.validated import on_batches, window_of
from mutagrad.estimates import moments
from mutagrad.law import RankWeights
from mutagrad.selection import normal_scores
from mutagrad.theory.progress import best_of_mean, optimal_strength
from mutagrad.types import Definition, Info

__all__ = ["ProgressMemory", "progress_rule"]

_FALL = 0.15
"""Largest fall of ln σ in a generation while the loss is the same: so slow that a rough loss is known before σ is lost."""
_OFFSPRING = 20
"""Offspring over which the load is averaged: one generation of 20."""
_SELDOM = 0.3
"""Rise of ln σ after a generation with a success, on a rough loss."""
_MEMORY_SPREAD, _MEMORY_RESPONSE = 20, 40
"""Generations that are remembered while the loss is the same: of the spread, and accepted ones."""
_RARE = 0.05
"""Share of generations with a success that is held on a rough loss, with many offspring."""
_DOUBT, _CERTAINTY = 3.0, 4.0
"""Standard errors of luck up to which a loss passes for smooth, and from which on for rough."""
_MEMORY_STAY = 300
"""Generations over which it is remembered how the load grows with σ."""
_CURVED, _SURE = 1.5, 2.0
"""A load that grows with an exponent above 1.5, by so many standard errors, is curvature and not luck."""
_CAREFUL = 0.75
"""By so much σ falls more slowly when luck has turned out to be curvature, for about a hundred generations."""
_CAREFUL_UNTIL, _DEPTH, _NO_FLOOR = 0.37, 1.4, -200.0
"""For a hundred generations σ falls by a factor of 4 at most from where luck turned out to be curvature."""
_BLIND = 9.2
"""Largest rise of ln σ without progress, 10⁴: a scale that is not found on that way does not exist."""
_ONE_LOSS = 60
"""Generations that are remembered at most of what steps of recombination are worth while the loss is the same."""
_OUTLIER = 8.0
"""Spreads beyond which no one step counts for more."""


class Last(NamedTuple):
    """The last step, in units of the spread then; ``gain`` and ``spread`` in units of the loss."""

    is_known: jax.Array
    is_accepted: jax.Array
    has_success: jax.Array
    gain: jax.Array
    spread: jax.Array
    sigma: jax.Array
    differential: jax.Array
    mean: jax.Array
    load: jax.Array


class ProgressMemory(NamedTuple):
    """What the controller remembers.

    Attributes
    ----------
    generation : generations that it has seen, without plateaus.
    spread : std(ΔU)/σ, and the number of generations behind it.
    half_trace : mean of ΔU/σ², of which the load is made.
    last : the last step.
    response : of which heritability and luck are made.
    direction, progress, load : R − L, R and L, in units of the spread.
    strength : what the rule "strength" remembers, for smooth losses that stay the same.
    ceiling : ln σ up to which it may rise without progress.
    stay : how the load grows with σ at one parent.
    careful : 1 where luck has just turned out to be curvature, and fading.
    floor : ln σ below which it does not fall meanwhile: curvature that is found at s ≈ 4 needs a σ smaller by 2, not by 10.
    may_be_rough : 1, or 0 where most parameters are discrete. There the variance of ΔU is that of single mutations, whose number
        is σ², and luck cannot drown the slope at a small σ.
    exponents : how losses grow with σ, on batches.
    looked : ln σ of the last look. σ does not fall below it.
    ground : ln σ that was found to be below the scale of a rough loss. σ does not fall below it either.
    is_judged : 1 where steps are judged by the losses of the next generation: on batches, and of recombination on one loss.
    """

    generation: jax.Array
    spread: jax.Array
    spread_number: jax.Array
    half_trace: Running
    last: Last
    response: Response
    direction: Running
    progress: Running
    load: Running
    strength: StrengthMemory
    ceiling: jax.Array
    stay: Stay
    careful: jax.Array
    floor: jax.Array
    may_be_rough: jax.Array
    exponents: Exponents
    looked: jax.Array
    ground: jax.Array
    is_judged: jax.Array

    @property
    def look(self) -> jax.Array:
        """By how much ln σ is to be smaller in the generation that comes; 0 where most parameters are discrete, since most
        offspring are copies there."""
        return look(self.generation) * self.is_judged * self.may_be_rough

    @classmethod
    def first(cls, sigma: jax.Array, may_be_rough: bool = True) -> "ProgressMemory":
        """Nothing yet."""
        zero = jnp.zeros_like(sigma)
        running = nothing(Running, sigma)
        last = Last(zero, zero, zero, zero, zero + 1, sigma, zero, zero, zero)
        ceiling = jnp.log(sigma) + _BLIND
        return cls(
            *(zero, zero, zero, running, last, nothing(Response, sigma), running, running, running),
            StrengthMemory.first(sigma),
            ceiling,
            nothing(Stay, sigma),
            zero,
            jnp.full_like(sigma, _NO_FLOOR),
            jnp.full_like(sigma, may_be_rough),
            nothing(Exponents, sigma),
            jnp.log(sigma) - LOOK if may_be_rough else jnp.full_like(sigma, _NO_FLOOR),
            jnp.full_like(sigma, _NO_FLOOR),
            zero,
        )


class _Seen(NamedTuple):
    """What the offspring of a generation show; ``mean`` and ``load`` in units of the loss."""

    number: jax.Array
    mean: jax.Array
    best: jax.Array
    half_trace: Running
    load: jax.Array
    spread: jax.Array
    is_usable: jax.Array


def _seen(info: Info, half_trace: Running, num_offspring: int) -> _Seen:
    sigma = info.sigma
    found = moments(info.loss_differences.astype(sigma.dtype), info.loss_difference_variances, sigma)
    mean = found.mean * sigma
    pooled = half_trace.with_(found.mean / sigma, max(1.0, _OFFSPRING / num_offspring))
    if num_offspring == 1:
        about = jnp.where(half_trace.number > 0, half_trace.mean * sigma**2, 0)
        spread = jnp.where(mean == 0, 0, jnp.abs(mean - about)) / sigma
    else:
        spread = jnp.sqrt(found.squares / jnp.maximum(found.number - 1, 1))
    best = jnp.min(jnp.where(jnp.isfinite(info.loss_differences), info.loss_differences, jnp.inf)).astype(sigma.dtype)
    is_usable = (found.number >= min(num_offspring, 2)) & (spread > 0)
    return _Seen(found.number, mean, best, pooled, pooled.mean * sigma**2, spread, is_usable)


def _spread(old: ProgressMemory, seen: _Seen, worth: jax.Array, fresh: jax.Array) -> jax.Array:
    """The spread to measure by: of one loss its mean; where batches change the root of the mean square of all that happened,
    since the few batches with large losses decide what a step is worth."""
    near = jnp.clip(seen.spread, 0.5 * old.spread, 1.5 * old.spread)
    number = jnp.minimum(old.spread_number + 1, _MEMORY_SPREAD)
    of_one = jnp.where(old.spread_number == 0, seen.spread, old.spread + (near - old.spread) / number)
    window = jnp.minimum(old.generation + 1, jnp.minimum(10 + old.generation / 3, 300))
    happened = seen.spread**2 + jnp.where(fresh, worth / old.last.sigma, 0) ** 2
    of_many = jnp.sqrt(old.spread**2 + (happened - old.spread**2) / window)
    return jnp.where(seen.is_usable, jnp.where(fresh, of_many, of_one), old.spread)


def _of_a_step(definition: Definition) -> tuple[float, float]:
    """The unit in which a step counts as one of (1+M) does, and the load of a step in that unit over the load of a mutant.

    With weights w_k a step may gain Σ w_kc_k spreads, c_k being the normal scores, and loses Σ w_k² of the load of a mutant
    (theory.md 9.6).
    """
    law = definition.selection.law
    if not isinstance(law, RankWeights):
        return 1.0, 1.0
    gain = sum(weight * score for weight, score in zip(law.weights, normal_scores(len(law.weights)), strict=True))
    unit = max(best_of_mean(len(law.weights)), 1.0) / gain
    return unit, unit * sum(weight**2 for weight in law.weights)


def _chosen(condition: jax.Array, one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def progress_rule(
    definition: Definition, strength: float
) -> Callable[[Info, ProgressMemory], tuple[jax.Array, ProgressMemory, jax.Array]]:
    """``update(info, memory) -> (σ, memory, s)`` of an algorithm with one parent and M offspring.

    Domain: any selection rule whose next parent is one candidate, or a weighted sum of all. Where ``info.is_resampled``, the
    parent before must have been evaluated too (``info.validated_change``); otherwise σ is held.
    """
    num_offspring, is_recombined = definition.num_offspring, isinstance(definition.selection.law, RankWeights)
    smooth_rule = strength_rule(definition, strength)
    speed, best = min(1.0, num_offspring / 10), max(best_of_mean(num_offspring), 1.0)
    unit, load_of_step = _of_a_step(definition)
    window = _MEMORY_RESPONSE * max(1.0, min(20 / num_offspring, 10.0))
    # Of generations at the best σ on a smooth loss that many would succeed.
    rare = _RARE * (1 - float(special.ndtr(float(optimal_strength(num_offspring)) / 2)) ** num_offspring)

    def update(info: Info, old: ProgressMemory) -> tuple[jax.Array, ProgressMemory, jax.Array]:
        sigma, last, fresh = info.sigma, old.last, info.is_resampled
        # A step of recombination is no candidate: what it was worth is known a generation later, on one loss too.
        is_judged = fresh | is_recombined
        dtype, tiny, is_look = sigma.dtype, jnp.finfo(sigma.dtype).tiny, old.look > 0
        log_sigma = jnp.log(sigma) + old.look
        seen = _seen(info, old.half_trace, num_offspring)
        width = jnp.maximum(seen.spread * sigma, tiny)
        sizes = (jnp.log(sigma), jnp.log(width), jnp.clip(seen.mean / width, -4, 4))
        worth = jnp.where(is_judged, -info.validated_change.astype(dtype), last.gain)
        is_known = (last.is_known > 0) & jnp.isfinite(worth)
        worth = jnp.where(is_known, worth, 0)
        spread = jnp.where(is_look, old.spread, _spread(old, seen, worth, fresh))
        scale = jnp.maximum(spread * sigma, tiny)

        # The last step, now that its offspring have been seen; their mean as it would be at the same σ.
        won = worth / last.spread
        response = won + last.mean - seen.mean * jnp.square(last.sigma / sigma) / last.spread
        accepted = jnp.where(is_known & seen.is_usable, last.is_accepted, 0)
        own_load = last.load if num_offspring < 10 else last.mean
        regression = old.response.with_(
            accepted, last.differential, jnp.clip(response, -_OUTLIER, _OUTLIER), own_load, window
        )
        stay = old.stay.with_(sigma, seen.mean, last.is_accepted > 0, _MEMORY_STAY)
        exponent, error = stay.exponent()
        is_curved = (exponent - _SURE * error > _CURVED) & (stay.freedom > 10) & ~is_judged
        regression = _chosen(is_curved, nothing(Response, sigma), regression)
        stay = _chosen(is_curved, nothing(Stay, sigma), stay)
        careful = jnp.where(is_curved, 1, 0.99 * old.careful).astype(dtype)
        rough = jnp.clip((regression.luck() - _DOUBT) / (_CERTAINTY - _DOUBT), 0, 1)
        rough = jnp.where((regression.number > 8) & ~is_judged, rough * old.may_be_rough, 0)

        longest = _ONE_LOSS if is_recombined else math.inf
        of_batches = on_batches(old, jnp.clip(unit * won, -_OUTLIER, _OUTLIER), log_sigma, speed, best, longest)
        ceiling = jnp.where(is_known, of_batches.ceiling, old.ceiling)
        # Where the loss stays the same, of the smooth one the best strength is known, and of a rough one that few succeed.
        strong, smooth_memory, pooled_strength = smooth_rule(info, old.strength)
        floor = jnp.where(careful > _CAREFUL_UNTIL, old.floor, _NO_FLOOR)
        floor = jnp.where(is_curved, log_sigma - _DEPTH, floor).astype(dtype)
        smooth = jnp.maximum(jnp.log(strong / sigma), -_FALL * speed * (1 - _CAREFUL * careful))
        seldom = _SELDOM * speed * (last.has_success - rare) / (1 - rare)
        smooth = jnp.maximum(smooth, jnp.minimum(floor - log_sigma, 0))
        change = jnp.where(is_judged, of_batches.change * is_known.astype(dtype), (1 - rough) * smooth + rough * seldom)
        # On a plateau, where all losses are equal, look further away.
        change = jnp.where(seen.spread > 0, change, jnp.where((log_sigma < ceiling) & ~is_look, 0.1 * speed, 0))
        change = jnp.where(seen.number < num_offspring / 2, -0.3 * speed, change)

        base = seen.load if num_offspring == 1 else seen.mean
        # Of whoever was selected, which need not be the best.
        changed = jnp.where(jnp.isfinite(info.loss_change), info.loss_change, 0).astype(dtype)
        differential = jnp.where(info.is_accepted, (base - changed) / scale, 0)
        this = Last(
            is_known=((spread > 0) & ~is_look).astype(dtype),
            is_accepted=info.is_accepted.astype(dtype),
            has_success=(seen.best <= 0).astype(dtype),
            gain=-changed,
            spread=scale,
            sigma=sigma,
            differential=jnp.clip(differential, 0, _OUTLIER),
            mean=jnp.clip(seen.mean / scale, -_OUTLIER, _OUTLIER),
            load=jnp.clip(load_of_step * seen.load / scale, -_OUTLIER, _OUTLIER),
        )
        new = ProgressMemory(
            generation=old.generation + (seen.is_usable | is_look).astype(dtype),
            spread=spread,
            spread_number=jnp.minimum(old.spread_number + seen.is_usable.astype(dtype), _MEMORY_SPREAD),
            half_trace=_chosen(is_look, old.half_trace, seen.half_trace),
            last=this,
            response=regression,
            direction=_chosen(is_known, of_batches.direction, old.direction),
            progress=_chosen(is_known, of_batches.progress, old.progress),
            load=_chosen(is_known, of_batches.load, old.load),
            strength=smooth_memory,
            ceiling=ceiling,
            stay=stay,
            careful=careful,
            floor=floor,
            may_be_rough=old.may_be_rough,
            exponents=old.exponents.with_(sizes, is_look, is_judged & seen.is_usable, window_of(old.generation + 1)),
            looked=jnp.where(is_look, jnp.log(sigma), old.looked),
            ground=jnp.where(is_known, of_batches.ground, old.ground),
            is_judged=is_judged.astype(dtype),
        )
        # A batch on which the parent itself fails, or all offspring, says nothing of what was known before.
        is_told = jnp.isfinite(info.parent_loss)
        unknown = old._replace(
            last=last._replace(is_known=jnp.zeros_like(sigma)), generation=old.generation + is_look.astype(dtype)
        )
        new = _chosen(is_told & (seen.number > 0), new, unknown)
        return (
            jnp.exp(old.look) * jnp.where(is_told, sigma * jnp.exp(change), sigma),
            new,
            jnp.where(fresh, 2 / load_of_step * of_batches.load.mean, pooled_strength),
        )

    # Traced once for every kind of its arguments, wherever it is called.
    return jax.jit(update, inline=True)
