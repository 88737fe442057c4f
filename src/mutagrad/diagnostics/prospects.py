"""What an algorithm gains on a loss of known slope and curvature, in numbers of offspring and of generations (theory.md 3, 8)."""

import math
from typing import NamedTuple

from mutagrad.diagnostics.plans import Plan, best_number, expected_decrease, gain_at, plan, promises, yardstick
from mutagrad.diagnostics.regime import Regime
from mutagrad.estimate import Estimate
from mutagrad.types import Definition

__all__ = ["SMALLEST_SIGNAL", "Forecast", "forecast_of", "gain_of", "plans_of"]

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

    def of(slope: float, curvature: float) -> float:
        strength, signal = sigma * curvature / slope, _signal(found, is_sampled)
        if abs(strength) <= 0.01 or signal == 1:
            # Without curvature to speak of it is the drift's.
            return signal**2 * (expected_decrease(rule, sigma, slope, curvature) or 0.0)
        return gain_at(rule, strength, signal) * slope**2 / curvature

    slope = math.sqrt(square.value)
    value = of(slope, trace.value)
    by_slope = of(slope + square.error / (2 * slope), trace.value) - value
    by_curvature = of(slope, trace.value + trace.error) - value
    return Estimate(value, math.hypot(by_slope, by_curvature), "loss")


def plans_of(best: Regime, rule: Definition, num_workers: int, cost: float, is_sampled: bool) -> tuple[Plan, ...]:
    """What is worth knowing of some numbers of offspring, that of the algorithm asked about first."""
    trace, slope, strength = best.hessian_trace, best.squared_batch_grad_norm, best.normalized_mutation_strength
    # |g_B|/TrH is σ/s, and has its relative error.
    unit_sigma = best.sigma.value / strength.value
    unit_gain = slope.value / trace.value
    sigma = Estimate(unit_sigma, unit_sigma * strength.error / strength.value)
    gain = Estimate(unit_gain, unit_gain * math.hypot(slope.error / slope.value, trace.error / trace.value))
    signal = _signal(best, is_sampled)
    held = yardstick(rule, round(signal, 3))
    wanted = [("asked about", rule.num_offspring), ("most per evaluation", best_number(1, signal))]
    if num_workers > 1:
        workers = f"most per second with {num_workers} workers"
        wanted.append((workers, best_number(num_workers, signal)))
    known = {number for _, number in wanted}
    wanted += [("for comparison", number) for number in (1, 20, 100) if number not in known]
    own = (held, *[None] * (len(wanted) - 1))
    return tuple(
        plan(purpose, number, sigma, gain, signal, num_workers, cost, of)
        for (purpose, number), of in zip(wanted, own, strict=True)
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
