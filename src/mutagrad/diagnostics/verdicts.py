"""What follows from a regime, a diagnosis or a forecast: verdicts, as data."""

import math
from functools import singledispatch
from typing import Any

import numpy as np

from mutagrad.diagnostics.diagnosis import Diagnosis
from mutagrad.diagnostics.findings import Finding
from mutagrad.diagnostics.forecast import RunForecast
from mutagrad.diagnostics.plans import (
    Yardstick,
    expected_decrease,
    promised_decrease,
    yardstick,
)
from mutagrad.diagnostics.prospects import SMALLEST_SIGNAL, has_few
from mutagrad.diagnostics.regime import Regime
from mutagrad.diagnostics.steps import Along, along_of
from mutagrad.estimate import Estimate
from mutagrad.law import RankWeights
from mutagrad.types import Definition, UnknownDefinition

__all__ = ["findings"]

GRADIENT_REGIME = 0.1
"""The gradient regime ends where curvature takes this share of what the drift gains."""
_FACTOR = 2.0
"""σ is called right within this factor of the best one."""
_SPAN = 2.0
"""Standard errors on either side that a verdict must hold for; otherwise it is what may be."""
_TENTH = 0.1
"""Measured and expected decrease are said to differ from this share on."""
_QUARTER = 0.25
"""They are said to agree if they are known to be closer than this share."""
_HALF = 0.5
"""Of the variance of the slope: noise drowns the signal where signal is surely less."""
_SURE = 4.0
"""Standard errors from which a difference is spoken of."""


@singledispatch
def findings(found: Any) -> tuple[Finding, ...]:
    """What follows from what was found, as data: a name, an estimate and a verdict each.

    Parameters
    ----------
    found : a Regime of one window, a Diagnosis or a RunForecast.

    Returns
    -------
    Tuple of Finding. Verdicts are "too small", "right", "too large" of the mutation scale, each with "may be" before it where
    two standard errors reach beyond the verdict; "gradient regime", "beyond", "far beyond" of s, "" where it is not told;
    "as predicted", "differs", "" of the successes; "unseen", "not told", "drowned", "seen" of the signal; the names of
    `mutagrad.diagnostics.LossKind` of the kind of loss, and others.

    >>> import jax, jax.numpy as jnp, mutagrad
    >>> from mutagrad.diagnostics import findings, regime
    >>> algorithm = mutagrad.elitist(sigma=1e-4, num_offspring=20)
    >>> result = mutagrad.evolve(jax.random.key(0), algorithm, jnp.ones(99), lambda x: x @ x, 100, progress=False)
    >>> {one.name: one.follows for one in findings(regime(result.history, algorithm=algorithm))}["mutation scale"]
    'too small'
    """
    raise ValueError(f"found: got {type(found).__name__}; pass what regime, diagnose or forecast returned")


def root(square: Estimate) -> Estimate:
    """The root of an estimated square; 0 where that is negative."""
    value = math.sqrt(max(float(square.value), 0.0))
    return Estimate(value, float(square.error) / (2 * value) if value > 0 else math.nan, "loss/parameter")


def is_apart(success: Estimate, predicted: Estimate) -> bool:
    """Whether a share of successes differs from the predicted one by more than its error and a tenth of it."""
    error = math.hypot(float(success.error), float(predicted.error))
    return abs(float(success.value) - float(predicted.value)) > max(_SURE * error, _TENTH * float(predicted.value))


def skewness_counts(promised: float, of_normal: float) -> bool:
    """Whether the skewness of offspring's losses changes the promised decrease by more than a tenth of it."""
    return abs(promised - of_normal) > _TENTH * abs(of_normal)


def without_law(definition: Definition | UnknownDefinition | None) -> str:
    """Why an algorithm cannot be held against its law, in words; "" if it can."""
    if definition is None:
        return "pass algorithm= to hold it against the best"
    if isinstance(definition, UnknownDefinition):
        return definition.reason
    if definition.selection.law is None:
        return f"{definition.selection.name} selection states no law"
    # Jumps between values, categories above all, have no slope of which s would be a measure.
    return "" if definition.mutation.law is not None else f"{definition.mutation.name} mutations state no law"


def recombines(definition: Definition) -> bool:
    """Whether all offspring have a share in the next parent."""
    return isinstance(definition.selection.law, RankWeights)


def _of_sigma(sigma: float, best: Estimate, along: Along | None = None) -> str:
    """Of a σ beside the best one, which is uncertain in proportion, or lies between a share of it and itself."""
    ratio, factor = sigma / best.value, math.exp(_SPAN * best.error / best.value)
    if along is not None and along.is_range:
        if ratio * factor < along.least / _FACTOR:
            return "too small"
        return "too large" if ratio / factor > _FACTOR else "may be right"
    verdict = "right" if 1 / _FACTOR <= ratio <= _FACTOR else "too large" if ratio > 1 else "too small"
    low, high = ratio / factor, ratio * factor
    is_sure = (
        (verdict == "right" and low >= 1 / _FACTOR and high <= _FACTOR)
        or (verdict == "too large" and low > _FACTOR)
        or (verdict == "too small" and high < 1 / _FACTOR)
    )
    return verdict if is_sure else f"may be {verdict}"


def _of_along(definition: Definition, along: Along, best: Estimate) -> list[Finding]:
    """How much of the curvature lies along the slope of recombination, and the least best σ where that is hardly known."""
    if not recombines(definition):
        return []
    some = [Finding("share of curvature along the slope", Estimate(along.counted, along.error))]
    if along.is_range:
        least = Estimate(along.least * best.value, math.nan, "parameter")
        some.append(Finding("least best mutation scale", least))
    return some


def _of_strength(strength: Estimate, held: Yardstick) -> str:
    """In which regime an s is; "" where its error reaches into another one."""

    def of(value: float) -> str:
        if value > _FACTOR * held.strength:
            return "far beyond"
        return "gradient regime" if held.cost_per_strength * value < GRADIENT_REGIME else "beyond"

    error = _SPAN * strength.error
    return of(strength.value) if of(strength.value - error) == of(strength.value + error) else ""


def of_success(found: Regime) -> str:
    """Whether a share of successes is the one that s predicts; "" where s or the share is not known well enough."""
    if is_apart(found.success, found.predicted_success):
        return "differs"
    error = math.hypot(float(found.success.error), float(found.predicted_success.error))
    return "as predicted" if _SPAN * error < _QUARTER * float(found.predicted_success.value) else ""


def _has_few_successes(found: Regime) -> bool:
    """Whether less than half as many offspring succeed as s predicts: where curvature is all that they see, s no longer grows."""
    few, predicted = found.success, found.predicted_success
    return is_apart(few, predicted) and float(few.value) + _SPAN * float(few.error) < float(predicted.value) / 2


def _of_signal(found: Regime, shows_noise: bool) -> str:
    own, noise = found.squared_grad_norm, found.squared_grad_noise.value
    if not shows_noise:
        return "unseen"
    if own.value > _SPAN * own.error:
        return "seen"
    return "drowned" if own.value + _SPAN * own.error < _HALF * noise else "not told"


def _of_place(found: Regime, held: Yardstick | None, shows_noise: bool) -> list[Finding]:
    """s, what it costs, the successes and the signal."""
    strength = found.normalized_mutation_strength
    some = [Finding("normalised mutation strength", strength)]
    if held is not None and math.isfinite(strength.value):
        cost = Estimate(held.cost_per_strength * strength.value, held.cost_per_strength * strength.error)
        some = [
            Finding(some[0].name, strength, _of_strength(strength, held)),
            Finding("share that curvature takes", cost),
        ]
    some.append(Finding("success", found.success, of_success(found)))
    some.append(Finding("signal", found.signal, _of_signal(found, shows_noise)))
    return [*some, Finding("noise scale", found.noise_scale)]


@findings.register
def _of_regime(found: Regime) -> tuple[Finding, ...]:
    if np.ndim(found.generation):
        raise ValueError(
            f"found: got a regime of {len(found.generation)} windows; pass that of one part of the run: regime(a part of history)"
        )
    slope, trace, definition = root(found.squared_batch_grad_norm), found.hessian_trace, found.definition
    shows_noise, reason = found.squared_grad_noise.value > 0, without_law(definition)
    if not reason and found.is_resampled and not shows_noise:
        reason = "the loss is a scalar on changing batches, or noisy itself: the noise is in |∇U|"
    if found.kind:
        reason = reason or f"the loss is {found.kind}, of which s is no measure"
    if _has_few_successes(found):
        reason = reason or (
            "far fewer offspring succeed than s predicts, so that σ is far too large, or the loss is rough; `mutagrad.diagnose` "
            "tells which"
        )
    if reason or not isinstance(definition, Definition):
        place = _of_place(found, None, shows_noise)
        unknown = Finding("best mutation scale", Estimate(math.nan, math.nan, "parameter"), reason)
        real = Finding("real share of the gain", found.validated_share)
        return (Finding("mutation scale", found.sigma), unknown, *place, real, Finding("decrease", found.decrease))
    along = along_of(found, definition)
    own = yardstick(definition, along=along.counted)
    place = _of_place(found, None if own.stands_in else own, shows_noise)
    best: list[Finding] = []
    strength, sigma = found.normalized_mutation_strength, found.sigma.value
    signal = round(max(SMALLEST_SIGNAL, found.signal.value) if shows_noise else 1.0, 3)
    held = yardstick(definition, signal, along.counted)
    # Even where no curvature is told from zero, an s may be known to be too small: where it is what it seems.
    # Luck of the parent, or successes that s does not explain: then s may be none of curvature.
    is_plain = not is_apart(found.success, found.predicted_success) and not found.luck.value > _SPAN * found.luck.error
    if not is_plain:
        place[0] = place[0]._replace(follows="")
    least = along.least * held.strength
    is_small = is_plain and not held.stands_in and strength.value + _SPAN * strength.error < least / _FACTOR
    verdict = "too small" if is_small else ""
    if trace.value > _SPAN * trace.error and slope.value > 0:
        scale = held.strength * sigma / strength.value
        relative = math.hypot(strength.error / strength.value, along.relative_error)
        best_scale = Estimate(scale, scale * relative, "parameter")
        gain = held.gain * slope.value**2 / trace.value
        error = gain * math.hypot(2 * slope.error / slope.value, trace.error / trace.value, along.relative_error)
        verdict = _of_sigma(sigma, best_scale, along)
        is_small = verdict == "too small" and is_plain
        # What may be luck of the parent is not told from curvature: of the mean offspring's load, s/2, more than half.
        is_told = is_plain and not found.luck.value + _SPAN * found.luck.error > strength.value / 4
        verdict = verdict if is_small or is_told or verdict.startswith("may be") else f"may be {verdict}"
        best = [
            Finding("best mutation scale", best_scale, held.name),
            Finding("decrease at the best", Estimate(gain, error, "loss")),
        ]
        best += _of_along(definition, along, best_scale)
    if held.stands_in:
        best.append(Finding("stands in", best[0].estimate if best else Estimate(math.nan, math.nan), held.stands_in))
    best.append(Finding("real share of the gain", found.validated_share))
    return (Finding("mutation scale", found.sigma, verdict), *best, *place, *_decrease(found, definition))


def _decrease(found: Regime, definition: Definition) -> list[Finding]:
    """What generations gained, what slope, curvature and skewness promise, and which assumption failed if they differ."""
    promised, of_normal = promised_decrease(definition, found), promised_decrease(definition, found, normal=True)
    if promised is None or of_normal is None or not np.isfinite([found.decrease.value, promised]).all():
        return [Finding("decrease", found.decrease)]
    expected, plain, counts = float(promised), float(of_normal), skewness_counts(float(promised), float(of_normal))
    gap, error = (
        abs(found.decrease.value - expected),
        math.hypot(found.decrease.error, _promise_error(found, definition)),
    )
    verdict = "as promised" if gap + _SPAN * error < _QUARTER * abs(expected) else ""
    if gap > max(_TENTH * abs(expected), _SURE * error):
        verdict = "skewed" if counts else "drifting"
        if is_apart(found.success, found.predicted_success):
            verdict = "rough"
        if recombines(definition) and found.decrease.value < expected:
            verdict = "curvature along the slope"
    by_theory = Estimate(plain, _promise_error(found, definition), "loss")
    some = [Finding("decrease", found.decrease, verdict), Finding("promised", by_theory)]
    if counts:
        unit = root(found.squared_batch_grad_norm).value / (3 * found.sigma.value)
        along = Estimate(found.skewness.value * unit, found.skewness.error * unit, "loss/parameter²")
        sure = "within a factor" if plain / 2 < expected < 2 * plain else "direction only"
        some.append(Finding("promised with skewness", Estimate(expected, math.nan, "loss"), sure))
        some.append(Finding("curvature along the slope", along))
    return some


def _promise_error(found: Regime, definition: Definition) -> float:
    """Standard error of what slope and curvature promise, by that of either [loss]."""
    slope, trace, sigma = root(found.squared_batch_grad_norm), found.hessian_trace, float(found.sigma.value)
    if not slope.value > 0:
        return math.nan

    def of(slope: float, trace: float) -> float:
        return expected_decrease(definition, sigma, slope, trace) or 0.0

    plain = of(slope.value, trace.value)
    return math.hypot(
        of(slope.value + slope.error, trace.value) - plain, of(slope.value, trace.value + trace.error) - plain
    )


def _of_kind(found: Diagnosis) -> list[Finding]:
    kind = found.kind
    drowns = Finding("slope drowns below", kind.drowns_below)
    if kind.name in ("rough", "noisy", "rough or noisy") and kind.has_slope and not kind.tells_where:
        drowns = drowns._replace(follows="not told")
    some = [Finding("kind of loss", kind.exponent, kind.name), drowns]
    if kind.failed > 0:
        some.append(Finding("mutants that failed", Estimate(kind.failed, math.nan)))
    if math.isfinite(kind.signal.value):
        some.append(Finding("share of slope", kind.signal))
    noise = found.parent_noise
    if noise is not None:
        some.append(Finding("noise of the loss", noise, "noisy" if noise.value > 0 else "repeats"))
    elif math.isfinite(kind.noise.value):
        some.append(Finding("noise of the loss", kind.noise, "noisy"))
    return some


@findings.register
def _of_diagnosis(found: Diagnosis) -> tuple[Finding, ...]:
    along, shows_noise = along_of(found.best, found.definition), found.num_examples > 1
    held = yardstick(found.definition, along=along.counted)
    own = None if held.stands_in else held
    place = _of_place(found.current or found.best, own, shows_noise)[:-2]
    place += _of_place(found.best, own, shows_noise)[-2:]
    current = found.current
    is_plain = found.kind.name == "smooth" and not found.hides_noise
    if current is not None and (not is_plain or current.sigma.value < found.rounds_below):
        # What roughness, noise or rounding do to s is not what curvature does.
        place[0] = place[0]._replace(follows="")
    some = _of_kind(found)
    if current is not None:
        verdict = _of_sigma(current.sigma.value, found.plans[0].sigma, along) if found.plans else ""
        gain = found.gain or Estimate(math.nan, math.nan, "loss")
        some += [Finding("mutation scale", current.sigma, verdict), Finding("decrease", gain)]
    if found.plans:
        some.append(Finding("best mutation scale", found.plans[0].sigma, held.name))
        some.append(Finding("decrease at the best", found.plans[0].gain, "at most" * found.gains_are_bounds))
        some += _of_along(found.definition, along, found.plans[0].sigma)
        if held.stands_in:
            some.append(Finding("stands in", found.plans[0].sigma, held.stands_in))
    else:
        is_without = found.kind.name in ("flat", "minimum", "rounding", "noise", "failing")
        reason = "hidden noise" if found.hides_noise else found.kind.name if is_without else "none"
        some.append(Finding("curvature", found.best.hessian_trace, reason))
    ratio = found.best.participation_ratio
    if found.plans and math.isfinite(ratio.value):
        some.append(Finding("participation ratio", ratio, "few" if has_few(found.best) else ""))
    if found.effective_rank is not None and found.slowdown is not None:
        of = "at most" if found.largest_eigenvalue is None else "measured"
        some += [Finding("effective rank", found.effective_rank, of), Finding("slowdown", found.slowdown, of)]
    return (*some, *place)


@findings.register
def _of_forecast(found: RunForecast) -> tuple[Finding, ...]:
    follows = "reached" if math.isfinite(found.generations) else "levels off"
    return (Finding("generations", Estimate(found.generations, math.nan, "generations"), follows),)
