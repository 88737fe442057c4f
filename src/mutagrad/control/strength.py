"""The σ that holds a normalised mutation strength s, or a share of successes: two rules of `mutagrad.adapt_sigma`."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad.estimates import moments
from mutagrad.law import RankWeights
from mutagrad.selection.recombination import rank_shares
from mutagrad.theory.optimum import best_strength
from mutagrad.types import Definition, Info

__all__ = ["StrengthMemory", "strength_rule", "success_rule"]

_FULL_SPEED = 10
"""Offspring a generation from which σ may change by the factor `_MAX_CHANGE`; with fewer, in proportion more slowly."""
_MAX_CHANGE = 2.0
_MAX_RISE = 1.25
"""The same for a rise of σ under weighted recombination, whose best σ is half of the largest that gains anything."""
_CURVATURE_MEMORY = 200
"""Offspring over which TrH is averaged: it changes slowly while training, and one estimate is noisy."""
_SLOPE_MEMORY = 20
"""Offspring over which |∇U|² is averaged: it changes fast, and 20 offspring give |∇U| within 16 %."""
_NOISE_MEMORY = 400
"""Offspring over which the share of sampling noise in |∇U|² is averaged."""
_RESPONSE_MEMORY = 1000
"""Offspring over which what steps promise and deliver is averaged, where one loss a batch hides its sampling noise."""
_KNOWN = 3
"""Generations from which on the mean worth of steps counts."""
_FARTHEST = 1e4
"""By how much σ may grow on a plateau."""
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
    gain, half_curvature : of weighted recombination, the decrease that the slope predicts for a step in units of σ, and what
        curvature takes back in units of σ²; 0 for other rules.
    squared_curvature : mean square of single estimates of the latter, one a generation, which tells how well their mean is
        known.
    step_count : the offspring behind both.
    promised, delivered, response_count : where examples do not tell the sampling noise, what the slope of one batch promised
        for a step, and what another batch found of it, both in units of the mean promise; the offspring behind both.
    progress, squared_progress, progress_count : on fresh batches, what its steps were worth there, in units of the mean gain, the
        mean square of that, and the offspring behind both.
    seen : σ of the last generation that told anything.
    step_gain, step_sigma : of its last step, what the slope predicted in units of σ, and its σ.
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
    push: jax.Array

    @classmethod
    def first(cls, sigma: jax.Array) -> "StrengthMemory":
        """Nothing yet."""
        start = dict.fromkeys(cls._fields, jnp.zeros_like(sigma))
        return cls(**start | {"push": jnp.ones_like(sigma), "step_sigma": sigma, "seen": sigma})


def _speed(num_offspring: int) -> float:
    """Largest |Δ ln σ| in one generation."""
    return math.log(_MAX_CHANGE) * min(1.0, num_offspring / _FULL_SPEED)


def success_rule(num_offspring: int, target: float) -> Callable:
    """``update(info, None) -> (σ, None, None)`` that holds a share of successes."""
    speed = _speed(num_offspring)

    def update(info: Info, memory: None) -> tuple:
        # A comparison with NaN or +inf is false: a failed offspring is no success.
        share = jnp.mean(info.loss_differences <= 0)
        has_failed = jnp.mean(jnp.isfinite(info.loss_differences)) < 0.5
        change = jnp.where(has_failed, -1, share - target).astype(info.sigma.dtype)
        return info.sigma * jnp.exp(speed * change), memory, None

    return update


def strength_rule(definition: Definition, target: float) -> Callable:
    """``update(info, memory) -> (σ, memory, s)`` that holds a normalised mutation strength."""
    num_offspring, own = definition.num_offspring, definition.selection.law
    weights = own.weights if isinstance(own, RankWeights) else None
    best_ratio = best_strength(definition) if weights is not None else 1.0
    spread = math.fsum(weight**2 for weight in weights or ())
    speed = _speed(num_offspring)
    # What a step of recombination was worth is known a generation later, and a step too long is not taken back.
    rise = min(1.0, num_offspring / _FULL_SPEED) * math.log(_MAX_RISE) if weights is not None else speed
    most_of_slopes = max(_SLOPE_MEMORY, min(_NOISE_MEMORY, 20 * num_offspring))
    slope_lag = max(1.0, _SLOPE_MEMORY / num_offspring)
    trend_weight = min(1.0, num_offspring / _TREND_MEMORY)
    push_weight = min(0.25, num_offspring / 40)

    def update(info: Info, old: StrengthMemory) -> tuple:
        sigma = info.sigma
        found = moments(info.loss_differences.astype(sigma.dtype), info.loss_difference_variances, sigma)
        number, some = found.number, jnp.maximum(found.number, 1)
        mean, noise = found.mean, found.noise
        # Of one offspring, about what was measured before.
        about_before = jnp.square(mean - old.half_trace * sigma)
        square = about_before if num_offspring == 1 else found.squares / jnp.maximum(number - 1, 1)
        is_finite = jnp.isfinite(info.loss_differences)
        share = jnp.sum(info.loss_differences <= 0, where=is_finite).astype(sigma.dtype) / some

        # The smaller s is held, the more offspring it takes to see the curvature: its standard error is 2/√n.
        measured = _signal(old)
        signal = jnp.maximum(measured, _SMALLEST_SIGNAL)
        trace_memory = _CURVATURE_MEMORY / jnp.square(signal)
        half_trace, trace_count = _average(old.half_trace, old.trace_count, mean / sigma, number, trace_memory)
        success, _ = _average(old.success, old.trace_count, share, number, trace_memory)
        # The less of a slope is signal, the more those of batches differ.
        slope_memory: Any = _SLOPE_MEMORY
        if weights is not None:
            slope_memory = jnp.minimum(slope_memory / jnp.square(signal), most_of_slopes)
        squared_slope, slope_count = _average(old.squared_slope, old.slope_count, square, number, slope_memory)
        squared_slope_long, noise_count = _average(
            old.squared_slope_long, old.noise_count, square, number, _NOISE_MEMORY
        )
        # A loss that never changes has no sampling noise, however much its examples differ.
        fresh_noise = jnp.where(info.is_resampled, noise, 0)
        noise_long, _ = _average(old.noise_long, old.noise_count, fresh_noise, number, _NOISE_MEMORY)

        moment_strength = 2 * half_trace * sigma * jax.lax.rsqrt(squared_slope)
        held, gain, step_gain = moment_strength, old.gain, old.step_gain
        half_curvature, squared_curvature, step_count = old.half_curvature, old.squared_curvature, old.step_count
        promised, delivered, response_count = old.promised, old.delivered, old.response_count
        progress, squared_progress, progress_count = old.progress, old.squared_progress, old.progress_count
        if weights is not None:
            # What the last step was worth is known: curvature along it, which single offspring hardly see, counts too.
            # Without it this is s. Of what the slope predicted only the signal is on another batch.
            worth = info.validated_change.astype(sigma.dtype) / old.step_sigma
            lost = jnp.where(old.step_gain > 0, (worth + old.step_gain * measured) / old.step_sigma, jnp.nan)
            shares = rank_shares(weights, jnp.where(is_finite, info.loss_differences, jnp.inf)).astype(sigma.dtype)
            scaled = jnp.where(is_finite, info.loss_differences.astype(sigma.dtype) / sigma, mean)
            step_gain = -jnp.sum(shares * (scaled - mean))
            gain, _ = _average(old.gain, old.slope_count, step_gain, number, slope_memory)
            half_curvature, step_count = _average(old.half_curvature, old.step_count, lost, number, trace_memory)
            squared_curvature, _ = _average(old.squared_curvature, old.step_count, lost**2, number, trace_memory)
            scale = best_ratio * 2 * sigma / gain
            variance = jnp.maximum(squared_curvature - half_curvature**2, 0) * num_offspring / step_count
            held = _held(moment_strength, scale * half_curvature, scale**2 * variance, step_count)
            most = jnp.where(step_count > 0, scale * (half_curvature + jnp.sqrt(variance)), 0)
            # Where a batch has one loss, its noise is what a step promises on one batch and fails to deliver on the next.
            # Of what it fails to deliver, the share of a mean offspring's curvature is known.
            is_blind = info.is_resampled & (noise == 0)
            response = jnp.where(is_blind, (spread * old.half_trace * old.step_sigma - worth) / old.gain, jnp.nan)
            promise = jnp.where(jnp.isfinite(response), old.step_gain / old.gain, jnp.nan)
            promised, _ = _average(old.promised, old.response_count, promise, number, _RESPONSE_MEMORY)
            delivered, response_count = _average(old.delivered, old.response_count, response, number, _RESPONSE_MEMORY)
            earned = jnp.where(info.is_resampled & (old.step_gain > 0), -worth / old.gain, jnp.nan)
            progress, _ = _average(old.progress, old.progress_count, earned, number, _RESPONSE_MEMORY)
            squared_progress, progress_count = _average(
                old.squared_progress, old.progress_count, earned**2, number, _RESPONSE_MEMORY
            )
        # Where σ is so large that the loss is far from quadratic, mean/std stays near 1 however large σ is; that hardly
        # any offspring succeeds then shows it. One standard error of caution keeps this out of the way elsewhere.
        likely = success + jnp.sqrt(success * (1 - success) / trace_count) + 1 / trace_count
        strength = jnp.fmax(held, -2 * jax.scipy.special.ndtri(jnp.minimum(likely, 0.5)))
        # Act on the part of the deviation that stands out of the noise: a curvature that cannot be seen yet must send σ
        # neither up nor down without end.
        error = 2 * jax.lax.rsqrt(trace_count)
        goal = target * signal
        significance = jnp.square((goal - strength) / error)
        wanted = significance / (1 + significance) * jnp.log(goal / jnp.maximum(strength, error / 2))
        if weights is not None:
            # The smaller the share of signal, the longer it takes to see what a change of σ brought.
            wanted = wanted * signal
            # A rise must be safe as far as steps are known: one too long is not taken back.
            wanted = jnp.minimum(wanted, jnp.maximum(jnp.log(target / jnp.maximum(most, 1e-6)), 0))
        # |∇U| was measured a little while ago; with few parameters it falls by several percent a generation.
        wanted = wanted + jnp.clip(slope_lag * old.slope_trend, -1, 1)
        # On a plateau the strength is 0/0: look further away.
        change = jnp.clip(jnp.where(jnp.isnan(wanted), rise, wanted), -speed, rise)
        if weights is not None:
            # σ does not grow while steps are not known to be worth anything on batches that did not select them.
            variance = jnp.maximum(squared_progress - progress**2, 0) * num_offspring / progress_count
            certainty = progress * jax.lax.rsqrt(variance)
            is_known = progress_count >= _KNOWN * num_offspring
            change = jnp.where(is_known, jnp.minimum(change, rise * jnp.clip(certainty - 1, 0, 1)), change)
            change = jnp.where(is_known & (certainty < -2), jnp.minimum(change, -rise / 2), change)
        change = jnp.where(number < num_offspring / 2, -speed, change)

        # While σ is driven far, what was measured before is forgotten: at a smaller σ it was imprecise, at a larger one
        # not local.
        push = old.push + push_weight * (change / speed - old.push)
        remembered = jnp.where(jnp.abs(push) > 0.6, jnp.exp(-2 * jnp.abs(change)), 1.0)
        # A curvature along steps measured at a smaller σ is trusted less while σ rises: it was measured less precisely.
        known = remembered
        if weights is not None:
            known = jnp.minimum(remembered, jnp.exp(-2 * jnp.maximum(change, 0)))
            # What steps were worth at a larger σ is soon forgotten.
            fewer = jnp.maximum(progress_count * jnp.exp(2 * jnp.minimum(change, 0)), _KNOWN * num_offspring)
            progress_count = jnp.minimum(progress_count, fewer)
        slope_change = jnp.log(squared_slope / old.squared_slope) / 2
        trend = old.slope_trend + trend_weight * remembered * (slope_change - old.slope_trend)
        new = StrengthMemory(
            half_trace=half_trace,
            success=success,
            trace_count=trace_count * known,
            squared_slope=squared_slope,
            slope_count=slope_count * remembered,
            slope_trend=jnp.where(jnp.isfinite(trend), trend, old.slope_trend),
            squared_slope_long=squared_slope_long,
            noise_long=noise_long,
            noise_count=noise_count * remembered,
            gain=gain,
            half_curvature=half_curvature,
            squared_curvature=squared_curvature,
            step_count=step_count * known,
            promised=promised,
            delivered=delivered,
            response_count=response_count,
            progress=progress,
            squared_progress=squared_progress,
            progress_count=progress_count,
            seen=sigma,
            step_gain=step_gain,
            step_sigma=sigma,
            push=push,
        )
        if weights is not None:
            # A generation tells nothing where offspring differ by no more than rounding, or where the batch has no loss at all.
            rounding = 4 * jnp.finfo(info.loss_differences.dtype).eps * jnp.abs(info.parent_loss).astype(sigma.dtype)
            is_told = (jnp.sqrt(square) * sigma > rounding) & jnp.isfinite(info.parent_loss)
            # On a plateau, look further away; a loss of 0 is the end of what a batch asks for.
            is_plateau = jnp.isfinite(info.parent_loss) & (info.parent_loss != 0) & (sigma < _FARTHEST * old.seen)
            blind = jnp.where(is_plateau, jnp.where(number < num_offspring / 2, -speed, rise), 0)
            change = jnp.where(is_told, change, blind)
            kept = old._replace(step_gain=jnp.zeros_like(sigma), step_sigma=sigma)
            new = jax.tree.map(lambda ours, before: jnp.where(is_told, ours, before), new, kept)
        return sigma * jnp.exp(change), new, moment_strength

    return update


def _signal(memory: StrengthMemory) -> jax.Array:
    """The share of the batch gradient's square that is not sampling noise, |∇U|²/(|∇U|² + TrC/B) (theory.md 8), from −1 to 1.

    The drift along −∇U is its root times c_Mσ, so the best σ is smaller by this factor than the batch alone suggests. It is
    known from the noise among examples, or else from what steps deliver on the next batch of what they promised on theirs.
    """
    of_examples = 1 - memory.noise_long / memory.squared_slope_long
    of_steps = jnp.where(memory.promised > 0, memory.delivered / memory.promised, 1)
    share = jnp.where(memory.noise_long > 0, of_examples, of_steps)
    # On a plateau, or before anything is known, it is 0/0.
    return jnp.where(memory.squared_slope_long > 0, jnp.clip(share, -1, 1), 1)


def _held(of_moments: Any, of_steps: Any, variance: Any, step_count: Any) -> jax.Array:
    """s as single offspring show it, and as much of the excess along steps as stands out of its own variance."""
    excess = of_steps - of_moments
    plain = 1 / (1 + variance / excess**2)
    return jnp.where((step_count > 0) & (excess != 0), of_moments + plain * excess, of_moments)


def _average(average: Any, count: Any, value: Any, number: Any, memory: Any) -> tuple[jax.Array, jax.Array]:
    """Running average of ``value``, the mean of ``number`` observations, over at most ``memory`` observations."""
    kept = jnp.clip(memory - number, 0, count)
    updated = average + number / jnp.maximum(kept + number, 1) * (value - average)
    is_usable = (number > 0) & jnp.isfinite(updated)
    return jnp.where(is_usable, updated, average), jnp.where(is_usable, kept + number, kept)
