"""σ schedules and controllers, as wrappers around any algorithm.

The controllers use only the losses that a generation has evaluated anyway (theory.md 3).
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mutagrad import check
from mutagrad.estimates import moments
from mutagrad.law import RankWeights
from mutagrad.selection.recombination import rank_shares
from mutagrad.theory.optimum import best_strength, strength_over_a_run
from mutagrad.theory.progress import success_rate
from mutagrad.types import Algorithm, Definition, Info, LossFn, Params, UnknownDefinition, WrappedState

__all__ = ["AdaptedState", "adapt_sigma", "schedule_sigma"]

_FULL_SPEED = 10
"""Offspring a generation from which σ may change by the factor `_MAX_CHANGE`; with fewer, in proportion more slowly."""
_MAX_CHANGE = 2.0
_CURVATURE_MEMORY = 200
"""Offspring over which TrH is averaged: it changes slowly while training, and one estimate is noisy."""
_SLOPE_MEMORY = 20
"""Offspring over which |∇U|² is averaged: it changes fast, and 20 offspring give |∇U| within 16 %."""
_NOISE_MEMORY = 400
"""Offspring over which the share of sampling noise in |∇U|² is averaged."""
_SMALLEST_SIGNAL = 0.05
"""The smallest share of signal that is told from none; below it the batch is too small for any σ."""
_TREND_MEMORY = 200
"""Offspring over which the trend of |∇U| is averaged."""
_SMALLEST, _LARGEST = 1e-30, 1e30


class Memory(NamedTuple):
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
    step_count : the offspring behind the latter.
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
    step_count: jax.Array
    step_gain: jax.Array
    step_sigma: jax.Array
    push: jax.Array


class _Fields(NamedTuple):
    inner: Any
    memory: Memory | None


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


def adapt_sigma(algorithm: Algorithm, rule: str = "strength", target: float | None = None) -> Algorithm:
    """Drive σ to where the algorithm gains most over a run, from losses that it has evaluated anyway.

    Rule "strength": the offspring's loss differences have mean ½σ²TrH and variance σ²|∇U|², which gives TrH and |∇U|
    and so the σ at which s = σTrH/|∇U| is the target. There is no constant to choose. Rule "success": ln σ grows with
    the share of offspring that lower the loss and falls below the target share (Rechenberg's rule for M = 1 with
    ``target=0.2``); it sees only the order of the losses.

    Both find their way from a σ that is wrong by orders of magnitude, moving by at most a factor of 2 a generation (less
    with fewer than 10 offspring). σ falls if more than half of the losses are not finite, and grows on a plateau.

    Parameters
    ----------
    algorithm : any algorithm; its σ is the starting value.
    rule : "strength" or "success".
    target : the s, or the share of successes, to hold; unless given, 5/4 of the s at which a generation gains most on a loss
        with many curvature eigenvalues (`mutagrad.theory.optimal_strength` for (1+M)), and `mutagrad.theory.success_rate` of it:
        σ falls later anyway, and what a larger one loses along steep directions is regained then. Where all curvatures are
        alike this takes some 5 % more generations, with λ_k = 1/k some 7 % and with k^−1.3 some 15 % fewer. For recombination it
        is the s at which a generation gains most.

    Returns
    -------
    Algorithm, whose state is an `AdaptedState`; with rule "strength" its ``info.normalized_mutation_strength`` is the
    pooled estimate, defined for M = 1 too.

    Raises
    ------
    ValueError : if the rule is unknown, the target is out of its domain, or the best s of a user's own selection rule
        would be needed.

    Domain: the estimates assume ΔU nearly normal, that is, many parameters and a Hessian without a dominating
    eigenvalue; with few parameters s is held up to the factor that tests/test_step_size.py states. The differences must
    stand above the rounding of the loss: where σ may start far too small, return per-example losses. On a minibatch far
    below the gradient noise scale TrC/|∇U|² the share of signal is hardly measurable, and σ may wander: enlarge it.

    Source: theory.md 3, derived for this project; rule "success": Rechenberg 1973, [B01].

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> algorithm = mutagrad.adapt_sigma(mutagrad.elitist(sigma=1e-4, num_offspring=20))
    >>> loss_fn = lambda x: 0.5 * jnp.sum(x**2)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(100), loss_fn, 60, progress=False)
    >>> bool(loss_fn(result.params) < 0.5 * loss_fn(jnp.ones(100)))
    True
    """
    check.choice("rule", rule, ("strength", "success"))
    definition = _of_changing_sigma(algorithm)
    if isinstance(definition, UnknownDefinition):
        raise ValueError(f"algorithm: {definition.reason}; adapt the σ of each algorithm inside it")
    best = strength_over_a_run(definition) if target is None else check.positive("target", target)
    if rule == "success":
        share = float(success_rate(best)) if target is None else best
        if not 0 < share < 1:
            raise ValueError(f"target: got {share!r} with rule='success'; pass a share of offspring between 0 and 1")
        update = _success_rule(definition.num_offspring, share)
    else:
        update = _strength_rule(definition, best)

    def init(params: Params, loss_fn: LossFn | None = None) -> AdaptedState:
        inner = algorithm.init(params, loss_fn)
        zero = jnp.zeros_like(inner.sigma)
        start = dict.fromkeys(Memory._fields, zero)
        memory = Memory(**start | {"push": zero + 1, "step_sigma": inner.sigma})
        return AdaptedState(inner, memory if rule == "strength" else None)

    def after(state: AdaptedState, inner: Any, info: Info) -> tuple[AdaptedState, Info]:
        sigma, memory, strength = update(info, state.memory)
        if strength is not None:
            info = info._replace(normalized_mutation_strength=strength)
        sigma = jnp.clip(sigma, _SMALLEST, _LARGEST).astype(inner.sigma.dtype)
        return AdaptedState(inner.with_sigma(sigma), memory), info

    return algorithm.wrapped(init, lambda state: state.inner, after, definition)


def _speed(num_offspring: int) -> float:
    """Largest |Δ ln σ| in one generation."""
    return math.log(_MAX_CHANGE) * min(1.0, num_offspring / _FULL_SPEED)


def _success_rule(num_offspring: int, target: float) -> Callable:
    speed = _speed(num_offspring)

    def update(info: Info, memory: None) -> tuple:
        # A comparison with NaN or +inf is false: a failed offspring is no success.
        share = jnp.mean(info.loss_differences <= 0)
        has_failed = jnp.mean(jnp.isfinite(info.loss_differences)) < 0.5
        change = jnp.where(has_failed, -1, share - target).astype(info.sigma.dtype)
        return info.sigma * jnp.exp(speed * change), memory, None

    return update


def _strength_rule(definition: Definition, target: float) -> Callable:
    num_offspring, own = definition.num_offspring, definition.selection.law
    weights = own.weights if isinstance(own, RankWeights) else None
    best_ratio = best_strength(definition) if weights is not None else 1.0
    speed = _speed(num_offspring)
    slope_lag = max(1.0, _SLOPE_MEMORY / num_offspring)
    trend_weight = min(1.0, num_offspring / _TREND_MEMORY)
    push_weight = min(0.25, num_offspring / 40)

    def update(info: Info, old: Memory) -> tuple:
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
        signal = _signal(old)
        trace_memory = _CURVATURE_MEMORY / jnp.square(signal)
        half_trace, trace_count = _average(old.half_trace, old.trace_count, mean / sigma, number, trace_memory)
        success, _ = _average(old.success, old.trace_count, share, number, trace_memory)
        squared_slope, slope_count = _average(old.squared_slope, old.slope_count, square, number, _SLOPE_MEMORY)
        squared_slope_long, noise_count = _average(
            old.squared_slope_long, old.noise_count, square, number, _NOISE_MEMORY
        )
        # A loss that never changes has no sampling noise, however much its examples differ.
        fresh_noise = jnp.where(info.is_resampled, noise, 0)
        noise_long, _ = _average(old.noise_long, old.noise_count, fresh_noise, number, _NOISE_MEMORY)

        moment_strength = 2 * half_trace * sigma * jax.lax.rsqrt(squared_slope)
        held, gain, half_curvature = moment_strength, old.gain, old.half_curvature
        step_count, step_gain = old.step_count, old.step_gain
        if weights is not None:
            # What the last step was worth is known: curvature along it, which single offspring hardly see, counts too.
            # Without it this is s. Of what the slope predicted only the signal is on another batch.
            lost = (
                info.validated_change.astype(sigma.dtype) / old.step_sigma + old.step_gain * signal
            ) / old.step_sigma
            lost = jnp.where(old.step_gain > 0, lost, jnp.nan)
            shares = rank_shares(weights, jnp.where(is_finite, info.loss_differences, jnp.inf)).astype(sigma.dtype)
            scaled = jnp.where(is_finite, info.loss_differences.astype(sigma.dtype) / sigma, mean)
            step_gain = -jnp.sum(shares * (scaled - mean))
            gain, _ = _average(old.gain, old.slope_count, step_gain, number, _SLOPE_MEMORY)
            half_curvature, step_count = _average(old.half_curvature, old.step_count, lost, number, trace_memory)
            held = jnp.where(step_count > 0, best_ratio * 2 * half_curvature * sigma / gain, moment_strength)
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
        # |∇U| was measured a little while ago; with few parameters it falls by several percent a generation.
        wanted = wanted + jnp.clip(slope_lag * old.slope_trend, -1, 1)
        # On a plateau the strength is 0/0: look further away.
        change = jnp.clip(jnp.where(jnp.isnan(wanted), speed, wanted), -speed, speed)
        change = jnp.where(number < num_offspring / 2, -speed, change)

        # While σ is driven far, what was measured before is forgotten: at a smaller σ it was imprecise, at a larger one
        # not local.
        push = old.push + push_weight * (change / speed - old.push)
        remembered = jnp.where(jnp.abs(push) > 0.6, jnp.exp(-2 * jnp.abs(change)), 1.0)
        slope_change = jnp.log(squared_slope / old.squared_slope) / 2
        trend = old.slope_trend + trend_weight * remembered * (slope_change - old.slope_trend)
        new = Memory(
            half_trace=half_trace,
            success=success,
            trace_count=trace_count * remembered,
            squared_slope=squared_slope,
            slope_count=slope_count * remembered,
            slope_trend=jnp.where(jnp.isfinite(trend), trend, old.slope_trend),
            squared_slope_long=squared_slope_long,
            noise_long=noise_long,
            noise_count=noise_count * remembered,
            gain=gain,
            half_curvature=half_curvature,
            step_count=step_count * remembered,
            step_gain=step_gain,
            step_sigma=sigma,
            push=push,
        )
        return sigma * jnp.exp(change), new, moment_strength

    return update


def _signal(memory: Memory) -> jax.Array:
    """The share of the batch gradient's square that is not sampling noise, |∇U|²/(|∇U|² + TrC/B) (theory.md 8).

    The drift along −∇U is its root times c_Mσ, so the best σ is smaller by this factor than the batch alone suggests.
    """
    share = 1 - memory.noise_long / memory.squared_slope_long
    # On a plateau, or before anything is known, it is 0/0.
    return jnp.where(memory.squared_slope_long > 0, jnp.clip(share, _SMALLEST_SIGNAL, 1), 1)


def _average(average: Any, count: Any, value: Any, number: Any, memory: Any) -> tuple[jax.Array, jax.Array]:
    """Running average of ``value``, the mean of ``number`` observations, over at most ``memory`` observations."""
    kept = jnp.clip(memory - number, 0, count)
    updated = average + number / jnp.maximum(kept + number, 1) * (value - average)
    is_usable = (number > 0) & jnp.isfinite(updated)
    return jnp.where(is_usable, updated, average), jnp.where(is_usable, kept + number, kept)
