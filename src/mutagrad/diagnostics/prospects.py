"""What an algorithm gains on a loss of known slope and curvature, in numbers of offspring and of generations (theory.md 3, 8)."""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

from mutagrad.diagnostics.jackknife import jackknife
from mutagrad.diagnostics.plans import (
    Plan,
    best_number,
    expected_decrease,
    gain_at,
    plan,
    promises,
    yardstick,
)
from mutagrad.diagnostics.probes import Pairs
from mutagrad.diagnostics.regime import Regime
from mutagrad.diagnostics.steps import along_of
from mutagrad.estimate import Estimate
from mutagrad.theory.optimum import keeps_the_better
from mutagrad.types import Definition

__all__ = [
    "FEW",
    "SMALLEST_SIGNAL",
    "Forecast",
    "at_most",
    "forecast_of",
    "gain_of",
    "has_few",
    "is_bound",
    "measured_gain",
    "plans_of",
    "told_gain",
]

FEW = 10.0
"""Participation ratio below which losses of mutants are not nearly normal and no forecast is given."""

SMALLEST_SIGNAL = 0.1
"""|g|/|g_B| is not taken to be less: below it nothing is told from noise."""


class Forecast(NamedTuple):
    """How many generations a decrease takes, between two assumptions.

    Attributes
    ----------
    decrease : of the loss [loss].
    num_offspring : M of the generations that are counted, each at its best σ.
    soonest : generations if |∇U|²/TrH stays as it is, the gain two standard errors above its estimate; at least 1.
    latest : generations if |∇U|²/TrH falls in proportion to the loss, whose least value is 0, the gain two standard errors
        below its estimate; infinite where that is not positive.

    This is a range between two assumptions, not an interval that holds the number with some probability. On quadratic
    losses of 200 parameters with equal curvatures, adapt_sigma of (1+20) was between the two at a decrease of a tenth and
    of a half (6 runs of 6); with curvatures 1/k it took two to six times the latest for a half."""

    decrease: float
    num_offspring: int
    soonest: float
    latest: float


def _signal(found: Regime, is_sampled: bool) -> float:
    return max(found.signal.value, SMALLEST_SIGNAL) if is_sampled else 1.0


def gain_of(found: Regime, rule: Definition, is_sampled: bool) -> Estimate | None:
    """Expected decrease per generation at a σ that need not be the best [loss]."""
    square, trace, sigma = found.squared_batch_grad_norm, found.hessian_trace, found.sigma.value
    if square.value <= 0 or not math.isfinite(trace.value) or not promises(rule):
        return None
    along = along_of(found, rule).counted

    def of(slope: float, curvature: float) -> float:
        strength, signal = sigma * curvature / slope, _signal(found, is_sampled)
        if abs(strength) <= 0.01 or signal == 1:
            # Without curvature to speak of it is the drift's.
            return signal**2 * (expected_decrease(rule, sigma, slope, curvature, along=along) or 0.0)
        return gain_at(rule, strength, signal, along) * slope**2 / curvature

    slope = math.sqrt(square.value)
    value = of(slope, trace.value)
    by_slope = of(slope + square.error / (2 * slope), trace.value) - value
    by_curvature = of(slope, trace.value + trace.error) - value
    return Estimate(value, math.hypot(by_slope, by_curvature), "loss")


def has_few(found: Regime) -> bool:
    """Whether few curvatures dominate."""
    return found.participation_ratio.value < FEW


def measured_gain(pairs: Pairs, rule: Definition) -> Estimate | None:
    r"""Expected decrease per generation of (1+M) at the σ of some pairs, whatever law their losses have [loss].

    The mean, over all choices of M of the n mutants that were measured, of how much the best of them is better than the
    parent: with losses in order, $\sum_i \binom{n - i}{M - 1} / \binom{n}{M} \max(0, -\Delta U_{(i)})$.

    Parameters
    ----------
    pairs : of the σ asked about. rule : (1+M).

    Returns
    -------
    Estimate; ``None`` of another rule, or where M is more than a third of the mutants.

    >>> import numpy as np, mutagrad
    >>> from mutagrad.diagnostics.probes import Pairs
    >>> from mutagrad.diagnostics.prospects import measured_gain
    >>> odd = np.random.default_rng(0).standard_normal(4000)
    >>> found = measured_gain(Pairs(1.0, odd, 0 * odd, 0 * odd), mutagrad.elitist(1.0, 20).definition)
    >>> abs(found.value - 1.867) < 3 * found.error                                              # E[Z] of the best of 20
    True
    """
    number = rule.num_offspring
    if not keeps_the_better(rule) or 3 * number > 2 * len(pairs.odd):
        return None

    def mean(rows: dict[str, np.ndarray]) -> np.ndarray:
        losses = np.sort(np.concatenate([rows["even"] + rows["odd"], rows["even"] - rows["odd"]]))
        rest = len(losses) - 1 - np.arange(len(losses))

        def choices(size: np.ndarray, of: int) -> np.ndarray:
            with np.errstate(invalid="ignore"):
                log = special.gammaln(size + 1) - special.gammaln(of + 1) - special.gammaln(size - of + 1)
            return np.where(size >= of, log, -np.inf)

        weights = np.exp(choices(rest, number - 1) - choices(np.array(len(losses)), number))
        return np.array([weights @ np.maximum(-losses, 0)])

    (value,), (error,) = jackknife(mean, {"even": pairs.even, "odd": pairs.odd}, len(pairs.odd))
    return Estimate(float(value), float(error), "loss")


def told_gain(gain: Estimate | None, measured: Estimate | None, found: Regime, most: float) -> Estimate | None:
    """What a generation gains: by the law of normal losses, unless the measured ones gain another amount or cannot be normal.

    Parameters
    ----------
    gain, measured : by `gain_of` and `measured_gain`. found : at the σ asked about. most : there is to be gained [loss].

    Returns
    -------
    Estimate; one without an error is an upper bound.
    """
    if gain is None:
        return None
    if measured is not None and (
        has_few(found) or abs(gain.value - measured.value) > 2 * math.hypot(gain.error, measured.error)
    ):
        return measured
    if has_few(found) or gain.value > most:
        return Estimate(min(gain.value + 2 * gain.error, most), math.nan, "loss")
    return gain


def is_bound(plan: Plan, best: Regime, pairs: Pairs, rule: Definition, most: float) -> bool:
    """Whether what a plan gains is an upper bound: few curvatures, less measured, or no more loss to be had than that."""
    measured = measured_gain(pairs, rule) if pairs.sigma == best.sigma.value else None
    is_less = measured is not None and plan.gain.value - measured.value > 2 * math.hypot(
        plan.gain.error, measured.error
    )
    return has_few(best) or is_less or plan.gain.value >= most


def plans_of(
    best: Regime, rule: Definition, num_workers: int, cost: float, is_sampled: bool, most: float = math.inf
) -> tuple[Plan, ...]:
    """What is worth knowing of some numbers of offspring, that of the algorithm asked about first; ``most`` is to be gained."""
    trace, slope, strength = best.hessian_trace, best.squared_batch_grad_norm, best.normalized_mutation_strength
    # |g_B|/TrH is σ/s, and has its relative error.
    unit_sigma = best.sigma.value / strength.value
    unit_gain = slope.value / trace.value
    sigma = Estimate(unit_sigma, unit_sigma * strength.error / strength.value)
    gain = Estimate(unit_gain, unit_gain * math.hypot(slope.error / slope.value, trace.error / trace.value))
    signal = _signal(best, is_sampled)
    along = along_of(best, rule)
    held = yardstick(rule, round(signal, 3), along.counted)
    wanted = [("asked about", rule.num_offspring), ("most per evaluation", best_number(1, signal))]
    if num_workers > 1:
        workers = f"most per second with {num_workers} workers"
        wanted.append((workers, best_number(num_workers, signal)))
    known = {number for _, number in wanted}
    wanted += [("for comparison", number) for number in (1, 20, 100) if number not in known]
    own = (held, *[None] * (len(wanted) - 1))
    plans = [
        plan(purpose, number, sigma, gain, signal, num_workers, cost, of)
        for (purpose, number), of in zip(wanted, own, strict=True)
    ]
    gain = _widened(plans[0].gain, math.nan if along.is_range else along.relative_error)
    plans[0] = plans[0]._replace(sigma=_widened(plans[0].sigma, along.relative_error), gain=gain)
    return tuple(one if one.gain.value <= most else at_most(one, most) for one in plans)


def _widened(found: Estimate, relative: float) -> Estimate:
    return found._replace(error=math.hypot(found.error, relative * found.value))


def at_most(one: Plan, most: float) -> Plan:
    """A plan with upper bounds of its gains: two errors more, and no more than ``most``."""
    if math.isnan(one.gain.error):
        return one
    bound = min(one.gain.value + 2 * one.gain.error, most)
    share = bound / one.gain.value
    return one._replace(
        gain=Estimate(bound, math.nan, "loss"),
        gain_per_evaluation=one.gain_per_evaluation * share,
        gain_per_second=one.gain_per_second * share,
    )


def forecast_of(chosen: Plan, loss: float, decrease: float | None) -> Forecast | None:
    """How long a decrease takes at a plan; a tenth of the loss unless given, ``None`` if it is not positive."""
    if decrease is None:
        if loss <= 0:
            return None
        decrease = loss / 10
    most = chosen.gain.value + 2 * chosen.gain.error
    least = chosen.gain.value - 2 * chosen.gain.error
    latest = math.inf
    if least > 0 and decrease < loss:
        latest = -loss / least * math.log1p(-decrease / loss)
    # A fraction of a generation is none.
    return Forecast(
        decrease, chosen.num_offspring, max(1.0, decrease / most) if most > 0 else math.inf, max(1.0, latest)
    )
