"""The σ at which steps are worth most, by losses that did not select them: the rule "progress" of `mutagrad.adapt_sigma`.

In units of the spread of the offspring's losses, std(ΔU), a generation has a selection differential S (by how much the winner
is better than the mean offspring), a mutation load L (by how much curvature makes the mean offspring worse, σ²TrH/2), and a
response R (by how much the next offspring are better in the mean than these). With h² the share of the variance of the losses
that is heritable, which is what a slope explains, the breeder's equation is R = h²S − L. S grows like σ and L like σ², so that
R is largest where R = L. Roughness and noise are the part of the variance that is not heritable. See theory.md 9.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from scipy import stats

from mutagrad.control.strength import StrengthMemory, strength_rule
from mutagrad.estimates import moments
from mutagrad.theory.progress import optimal_strength
from mutagrad.types import Definition, Info

__all__ = ["ProgressMemory", "progress_rule"]

_SHARE_OF_LOAD = 0.6
"""On batches L counts for this much. Less than 1, since a run gains more than its generations: what a large σ loses along steep
directions is regained when σ falls (theory.md 3)."""
_FALL = 0.15
"""Largest fall of ln σ in a generation while the loss is the same: so slow that a rough loss is known before σ is lost."""
_OFFSPRING = 20
"""Offspring over which the load is averaged: one generation of 20."""
_SELDOM = 0.3
"""Rise of ln σ after a generation with a success, on a rough loss."""
_SLOWEST, _FASTEST = 0.02, 0.15
"""Speed at which ln σ follows R − L, on batches: where its sign is noise, and where it is plain."""
_PLAIN = 8.0
"""The squared ratio of the mean direction to its error at which the speed is halfway."""
_MEMORY_SPREAD, _MEMORY_RESPONSE = 20, 40
"""Generations that are remembered while the loss is the same: of the spread, and accepted ones."""
_SHORTEST, _LONGEST = 30, 600
"""Generations that are remembered where batches change: a third of those that have passed, within these."""
_RARE = 0.05
"""Share of generations with a success that is held on a rough loss, with many offspring."""
_DOUBT, _CERTAINTY = 3.0, 4.0
"""Standard errors of luck up to which a loss passes for smooth, and from which on for rough."""
_BLIND = 9.2
"""Largest rise of ln σ without progress, 10⁴: a scale that is not found on that way does not exist."""
_BLIND_AFTER = 1.6
"""The same above a σ that has made progress."""
_OUTLIER = 8.0


class Running(NamedTuple):
    """Mean and mean square over a moving window, and the number of observations in it."""

    mean: jax.Array
    square: jax.Array
    number: jax.Array

    def with_(self, value: jax.Array, window: Any) -> "Running":
        """After one more observation."""
        number = jnp.minimum(self.number + 1, window)
        return Running(
            self.mean + (value - self.mean) / number, self.square + (value * value - self.square) / number, number
        )

    @property
    def ratio(self) -> jax.Array:
        """The mean over its standard error."""
        variance = jnp.maximum(self.square - jnp.square(self.mean), 1e-9)
        return self.mean * jnp.sqrt(self.number / variance)


class Response(NamedTuple):
    """Sums over accepted generations, of weights that fade: what the regression of the response on the differential needs."""

    number: jax.Array
    differential: jax.Array
    response: jax.Array
    load: jax.Array
    squares: jax.Array
    products: jax.Array
    response_squares: jax.Array

    def with_(self, weight: jax.Array, differential: Any, response: Any, load: Any, window: float) -> "Response":
        """After one more generation, of weight 0 or 1."""
        observed = (1.0, differential, response, load, differential**2, differential * response, response**2)
        kept = 1 - weight / window
        return Response(*(old * kept + weight * new for old, new in zip(self, observed, strict=True)))

    def luck(self) -> jax.Array:
        """By how much the load is luck of the chosen parent, over its standard error."""
        number = jnp.maximum(self.number, 1e-3)
        mean, response, load = (one / number for one in (self.differential, self.response, self.load))
        spread = jnp.maximum(self.squares / number - mean**2, 1e-3)
        joint = self.products / number - mean * response
        heritability = jnp.clip(joint / spread, 0, 1)
        rest = jnp.maximum(self.response_squares / number - response**2 - heritability * joint, 1e-3)
        error = mean * jnp.sqrt(rest / (spread * jnp.maximum(number, 1)))
        return jnp.maximum(response + load - heritability * mean, 0) / (error + 1e-6)


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
    generation : generations that it has seen.
    spread : std(ΔU)/σ, and the number of generations behind it.
    half_trace : mean of ΔU/σ², of which the load is made.
    last : the last step.
    response : of which heritability and luck are made.
    direction, progress, load : R − L, R and L, in units of the spread.
    strength : what the rule "strength" remembers, for smooth losses that stay the same.
    ceiling : ln σ up to which it may rise without progress.
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

    @classmethod
    def first(cls, sigma: jax.Array) -> "ProgressMemory":
        """Nothing yet."""
        zero = jnp.zeros_like(sigma)
        nothing = Running(zero, zero, zero)
        last = Last(zero, zero, zero, zero, zero + 1, sigma, zero, zero, zero)
        response = Response(*[zero] * len(Response._fields))
        ceiling = jnp.log(sigma) + _BLIND
        return cls(
            zero, zero, zero, nothing, last, response, nothing, nothing, nothing, StrengthMemory.first(sigma), ceiling
        )


def progress_rule(
    definition: Definition, strength: float
) -> Callable[[Info, ProgressMemory], tuple[jax.Array, ProgressMemory, jax.Array]]:
    """``update(info, memory) -> (σ, memory, s)`` of an algorithm with one parent and M offspring.

    Domain: any selection rule whose next parent is one candidate. Where ``info.is_resampled``, the parent before must have
    been evaluated too (``info.validated_change``); otherwise σ is held.
    """
    num_offspring, smooth_rule = definition.num_offspring, strength_rule(definition, strength)
    speed = min(1.0, num_offspring / 10)
    window_response = _MEMORY_RESPONSE * max(1.0, min(20 / num_offspring, 10.0))
    # Of generations at the best σ on a smooth loss that many would succeed.
    rare = _RARE * (1 - float(stats.norm.cdf(float(optimal_strength(num_offspring)) / 2)) ** num_offspring)

    def update(info: Info, old: ProgressMemory) -> tuple[jax.Array, ProgressMemory, jax.Array]:
        sigma, last, fresh = info.sigma, old.last, info.is_resampled
        dtype, generation = sigma.dtype, old.generation + 1
        found = moments(info.loss_differences.astype(dtype), info.loss_difference_variances, sigma)
        mean = found.mean * sigma
        half_trace = old.half_trace.with_(found.mean / sigma, max(1.0, _OFFSPRING / num_offspring))
        pooled = half_trace.mean * sigma**2
        about_before = jnp.where(old.half_trace.number > 0, old.half_trace.mean * sigma**2, 0)
        alone = jnp.where(mean == 0, 0, jnp.abs(mean - about_before)) / sigma
        spread_now = alone if num_offspring == 1 else jnp.sqrt(found.squares / jnp.maximum(found.number - 1, 1))
        is_usable = (found.number >= min(num_offspring, 2)) & (spread_now > 0)

        validated = -info.validated_change.astype(dtype)
        worth = jnp.where(fresh, validated, last.gain)
        is_known = (last.is_known > 0) & jnp.isfinite(worth)
        worth = jnp.where(is_known, worth, 0)

        # What is remembered of the spread: of one loss its mean; where batches change the root of the mean square of all that
        # happened, since the few batches with large losses decide what a step is worth.
        number = jnp.minimum(old.spread_number + 1, _MEMORY_SPREAD)
        near = jnp.clip(spread_now, 0.5 * old.spread, 1.5 * old.spread)
        of_one = jnp.where(old.spread_number == 0, spread_now, old.spread + (near - old.spread) / number)
        window = jnp.minimum(generation, jnp.minimum(10 + (generation - 1) / 3, 300))
        happened = spread_now**2 + jnp.where(fresh, worth / last.sigma, 0) ** 2
        of_many = jnp.sqrt(old.spread**2 + (happened - old.spread**2) / window)
        spread = jnp.where(is_usable, jnp.where(fresh, of_many, of_one), old.spread)
        scale = jnp.maximum(spread * sigma, jnp.finfo(dtype).tiny)

        # The last step, now that its offspring have been seen.
        accepted = jnp.where(is_known, last.is_accepted, 0)
        won = jnp.clip(worth / last.spread, -_OUTLIER, _OUTLIER)
        # The mean offspring as they would be at the same σ.
        after = mean * jnp.square(last.sigma / sigma) / last.spread
        response = jnp.clip(worth / last.spread + last.mean - after, -_OUTLIER, _OUTLIER)
        own_load = last.load if num_offspring < 10 else last.mean
        weight = jnp.where(is_usable, accepted, 0)
        regression = old.response.with_(weight, last.differential, response, own_load, window_response)
        certainty = regression.luck()
        rough = jnp.clip((certainty - _DOUBT) / (_CERTAINTY - _DOUBT), 0, 1)
        rough = jnp.where((regression.number > 8) & ~fresh, rough, 0)

        # On batches a step gets the credit that stands out of the noise, by what was known before it.
        seen = jnp.where(generation > 3, jnp.clip(1 - 0.25 / jnp.maximum(old.progress.ratio, 1e-9), 0, 1), 1)
        credit = jnp.where(old.progress.mean > 0, seen, 1)
        long = jnp.clip(generation / 3, _SHORTEST, _LONGEST)
        progress = old.progress.with_(won, long)
        load = old.load.with_(jnp.clip(last.load, -4, 4), long)

        # R − L.
        direction = jnp.clip(credit * won - _SHARE_OF_LOAD * last.load, -4, 4)
        directed = old.direction.with_(direction, long)
        clear = jnp.maximum(jnp.square(old.direction.ratio) - 2, 0)
        slowest = _SLOWEST * jnp.sqrt(jnp.minimum(1, 300 / generation))
        rate = slowest + (_FASTEST - slowest) * clear / (clear + _PLAIN)

        # Where noise hides progress: up while the load is hidden too, down while it is not.
        log_sigma = jnp.log(sigma)
        has_won = (old.progress.ratio > 4) & (generation > 10)
        ceiling = jnp.where(has_won & is_known, log_sigma + _BLIND_AFTER, old.ceiling)
        up = jnp.where(log_sigma < ceiling, 0.05 * jnp.clip(1 - load.ratio, 0, 1), 0)
        down = 6 / (generation + 30) * jnp.clip(1 - old.progress.ratio, 0, 1) * jnp.clip(load.ratio - 1, 0, 1)
        change = rate * direction * speed + up - down
        loses = (progress.mean <= 0) & (generation > 10)
        evidence = jnp.maximum(jnp.square(progress.ratio) - 2, 0)
        change = jnp.where(loses, jnp.minimum(change, 0) - 0.05 * evidence / (evidence + 4), change)
        change = jnp.where(is_known, change, 0)
        # Where the loss stays the same, of the smooth one the best strength is known, and of a rough one that few succeed.
        strong, smooth_memory, _ = smooth_rule(info, old.strength)
        smooth = jnp.maximum(jnp.log(strong / sigma), -_FALL * speed)
        seldom = _SELDOM * speed * (last.has_success - rare) / (1 - rare)
        change = jnp.where(fresh, change, (1 - rough) * smooth + rough * seldom)
        # On a plateau, where all losses are equal, look further away.
        change = jnp.where(spread_now > 0, change, jnp.where(log_sigma < ceiling, 0.1 * speed, 0))
        change = jnp.where(found.number < num_offspring / 2, -0.3 * speed, change)

        kept = jnp.where(jnp.isfinite(info.loss_change), -info.loss_change, 0).astype(dtype)
        best = jnp.min(jnp.where(jnp.isfinite(info.loss_differences), info.loss_differences, jnp.inf)).astype(dtype)
        base = pooled if num_offspring == 1 else mean
        success = info.is_accepted.astype(dtype)
        new = ProgressMemory(
            generation=generation,
            spread=spread,
            spread_number=jnp.where(is_usable, number, old.spread_number),
            half_trace=half_trace,
            last=Last(
                is_known=(spread > 0).astype(dtype),
                is_accepted=success,
                has_success=(best <= 0).astype(dtype),
                gain=kept,
                spread=scale,
                sigma=sigma,
                differential=jnp.clip(jnp.where(info.is_accepted, (base - best) / scale, 0), 0, _OUTLIER),
                mean=jnp.clip(mean / scale, -_OUTLIER, _OUTLIER),
                load=jnp.clip(pooled / scale, -_OUTLIER, _OUTLIER),
            ),
            response=regression,
            strength=smooth_memory,
            direction=jax.tree.map(lambda a, b: jnp.where(is_known, a, b), directed, old.direction),
            progress=jax.tree.map(lambda a, b: jnp.where(is_known, a, b), progress, old.progress),
            load=jax.tree.map(lambda a, b: jnp.where(is_known, a, b), load, old.load),
            ceiling=ceiling,
        )
        # A batch on which the parent itself fails, or all offspring, says nothing of what was known before.
        forgotten = old._replace(last=last._replace(is_known=jnp.zeros_like(sigma)))
        is_told = jnp.isfinite(info.parent_loss)
        has_offspring = is_told & (found.number > 0)
        new = jax.tree.map(lambda a, b: jnp.where(has_offspring, a, b), new, forgotten)
        change = jnp.where(is_told, change, 0)
        return sigma * jnp.exp(change), new, 2 * pooled / scale

    return update
