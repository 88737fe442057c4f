"""What follows from a regime, a diagnosis or a forecast: verdicts, as data."""

import math
from functools import singledispatch
from typing import Any

import numpy as np

from mutagrad.diagnostics.diagnosis import SMALLEST_SIGNAL, Diagnosis
from mutagrad.diagnostics.findings import Finding
from mutagrad.diagnostics.forecast import RunForecast
from mutagrad.diagnostics.plans import Yardstick, promised_decrease, yardstick
from mutagrad.diagnostics.regime import Regime
from mutagrad.estimate import Estimate
from mutagrad.law import RankWeights
from mutagrad.mutation import gaussian
from mutagrad.selection import elitist
from mutagrad.types import Definition, UnknownDefinition

__all__ = ["findings"]

GRADIENT_REGIME = 0.1
"""The gradient regime ends where curvature takes this share of what the drift gains."""
_FACTOR = 2.0
"""σ is called right within this factor of the best one."""
_TENTH = 0.1
"""Measured and expected decrease are said to differ from this share on."""
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
    Tuple of Finding. Verdicts are "too small", "right", "too large" of the mutation scale; "gradient regime", "beyond", "far
    beyond" of s; "smooth", "rough" of the successes; "unseen", "drowned", "seen" of the signal, and others.

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
    return "" if definition.selection.law is not None else f"{definition.selection.name} selection states no law"


def recombines(definition: Definition) -> bool:
    """Whether all offspring have a share in the next parent."""
    return isinstance(definition.selection.law, RankWeights)


def _of_sigma(sigma: float, best: float) -> str:
    return "right" if best / _FACTOR <= sigma <= best * _FACTOR else "too large" if sigma > best else "too small"


def _of_place(found: Regime, held: Yardstick | None, shows_noise: bool) -> list[Finding]:
    """s, what it costs, the successes and the signal."""
    strength = found.normalized_mutation_strength
    some = [Finding("normalised mutation strength", strength)]
    if held is not None and math.isfinite(strength.value):
        cost = Estimate(held.cost_per_strength * strength.value, held.cost_per_strength * strength.error)
        verdict = "gradient regime" if cost.value < GRADIENT_REGIME else "beyond"
        verdict = "far beyond" if strength.value > _FACTOR * held.strength else verdict
        some = [Finding(some[0].name, strength, verdict), Finding("share that curvature takes", cost)]
    verdict = "rough" if is_apart(found.success, found.predicted_success) else "smooth"
    some.append(Finding("success", found.success, verdict))
    own = found.squared_grad_norm
    seen = "unseen" if not shows_noise else "drowned" if own.value < 2 * own.error else "seen"
    return [*some, Finding("signal", found.signal, seen), Finding("noise scale", found.noise_scale)]


@findings.register
def _of_regime(found: Regime) -> tuple[Finding, ...]:
    if np.ndim(found.generation):
        raise ValueError(
            f"found: got a regime of {len(found.generation)} windows; pass that of one part of the run: regime(a part of history)"
        )
    slope, trace, definition = root(found.squared_batch_grad_norm), found.hessian_trace, found.definition
    shows_noise, reason = found.squared_grad_noise.value > 0, without_law(definition)
    if reason or not isinstance(definition, Definition):
        place = _of_place(found, None, shows_noise)
        unknown = Finding("best mutation scale", Estimate(math.nan, math.nan, "parameter"), reason)
        return (Finding("mutation scale", found.sigma), unknown, *place, Finding("decrease", found.decrease))
    place = _of_place(found, yardstick(definition), shows_noise)
    best: list[Finding] = []
    strength, sigma = found.normalized_mutation_strength, found.sigma.value
    held = yardstick(definition, round(max(SMALLEST_SIGNAL, found.signal.value) if shows_noise else 1.0, 3))
    # Even where no curvature is told from zero, an s may be known to be too small.
    verdict = "too small" if strength.value + 2 * strength.error < held.strength / _FACTOR else ""
    if trace.value > 2 * trace.error and slope.value > 0:
        scale = held.strength * sigma / strength.value
        verdict, gain = _of_sigma(sigma, scale), Estimate(held.gain * slope.value**2 / trace.value, math.nan, "loss")
        best_scale = Estimate(scale, scale * strength.error / strength.value, "parameter")
        best = [Finding("best mutation scale", best_scale, held.name), Finding("decrease at the best", gain)]
    return (Finding("mutation scale", found.sigma, verdict), *best, *place, *_decrease(found, definition))


def _decrease(found: Regime, definition: Definition) -> list[Finding]:
    """What generations gained, what slope, curvature and skewness promise, and which assumption failed if they differ."""
    promised, of_normal = promised_decrease(definition, found), promised_decrease(definition, found, normal=True)
    if promised is None or of_normal is None or not np.isfinite([found.decrease.value, promised]).all():
        return [Finding("decrease", found.decrease)]
    expected, plain, counts = float(promised), float(of_normal), skewness_counts(float(promised), float(of_normal))
    gap, verdict = abs(found.decrease.value - expected), "as promised"
    if gap > max(_TENTH * abs(expected), _SURE * float(found.decrease.error)):
        verdict = "skewed" if counts else "drifting"
        if is_apart(found.success, found.predicted_success):
            verdict = "rough"
        if recombines(definition) and found.decrease.value < expected:
            verdict = "curvature along the slope"
    some = [Finding("decrease", found.decrease, verdict), Finding("promised", Estimate(plain, math.nan, "loss"))]
    if counts:
        unit = root(found.squared_batch_grad_norm).value / (3 * found.sigma.value)
        along = Estimate(found.skewness.value * unit, found.skewness.error * unit, "loss/parameter²")
        sure = "within a factor" if plain / 2 < expected < 2 * plain else "direction only"
        some.append(Finding("promised with skewness", Estimate(expected, math.nan, "loss"), sure))
        some.append(Finding("curvature along the slope", along))
    return some


@findings.register
def _of_diagnosis(found: Diagnosis) -> tuple[Finding, ...]:
    held, shows_noise = yardstick(Definition(1.0, gaussian(), elitist(), found.num_offspring)), found.num_examples > 1
    place = _of_place(found.current or found.best, held, shows_noise)[:-2]
    place += _of_place(found.best, held, shows_noise)[-2:]
    some: list[Finding] = []
    if found.current is not None:
        sigma, gain = found.current.sigma, math.nan if found.gain is None else found.gain
        verdict = _of_sigma(sigma.value, found.plans[0].sigma.value) if found.plans else ""
        some += [Finding("mutation scale", sigma, verdict), Finding("decrease", Estimate(gain, math.nan, "loss"))]
    if found.plans:
        some.append(Finding("best mutation scale", found.plans[0].sigma, f"(1+{found.num_offspring})"))
        some.append(Finding("decrease at the best", found.plans[0].gain))
    else:
        is_flat = found.best.squared_batch_grad_norm.value == found.best.hessian_trace.value == 0
        some.append(Finding("curvature", found.best.hessian_trace, "flat" if is_flat else "none"))
    if found.effective_rank is not None and found.slowdown is not None:
        of = "at most" if found.largest_eigenvalue is None else "measured"
        some += [Finding("effective rank", found.effective_rank, of), Finding("slowdown", found.slowdown, of)]
    return (*some, *place)


@findings.register
def _of_forecast(found: RunForecast) -> tuple[Finding, ...]:
    follows = "reached" if math.isfinite(found.generations) else "levels off"
    return (Finding("generations", Estimate(found.generations, math.nan, "generations"), follows),)
