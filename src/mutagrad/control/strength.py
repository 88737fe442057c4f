"""The σ that holds a normalised mutation strength s, or a share of successes: two rules of `mutagrad.adapt_sigma`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import tree
from mutagrad.estimates import moments
from mutagrad.types import Definition, Info

__all__ = [
    "SLOPE_MEMORY",
    "Seen",
    "StrengthMemory",
    "average",
    "bounded_change",
    "curvature_memory",
    "forgotten",
    "pace_of",
    "seen",
    "share_of_signal",
    "speed_of",
    "strength_rule",
    "success_rule",
    "visible_signal",
    "wanted_change",
]

_FULL_SPEED = 10
"""Offspring a generation from which on σ may change by the factor `_MAX_CHANGE`; with fewer, in proportion more slowly."""
_MAX_CHANGE = 2.0
_CURVATURE_MEMORY = 200
"""Offspring over which TrH is averaged: it changes slowly while training, and one estimate is noisy."""
SLOPE_MEMORY = 20
"""Offspring over which |∇U|² is averaged: it changes fast, and 20 offspring give |∇U| within 16 %."""
_NOISE_MEMORY = 400
"""Offspring over which the share of sampling noise in |∇U|² is averaged."""
_SMALLEST_SIGNAL = 0.05
"""The smallest share of signal that is told from none; below it the batch is too small for any σ."""
_TREND_MEMORY = 200
"""Offspring over which the trend of |∇U| is averaged."""


class StrengthMemory(NamedTuple):
    """What the controller remembers: running averages over offspring, and how many offspring each stands for.

    Attributes
    ----------
    half_trace, success, trace_count : TrH/2, the share of successes, and the offspring behind both.
    squared_slope, slope_count : |∇U|² on the batch, and the offspring behind it.
    slope_trend : change of ln |∇U| in a generation.
    squared_slope_long, noise_long, noise_count : over a longer time, |∇U|² on the batch and the part of it that is
        sampling noise, TrC/B.
    push : average direction in which σ is driven, from −1 to 1, to tell a σ that is far off from one that jitters.
    """

    half_trace: jax.Array
    success: jax.Array
    trace_count: jax.Array
    squared_slope: jax.Array
    slope_count: jax.Array
    slope_trend: jax.Array
    squared_slope_long: jax.Array
    noise_long: jax.Array
    noise_count: jax.Array
    push: jax.Array

    @classmethod
    def first(cls, sigma: jax.Array) -> "StrengthMemory":
        """Nothing yet."""
        start = dict.fromkeys(cls._fields, jnp.zeros_like(sigma))
        return cls(**start | {"push": jnp.ones_like(sigma)})


class Seen(NamedTuple):
    """What a generation showed.

    Attributes
    ----------
    memory : the averages with this generation in them.
    number, mean, noise : offspring whose loss is finite, and the mean and sampling noise of their loss differences.
    square : |∇U|² of this generation alone.
    strength : s by the averages.
    """

    memory: StrengthMemory
    number: Any
    mean: jax.Array
    noise: jax.Array
    square: jax.Array
    strength: jax.Array


def pace_of(num_offspring: int) -> float:
    """How fast σ may change in one generation, 1 at full speed."""
    return min(1.0, num_offspring / _FULL_SPEED)


def speed_of(num_offspring: int) -> float:
    """Largest |Δ ln σ| in one generation."""
    return math.log(_MAX_CHANGE) * pace_of(num_offspring)


def success_rule(num_offspring: int, target: float) -> Callable:
    """``update(info, None) -> (σ, None, None)`` that holds a share of successes."""
    speed = speed_of(num_offspring)

    def update(info: Info, memory: None) -> tuple:
        # A comparison with NaN or +inf is false: a failed offspring is no success.
        share = jnp.mean(info.loss_differences <= 0)
        has_failed = jnp.mean(jnp.isfinite(info.loss_differences)) < 0.5
        change = jnp.where(has_failed, -1, share - target).astype(info.sigma.dtype)
        # A batch on which the parent itself fails says nothing of σ.
        change = jnp.where(jnp.isfinite(info.parent_loss), change, 0)
        return info.sigma * jnp.exp(speed * change), memory, None

    return update


def strength_rule(definition: Definition, target: float) -> Callable:
    """``update(info, memory) -> (σ, memory, s)`` that holds a normalised mutation strength."""
    num_offspring = definition.num_offspring
    speed = speed_of(num_offspring)

    def update(info: Info, old: StrengthMemory) -> tuple:
        signal = visible_signal(share_of_signal(old))
        found = seen(info, old, num_offspring, signal, SLOPE_MEMORY)
        wanted = wanted_change(found.strength, found.memory, target * signal)
        change = bounded_change(wanted, old, found.number, num_offspring, speed)
        remembered, memory = forgotten(old, found.memory, change, num_offspring)
        memory = memory._replace(trace_count=memory.trace_count * remembered)
        is_told = jnp.isfinite(info.parent_loss)
        return info.sigma * jnp.exp(jnp.where(is_told, change, 0)), tree.where(is_told, memory, old), found.strength

    return update


def seen(info: Info, old: StrengthMemory, num_offspring: int, signal: jax.Array, slope_memory: Any) -> Seen:
    """What a generation showed, |∇U|² averaged over ``slope_memory`` offspring and TrH over the more the less is signal."""
    sigma = info.sigma
    found = moments(info.loss_differences.astype(sigma.dtype), info.loss_difference_variances, sigma)
    number, some = found.number, jnp.maximum(found.number, 1)
    mean, noise = found.mean, found.noise
    # Of one offspring, about what was measured before.
    about_before = jnp.square(mean - old.half_trace * sigma)
    square = about_before if num_offspring == 1 else found.squares / jnp.maximum(number - 1, 1)
    is_finite = jnp.isfinite(info.loss_differences)
    share = jnp.sum(info.loss_differences <= 0, where=is_finite).astype(sigma.dtype) / some

    trace_memory = curvature_memory(signal)
    half_trace, trace_count = average(old.half_trace, old.trace_count, mean / sigma, number, trace_memory)
    success, _ = average(old.success, old.trace_count, share, number, trace_memory)
    squared_slope, slope_count = average(old.squared_slope, old.slope_count, square, number, slope_memory)
    squared_slope_long, noise_count = average(old.squared_slope_long, old.noise_count, square, number, _NOISE_MEMORY)
    # A loss that never changes has no sampling noise, however much its examples differ.
    fresh_noise = jnp.where(info.is_resampled, noise, 0)
    noise_long, _ = average(old.noise_long, old.noise_count, fresh_noise, number, _NOISE_MEMORY)
    memory = StrengthMemory(
        half_trace=half_trace,
        success=success,
        trace_count=trace_count,
        squared_slope=squared_slope,
        slope_count=slope_count,
        slope_trend=old.slope_trend,
        squared_slope_long=squared_slope_long,
        noise_long=noise_long,
        noise_count=noise_count,
        push=old.push,
    )
    return Seen(memory, number, mean, noise, square, 2 * half_trace * sigma * jax.lax.rsqrt(squared_slope))


def curvature_memory(signal: jax.Array) -> jax.Array:
    """Offspring to average TrH over: the smaller s is held, the more it takes to see it; its standard error is 2/√n."""
    return _CURVATURE_MEMORY / jnp.square(signal)


def share_of_signal(memory: StrengthMemory, of_steps: Any = 1) -> jax.Array:
    """The share of the batch gradient's square that is not sampling noise, |∇U|²/(|∇U|² + TrC/B) (theory.md 8), from −1 to 1.

    The drift along −∇U is its root times c_Mσ, so the best σ is smaller by this factor than the batch alone suggests. It is
    known from the noise among examples, or else is ``of_steps``.
    """
    of_examples = 1 - memory.noise_long / memory.squared_slope_long
    share = jnp.where(memory.noise_long > 0, of_examples, of_steps)
    # On a plateau, or before anything is known, it is 0/0.
    return jnp.where(memory.squared_slope_long > 0, jnp.clip(share, -1, 1), 1)


def visible_signal(measured: jax.Array) -> jax.Array:
    """The share of signal to act on."""
    return jnp.maximum(measured, _SMALLEST_SIGNAL)


def wanted_change(strength: jax.Array, memory: StrengthMemory, goal: jax.Array) -> jax.Array:
    """Δ ln σ towards the goal; NaN where nothing is known.

    Where σ is so large that the loss is far from quadratic, mean/std stays near 1 however large σ is; that hardly any
    offspring succeeds then shows it. One standard error of caution keeps this out of the way elsewhere.
    """
    success, trace_count = memory.success, memory.trace_count
    likely = success + jnp.sqrt(success * (1 - success) / trace_count) + 1 / trace_count
    strength = jnp.fmax(strength, -2 * jax.scipy.special.ndtri(jnp.minimum(likely, 0.5)))
    # Act on the part of the deviation that stands out of the noise: a curvature that cannot be seen yet must send σ
    # neither up nor down without end.
    error = 2 * jax.lax.rsqrt(trace_count)
    significance = jnp.square((goal - strength) / error)
    return significance / (1 + significance) * jnp.log(goal / jnp.maximum(strength, error / 2))


def bounded_change(wanted: Any, old: StrengthMemory, number: Any, num_offspring: int, rise: float) -> jax.Array:
    """Δ ln σ of this generation, with the trend of |∇U|, and no faster than it may be."""
    speed = speed_of(num_offspring)
    # |∇U| was measured a little while ago; with few parameters it falls by several percent a generation.
    wanted = wanted + jnp.clip(max(1.0, SLOPE_MEMORY / num_offspring) * old.slope_trend, -1, 1)
    # On a plateau the strength is 0/0: look further away.
    change = jnp.clip(jnp.where(jnp.isnan(wanted), rise, wanted), -speed, rise)
    return jnp.where(number < num_offspring / 2, -speed, change)


def forgotten(
    old: StrengthMemory, new: StrengthMemory, change: jax.Array, num_offspring: int
) -> tuple[jax.Array, StrengthMemory]:
    """The share that is remembered as σ changes, and the memory with slopes forgotten so far; TrH is for the caller.

    While σ is driven far, what was measured before is forgotten: at a smaller σ it was imprecise, at a larger one not local.
    """
    push = old.push + min(0.25, num_offspring / 40) * (change / speed_of(num_offspring) - old.push)
    remembered = jnp.where(jnp.abs(push) > 0.6, jnp.exp(-2 * jnp.abs(change)), 1.0)
    slope_change = jnp.log(new.squared_slope / old.squared_slope) / 2
    trend = old.slope_trend + min(1.0, num_offspring / _TREND_MEMORY) * remembered * (slope_change - old.slope_trend)
    return remembered, new._replace(
        slope_count=new.slope_count * remembered,
        slope_trend=jnp.where(jnp.isfinite(trend), trend, old.slope_trend),
        noise_count=new.noise_count * remembered,
        push=push,
    )


def average(before: Any, count: Any, value: Any, number: Any, memory: Any) -> tuple[jax.Array, jax.Array]:
    """Running average of ``value``, the mean of ``number`` observations, over at most ``memory`` observations."""
    kept = jnp.clip(memory - number, 0, count)
    updated = before + number / jnp.maximum(kept + number, 1) * (value - before)
    is_usable = (number > 0) & jnp.isfinite(updated)
    return jnp.where(is_usable, updated, before), jnp.where(is_usable, kept + number, kept)
