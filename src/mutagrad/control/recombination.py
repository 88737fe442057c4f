"""The σ that holds a normalised mutation strength under weighted recombination, from what its steps were worth.

A step of recombination is no candidate: what it was worth is known a generation later, and one too long is not taken back.
So σ is driven by curvature along steps too, rises slowly, and only while steps are worth something (docs/theory.md 8.6).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad.control.progress import ProgressMemory, progress_rule
from mutagrad.control.strength import (
    SLOPE_MEMORY,
    Seen,
    StrengthMemory,
    average,
    bounded_change,
    curvature_memory,
    forgotten,
    pace_of,
    seen,
    share_of_signal,
    speed_of,
    visible_signal,
    wanted_change,
)
from mutagrad.law import RankWeights
from mutagrad.selection.recombination import rank_shares
from mutagrad.theory.optimum import best_strength
from mutagrad.types import Definition, Info

__all__ = ["EitherMemory", "StepMemory", "either_rule", "recombination_rule", "signal_of"]

_FASTEST_RISE = 1.25
"""Largest factor by which σ rises in a generation: its best value is half of the largest that gains anything."""
_MOST_OF_SLOPES = 400
"""Offspring over which |∇U|² is averaged at most."""
_RESPONSE_MEMORY = 1000
"""Offspring over which what steps promise and deliver is averaged, where one loss a batch hides its sampling noise."""
_KNOWN = 3
"""Generations from which on the mean worth of steps counts."""
_FARTHEST = 1e4
"""By how much σ may grow on a plateau."""


class StepMemory(NamedTuple):
    """What the controller remembers of offspring and of steps.

    Attributes
    ----------
    offspring : what offspring showed.
    gain : the decrease that the slope predicts for a step, in units of σ.
    half_curvature, squared_curvature, step_count : what curvature takes back of a step in units of σ², the mean square of
        single estimates of it, one a generation, and the offspring behind both.
    promised, delivered, response_count : where examples do not tell the sampling noise, what the slope of one batch promised
        for a step, and what another batch found of it, both in units of the mean promise; the offspring behind both.
    progress, squared_progress, progress_count : on fresh batches, what its steps were worth there, in units of the mean gain, the
        mean square of that, and the offspring behind both.
    seen : σ of the last generation that told anything.
    step_gain, step_sigma : of its last step, what the slope predicted in units of σ, and its σ.
    """

    offspring: StrengthMemory
    gain: jax.Array
    half_curvature: jax.Array
    squared_curvature: jax.Array
    step_count: jax.Array
    promised: jax.Array
    delivered: jax.Array
    response_count: jax.Array
    progress: jax.Array
    squared_progress: jax.Array
    progress_count: jax.Array
    seen: jax.Array
    step_gain: jax.Array
    step_sigma: jax.Array

    @classmethod
    def first(cls, sigma: jax.Array) -> "StepMemory":
        """Nothing yet."""
        start: dict[str, Any] = dict.fromkeys(cls._fields, jnp.zeros_like(sigma))
        return cls(**start | {"offspring": StrengthMemory.first(sigma), "step_sigma": sigma, "seen": sigma})


def signal_of(memory: StepMemory) -> jax.Array:
    """The share of signal, by examples, or else by what steps deliver on the next batch of what they promised on theirs."""
    of_steps = jnp.where(memory.promised > 0, memory.delivered / memory.promised, 1)
    return share_of_signal(memory.offspring, of_steps)


def recombination_rule(definition: Definition, target: float) -> Callable:
    """``update(info, memory) -> (σ, memory, s)`` for an algorithm whose selection law is `mutagrad.law.RankWeights`."""
    num_offspring, own = definition.num_offspring, definition.selection.law
    assert isinstance(own, RankWeights)
    weights = own.weights
    best_ratio = best_strength(definition)
    spread = math.fsum(weight**2 for weight in weights)
    rise = pace_of(num_offspring) * math.log(_FASTEST_RISE)
    most_of_slopes = max(SLOPE_MEMORY, min(_MOST_OF_SLOPES, 20 * num_offspring))

    def update(info: Info, old: StepMemory) -> tuple:
        measured = signal_of(old)
        signal = visible_signal(measured)
        # The less of a slope is signal, the more those of batches differ.
        slope_memory = jnp.minimum(SLOPE_MEMORY / jnp.square(signal), most_of_slopes)
        found = seen(info, old.offspring, num_offspring, signal, slope_memory)
        new = _with_steps(info, old, found, measured, slope_memory, curvature_memory(signal))

        scale = best_ratio * 2 * info.sigma / new.gain
        variance = _variance(new.squared_curvature, new.half_curvature, new.step_count)
        held = held_strength(found.strength, scale * new.half_curvature, scale**2 * variance, new.step_count)
        most = jnp.where(new.step_count > 0, scale * (new.half_curvature + jnp.sqrt(variance)), 0)
        # The smaller the share of signal, the longer it takes to see what a change of σ brought.
        wanted = wanted_change(held, found.memory, target * signal) * signal
        # A rise must be safe as far as steps are known.
        wanted = jnp.minimum(wanted, jnp.maximum(jnp.log(target / jnp.maximum(most, 1e-6)), 0))
        change = bounded_change(wanted, old.offspring, found.number, num_offspring, rise)
        change = _no_rise_in_vain(change, new, found.number)
        new = _forgotten(old, new, change)
        return _unless_blind(info, old, found, new, change)

    def _with_steps(
        info: Info, old: StepMemory, found: Seen, measured: Any, slope_memory: Any, trace_memory: Any
    ) -> StepMemory:
        """The averages with what the last step was worth: of what the slope predicted only the signal is on another batch."""
        sigma, number = info.sigma, found.number
        worth = info.validated_change.astype(sigma.dtype) / old.step_sigma
        lost = jnp.where(old.step_gain > 0, (worth + old.step_gain * measured) / old.step_sigma, jnp.nan)
        is_finite = jnp.isfinite(info.loss_differences)
        shares = rank_shares(weights, jnp.where(is_finite, info.loss_differences, jnp.inf)).astype(sigma.dtype)
        scaled = jnp.where(is_finite, info.loss_differences.astype(sigma.dtype) / sigma, found.mean)
        step_gain = -jnp.sum(shares * (scaled - found.mean))
        gain, _ = average(old.gain, old.offspring.slope_count, step_gain, number, slope_memory)
        half_curvature, step_count = average(old.half_curvature, old.step_count, lost, number, trace_memory)
        squared_curvature, _ = average(old.squared_curvature, old.step_count, lost**2, number, trace_memory)
        # Where a batch has one loss, its noise is what a step promises on one batch and fails to deliver on the next.
        # Of what it fails to deliver, the share of a mean offspring's curvature is known.
        is_hidden = info.is_resampled & (found.noise == 0)
        expected = spread * old.offspring.half_trace * old.step_sigma
        response = jnp.where(is_hidden, (expected - worth) / old.gain, jnp.nan)
        promise = jnp.where(jnp.isfinite(response), old.step_gain / old.gain, jnp.nan)
        promised, _ = average(old.promised, old.response_count, promise, number, _RESPONSE_MEMORY)
        delivered, response_count = average(old.delivered, old.response_count, response, number, _RESPONSE_MEMORY)
        earned = jnp.where(info.is_resampled & (old.step_gain > 0), -worth / old.gain, jnp.nan)
        progress, _ = average(old.progress, old.progress_count, earned, number, _RESPONSE_MEMORY)
        squares, progress_count = average(old.squared_progress, old.progress_count, earned**2, number, _RESPONSE_MEMORY)
        return StepMemory(
            offspring=found.memory,
            gain=gain,
            half_curvature=half_curvature,
            squared_curvature=squared_curvature,
            step_count=step_count,
            promised=promised,
            delivered=delivered,
            response_count=response_count,
            progress=progress,
            squared_progress=squares,
            progress_count=progress_count,
            seen=sigma,
            step_gain=step_gain,
            step_sigma=sigma,
        )

    def _variance(square: Any, mean: Any, count: Any) -> jax.Array:
        """Of a mean, from the mean square of single estimates, one a generation."""
        return jnp.maximum(square - mean**2, 0) * num_offspring / count

    def _no_rise_in_vain(change: jax.Array, new: StepMemory, number: Any) -> jax.Array:
        """σ does not grow while steps are not known to be worth anything on batches that did not select them."""
        certainty = new.progress * jax.lax.rsqrt(_variance(new.squared_progress, new.progress, new.progress_count))
        is_known = new.progress_count >= _KNOWN * num_offspring
        slower = jnp.where(is_known, jnp.minimum(change, rise * jnp.clip(certainty - 1, 0, 1)), change)
        slower = jnp.where(is_known & (certainty < -2), jnp.minimum(slower, -rise / 2), slower)
        return jnp.where(number < num_offspring / 2, change, slower)

    def _forgotten(old: StepMemory, new: StepMemory, change: jax.Array) -> StepMemory:
        """A curvature measured at a smaller σ is trusted less while σ rises: it was measured less precisely."""
        remembered, offspring = forgotten(old.offspring, new.offspring, change, num_offspring)
        known = jnp.minimum(remembered, jnp.exp(-2 * jnp.maximum(change, 0)))
        # What steps were worth at a larger σ is soon forgotten.
        fewer = jnp.maximum(new.progress_count * jnp.exp(2 * jnp.minimum(change, 0)), _KNOWN * num_offspring)
        return new._replace(
            offspring=offspring._replace(trace_count=offspring.trace_count * known),
            step_count=new.step_count * known,
            progress_count=jnp.minimum(new.progress_count, fewer),
        )

    def _unless_blind(info: Info, old: StepMemory, found: Seen, new: StepMemory, change: jax.Array) -> tuple:
        """A generation tells nothing where offspring differ by no more than rounding, or where the batch has no loss at all."""
        sigma = info.sigma
        rounding = 4 * jnp.finfo(info.loss_differences.dtype).eps * jnp.abs(info.parent_loss).astype(sigma.dtype)
        is_told = (jnp.sqrt(found.square) * sigma > rounding) & jnp.isfinite(info.parent_loss)
        # On a plateau, look further away; a loss of 0 is the end of what a batch asks for.
        is_plateau = jnp.isfinite(info.parent_loss) & (info.parent_loss != 0) & (sigma < _FARTHEST * old.seen)
        falls = -speed_of(num_offspring)
        blind = jnp.where(is_plateau, jnp.where(found.number < num_offspring / 2, falls, rise), 0)
        change = jnp.where(is_told, change, blind)
        kept = old._replace(step_gain=jnp.zeros_like(sigma), step_sigma=sigma)
        memory = jax.tree.map(lambda ours, before: jnp.where(is_told, ours, before), new, kept)
        return sigma * jnp.exp(change), memory, found.strength

    return update


class EitherMemory(NamedTuple):
    """What the rules "progress" and "strength" remember."""

    progress: ProgressMemory
    strength: StepMemory

    @property
    def look(self) -> jax.Array:
        """By how much ln σ is to be smaller in the generation that comes."""
        return self.progress.look

    @classmethod
    def first(cls, sigma: jax.Array, may_be_rough: bool = True) -> "EitherMemory":
        """Nothing yet."""
        return cls(ProgressMemory.first(sigma, may_be_rough), StepMemory.first(sigma))


def either_rule(definition: Definition, target: float) -> Callable:
    """The rule "progress" of recombination where the loss stays the same, which may be rough, and "strength" on batches.

    There their examples, or the next batch, tell the noise of a slope; what one step was worth hardly stands out of it.
    """
    by_progress, by_strength = progress_rule(definition, target), recombination_rule(definition, target)

    def update(info: Info, old: EitherMemory) -> tuple:
        sigma, progress, s = by_progress(info, old.progress)
        strong, strength, of_strength = by_strength(info, old.strength)

        def chosen(one: Any, other: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(info.is_resampled, a, b), one, other)

        memory = EitherMemory(chosen(old.progress, progress), strength)
        return chosen(strong, sigma), memory, chosen(of_strength, s)

    return update


def held_strength(of_moments: Any, of_steps: Any, variance: Any, step_count: Any) -> jax.Array:
    """s as single offspring show it, and as much of the excess along steps as stands out of its own variance."""
    excess = of_steps - of_moments
    plain = 1 / (1 + variance / excess**2)
    return jnp.where((step_count > 0) & (excess != 0), of_moments + plain * excess, of_moments)
